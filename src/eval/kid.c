/* KID: the products of two subsets with themselves and with each other, and sums of cubes. */
#include "eval/kid.h"
#include <math.h>
#include "base/memory.h"
#include "base/parallel.h"
#include "eval/linear_algebra.h"
#include "eval/numpy_random.h"

typedef struct {
    const sp_linear_algebra *la;
    const sp_tensor *a, *b;
    sp_kid_options o;
    int64_t dim, *order;                       /* [the larger count] */
    double *x, *y, *product, *row, *estimate; /* [size,dim] twice, [size,size], [size], [subsets] */
} kid;

typedef struct {
    const kid *k;
    const float *from;
    double *to;
} copies;

static void copy_rows(void *context, int64_t begin, int64_t end)
{
    const copies *c = context;
    int64_t dim = c->k->dim;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < dim; j++)
            c->to[i * dim + j] = (double)c->from[c->k->order[i] * dim + j];
}

static void draw(const kid *k, sp_torch_generator *generator, const sp_tensor *from, double *to)
{
    copies c = {k, from->data, to};
    sp_numpy_permutation(generator, k->order, from->shape.dim[0]);
    sp_parallel_for(k->o.size, 16, copy_rows, &c);
}

static void sum_cubes(const double *product, int64_t count, double *sum)
{
    double all = 0;
    for (int64_t j = 0; j < count; j++) {
        double v = product[j] + 1;
        all += v * v * v;
    }
    *sum = all;
}

static void sum_rows(void *context, int64_t begin, int64_t end)
{
    const kid *k = context;
    for (int64_t i = begin; i < end; i++)
        sum_cubes(k->product + i * k->o.size, k->o.size, &k->row[i]);
}

/* What stands before the diagonal. */
static void sum_triangle(void *context, int64_t begin, int64_t end)
{
    const kid *k = context;
    for (int64_t i = begin; i < end; i++)
        sum_cubes(k->product + i * k->o.size, i, &k->row[i]);
}

static double sum_of_rows(kid *k, sp_range_function *body)
{
    double sum = 0;
    sp_parallel_for(k->o.size, 16, body, k);
    for (int64_t i = 0; i < k->o.size; i++)
        sum += k->row[i];
    return sum;
}

/* The sum of k(x_i, x_j), i != j. */
static double own_sum(kid *k, const double *x)
{
    int n = (int)k->o.size, dim = (int)k->dim;
    k->la->dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, n, dim, 1.0 / (double)dim, x, dim, 0, k->product, n);
    return 2 * sum_of_rows(k, sum_triangle);
}

static double cross_sum(kid *k)
{
    int n = (int)k->o.size, dim = (int)k->dim;
    k->la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, dim, 1.0 / (double)dim, k->x, dim, k->y, dim, 0,
                 k->product, n);
    return sum_of_rows(k, sum_rows);
}

static sp_status run(kid *k, const sp_callbacks *callbacks)
{
    sp_torch_generator generator;
    double pairs = (double)k->o.size * (double)(k->o.size - 1), all = (double)k->o.size * (double)k->o.size;
    sp_torch_seed(&generator, k->o.seed);
    for (int64_t s = 0; s < k->o.subsets; s++) {
        SP_TRY(sp_check_cancelled(callbacks));
        draw(k, &generator, k->a, k->x);
        draw(k, &generator, k->b, k->y);
        k->estimate[s] = (own_sum(k, k->x) + own_sum(k, k->y)) / pairs - 2 * cross_sum(k) / all;
        sp_report(callbacks, "kernel distance", s + 1, k->o.subsets, NULL);
    }
    return SP_OK;
}

static sp_status check(const kid *k)
{
    const sp_shape *a = &k->a->shape, *b = &k->b->shape;
    if (a->rank != 2 || b->rank != 2 || a->dim[1] != b->dim[1] || a->dim[1] < 1)
        return sp_fail(SP_SHAPE, "features %s and %s have different widths", sp_shape_text(*a), sp_shape_text(*b));
    if (k->o.size < 2 || k->o.size > a->dim[0] || k->o.size > b->dim[0])
        return sp_fail(SP_SHAPE, "subsets of %lld cannot be drawn of %lld and of %lld pictures",
                       (long long)k->o.size, (long long)a->dim[0], (long long)b->dim[0]);
    SP_TRY(sp_tensor_check_finite(k->a, "features"));
    return sp_tensor_check_finite(k->b, "features");
}

sp_status sp_kid(const sp_tensor *a, const sp_tensor *b, const sp_kid_options *options, const sp_callbacks *callbacks,
                 double *mean, double *deviation)
{
    kid k = {.a = a, .b = b, .o = *options, .dim = a->shape.dim[1]};
    SP_TRY(check(&k));
    SP_TRY(sp_linear_algebra_get(&k.la));
    int64_t most = a->shape.dim[0] > b->shape.dim[0] ? a->shape.dim[0] : b->shape.dim[0], n = k.o.size;
    k.order = sp_alloc((size_t)most * sizeof *k.order);
    k.x = sp_alloc((size_t)(n * k.dim) * sizeof *k.x);
    k.y = sp_alloc((size_t)(n * k.dim) * sizeof *k.y);
    k.product = sp_alloc((size_t)(n * n) * sizeof *k.product);
    k.row = sp_alloc((size_t)n * sizeof *k.row);
    k.estimate = sp_alloc((size_t)k.o.subsets * sizeof *k.estimate);
    sp_status status = k.order && k.x && k.y && k.product && k.row && k.estimate ? SP_OK : SP_MEMORY;
    sp_library_threads();
    if (!status) status = run(&k, callbacks);
    *mean = *deviation = 0;
    for (int64_t s = 0; s < k.o.subsets && !status; s++)
        *mean += k.estimate[s] / (double)k.o.subsets;
    for (int64_t s = 0; s < k.o.subsets && !status; s++)
        *deviation += (k.estimate[s] - *mean) * (k.estimate[s] - *mean) / (double)k.o.subsets;
    *deviation = sqrt(*deviation);
    sp_free(k.order);
    sp_free(k.x);
    sp_free(k.y);
    sp_free(k.product);
    sp_free(k.row);
    sp_free(k.estimate);
    return status;
}
