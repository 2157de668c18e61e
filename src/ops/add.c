/* add: z = x + alpha * y
 *   x      any shape
 *   y      x's shape or its last dimensions; then repeated over the leading ones
 *   z      x's shape */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    if (!sp_is_suffix(sp_shape_in(node, 1), sp_shape_in(node, 0)))
        return sp_misfit(node, "y", 1, "x", 0);
    node->out[0]->shape = sp_shape_in(node, 0);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dz, sp_value **dx)
{
    const sp_add_options *options = node->options;
    dx[0] = dz[0];
    if (!sp_wants_gradient(node, 1)) return;
    sp_shape y = sp_shape_in(node, 1);
    sp_value *dy =
        sp_shape_equal(y, sp_shape_in(node, 0)) ? dz[0] : sp_sum_leading(b, dz[0], y.rank);
    dx[1] = options->alpha == 1 ? dy : sp_affine(b, dy, options->alpha, 0);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_add_options *options = node->options;
    int64_t period = sp_count_in(node, 1);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i,
                 sp_read(node, in, 0, i) + options->alpha * sp_read(node, in, 1, i % period));
}

const sp_op sp_op_add = {
    .name = "add",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_add_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_add_scaled(sp_builder *b, sp_value *x, sp_value *y, double alpha)
{
    return sp_node_make(b, &sp_op_add, 2, 2, (sp_value *[]){x, y}, &(sp_add_options){alpha});
}

sp_value *sp_add(sp_builder *b, sp_value *x, sp_value *y)
{
    return sp_add_scaled(b, x, y, 1);
}
