/* Multiplications and additions in registers alone: what this instruction set can do at best. */
#include "backend/cpu/measure/peak_kernel.h"
#include "backend/cpu/kernel_table.h"
#ifdef __AVX512BF16__
#include "backend/cpu/vector/product/amx.h"
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

/* Four tiles of sums of two by two tiles of factors, as in products: 16 rows, 16 columns and 32 terms each. */
SP_AMX static double amx(int64_t rounds, float *result)
{
    float sums[16][16];
    sp_amx_set_shapes(16, 16);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t round = 0; round < rounds; round++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, sizeof sums[0]);
    _tile_release();
    *result += sums[0][0];
    return 4 * 2.0 * 16 * 16 * 32 * (double)rounds;
}
#else
#define bf16 f32 /* products of bf16 are made in f32 */
#define amx f32  /* never run */
#endif

const sp_peak_loops SP_ISA_SYMBOL(sp_peak_loops) = {f32, bf16, amx};
