/* splam eval */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Measures models on the same captions from the same noise and writes report.json, report.html\n"
    "and sheet.png. Metrics that need no other network:\n"
    "  trajectory-error  mean squared distance, in latents, of one evaluation from where the\n"
    "                    teacher's guided 50-step DDIM chain leads: at the timesteps of each row's\n"
    "                    sampler, and over all 50, whose curve is in the report; the teacher's\n"
    "                    trajectories are computed once and kept in the output folder\n"
    "  frechet           Frechet distance of the autoencoder's pooled latents to those of the pictures\n"
    "                    that the captions name (not FID: compare it within one report only)\n"
    "  frechet-teacher   the same to the teacher's own pictures of those captions, in 50 steps from the\n"
    "                    same noise: whether a student draws what its teacher draws\n"
    "  kernel            kernel distance, as KID's, of the same pooled latents (not KID)\n"
    "  precision-recall  precision, recall, density and coverage of the same, beside those pictures\n"
    "  hit               is the nearest real picture the one that the caption names; top 1 and top 5,\n"
    "                    captions seen in training and held-out ones apart\n"
    "and all of `splam score` (fid, kid, prdc, clip, ...; its --help explains them), of each row's pictures, which\n"
    "lie in OUTPUT/pictures as PNG files. A run that was stopped goes on where it was, and ends with the same\n"
    "report.json; another metric later draws nothing anew. A picture is drawn again if its file is gone or cut off.\n"
    "Started by mpirun, each process draws its share and runs the networks that score on its share, and the\n"
    "report is the same; every process needs models, captions and weights, the first one alone real pictures.\n"
    "Protocols, for figures that can be put beside published ones; all they set is in the report, with hashes:\n"
    "  coco2014-30k      --captions captions_coco14_test.txt --real val2014; middle squares at 256 pixels, as\n"
    "                    clean-fid; 30,000 pictures (--count N: fewer, which the report says)\n"
    "  coco2017-5k       --captions captions_val2017.json --real val2017; the first caption of each picture\n"
    "  laion             --data SPEC; the first 10,000 captions, three pictures each, against the set's own";

static const char *const examples[] = {
    "splam eval -m student --teacher teacher --data emoji: --output report",
    "splam eval -m lcm splam --teacher teacher --data emoji: --steps 1,2,4,8 --output report",
    "splam eval -m sd15 --data folder:pictures --metrics frechet --count 500 --output report",
    "splam eval -m student --data folder:pictures --metrics fid,kid,clip --count 5000 --output report \\\n"
    "    --inception pt_inception-2015-12-05-6726825d.pth --clip ViT-B-32.pt",
    "splam eval -m student --protocol coco2014-30k --captions captions_coco14_test.txt --real val2014 \\\n"
    "    --inception inception-2015-12-05.pt --clip CLIP-ViT-g-14 --steps 1,2,4 --output report",
    NULL,
};

int cli_eval(int argc, char **argv)
{
    splam_eval_options o = splam_eval_defaults();
    const command c = {
        .verb = "eval",
        .synopsis = "-m MODEL... --data SPEC|--captions FILE --output DIR [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *table;
    splam_status status = splam_eval(&o, &callbacks, &table);
    if (status == SPLAM_OK && *table) /* of another rank than the first it is empty */
        printf("%s%s/report.html, report.json, sheet.png\n", table, o.output);
    splam_free(table);
    return cli_finish(status);
}
