#include "ceiling.h"
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/progress.h"

double clock_seconds(int threads)
{
    struct timespec t;
    if (threads != 1 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return sp_now();
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#define STEPS 200000
#define SUMS 16 /* more than latency times throughput of any processor so far */
#define MEMORY ((size_t)96 << 20)

#define WITH_AVX512 __attribute__((target("avx512f,avx512bf16")))

static double best_of(void (*work)(void), int runs)
{
    double best = INFINITY;
    for (int run = 0; run < runs; run++) {
        double start = clock_seconds(1);
        work();
        best = fmin(best, clock_seconds(1) - start);
    }
    return best;
}

static volatile float sink;

WITH_AVX512 static void multiply_512(void)
{
    __m512 sum[SUMS], a = _mm512_set1_ps(sink);
    for (int i = 0; i < SUMS; i++)
        sum[i] = a;
    for (int k = 0; k < STEPS; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) {
            sum[i] = _mm512_fmadd_ps(a, a, sum[i]);
        }
    }
    for (int i = 0; i < SUMS; i++)
        sink += _mm512_cvtss_f32(sum[i]);
}

WITH_AVX512 static void multiply_pairs(void)
{
    __m512 sum[SUMS];
    __m512bh a = (__m512bh)_mm512_set1_ps(sink);
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_setzero_ps();
    for (int k = 0; k < STEPS; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) {
            sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
        }
    }
    for (int i = 0; i < SUMS; i++)
        sink += _mm512_cvtss_f32(sum[i]);
}

__attribute__((target("avx2,fma"))) static void multiply_256(void)
{
    __m256 sum[SUMS - 2], a = _mm256_set1_ps(sink);
    for (int i = 0; i < SUMS - 2; i++)
        sum[i] = a;
    for (int k = 0; k < STEPS; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS - 2; i++) {
            sum[i] = _mm256_fmadd_ps(a, a, sum[i]);
        }
    }
    for (int i = 0; i < SUMS - 2; i++)
        sink += _mm256_cvtss_f32(sum[i]);
}

static char *from, *to;

__attribute__((target("avx2"))) static void read_memory(void)
{
    __m256i sum[4] = {0};
    for (size_t i = 0; i < MEMORY; i += 128)
        for (int v = 0; v < 4; v++)
            sum[v] = _mm256_or_si256(sum[v], _mm256_loadu_si256((void *)(from + i + 32 * v)));
    __m256i all = _mm256_or_si256(_mm256_or_si256(sum[0], sum[1]), _mm256_or_si256(sum[2], sum[3]));
    sink += (float)_mm256_extract_epi32(all, 0);
}

static void copy_memory(void)
{
    memcpy(to, from, MEMORY);
    sink += (float)to[MEMORY / 2];
}

ceiling measure_ceiling(void)
{
    ceiling c = {0};
    __builtin_cpu_init();
    double work = 2.0 * STEPS * SUMS;
    if (__builtin_cpu_supports("avx512f"))
        c.f32 = 16 * work / best_of(multiply_512, 20) * 1e-9;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        c.f32 = 8 * work * (SUMS - 2) / SUMS / best_of(multiply_256, 20) * 1e-9;
    if (__builtin_cpu_supports("avx512bf16"))
        c.bf16 = 32 * work / best_of(multiply_pairs, 20) * 1e-9;
    from = malloc(MEMORY);
    to = malloc(MEMORY);
    if (from && to && __builtin_cpu_supports("avx2")) {
        memset(from, 1, MEMORY);
        memset(to, 1, MEMORY);
        c.read = (double)MEMORY / best_of(read_memory, 8) * 1e-9;
        c.copy = 2 * (double)MEMORY / best_of(copy_memory, 8) * 1e-9;
    }
    free(from);
    free(to);
    return c;
}
