/* Autoencoders between pictures and latents, built from a diffusers config.json: AutoencoderKL
 * (Rombach et al. 2022), whose encoder gives the moments of a latent, and AutoencoderTiny (TAESD),
 * whose encoder gives the latent itself. */
#ifndef SP_MODELS_VAE_H
#define SP_MODELS_VAE_H
#include "models/config.h"
#include "models/network.h"
#include "ops/ops.h"

/* (kind, class in the config) */
#define SP_VAE_LIST(X)                                                                             \
    X(KL, kl, "AutoencoderKL")                                                                     \
    X(TINY, tiny, "AutoencoderTiny")
typedef enum {
#define X(name, lower, class_name) SP_VAE_##name,
    SP_VAE_LIST(X)
#undef X
} sp_vae_kind;

typedef struct {
    int levels;
    int64_t channels[SP_MODEL_MAX_LEVELS]; /* from the highest resolution down */
    int64_t layers; /* resnets of an encoder block; a decoder block has one more */
    int64_t groups;
    bool quant_conv, post_quant_conv, mid_attention;
} sp_vae_kl_config;

typedef struct {
    int encoder_stages, decoder_stages;
    int64_t encoder_channels, decoder_channels; /* the same at every resolution */
    int64_t encoder_blocks[SP_MODEL_MAX_LEVELS], decoder_blocks[SP_MODEL_MAX_LEVELS];
    int64_t upscale;          /* of one decoder stage */
    sp_unary_kind activation; /* within a block; a block's sum goes through ReLU */
} sp_vae_tiny_config;

typedef struct {
    sp_vae_kind kind;
    int64_t factor;      /* picture pixels per latent pixel and side */
    int64_t sample_size; /* the picture's size it was trained for, 0 where the config has none; any
                            size runs */
    int64_t in_channels, out_channels, latent_channels;
    /* What denoises sees z = scaling_factor * (latent - shift_factor); the graphs below leave that to the caller. */
    double scaling_factor, shift_factor;
    union {
        sp_vae_kl_config kl;
        sp_vae_tiny_config tiny;
    };
} sp_vae_config;

/* SP_IO, SP_FORMAT, or SP_UNSUPPORTED naming the key. Absent keys take diffusers' defaults; without
 * a "_class_name" it is an AutoencoderKL. */
sp_status sp_vae_config_load(const char *path, sp_vae_config *out);
sp_status sp_vae_config_read(const json_t *config, const char *where, sp_vae_config *out);
/* The config.json that diffusers reads (json_decref); NULL when out of memory. */
json_t *sp_vae_config_write(const sp_vae_config *config);

/* image [N,H,W,in_channels] in [-1,1] -> the moments of q(latent | image), each
 * [N,h,w,latent_channels]. AutoencoderKL: logvar is clamped to [-30,20] as diffusers does, and h is
 * H halved (rounding down) once a level but the first. AutoencoderTiny: mean is the latent, logvar
 * is NULL, and halves are rounded up. */
typedef struct {
    sp_value *mean, *logvar;
} sp_vae_moments;
sp_vae_moments sp_vae_encode(sp_builder *b, const sp_vae_config *c, sp_value *image);

/* latent [N,h,w,latent_channels], not scaled and shifted any more -> image [N,factor h,factor
 * w,out_channels]. */
sp_value *sp_vae_decode(sp_builder *b, const sp_vae_config *c, sp_value *latent);

/* The halves: image -> mean and, of an AutoencoderKL, logvar; latent -> image. config sp_vae_config. */
extern const sp_network sp_vae_encoder_network, sp_vae_decoder_network;

#endif
