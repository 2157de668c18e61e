/* Kernel Inception distance (Binkowski et al. 2018): the unbiased squared maximum mean discrepancy under
 * k(x,y) = (x.y/D + 1)^3, which may be below 0, over subsets of both sets. */
#ifndef SP_EVAL_KID_H
#define SP_EVAL_KID_H
#include "base/progress.h"
#include "tensor/tensor.h"

typedef struct {
    int64_t subsets, size; /* of each set, without replacement */
    uint32_t seed;         /* numpy's RandomState draws: of a, then of b, subset after subset, as torch-fidelity */
} sp_kid_options;

/* a [count_a,D], b [count_b,D], f32; everything in fp64. *mean and *deviation (divisor: subsets) over the subsets.
 * SP_SHAPE if the widths differ or a set has fewer rows than a subset, SP_NUMERIC if a value is not finite,
 * SP_CANCELLED. */
sp_status sp_kid(const sp_tensor *a, const sp_tensor *b, const sp_kid_options *options, const sp_callbacks *callbacks,
                 double *mean, double *deviation);

#endif
