/* LAPACK and BLAS, loaded when they are first needed: their start takes 128 MiB of address space a thread and time,
 * and nothing but distances of sets of features uses them. */
#ifndef SP_EVAL_LINEAR_ALGEBRA_H
#define SP_EVAL_LINEAR_ALGEBRA_H
#include <cblas.h>
#include <lapacke.h>
#include <stdint.h>
#include "base/status.h"

typedef struct {
    __typeof__(&cblas_sgemm) sgemm;
    __typeof__(&cblas_dgemm) dgemm;
    __typeof__(&cblas_dsyrk) dsyrk;
    __typeof__(&cblas_dtrmm) dtrmm;
    __typeof__(&LAPACKE_dsyevd) dsyevd;
    __typeof__(&LAPACKE_dpotrf) dpotrf;
    __typeof__(&LAPACKE_dgesdd) dgesdd;
} sp_linear_algebra;

/* *out: the process's own, never freed. SP_UNSUPPORTED where a library is not installed, SP_MEMORY where
 * its start would not find the address space that it asks for again and again until it has it. */
sp_status sp_linear_algebra_get(const sp_linear_algebra **out);

/* What a routine that could not find the eigenvalues of a dim x dim matrix says: SP_MEMORY or SP_NUMERIC. */
sp_status sp_lapack_failed(int64_t dim, lapack_int info);
/* *out, new: [*rank,dim] (of room for [dim,dim]), eigenvectors of a symmetric matrix [dim,dim] without negative
 * eigenvalues, from the smallest, times the roots of their values, without those that are rounding: *out^T *out is the
 * matrix. NULL after SP_MEMORY and SP_NUMERIC. */
sp_status sp_symmetric_root(const sp_linear_algebra *la, const double *matrix, int64_t dim, double **out,
                            int64_t *rank);

#endif
