/* splam inspect */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Says what a diffusers folder, a component's folder, a checkpoint of a training or a .safetensors,\n"
    ".ckpt or .bin file holds: family, parameters, types, and the memory that generating with the model and\n"
    "distilling it would take. The figures are those of the memory plans; nothing is run.";

static const char *const examples[] = {
    "splam inspect emoji-teacher",    "splam inspect sd15/unet",
    "splam inspect v1-5-pruned.ckpt", "splam inspect emoji-student/checkpoint-400",
    "splam inspect lora.safetensors", NULL,
};

int cli_inspect(int argc, char **argv)
{
    splam_inspect_options o = splam_inspect_defaults();
    const command c = {.verb = "inspect",
                       .synopsis = "PATH [options]",
                       .description = description,
                       .target = &o,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    char *text;
    splam_status status = splam_inspect(&o, &text);
    return cli_print(status, text);
}
