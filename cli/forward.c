/* splam forward */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Runs one component once, from a safetensors file to another, in diffusers' own names and layouts\n"
    "(NCHW), so that any checkpoint can be held against another program.\n\n"
    "  component     inputs                                                    outputs\n"
    "  unet          sample [N,C,H,W], timestep [N] (i64, or f32 for           sample\n"
    "                fractions), encoder_hidden_states [N,L,D], optional\n"
    "                timestep_cond [N,dim] (absent: cond_proj is skipped)\n"
    "  vae-encoder   image [N,3,H,W] in [-1,1]                                 mean, logvar\n"
    "                                                                          (a tiny VAE: mean)\n"
    "  vae-decoder   latent [N,c,h,w], already divided by the scaling factor   image\n"
    "  text-encoder  input_ids [N,L]                                           last_hidden_state";

static const char *const examples[] = {
    "splam forward -m sd15 --component unet --inputs in.safetensors --outputs out.safetensors",
    "splam forward -m sd15/vae --component vae-decoder --inputs latent.safetensors \\\n"
    "      --outputs image.safetensors --precision f32",
    "splam forward -m sd15 --component text-encoder --inputs ids.safetensors \\\n"
    "      --outputs states.safetensors -t 2",
    NULL,
};

int cli_forward(int argc, char **argv)
{
    splam_forward_options o = {0};
    const char *precision = NULL;
    int64_t threads = 0;
    /* clang-format off */
    const option options[] = {
        {.name = "model", .letter = 'm', .kind = OPTION_TEXT, .value = &o.model, .argument = "MODEL",
         .required = true, .help = "a diffusers folder, or the component's own"},
        {.name = "component", .kind = OPTION_CHOICE, .value = &o.component, .required = true,
         .choices = "unet|vae-encoder|vae-decoder|text-encoder", .help = "which part to run"},
        {.name = "inputs", .letter = 'i', .kind = OPTION_TEXT, .value = &o.inputs, .argument = "FILE",
         .required = true, .help = "safetensors with the inputs above"},
        {.name = "outputs", .letter = 'o', .kind = OPTION_TEXT, .value = &o.outputs, .argument = "FILE",
         .required = true, .help = "safetensors to write, f32"},
        OPTION_PRECISION(&precision),
        OPTION_THREADS(&threads),
    };
    /* clang-format on */
    const command c = {.verb = "forward",
                       .synopsis =
                           "-m MODEL --component NAME --inputs FILE --outputs FILE [options]",
                       .description = description,
                       .options = options,
                       .option_count = OPTION_COUNT(options),
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    o.precision = options_precision(precision);
    splam_set_threads((int)threads);
    return cli_finish(splam_forward(&o));
}
