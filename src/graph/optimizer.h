/* What a training loop needs of a device besides running graphs. */
#ifndef SP_GRAPH_OPTIMIZER_H
#define SP_GRAPH_OPTIMIZER_H
#include <stdint.h>

typedef struct sp_device sp_device;

/* AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW orders it. All in fp32 but the scalars,
 * which are found in double:
 *   g = gradient_scale * gradient
 *   w = w - learning_rate * weight_decay * w
 *   m = m + (1 - beta1) (g - m)
 *   v = beta2 v + (1 - beta2) g g
 *   w = w - learning_rate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
 *   ema = ema_decay ema + (1 - ema_decay) w */
typedef struct {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double gradient_scale; /* clipping and the mean over micro-batches */
    double ema_decay;      /* 0: ema becomes w */
    int64_t step;          /* from 1 */
} sp_adamw_options;

/* Moments in 8 bits (Dettmers, Lewis, Shleifer & Zettlemoyer 2022, arXiv 2110.02861): a block's
 * elements are its largest magnitude, the scale, times a value of a dynamic tree map; the step
 * itself is that in fp32. Per element of a block: decode, update, and the nearest code of the new
 * moment over the block's new scale. The maps, values of codes in rising order:
 *   first moment   -d_126 .. -d_0, 0, d_0 .. d_126, 1; decade i = 0..6 has 2^i values
 *   second moment  0, d_0 .. d_253, 1;                 decade i = 0..6 has 2^(i+1) values
 * where the n values of decade i are 10^(i-6) (.1 + .9 (k + .5) / n), k = 0..n-1. */
enum {
    SP_MOMENT_BLOCK = 256,
    SP_MOMENT_ZERO = 127 /* the first moment's code of 0; the second's is 0 */
};
static inline int64_t sp_moment_blocks(int64_t count)
{
    return (count + SP_MOMENT_BLOCK - 1) / SP_MOMENT_BLOCK;
}

/* A moment: `values` [count] f32, or `codes` [count] with `scales` [sp_moment_blocks(count)]. */
typedef struct {
    float *values;
    uint8_t *codes;
    float *scales;
} sp_moment;

/* Addresses are the device's. */
typedef struct {
    int64_t count;
    float *weight;           /* [count], updated */
    sp_moment first, second; /* of one kind, updated */
    const float *gradient;   /* [count] */
    float *ema;              /* [count], updated; NULL: none is kept */
} sp_adamw_tensor;

/* Both may return before the work is done (device.h). */
typedef struct {
    /* One step of one parameter. The same bits for any thread count and instruction set. */
    void (*adamw)(sp_device *device, const sp_adamw_options *options, const sp_adamw_tensor *tensor);
    /* *sum += sum_i x_i^2 in double, the same bits for any thread count and instruction set. Not finite if any x_i is
     * not. `x` and `sum` are the device's. */
    void (*sum_of_squares)(sp_device *device, const float *x, int64_t count, double *sum);
} sp_optimizer_kernels;

#endif
