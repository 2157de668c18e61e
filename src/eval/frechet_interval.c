/* Intervals of Frechet distances by what each row and each pair of rows moves them by. */
#include "eval/frechet_interval.h"
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "base/random.h"
#include "eval/linear_algebra.h"

/* Rows at a time; pairs whose mean stands for that of all. */
enum { BLOCK = 2048, PAIRS = 2048 };

typedef struct {
    const sp_tensor *features; /* NULL: it is exact */
    sp_gaussian own;           /* of the features */
    const sp_gaussian *normal;
    double *map;               /* [rank,dim]: z to its coordinates */
} side;

typedef struct {
    const sp_linear_algebra *la;
    const sp_callbacks *callbacks;
    side side[2];
    int64_t dim, rank;
    double *s;      /* [rank] */
    double *c;      /* [rank,rank] */
    double *apart;  /* [dim]: mu_a - mu_b */
} expansion;

/* Rows of one side, less their mean, and their coordinates. */
typedef struct {
    double *z, *w; /* [rows,dim], [rows,rank] */
} rows;

/* ---- coordinates ---- */

static double square(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sum;
}

static void scale(double *x, int64_t count, double factor)
{
    for (int64_t i = 0; i < count; i++)
        x[i] *= factor;
}

/* out [m,n] = x [m,k] y [k,n], or of y [n,k] its transpose. */
static void multiply(const expansion *e, const double *x, const double *y, bool transposed, int64_t m, int64_t n,
                     int64_t k, double *out)
{
    if (!m || !n || !k) return;
    e->la->dgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1, x,
                 (int)k, y, (int)(transposed ? k : n), 0, out, (int)n);
}

/* product [count,count] = R C_b R^T. */
static sp_status product_of(const expansion *e, const double *root, int64_t count, double **out)
{
    double *half = sp_alloc((size_t)(count * e->dim) * sizeof *half);
    *out = sp_alloc((size_t)(count * count) * sizeof **out);
    sp_status status = half && *out ? SP_OK : SP_MEMORY;
    if (!status) {
        multiply(e, root, e->side[1].normal->covariance, false, count, e->dim, e->dim, half);
        multiply(e, half, root, true, count, count, e->dim, *out);
    }
    sp_free(half);
    return status;
}

/* q [rank,count]: eigenvectors u_i of R C_b R^T times s_i; root: R. Then w_i = u_i.(R z / l) of a, whose R has rows of
 * the squares l, and u_i.(R z) / s_i of b. Changes q and R. */
static sp_status make_maps(expansion *e, double *q, double *root, int64_t count)
{
    for (int k = 0; k < 2; k++) {
        e->side[k].map = sp_alloc_zero((size_t)(e->rank * e->dim) * sizeof(double));
        if (!e->side[k].map) return SP_MEMORY;
    }
    for (int64_t i = 0; i < e->rank; i++) {
        e->s[i] = sqrt(square(q + i * count, count));
        scale(q + i * count, count, 1 / (e->s[i] * e->s[i]));
    }
    multiply(e, q, root, false, e->rank, e->dim, count, e->side[1].map);
    for (int64_t i = 0; i < count; i++)
        scale(root + i * e->dim, e->dim, 1 / square(root + i * e->dim, e->dim));
    multiply(e, q, root, false, e->rank, e->dim, count, e->side[0].map);
    for (int64_t i = 0; i < e->rank; i++)
        scale(e->side[0].map + i * e->dim, e->dim, e->s[i]);
    return SP_OK;
}

static sp_status make_weights(expansion *e)
{
    int64_t rank = e->rank;
    e->c = sp_alloc((size_t)(rank * rank) * sizeof *e->c);
    for (int64_t i = 0; i < rank && e->c; i++)
        for (int64_t j = 0; j < rank; j++)
            e->c[i * rank + j] = e->s[i] * e->s[j] / (e->s[i] + e->s[j]);
    return e->c ? SP_OK : SP_MEMORY;
}

static sp_status find_coordinates(expansion *e, double *root, int64_t count)
{
    double *product = NULL, *q = NULL;
    sp_status status = product_of(e, root, count, &product);
    if (!status) status = sp_symmetric_root(e->la, product, count, &q, &e->rank);
    if (!status && !(e->s = sp_alloc((size_t)e->rank * sizeof *e->s))) status = SP_MEMORY;
    if (!status) status = make_maps(e, q, root, count);
    if (!status) status = make_weights(e);
    sp_free(product);
    sp_free(q);
    return status;
}

static sp_status open_side(const sp_frechet_side *from, side *out)
{
    out->features = from->features;
    out->normal = from->gaussian;
    if (!from->features) return SP_OK;
    SP_TRY(sp_gaussian_fit(from->features, &out->own));
    out->normal = &out->own;
    return SP_OK;
}

static sp_status expand(expansion *e)
{
    const sp_gaussian *a = e->side[0].normal, *b = e->side[1].normal;
    double *root;
    int64_t count;
    e->dim = a->dim;
    e->apart = sp_alloc((size_t)e->dim * sizeof *e->apart);
    if (!e->apart) return SP_MEMORY;
    for (int64_t i = 0; i < e->dim; i++)
        e->apart[i] = a->mean[i] - b->mean[i];
    SP_TRY(sp_symmetric_root(e->la, a->covariance, e->dim, &root, &count));
    sp_status status = sp_check_cancelled(e->callbacks);
    if (!status) status = find_coordinates(e, root, count);
    sp_free(root);
    return status ? status : sp_check_cancelled(e->callbacks);
}

static void expansion_free(expansion *e)
{
    for (int k = 0; k < 2; k++) {
        sp_gaussian_free(&e->side[k].own);
        sp_free(e->side[k].map);
    }
    sp_free(e->s);
    sp_free(e->c);
    sp_free(e->apart);
}

/* ---- rows ---- */

static sp_status rows_create(const expansion *e, int64_t count, rows *out)
{
    out->z = sp_alloc((size_t)(count * e->dim) * sizeof *out->z);
    out->w = sp_alloc((size_t)(count * e->rank) * sizeof *out->w);
    return out->z && out->w ? SP_OK : SP_MEMORY;
}

static void rows_free(rows *r)
{
    sp_free(r->z);
    sp_free(r->w);
}

/* Rows index[0..count-1], or first.. where it is NULL. */
static void take_rows(const expansion *e, const side *from, const uint32_t *index, int64_t first, int64_t count,
                      rows *out)
{
    for (int64_t k = 0; k < count; k++) {
        const float *x = (const float *)from->features->data + (index ? index[k] : first + k) * e->dim;
        for (int64_t i = 0; i < e->dim; i++)
            out->z[k * e->dim + i] = (double)x[i] - from->normal->mean[i];
    }
    multiply(e, out->z, from->map, true, count, e->rank, e->dim, out->w);
}

/* ---- the first order ---- */

static double influence(const expansion *e, double sign, const double *z, const double *w)
{
    double sum = 0;
    for (int64_t i = 0; i < e->dim; i++)
        sum += (2 * sign * e->apart[i] + z[i]) * z[i];
    for (int64_t i = 0; i < e->rank; i++)
        sum -= e->s[i] * w[i] * w[i];
    return sum;
}

static sp_status find_influences(const expansion *e, int which, rows *block, double *out)
{
    const side *from = &e->side[which];
    int64_t count = from->features->shape.dim[0];
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t n = count - first < BLOCK ? count - first : BLOCK;
        SP_TRY(sp_check_cancelled(e->callbacks));
        take_rows(e, from, NULL, first, n, block);
        for (int64_t k = 0; k < n; k++)
            out[first + k] = influence(e, which ? -1 : 1, block->z + k * e->dim, block->w + k * e->rank);
        sp_report(e->callbacks, "interval", first + n, count, NULL);
    }
    return SP_OK;
}

static double variance(const double *x, int64_t count)
{
    double mean = 0, sum = 0;
    for (int64_t i = 0; i < count; i++)
        mean += x[i] / (double)count;
    for (int64_t i = 0; i < count; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum / (double)(count - 1);
}

/* var(f)/count. */
static sp_status first_order(const expansion *e, int which, rows *block, double *out)
{
    int64_t count = e->side[which].features->shape.dim[0];
    double *f = sp_alloc((size_t)count * sizeof *f);
    sp_status status = f ? find_influences(e, which, block, f) : SP_MEMORY;
    if (!status) *out = variance(f, count) / (double)count;
    sp_free(f);
    return status;
}

/* ---- the second order ---- */

/* Rows of sides `one` and `two`; of one side never a row and itself. */
static void draw_pairs(int one, int64_t count, int two, int64_t other, uint32_t *first, uint32_t *second)
{
    bool same = one == two;
    uint64_t below = (uint64_t)(same ? other - 1 : other);
    sp_random_bits((sp_random_key){0, SP_STREAM_BOOTSTRAP, (uint64_t)one, 2 * (uint64_t)two}, first, PAIRS);
    sp_random_bits((sp_random_key){0, SP_STREAM_BOOTSTRAP, (uint64_t)one, 2 * (uint64_t)two + 1}, second, PAIRS);
    for (int k = 0; k < PAIRS; k++) {
        first[k] = (uint32_t)((uint64_t)first[k] * (uint64_t)count >> 32);
        second[k] = (uint32_t)((uint64_t)second[k] * below >> 32);
        if (same && second[k] >= first[k]) second[k]++;
    }
}

/* 2 g of a pair; u: w w', t: c u. */
static double pair_term(const expansion *e, const rows *x, const rows *y, int64_t k, const double *u, const double *t)
{
    const double *z = x->z + k * e->dim, *other_z = y->z + k * e->dim;
    const double *w = x->w + k * e->rank, *other_w = y->w + k * e->rank;
    double sum = 0;
    for (int64_t i = 0; i < e->dim; i++)
        sum += 2 * z[i] * other_z[i];
    for (int64_t i = 0; i < e->rank; i++)
        sum += u[i] * t[i] - e->s[i] / 2 * (w[i] * w[i] + other_w[i] * other_w[i] - 1);
    return sum;
}

/* The mean of (2 g)^2 over pairs. u, t [PAIRS,rank]. */
static double mean_square(const expansion *e, const rows *x, const rows *y, double *u, double *t)
{
    double sum = 0;
    for (int64_t i = 0; i < PAIRS * e->rank; i++)
        u[i] = x->w[i] * y->w[i];
    multiply(e, u, e->c, false, PAIRS, e->rank, e->rank, t);
    for (int64_t k = 0; k < PAIRS; k++) {
        double g = pair_term(e, x, y, k, u + k * e->rank, t + k * e->rank);
        sum += g * g / PAIRS;
    }
    return sum;
}

/* The variance of what pairs of sides `one` and `two` move the distance by. r: four of PAIRS rows. */
static double second_order(const expansion *e, int one, int two, rows *r)
{
    const side *x = &e->side[one], *y = &e->side[two];
    uint32_t first[PAIRS], second[PAIRS];
    if (!x->features || !y->features) return 0;
    int64_t count = x->features->shape.dim[0], other = y->features->shape.dim[0];
    draw_pairs(one, count, two, other, first, second);
    take_rows(e, x, first, 0, PAIRS, &r[0]);
    take_rows(e, y, second, 0, PAIRS, &r[1]);
    double mean = mean_square(e, &r[0], &r[1], r[2].w, r[3].w);
    return mean / ((one == two ? 2 : 1) * (double)count * (double)other);
}

/* ---- both ---- */

static sp_status find_variance(const expansion *e, rows *r, double *out)
{
    double first[2] = {0, 0};
    for (int k = 0; k < 2; k++)
        if (e->side[k].features) SP_TRY(first_order(e, k, &r[0], &first[k]));
    double whole = first[0] + first[1], twice = 0;
    static const int pairs[3][2] = {{0, 0}, {1, 1}, {0, 1}};
    for (int k = 0; k < 3; k++) {
        SP_TRY(sp_check_cancelled(e->callbacks));
        twice += second_order(e, pairs[k][0], pairs[k][1], r);
    }
    *out = fmax(whole - twice, whole / 2);
    return SP_OK;
}

static sp_status measure(expansion *e, double distance, sp_interval *out)
{
    enum { ROWS = BLOCK > PAIRS ? BLOCK : PAIRS };
    rows r[4] = {{0}};
    double found = 0;
    sp_status status = expand(e);
    for (int i = 0; i < 4 && !status; i++)
        status = rows_create(e, ROWS, &r[i]);
    if (!status) status = find_variance(e, r, &found);
    for (int i = 0; i < 4; i++)
        rows_free(&r[i]);
    double half = 1.959963984540054 * sqrt(found); /* of the normal distribution */
    *out = (sp_interval){distance - half, distance + half};
    return status;
}

sp_status sp_frechet_interval(const sp_frechet_side *a, const sp_frechet_side *b, double distance,
                              const sp_callbacks *callbacks, sp_interval *out)
{
    expansion e = {.callbacks = callbacks};
    *out = (sp_interval){0, 0};
    if (!a->features && !b->features)
        return sp_fail(SP_ARGUMENT, "an interval is of pictures or their features, and both sets are means and "
                       "covariances");
    SP_TRY(sp_linear_algebra_get(&e.la));
    sp_library_threads();
    sp_status status = open_side(a, &e.side[0]);
    if (!status) status = open_side(b, &e.side[1]);
    if (!status && e.side[0].normal->dim != e.side[1].normal->dim)
        status = sp_fail(SP_SHAPE, "features have different widths, %lld and %lld", (long long)e.side[0].normal->dim,
                         (long long)e.side[1].normal->dim);
    if (!status) status = measure(&e, distance, out);
    expansion_free(&e);
    return status;
}
