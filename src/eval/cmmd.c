/* CMMD: what the first terms of the exponential give by moments, and the rest over blocks of products. */
#include "eval/cmmd.h"
#include <math.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"

enum { ROWS = 512, COLUMNS = 2048 };
static const double square_sigma = 100, scale = 1000;

typedef struct {
    const sp_tensor *set;
    int64_t count;
    double *factor; /* [count]: 1 over a row's length */
} side;

typedef struct {
    const sp_linear_algebra *la;
    const sp_callbacks *callbacks;
    side a, b;
    int64_t dim, done, total;      /* rows, for the bar */
    float *x, *y, *product;        /* [ROWS,D], [COLUMNS,D], [ROWS,COLUMNS] */
    double *wide, *mean, *square;  /* [ROWS,D], [D], [D,D]: mu_a - mu_b, the lower half of S_a - S_b */
    double *row;                   /* [ROWS] */
} measure;

/* ---- rows of length 1 ---- */

static const float *row_of(const side *s, int64_t i)
{
    return (const float *)s->set->data + i * s->set->shape.dim[1];
}

static sp_status find_lengths(side *s, int64_t dim)
{
    s->count = s->set->shape.dim[0];
    s->factor = sp_alloc((size_t)s->count * sizeof *s->factor);
    if (!s->factor) return SP_MEMORY;
    for (int64_t i = 0; i < s->count; i++) {
        const float *x = row_of(s, i);
        double square = 0;
        for (int64_t j = 0; j < dim; j++)
            square += (double)x[j] * (double)x[j];
        if (!isfinite(square)) SP_TRY(sp_tensor_check_finite(s->set, "embeddings"));
        if (square == 0)
            return sp_fail(SP_NUMERIC, "embedding %lld is 0, and has no direction", (long long)i);
        s->factor[i] = 1 / sqrt(square);
    }
    return SP_OK;
}

typedef struct {
    const side *s;
    int64_t first, dim;
    double *wide; /* either of these */
    float *narrow;
} scaled;

static void scale_rows(void *context, int64_t begin, int64_t end)
{
    const scaled *c = context;
    for (int64_t i = begin; i < end; i++) {
        const float *x = row_of(c->s, c->first + i);
        double factor = c->s->factor[c->first + i];
        for (int64_t j = 0; j < c->dim && c->wide; j++)
            c->wide[i * c->dim + j] = factor * (double)x[j];
        for (int64_t j = 0; j < c->dim && c->narrow; j++)
            c->narrow[i * c->dim + j] = (float)(factor * (double)x[j]);
    }
}

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- moments ---- */

/* Adds share times the sums of rows and of their squares. */
static void add_moments(measure *m, const side *s, double share)
{
    int dim = (int)m->dim;
    for (int64_t first = 0; first < s->count; first += ROWS) {
        int64_t count = least_of(s->count - first, ROWS);
        scaled c = {s, first, m->dim, m->wide, NULL};
        sp_parallel_for(count, 8, scale_rows, &c);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < m->dim; j++)
                m->mean[j] += share * m->wide[i * m->dim + j];
        m->la->dsyrk(CblasRowMajor, CblasLower, CblasTrans, dim, (int)count, share, m->wide, dim, 1, m->square, dim);
    }
}

static double of_moments(measure *m)
{
    double mean = 0, square = 0;
    add_moments(m, &m->a, 1 / (double)m->a.count);
    add_moments(m, &m->b, -1 / (double)m->b.count);
    for (int64_t i = 0; i < m->dim; i++) {
        mean += m->mean[i] * m->mean[i];
        for (int64_t j = 0; j <= i; j++)
            square += (j < i ? 2 : 1) * m->square[i * m->dim + j] * m->square[i * m->dim + j];
    }
    return mean / square_sigma + square / (2 * square_sigma * square_sigma);
}

/* ---- the rest ---- */

typedef struct {
    measure *m;
    int64_t columns, diagonal; /* row i meets itself in column i + diagonal, and is counted from there on; or -ROWS: in
                                  none, and all count */
} block;

/* exp(u) - 1 - u - u^2/2, to 1e-14 of itself. */
static inline double rest_of(float product)
{
    double u = (double)product / square_sigma;
    return u * u * u / 6 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6 * (1 + u / 7))));
}

static void sum_rows(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    for (int64_t i = begin; i < end; i++) {
        const float *product = b->m->product + i * COLUMNS;
        int64_t first = b->diagonal + i < 0 ? 0 : b->diagonal + i + 1;
        double sum = 0;
        for (int64_t j = first; j < b->columns; j++)
            sum += rest_of(product[j]);
        if (b->diagonal + i >= 0 && b->diagonal + i < b->columns) sum += rest_of(product[b->diagonal + i]) / 2;
        b->m->row[i] = sum;
    }
}

static double block_sum(measure *m, int64_t rows, const side *to, int64_t column, int64_t diagonal)
{
    int dim = (int)m->dim;
    block b = {m, least_of(to->count - column, COLUMNS), diagonal};
    scaled c = {to, column, m->dim, NULL, m->y};
    double sum = 0;
    sp_parallel_for(b.columns, 8, scale_rows, &c);
    m->la->sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)b.columns, dim, 1, m->x, dim, m->y, dim, 0,
                 m->product, COLUMNS);
    sp_parallel_for(rows, 8, sum_rows, &b);
    for (int64_t i = 0; i < rows; i++)
        sum += m->row[i];
    return sum;
}

/* *out: the mean over pairs; of a set with itself each pair is looked at once. */
static sp_status mean_rest(measure *m, const side *of, const side *to, double *out)
{
    bool own = of == to;
    *out = 0;
    for (int64_t first = 0; first < of->count; first += ROWS) {
        int64_t rows = least_of(of->count - first, ROWS);
        scaled c = {of, first, m->dim, NULL, m->x};
        SP_TRY(sp_check_cancelled(m->callbacks));
        sp_parallel_for(rows, 8, scale_rows, &c);
        for (int64_t column = own ? first : 0; column < to->count; column += COLUMNS)
            *out += (own ? 2 : 1) * block_sum(m, rows, to, column, own && column == first ? 0 : -ROWS);
        m->done += rows;
        sp_report(m->callbacks, "pairs of embeddings", m->done, m->total, NULL);
    }
    *out /= (double)of->count * (double)to->count;
    return SP_OK;
}

/* ---- all ---- */

static sp_status check(const measure *m)
{
    const sp_shape *a = &m->a.set->shape, *b = &m->b.set->shape;
    if (a->rank != 2 || b->rank != 2 || a->dim[1] != b->dim[1] || a->dim[1] < 1)
        return sp_fail(SP_SHAPE, "embeddings %s and %s have different widths", sp_shape_text(*a), sp_shape_text(*b));
    if (a->dim[0] < 1 || b->dim[0] < 1)
        return sp_fail(SP_SHAPE, "embeddings %s or %s are none", sp_shape_text(*a), sp_shape_text(*b));
    return SP_OK;
}

static sp_status allocate(measure *m)
{
    m->x = sp_alloc((size_t)(ROWS * m->dim) * sizeof *m->x);
    m->y = sp_alloc((size_t)(COLUMNS * m->dim) * sizeof *m->y);
    m->product = sp_alloc((size_t)ROWS * COLUMNS * sizeof *m->product);
    m->wide = sp_alloc((size_t)(ROWS * m->dim) * sizeof *m->wide);
    m->mean = sp_alloc_zero((size_t)m->dim * sizeof *m->mean);
    m->square = sp_alloc_zero((size_t)(m->dim * m->dim) * sizeof *m->square);
    m->row = sp_alloc(ROWS * sizeof *m->row);
    return m->x && m->y && m->product && m->wide && m->mean && m->square && m->row ? SP_OK : SP_MEMORY;
}

static void release(measure *m)
{
    float *const narrow[] = {m->x, m->y, m->product};
    double *const wide[] = {m->wide, m->mean, m->square, m->row, m->a.factor, m->b.factor};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        sp_free(narrow[i]);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        sp_free(wide[i]);
}

static sp_status run(measure *m, double *out)
{
    double aa, bb, ab;
    m->total = 2 * m->a.count + m->b.count;
    sp_library_threads();
    SP_TRY(mean_rest(m, &m->a, &m->a, &aa));
    SP_TRY(mean_rest(m, &m->b, &m->b, &bb));
    SP_TRY(mean_rest(m, &m->a, &m->b, &ab));
    *out = scale * exp(-1 / square_sigma) * (of_moments(m) + aa + bb - 2 * ab);
    return SP_OK;
}

sp_status sp_cmmd(const sp_tensor *a, const sp_tensor *b, const sp_callbacks *callbacks, double *out)
{
    measure m = {.callbacks = callbacks, .a.set = a, .b.set = b, .dim = a->shape.dim[1]};
    SP_TRY(check(&m));
    SP_TRY(sp_linear_algebra_get(&m.la));
    sp_status status = find_lengths(&m.a, m.dim);
    if (!status) status = find_lengths(&m.b, m.dim);
    if (!status) status = allocate(&m);
    if (!status) status = run(&m, out);
    release(&m);
    return status;
}
