/* Vectors as wide as the instruction set has them, and the functions that the kernels take of them.
 * Without FMA the products are rounded; nothing here relies on their not being so. NaN goes in, NaN
 * comes out. */
#ifndef SP_BACKEND_CPU_VECTOR_MATH_H
#define SP_BACKEND_CPU_VECTOR_MATH_H
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "tensor/dtype.h"

#if defined(__AVX512F__)
#define SP_LANES 16
#elif defined(__AVX2__)
#define SP_LANES 8
#else
#define SP_LANES 4
#endif
#define SP_INLINE static inline __attribute__((always_inline))

typedef float sp_vf __attribute__((vector_size(4 * SP_LANES)));
typedef int32_t sp_vi __attribute__((vector_size(4 * SP_LANES)));
typedef uint32_t sp_vu __attribute__((vector_size(4 * SP_LANES)));
typedef uint16_t sp_vh __attribute__((vector_size(2 * SP_LANES)));

SP_INLINE sp_vf sp_vf_set(float x)
{
    return x - (sp_vf){0}; /* 0 - 0 and -0 - 0 keep their signs, which x + 0 would not */
}

SP_INLINE sp_vf sp_vf_load(const float *p)
{
    sp_vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

SP_INLINE void sp_vf_store(float *p, sp_vf v)
{
    memcpy(p, &v, sizeof v);
}

/* Past the caches, for what nothing reads soon; p is a multiple of the vector's size, and a fence
 * (_mm_sfence) comes before another thread may read. */
SP_INLINE void sp_vf_stream(float *p, sp_vf v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(p, (__m256)v);
#else
    _mm_stream_ps(p, (__m128)v);
#endif
}

/* The first `count` < SP_LANES lanes; zero in the others. */
SP_INLINE sp_vf sp_vf_load_part(const float *p, int64_t count)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
    sp_vf v = {0};
    for (int64_t i = 0; i < count; i++)
        v[i] = p[i];
    return v;
#endif
}

SP_INLINE void sp_vf_store_part(float *p, sp_vf v, int64_t count)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
    for (int64_t i = 0; i < count; i++)
        p[i] = v[i];
#endif
}

/* Lane by lane a < b ? a : b and a > b ? a : b: the second operand where either is NaN. */
SP_INLINE sp_vf sp_vf_min(sp_vf a, sp_vf b)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (sp_vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (sp_vf)_mm_min_ps((__m128)a, (__m128)b);
#endif
}

SP_INLINE sp_vf sp_vf_max(sp_vf a, sp_vf b)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (sp_vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (sp_vf)_mm_max_ps((__m128)a, (__m128)b);
#endif
}

/* x < y ? a : b */
SP_INLINE sp_vf sp_vf_select_less(sp_vf x, sp_vf y, sp_vf a, sp_vf b)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_LT_OQ),
                                       (__m512)b, (__m512)a);
#elif defined(__AVX2__)
    return (sp_vf)_mm256_blendv_ps((__m256)b, (__m256)a,
                                   _mm256_cmp_ps((__m256)x, (__m256)y, _CMP_LT_OQ));
#else
    return (sp_vf)_mm_blendv_ps((__m128)b, (__m128)a, _mm_cmplt_ps((__m128)x, (__m128)y));
#endif
}

SP_INLINE sp_vf sp_vf_abs(sp_vf x)
{
    return (sp_vf)((sp_vi)x & 0x7fffffff);
}

SP_INLINE sp_vf sp_vf_round(sp_vf x)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return (sp_vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (sp_vf)_mm_round_ps((__m128)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
}

SP_INLINE sp_vf sp_vf_sqrt(sp_vf x)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (sp_vf)_mm256_sqrt_ps((__m256)x);
#else
    return (sp_vf)_mm_sqrt_ps((__m128)x);
#endif
}

/* p * 2^n for whole -300 < n < 300; in two steps, so that subnormal results and infinity come out. */
SP_INLINE sp_vf sp_vf_scale(sp_vf p, sp_vf n)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    sp_vi whole = __builtin_convertvector(n, sp_vi), half = whole >> 1;
    return p * (sp_vf)((half + 127) << 23) * (sp_vf)((whole - half + 127) << 23);
#endif
}

/* e^x to 1 ulp: x = n ln 2 + r, |r| <= ln(2)/2, and a polynomial fitted to e^r (relative error
 * 8e-9). */
SP_INLINE sp_vf sp_vf_exp(sp_vf x)
{
    x = sp_vf_min(sp_vf_set(89.0f), sp_vf_max(sp_vf_set(-104.0f), x)); /* infinity and 0 beyond */
    sp_vf n = sp_vf_round(x * 1.44269504f);
    sp_vf r = x - n * 0.693359375f; /* exact: 9 digits of ln 2 times 8 of n */
    r = r + n * 2.12194440e-4f;
    sp_vf p = 0.00139420646556f * r + 0.00836377618221f;
    p = p * r + 0.0416663646348f;
    p = p * r + 0.166665733607f;
    p = p * r + 0.50000000284f;
    p = p * (r * r) + r;
    return sp_vf_scale(p + 1.0f, n);
}

/* 2^x for x <= 0, to 1 ulp where the result is normal, 0 below 2^-126: for softmax, whose terms are
 * at most 1. */
SP_INLINE sp_vf sp_vf_exp2_negative(sp_vf x)
{
    x = sp_vf_max(sp_vf_set(-127.0f), x);
    sp_vf n = sp_vf_round(x), r = x - n;
    sp_vf p = 1.54709567089e-4f * r + 1.33920210992e-3f;
    p = p * r + 9.61802712883e-3f;
    p = p * r + 0.0555035491953f;
    p = p * r + 0.240226511059f;
    p = p * r + 0.693147188489f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return (sp_vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return p * (sp_vf)((__builtin_convertvector(n, sp_vi) + 127) << 23);
#endif
}

SP_INLINE sp_vf sp_vf_sigmoid(sp_vf x)
{
    return 1.0f / (1.0f + sp_vf_exp(-x));
}

/* The normal distribution function Phi(x) = (1 + erf(x / sqrt 2)) / 2, with small relative error in
 * the lower tail too, and its density: Phi(-|x|) = e^(-x^2/2) * u * P(u), u = 1 / (1 + 0.3 |x|), P
 * fitted on |x| <= 14.6 (relative error 4e-9). */
SP_INLINE sp_vf sp_vf_normal(sp_vf x, sp_vf *density)
{
    sp_vf a = sp_vf_abs(x);
    sp_vf bell = sp_vf_exp(-0.5f * x * x);
    sp_vf u = 1.0f / (1.0f + 0.3f * a);
    sp_vf p = -0.0206269248119f * u + 0.112454576409f;
    p = p * u - 0.228258657141f;
    p = p * u + 0.191845240829f;
    p = p * u - 0.0794744823486f;
    p = p * u + 0.0961844572255f;
    p = p * u + 0.0783800200566f;
    p = p * u + 0.110237502841f;
    p = p * u + 0.119571562406f;
    p = p * u + 0.119686702801f;
    sp_vf tail = bell * (u * p);
    *density = bell * 0.398942280f;
    return sp_vf_select_less(x, sp_vf_set(0.0f), tail, 1.0f - tail);
}

/* tanh x: an odd polynomial below 0.65 (relative error 3e-8), 1 - 2 / (e^2|x| + 1) above. */
SP_INLINE sp_vf sp_vf_tanh(sp_vf x)
{
    sp_vf a = sp_vf_abs(x), s = x * x;
    sp_vf p = -0.00594212022151f * s + 0.0208890419966f;
    p = p * s - 0.0538278876607f;
    p = p * s + 0.133326187765f;
    p = p * s - 0.333333274876f;
    sp_vf small = x + x * (s * p);
    sp_vf large = 1.0f - 2.0f / (sp_vf_exp(2.0f * a) + 1.0f);
    large = (sp_vf)((sp_vi)large | ((sp_vi)x & (int32_t)0x80000000));
    return sp_vf_select_less(a, sp_vf_set(0.65f), small, large);
}

/* log(1 + e^x) = max(x, 0) + log(1 + u), u = e^-|x|, with small relative error in the lower tail too: with
 * s = u/(2 + u), at most 1/3, log(1 + u) = 2 (s + s^3/3 + s^5/5 + ...), of which the terms up to s^15 leave 2e-9. */
SP_INLINE sp_vf sp_vf_softplus(sp_vf x)
{
    sp_vf u = sp_vf_exp(-sp_vf_abs(x)), s = u / (2.0f + u), q = s * s;
    sp_vf p = (1.0f / 15) * q + 1.0f / 13;
    p = p * q + 1.0f / 11;
    p = p * q + 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    return sp_vf_max(sp_vf_set(0.0f), x) + 2.0f * (s + s * (q * p));
}

/* What follows is for results that are rounded to bf16, whose neighbours are 4e-3 to 8e-3 apart. */

/* 2^x to 8e-5. */
SP_INLINE sp_vf sp_vf_exp2_brief(sp_vf x)
{
#if !defined(__AVX512F__)
    x = sp_vf_min(sp_vf_set(126.0f), sp_vf_max(sp_vf_set(-126.0f), x));
#endif
    sp_vf n = sp_vf_round(x), r = x - n;
    sp_vf p = 0.0551716694f * r + 0.242611122f;
    p = p * r + 0.693260985f;
    p = p * r + 0.999928074f;
#if defined(__AVX512F__)
    return (sp_vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return p * (sp_vf)((__builtin_convertvector(n, sp_vi) + 127) << 23);
#endif
}

/* 1 / x to 7e-5. */
SP_INLINE sp_vf sp_vf_reciprocal_brief(sp_vf x)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_rcp14_ps((__m512)x);
#else
    return 1.0f / x;
#endif
}

SP_INLINE sp_vf sp_vf_sigmoid_brief(sp_vf x)
{
    return sp_vf_reciprocal_brief(1.0f + sp_vf_exp2_brief(-1.44269504f * x));
}

/* Either, for results that are rounded to bf16 (half) or not. */
SP_INLINE sp_vf sp_vf_sigmoid_as(sp_vf x, const bool half)
{
    return half ? sp_vf_sigmoid_brief(x) : sp_vf_sigmoid(x);
}

/* The normal distribution function to 6e-4 for |x| <= 5, and to 1e-7 absolutely beyond: a sigmoid
 * of an odd polynomial, whose relative error is small in the lower tail too. */
SP_INLINE sp_vf sp_vf_normal_brief(sp_vf x)
{
    sp_vf s = sp_vf_min(sp_vf_set(25.0f), x * x);
    sp_vf p = 2.90200531e-8f * s - 2.05291505e-6f;
    p = p * s + 3.93148715e-5f;
    p = p * s + 8.47929849e-4f;
    p = p * s - 0.106873042f;
    p = p * s - 2.30063042f;
    return sp_vf_reciprocal_brief(1.0f + sp_vf_exp2_brief(p * x));
}

/* The sum of all lanes: of the upper and the lower half, and so on. */
SP_INLINE float sp_vf_sum(sp_vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v); /* in that order */
#else
    float lane[SP_LANES];
    memcpy(lane, &v, sizeof lane);
    for (int width = SP_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
#endif
}

SP_INLINE sp_vf sp_vf_load_bf16(const uint16_t *p)
{
    sp_vh h;
    memcpy(&h, p, sizeof h);
    /* The compilers' conversion takes four instructions where one will do. */
#if defined(__AVX512F__)
    return (sp_vf)((sp_vu)_mm512_cvtepu16_epi32((__m256i)h) << 16);
#elif defined(__AVX2__)
    return (sp_vf)((sp_vu)_mm256_cvtepu16_epi32((__m128i)h) << 16);
#else
    return (sp_vf)(__builtin_convertvector(h, sp_vu) << 16);
#endif
}

/* Round to nearest even, NaN stays NaN. (The instruction of AVX512-BF16 takes subnormals for 0.) */
SP_INLINE sp_vh sp_vf_to_bf16(sp_vf v)
{
#if defined(__AVX512BF16__)
    return (sp_vh)_mm512_cvtneps_pbh((__m512)v);
#else
    sp_vu bits = (sp_vu)v;
    sp_vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    sp_vu nan = (sp_vu)((sp_vi)(bits & 0x7fffffff) > 0x7f800000);
    rounded = (rounded & ~nan) | (((bits >> 16) | 0x40) & nan);
    return __builtin_convertvector(rounded, sp_vh);
#endif
}

/* The same of f16. */
SP_INLINE sp_vf sp_vf_load_f16(const uint16_t *p)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)p));
#elif defined(__F16C__)
    return (sp_vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)p));
#else
    sp_vf v;
    for (int i = 0; i < SP_LANES; i++)
        v[i] = sp_f16_to_f32(p[i]);
    return v;
#endif
}

/* Whole numbers of eight bits. */
SP_INLINE sp_vf sp_vf_load_i8(const signed char *p)
{
#if defined(__AVX512F__)
    return (sp_vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i_u *)p)));
#elif defined(__AVX2__)
    return (sp_vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i_u *)p)));
#else
    sp_vf v;
    for (int i = 0; i < SP_LANES; i++)
        v[i] = (float)p[i];
    return v;
#endif
}

SP_INLINE sp_vh sp_vf_to_f16(sp_vf v)
{
#if defined(__AVX512F__)
    return (sp_vh)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
    return (sp_vh)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
    sp_vh h;
    for (int i = 0; i < SP_LANES; i++)
        h[i] = sp_f32_to_f16(v[i]);
    return h;
#endif
}

/* `even` and `odd` as bf16 side by side in each lane. */
SP_INLINE sp_vf sp_vf_pair_bf16(sp_vf even, sp_vf odd)
{
#if defined(__AVX512BF16__)
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512bh both = _mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    return (sp_vf)_mm512_permutexvar_epi16(order, (__m512i)both);
#else
    sp_vu low = __builtin_convertvector(sp_vf_to_bf16(even), sp_vu),
          high = __builtin_convertvector(sp_vf_to_bf16(odd), sp_vu);
    return (sp_vf)(low | high << 16);
#endif
}

/* Elements `at`.. of an array of bf16 (half) or f32, and the same where only `count` < SP_LANES of
 * them are there. */
SP_INLINE sp_vf sp_vf_load_as(const void *data, int64_t at, const bool half)
{
    return half ? sp_vf_load_bf16((const uint16_t *)data + at)
                : sp_vf_load((const float *)data + at);
}

SP_INLINE void sp_vf_store_as(void *data, int64_t at, sp_vf v, const bool half)
{
    if (half) {
        sp_vh h = sp_vf_to_bf16(v);
        memcpy((uint16_t *)data + at, &h, sizeof h);
    } else {
        sp_vf_store((float *)data + at, v);
    }
}

SP_INLINE sp_vf sp_vf_load_part_as(const void *data, int64_t at, int64_t count, const bool half)
{
    if (!half) return sp_vf_load_part((const float *)data + at, count);
#if defined(__AVX512F__)
    __m256i h =
        _mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), (const uint16_t *)data + at);
    return (sp_vf)((sp_vu)_mm512_cvtepu16_epi32(h) << 16);
#else
    uint16_t lane[SP_LANES] = {0};
    memcpy(lane, (const uint16_t *)data + at, (size_t)count * sizeof *lane);
    return sp_vf_load_bf16(lane);
#endif
}

SP_INLINE void sp_vf_store_part_as(void *data, int64_t at, sp_vf v, int64_t count, const bool half)
{
    if (half) {
        sp_vh h = sp_vf_to_bf16(v);
#if defined(__AVX512F__)
        _mm256_mask_storeu_epi16((uint16_t *)data + at, (__mmask16)((1u << count) - 1), (__m256i)h);
#else
        memcpy((uint16_t *)data + at, &h, (size_t)count * sizeof(uint16_t));
#endif
    } else {
        sp_vf_store_part((float *)data + at, v, count);
    }
}

/* Loads and stores at the end of a row, of which `left` > 0 elements remain. */
SP_INLINE sp_vf sp_vf_get(const void *data, int64_t at, int64_t left, const bool half)
{
    return left >= SP_LANES ? sp_vf_load_as(data, at, half)
                            : sp_vf_load_part_as(data, at, left, half);
}

SP_INLINE void sp_vf_put(void *data, int64_t at, sp_vf v, int64_t left, const bool half)
{
    if (left >= SP_LANES)
        sp_vf_store_as(data, at, v, half);
    else
        sp_vf_store_part_as(data, at, v, left, half);
}

/* memcpy for rows so short that a call would cost more than the copy. */
SP_INLINE void sp_row_copy(float *to, const float *from, int64_t count)
{
    int64_t i = 0;
    for (; i + SP_LANES <= count; i += SP_LANES)
        sp_vf_store(to + i, sp_vf_load(from + i));
    if (i < count) sp_vf_store_part(to + i, sp_vf_load_part(from + i, count - i), count - i);
}

/* Rows of floats and of bf16. */
SP_INLINE void sp_row_from_bf16(float *to, const uint16_t *from, int64_t count)
{
    int64_t i = 0;
    for (; i + SP_LANES <= count; i += SP_LANES)
        sp_vf_store(to + i, sp_vf_load_bf16(from + i));
    for (; i < count; i++)
        to[i] = sp_bf16_to_f32(from[i]);
}

SP_INLINE void sp_row_from_f16(float *to, const uint16_t *from, int64_t count)
{
    int64_t i = 0;
    for (; i + SP_LANES <= count; i += SP_LANES)
        sp_vf_store(to + i, sp_vf_load_f16(from + i));
    for (; i < count; i++)
        to[i] = sp_f16_to_f32(from[i]);
}

SP_INLINE void sp_row_to_bf16(uint16_t *to, const float *from, int64_t count)
{
    int64_t i = 0;
    for (; i + SP_LANES <= count; i += SP_LANES) {
        sp_vh h = sp_vf_to_bf16(sp_vf_load(from + i));
        memcpy(to + i, &h, sizeof h);
    }
    for (; i < count; i++)
        to[i] = sp_f32_to_bf16(from[i]);
}

/* Two rows of bf16 element by element side by side: to[c] = even[c] | odd[c] << 16; odd NULL:
 * zeros. */
SP_INLINE void sp_row_pair(uint32_t *to, const uint16_t *even, const uint16_t *odd, int64_t count)
{
    for (int64_t c = 0; c < count; c += SP_LANES) {
        sp_vu low = (sp_vu)sp_vf_get(even, c, count - c, true) >> 16;
        sp_vu high = odd ? (sp_vu)sp_vf_get(odd, c, count - c, true) : (sp_vu){0};
        sp_vf_put(to, c, (sp_vf)(low | high), count - c, false);
    }
}

#endif
