/* splam convert */
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Writes a model's folder anew with its weights in another type: f16 takes half the space of f32.\n"
    "Tokenizer, scheduler and everything else are copied; checkpoints of training are left out.";

static const char *const examples[] = {
    "splam convert -m student -o student-f16 --dtype f16",
    "splam convert -m sd15-f16 -o sd15-f32 --dtype f32",
    NULL,
};

int cli_convert(int argc, char **argv)
{
    splam_convert_options o = {0};
    const char *dtype = "f32";
    const option options[] = {
        OPTION_MODEL(&o.model),
        {.name = "output",
         .letter = 'o',
         .kind = OPTION_TEXT,
         .value = &o.output,
         .argument = "OUT",
         .required = true,
         .help = "the new folder"},
        {.name = "dtype",
         .kind = OPTION_CHOICE,
         .value = &dtype,
         .choices = "f32|f16|bf16",
         .help = "type of the weights",
         .fallback = "f32"},
    };
    const command c = {
        .verb = "convert",
        .synopsis = "-m MODEL -o OUT [--dtype f32|f16|bf16]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    o.dtype = strcmp(dtype, "f16") == 0 ? "F16" : strcmp(dtype, "bf16") == 0 ? "BF16" : "F32";
    return cli_finish(splam_convert(&o));
}
