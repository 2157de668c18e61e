/* splam demo */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Distils a small text-to-image model of emoji, the teacher, into students that draw in one, two\n"
    "or four steps, with LCM and with SPLAM, and shows and measures teacher, fast samplers and\n"
    "students on the same captions: sheet.png, report.html, report.json. The SPLAM student is kept\n"
    "in the output's student/, for splam generate. Takes some minutes. FID is not among its measures, for\n"
    "it takes Inception's weights, pt_inception-2015-12-05-6726825d.pth, whose address pytorch-fid's\n"
    "inception.py has: splam eval --metrics fid --inception FILE.";

static const char *const examples[] = {
    "splam demo",
    "splam demo --output other-seed --seed 1",
    "splam generate -m demo-out/student --unet unet_ema -p 'animal bird' --steps 2 -o bird.png",
    NULL,
};

int cli_demo(int argc, char **argv)
{
    splam_demo_options o = splam_demo_defaults();
    const command c = {
        .verb = "demo",
        .unconfined = true,
        .synopsis = "[options]",
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
    splam_status status = splam_demo(&o, &callbacks, &table);
    if (status == SPLAM_OK)
        printf("\n%s\n%s/report.html, report.json, sheet.png\n"
               "splam generate -m %s/student --unet unet_ema -p 'animal bird' --steps 2\n",
               table, o.output, o.output);
    splam_free(table);
    return cli_finish(status);
}
