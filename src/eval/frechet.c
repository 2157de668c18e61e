/* Frechet distances: covariances by symmetric products of blocks of rows, their roots by LAPACK. */
#include "eval/frechet.h"
#include <math.h>
#include <string.h>
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

/* ---- rows ---- */

typedef struct {
    const float *x;
    int64_t dim, rows, count, first; /* rows that count at all; how often in all; the first one of a block */
    int64_t *row;                    /* [rows] */
    double *times;                   /* [rows] */
    double *mean;                    /* [dim] */
    double *centred;                 /* [a block's rows,dim]: less the mean, times sqrt(times / (count - 1)) */
} sample;

static void sum_columns(void *context, int64_t begin, int64_t end)
{
    const sample *s = context;
    double *mean = s->mean;
    for (int64_t i = 0; i < s->rows; i++) {
        const float *x = s->x + s->row[i] * s->dim;
        double times = s->times[i];
        for (int64_t j = begin; j < end; j++)
            mean[j] += times * (double)x[j];
    }
    for (int64_t j = begin; j < end; j++)
        mean[j] /= (double)s->count;
}

static void centre_rows(void *context, int64_t begin, int64_t end)
{
    const sample *s = context;
    const double *mean = s->mean;
    for (int64_t i = begin; i < end; i++) {
        const float *x = s->x + s->row[s->first + i] * s->dim;
        double *y = s->centred + i * s->dim, factor = sqrt(s->times[s->first + i] / (double)(s->count - 1));
        for (int64_t j = 0; j < s->dim; j++)
            y[j] = factor * ((double)x[j] - mean[j]);
    }
}

static void sample_free(sample *s)
{
    sp_free(s->row);
    sp_free(s->times);
    sp_free(s->mean);
    sp_free(s->centred);
}

/* All but the centred rows. */
static sp_status sample_of(const sp_tensor *features, const uint32_t *times, sample *out)
{
    int64_t all = features->shape.dim[0], dim = features->shape.dim[1];
    *out = (sample){.x = features->data, .dim = dim};
    out->row = sp_alloc((size_t)all * sizeof *out->row);
    out->times = sp_alloc((size_t)all * sizeof *out->times);
    out->mean = sp_alloc_zero((size_t)dim * sizeof *out->mean);
    if (!out->row || !out->times || !out->mean) return SP_MEMORY;
    for (int64_t i = 0; i < all; i++) {
        if (times && !times[i]) continue;
        out->row[out->rows] = i;
        out->times[out->rows++] = times ? times[i] : 1;
        out->count += times ? times[i] : 1;
    }
    sp_parallel_for(dim, 64, sum_columns, out);
    return SP_OK;
}

static sp_status centre(sample *s, int64_t block)
{
    s->centred = sp_alloc((size_t)(block * s->dim) * sizeof *s->centred);
    return s->centred ? SP_OK : SP_MEMORY;
}

static void mirror(double *m, int64_t dim)
{
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < i; j++)
            m[j * dim + i] = m[i * dim + j];
}

static sp_status covariance_of(const sp_linear_algebra *la, sample *s, double *covariance)
{
    int64_t block = s->rows < BLOCK ? s->rows : BLOCK;
    SP_TRY(centre(s, block));
    for (s->first = 0; s->first < s->rows; s->first += block) {
        int64_t rows = s->rows - s->first < block ? s->rows - s->first : block;
        sp_parallel_for(rows, 8, centre_rows, s);
        la->dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)s->dim, (int)rows, 1, s->centred, (int)s->dim,
                  s->first ? 1 : 0, covariance, (int)s->dim);
    }
    mirror(covariance, s->dim);
    return SP_OK;
}

/* Takes the mean of the sample. */
static sp_status gaussian_of(const sp_linear_algebra *la, sample *s, sp_gaussian *out)
{
    *out = (sp_gaussian){s->dim, s->count, NULL, sp_alloc((size_t)(s->dim * s->dim) * sizeof(double))};
    SP_TRY(out->covariance ? covariance_of(la, s, out->covariance) : SP_MEMORY);
    out->mean = s->mean;
    s->mean = NULL;
    return SP_OK;
}

static sp_status check(const sp_tensor *features)
{
    const sp_shape *s = &features->shape;
    if (features->dtype != SP_F32 || s->rank != 2 || s->dim[0] < 2 || s->dim[1] < 1 ||
        s->dim[1] > 16384 || s->dim[0] > INT32_MAX)
        return sp_fail(SP_SHAPE, "features %s must be F32 [N,D], N at least 2", sp_shape_text(*s));
    return SP_OK;
}

static double trace_of(const double *m, int64_t dim)
{
    double sum = 0;
    for (int64_t i = 0; i < dim; i++)
        sum += m[i * dim + i];
    return sum;
}

/* A value that is not finite makes the trace so, and is looked for only then. */
static sp_status check_trace(double trace, const sp_tensor *features)
{
    if (isfinite(trace)) return SP_OK;
    if (features) SP_TRY(sp_tensor_check_finite(features, "features"));
    return sp_fail(SP_NUMERIC, "the trace of a covariance is %f, expected a finite number", trace);
}

sp_status sp_gaussian_fit(const sp_tensor *features, sp_gaussian *out)
{
    const sp_linear_algebra *la;
    sample s;
    *out = (sp_gaussian){0};
    SP_TRY(check(features));
    SP_TRY(sp_linear_algebra_get(&la));
    sp_library_threads();
    sp_status status = sample_of(features, NULL, &s);
    if (!status) status = gaussian_of(la, &s, out);
    if (!status) status = check_trace(trace_of(out->covariance, out->dim), features);
    sample_free(&s);
    if (status) sp_gaussian_free(out);
    return status;
}

static double largest_variance(const sp_gaussian *g)
{
    double most = 0;
    for (int64_t i = 0; i < g->dim; i++)
        most = fmax(most, fabs(g->covariance[i * g->dim + i]));
    return most;
}

sp_status sp_gaussian_check(const sp_gaussian *g, const char *where)
{
    int64_t dim = g->dim;
    const double *c = g->covariance, most = largest_variance(g), slack = 1e-3 * most;
    const sp_linear_algebra *la;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j <= i; j++) {
            if (fabs(c[i * dim + j] - c[j * dim + i]) > slack)
                return sp_fail(SP_FORMAT, "%s is no covariance: it has %.6g at %lld, %lld and %.6g at %lld, %lld",
                               where, c[i * dim + j], (long long)i, (long long)j, c[j * dim + i], (long long)j,
                               (long long)i);
            if (i == j && c[i * dim + i] < 0)
                return sp_fail(SP_FORMAT, "%s is no covariance: it has the variance %.6g at %lld", where,
                               c[i * dim + i], (long long)i);
        }
    SP_TRY(sp_linear_algebra_get(&la));
    sp_library_threads();
    double *lower = sp_alloc((size_t)(dim * dim) * sizeof *lower);
    if (!lower) return SP_MEMORY;
    memcpy(lower, c, (size_t)(dim * dim) * sizeof *lower);
    for (int64_t i = 0; i < dim; i++)
        lower[i * dim + i] += slack;
    bool good = most == 0 || la->dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)dim, lower, (lapack_int)dim) == 0;
    sp_free(lower);
    return good ? SP_OK : sp_fail(SP_FORMAT, "%s is no covariance: it has eigenvalues below 0", where);
}

/* ---- roots ---- */

/* A side as the distance takes it: of few rows their root alone, else covariance and, once it is asked for, root. */
typedef struct {
    sp_gaussian own; /* what it holds itself of the next two */
    const double *mean, *covariance;
    int64_t dim, rank;
    double *root, trace; /* [rank,dim]: root^T root = C; tr C */
} normal;

static void normal_free(normal *n)
{
    sp_gaussian_free(&n->own);
    sp_free(n->root);
}

static sp_status few_rows(sample *s, normal *out)
{
    SP_TRY(centre(s, s->rows));
    sp_parallel_for(s->rows, 8, centre_rows, s);
    out->root = s->centred;
    out->rank = s->rows;
    out->mean = out->own.mean = s->mean;
    s->centred = s->mean = NULL;
    for (int64_t i = 0; i < out->rank * out->dim; i++)
        out->trace += out->root[i] * out->root[i];
    return SP_OK;
}

static sp_status normal_of_features(const sp_linear_algebra *la, const sp_frechet_side *side, normal *out)
{
    sample s;
    out->dim = side->features->shape.dim[1];
    sp_status status = sample_of(side->features, side->times, &s);
    if (!status && s.rows <= s.dim) {
        status = few_rows(&s, out);
    } else if (!status) {
        status = gaussian_of(la, &s, &out->own);
        out->mean = out->own.mean;
        out->covariance = out->own.covariance;
    }
    sample_free(&s);
    return status;
}

static sp_status normal_of(const sp_linear_algebra *la, const sp_frechet_side *side, normal *out)
{
    if (side->features)
        SP_TRY(normal_of_features(la, side, out));
    else
        *out = (normal){.mean = side->gaussian->mean, .covariance = side->gaussian->covariance,
                        .dim = side->gaussian->dim};
    if (out->covariance) out->trace = trace_of(out->covariance, out->dim);
    return check_trace(out->trace, side->features);
}

/* lower: L, C = L L^T; whether C has full rank. LAPACK's upper triangle of columns is the lower one of rows. */
static bool cholesky(const sp_linear_algebra *la, const double *c, int64_t dim, double *lower)
{
    double least = INFINITY, most = 0;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++)
            lower[i * dim + j] = j > i ? 0 : c[i * dim + j];
    if (la->dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)dim, lower, (lapack_int)dim) != 0) return false;
    for (int64_t i = 0; i < dim; i++) {
        least = fmin(least, lower[i * dim + i] * lower[i * dim + i]);
        most = fmax(most, c[i * dim + i]);
    }
    return least > 1e-13 * most;
}

static void transpose(double *m, int64_t dim)
{
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < i; j++) {
            double held = m[i * dim + j];
            m[i * dim + j] = m[j * dim + i];
            m[j * dim + i] = held;
        }
}

/* *full: whether `root` is L of a covariance of full rank. */
static sp_status try_cholesky(const sp_linear_algebra *la, normal *n, bool *full)
{
    *full = false;
    if (n->root) return SP_OK;
    n->root = sp_alloc((size_t)(n->dim * n->dim) * sizeof *n->root);
    if (!n->root) return SP_MEMORY;
    *full = cholesky(la, n->covariance, n->dim, n->root);
    return SP_OK;
}

static sp_status finish_root(const sp_linear_algebra *la, normal *n, bool full)
{
    if (!full && n->covariance) {
        sp_free(n->root);
        n->root = NULL;
        return sp_symmetric_root(la, n->covariance, n->dim, &n->root, &n->rank);
    }
    if (!full) return SP_OK;
    n->rank = n->dim;
    transpose(n->root, n->dim);
    return SP_OK;
}

/* ---- tr (C_a C_b)^(1/2) ---- */

static double sum_of_roots(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += sqrt(fmax(values[i], 0));
    return sum;
}

/* Of L and C_b, both of full rank. */
static sp_status trace_by_eigenvalues(const sp_linear_algebra *la, const double *lower, const double *b, int64_t dim,
                                      double *out)
{
    int n = (int)dim;
    double *product = sp_alloc((size_t)(dim * dim + dim) * sizeof *product);
    if (!product) return SP_MEMORY;
    double *values = product + dim * dim;
    memcpy(product, b, (size_t)(dim * dim) * sizeof *product);
    la->dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, n, n, 1, lower, n, product, n);
    la->dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, n, n, 1, lower, n, product, n);
    lapack_int info = la->dsyevd(LAPACK_COL_MAJOR, 'N', 'L', n, product, n, values);
    *out = sum_of_roots(values, info ? 0 : dim);
    sp_free(product);
    return info ? sp_lapack_failed(dim, info) : SP_OK;
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
    for (int64_t i = 0; i < count && !info; i++)
        *out += values[i];
    sp_free(values);
    return info ? sp_lapack_failed(count, info) : SP_OK;
}

static sp_status trace_by_singular_values(const sp_linear_algebra *la, const normal *a, const normal *b, double *out)
{
    int dim = (int)a->dim;
    *out = 0;
    if (!a->rank || !b->rank) return SP_OK;
    double *product = sp_alloc((size_t)(a->rank * b->rank) * sizeof *product);
    if (!product) return SP_MEMORY;
    la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)a->rank, (int)b->rank, dim, 1, a->root, dim, b->root, dim,
              0, product, (int)b->rank);
    sp_status status = singular_sum(la, product, a->rank, b->rank, out);
    sp_free(product);
    return status;
}

static sp_status trace_of_root(const sp_linear_algebra *la, normal *a, normal *b, double *out)
{
    bool full_a, full_b;
    SP_TRY(try_cholesky(la, a, &full_a));
    SP_TRY(try_cholesky(la, b, &full_b));
    if (full_a && full_b) return trace_by_eigenvalues(la, a->root, b->covariance, a->dim, out);
    SP_TRY(finish_root(la, a, full_a));
    SP_TRY(finish_root(la, b, full_b));
    return trace_by_singular_values(la, a, b, out);
}

/* ---- distances ---- */

static sp_status distance(const sp_linear_algebra *la, const sp_frechet_side *a, const sp_frechet_side *b, double *out)
{
    normal one = {0}, two = {0};
    double root = 0, apart = 0;
    sp_status status = normal_of(la, a, &one);
    if (!status) status = normal_of(la, b, &two);
    if (!status) status = trace_of_root(la, &one, &two, &root);
    for (int64_t i = 0; i < one.dim && !status; i++)
        apart += (one.mean[i] - two.mean[i]) * (one.mean[i] - two.mean[i]);
    *out = fmax(apart + one.trace + two.trace - 2 * root, 0);
    normal_free(&one);
    normal_free(&two);
    return status;
}

static sp_status check_side(const sp_frechet_side *side, int64_t *dim)
{
    *dim = side->features ? side->features->shape.dim[1] : side->gaussian->dim;
    return side->features ? check(side->features) : SP_OK;
}

sp_status sp_frechet_of_sides(const sp_frechet_side *a, const sp_frechet_side *b, double *out)
{
    const sp_linear_algebra *la;
    int64_t dim_a, dim_b;
    SP_TRY(check_side(a, &dim_a));
    SP_TRY(check_side(b, &dim_b));
    if (dim_a != dim_b)
        return sp_fail(SP_SHAPE, "features have different widths, %lld and %lld", (long long)dim_a, (long long)dim_b);
    SP_TRY(sp_linear_algebra_get(&la));
    sp_library_threads();
    return distance(la, a, b, out);
}

sp_status sp_frechet_distance(const sp_tensor *a, const sp_tensor *b, double *out)
{
    const sp_frechet_side one = {.features = a}, two = {.features = b};
    return sp_frechet_of_sides(&one, &two, out);
}
