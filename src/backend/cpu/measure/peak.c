/* What all threads together can do at best: arithmetic in registers, and memory by a walk over
 * arrays that no cache holds, a = b + s c (McCalpin's triad). */
#include "backend/cpu/measure/peak.h"
#include "backend/cpu/measure/peak_kernel.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernel_table.h"
#include "base/parallel.h"
#include "base/progress.h"

/* The best of some runs, as a peak should be: other work on the machine only takes away. */
enum { RUNS = 20, MAX_THREADS = 1024, TRIAD_COUNT = 1 << 24 };
static const double run_seconds = 0.002;

static const sp_peak_loops *loops(void)
{
    switch (sp_cpu_isa()) {
    case SP_ISA_AVX512_BF16:
        return &sp_peak_loops_avx512bf16;
    case SP_ISA_AVX512:
        return &sp_peak_loops_avx512;
    case SP_ISA_AVX2:
        return &sp_peak_loops_avx2;
    default:
        return &sp_peak_loops_baseline;
    }
}

typedef double arithmetic_loop(int64_t rounds, float *result);
typedef struct {
    arithmetic_loop *loop;
    double flops[MAX_THREADS]; /* per second */
    float result[MAX_THREADS]; /* kept, so that nothing can be left out */
} arithmetic;

static double run_arithmetic(arithmetic_loop *loop, int64_t rounds, float *result, double *seconds)
{
    double started = sp_now();
    double flops = loop(rounds, result);
    *seconds = sp_now() - started;
    return flops;
}

/* Each thread watches its own clock: one that has to wait for its core does not slow the others. */
static void arithmetic_range(void *context, int64_t begin, int64_t end)
{
    arithmetic *a = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t rounds = 1024;
        double seconds, best = 0;
        a->result[i] = 1e-3f;
        do {
            rounds *= 2;
            run_arithmetic(a->loop, rounds, &a->result[i], &seconds);
        } while (seconds < run_seconds);
        for (int run = 0; run < RUNS; run++) {
            double flops = run_arithmetic(a->loop, rounds, &a->result[i], &seconds);
            if (flops / seconds > best) best = flops / seconds;
        }
        a->flops[i] = best;
    }
}

static double measure_arithmetic(arithmetic_loop *loop)
{
    arithmetic a = {.loop = loop};
    int threads = sp_threads() < MAX_THREADS ? sp_threads() : MAX_THREADS;
    double sum = 0;
    sp_parallel_for(threads, 1, arithmetic_range, &a);
    for (int i = 0; i < threads; i++)
        sum += a.flops[i];
    return sum;
}

typedef struct {
    float *a, *b, *c;
} triad;

static void triad_range(void *context, int64_t begin, int64_t end)
{
    triad *t = context;
    for (int64_t i = begin; i < end; i++)
        t->a[i] = t->b[i] + 0.5f * t->c[i];
}

static double measure_memory(sp_device *device)
{
    size_t size = TRIAD_COUNT * sizeof(float);
    triad t = {device->allocate(device, size), device->allocate(device, size),
               device->allocate(device, size)};
    double best = 0;
    if (t.a && t.b && t.c) {
        for (int64_t i = 0; i < TRIAD_COUNT; i++)
            t.a[i] = t.b[i] = t.c[i] = 1;
        for (int i = 0; i < RUNS; i++) {
            double started = sp_now();
            sp_parallel_for(TRIAD_COUNT, 1 << 12, triad_range, &t);
            double bytes = 3 * (double)size / (sp_now() - started);
            if (bytes > best) best = bytes;
        }
    }
    device->release(device, t.a);
    device->release(device, t.b);
    device->release(device, t.c);
    return best;
}

void sp_cpu_measure_peak(sp_device *device, sp_peak *out)
{
    *out = (sp_peak){.f32_flops = measure_arithmetic(loops()->f32),
                     .bf16_flops = measure_arithmetic(sp_cpu_uses_amx() ? loops()->amx : loops()->bf16),
                     .bytes = measure_memory(device)};
}
