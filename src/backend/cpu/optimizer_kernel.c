#include <math.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/optimizer_kernel.h"

static void adamw(const sp_adamw_scalars *scalars, const sp_adamw_tensor *tensor, int64_t begin,
                  int64_t end)
{
    const sp_adamw_scalars s = *scalars;
    float *restrict w = tensor->weight, *restrict m = tensor->first_moment,
                    *restrict v = tensor->second_moment;
    const float *restrict gradient = tensor->gradient;
    for (int64_t i = begin; i < end; i++) {
        float g = gradient[i] * s.gradient_scale;
        float first = m[i] + s.one_minus_beta1 * (g - m[i]);
        float second = v[i] * s.beta2 + s.one_minus_beta2 * g * g;
        m[i] = first;
        v[i] = second;
        w[i] = w[i] * s.decay - s.step_size * first / (sqrtf(second) / s.correction + s.epsilon);
    }
    float *restrict ema = tensor->ema;
    if (!ema) return;
    for (int64_t i = begin; i < end; i++)
        ema[i] = s.ema_decay * ema[i] + s.one_minus_ema_decay * w[i];
}

/* Lanes are part of the result's definition: the same sums whatever the width of the registers.
 * Squares of fp32 are exact in double. */
#define LANES 32
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

const sp_optimizer_loops SP_ISA_SYMBOL(sp_optimizer_loops) = {adamw, sum_of_squares};
