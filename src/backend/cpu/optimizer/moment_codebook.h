/* The codebooks of 8-bit moments (tensor/dtype.h), one register of elements at a time. For the
 * optimiser's kernels alone: compiled once per instruction set, equal bits from all.
 *
 * Both codebooks are one curve. A magnitude's rank p is first - 1 for 0, then decade i has the n = first
 * 2^i ranks from n on, and 128 first is 1:
 *   value(p) = 10^(i-6) (.1 + .9 ((p + .5) / n - 1))
 * The first moment's code is 127 +- p with first = 1, the second's is p - 1 with first = 2. Decades
 * are found by comparing, and what they need lies in tables of eight that fit a register. */
#ifndef SP_BACKEND_CPU_OPTIMIZER_MOMENT_CODEBOOK_H
#define SP_BACKEND_CPU_OPTIMIZER_MOMENT_CODEBOOK_H
#include <stdint.h>
#include <string.h>
#include <immintrin.h>

#if defined __AVX512F__
enum { SP_WIDTH = 16 };
#elif defined __AVX2__
enum { SP_WIDTH = 8 };
#else
enum { SP_WIDTH = 4 };
#endif
typedef float sp_floats __attribute__((vector_size(4 * SP_WIDTH)));
typedef int32_t sp_ints __attribute__((vector_size(4 * SP_WIDTH)));

/* (decade i, its power of ten, its values n) */
#define SP_DECADES(X, first)                                                                       \
    X(0, 1e-6, (first))                                                                            \
    X(1, 1e-5, (2 * first))                                                                        \
    X(2, 1e-4, (4 * first))                                                                        \
    X(3, 1e-3, (8 * first))                                                                        \
    X(4, 1e-2, (16 * first))                                                                       \
    X(5, 1e-1, (32 * first))                                                                       \
    X(6, 1e-0, (64 * first))

typedef struct {
    int first;
    float slope[8], offset[8];              /* by the exponent of p, less 127, modulo 8 */
    float edge[8];                          /* half way to the last value before a decade */
    float inverse[8], low[8], most[8], top; /* by decade; 7: below the first */
} sp_moment_codebook;

#define SP_SLOPE(i, power, n) (float)(power * 0.9 / n)
#define SP_OFFSET(i, power, n) (float)(power * (0.45 / n - 0.8))
#define SP_EDGE(i, power, n) (float)(i ? power * (0.1 + 0.18 / n) : power * (0.05 + 0.225 / n)),
#define SP_INVERSE(i, power, n) (float)(n / (0.9 * power)),
#define SP_LOW(i, power, n) (float)(n * 8 / 9.0),
#define SP_MOST(i, power, n) (float)(2 * n - 1),
#define SP_AT_FIRST(of, i, power, n) [(i + 7) % 8] = of(i, power, n),
#define SP_FIRST_SLOPE(i, power, n) SP_AT_FIRST(SP_SLOPE, i, power, n)
#define SP_FIRST_OFFSET(i, power, n) SP_AT_FIRST(SP_OFFSET, i, power, n)
#define SP_SECOND_SLOPE(i, power, n) SP_SLOPE(i, power, n),
#define SP_SECOND_OFFSET(i, power, n) SP_OFFSET(i, power, n),
#define SP_CODEBOOK(of_slope, of_offset, one, values)                                              \
    {                                                                                              \
        .first = values, .slope = {SP_DECADES(of_slope, values)[one] = 0},                         \
        .offset = {SP_DECADES(of_offset, values)[one] = 1},                                        \
        .edge = {SP_DECADES(SP_EDGE, values) 2}, .inverse = {SP_DECADES(SP_INVERSE, values) 0},    \
        .low = {SP_DECADES(SP_LOW, values) values - 1},                                            \
        .most = {SP_DECADES(SP_MOST, values) values - 1},                                          \
        .top = (float)(1 - 0.225 / (64 * values)),                                                 \
    }
static const sp_moment_codebook sp_first_codebook = SP_CODEBOOK(SP_FIRST_SLOPE, SP_FIRST_OFFSET, 6, 1),
                           sp_second_codebook = SP_CODEBOOK(SP_SECOND_SLOPE, SP_SECOND_OFFSET, 7, 2);

static inline sp_floats sp_all(float x)
{
    return x - (sp_floats){0};
}

/* mask ? a : b, lane by lane */
static inline sp_floats sp_choose(sp_ints mask, sp_floats a, sp_floats b)
{
    return (sp_floats)(((sp_ints)a & mask) | ((sp_ints)b & ~mask));
}

/* table[index modulo 8] */
static inline sp_floats sp_pick(const float table[8], sp_ints index)
{
#if defined __AVX512F__
    __m512 twice = _mm512_broadcast_f32x8(_mm256_loadu_ps(table));
    return (sp_floats)_mm512_permutexvar_ps((__m512i)index, twice);
#elif defined __AVX2__
    return (sp_floats)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
#else
    sp_floats out;
    for (int lane = 0; lane < SP_WIDTH; lane++)
        out[lane] = table[index[lane] & 7];
    return out;
#endif
}

/* The values of ranks. */
static inline sp_floats sp_value_of(const sp_moment_codebook *codebook, sp_ints rank)
{
    sp_floats p = __builtin_convertvector(rank, sp_floats);
    sp_ints exponent = (sp_ints)p >> 23; /* 127 is 7 modulo 8 */
    sp_floats value = sp_pick(codebook->slope, exponent) * p + sp_pick(codebook->offset, exponent);
    return sp_choose(rank >= codebook->first, value, sp_all(0));
}

/* The ranks whose values are nearest to x in 0..1. A decade begins half way between its first value
 * and the last one before it; in it the rank is floor(x / slope + 8/9 n). */
static inline sp_ints sp_nearest_rank(const sp_moment_codebook *codebook, sp_floats x)
{
    /* A float's bits are nearly its logarithm, at most .026 decades below it; the edges lie up to
     * .44 decades above the powers of ten. So half a decade less is that of x or the one before. */
    const float per_bit = 0.30103f / (1 << 23);
    sp_floats bits = __builtin_convertvector((sp_ints)x, sp_floats);
    sp_ints decade =
        __builtin_convertvector(bits * per_bit + (7.5f - 127 * (1 << 23) * per_bit), sp_ints);
    decade &= ~(decade >> 31);
    decade = decade - 1 - (x > sp_pick(codebook->edge, decade)); /* true is -1 */
    sp_floats p = x * sp_pick(codebook->inverse, decade) + sp_pick(codebook->low, decade),
              most = sp_pick(codebook->most, decade);
    p = sp_choose(p < most, p, most);
    p = sp_choose(x > codebook->top, sp_all((float)(128 * codebook->first)), p);
    return __builtin_convertvector(p, sp_ints);
}

/* GCC converts these vectors one lane after the other, so the instructions are named. */
static inline sp_ints sp_load_codes(const uint8_t *from)
{
#if defined __AVX512F__
    return (sp_ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined __AVX2__
    return (sp_ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    return (sp_ints)_mm_cvtepu8_epi32(_mm_loadu_si32(from));
#endif
}

static inline void sp_store_codes(uint8_t *to, sp_ints values)
{
#if defined __AVX512F__
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)values));
#elif defined __AVX2__
    __m128i low = _mm256_castsi256_si128((__m256i)values),
            high = _mm256_extracti128_si256((__m256i)values, 1),
            words = _mm_packus_epi32(low, high);
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
#else
    __m128i words = _mm_packus_epi32((__m128i)values, (__m128i)values);
    _mm_storeu_si32(to, _mm_packus_epi16(words, words));
#endif
}

#endif
