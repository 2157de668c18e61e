/* reshape, stop_gradient: y = x. Views; no kernel runs.
 *   x      any shape
 *   y      the same elements in the same order; reshape: of the wanted shape; stop_gradient: x's */
#include "graph/passes.h"
#include "ops/rules.h"

static sp_status reshape_infer(sp_node *node)
{
    sp_shape wanted = *(const sp_shape *)node->options;
    sp_shape x = sp_shape_in(node, 0);
    int64_t known = 1;
    int free_axis = -1, free_axes = 0;
    for (int i = 0; i < wanted.rank; i++) {
        if (wanted.dim[i] < 0)
            free_axis = i, free_axes++;
        else
            known *= wanted.dim[i];
    }
    if (free_axes == 1 && known > 0) wanted.dim[free_axis] = sp_shape_count(x) / known;
    if (free_axes > 1 || sp_shape_count(wanted) != sp_shape_count(x))
        return sp_fail(SP_SHAPE, "reshape: x has shape %s, which cannot become %s",
                       sp_shape_text(x), sp_shape_text(*(const sp_shape *)node->options));
    return sp_infer_moved(node, wanted);
}

static void reshape_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_reshape(b, dy[0], sp_shape_in(node, 0));
}

const sp_op sp_op_reshape = {
    .name = "reshape",
    .flags = SP_OP_VIEW,
    .outputs = 1,
    .options_size = sizeof(sp_shape),
    .infer = reshape_infer,
    .gradient = reshape_gradient,
};

sp_value *sp_reshape(sp_builder *b, sp_value *x, sp_shape shape)
{
    return sp_node_make(b, &sp_op_reshape, 1, 1, &x, &shape);
}

static sp_status same_infer(sp_node *node)
{
    return sp_infer_moved(node, sp_shape_in(node, 0));
}

const sp_op sp_op_stop_gradient = {
    .name = "stop_gradient",
    .flags = SP_OP_VIEW | SP_OP_STOP_GRADIENT,
    .outputs = 1,
    .infer = same_infer,
};

sp_value *sp_stop_gradient(sp_builder *b, sp_value *x)
{
    return sp_node_make(b, &sp_op_stop_gradient, 1, 1, &x, NULL);
}

sp_value *sp_cast(sp_builder *b, sp_value *x, sp_dtype dtype)
{
    if (x && x->dtype == dtype) return x;
    return sp_node_make(b, &sp_op_cast, 1, 1, &x, &(sp_cast_options){dtype});
}
