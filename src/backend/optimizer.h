/* What a training loop needs of a backend besides running graphs. Addresses are the backend's (host
 * memory for the CPU). */
#ifndef SP_BACKEND_OPTIMIZER_H
#define SP_BACKEND_OPTIMIZER_H
#include <stdint.h>

/* AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW orders it. All in fp32 but the scalars,
 * which are found in double: g = gradient_scale * gradient w = w - learning_rate * weight_decay * w
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

typedef struct {
    int64_t count;
    float *weight, *first_moment, *second_moment; /* [count], updated */
    const float *gradient;                        /* [count] */
    float *ema;                                   /* [count], updated; NULL: none is kept */
} sp_adamw_tensor;

typedef struct {
    /* One step of one parameter. The same bits for any thread count and instruction set. */
    void (*adamw)(const sp_adamw_options *options, const sp_adamw_tensor *tensor);
    /* sum_i x_i^2 in double, the same bits for any thread count and instruction set. Not finite if
     * any x_i is not. */
    double (*sum_of_squares)(const float *x, int64_t count);
} sp_optimizer_kernels;

/* Never NULL. */
const sp_optimizer_kernels *sp_cpu_optimizer(void);

#endif
