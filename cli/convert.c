/* splam convert */
#include <string.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Writes a model in another form: as a diffusers folder, or with --single-file as one .safetensors\n"
    "file under the names of original checkpoints (Stable Diffusion 1.x and 2.x), which other programs\n"
    "open. f16 takes half the space of f32. A folder's tokenizer, scheduler and everything else are\n"
    "copied; checkpoints of training are left out.\n"
    "A student that is told gamma by an embedding has a layer cond_proj, which most programs do not\n"
    "know: --fold-guidance makes a plain UNet of it that computes the same at guidance 1. A single file\n"
    "says nothing of the scheduler: sample it with LCM, 1 to 4 steps, guidance (CFG) 1.\n"
    "A checkpoint of one file gets a configuration by its names and shapes. That it predicts v is told by a\n"
    "tensor v_pred or by parameterization: \"v\" in NAME.yaml beside it. Of 2.x, the 768 models predict v and\n"
    "the 512-base model epsilon, which no .safetensors file needs to say: v is assumed, and\n"
    "--prediction-type epsilon says otherwise.";

static const char *const examples[] = {
    "splam convert -m student -o student-f16 --dtype f16",
    "splam convert -m student -o student-plain --fold-guidance",
    "splam convert -m student -o student.safetensors --single-file --fold-guidance --dtype f16",
    "splam convert -m sd15 -o sd15-lcm --merge-lora pytorch_lora_weights.safetensors style.safetensors:0.7",
    "splam convert -m v1-5-pruned.ckpt -o sd15 --dtype f16",
    "splam convert -m 512-base-ema.safetensors -o sd2-base --prediction-type epsilon",
    NULL,
};

int cli_convert(int argc, char **argv)
{
    splam_convert_options o = {0};
    const char *dtype = "f32";
    option_texts texts = {0};
    splam_lora loras[OPTION_LIST_MAX] = {{0}};
    const option options[] = {
        OPTION_MODEL(&o.model),
        {.name = "output",
         .letter = 'o',
         .kind = OPTION_TEXT,
         .value = &o.output,
         .argument = "OUT",
         .required = true,
         .help = "the new folder, or with --single-file the new file"},
        {.name = "dtype",
         .kind = OPTION_CHOICE,
         .value = &dtype,
         .choices = "f32|f16|bf16",
         .help = "type of the weights",
         .fallback = "f32"},
        {.name = "merge-lora",
         .kind = OPTION_TEXTS,
         .value = &texts,
         .argument = "PATH[:WEIGHT]...",
         .help =
             "low-rank adapters (a file or its folder; names of diffusers, PEFT, kohya, ComfyUI), added "
             "to UNet and text encoder; "
             "WEIGHT is 1 where none is given"},
        {.name = "fold-guidance",
         .kind = OPTION_FLAG,
         .value = &o.fold_guidance,
         .help = "make cond_proj, at gamma = 1, a part of a bias: a plain UNet"},
        {.name = "single-file",
         .kind = OPTION_FLAG,
         .value = &o.single_file,
         .help = "one .safetensors under the original names"},
        {.name = "unet",
         .kind = OPTION_TEXT,
         .value = &o.unet,
         .argument = "NAME",
         .help = "the single file's UNet; unet_ema is a student's average",
         .fallback = "unet"},
        {.name = "prediction-type",
         .kind = OPTION_CHOICE,
         .value = &o.prediction,
         .choices = "epsilon|v_prediction",
         .help = "what a checkpoint of one file predicts",
         .fallback = "what it tells"},
    };
    const command c = {
        .verb = "convert",
        .synopsis = "-m MODEL -o OUT [options]",
        .description = description,
        .options = options,
        .option_count = OPTION_COUNT(options),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    o.dtype = strcmp(dtype, "f16") == 0 ? "F16" : strcmp(dtype, "bf16") == 0 ? "BF16" : "F32";
    int code = options_loras(&texts, loras);
    o.loras = loras;
    o.lora_count = texts.count;
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    if (!code) code = cli_finish(splam_convert(&o, &callbacks));
    options_loras_free(loras, texts.count);
    return code;
}
