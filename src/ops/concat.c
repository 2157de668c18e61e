/* concat: y = x_0 | x_1 | ... along one axis
 *   x_i    [.., A_i, ..]   equal but for A_i
 *   y      [.., sum A_i, ..] */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    const sp_concat_options *options = node->options;
    sp_shape y = sp_shape_in(node, 0);
    int axis = sp_resolve_axis(y, options->axis);
    if (axis < 0) return sp_unexpected(node, "input 0", 0, "more dimensions for this axis");
    y.dim[axis] = 0;
    for (int i = 0; i < node->inputs; i++) {
        sp_shape x = sp_shape_in(node, i);
        int64_t size = x.dim[axis];
        x.dim[axis] = y.dim[axis];
        if (!sp_shape_equal(x, y)) return sp_misfit(node, "an input", i, "input 0", 0);
        y.dim[axis] += size;
    }
    node->out[0]->shape = y;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_concat_options *options = node->options;
    int64_t start = 0;
    for (int i = 0; i < node->inputs; i++) {
        int64_t size = sp_dim(node->in[i], options->axis);
        if (sp_wants_gradient(node, i)) dx[i] = sp_slice(b, dy[0], options->axis, start, size);
        start += size;
    }
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_concat_options *options = node->options;
    sp_shape y = node->out[0]->shape;
    int axis = sp_resolve_axis(y, options->axis);
    int64_t outer = sp_extent(y, 0, axis), row = sp_extent(y, axis, y.rank), start = 0;
    for (int k = 0; k < node->inputs; k++) {
        int64_t piece = sp_extent(sp_shape_in(node, k), axis, y.rank);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < piece; i++)
                sp_write(node, out, 0, o * row + start + i, sp_read(node, in, k, o * piece + i));
        start += piece;
    }
}

const sp_op sp_op_concat = {
    .name = "concat",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_concat_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_concat(sp_builder *b, int count, sp_value *const *x, int axis)
{
    if (count < 2 || count > SP_MAX_INPUTS)
        return sp_builder_fail(b, SP_ARGUMENT, "concat: takes 2 to %d values, not %d",
                               SP_MAX_INPUTS, count);
    return sp_node_make(b, &sp_op_concat, count, count, x, &(sp_concat_options){axis});
}
