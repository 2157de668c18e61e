/* splam data */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Opens a data set, counts what is accepted and what is rejected and why, shows some captions, and\n"
    "draws a sheet of its pictures as training would see them. With --cache it runs the teacher's VAE and\n"
    "text encoder once over all pictures, so that distill needs neither; stopped, it goes on where it was.\n\n" DATA_SETS_HELP
    "  latents:DIR          what --cache wrote: its checksums are read\n\n" CAPTIONS_HELP;

static const char *const examples[] = {
    "splam data emoji: --sheet emoji.png",
    "splam data folder:pictures --resolution 512 --min-size 384 --sheet pictures.png --count 24",
    "splam data 'wds:laion/{00000..00099}.tar' --min-aesthetic 5.5 --max-watermark 0.5 --sheet laion.png",
    "splam data coco:annotations/captions_train2014.json,train2014 --cache latents --teacher sd15 \\\n"
    "    --random-flip",
    "splam data latents:latents",
    NULL,
};

int cli_data(int argc, char **argv)
{
    splam_data_options o = {0};
    int64_t threads = 0;
    bool center = false;
    const char *precision = NULL, *dtype = "f16";
    /* clang-format off */
    const option options[] = {
        {.name = "sheet", .kind = OPTION_TEXT, .value = &o.sheet, .argument = "out.png",
         .help = "draw pictures of the set with their captions"},
        {.name = "count", .kind = OPTION_INTEGER, .value = &o.count, .argument = "N", .low = 1, .high = 1000,
         .help = "pictures on the sheet", .fallback = "48"},
        {.name = "seed", .letter = 's', .kind = OPTION_SEED, .value = &o.seed, .argument = "S",
         .help = "of the sheet's choice, of crops and flips", .fallback = "0"},
        OPTIONS_PICTURES(&o.pictures, &center),
        {.name = "cache", .kind = OPTION_TEXT, .value = &o.cache, .argument = "DIR",
         .help = "write VAE moments and text contexts there, for --data latents:DIR"},
        {.name = "teacher", .kind = OPTION_TEXT, .value = &o.teacher, .argument = "MODEL",
         .help = "whose VAE and text encoder make them (required with --cache)"},
        {.name = "cache-dtype", .kind = OPTION_CHOICE, .value = &dtype, .choices = "f16|f32",
         .help = "of what is stored", .fallback = "f16"},
        OPTION_PRECISION(&precision),
        OPTION_THREADS(&threads),
    };
    /* clang-format on */
    const command c = {.verb = "data",
                       .synopsis = "SPEC [options]",
                       .description = description,
                       .options = options,
                       .option_count = OPTION_COUNT(options),
                       .operand = "a data set: " DATA_SETS,
                       .operands_min = 1,
                       .operands_max = 1,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, &o.spec, NULL);
    if (result == OPTIONS_RUN) result = options_check_crop(&o.pictures, center);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (!o.cache != !o.teacher)
        return cli_fail(CLI_USAGE, "--cache and --teacher go together; see splam data --help");
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    o.cache_dtype = strcmp(dtype, "f32") ? "F16" : "F32";
    o.precision = options_precision(precision);
    splam_set_threads((int)threads);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *summary;
    splam_status status = splam_data(&o, &callbacks, &summary);
    if (status != SPLAM_OK) return cli_finish(status);
    fputs(summary, stdout);
    splam_free(summary);
    return CLI_OK;
}
