/* linear: y[r,m] = sum_k x[r,k] W[m,k] + bias[m] + residual[r,m]; transposed: W[k,m] in the sum
 *   x         [..,K]
 *   weight    [M,K], transposed [K,M]
 *   bias      [M] or absent, full
 *   residual  [..,M] or absent
 *   y         [..,M]
 * linear_weight_gradient: dW[m,k] = sum_r dy[r,m] x[r,k]
 *   x         [..,K]
 *   dy        [..,M]
 *   dW        [M,K], full */
#include "ops/rules.h"

static bool is_transposed(const sp_node *node)
{
    return ((const sp_linear_options *)node->options)->transposed;
}

static sp_status infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0), weight = sp_shape_in(node, 1), y = x;
    int k = is_transposed(node) ? 0 : 1;
    if (x.rank < 1 || weight.rank != 2 || weight.dim[k] != x.dim[x.rank - 1])
        return sp_misfit(node, "weight", 1, "x", 0);
    y.dim[y.rank - 1] = weight.dim[1 - k];
    if (node->in[2] && !sp_shape_equal(sp_shape_in(node, 2), sp_shape_of(weight.dim[1 - k])))
        return sp_misfit(node, "bias", 2, "weight", 1);
    if (node->in[3] && !sp_shape_equal(sp_shape_in(node, 3), y))
        return sp_fail(SP_SHAPE, "linear: residual has shape %s, but the result has shape %s",
                       sp_shape_text(sp_shape_in(node, 3)), sp_shape_text(y));
    node->out[0]->shape = y;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    sp_value *x = node->in[0], *weight = node->in[1];
    bool transposed = is_transposed(node);
    if (sp_wants_gradient(node, 0))
        dx[0] = transposed ? sp_linear(b, dy[0], weight, NULL, NULL)
                           : sp_linear_transposed(b, dy[0], weight);
    if (sp_wants_gradient(node, 1))
        dx[1] = transposed ? sp_linear_weight_gradient(b, dy[0], x)
                           : sp_linear_weight_gradient(b, x, dy[0]);
    if (sp_wants_gradient(node, 2)) dx[2] = sp_sum_leading(b, dy[0], 1);
    if (sp_wants_gradient(node, 3)) dx[3] = dy[0];
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t K = sp_channels(node->in[0]), M = sp_channels(node->out[0]);
    int64_t step_m = is_transposed(node) ? 1 : K, step_k = is_transposed(node) ? M : 1;
    for (int64_t i = 0; i < sp_count_out(node, 0); i++) {
        int64_t r = i / M, m = i % M;
        double sum = sp_read_or(node, in, 2, m, 0) + sp_read_or(node, in, 3, i, 0);
        for (int64_t k = 0; k < K; k++)
            sum += sp_read(node, in, 0, r * K + k) * sp_read(node, in, 1, m * step_m + k * step_k);
        sp_write(node, out, 0, i, sum);
    }
}

static double flops(const sp_node *node)
{
    return 2.0 * (double)sp_count_out(node, 0) * (double)sp_channels(node->in[0]);
}

const sp_op sp_op_linear = {
    .name = "linear",
    .outputs = 1,
    .options_size = sizeof(sp_linear_options),
    .full_inputs = 1 << 2,
    .stored_inputs = 1 << 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
    .flops = flops,
};

sp_value *sp_linear(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias,
                    sp_value *residual)
{
    return sp_node_make(b, &sp_op_linear, 2, 4, (sp_value *[]){x, weight, bias, residual},
                        &(sp_linear_options){.transposed = false});
}

sp_value *sp_linear_transposed(sp_builder *b, sp_value *x, sp_value *weight)
{
    return sp_node_make(b, &sp_op_linear, 2, 2, (sp_value *[]){x, weight},
                        &(sp_linear_options){.transposed = true});
}

static sp_status weight_gradient_infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0), dy = sp_shape_in(node, 1), rows = dy;
    if (x.rank < 1 || dy.rank != x.rank) return sp_misfit(node, "dy", 1, "x", 0);
    rows.dim[x.rank - 1] = x.dim[x.rank - 1];
    if (!sp_shape_equal(rows, x)) return sp_misfit(node, "dy", 1, "x", 0);
    node->out[0]->shape = sp_shape_of(dy.dim[x.rank - 1], x.dim[x.rank - 1]);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void weight_gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t K = sp_channels(node->in[0]), M = sp_channels(node->in[1]);
    int64_t rows = sp_extent(sp_shape_in(node, 0), 0, sp_shape_in(node, 0).rank - 1);
    for (int64_t i = 0; i < M * K; i++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += sp_read(node, in, 1, r * M + i / K) * sp_read(node, in, 0, r * K + i % K);
        sp_write(node, out, 0, i, sum);
    }
}

static double weight_gradient_flops(const sp_node *node)
{
    return 2.0 * (double)sp_count_in(node, 0) * (double)sp_channels(node->in[1]);
}

const sp_op sp_op_linear_weight_gradient = {
    .name = "linear_weight_gradient",
    .outputs = 1,
    .full_outputs = 1,
    .infer = weight_gradient_infer,
    .reference = weight_gradient_reference,
    .flops = weight_gradient_flops,
};

sp_value *sp_linear_weight_gradient(sp_builder *b, sp_value *x, sp_value *dy)
{
    return sp_node_make(b, &sp_op_linear_weight_gradient, 2, 2, (sp_value *[]){x, dy}, NULL);
}
