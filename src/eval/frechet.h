/* The Frechet distance of two sets of features, each taken as a normal distribution (Dowson & Landau
 * 1982; Heusel et al. 2017):
 *
 *   d = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)),
 *
 * C the covariance with divisor count - 1, everything in double precision. With Inception's features
 * it would be FID; what the features are is the caller's to say. */
#ifndef SP_EVAL_FRECHET_H
#define SP_EVAL_FRECHET_H
#include "tensor/tensor.h"

/* a [count_a,D], b [count_b,D], f32. SP_SHAPE if the widths differ or a set has fewer than two
 * rows, SP_NUMERIC if a value is not finite. */
sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out);

#endif
