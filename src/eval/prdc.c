/* Precision, recall, density and coverage, over blocks of distances. */
#include "eval/prdc.h"
#include <math.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"

enum { ROWS = 256, COLUMNS = 1024 };
/* How far a squared distance that is made of products may be off, relative to the squares it is made of. */
#define ROUNDING 1e-11
/* Neighbours kept beyond the k-th, for the order of products is not that of differences. */
enum { SPARE = 8 };

typedef struct {
    const sp_tensor *set;
    int64_t count;
    double *square, *radius; /* [count]; of squared distances */
    double *least;           /* [count,nearest + SPARE], ascending: the nearest so far; NULL once radii are known */
    int64_t *who;            /* the same: whose */
} side;

typedef struct {
    const sp_linear_algebra *la;
    const sp_callbacks *callbacks;
    side drawn, real;
    int64_t dim, nearest, done, total; /* rows, for the bar */
    double *x, *y, *product;           /* [ROWS,D], [COLUMNS,D], [ROWS,COLUMNS] */
    sp_prdc *out;
} measure;

/* Squared distances of some rows of one side to some of another, in `product`. */
typedef struct {
    measure *m;
    side *of, *to;
    int64_t first, rows, column, columns;
} block;

/* ---- distances ---- */

static const float *row_of(const sp_tensor *set, int64_t i)
{
    return (const float *)set->data + i * set->shape.dim[1];
}

static double exact(const float *a, const float *b, int64_t dim)
{
    double sum = 0;
    for (int64_t i = 0; i < dim; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct {
    const float *from;
    double *to;
    int64_t dim;
} rows;

static void widen_rows(void *context, int64_t begin, int64_t end)
{
    const rows *r = context;
    for (int64_t i = begin * r->dim; i < end * r->dim; i++)
        r->to[i] = (double)r->from[i];
}

static void widen(const side *s, int64_t first, int64_t count, double *out)
{
    rows r = {row_of(s->set, first), out, s->set->shape.dim[1]};
    sp_parallel_for(count, 8, widen_rows, &r);
}

static void square_rows(void *context, int64_t begin, int64_t end)
{
    const side *s = context;
    for (int64_t i = begin; i < end; i++) {
        const float *x = row_of(s->set, i);
        s->square[i] = 0;
        for (int64_t j = 0; j < s->set->shape.dim[1]; j++)
            s->square[i] += (double)x[j] * (double)x[j];
    }
}

static void add_squares(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    const double *columns = b->to->square + b->column;
    for (int64_t i = begin; i < end; i++) {
        double *product = b->m->product + i * COLUMNS, row = b->of->square[b->first + i];
        for (int64_t j = 0; j < b->columns; j++)
            product[j] += row + columns[j];
    }
}

/* The rows are in x. */
static void distances(block *b)
{
    const measure *m = b->m;
    int dim = (int)m->dim;
    widen(b->to, b->column, b->columns, m->y);
    m->la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)b->rows, (int)b->columns, dim, -2, m->x, dim, m->y, dim,
                 0, m->product, COLUMNS);
    sp_parallel_for(b->rows, 8, add_squares, b);
}

static sp_status advance(measure *m, int64_t count)
{
    m->done += count;
    sp_report(m->callbacks, "nearest pictures", m->done, m->total, NULL);
    return sp_check_cancelled(m->callbacks);
}

/* ---- radii ---- */

/* Into the ascending list, if it is smaller than the last. */
static void keep(const block *b, int64_t row, double value, int64_t index)
{
    int64_t length = b->m->nearest + SPARE, at = length - 1;
    double *least = b->of->least + row * length;
    int64_t *who = b->of->who + row * length;
    if (!(value < least[at])) return;
    for (; at > 0 && value < least[at - 1]; at--) {
        least[at] = least[at - 1];
        who[at] = who[at - 1];
    }
    least[at] = value;
    who[at] = index;
}

static void keep_of_rows(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    int64_t last = b->m->nearest + SPARE - 1;
    for (int64_t i = begin; i < end; i++) {
        const double *product = b->m->product + i * COLUMNS, *bar = b->of->least + (b->first + i) * (last + 1) + last;
        for (int64_t j = 0; j < b->columns; j++)
            if (product[j] < *bar && b->first + i != b->column + j) keep(b, b->first + i, product[j], b->column + j);
    }
}

/* The same distances seen from the columns, which are rows that this block does not have. */
static void keep_of_columns(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    for (int64_t i = 0; i < b->rows; i++)
        for (int64_t j = begin; j < end; j++)
            if (b->column + j >= b->first + b->rows)
                keep(b, b->column + j, b->m->product[i * COLUMNS + j], b->first + i);
}

/* The k-th smallest, once those on the list are summed from differences. */
static double radius(const measure *m, const side *s, int64_t row)
{
    int64_t length = m->nearest + SPARE;
    double *least = s->least + row * length;
    const int64_t *who = s->who + row * length;
    for (int64_t i = 0; i < length; i++)
        least[i] = who[i] < 0 ? INFINITY : exact(row_of(s->set, row), row_of(s->set, who[i]), m->dim);
    for (int64_t i = 0; i < m->nearest; i++)
        for (int64_t j = i + 1; j < length; j++)
            if (least[j] < least[i]) {
                double held = least[i];
                least[i] = least[j];
                least[j] = held;
            }
    return least[m->nearest - 1];
}

static void find_radii(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    for (int64_t i = begin; i < end; i++)
        b->of->radius[i] = radius(b->m, b->of, i);
}

/* Each pair of blocks once, since distances are symmetric. */
static sp_status all_distances(measure *m, side *s)
{
    for (int64_t first = 0; first < s->count; first += ROWS) {
        int64_t count = least_of(s->count - first, ROWS);
        widen(s, first, count, m->x);
        for (int64_t column = first; column < s->count; column += COLUMNS) {
            block b = {m, s, s, first, count, column, least_of(s->count - column, COLUMNS)};
            distances(&b);
            sp_parallel_for(count, 8, keep_of_rows, &b);
            sp_parallel_for(b.columns, 64, keep_of_columns, &b);
        }
        SP_TRY(advance(m, count));
    }
    return SP_OK;
}

static sp_status radii(measure *m, side *s)
{
    int64_t length = m->nearest + SPARE;
    s->least = sp_alloc((size_t)(s->count * length) * sizeof *s->least);
    s->who = sp_alloc((size_t)(s->count * length) * sizeof *s->who);
    sp_status status = s->least && s->who ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < s->count * length && !status; i++) {
        s->least[i] = INFINITY;
        s->who[i] = -1;
    }
    block all = {.m = m, .of = s};
    if (!status) status = all_distances(m, s);
    if (!status) sp_parallel_for(s->count, 8, find_radii, &all);
    sp_free(s->least);
    sp_free(s->who);
    s->least = NULL;
    s->who = NULL;
    return status;
}

/* ---- who is within whose radius ---- */

static bool within(const block *b, int64_t i, int64_t j, double radius)
{
    int64_t real = b->first + i, drawn = b->column + j;
    double distance = b->m->product[i * COLUMNS + j];
    if (fabs(distance - radius) <= ROUNDING * (b->of->square[real] + b->to->square[drawn]))
        distance = exact(row_of(b->of->set, real), row_of(b->to->set, drawn), b->m->dim);
    return distance < radius;
}

static void compare_rows(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    for (int64_t i = begin; i < end; i++) {
        double *coverage = &b->m->out->terms[SP_PRDC_COVERAGE][b->first + i];
        double *recall = &b->m->out->terms[SP_PRDC_RECALL][b->first + i];
        for (int64_t j = 0; j < b->columns && *coverage == 0; j++)
            *coverage = within(b, i, j, b->of->radius[b->first + i]);
        for (int64_t j = 0; j < b->columns && *recall == 0; j++)
            *recall = within(b, i, j, b->to->radius[b->column + j]);
    }
}

static void compare_columns(void *context, int64_t begin, int64_t end)
{
    const block *b = context;
    for (int64_t i = 0; i < b->rows; i++)
        for (int64_t j = begin; j < end; j++) {
            if (!within(b, i, j, b->of->radius[b->first + i])) continue;
            b->m->out->terms[SP_PRDC_PRECISION][b->column + j] = 1;
            b->m->out->terms[SP_PRDC_DENSITY][b->column + j] += 1 / (double)b->m->nearest;
        }
}

static sp_status compare_all(measure *m)
{
    for (int64_t first = 0; first < m->real.count; first += ROWS) {
        int64_t count = least_of(m->real.count - first, ROWS);
        widen(&m->real, first, count, m->x);
        for (int64_t column = 0; column < m->drawn.count; column += COLUMNS) {
            block b = {m, &m->real, &m->drawn, first, count, column, least_of(m->drawn.count - column, COLUMNS)};
            distances(&b);
            sp_parallel_for(count, 8, compare_rows, &b);
            sp_parallel_for(b.columns, 64, compare_columns, &b);
        }
        SP_TRY(advance(m, count));
    }
    return SP_OK;
}

/* ---- all ---- */

static sp_status check(const measure *m)
{
    const sp_shape *a = &m->drawn.set->shape, *b = &m->real.set->shape;
    if (a->rank != 2 || b->rank != 2 || a->dim[1] != b->dim[1] || a->dim[1] < 1)
        return sp_fail(SP_SHAPE, "features %s and %s have different widths", sp_shape_text(*a), sp_shape_text(*b));
    if (m->nearest < 1 || m->nearest >= a->dim[0] || m->nearest >= b->dim[0])
        return sp_fail(SP_SHAPE, "there is no nearest picture number %lld among %lld or %lld", (long long)m->nearest,
                       (long long)a->dim[0], (long long)b->dim[0]);
    SP_TRY(sp_tensor_check_finite(m->drawn.set, "features"));
    return sp_tensor_check_finite(m->real.set, "features");
}

static bool allocate_side(side *s)
{
    s->square = sp_alloc((size_t)s->count * sizeof *s->square);
    s->radius = sp_alloc((size_t)s->count * sizeof *s->radius);
    return s->square && s->radius;
}

static sp_status allocate(measure *m)
{
    bool all = allocate_side(&m->drawn) && allocate_side(&m->real);
    double **const places[] = {&m->x, &m->y, &m->product};
    const int64_t sizes[] = {ROWS * m->dim, COLUMNS * m->dim, ROWS * COLUMNS};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        all = (*places[i] = sp_alloc((size_t)sizes[i] * sizeof(double))) && all;
    for (int i = 0; i < SP_PRDC_COUNT; i++) {
        m->out->count[i] = i == SP_PRDC_PRECISION || i == SP_PRDC_DENSITY ? m->drawn.count : m->real.count;
        all = (m->out->terms[i] = sp_alloc_zero((size_t)m->out->count[i] * sizeof(double))) && all;
    }
    return all ? SP_OK : SP_MEMORY;
}

static void release(measure *m)
{
    double *const all[] = {m->drawn.square, m->drawn.radius, m->real.square, m->real.radius, m->x, m->y, m->product};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sp_free(all[i]);
}

static sp_status run(measure *m)
{
    sp_library_threads();
    sp_parallel_for(m->drawn.count, 8, square_rows, &m->drawn);
    sp_parallel_for(m->real.count, 8, square_rows, &m->real);
    SP_TRY(radii(m, &m->drawn));
    SP_TRY(radii(m, &m->real));
    return compare_all(m);
}

sp_status sp_prdc_of(const sp_tensor *drawn, const sp_tensor *real, int64_t nearest, const sp_callbacks *callbacks,
                     sp_prdc *out)
{
    measure m = {.callbacks = callbacks, .dim = real->shape.dim[1], .nearest = nearest, .out = out,
                 .drawn = {.set = drawn, .count = drawn->shape.dim[0]},
                 .real = {.set = real, .count = real->shape.dim[0]}};
    *out = (sp_prdc){0};
    SP_TRY(check(&m));
    SP_TRY(sp_linear_algebra_get(&m.la));
    m.total = m.drawn.count + 2 * m.real.count;
    sp_status status = allocate(&m);
    if (!status) status = run(&m);
    release(&m);
    for (int i = 0; i < SP_PRDC_COUNT && !status; i++) {
        for (int64_t j = 0; j < out->count[i]; j++)
            out->mean[i] += out->terms[i][j];
        out->mean[i] /= (double)out->count[i];
    }
    if (status) sp_prdc_free(out);
    return status;
}

void sp_prdc_free(sp_prdc *prdc)
{
    for (int i = 0; i < SP_PRDC_COUNT; i++)
        sp_free(prdc->terms[i]);
    *prdc = (sp_prdc){0};
}
