/* What a request of pictures asks for, seen against the model: whatever can be wrong is found before the first long
 * computation. */
#ifndef SP_PIPELINE_REQUEST_H
#define SP_PIPELINE_REQUEST_H
#include <splam/generate.h>
#include "pipeline/denoiser.h"
#include "diffusion/noise.h"
#include "diffusion/sampler.h"
#include "formats/safetensors.h"
#include "image/image.h"
#include "models/unet.h"
#include "models/vae.h"

enum { SP_MAX_SIDE = 16384 }; /* pixels of a picture */

/* ---- sampling ---- */

typedef struct {
    sp_sampler_options sampler;
    double guidance;
    sp_skip_layers skip_layers;
    uint64_t seed;
} sp_sampling;
/* A warning for a guidance out of the UNet's range. SP_ARGUMENT for skip-layer guidance of a network that has no such
 * blocks, or without guidance. */
sp_status sp_sampling_choose(const splam_generate_options *options, const sp_scheduler_config *scheduler,
                             const sp_denoiser *denoiser, sp_sampling *out);

/* ---- pictures ---- */

/* Pictures are numbered over all prompts: prompt j / each, seed + j modulo 2^64. */
typedef struct {
    int64_t each, total;      /* pictures per prompt, and of all */
    int64_t width, height;    /* pixels */
    int64_t factor, channels; /* pixels per latent pixel; of the latent */
    int64_t multiple, most;   /* pixels that sides are multiples of, and at most; 0: any */
} sp_picture_sizes;

typedef struct {
    const splam_generate_options *options;
    size_t prompt_count;
    const sp_image *image;       /* to start from; without pixels where there is none */
    const sp_tensor_file *noise; /* NULL: it is drawn */
    const sp_denoiser *denoiser;
    const sp_vae_config *vae;
} sp_size_question;
sp_status sp_picture_sizes_choose(const sp_size_question *question, sp_picture_sizes *out);
sp_shape sp_latent_shape(const sp_picture_sizes *sizes, int64_t count);

/* ---- noise ---- */

/* Where the numbers come from. Does not move once it is made: `noise` points into it. */
typedef struct {
    sp_noise noise;
    sp_torch_noise torch;
    sp_philox_noise philox;
    sp_given_noise given;
    sp_tensor *step, posterior; /* noise.0, ..., noise.posterior of a file, as f32 */
    const sp_tensor **steps;
} sp_request_noise;
/* file NULL: drawn from the seed; else what `sampler` will ask for. posterior: noise for the latent of a picture is
 * taken too if it is there. */
sp_status sp_request_noise_create(const splam_generate_options *options, const sp_tensor_file *file,
                                  const sp_sampler *sampler, const sp_sampling *sampling,
                                  const sp_picture_sizes *sizes, bool posterior, sp_request_noise *out);
void sp_request_noise_free(sp_request_noise *noise);

/* ---- a picture to start from ---- */

bool sp_starts_from_image(const splam_generate_options *options);
const char *sp_start_image_name(const splam_generate_options *options); /* for messages */
/* The caller's pixels or the file; nothing without either. */
sp_status sp_start_image_read(const splam_generate_options *options, sp_image *out);
/* Scales the picture to cover the sides and cuts the centre out, [1,3,height,width]. */
sp_status sp_start_image_fit(const sp_image *image, const char *name, int64_t width, int64_t height, sp_tensor *out);

#endif
