/* splam eval */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Measures models on the same captions from the same noise and writes report.json, report.html\n"
    "and sheet.png. Metrics:\n"
    "  ode-error  mean squared distance, in latents, to where the teacher's guided 50-step DDIM\n"
    "             chain ends; its references are computed once and kept in the output folder\n"
    "  frechet    Frechet distance of the autoencoder's pooled latents to those of the pictures\n"
    "             that the captions name (not FID: compare it within one report only)\n"
    "  hit        is the nearest real picture the one that the caption names; top 1 and top 5,\n"
    "             captions seen in training and held-out ones apart";

static const char *const examples[] = {
    "splam eval -m student --teacher teacher --data emoji: --output report",
    "splam eval -m lcm splam --teacher teacher --data emoji: --steps 1,2,4,8 --output report",
    "splam eval -m sd15 --data folder:pictures --metrics frechet --count 500 --output report",
    NULL,
};

int cli_eval(int argc, char **argv)
{
    splam_eval_options o = {0};
    option_texts models = {0};
    option_integers steps = {0};
    int64_t threads = 0;
    double guidance_scale_w;
    const char *precision = NULL;
    const option options[] = {
        {.name = "model",
         .letter = 'm',
         .kind = OPTION_TEXTS,
         .value = &models,
         .argument = "DIR...",
         .required = true,
         .help = "model folders to measure"},
        {.name = "data",
         .kind = OPTION_TEXT,
         .value = &o.data,
         .argument = "SPEC",
         .required = true,
         .help = "pictures and captions: " DATA_SETS},
        OPTION_CAPTION_COLUMN(&o.caption_column),
        {.name = "output",
         .kind = OPTION_TEXT,
         .value = &o.output,
         .argument = "DIR",
         .required = true,
         .help = "folder for the report"},
        {.name = "metrics",
         .kind = OPTION_TEXT,
         .value = &o.metrics,
         .argument = "LIST",
         .help = "of ode-error, frechet and hit, with commas",
         .fallback = "all; without --teacher frechet,hit"},
        {.name = "steps",
         .kind = OPTION_INTEGERS,
         .value = &steps,
         .argument = "LIST",
         .low = 1,
         .high = 1000,
         .help = "numbers of steps, with commas",
         .fallback = "1,2,4"},
        {.name = "count",
         .kind = OPTION_INTEGER,
         .value = &o.count,
         .argument = "N",
         .low = 2,
         .high = 1e6,
         .help = "captions to draw, one in four held out if there are so many",
         .fallback = "128"},
        {.name = "teacher",
         .kind = OPTION_TEXT,
         .value = &o.teacher,
         .argument = "MODEL",
         .help = "the teacher, for ode-error; gets a row of its own"},
        {.name = "guidance-scale-w",
         .kind = OPTION_NUMBER,
         .value = &guidance_scale_w,
         .chosen = &o.guidance_scale_w,
         .argument = "W",
         .high = 1000,
         .help = "CFG scale minus 1 of the teacher and of models that are no students",
         .fallback = "what a student's splam.json says"},
        {.name = "sampler",
         .kind = OPTION_CHOICE,
         .value = &o.sampler,
         .choices = "lcm|tcd|ddim|dpm++2m|dpm++2m-sde|unipc|euler|euler-a|heun",
         .help = "for every model; tcd with eta 0.3, and 0 for ode-error, which knows no fresh noise",
         .fallback = "a student's own, else dpm++2m"},
        {.name = "unet",
         .kind = OPTION_TEXT,
         .value = &o.unet,
         .argument = "NAME",
         .help = "the UNet's folder in every model; unet_ema is a student's average",
         .fallback = "unet"},
        {.name = "resolution",
         .kind = OPTION_INTEGER,
         .value = &o.resolution,
         .argument = "PIXELS",
         .low = 8,
         .high = 4096,
         .help = "side of the pictures",
         .fallback = "what the first model was trained for"},
        {.name = "seed",
         .letter = 's',
         .kind = OPTION_SEED,
         .value = &o.seed,
         .argument = "S",
         .help = "of the choice of captions; caption i has the noise of S + i",
         .fallback = "0"},
        OPTION_PRECISION(&precision),
        OPTION_THREADS(&threads),
    };
    const command c = {
        .verb = "eval",
        .synopsis = "-m MODEL... --data SPEC --output DIR [options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    o.models = models.item;
    o.model_count = models.count;
    o.steps = steps.item;
    o.step_count = steps.count;
    o.precision = options_precision(precision);
    splam_set_threads((int)threads);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *table;
    splam_status status = splam_eval(&o, &callbacks, &table);
    if (status == SPLAM_OK) printf("%s%s/report.html, report.json, sheet.png\n", table, o.output);
    splam_free(table);
    return cli_finish(status);
}
