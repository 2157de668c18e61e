/* What the operators' shape rules and reference kernels share. Private to ops/. */
#ifndef SP_OPS_RULES_H
#define SP_OPS_RULES_H
#include <math.h>
#include "ops/ops.h"

/* Shape faults: "OP: WHAT has shape A, which does not fit OTHER of shape B" and, where only one
 * value is at fault, "OP: WHAT has shape A, expected PATTERN". Both return SP_SHAPE. */
sp_status sp_misfit(const sp_node *node, const char *what, int input, const char *other,
                    int other_input);
sp_status sp_unexpected(const sp_node *node, const char *what, int input, const char *pattern);

/* The dtype of what a node keeps in full precision: F64 in graphs of F64 (gradient checks), else
 * F32. */
sp_dtype sp_full_dtype(const sp_node *node);
/* Gives output 0 this shape, and input 0's dtype: for operators that only move elements. */
sp_status sp_infer_moved(sp_node *node, sp_shape shape);
/* A negative axis counts from the end; -1 if there is no such axis. */
int sp_resolve_axis(sp_shape shape, int axis);
/* Product of dim[begin..end). */
int64_t sp_extent(sp_shape shape, int begin, int end);
/* y's shape is the last dimensions of x's. */
bool sp_is_suffix(sp_shape y, sp_shape x);

/* Memory for a reference kernel's intermediate results (sp_free). When there is none, fills the
 * outputs with NaN, which every caller of a graph notices, and returns NULL. */
double *sp_reference_scratch(const sp_node *node, void *const *out, int64_t count);

static inline sp_shape sp_shape_in(const sp_node *node, int input)
{
    return node->in[input]->shape;
}
static inline int64_t sp_count_in(const sp_node *node, int input)
{
    return sp_shape_count(node->in[input]->shape);
}
static inline int64_t sp_count_out(const sp_node *node, int output)
{
    return sp_shape_count(node->out[output]->shape);
}
static inline double sp_read(const sp_node *node, const void *const *in, int input, int64_t i)
{
    return sp_load(in[input], node->in[input]->dtype, i);
}
/* As sp_read; `absent` for an optional input that is not there. */
static inline double sp_read_or(const sp_node *node, const void *const *in, int input, int64_t i,
                                double absent)
{
    return node->in[input] ? sp_load(in[input], node->in[input]->dtype, i) : absent;
}
static inline void sp_write(const sp_node *node, void *const *out, int output, int64_t i,
                            double value)
{
    sp_store(out[output], node->out[output]->dtype, i, value);
}
static inline double sp_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
/* The normal distribution's cumulative function and density: gelu(x) = x * cumulative(x). */
static inline double sp_normal_cumulative(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}
static inline double sp_normal_density(double x)
{
    return 0.5 * M_2_SQRTPI * M_SQRT1_2 * exp(-0.5 * x * x);
}

#endif
