#include <math.h>
#include <stdbool.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/optimizer_kernel.h"

/* AdamW on `count` elements whose moments are m and v. */
static inline void update(const sp_adamw_scalars *scalars, float *restrict w, float *restrict m,
                          float *restrict v, const float *restrict gradient, float *restrict ema,
                          int64_t count)
{
    const sp_adamw_scalars s = *scalars;
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * s.gradient_scale;
        float first = m[i] + s.one_minus_beta1 * (g - m[i]);
        float second = v[i] * s.beta2 + s.one_minus_beta2 * g * g;
        m[i] = first;
        v[i] = second;
        w[i] = w[i] * s.decay - s.step_size * first / (sqrtf(second) / s.correction + s.epsilon);
    }
    if (!ema) return;
    for (int64_t i = 0; i < count; i++)
        ema[i] = s.ema_decay * ema[i] + s.one_minus_ema_decay * w[i];
}

static void adamw(const sp_adamw_scalars *scalars, const sp_adamw_tensor *t, int64_t begin,
                  int64_t end)
{
    update(scalars, t->weight + begin, t->first.values + begin, t->second.values + begin,
           t->gradient + begin, t->ema ? t->ema + begin : NULL, end - begin);
}

/* ---- moments in 8 bits ----
 * Both maps are one curve, and neither way along it needs a table. A magnitude's rank p is first - 1
 * for 0, then decade i has the n = first 2^i ranks from n on, and 128 first is 1:
 *   value(p) = 10^(i-6) (.1 + .9 ((p + .5) / n - 1))
 * The first moment's code is 127 +- p with first = 1, the second's p - 1 with first = 2. */
enum { FIRST_OF_FIRST = 1, FIRST_OF_SECOND = 2, BLOCK = SP_MOMENT_BLOCK };

/* (decade i, its power of ten, its values n) */
#define DECADES(X)                                                                                 \
    X(0, 1e-6, first)                                                                              \
    X(1, 1e-5, 2 * first)                                                                          \
    X(2, 1e-4, 4 * first)                                                                          \
    X(3, 1e-3, 8 * first)                                                                          \
    X(4, 1e-2, 16 * first)                                                                         \
    X(5, 1e-1, 32 * first)                                                                         \
    X(6, 1e-0, 64 * first)

static inline float value_of(float p, int first)
{
    float slope = 0, offset = 0;
#define DECADE(i, power, n)                                                                        \
    slope = p >= (float)(n) ? (float)(power * 0.9 / (n)) : slope;                                  \
    offset = p >= (float)(n) ? (float)(power * (0.45 / (n)-0.8)) : offset;
    DECADES(DECADE)
#undef DECADE
    return p >= (float)(128 * first) ? 1 : slope * p + offset;
}

/* The rank whose value is nearest to x in 0..1. A decade begins half way between its first value and
 * the last one before it; in it the rank is floor(x / slope + 8/9 n). */
static inline int nearest_rank(float x, int first)
{
    float inverse = 0, low = (float)(first - 1), most = low;
#define DECADE(i, power, n)                                                                        \
    {                                                                                              \
        bool beyond = x > (float)(i ? power * (0.1 + 0.18 / (n)) : power * (0.05 + 0.225 / (n)));  \
        inverse = beyond ? (float)((n) / (0.9 * power)) : inverse;                                 \
        low = beyond ? (float)((n)*8 / 9.0) : low;                                                 \
        most = beyond ? (float)(2 * (n)-1) : most;                                                 \
    }
    DECADES(DECADE)
#undef DECADE
    float p = x * inverse + low;
    p = p < most ? p : most;
    return (int)(x > (float)(1 - 0.225 / (64 * first)) ? (float)(128 * first) : p);
}

static void decode(const uint8_t *restrict first, float first_scale, const uint8_t *restrict second,
                   float second_scale, float *restrict m, float *restrict v, int count)
{
    for (int i = 0; i < count; i++) {
        float rank = (float)((int)first[i] - SP_MOMENT_ZERO);
        float value = value_of(fabsf(rank), FIRST_OF_FIRST) * first_scale;
        m[i] = rank < 0 ? -value : value;
    }
    for (int i = 0; i < count; i++)
        v[i] = value_of((float)((int)second[i] + 1), FIRST_OF_SECOND) * second_scale;
}

/* The lanes are there for the compiler: a largest element does not depend on their number. */
enum { LANES = 32 };
static float largest(const float *x, int count)
{
    float lanes[LANES] = {0}, most = 0;
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float a = fabsf(x[i + lane]);
            lanes[lane] = a > lanes[lane] ? a : lanes[lane];
        }
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] = fabsf(x[i]) > lanes[lane] ? fabsf(x[i]) : lanes[lane];
    for (int lane = 0; lane < LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

static void encode(const float *restrict m, const float *restrict v, float first_scale,
                   float second_scale, uint8_t *restrict first, uint8_t *restrict second, int count)
{
    /* A block of zeros has the scale 0 and codes of 0. */
    float first_divisor = first_scale > 0 ? first_scale : 1,
          second_divisor = second_scale > 0 ? second_scale : 1;
    for (int i = 0; i < count; i++) {
        int rank = nearest_rank(fabsf(m[i]) / first_divisor, FIRST_OF_FIRST);
        /* The map has no -1: the lowest code is the last value before it. */
        int negative = rank < SP_MOMENT_ZERO ? -rank : -SP_MOMENT_ZERO;
        first[i] = (uint8_t)(SP_MOMENT_ZERO + (m[i] < 0 ? negative : rank));
    }
    for (int i = 0; i < count; i++)
        second[i] = (uint8_t)(nearest_rank(v[i] / second_divisor, FIRST_OF_SECOND) - 1);
}

static void adamw8bit(const sp_adamw_scalars *scalars, const sp_adamw_tensor *t, int64_t begin,
                      int64_t end)
{
    float m[BLOCK], v[BLOCK];
    for (int64_t i = begin; i < end; i += BLOCK) {
        int count = end - i < BLOCK ? (int)(end - i) : BLOCK;
        uint8_t *first = t->first.codes + i, *second = t->second.codes + i;
        float *first_scale = t->first.scales + i / BLOCK, *second_scale = t->second.scales + i / BLOCK;
        decode(first, *first_scale, second, *second_scale, m, v, count);
        update(scalars, t->weight + i, m, v, t->gradient + i, t->ema ? t->ema + i : NULL, count);
        *first_scale = largest(m, count);
        *second_scale = largest(v, count);
        encode(m, v, *first_scale, *second_scale, first, second, count);
    }
}

/* ---- norms ---- */

/* Lanes are part of the result's definition: the same sums whatever the width of the registers.
 * Squares of fp32 are exact in double. */
static double sum_of_squares(const float *x, int64_t count)
{
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)x[i + lane] * x[i + lane];
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] += (double)x[i] * x[i];
    for (int lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

const sp_optimizer_loops SP_ISA_SYMBOL(sp_optimizer_loops) = {adamw, adamw8bit, sum_of_squares};
