/* splam convert */
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Writes a model as a diffusers folder with its weights in another type: f16 takes half the space\n"
    "of f32. A folder's tokenizer, scheduler and everything else are copied; checkpoints of training are\n"
    "left out. A checkpoint of one file (Stable Diffusion 1.x or 2.x) gets a configuration by its names\n"
    "and shapes. Of 2.x, the 768 models predict v and the 512-base model epsilon, which no .safetensors\n"
    "file needs to say: v is assumed, and --prediction-type epsilon says otherwise.";

static const char *const examples[] = {
    "splam convert -m student -o student-f16 --dtype f16",
    "splam convert -m v1-5-pruned.ckpt -o sd15 --dtype f16",
    "splam convert -m 512-base-ema.safetensors -o sd2-base --prediction-type epsilon",
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
        {.name = "prediction-type",
         .kind = OPTION_CHOICE,
         .value = &o.prediction,
         .choices = "epsilon|v_prediction",
         .help = "what a checkpoint of one file predicts",
         .fallback = "what it tells"},
    };
    const command c = {
        .verb = "convert",
        .synopsis =
            "-m MODEL -o OUT [--dtype f32|f16|bf16] [--prediction-type epsilon|v_prediction]",
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
