/* Running one half of an autoencoder on latents as a UNet sees them, that is, times the scaling
 * factor. */
#ifndef SP_MODELS_VAE_RUN_H
#define SP_MODELS_VAE_RUN_H
#include "models/component.h"
#include "models/runner.h"

typedef enum {
    SP_VAE_ENCODE, /* pictures [N,3,H,W] in [-1,1] -> the posterior's mean, scaled, [N,C,h,w] */
    SP_VAE_DECODE, /* scaled latents [N,C,h,w] -> pictures [N,3,H,W] in about [-1,1] */
} sp_vae_half;

/* Makes the half ready for inputs of shape `in`; `vae` must outlive the runner. sp_runner_free. */
sp_status sp_vae_runner_create(const sp_component *vae, sp_vae_half half, sp_shape in,
                               sp_backend *backend, sp_dtype storage, sp_runner *out);
/* *out is a new owned f32 tensor. */
sp_status sp_vae_run(sp_runner *runner, const sp_tensor *in, sp_tensor *out);

/* How many pictures of height x width to run at once: many small ones, or a single large one. */
int64_t sp_vae_batch(int64_t height, int64_t width);

/* Decodes latents [N,C,h,w] to pictures in batches; *images is new. callbacks may be NULL. */
sp_status sp_vae_decode_all(const sp_component *vae, const sp_tensor *latents, sp_backend *backend,
                            sp_dtype storage, const sp_callbacks *callbacks, sp_tensor *images);

#endif
