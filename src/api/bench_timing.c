/* Repeating. */
#include <stdlib.h>

#include "api/bench.h"

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
