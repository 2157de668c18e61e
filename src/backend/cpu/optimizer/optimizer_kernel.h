/* The optimiser's inner loops, compiled once per instruction set without contraction, so that all
 * copies give equal bits. */
#ifndef SP_BACKEND_CPU_OPTIMIZER_OPTIMIZER_KERNEL_H
#define SP_BACKEND_CPU_OPTIMIZER_OPTIMIZER_KERNEL_H
#include <stdint.h>
#include "graph/optimizer.h"

/* What is equal for all elements, rounded to fp32 once. */
typedef struct {
    float gradient_scale, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, correction,
        epsilon, ema_decay, one_minus_ema_decay;
} sp_adamw_scalars;

typedef struct {
    /* Elements begin..end; where moments are coded, begin is the start of a block and end is the
     * start of another or the tensor's end. */
    void (*adamw)(const sp_adamw_scalars *scalars, const sp_adamw_tensor *tensor, int64_t begin,
                  int64_t end);
    void (*adamw8bit)(const sp_adamw_scalars *scalars, const sp_adamw_tensor *tensor, int64_t begin,
                      int64_t end);
    double (*sum_of_squares)(const float *x, int64_t count);
    void (*average)(const sp_adamw_scalars *scalars, const float *weight, float *average, int64_t count);
} sp_optimizer_loops;

extern const sp_optimizer_loops sp_optimizer_loops_baseline, sp_optimizer_loops_avx2,
    sp_optimizer_loops_avx512;

#endif
