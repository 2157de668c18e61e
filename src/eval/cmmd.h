/* CMMD (Jayasumana et al. 2024): the squared maximum mean discrepancy of CLIP's embeddings, each divided by its length,
 * under k(x,y) = exp(-|x - y|^2 / (2 sigma^2)), sigma = 10, times 1000. The biased estimate: pairs of a row with itself
 * count.
 *
 * Of rows of length 1 the kernel is exp(-1/sigma^2) exp(u), u = x.y / sigma^2 <= .01, and what the terms 1, u and u^2/2
 * of exp(u) add up to is no sum over pairs: 0, |mu_a - mu_b|^2 / sigma^2 and |S_a - S_b|^2 / (2 sigma^4), mu the mean
 * row and S the mean of x x^T, in fp64. The rest is below 2e-7 and changes by u^2/2 <= 5e-5 of an error of u, so that
 * products in f32 leave less than 1e-11. */
#ifndef SP_EVAL_CMMD_H
#define SP_EVAL_CMMD_H
#include "base/progress.h"
#include "tensor/tensor.h"

/* a [count_a,D], b [count_b,D], f32. SP_SHAPE if the widths differ or a set is empty, SP_NUMERIC if a value is not
 * finite or a row is 0, SP_CANCELLED, SP_MEMORY. No more than a block of products is in memory. */
sp_status sp_cmmd(const sp_tensor *a, const sp_tensor *b, const sp_callbacks *callbacks, double *out);

#endif
