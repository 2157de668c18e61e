/* splam convert */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Writes a model in another form: as a diffusers folder, or with --single-file as one .safetensors\n"
    "file under the names of original checkpoints (Stable Diffusion 1.x, 2.x, XL and 3), which other programs\n"
    "open. f16 takes half the space of f32. A folder's tokenizer, scheduler and everything else are\n"
    "copied; checkpoints of training are left out.\n"
    "A student that is told gamma by an embedding has a layer cond_proj, which most programs do not\n"
    "know: --fold-guidance makes a plain UNet of it that computes the same at guidance 1. A single file\n"
    "says nothing of the scheduler: sample it with LCM, 1 to 4 steps, guidance (CFG) 1.\n"
    "A checkpoint of one file gets a configuration by its names and shapes. That it predicts v is told by a\n"
    "tensor v_pred or by parameterization: \"v\" in NAME.yaml beside it. Of 2.x, the 768 models predict v and\n"
    "the 512-base model epsilon, which no .safetensors file needs to say: v is assumed, and\n"
    "--prediction-type epsilon says otherwise.\n"
    "--packed writes files packed-SET-PRECISION.splam beside the weights of UNet, text encoder and VAE: the\n"
    "weights in the order in which this processor's kernels read them, for pictures of --size one at a time.\n"
    "Whatever opens the model then maps them instead of packing, seconds sooner, and processes share their\n"
    "memory. They take about as much space as the weights, in f32 up to three times, belong to this version\n"
    "of splam and kind of processor, and are passed over with a message where anything does not fit.";

static const char *const examples[] = {
    "splam convert -m student -o student-f16 --dtype f16",
    "splam convert -m student -o student-plain --fold-guidance",
    "splam convert -m student -o student.safetensors --single-file --fold-guidance --dtype f16",
    "splam convert -m sd15 -o sd15-lcm --merge-lora pytorch_lora_weights.safetensors style.safetensors:0.7",
    "splam convert -m v1-5-pruned.ckpt -o sd15 --dtype f16",
    "splam convert -m 512-base-ema.safetensors -o sd2-base --prediction-type epsilon",
    "splam convert -m sd15 --packed",
    "splam convert -m sd15 --packed --size 512x512 768x512 --precision f32",
    "splam convert -m v1-5-pruned.ckpt -o sd15 --dtype f16 --packed",
    NULL,
};

int cli_convert(int argc, char **argv)
{
    splam_convert_options o = splam_convert_defaults();
    const command c = {
        .verb = "convert",
        .synopsis = "-m MODEL -o OUT | --packed [options]",
        .description = description,
        .computes = true,
        .target = &o,
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    splam_terminal terminal;
    splam_callbacks callbacks = splam_terminal_callbacks(&terminal);
    return cli_finish(splam_convert(&o, &callbacks));
}
