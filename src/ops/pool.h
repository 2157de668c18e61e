/* The windows of pool2d. */
#ifndef SP_OPS_POOL_H
#define SP_OPS_POOL_H
#include "ops/ops.h"

/* Cells begin..end-1 of one dimension. */
typedef struct {
    int64_t begin, end;
} sp_pool_window;
/* Those of output `i` that lie inside `size` cells: one at least. */
static inline sp_pool_window sp_pool_window_at(int64_t i, int64_t size, const sp_pool2d_options *o)
{
    int64_t begin = i * o->stride - o->padding, end = begin + o->kernel;
    return (sp_pool_window){begin > 0 ? begin : 0, end < size ? end : size};
}

#endif
