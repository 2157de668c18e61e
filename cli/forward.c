/* splam forward */
#include "options.h"
#include "verbs.h"

static const char description[] =
    "Runs one component once, from a safetensors file to another, in diffusers' own names and layouts\n"
    "(NCHW), so that any checkpoint can be held against another program.\n\n"
    "  component     inputs                                                    outputs\n"
    "  unet          sample [N,C,H,W], timestep [N] (i64, or f32 for           sample\n"
    "                fractions), encoder_hidden_states [N,L,D], optional\n"
    "                timestep_cond [N,dim] (absent: cond_proj is skipped), of\n"
    "                Stable Diffusion XL text_embeds [N,P], time_ids [N,6]\n"
    "  transformer   of Stable Diffusion 3: sample, timestep, both as above,   sample\n"
    "                encoder_hidden_states, pooled_projections [N,P]\n"
    "  vae-encoder   image [N,3,H,W] in [-1,1]                                 mean, logvar\n"
    "                                                                          (a tiny VAE: mean)\n"
    "  vae-decoder   latent [N,c,h,w], already divided by the scaling factor   image\n"
    "  text-encoder  input_ids [N,L]                                           last_hidden_state\n"
    "  text-encoder-2  input_ids [N,L], end_rows [N], n L + the place of the   last_hidden_state,\n"
    "                end token in row n                                        text_embeds";

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
    splam_forward_options o = splam_forward_defaults();
    const command c = {.verb = "forward",
                       .synopsis =
                           "-m MODEL --component NAME --inputs FILE --outputs FILE [options]",
                       .description = description,
                       .computes = true,
                       .target = &o,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    return cli_finish(splam_forward(&o));
}
