/* The options of drawing. */
#include <splam/generate.h>
#include "options/options.h"

#define OPTIONS splam_generate_options
static const splam_option options[] = {
    SP_MODEL_OPTION_UNDER("What to draw"),
    {SP_TEXT(prompt), .letter = 'p', .argument = "TEXT", .help = "what to draw"},
    {SP_TEXT(prompts_file), .flag = "prompts", .argument = "FILE",
     .help = "one prompt a line instead, UTF-8; blank lines are left out; - is standard input"},
    {SP_TEXT(negative), .letter = 'n', .argument = "TEXT", .help = "what not to draw, where there is guidance"},
    {SP_ENUM(prompt_syntax, "plain|weighted", SPLAM_PROMPT_PLAIN),
     .help = "of both; weighted: A1111's (words:1.3), (words), [words] and BREAK, and prompts as long as they are, in "
             "chunks of the text encoder's length (75 words or parts of words), 32 at most; plain: all signs are words",
     .otherwise = "plain"},
    {SP_INTEGER(clip_skip, 0, 1000, 0), .argument = "N",
     .help = "layers of the text encoder left out beyond the last one that the model was trained with, as in "
             "diffusers; A1111's 2 is 1 of Stable Diffusion 1.x here and 0 of XL"},
    {SP_MEMBER(seed), .kind = SPLAM_OPTION_SEED, .beside = offsetof(OPTIONS, random_seed), .letter = 's',
     .argument = "SEED", .help = "of the noise; -1 draws one and prints it"},
    {SP_ENUM(rng, "philox|torch", SPLAM_RNG_PHILOX),
     .help = "random numbers; torch: those of diffusers on a CPU", .otherwise = "philox"},
    {SP_TEXT(noise), .argument = "FILE",
     .help = "safetensors with noise.0 [N,4,h,w]; noise.1, ... for lcm, tcd, euler-a and dpm++2m-sde; noise.posterior "
             "for --init-img, without which the latent's mean is taken"},
    {SP_INTEGER(count, 1, 1e6, SPLAM_UNSET), .letter = 'b', .argument = "COUNT", .help = "pictures of each prompt",
     .otherwise = "as many as the noise file has, or 1"},
    {SP_INTEGER(width, 1, 16384, SPLAM_UNSET), .letter = 'W', .argument = "PIXELS",
     .help = "of a picture; Stable Diffusion XL was trained on " SP_XL_SIZES ", and draws poor pictures far below",
     .otherwise = "the model's own"},
    {SP_INTEGER(height, 1, 16384, SPLAM_UNSET), .letter = 'H', .argument = "PIXELS", .help = "of a picture",
     .otherwise = "the model's own"},
    {SP_TEXT(init_image), .flag = "init-img", .letter = 'i', .argument = "FILE",
     .help = "JPEG, PNG or WebP to start from; scaled to cover the size and cut, which without -W or -H is its own, "
             "rounded down to what the model takes"},
    {SP_NUMBER(strength, 0.001, 1, SPLAM_UNSET), .argument = "S", .help = "how much of that picture is replaced",
     .otherwise = "0.8"},
    {SP_INTEGER(steps, 1, 4000, SPLAM_UNSET), .argument = "N",
     .heading = "Sampling",
     .help = "of the sampler; each is an evaluation of the network, with heun two",
     .otherwise = "a student's own, else lcm and tcd 4, ddim 50, euler and euler-a 30, the others 20"},
    {SP_CHOICE(sampler, SP_CHOICES(SP_SAMPLER_LIST), NULL), .help = "how the noise is removed",
     .otherwise = "a student's own, else that of the model's scheduler, for DDIM, PNDM and DDPM dpm++2m"},
    {SP_NUMBER(guidance, 0, 1000, SPLAM_UNSET), .letter = 'g', .argument = "G",
     .help = "classifier-free guidance scale", .otherwise = "by the model: 1, 7.5 or the middle of its range"},
    {SP_CHOICE(sigmas, "normal|karras|exponential", NULL),
     .help = "how noise levels are spread, for dpm++2m, dpm++2m-sde, unipc, euler and heun",
     .otherwise = "as the model's scheduler says, mostly normal"},
    {SP_CHOICE(spacing, "leading|linspace|trailing", NULL),
     .help = "how timesteps are spread, for all but lcm and tcd; trailing begins at the last one, as models for few "
             "steps want it (SDXL Turbo and Lightning)",
     .otherwise = "as the model's scheduler says"},
    {SP_FLAG(old_grid), .help = "lcm: the older timesteps, 999 759 519 279 for four steps"},
    {SP_NUMBER(eta, 0, 1, SPLAM_UNSET), .argument = "X",
     .help = "tcd and ddim: how much is drawn anew between steps, from 0, nothing, to 1",
     .otherwise = "tcd 0.3, ddim 0"},
    {SP_TEXT(skip_layers), .argument = "N,...",
     .help = "Stable Diffusion 3: guide away from the transformer without these blocks too, in a third pass of early "
             "steps; for 3.5 Medium 7,8,9",
     .otherwise = "none"},
    {SP_NUMBER(skip_layer_scale, 0, 1000, SPLAM_UNSET), .argument = "X", .needs = "skip_layers",
     .help = "how far", .otherwise = "2.8"},
    {SP_NUMBER(skip_layer_start, 0, 1, SPLAM_UNSET), .argument = "X", .needs = "skip_layers",
     .help = "after which share of the steps",
     .otherwise = "0.01"},
    {SP_NUMBER(skip_layer_stop, 0, 1, SPLAM_UNSET), .argument = "X", .needs = "skip_layers",
     .help = "and before which", .otherwise = "0.2"},
    {SP_FLAG(show_timesteps), .help = "print the sampler and the timesteps that the network is told"},
    {SP_TEXT(output), .letter = 'o', .argument = "FILE",
     .heading = "Output",
     .help = "the picture's file, .png, .jpg, .jpeg or .webp; several go to NAME-0.png, NAME-1.png, ...; without a "
             "suffix .png (or the --format's) is appended; in a folder, one that is there or DIR/, the name is out; - "
             "is standard output, for one picture",
     .otherwise = "of the command line out.png"},
    {SP_CHOICE(format, "png|jpg|webp", NULL), .help = "of pictures whose name has no suffix", .otherwise = "png"},
    {SP_INTEGER(quality, 1, 100, SPLAM_UNSET), .argument = "N",
     .help = "of JPEG, with colours in full resolution from 90 on, and of WebP, which is lossless at 100",
     .otherwise = "JPEG 95, WebP 90"},
    {SP_TEXT(save_latents), .argument = "FILE", .help = "safetensors for latents [N,4,h,w]"},
    SP_MODEL_PART_OPTIONS,
    {SP_ENUM(vae_tiling, "auto|on|off", SPLAM_VAE_TILING_AUTO),
     .help = "pictures larger than 512 pixels (or what the VAE was trained on) go through it in overlapping tiles: "
             "less memory, not quite the same picture; auto: where the whole would not fit",
     .otherwise = "auto"},
    {SP_BYTES(memory_limit), .argument = "SIZE",
     .help = "print what will be needed, do with less memory where possible, refuse where not: 3G is 3 * 10^9 bytes, "
             "3Gi 3 * 2^30"},
};
SP_TABLE(generate);

bool sp_may_batch(const splam_generate_options *a, const splam_generate_options *b)
{
    static const char *const own[] = {"prompt",       "prompts_file", "negative",    "guidance", "seed",
                                      "count",        "output",       "format",      "quality",  "save_latents",
                                      "show_timesteps"};
    const splam_generate_options *const both[] = {a, b};
    for (int i = 0; i < 2; i++)
        if (both[i]->init_image || both[i]->init_pixels || both[i]->noise) return false;
    return sp_options_same(&sp_verb_generate, a, b, own, sizeof own / sizeof *own);
}
