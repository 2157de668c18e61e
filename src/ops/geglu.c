/* geglu: y = a * gelu(g), x = [a | g] along the channels, gelu with the exact erf   (Shazeer 2020)
 *   x      [..,2C]
 *   y      [..,C]
 * geglu_gradient: da = dy * gelu(g), dg = dy * a * gelu'(g)
 *   dy     [..,C]
 *   dx     [..,2C] = [da | dg] */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    sp_shape y = sp_shape_in(node, 0);
    if (y.rank < 1 || y.dim[y.rank - 1] % 2) return sp_unexpected(node, "x", 0, "[..,2C]");
    y.dim[y.rank - 1] /= 2;
    node->out[0]->shape = y;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_geglu_gradient(b, node->in[0], dy[0]);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t C = sp_channels(node->out[0]);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++) {
        int64_t at = i / C * 2 * C + i % C;
        double g = sp_read(node, in, 0, at + C);
        sp_write(node, out, 0, i, sp_read(node, in, 0, at) * g * sp_normal_cumulative(g));
    }
}

const sp_op sp_op_geglu = {
    .name = "geglu",
    .outputs = 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_geglu(sp_builder *b, sp_value *x)
{
    return sp_node_make(b, &sp_op_geglu, 1, 1, &x, NULL);
}

static sp_status gradient_infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0), y = sp_shape_in(node, 1);
    if (y.rank < 1) return sp_misfit(node, "dy", 1, "x", 0);
    y.dim[y.rank - 1] *= 2;
    if (!sp_shape_equal(x, y)) return sp_misfit(node, "dy", 1, "x", 0);
    node->out[0]->shape = x;
    return SP_OK;
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t C = sp_channels(node->in[1]);
    for (int64_t i = 0; i < sp_count_in(node, 1); i++) {
        int64_t at = i / C * 2 * C + i % C;
        double a = sp_read(node, in, 0, at), g = sp_read(node, in, 0, at + C),
               dy = sp_read(node, in, 1, i);
        double cumulative = sp_normal_cumulative(g);
        sp_write(node, out, 0, at, dy * g * cumulative);
        sp_write(node, out, 0, at + C, dy * a * (cumulative + g * sp_normal_density(g)));
    }
}

const sp_op sp_op_geglu_gradient = {
    .name = "geglu_gradient",
    .outputs = 1,
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_geglu_gradient(sp_builder *b, sp_value *x, sp_value *dy)
{
    return sp_node_make(b, &sp_op_geglu_gradient, 2, 2, (sp_value *[]){x, dy}, NULL);
}
