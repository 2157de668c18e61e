/* splam data */
#include <stdio.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Opens a data set, counts what is accepted and what is rejected and why, shows some captions, and\n"
    "draws a sheet of its pictures as training would see them.\n\n"
    "  emoji:       Noto Color Emoji with Unicode's names and keywords\n"
    "  folder:DIR   pictures with captions in metadata.jsonl, or in a .txt beside each";

static const char *const examples[] = {
    "splam data emoji:",
    "splam data emoji: --sheet emoji.png",
    "splam data folder:pictures --resolution 512 --min-size 384 --sheet pictures.png --count 24",
    NULL,
};

int cli_data(int argc, char **argv)
{
    splam_data_options o = {0};
    int64_t seed = 0;
    /* clang-format off */
    const option options[] = {
        {.name = "sheet", .kind = OPTION_TEXT, .value = &o.sheet, .argument = "out.png",
         .help = "draw pictures of the set with their captions"},
        {.name = "count", .kind = OPTION_INTEGER, .value = &o.count, .argument = "N", .low = 1, .high = 1000,
         .help = "pictures on the sheet", .fallback = "48"},
        {.name = "seed", .letter = 's', .kind = OPTION_INTEGER, .value = &seed, .argument = "S", .high = 9e15,
         .help = "which pictures", .fallback = "0"},
        {.name = "resolution", .kind = OPTION_INTEGER, .value = &o.resolution, .argument = "R", .low = 8,
         .high = 4096, .help = "side of the pictures in pixels", .fallback = "emoji 64, else 512"},
        {.name = "min-size", .kind = OPTION_INTEGER, .value = &o.min_size, .argument = "N", .low = 1,
         .high = 32768, .help = "pictures with a shorter side below are rejected",
         .fallback = "half the resolution"},
    };
    /* clang-format on */
    const command c = {.verb = "data",
                       .synopsis = "SPEC [options]",
                       .description = description,
                       .options = options,
                       .option_count = OPTION_COUNT(options),
                       .operand = "a data set such as emoji: or folder:DIR",
                       .operands_min = 1,
                       .operands_max = 1,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, &o.spec, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    o.seed = (uint64_t)seed;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *summary;
    splam_status status = splam_data(&o, &callbacks, &summary);
    if (status != SPLAM_OK) return cli_finish(status);
    fputs(summary, stdout);
    splam_free(summary);
    return CLI_OK;
}
