/* AutoencoderKL: pictures to the moments of a latent, and latents to pictures; built from a
 * diffusers config.json. */
#ifndef SP_MODELS_VAE_H
#define SP_MODELS_VAE_H
#include "models/config.h"
#include "ops/ops.h"

typedef struct {
    int levels;
    int64_t sample_size; /* the picture's size it was trained for; any size runs */
    int64_t in_channels, out_channels, latent_channels;
    int64_t channels[SP_MODEL_MAX_LEVELS]; /* from the highest resolution down */
    int64_t layers; /* resnets of an encoder block; a decoder block has one more */
    int64_t groups;
    double scaling_factor; /* z = scaling_factor * latent is what a UNet sees; the graphs below
                              leave it to the caller */
    bool quant_conv, post_quant_conv, mid_attention;
} sp_vae_config;

/* SP_IO, SP_FORMAT, or SP_UNSUPPORTED naming the key. Absent keys take diffusers' defaults. */
sp_status sp_vae_config_load(const char *path, sp_vae_config *out);
sp_status sp_vae_config_read(const json_t *config, const char *where, sp_vae_config *out);
/* The config.json that diffusers reads (json_decref); NULL when out of memory. */
json_t *sp_vae_config_write(const sp_vae_config *config);
/* Picture pixels per latent pixel, 2^(levels-1). */
int64_t sp_vae_factor(const sp_vae_config *config);

/* image [N,H,W,in_channels] in [-1,1] -> the moments of q(latent | image), each
 * [N,h,w,latent_channels], logvar clamped to [-30,20] as diffusers does. h is H halved (rounding
 * down) levels - 1 times. */
typedef struct {
    sp_value *mean, *logvar;
} sp_vae_moments;
sp_vae_moments sp_vae_encode(sp_builder *b, const sp_vae_config *c, sp_value *image);

/* latent [N,h,w,latent_channels], already divided by the scaling factor -> image [N,factor h,factor
 * w,out_channels]. */
sp_value *sp_vae_decode(sp_builder *b, const sp_vae_config *c, sp_value *latent);

#endif
