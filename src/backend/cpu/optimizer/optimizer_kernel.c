/* AdamW on a piece of a tensor; compiled once per instruction set. */
#include <math.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/optimizer/moment_codebook.h"
#include "backend/cpu/optimizer/optimizer_kernel.h"

static void average(const sp_adamw_scalars *scalars, const float *restrict w, float *restrict ema, int64_t count)
{
    const sp_adamw_scalars s = *scalars;
    for (int64_t i = 0; i < count; i++)
        ema[i] = s.ema_decay * ema[i] + s.one_minus_ema_decay * w[i];
}

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
    if (ema) average(scalars, w, ema, count);
}

static void adamw(const sp_adamw_scalars *scalars, const sp_adamw_tensor *t, int64_t begin,
                  int64_t end)
{
    update(scalars, t->weight + begin, t->first.values + begin, t->second.values + begin,
           t->gradient + begin, t->ema ? t->ema + begin : NULL, end - begin);
}

/* ---- moments in 8 bits ---- */

enum { BLOCK = SP_DYNAMIC8_BLOCK, LANES = 32 };

static void decode(const uint8_t *first, float first_scale, const uint8_t *second,
                   float second_scale, float *m, float *v)
{
    for (int i = 0; i < BLOCK; i += SP_WIDTH) {
        sp_ints rank = sp_load_codes(first + i) - SP_DYNAMIC8_ZERO, negative = rank >> 31;
        sp_floats value = sp_value_of(&sp_first_codebook, (rank ^ negative) - negative) * first_scale;
        value = (sp_floats)((sp_ints)value ^ (negative << 31));
        memcpy(m + i, &value, sizeof value);
        value = sp_value_of(&sp_second_codebook, sp_load_codes(second + i) + 1) * second_scale;
        memcpy(v + i, &value, sizeof value);
    }
}

/* The lanes are there for the compiler: a largest element does not depend on their number. */
static float largest(const float *x)
{
    float lanes[LANES] = {0}, most = 0;
    for (int i = 0; i < BLOCK; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float a = fabsf(x[i + lane]);
            lanes[lane] = a > lanes[lane] ? a : lanes[lane];
        }
    for (int lane = 0; lane < LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

/* A block of zeros has the scale 0. Below the clamp, which keeps the inverse finite, codes are of
 * numbers too small to matter. */
static float inverse_of(float scale)
{
    return 1 / (scale > 1e-38f ? scale : 1e-38f);
}

static void encode(const float *m, const float *v, float first_inverse, float second_inverse,
                   uint8_t *first, uint8_t *second)
{
    for (int i = 0; i < BLOCK; i += SP_WIDTH) {
        sp_floats value;
        memcpy(&value, m + i, sizeof value);
        value *= first_inverse;
        sp_ints negative = (sp_ints)value >> 31;
        sp_floats magnitude = (sp_floats)((sp_ints)value & INT32_MAX);
        sp_ints rank = sp_nearest_rank(&sp_first_codebook, magnitude);
        /* The codebook has no -1: rank 128 there is 127. */
        rank += negative & (rank > SP_DYNAMIC8_ZERO);
        sp_store_codes(first + i, SP_DYNAMIC8_ZERO + ((rank ^ negative) - negative));
        memcpy(&value, v + i, sizeof value);
        sp_store_codes(second + i, sp_nearest_rank(&sp_second_codebook, value * second_inverse) - 1);
    }
}

/* The first `count` elements of block b, which are all that the tensor has of it. */
static void update_block(const sp_adamw_scalars *scalars, const sp_adamw_tensor *t, int64_t b, int64_t count)
{
    float m[BLOCK], v[BLOCK];
    float *first_scale = t->first.scales + b, *second_scale = t->second.scales + b;
    int64_t i = b * BLOCK;
    uint8_t *first = t->first.codes + i, *second = t->second.codes + i;
    decode(first, *first_scale, second, *second_scale, m, v);
    update(scalars, t->weight + i, m, v, t->gradient + i, t->ema ? t->ema + i : NULL, count);
    *first_scale = largest(m);
    *second_scale = largest(v);
    encode(m, v, inverse_of(*first_scale), inverse_of(*second_scale), first, second);
}

static void adamw8bit(const sp_adamw_scalars *scalars, const sp_adamw_tensor *t, int64_t begin,
                      int64_t end)
{
    for (int64_t i = begin; i < end; i += BLOCK)
        update_block(scalars, t, i / BLOCK, end - i < BLOCK ? end - i : BLOCK);
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

const sp_optimizer_loops SP_ISA_SYMBOL(sp_optimizer_loops) = {adamw, adamw8bit, sum_of_squares, average};
