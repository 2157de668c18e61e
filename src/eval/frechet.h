/* The Frechet distance of two sets of features, each taken as a normal distribution (Dowson & Landau
 * 1982; Heusel et al. 2017):
 *
 *   d = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)),
 *
 * C the covariance with divisor count - 1, everything in double precision. With Inception's features
 * it is FID; what the features are is the caller's to say. No matrix square root is taken where eigenvalues alone will
 * do. */
#ifndef SP_EVAL_FRECHET_H
#define SP_EVAL_FRECHET_H
#include "tensor/tensor.h"

/* a [count_a,D], b [count_b,D], f32. SP_SHAPE if the widths differ or a set has fewer than two
 * rows, SP_NUMERIC if a value is not finite. */
sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out);

/* The normal distribution of a set. */
typedef struct {
    int64_t dim;
    int64_t count;      /* rows it was made of; 0: nobody knows */
    double *mean;       /* [dim] */
    double *covariance; /* [dim,dim] */
} sp_gaussian;
/* Sums over blocks of rows, in their order. Errors as above. */
sp_status sp_gaussian_fit(const sp_tensor *features, sp_gaussian *out);
void sp_gaussian_free(sp_gaussian *gaussian); /* zeroed is legal */
/* tr (C_a C_b)^(1/2) by Cholesky: C_a = L L^T, the square roots of the eigenvalues of L^T C_b L; where C_a has not full
 * rank, by its symmetric root, as sp_frechet_distance does it. */
sp_status sp_gaussian_distance(const sp_gaussian *a, const sp_gaussian *b, double *out);
/* The same of features where a set has no more rows than columns: tr (C_a C_b)^(1/2) is the sum of the singular values
 * of A B^T, A and B the centred rows over sqrt(count - 1), which is exact where covariances are of low rank. */
sp_status sp_frechet_of_few(const sp_tensor *a, const sp_tensor *b, double *out);

#endif
