/* Latents of a whole data set, computed once and kept in memory. */
#ifndef SP_LATENTS_LATENTS_H
#define SP_LATENTS_LATENTS_H
#include "data/dataset.h"
#include "graph/device.h"
#include "checkpoints/component.h"

/* `count` latents [C,h,w], f32, as a UNet sees them: the posterior's mean times the VAE's scaling
 * factor. */
typedef struct {
    int64_t count, channels, height, width;
    float *data; /* [count,C,h,w] */
} sp_latents;

/* Encodes samples[0..count-1] of the data set (NULL: all of it, in order). */
sp_status sp_latents_encode(sp_dataset *dataset, const int64_t *samples, int64_t count,
                            const sp_component *vae, sp_device *device, sp_dtype precision,
                            const sp_callbacks *callbacks, sp_latents *out);
void sp_latents_free(sp_latents *latents);
static inline float *sp_latent_at(const sp_latents *latents, int64_t i)
{
    return latents->data + i * latents->channels * latents->height * latents->width;
}

#endif
