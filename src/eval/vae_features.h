/* The features that pictures are compared by: the latent of the demo's (or any model's) own
 * autoencoder, average-pooled to a small grid. No network trained for classification is needed, and
 * for the same reason the numbers are good for comparisons on one data set only. */
#ifndef SP_EVAL_VAE_FEATURES_H
#define SP_EVAL_VAE_FEATURES_H
#include "tensor/tensor.h"

enum {
    SP_FRECHET_GRID = 4, /* "frechet_vae": 4 x 4 places, 64 numbers with four latent channels */
    SP_HIT_GRID = 8,     /* caption hit rate: 8 x 8 places, 256 numbers */
};

/* Average-pools latents [N,C,h,w] to grid x grid places: *out is new, [N, C*grid*grid]. Place y
 * covers rows floor(y h / grid) up to, not including, ceil((y+1) h / grid), as adaptive pooling
 * does. */
sp_status sp_features_pool(const sp_tensor *latents, int64_t grid, sp_tensor *out);
/* To SP_FRECHET_GRID: the features of every distance between sets. */
sp_status sp_features_of_sets(const sp_tensor *latents, sp_tensor *out);

/* Turns decoded pictures [N,3,H,W], about [-1,1], into what a PNG of them would hold: each number
 * rounded to 8 bits, in place. */
void sp_features_quantise(sp_tensor *images);

#endif
