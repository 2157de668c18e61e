/* Repeating. */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double sp_bench_median(const sp_bench_times *times)
{
    double sorted[SP_BENCH_MOST_RUNS];
    int half = times->count / 2;
    if (!times->count) return 0;
    memcpy(sorted, times->run, (size_t)times->count * sizeof *sorted);
    qsort(sorted, (size_t)times->count, sizeof *sorted, ascending);
    return times->count % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

sp_status sp_bench_repeat(sp_bench_body *body, void *context, double seconds,
                          const sp_callbacks *callbacks, sp_bench_times *out)
{
    double spent = 0;
    *out = (sp_bench_times){0};
    SP_TRY(body(context));
    while (out->count < SP_BENCH_LEAST_RUNS ||
           (out->count < SP_BENCH_MOST_RUNS && spent < seconds)) {
        SP_TRY(sp_check_cancelled(callbacks));
        double began = sp_now();
        SP_TRY(body(context));
        spent += out->run[out->count++] = sp_now() - began;
    }
    return SP_OK;
}
