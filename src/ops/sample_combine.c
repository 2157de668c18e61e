/* sample_combine: y[n,..] = sum_i c_i[n] * x_i[n,..]
 *   c_i    [N]       input 2i
 *   x_i    [N,..]    input 2i+1; equal shapes
 *   y      [N,..]
 * The arithmetic of diffusion: everything stays in full precision. */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    for (int i = 0; i < node->inputs; i += 2) {
        sp_shape c = sp_shape_in(node, i), x = sp_shape_in(node, i + 1);
        if (!sp_shape_equal(x, sp_shape_in(node, 1)))
            return sp_misfit(node, "a value", i + 1, "the first value", 1);
        if (x.rank < 1 || c.rank != 1 || c.dim[0] != x.dim[0])
            return sp_misfit(node, "a coefficient", i, "its value", i + 1);
    }
    node->out[0]->shape = sp_shape_in(node, 1);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    for (int i = 0; i < node->inputs; i += 2) /* coefficients have none */
        if (sp_wants_gradient(node, i + 1))
            dx[i + 1] = sp_sample_combine(b, 1, (sp_value *[]){node->in[i], dy[0]});
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t count = sp_count_out(node, 0),
            inner = sp_extent(sp_shape_in(node, 1), 1, sp_shape_in(node, 1).rank);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int k = 0; k < node->inputs; k += 2)
            sum += sp_read(node, in, k, i / inner) * sp_read(node, in, k + 1, i);
        sp_write(node, out, 0, i, sum);
    }
}

const sp_op sp_op_sample_combine = {
    .name = "sample_combine",
    .flags = SP_OP_ELEMENTWISE,
    .outputs = 1,
    .full_inputs = (1u << SP_MAX_INPUTS) - 1,
    .full_outputs = 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_sample_combine(sp_builder *b, int terms, sp_value *const *coefficient_and_value)
{
    if (terms < 1 || terms > SP_MAX_INPUTS / 2)
        return sp_builder_fail(b, SP_ARGUMENT, "sample_combine: takes 1 to %d terms, not %d",
                               SP_MAX_INPUTS / 2, terms);
    return sp_node_make(b, &sp_op_sample_combine, 2 * terms, 2 * terms, coefficient_and_value,
                        NULL);
}
