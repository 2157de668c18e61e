/* The clock of the programs in this folder. */
#ifndef SPLAM_BENCH_CLOCK_H
#define SPLAM_BENCH_CLOCK_H
#include <time.h>
#include "base/parallel.h"
#include "base/progress.h"

/* Seconds of this thread where one thread is measured, which other work does not disturb as much as
 * it does the wall clock; else of the wall. */
static inline double clock_seconds(void)
{
    struct timespec t;
    if (sp_threads() != 1 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return sp_now();
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
