/* Pictures from prompts. */
#ifndef SPLAM_GENERATE_H
#define SPLAM_GENERATE_H
#include <splam/base.h>
#include <splam/model.h>
#include <splam/options.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    SPLAM_RNG_PHILOX, /* this library's own: a number depends on seed, step and place alone */
    SPLAM_RNG_TORCH   /* PyTorch's on a CPU: diffusers' noise with one generator a picture */
} splam_rng;

/* Whether pictures larger than a tile go through the VAE in overlapping tiles, as with diffusers'
 * enable_tiling: in the memory of one tile, and not quite as in one piece. */
typedef enum {
    SPLAM_VAE_TILING_AUTO, /* where the whole would need more than the limit, or than is free */
    SPLAM_VAE_TILING_ON,
    SPLAM_VAE_TILING_OFF
} splam_vae_tiling;

/* What stands in prompts beside words. */
typedef enum {
    SPLAM_PROMPT_PLAIN,   /* nothing; what the text encoder has no room for is cut off, with a warning: as diffusers */
    SPLAM_PROMPT_WEIGHTED /* A1111's and ComfyUI's (words:1.3), (words), [words], \( and BREAK; a prompt takes as many
                             chunks of the text encoder's length as it needs, 32 at most */
} splam_prompt_syntax;

/* Where the seconds of a call went, over all its pictures. What a part needs before it can run
 * (planning, packing of weights) belongs to the part. */
typedef struct {
    double load;    /* reading the request, opening files, reading the tokenizer */
    double text;    /* prompts to contexts */
    double encode;  /* the picture to start from */
    double denoise; /* all steps of the sampler */
    double decode;  /* latents to pictures */
    double write;   /* compressing and writing files */
    double total;
} splam_generate_seconds;

/* A picture in memory: RGB, 8 bits each, row after row from the top, without padding. */
typedef struct {
    int64_t width, height; /* pixels */
    const uint8_t *rgb;    /* [height,width,3] */
} splam_picture;

/* A picture that is done, as it is handed out; all of it is the library's, and there until the function returns. */
typedef struct {
    int64_t number;         /* among all of the call, from 0 */
    uint64_t seed;          /* of its noise */
    splam_picture picture;  /* its pixels */
    const uint8_t *file;    /* the file that would be written, as `format` and `quality` have it, with its texts */
    size_t file_size;       /* bytes */
    const char *parameters; /* A1111's text in it, UTF-8 */
    const char *json;       /* the JSON object in it */
} splam_drawn;

/* A picture on its way: what the network takes it to become, small and in about the right colours, for somebody who
 * waits. A pixel stands for a latent pixel (8 x 8 of Stable Diffusion's), by a linear filter of the latents that is
 * fitted to the model's autoencoder when it is first needed, for which that encodes one small picture. It is the
 * library's, and there until the function returns. */
typedef struct {
    int64_t number;        /* among all of the call, from 0 */
    int64_t done, total;   /* evaluations of the network for it, of so many */
    splam_picture picture; /* its pixels */
} splam_preview;

/* Begin with splam_generate_defaults(). */
typedef struct {
    size_t size;
    const char *model; /* a diffusers folder or a checkpoint of one file */
    const char *base;  /* another model, which all but the UNet is taken from [the model itself]; `model` may be a UNet
                          alone then: its folder, or a file under original names, with or without prefix, or
                          diffusers' */
    const char *unet;  /* its UNet's folder ["unet"]; "unet_ema" or "transformer_ema": a student's average */
    const char *prediction_type; /* what the UNet predicts: "epsilon", "v_prediction" or "sample", the clean
                                    latent [what the model says] */
    const char *vae;   /* another autoencoder, AutoencoderKL or AutoencoderTiny: its folder, its file, or a model
                          with one [the model's own] */
    const splam_lora *loras; /* merged in this order */
    size_t lora_count;
    const splam_embedding *embeddings; /* learned tokens that prompts may have */
    size_t embedding_count;
    const char *prompt; /* what to draw, UTF-8; at least one of this and the next two */
    const char *const *prompts; /* more of them */
    size_t prompt_count;
    const char *prompts_file; /* more prompts, UTF-8, one a line; blank lines are left out. "-":
                                 standard input */
    splam_prompt_syntax prompt_syntax; /* of all, the negative one too */
    const char *negative;     /* looked at where there is guidance; NULL: "" */
    const char *sampler;      /* lcm, tcd, ddim, dpm++2m, dpm++2m-sde, unipc, euler, euler-a, heun, as diffusers'
                                 schedulers of that kind [a student's own; that of the class in the model's
                                 scheduler_config.json, SPLAM_UNSUPPORTED if it is none of these; dpm++2m for DDIM, PNDM
                                 and DDPM] */
    const char *sigmas;       /* of dpm++2m, dpm++2m-sde, unipc, euler and heun: normal, karras, exponential [what the
                                 model's scheduler says] */
    const char *spacing;      /* of all but lcm and tcd: how timesteps are spread, leading, linspace, trailing, which
                                 begins at the last one [what the model's scheduler says] */
    int64_t steps; /* each an evaluation of the network, with heun two [a student's own, else lcm and tcd 4, ddim 50,
                      euler and euler-a 30, the others 20] */
    bool show_timesteps;   /* one message says sampler, spacing and the timesteps that the network is told */
    double eta;            /* tcd and ddim: 0, no noise between steps, to 1 [tcd 0.3, ddim 0] */
    double guidance;       /* CFG scale, 0 and more; told to a UNet with cond_proj [1 for a student, or the middle of
                              its guidance range; else 7.5] */
    bool old_grid;         /* lcm: the older timesteps, 999, 759, 519, 279 for four steps */
    uint64_t seed;         /* picture j of all has seed + j, modulo 2^64 */
    bool random_seed;      /* one is drawn instead */
    uint64_t *seed_used;   /* receives the seed; may be NULL */
    int64_t count;         /* pictures per prompt [as many as the noise file has, or 1] */
    int64_t width, height; /* pixels [the noise file's, or what the model was trained for] */
    const char *init_image; /* JPEG, PNG or WebP to start from instead of noise alone, scaled to
                               cover the size and cut; without a width or height that of the
                               picture, rounded down to what the model takes */
    const splam_picture *init_pixels; /* the same from memory, instead of the file; copied [none] */
    double strength; /* how much of it is replaced, in (0,1]: the last floor(steps * strength)
                        steps are taken; lcm takes all, beginning with less noise [0.8] */
    splam_vae_tiling vae_tiling;
    int64_t memory_limit; /* bytes that the process may take at most: what it plans is printed, and
                             done with less or refused if it is more [none] */
    splam_rng rng;
    splam_precision precision;
    const char *device;       /* to compute with, "cpu" [cpu] */
    int64_t clip_skip;        /* last layers of the text encoder left out */
    const char *output;       /* a picture's file: .png, .jpg or .jpeg, .webp, in letters of either
                                 case; without a suffix that of the format is appended. Of several
                                 pictures number j is NAME-j.SUFFIX. A folder, one that is there or
                                 a path that ends in /: out.SUFFIX in it. "-": one picture, to
                                 standard output. NULL: none */
    const char *format;       /* "png", "jpg", "webp", as the suffix if there is one, and of what `receive` gets [the
                                 suffix's, or "png"] */
    int64_t quality;          /* 1..100, of JPEG [95], whose colours keep their resolution from 90
                                 on, or WebP [90], lossless at 100; SPLAM_ARGUMENT with PNG */
    const char *noise;        /* safetensors: noise.0 [N,C,h,w], unit normal, before the sampler's
                                 initial sigma; noise.1, ... where the sampler draws again;
                                 noise.posterior for the latent of init_image, without which it is
                                 the mean */
    const char *save_latents; /* safetensors: latents [N,C,h,w], before division by the VAE's
                                 scaling factor */
    splam_generate_seconds *seconds; /* receives where the time went; may be NULL */
    void (*receive)(void *receiver, const splam_drawn *picture); /* gets each picture as soon as it is done, on the
                                                                    thread that called; `output` may be NULL [none] */
    void *receiver;
    void (*watch)(void *watcher, const splam_preview *preview); /* gets each picture after each evaluation of the
                                                                   network for it, on the thread that called; does not
                                                                   change what is drawn [none] */
    void *watcher;
    bool (*make_room)(void *keeper, int64_t bytes); /* asked before anything is drawn, on the thread that called, where
                                                       so many bytes more than memory_limit leaves would let it be drawn
                                                       in one piece with all that it plans kept. True: something was
                                                       given back, such as another model, and is counted anew; false:
                                                       there is nothing, and less is made do with [none] */
    void *keeper;
    const char *t5_absent; /* of Stable Diffusion 3: how many tokens of zeros stand where a third text encoder's would,
                              "256" as in diffusers, "77" as in ComfyUI and stable-diffusion.cpp; other models have no
                              use for it, SPLAM_ARGUMENT [what a student's splam.json says, or "256"] */
    const char *t5; /* Stable Diffusion 3's third text encoder, T5-XXL: a model's folder with text_encoder_3 and
                       tokenizer_3, such a folder, or a file of weights, with tokenizer.json beside it or in a
                       tokenizer_3 beside it or of the model; in place of t5_absent [none: zeros stand for it] */
    const char *skip_layers; /* Stable Diffusion 3, skip-layer guidance: blocks of the transformer, "7,8,9". In steps i
                                of n with start n < i < stop n the output less that of the transformer without them,
                                times the scale, is added to what guidance makes; a third pass in these [none] */
    double skip_layer_scale, skip_layer_start, skip_layer_stop; /* [2.8, 0.01, 0.2] */
    const char *weights; /* how weights are held in memory: "stored", in the type of the file, or "q8": those of linear
                            layers and 1x1 convolutions in blocks of 32 numbers of 8 bits with a scale (Q8_0,
                            docs/formats.md), half of what 16 bits take; the rest as stored ["stored"] */
} splam_generate_options;
SPLAM_DEFAULTS(generate)

/* What A1111's web interface calls one of the samplers, and pictures have in their texts: "DPM++ 2M" of "dpm++2m";
 * NULL: there is no such sampler. A constant. */
SPLAM_API const char *splam_sampler_label(const char *sampler);

/* Pictures from prompts; those of one prompt are neighbours. They carry what made them: A1111's
 * text and a JSON object with the model's hash. PNG: text chunks "parameters" and "splam"; JPEG and
 * WebP: EXIF UserComment, and the XMP property json of the namespace urn:splam:1.0:. SPLAM_CANCELLED
 * keeps the pictures that are written and says how many; SPLAM_ARGUMENT names the member; SPLAM_IO, before anything is
 * drawn, where output or save_latents cannot be written. */
SPLAM_API splam_status splam_generate(const splam_generate_options *options,
                                      const splam_callbacks *callbacks);

/* Pictures in memory, all of one size. */
typedef struct {
    int64_t count, width, height;
    uint8_t *rgb;  /* [count,height,width,3] */
    uint64_t seed; /* of the first; picture j has seed + j, modulo 2^64 */
} splam_pictures;
SPLAM_API void splam_pictures_free(splam_pictures *pictures); /* zeroed is legal; leaves it zeroed */

#ifdef __cplusplus
}
#endif
#endif
