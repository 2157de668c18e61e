/* What one core can do at most: a yardstick for the other programs of this folder. */
#ifndef SPLAM_BENCH_CEILING_H
#define SPLAM_BENCH_CEILING_H

/* Seconds of this thread where one thread is measured, which other work does not disturb as much as
 * it does the wall clock; else of the wall. */
double clock_seconds(int threads);

/* Of one core, measured: products in f32 and of bf16 pairs in GFLOP/s (0 where there is no
 * instruction for them), reading and copying of memory in GB/s. */
typedef struct {
    double f32, bf16, read, copy;
} ceiling;
ceiling measure_ceiling(void);

#endif
