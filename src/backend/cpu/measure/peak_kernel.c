/* Multiplications and additions in registers alone: what this instruction set can do at best. */
#include "backend/cpu/measure/peak_kernel.h"
#include "backend/cpu/kernel_table.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

/* Enough independent sums to fill two units of a latency of four, and to leave registers for the
 * factors. */
enum { SUMS = 12 };

#if defined(__AVX512F__)
enum { WIDTH = 16 };
#elif defined(__AVX__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float lanes __attribute__((vector_size(WIDTH * sizeof(float))));

static double f32(int64_t rounds, float *result)
{
    lanes sum[SUMS], x, y;
    for (int lane = 0; lane < WIDTH; lane++)
        x[lane] = 0.999f, y[lane] = *result;
    for (int i = 0; i < SUMS; i++)
        sum[i] = y + (float)i;
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < SUMS; i++)
            sum[i] = sum[i] * x + y;
    for (int i = 0; i < SUMS; i++)
        *result += sum[i][0];
    return 2.0 * WIDTH * SUMS * (double)rounds;
}

#ifdef __AVX512BF16__
static double bf16(int64_t rounds, float *result)
{
    __m512 sum[SUMS];
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(*result));
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], x, x);
    for (int i = 0; i < SUMS; i++)
        *result += _mm512_cvtss_f32(sum[i]);
    return 4.0 * WIDTH * SUMS * (double)rounds;
}
#else
#define bf16 f32 /* products of bf16 are made in f32 */
#endif

const sp_peak_loops SP_ISA_SYMBOL(sp_peak_loops) = {f32, bf16};
