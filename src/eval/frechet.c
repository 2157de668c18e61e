/* tr (C_a C_b)^(1/2) is the sum of the square roots of the eigenvalues of R C_b R, R = C_a^(1/2): a
 * symmetric matrix, so that rank-deficient covariances (fewer rows than features) do no harm. */
#include "eval/frechet.h"
#include <math.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"

typedef struct {
    int64_t dim;
    double *mean;       /* [dim] */
    double *covariance; /* [dim,dim] */
} gaussian;

static void gaussian_free(gaussian *g)
{
    sp_free(g->mean);
    sp_free(g->covariance);
}

static sp_status gaussian_fit(const sp_linear_algebra *la, const sp_tensor *features, gaussian *out)
{
    int64_t count = features->shape.dim[0], dim = features->shape.dim[1];
    const float *x = features->data;
    *out = (gaussian){dim, sp_alloc_zero((size_t)dim * sizeof(double)),
                      sp_alloc_zero((size_t)(dim * dim) * sizeof(double))};
    double *centred = sp_alloc((size_t)(count * dim) * sizeof(double));
    if (!out->mean || !out->covariance || !centred) {
        sp_free(centred);
        return SP_MEMORY;
    }
    for (int64_t i = 0; i < count * dim; i++)
        out->mean[i % dim] += (double)x[i] / (double)count;
    for (int64_t i = 0; i < count * dim; i++)
        centred[i] = (double)x[i] - out->mean[i % dim];
    la->dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)dim, (int)dim, (int)count,
                1.0 / (double)(count - 1), centred, (int)dim, centred, (int)dim, 0, out->covariance,
                (int)dim);
    sp_free(centred);
    return SP_OK;
}

/* Eigenvalues of the symmetric matrix a (ascending) to values; a becomes its eigenvectors, one a
 * column. */
static sp_status eigen(const sp_linear_algebra *la, double *a, int64_t dim, double *values)
{
    lapack_int info =
        la->dsyev(LAPACK_ROW_MAJOR, 'V', 'U', (lapack_int)dim, a, (lapack_int)dim, values);
    if (info == 0) return SP_OK;
    return sp_fail(
        info == LAPACK_WORK_MEMORY_ERROR ? SP_MEMORY : SP_NUMERIC,
        "the eigenvalues of a %lld x %lld covariance could not be found (LAPACK says %d)",
        (long long)dim, (long long)dim, (int)info);
}

/* root = m^(1/2), by V diag(sqrt(values)) V^T; m is overwritten. */
static sp_status square_root(const sp_linear_algebra *la, double *m, int64_t dim, double *values,
                             double *scaled, double *root)
{
    SP_TRY(eigen(la, m, dim, values));
    for (int64_t i = 0; i < dim * dim; i++)
        scaled[i] = m[i] * sqrt(fmax(values[i % dim], 0));
    la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)dim, (int)dim, (int)dim, 1, scaled,
                (int)dim, m, (int)dim, 0, root, (int)dim);
    return SP_OK;
}

/* tr (a b)^(1/2); work has room for 3 dim^2 + dim numbers. */
static sp_status trace_of_root(const sp_linear_algebra *la, const double *a, const double *b,
                               int64_t dim, double *work, double *out)
{
    int n = (int)dim;
    double *copy = work, *root = copy + dim * dim, *product = root + dim * dim;
    double *values = product + dim * dim;
    for (int64_t i = 0; i < dim * dim; i++)
        copy[i] = a[i];
    SP_TRY(square_root(la, copy, dim, values, product, root));
    la->dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, root, n, b, n, 0, copy, n);
    la->dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, copy, n, root, n, 0, product,
                n);
    for (int64_t i = 0; i < dim; i++) /* symmetric but for rounding */
        for (int64_t j = 0; j < i; j++)
            product[i * dim + j] = product[j * dim + i] =
                (product[i * dim + j] + product[j * dim + i]) / 2;
    SP_TRY(eigen(la, product, dim, values));
    *out = 0;
    for (int64_t i = 0; i < dim; i++)
        *out += sqrt(fmax(values[i], 0));
    return SP_OK;
}

static sp_status distance(const sp_linear_algebra *la, const gaussian *a, const gaussian *b, double *out)
{
    int64_t dim = a->dim;
    double *work = sp_alloc((size_t)(3 * dim * dim + dim) * sizeof(double));
    if (!work) return SP_MEMORY;
    double root, sum = 0;
    sp_status status = trace_of_root(la, a->covariance, b->covariance, dim, work, &root);
    sp_free(work);
    SP_TRY(status);
    for (int64_t i = 0; i < dim; i++) {
        double d = a->mean[i] - b->mean[i];
        sum += d * d + a->covariance[i * dim + i] + b->covariance[i * dim + i];
    }
    *out = fmax(sum - 2 * root, 0);
    return SP_OK;
}

static sp_status check(const sp_tensor *features)
{
    const sp_shape *s = &features->shape;
    if (features->dtype != SP_F32 || s->rank != 2 || s->dim[0] < 2 || s->dim[1] < 1 ||
        s->dim[1] > 16384 || s->dim[0] > INT32_MAX)
        return sp_fail(SP_SHAPE, "features %s must be F32 [N,D], N at least 2", sp_shape_text(*s));
    return sp_tensor_check_finite(features, "features");
}

sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out)
{
    SP_TRY(check(a));
    SP_TRY(check(b));
    if (a->shape.dim[1] != b->shape.dim[1])
        return sp_fail(SP_SHAPE, "features %s and %s have different widths",
                       sp_shape_text(a->shape), sp_shape_text(b->shape));
    const sp_linear_algebra *la;
    SP_TRY(sp_linear_algebra_get(&la));
    gaussian one = {0}, two = {0};
    sp_library_threads();
    sp_status status = gaussian_fit(la, a, &one);
    if (!status) status = gaussian_fit(la, b, &two);
    if (!status) status = distance(la, &one, &two, out);
    gaussian_free(&one);
    gaussian_free(&two);
    return status;
}
