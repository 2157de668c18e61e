/* tr (C_a C_b)^(1/2) is the sum of the square roots of the eigenvalues of R C_b R, R = C_a^(1/2): a
 * symmetric matrix, so that rank-deficient covariances (fewer rows than features) do no harm. */
#include "eval/frechet.h"
#include <math.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"

/* Rows of one block, whose centred copy is all that is kept in fp64. */
enum { BLOCK = 4096 };

void sp_gaussian_free(sp_gaussian *g)
{
    sp_free(g->mean);
    sp_free(g->covariance);
    *g = (sp_gaussian){0};
}

static sp_status fit(const sp_linear_algebra *la, const sp_tensor *features, sp_gaussian *out)
{
    int64_t count = features->shape.dim[0], dim = features->shape.dim[1];
    int64_t block = count < BLOCK ? count : BLOCK;
    const float *x = features->data;
    *out = (sp_gaussian){dim, count, sp_alloc_zero((size_t)dim * sizeof(double)),
                         sp_alloc_zero((size_t)(dim * dim) * sizeof(double))};
    double *centred = sp_alloc((size_t)(block * dim) * sizeof(double));
    if (!out->mean || !out->covariance || !centred) {
        sp_free(centred);
        return SP_MEMORY;
    }
    for (int64_t i = 0; i < count * dim; i++)
        out->mean[i % dim] += (double)x[i] / (double)count;
    for (int64_t first = 0; first < count; first += block) {
        int64_t rows = count - first < block ? count - first : block;
        for (int64_t i = 0; i < rows * dim; i++)
            centred[i] = (double)x[first * dim + i] - out->mean[i % dim];
        la->dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)dim, (int)dim, (int)rows,
                  1.0 / (double)(count - 1), centred, (int)dim, centred, (int)dim, first ? 1 : 0, out->covariance,
                  (int)dim);
    }
    sp_free(centred);
    return SP_OK;
}

static sp_status eigen_failed(int64_t dim, lapack_int info)
{
    return sp_fail(
        info == LAPACK_WORK_MEMORY_ERROR ? SP_MEMORY : SP_NUMERIC,
        "the eigenvalues of a %lld x %lld covariance could not be found (LAPACK says %d)",
        (long long)dim, (long long)dim, (int)info);
}

/* Eigenvalues of the symmetric matrix a (ascending) to values; a becomes its eigenvectors, one a
 * column. */
static sp_status eigen(const sp_linear_algebra *la, double *a, int64_t dim, double *values)
{
    lapack_int info =
        la->dsyev(LAPACK_ROW_MAJOR, 'V', 'U', (lapack_int)dim, a, (lapack_int)dim, values);
    return info == 0 ? SP_OK : eigen_failed(dim, info);
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

/* tr (a b)^(1/2) with a = L L^T; SP_UNSUPPORTED, without a message, if a has not full rank. */
static sp_status trace_by_cholesky(const sp_linear_algebra *la, const double *a, const double *b, int64_t dim,
                                   double *work, double *out)
{
    int n = (int)dim;
    double *root = work, *product = root + dim * dim, *values = product + dim * dim, least = INFINITY, most = 0;
    for (int64_t i = 0; i < dim * dim; i++) {
        root[i] = i % dim > i / dim ? 0 : a[i];
        product[i] = b[i];
    }
    if (la->dpotrf(LAPACK_ROW_MAJOR, 'L', n, root, n) != 0) return SP_UNSUPPORTED;
    for (int64_t i = 0; i < dim; i++) {
        least = fmin(least, root[i * dim + i] * root[i * dim + i]);
        most = fmax(most, a[i * dim + i]);
    }
    if (!(least > 1e-13 * most)) return SP_UNSUPPORTED;
    la->dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, n, n, 1, root, n, product, n);
    la->dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, n, n, 1, root, n, product, n);
    lapack_int info = la->dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', n, product, n, values);
    if (info) return eigen_failed(dim, info);
    *out = 0;
    for (int64_t i = 0; i < dim; i++)
        *out += sqrt(fmax(values[i], 0));
    return SP_OK;
}

/* cholesky: the faster way is tried first. */
static sp_status distance(const sp_linear_algebra *la, const sp_gaussian *a, const sp_gaussian *b, bool cholesky,
                          double *out)
{
    int64_t dim = a->dim;
    double *work = sp_alloc((size_t)(3 * dim * dim + dim) * sizeof(double));
    if (!work) return SP_MEMORY;
    double root = 0, sum = 0;
    sp_status status = SP_UNSUPPORTED;
    if (cholesky) status = trace_by_cholesky(la, a->covariance, b->covariance, dim, work, &root);
    if (status == SP_UNSUPPORTED) status = trace_of_root(la, a->covariance, b->covariance, dim, work, &root);
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

static sp_status check_both(const sp_tensor *a, const sp_tensor *b)
{
    SP_TRY(check(a));
    SP_TRY(check(b));
    if (a->shape.dim[1] != b->shape.dim[1])
        return sp_fail(SP_SHAPE, "features %s and %s have different widths",
                       sp_shape_text(a->shape), sp_shape_text(b->shape));
    return SP_OK;
}

sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out)
{
    SP_TRY(check_both(a, b));
    const sp_linear_algebra *la;
    SP_TRY(sp_linear_algebra_get(&la));
    sp_gaussian one = {0}, two = {0};
    sp_library_threads();
    sp_status status = fit(la, a, &one);
    if (!status) status = fit(la, b, &two);
    if (!status) status = distance(la, &one, &two, false, out);
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
    return status;
}

sp_status sp_gaussian_fit(const sp_tensor *features, sp_gaussian *out)
{
    const sp_linear_algebra *la;
    *out = (sp_gaussian){0};
    SP_TRY(check(features));
    SP_TRY(sp_linear_algebra_get(&la));
    sp_library_threads();
    sp_status status = fit(la, features, out);
    if (status) sp_gaussian_free(out);
    return status;
}

sp_status sp_gaussian_distance(const sp_gaussian *a, const sp_gaussian *b, double *out)
{
    const sp_linear_algebra *la;
    if (a->dim != b->dim)
        return sp_fail(SP_SHAPE, "features have different widths, %lld and %lld", (long long)a->dim, (long long)b->dim);
    SP_TRY(sp_linear_algebra_get(&la));
    sp_library_threads();
    return distance(la, a, b, true, out);
}

/* ---- of few rows ---- */

/* The rows less their mean over sqrt(count - 1): new. *power: the sum of their squares. */
static double *centred_rows(const sp_tensor *features, double *mean, double *power)
{
    int64_t count = features->shape.dim[0], dim = features->shape.dim[1];
    const float *x = features->data;
    double *rows = sp_alloc((size_t)(count * dim) * sizeof *rows), factor = 1 / sqrt((double)(count - 1));
    for (int64_t i = 0; i < count * dim && rows; i++)
        mean[i % dim] += (double)x[i] / (double)count;
    *power = 0;
    for (int64_t i = 0; i < count * dim && rows; i++) {
        rows[i] = ((double)x[i] - mean[i % dim]) * factor;
        *power += rows[i] * rows[i];
    }
    return rows;
}

static sp_status singular_sum(const sp_linear_algebra *la, double *matrix, int64_t rows, int64_t columns, double *out)
{
    int64_t count = rows < columns ? rows : columns;
    double *values = sp_alloc((size_t)count * sizeof *values), none;
    if (!values) return SP_MEMORY;
    /* Column by column it is the transposed matrix, whose singular values are the same. */
    lapack_int info = la->dgesdd(LAPACK_COL_MAJOR, 'N', (lapack_int)columns, (lapack_int)rows, matrix,
                                 (lapack_int)columns, values, &none, 1, &none, 1);
    *out = 0;
    for (int64_t i = 0; i < count; i++)
        *out += values[i];
    sp_free(values);
    return info ? eigen_failed(count, info) : SP_OK;
}

sp_status sp_frechet_of_few(const sp_tensor *a, const sp_tensor *b, double *out)
{
    const sp_linear_algebra *la;
    SP_TRY(check_both(a, b));
    SP_TRY(sp_linear_algebra_get(&la));
    int64_t dim = a->shape.dim[1], count_a = a->shape.dim[0], count_b = b->shape.dim[0];
    double *mean = sp_alloc_zero((size_t)(2 * dim) * sizeof *mean), power_a = 0, power_b = 0, root = 0, apart = 0;
    double *rows_a = mean ? centred_rows(a, mean, &power_a) : NULL;
    double *rows_b = rows_a ? centred_rows(b, mean + dim, &power_b) : NULL;
    double *product = rows_b ? sp_alloc((size_t)(count_a * count_b) * sizeof *product) : NULL;
    sp_status status = product ? SP_OK : SP_MEMORY;
    sp_library_threads();
    if (!status)
        la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count_a, (int)count_b, (int)dim, 1, rows_a, (int)dim,
                  rows_b, (int)dim, 0, product, (int)count_b);
    if (!status) status = singular_sum(la, product, count_a, count_b, &root);
    for (int64_t i = 0; i < dim && !status; i++)
        apart += (mean[i] - mean[dim + i]) * (mean[i] - mean[dim + i]);
    if (!status) *out = fmax(apart + power_a + power_b - 2 * root, 0);
    sp_free(mean);
    sp_free(rows_a);
    sp_free(rows_b);
    sp_free(product);
    return status;
}
