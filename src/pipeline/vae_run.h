/* Running one half of an autoencoder on latents as a UNet sees them, that is, times the scaling
 * factor. */
#ifndef SP_PIPELINE_VAE_RUN_H
#define SP_PIPELINE_VAE_RUN_H
#include "checkpoints/component.h"
#include "pipeline/plans.h"

typedef enum {
    SP_VAE_ENCODE,    /* pictures [N,3,H,W] in [-1,1] -> the posterior's mean, scaled, [N,C,h,w] */
    SP_VAE_POSTERIOR, /* pictures -> mean and logvar, neither scaled, [N,2C,h,w]; of an
                         AutoencoderTiny the latent alone, [N,C,h,w] */
    SP_VAE_DECODE,    /* scaled latents [N,C,h,w] -> pictures [N,3,H,W] in about [-1,1] */
} sp_vae_half;

/* Makes the half ready for inputs of shape `in`; `vae` must outlive the runner. sp_runner_free. */
sp_status sp_vae_runner_create(const sp_component *vae, sp_vae_half half, sp_shape in,
                               sp_device *device, sp_dtype precision, sp_runner *out);
/* The run of this half for this shape, the cache's, which is for one autoencoder. */
sp_status sp_vae_plans_run(sp_plans *plans, const sp_component *vae, sp_vae_half half, sp_shape in, bool alone,
                           sp_run **out);
/* Both halves. */
void sp_vae_plans_forget(sp_plans *plans);
/* *out is a new owned f32 tensor. callbacks may be NULL. */
sp_status sp_vae_run(sp_run *run, const sp_tensor *in, const sp_callbacks *callbacks, sp_tensor *out);

/* latent = factor * (mean + exp(logvar / 2) * noise - shift), `count` elements each, in double precision;
 * logvar or noise NULL: factor * (mean - shift). latent may be noise. */
typedef struct {
    double factor, shift;
} sp_latent_scale;
void sp_vae_draw(sp_latent_scale scale, const float *mean, const float *logvar, const float *noise,
                 int64_t count, float *latent);

/* How many pictures of height x width to run at once: many small ones, or a single large one. */
int64_t sp_vae_batch(int64_t height, int64_t width);

/* How all of a tensor is run: in batches, or, where a picture is larger than a tile, in overlapping
 * tiles whose borders are blended, so that memory is bounded by one tile. Tiles see nothing of what
 * is around them, so the result is not the same as without: they are for pictures that do not fit. */
typedef struct {
    sp_device *device;
    sp_dtype precision;
    int64_t tile; /* side of a tile in picture pixels, see sp_vae_tile_unit; 0: never in tiles */
    bool alone;      /* pictures have the bits that each has in a batch of its own */
    sp_plans *plans; /* of this device and precision: keeps what is planned; NULL: all is given back */
} sp_vae_settings;

/* Runs the half on all of `in`: *out is new. Results are those of diffusers' enable_tiling with
 * this side of a tile. Pictures in tiles must have sides that are multiples of the factor.
 * callbacks may be NULL. */
sp_status sp_vae_run_all(const sp_component *vae, sp_vae_half half, const sp_tensor *in,
                         const sp_vae_settings *settings, const sp_callbacks *callbacks,
                         sp_tensor *out);
/* The memory that takes at most at once, beside `in` and *out. */
sp_status sp_vae_plan_all(const sp_component *vae, sp_vae_half half, sp_shape in,
                          const sp_vae_settings *settings, sp_plan_memory *out);

/* The sides of tiles are multiples of this: overlaps, a quarter of a tile (an eighth of an
 * AutoencoderTiny's), are whole latent pixels. */
int64_t sp_vae_tile_unit(const sp_vae_config *config);
/* diffusers' side of a tile: that of the pictures that the autoencoder was trained on, but at least
 * 256; 512 where the config does not say. */
int64_t sp_vae_tile_side(const sp_vae_config *config);

#endif
