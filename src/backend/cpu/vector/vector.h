/* What the files of vector/ share. All arithmetic is in f32; tensors are f32 or bf16. Work is cut
 * into pieces by shape alone and partial sums are added in the order of the pieces, so results do
 * not depend on the number of threads. */
#ifndef SP_BACKEND_CPU_VECTOR_VECTOR_H
#define SP_BACKEND_CPU_VECTOR_VECTOR_H
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/vector/math.h"
#include "base/parallel.h"
#include "graph/passes.h"

#define SP_KERNEL(op) SP_ISA_SYMBOL(sp_vector_##op)

/* The operators that this folder runs, by their names after sp_op_. Each has a function
 * SP_KERNEL(op) that fills *out for a node. Floating-point values are f32 or bf16 in the first
 * list; in the second elements of any type are moved (cast: converted). */
/* clang-format off */
#define SP_VECTOR_FLOAT_OPS(X)                                                                     \
    X(add) X(mul) X(affine) X(add_per_channel) X(modulate) X(sample_combine)                       \
    X(fill) X(broadcast_middle)                                                                    \
    X(unary) X(unary_gradient) X(geglu) X(geglu_gradient)                                          \
    X(sum_leading) X(sum_middle) X(mean) X(loss) X(loss_gradient)                                  \
    X(group_norm) X(group_norm_gradient) X(layer_norm) X(layer_norm_gradient)                      \
    X(attention) X(attention_gradient) X(conv2d) X(conv2d_data_gradient)                           \
    X(conv2d_weight_gradient) X(linear) X(linear_weight_gradient) X(linear_geglu)                  \
    X(upsample_nearest_gradient) X(embedding_gradient) X(sinusoidal)
#define SP_VECTOR_MOVING_OPS(X)                                                                    \
    X(cast) X(permute) X(concat) X(slice) X(unslice) X(upsample_nearest) X(embedding)
/* clang-format on */

#define SP_DECLARE_KERNEL(op) sp_status SP_KERNEL(op)(const sp_node *node, sp_kernel *out);
SP_VECTOR_FLOAT_OPS(SP_DECLARE_KERNEL)
SP_VECTOR_MOVING_OPS(SP_DECLARE_KERNEL)

/* The kernel of an operator that needs neither state nor scratch. */
#define SP_DEFINE_KERNEL(op, function)                                                             \
    sp_status SP_KERNEL(op)(const sp_node *node, sp_kernel *out)                                   \
    {                                                                                              \
        (void)node;                                                                                \
        out->run = function;                                                                       \
        return SP_OK;                                                                              \
    }

static inline int64_t sp_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t sp_round_up(int64_t a, int64_t b)
{
    return sp_ceil_div(a, b) * b;
}

/* What all kernels here take as activations. */
static inline bool sp_is_f32_or_bf16(const sp_value *v)
{
    return v->dtype == SP_F32 || v->dtype == SP_BF16;
}

/* Parts of nearly equal size, none above `limit`, multiples of `unit`. */
static inline int64_t sp_part_of(int64_t whole, int64_t limit, int64_t unit)
{
    return sp_round_up(sp_ceil_div(whole, sp_ceil_div(whole, limit)), unit);
}

/* What is at least so large is stored past the caches: none keeps it for whoever reads it. */
#define SP_STREAM_BYTES ((int64_t)4 << 20)

/* Takes the next `count` floats of memory, rounded up to cache lines; base NULL: only counts. */
static inline float *sp_take(float *base, int64_t *used, int64_t count)
{
    float *taken = base ? base + *used : NULL;
    *used += sp_round_up(count, 16);
    return taken;
}

/* Sums of partial sums: out[o][c] = sum over p of partials[o][p][c], in order; out in `dtype`. */
#define sp_add_partials SP_ISA_SYMBOL(sp_add_partials)
void sp_add_partials(const float *partials, int64_t outer, int64_t parts, int64_t columns,
                     void *out, sp_dtype dtype);

#endif
