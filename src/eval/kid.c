/* KID: three products of two subsets each time, and sums of cubes. */
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
    int64_t dim, *order;         /* [the larger count] */
    double *x, *y, *product, *estimate; /* [size,dim] twice, [size,size], [subsets] */
} kid;

static void draw(const kid *k, sp_torch_generator *generator, const sp_tensor *from, double *to)
{
    const float *rows = from->data;
    sp_numpy_permutation(generator, k->order, from->shape.dim[0]);
    for (int64_t i = 0; i < k->o.size; i++)
        for (int64_t j = 0; j < k->dim; j++)
            to[i * k->dim + j] = (double)rows[k->order[i] * k->dim + j];
}

/* The sum of k(x_i, y_j); `apart`: of i != j alone. */
static double kernel_sum(const kid *k, const double *x, const double *y, bool apart)
{
    int n = (int)k->o.size, dim = (int)k->dim;
    double sum = 0;
    k->la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, dim, 1.0 / (double)dim, x, dim, y, dim, 0, k->product,
                 n);
    for (int64_t i = 0; i < n; i++) {
        double row = 0;
        for (int64_t j = 0; j < n; j++) {
            double v = k->product[i * n + j] + 1;
            if (!apart || i != j) row += v * v * v;
        }
        sum += row;
    }
    return sum;
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
        k->estimate[s] = (kernel_sum(k, k->x, k->x, true) + kernel_sum(k, k->y, k->y, true)) / pairs -
                         2 * kernel_sum(k, k->x, k->y, false) / all;
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
    k.estimate = sp_alloc((size_t)k.o.subsets * sizeof *k.estimate);
    sp_status status = k.order && k.x && k.y && k.product && k.estimate ? SP_OK : SP_MEMORY;
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
    sp_free(k.estimate);
    return status;
}
