/* splam demo */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Distils a small text-to-image model of emoji, the teacher, into students that draw in one, two\n"
    "or four steps, with LCM and with SPLAM, and shows and measures teacher, fast samplers and\n"
    "students on the same captions: sheet.png, report.html, report.json. The SPLAM student is kept\n"
    "in the output's student/, for splam generate. Takes some minutes.";

static const char *const examples[] = {
    "splam demo",
    "splam demo --output other-seed --seed 1",
    "splam generate -m demo-out/student --unet unet_ema -p 'red apple' --steps 2 -o apple.png",
    NULL,
};

int cli_demo(int argc, char **argv)
{
    splam_demo_options o = {.output = "demo-out"};
    int64_t threads = 0;
    const char *precision = NULL;
    const option options[] = {
        {.name = "output",
         .letter = 'o',
         .kind = OPTION_TEXT,
         .value = &o.output,
         .argument = "DIR",
         .help = "folder for the report and the students",
         .fallback = "demo-out"},
        {.name = "teacher",
         .kind = OPTION_TEXT,
         .value = &o.teacher,
         .argument = "MODEL",
         .help = "the model to distil",
         .fallback = "the emoji teacher that comes with splam"},
        {.name = "data",
         .kind = OPTION_TEXT,
         .value = &o.data,
         .argument = "SPEC",
         .help = "pictures and captions that the teacher was trained on: " DATA_SETS,
         .fallback = "emoji:"},
        {.name = "max-train-steps",
         .kind = OPTION_INTEGER,
         .value = &o.max_train_steps,
         .argument = "N",
         .low = 1,
         .high = 1e9,
         .help = "optimiser steps of each student; fewer give worse students, sooner",
         .fallback = "those that the settings were found for"},
        {.name = "count",
         .kind = OPTION_INTEGER,
         .value = &o.count,
         .argument = "N",
         .low = 2,
         .high = 1e6,
         .help = "captions that are measured",
         .fallback = "128"},
        {.name = "seed",
         .letter = 's',
         .kind = OPTION_SEED,
         .value = &o.seed,
         .argument = "S",
         .help = "of training, captions and noise",
         .fallback = "0"},
        OPTION_PRECISION(&precision),
        OPTION_THREADS(&threads),
    };
    const command c = {
        .verb = "demo",
        .synopsis = "[options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    o.precision = options_precision(precision);
    splam_set_threads((int)threads);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *table;
    splam_status status = splam_demo(&o, &callbacks, &table);
    if (status == SPLAM_OK)
        printf("\n%s\n%s/report.html, report.json, sheet.png\n"
               "splam generate -m %s/student --unet unet_ema -p 'red apple' --steps 2\n",
               table, o.output, o.output);
    splam_free(table);
    return cli_finish(status);
}
