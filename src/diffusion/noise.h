/* Where a sampler's noise comes from. */
#ifndef SP_DIFFUSION_NOISE_H
#define SP_DIFFUSION_NOISE_H
#include <stdint.h>
#include "base/random.h"
#include "tensor/tensor.h"

enum { SP_NOISE_POSTERIOR = -1 };
/* draw writes `count` elements of unit normal noise for one sample, [C,H,W]. step 0 is the start;
 * step i > 0 what a sampler that wants fresh noise adds before its step i; step SP_NOISE_POSTERIOR
 * draws the latent of a picture. For one sample, steps are asked for in rising order, each once. */
typedef struct {
    void *context;
    sp_status (*draw)(void *context, int64_t sample, int step, float *out, int64_t count);
} sp_noise;

/* Philox: sample i has seed + i. The context lives with the caller. */
typedef struct {
    uint64_t seed;
} sp_philox_noise;
sp_noise sp_noise_philox(sp_philox_noise *state);

/* PyTorch's CPU generators, one per sample, with seeds seed + i: the sequence of diffusers'
 * pipelines when they are given a list of generators. */
typedef struct {
    sp_torch_generator *generator;
    int64_t count;
} sp_torch_noise;
sp_status sp_torch_noise_create(uint64_t seed, int64_t count, sp_torch_noise *out);
void sp_torch_noise_free(sp_torch_noise *state);
sp_noise sp_noise_torch(sp_torch_noise *state);

/* Noise drawn before: posterior (NULL: there is none) and step[i] are [N,C,H,W], f32. Asking for a
 * step that is not there is SP_ARGUMENT. */
typedef struct {
    const sp_tensor *const *step;
    int steps;
    const sp_tensor *posterior;
} sp_given_noise;
sp_noise sp_noise_given(sp_given_noise *state);

#endif
