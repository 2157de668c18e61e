/* inverse_mean_abs: y[n] = 1 / (mean over m of |x[n,m]|), 0 where that mean is 0
 *   x      [N,..], full
 *   y      [N], full
 * It weighs samples alike whatever their sizes, and has no gradient. */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0);
    if (x.rank < 1 || sp_shape_count(x) < 1) return sp_unexpected(node, "x", 0, "[N,..] of at least one element");
    node->out[0]->shape = sp_shape_of(x.dim[0]);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t samples = sp_count_out(node, 0), inner = sp_count_in(node, 0) / samples;
    for (int64_t n = 0; n < samples; n++) {
        double sum = 0;
        for (int64_t i = 0; i < inner; i++)
            sum += fabs(sp_read(node, in, 0, n * inner + i));
        sp_write(node, out, 0, n, sum != 0 ? (double)inner / sum : 0);
    }
}

const sp_op sp_op_inverse_mean_abs = {
    .name = "inverse_mean_abs",
    .outputs = 1,
    .full_inputs = 1,
    .full_outputs = 1,
    .infer = infer,
    .reference = reference,
};

sp_value *sp_inverse_mean_abs(sp_builder *b, sp_value *x)
{
    return sp_node_make(b, &sp_op_inverse_mean_abs, 1, 1, &x, NULL);
}
