/* The Frechet distance of two sets of features, each taken as a normal distribution (Dowson & Landau
 * 1982; Heusel et al. 2017):
 *
 *   d = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)),
 *
 * C the covariance with divisor count - 1, everything in double precision. With Inception's features
 * it is FID; what the features are is the caller's to say.
 *
 * No matrix square root is taken. For any A, B with A^T A = C_a and B^T B = C_b, tr (C_a C_b)^(1/2) is the sum of the
 * singular values of A B^T, and A is
 *   of no more rows than columns   the centred rows over sqrt(count - 1)
 *   of a covariance of full rank   L^T, C_a = L L^T by Cholesky
 *   of any other                   diag(l)^(1/2) V^T of its eigenvectors V and eigenvalues l, but for those that are
 *                                  rounding.
 * Where both have full rank it is the sum of the square roots of the eigenvalues of L^T C_b L, which is the fastest. */
#ifndef SP_EVAL_FRECHET_H
#define SP_EVAL_FRECHET_H
#include "tensor/tensor.h"

/* The normal distribution of a set. */
typedef struct {
    int64_t dim;
    int64_t count;      /* rows it was made of; 0: nobody knows */
    double *mean;       /* [dim] */
    double *covariance; /* [dim,dim] */
} sp_gaussian;
/* features [N,D], f32. Sums over blocks of rows, in their order. SP_SHAPE for fewer than two rows, SP_NUMERIC if a
 * value is not finite, SP_MEMORY. */
sp_status sp_gaussian_fit(const sp_tensor *features, sp_gaussian *out);
/* Whether the covariance, whose numbers are finite, is one: symmetric, and without eigenvalues below 0 beyond a
 * thousandth of the largest variance, for files have been rounded. SP_FORMAT beginning with `where`. */
sp_status sp_gaussian_check(const sp_gaussian *gaussian, const char *where);
void sp_gaussian_free(sp_gaussian *gaussian); /* zeroed is legal */

/* One side of a distance: its features, or, where these are not known, their normal distribution. */
typedef struct {
    const sp_tensor *features;
    const sp_gaussian *gaussian; /* looked at without features only */
    const uint32_t *times;       /* how often each row of `features` counts, in all at least twice; NULL: once */
} sp_frechet_side;
/* Errors as above, and SP_SHAPE if the widths differ. */
sp_status sp_frechet_of_sides(const sp_frechet_side *a, const sp_frechet_side *b, double *out);
sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out); /* of two sets of features */

#endif
