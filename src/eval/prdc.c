/* Precision, recall, density and coverage, over blocks of distances. */
#include "eval/prdc.h"
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"

enum { ROWS = 256, COLUMNS = 1024 };
/* How far a squared distance that is made of products may be off, relative to the squares it is made of. */
#define ROUNDING 1e-11
/* Neighbours kept beyond the k-th, for the order of products is not that of differences. */
enum { SPARE = 8 };

typedef struct {
    const sp_linear_algebra *la;
    const sp_callbacks *callbacks;
    const sp_tensor *drawn, *real;
    int64_t dim, nearest, done, total; /* rows, for the bar */
    double *drawn_square, *real_square, *drawn_radius, *real_radius; /* squared, one a picture */
    double *x, *y, *product;                                         /* [ROWS,D], [COLUMNS,D], [ROWS,COLUMNS] */
    double *least;                                                   /* [ROWS,nearest + SPARE], ascending */
    int64_t *who;                                                    /* the same: whose */
} measure;

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

static void widen(const sp_tensor *set, int64_t first, int64_t count, double *out)
{
    const float *from = row_of(set, first);
    for (int64_t i = 0; i < count * set->shape.dim[1]; i++)
        out[i] = (double)from[i];
}

static void square(const sp_tensor *set, double *out)
{
    for (int64_t i = 0; i < set->shape.dim[0]; i++) {
        const float *x = row_of(set, i);
        out[i] = 0;
        for (int64_t j = 0; j < set->shape.dim[1]; j++)
            out[i] += (double)x[j] * (double)x[j];
    }
}

/* product: the squared distances of the rows in x to the columns from `first` on. */
static void distances(const measure *m, int64_t rows, const double *row_square, const sp_tensor *set, int64_t first,
                      int64_t columns, const double *column_square)
{
    int dim = (int)m->dim;
    widen(set, first, columns, m->y);
    m->la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)columns, dim, -2, m->x, dim, m->y, dim, 0,
                 m->product, COLUMNS);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            m->product[i * COLUMNS + j] += row_square[i] + column_square[first + j];
}

static sp_status advance(measure *m, int64_t rows)
{
    m->done += rows;
    sp_report(m->callbacks, "nearest pictures", m->done, m->total, NULL);
    return sp_check_cancelled(m->callbacks);
}

/* ---- radii ---- */

/* Into the ascending list, if it is smaller than the last. */
static void keep(double *least, int64_t *who, int64_t length, double value, int64_t index)
{
    if (!(value < least[length - 1])) return;
    int64_t at = length - 1;
    for (; at > 0 && value < least[at - 1]; at--) {
        least[at] = least[at - 1];
        who[at] = who[at - 1];
    }
    least[at] = value;
    who[at] = index;
}

/* The k-th smallest, once those on the list are summed from differences. */
static double radius(const measure *m, const sp_tensor *set, int64_t row, double *least, const int64_t *who,
                     int64_t length)
{
    for (int64_t i = 0; i < length; i++)
        least[i] = who[i] < 0 ? INFINITY : exact(row_of(set, row), row_of(set, who[i]), m->dim);
    for (int64_t i = 0; i < m->nearest; i++)
        for (int64_t j = i + 1; j < length; j++)
            if (least[j] < least[i]) {
                double held = least[i];
                least[i] = least[j];
                least[j] = held;
            }
    return least[m->nearest - 1];
}

static void radii_of_rows(const measure *m, const sp_tensor *set, const double *squares, int64_t first, int64_t rows,
                          double *out)
{
    int64_t count = set->shape.dim[0], length = m->nearest + SPARE;
    for (int64_t i = 0; i < rows * length; i++) {
        m->least[i] = INFINITY;
        m->who[i] = -1;
    }
    widen(set, first, rows, m->x);
    for (int64_t column = 0; column < count; column += COLUMNS) {
        int64_t columns = least_of(count - column, COLUMNS);
        distances(m, rows, squares + first, set, column, columns, squares);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                if (first + i != column + j)
                    keep(m->least + i * length, m->who + i * length, length, m->product[i * COLUMNS + j], column + j);
    }
    for (int64_t i = 0; i < rows; i++)
        out[first + i] = radius(m, set, first + i, m->least + i * length, m->who + i * length, length);
}

static sp_status radii(measure *m, const sp_tensor *set, const double *squares, double *out)
{
    int64_t count = set->shape.dim[0];
    for (int64_t first = 0; first < count; first += ROWS) {
        int64_t rows = least_of(count - first, ROWS);
        radii_of_rows(m, set, squares, first, rows, out);
        SP_TRY(advance(m, rows));
    }
    return SP_OK;
}

/* ---- who is within whose radius ---- */

static bool within(const measure *m, double distance, double radius, double squares, int64_t real, int64_t drawn)
{
    if (fabs(distance - radius) <= ROUNDING * squares)
        distance = exact(row_of(m->real, real), row_of(m->drawn, drawn), m->dim);
    return distance < radius;
}

static void compare(const measure *m, int64_t first, int64_t rows, int64_t column, int64_t columns, sp_prdc *out)
{
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = column; j < column + columns; j++) {
            double distance = m->product[(i - first) * COLUMNS + j - column];
            double squares = m->real_square[i] + m->drawn_square[j];
            if (within(m, distance, m->real_radius[i], squares, i, j)) {
                out->terms[SP_PRDC_PRECISION][j] = 1;
                out->terms[SP_PRDC_DENSITY][j] += 1 / (double)m->nearest;
                out->terms[SP_PRDC_COVERAGE][i] = 1;
            }
            if (within(m, distance, m->drawn_radius[j], squares, i, j)) out->terms[SP_PRDC_RECALL][i] = 1;
        }
}

static sp_status compare_all(measure *m, sp_prdc *out)
{
    int64_t real = m->real->shape.dim[0], drawn = m->drawn->shape.dim[0];
    for (int64_t first = 0; first < real; first += ROWS) {
        int64_t rows = least_of(real - first, ROWS);
        widen(m->real, first, rows, m->x);
        for (int64_t column = 0; column < drawn; column += COLUMNS) {
            int64_t columns = least_of(drawn - column, COLUMNS);
            distances(m, rows, m->real_square + first, m->drawn, column, columns, m->drawn_square);
            compare(m, first, rows, column, columns, out);
        }
        SP_TRY(advance(m, rows));
    }
    return SP_OK;
}

/* ---- all ---- */

static sp_status check(const measure *m)
{
    const sp_shape *a = &m->drawn->shape, *b = &m->real->shape;
    if (a->rank != 2 || b->rank != 2 || a->dim[1] != b->dim[1] || a->dim[1] < 1)
        return sp_fail(SP_SHAPE, "features %s and %s have different widths", sp_shape_text(*a), sp_shape_text(*b));
    if (m->nearest < 1 || m->nearest >= a->dim[0] || m->nearest >= b->dim[0])
        return sp_fail(SP_SHAPE, "there is no nearest picture number %lld among %lld or %lld", (long long)m->nearest,
                       (long long)a->dim[0], (long long)b->dim[0]);
    SP_TRY(sp_tensor_check_finite(m->drawn, "features"));
    return sp_tensor_check_finite(m->real, "features");
}

static sp_status allocate(measure *m, sp_prdc *out)
{
    int64_t drawn = m->drawn->shape.dim[0], real = m->real->shape.dim[0], length = m->nearest + SPARE;
    bool all = true;
    double **const places[] = {&m->drawn_square, &m->real_square, &m->drawn_radius, &m->real_radius,
                               &m->x,            &m->y,           &m->product,      &m->least};
    const int64_t sizes[] = {drawn, real, drawn, real, ROWS * m->dim, COLUMNS * m->dim, ROWS * COLUMNS, ROWS * length};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        all = (*places[i] = sp_alloc((size_t)sizes[i] * sizeof(double))) && all;
    m->who = sp_alloc((size_t)(ROWS * length) * sizeof *m->who);
    for (int i = 0; i < SP_PRDC_COUNT; i++) {
        out->count[i] = i == SP_PRDC_PRECISION || i == SP_PRDC_DENSITY ? drawn : real;
        all = (out->terms[i] = sp_alloc_zero((size_t)out->count[i] * sizeof(double))) && all;
    }
    return all && m->who ? SP_OK : SP_MEMORY;
}

static void release(measure *m)
{
    double *const all[] = {m->drawn_square, m->real_square, m->drawn_radius, m->real_radius,
                           m->x,            m->y,           m->product,      m->least};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sp_free(all[i]);
    sp_free(m->who);
}

sp_status sp_prdc_of(const sp_tensor *drawn, const sp_tensor *real, int64_t nearest, const sp_callbacks *callbacks,
                     sp_prdc *out)
{
    measure m = {.callbacks = callbacks, .drawn = drawn, .real = real, .dim = real->shape.dim[1], .nearest = nearest};
    *out = (sp_prdc){0};
    SP_TRY(check(&m));
    SP_TRY(sp_linear_algebra_get(&m.la));
    m.total = drawn->shape.dim[0] + 2 * real->shape.dim[0];
    sp_status status = allocate(&m, out);
    sp_library_threads();
    if (!status) square(drawn, m.drawn_square);
    if (!status) square(real, m.real_square);
    if (!status) status = radii(&m, drawn, m.drawn_square, m.drawn_radius);
    if (!status) status = radii(&m, real, m.real_square, m.real_radius);
    if (!status) status = compare_all(&m, out);
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
