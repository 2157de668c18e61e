/* What a training loop needs of a device besides running graphs. */
#ifndef SP_GRAPH_OPTIMIZER_H
#define SP_GRAPH_OPTIMIZER_H
#include <stdint.h>
#include "tensor/dtype.h"

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

/* A moment: `values` [count] f32; or codes and their scales (tensor/dtype.h), the first one's of SP_DYNAMIC8_SIGNED,
 * the second one's of SP_DYNAMIC8_UNSIGNED, in whole blocks; behind element `count` there are codes of 0, and stay. The
 * step itself is that in fp32. Per element of a block: decode, update, and the nearest code of the new moment over the
 * block's new scale. */
typedef struct {
    float *values;
    uint8_t *codes; /* sp_dtype_bytes */
    float *scales;  /* sp_dtype_scales of them */
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
    /* average = decay average + (1 - decay) weight, as adamw's ema: another average of the same weights. */
    void (*average)(sp_device *device, double decay, const float *weight, float *average, int64_t count);
} sp_optimizer_kernels;

#endif
