/* Random numbers. Counter-based Philox4x32-10 (Salmon et al. 2011) for everything that must depend
 * on (seed, step, sample) alone, and PyTorch's CPU generator for `--rng torch`. */
#ifndef SP_BASE_RANDOM_H
#define SP_BASE_RANDOM_H
#include <stddef.h>
#include <stdint.h>

/* What a draw is for; part of the counter, so that streams never share numbers. Append only. */
typedef enum {
    SP_STREAM_NOISE = 0,   /* the noise added to a clean latent, or a picture's first noise */
    SP_STREAM_SUBPATH,     /* sub-path index */
    SP_STREAM_GAMMA,       /* position on the sub-path */
    SP_STREAM_END,         /* tcd's end point */
    SP_STREAM_DROPOUT,     /* caption dropout */
    SP_STREAM_POSTERIOR,   /* sampling of the VAE's posterior */
    SP_STREAM_SHUFFLE,     /* data order */
    SP_STREAM_AUGMENT,     /* crops, caption choice */
    SP_STREAM_INIT,        /* weight initialisation; sample = index of the parameter */
    SP_STREAM_FRESH_NOISE, /* the sampler's noise after each step; step = sampling step */
    SP_STREAM_TIMESTEP,    /* a diffusion teacher's timestep */
    SP_STREAM_FLIP,        /* horizontal flips; step = epoch, sample = the picture's number */
    SP_STREAM_SIMULATED,   /* the noise of a student's own steps in training, one step's after another */
    SP_STREAM_GAN_NOISE,   /* what a student's latents are noised with for a discriminator, and to which timestep */
    SP_STREAM_GAN_TIMESTEP,
    SP_STREAM_DATA_NOISE, /* the same of the data's latents */
    SP_STREAM_DATA_TIMESTEP,
    SP_STREAM_BOOTSTRAP,   /* resampling of pictures for a score's interval; step = resample, sample = the set */
    SP_STREAM_GUIDANCE,    /* the guidance that a sample is distilled with */
    SP_STREAM_CHART,       /* the picture that previews are fitted to; sample = number of a disc */
} sp_stream;

/* One key; the position in a draw is the remaining counter word. */
typedef struct {
    uint64_t seed;
    sp_stream stream;
    uint64_t step;   /* training or sampling step, < 2^40 */
    uint64_t sample; /* global sample index within the step, < 2^32 */
} sp_random_key;

/* The block function itself: four words from a counter and a key. */
void sp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* `out[i]` depends on (key, i) alone. */
void sp_random_bits(sp_random_key key, uint32_t *out, size_t count);
void sp_random_uniform(sp_random_key key, float *out, size_t count); /* [0,1), 24 bits */
void sp_random_normal(sp_random_key key, float *out,
                      size_t count);                         /* N(0,1), Box-Muller in double */
uint64_t sp_random_below(sp_random_key key, uint64_t bound); /* unbiased in 0..bound-1; bound > 0 */
void sp_random_permutation(sp_random_key key, uint32_t *out,
                           size_t count); /* Fisher-Yates of 0..count-1 */

/* PyTorch's CPU generator: mt19937 exact, normals as torch.randn(n, dtype=float32) draws them.
 * seed is truncated to 32 bits as there; successive calls continue the sequence. */
typedef struct {
    uint32_t state[624];
    int position;
    double cached_normal; /* second value of the last double Box-Muller; valid if has_cached */
    int has_cached;
} sp_torch_generator;
void sp_torch_seed(sp_torch_generator *generator, uint64_t seed);
uint32_t sp_torch_bits(sp_torch_generator *generator);
void sp_torch_normal(sp_torch_generator *generator, float *out, size_t count);

#endif
