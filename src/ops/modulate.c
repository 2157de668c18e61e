/* modulate: y[n,..,c] = (base + factor[n,c]) * x[n,..,c] + offset[n,c] + residual[n,..,c]
 * (adaptive layer norm and its gates: Peebles, Xie 2023)
 *   x         [N,..,C]
 *   factor    [N,C]
 *   offset    [N,C] or absent (0)
 *   residual  x's shape or absent (0)
 *   y         x's shape */
#include "ops/rules.h"

enum { X, FACTOR, OFFSET, RESIDUAL };

static sp_status infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, X);
    if (x.rank < 2) return sp_unexpected(node, "x", X, "[N,..,C]");
    sp_shape vector = sp_shape_of(x.dim[0], x.dim[x.rank - 1]);
    for (int i = FACTOR; i <= OFFSET; i++)
        if (node->in[i] && !sp_shape_equal(sp_shape_in(node, i), vector))
            return sp_misfit(node, i == FACTOR ? "factor" : "offset", i, "x", X);
    if (node->in[RESIDUAL] && !sp_shape_equal(sp_shape_in(node, RESIDUAL), x))
        return sp_misfit(node, "residual", RESIDUAL, "x", X);
    node->out[0]->shape = x;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_modulate_options *o = node->options;
    if (sp_wants_gradient(node, X)) dx[X] = sp_modulate(b, dy[0], node->in[FACTOR], NULL, NULL, o->base);
    if (sp_wants_gradient(node, FACTOR)) dx[FACTOR] = sp_sum_middle(b, sp_mul(b, dy[0], node->in[X]));
    if (sp_wants_gradient(node, OFFSET)) dx[OFFSET] = sp_sum_middle(b, dy[0]);
    if (sp_wants_gradient(node, RESIDUAL)) dx[RESIDUAL] = dy[0];
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_modulate_options *o = node->options;
    int64_t C = sp_channels(node->in[X]), count = sp_count_in(node, X);
    int64_t sample = count / sp_dim(node->in[X], 0);
    for (int64_t i = 0; i < count; i++) {
        int64_t vector = i / sample * C + i % C;
        double y = (o->base + sp_read(node, in, FACTOR, vector)) * sp_read(node, in, X, i);
        y += sp_read_or(node, in, OFFSET, vector, 0) + sp_read_or(node, in, RESIDUAL, i, 0);
        sp_write(node, out, 0, i, y);
    }
}

const sp_op sp_op_modulate = {
    .name = "modulate",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_modulate_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_modulate(sp_builder *b, sp_value *x, sp_value *factor, sp_value *offset, sp_value *residual, double base)
{
    return sp_node_make(b, &sp_op_modulate, 2, 4, (sp_value *[]){x, factor, offset, residual},
                        &(sp_modulate_options){base});
}
