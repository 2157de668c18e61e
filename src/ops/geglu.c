/* geglu: y = a * gelu(g), x = [a | g] along the channels, gelu with the exact erf   (Shazeer 2020)
 *   x      [..,2C]
 *   y      [..,C]
 * geglu_gradient: da = dy * gelu(g), dg = dy * a * gelu'(g)
 *   dy     [..,C]
 *   dx     [..,2C] = [da | dg]
 * linear_geglu: geglu(x W^T + bias), as sp_pass_fuse makes it; no gradient
 *   x      [..,K]
 *   W      [2C,K]
 *   bias   [2C], optional
 *   y      [..,C] */
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

static sp_status linear_infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0), weight = sp_shape_in(node, 1), y = x;
    if (x.rank < 1 || weight.rank != 2 || weight.dim[1] != x.dim[x.rank - 1])
        return sp_misfit(node, "weight", 1, "x", 0);
    if (weight.dim[0] % 2) return sp_unexpected(node, "weight", 1, "[2C,K]");
    if (node->in[2] && !sp_shape_equal(sp_shape_in(node, 2), sp_shape_of(weight.dim[0])))
        return sp_misfit(node, "bias", 2, "weight", 1);
    y.dim[y.rank - 1] = weight.dim[0] / 2;
    node->out[0]->shape = y;
    return SP_OK;
}

static void linear_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t K = sp_channels(node->in[0]), C = sp_channels(node->out[0]);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++) {
        int64_t r = i / C, c = i % C;
        double a = sp_read_or(node, in, 2, c, 0), g = sp_read_or(node, in, 2, C + c, 0);
        for (int64_t k = 0; k < K; k++) {
            double x = sp_read(node, in, 0, r * K + k);
            a += x * sp_read(node, in, 1, c * K + k);
            g += x * sp_read(node, in, 1, (C + c) * K + k);
        }
        sp_write(node, out, 0, i, a * g * sp_normal_cumulative(g));
    }
}

static double linear_flops(const sp_node *node)
{
    return 4.0 * (double)sp_count_out(node, 0) * (double)sp_channels(node->in[0]);
}

const sp_op sp_op_linear_geglu = {
    .name = "linear_geglu",
    .outputs = 1,
    .full_inputs = 1 << 2,
    .stored_inputs = 1 << 1,
    .infer = linear_infer,
    .reference = linear_reference,
    .flops = linear_flops,
};

sp_value *sp_linear_geglu(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias)
{
    return sp_node_make(b, &sp_op_linear_geglu, 2, 3, (sp_value *[]){x, weight, bias}, NULL);
}
