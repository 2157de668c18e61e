/* Repeating, and the ceilings. */
#include <stdlib.h>

#include "api/bench.h"
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "graph/plan.h"
#include "ops/ops.h"

enum { LEAST_RUNS = 3, MOST_RUNS = 50 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

sp_status sp_bench_median(sp_bench_body *body, void *context, double seconds,
                          const sp_callbacks *callbacks, double *median)
{
    double times[MOST_RUNS], spent = 0;
    int count = 0;
    SP_TRY(body(context));
    while (count < LEAST_RUNS || (count < MOST_RUNS && spent < seconds)) {
        SP_TRY(sp_check_cancelled(callbacks));
        double began = sp_now();
        SP_TRY(body(context));
        times[count] = sp_now() - began;
        spent += times[count++];
    }
    qsort(times, (size_t)count, sizeof *times, ascending);
    *median = count % 2 ? times[count / 2] : (times[count / 2 - 1] + times[count / 2]) / 2;
    return SP_OK;
}

/* ---- arithmetic: one large product ---- */

enum { PRODUCT_SIDE = 2048 };

static sp_status product_plan(sp_dtype storage, sp_plan **out)
{
    sp_builder *b;
    sp_graph *graph;
    SP_TRY(sp_builder_create(&b));
    sp_value *x =
        sp_input(b, "x", SP_F32, sp_shape_of(1, PRODUCT_SIDE, PRODUCT_SIDE), SP_RATE_STEP);
    sp_value *w = sp_input(b, "w", SP_F32, sp_shape_of(PRODUCT_SIDE, PRODUCT_SIDE), SP_RATE_RUN);
    sp_output(b, "y", sp_linear(b, x, w, NULL, NULL));
    sp_status status = sp_builder_finish(b, &graph);
    sp_builder_destroy(b);
    SP_TRY(status);
    return sp_plan_create(graph, sp_cpu_backend(), storage, out);
}

/* Of the product alone, without the casts around it; the best of some runs, as a ceiling should be.
 */
static sp_status best_product(sp_run *run, double *flops)
{
    enum { RUNS = 5 };
    *flops = 0;
    for (int i = 0; i < RUNS; i++) {
        sp_profile_row *rows;
        size_t count;
        sp_run_enable_profile(run, i > 0); /* the first one packs */
        SP_TRY(sp_run_execute(run));
        SP_TRY(sp_run_profile(run, &rows, &count));
        for (size_t r = 0; r < count && i > 0; r++)
            if (rows[r].seconds > 0 && rows[r].flops / rows[r].seconds > *flops)
                *flops = rows[r].flops / rows[r].seconds;
        sp_free(rows);
    }
    return SP_OK;
}

static sp_status set_ones(sp_run *run, const char *name, sp_shape shape)
{
    sp_tensor tensor;
    SP_TRY(sp_tensor_create(SP_F32, shape, &tensor));
    for (int64_t i = 0; i < sp_tensor_count(&tensor); i++)
        ((float *)tensor.data)[i] = (float)(i % 7) * 0.25f;
    sp_status status = sp_run_set_input(run, name, &tensor);
    sp_tensor_free(&tensor);
    return status;
}

static sp_status product_flops(sp_dtype storage, double *flops)
{
    sp_plan *plan;
    sp_run *run = NULL;
    SP_TRY(product_plan(storage, &plan));
    sp_status status = sp_run_create(plan, &run);
    if (!status) status = set_ones(run, "x", sp_shape_of(1, PRODUCT_SIDE, PRODUCT_SIDE));
    if (!status) status = set_ones(run, "w", sp_shape_of(PRODUCT_SIDE, PRODUCT_SIDE));
    if (!status) status = best_product(run, flops);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    return status;
}

/* ---- memory: a = b + s c over arrays that no cache holds (McCalpin's triad) ---- */

typedef struct {
    float *a, *b, *c;
} triad_arrays;
enum { TRIAD_COUNT = 1 << 25 };

static void triad_range(void *context, int64_t begin, int64_t end)
{
    triad_arrays *t = context;
    for (int64_t i = begin; i < end; i++)
        t->a[i] = t->b[i] + 0.5f * t->c[i];
}

static sp_status triad(void *context)
{
    sp_parallel_for(TRIAD_COUNT, 1 << 12, triad_range, context);
    return SP_OK;
}

static sp_status memory_bytes(const sp_callbacks *callbacks, double *bytes)
{
    size_t size = TRIAD_COUNT * sizeof(float);
    triad_arrays t = {sp_alloc_zero(size), sp_alloc_zero(size), sp_alloc_zero(size)};
    double seconds = 1;
    sp_status status = t.a && t.b && t.c ? SP_OK : SP_MEMORY;
    if (!status) status = sp_bench_median(triad, &t, 0.3, callbacks, &seconds);
    *bytes = 3 * (double)size / seconds;
    sp_free(t.a);
    sp_free(t.b);
    sp_free(t.c);
    return status;
}

sp_status sp_bench_ceiling(const sp_callbacks *callbacks, sp_ceiling *out)
{
    *out = (sp_ceiling){0};
    SP_TRY(product_flops(SP_F32, &out->f32_flops));
    SP_TRY(product_flops(SP_BF16, &out->bf16_flops));
    return memory_bytes(callbacks, &out->bytes);
}

double sp_bench_share(const sp_ceiling *ceiling, bool bf16, double flops, double bytes,
                      double seconds)
{
    double peak = bf16 ? ceiling->bf16_flops : ceiling->f32_flops;
    double arithmetic = peak > 0 ? flops / peak : 0;
    double memory = ceiling->bytes > 0 ? bytes / ceiling->bytes : 0;
    return (arithmetic > memory ? arithmetic : memory) / seconds;
}
