/* splam data */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Opens a data set, counts what is accepted and what is rejected and why, shows some captions, and\n"
    "draws a sheet of its pictures as training would see them. With --cache it runs the teacher's VAE and\n"
    "text encoder once over all pictures, so that distill needs neither; stopped, it goes on where it was.\n\n"
    DATA_SETS_HELP
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
    splam_data_options o = splam_data_defaults();
    bool center = false;
    /* clang-format off */
    const option own[] = {
        OPTION_CENTER_CROP(&center),
    };
    /* clang-format on */
    const command c = {.verb = "data",
                       .synopsis = "SPEC [options]",
                       .description = description,
                       .computes = true,
                       .target = &o,
                       .options = own,
                       .option_count = OPTION_COUNT(own),
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result == OPTIONS_RUN) result = options_check_crop(&o.pictures, center);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (!o.cache != !o.teacher)
        return cli_fail(CLI_USAGE, "--cache and --teacher go together; see splam data --help");
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    char *summary;
    splam_status status = splam_data(&o, &callbacks, &summary);
    return cli_print(status, summary);
}
