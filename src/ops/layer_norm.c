/* layer_norm: y = gamma[c] * (x - mean[r]) / sqrt(var[r] + eps) + beta[c]      (Ba et al. 2016)
 * root_mean_square: mean is 0, var the mean of x^2                             (Zhang, Sennrich 2019)
 *   x      [..,C]    statistics over the channels of each row r
 *   gamma  [C] or absent (1), full
 *   beta   [C] or absent (0), full
 *   y      [..,C]
 * layer_norm_gradient, with u = (x - mean) / sqrt(var + eps), d = gamma dy:
 *   dx = (d - mean of d - u * mean of d u) / sqrt(var + eps), of root_mean_square without the mean of d;
 *   dgamma = sum dy u; dbeta = sum dy
 *   dy, dx         [..,C]
 *   dgamma, dbeta  [C], full; also made where gamma and beta are absent */
#include "ops/rules.h"

enum { X, GAMMA, BETA, DY = 2 }; /* the gradient takes (x, gamma, dy) */

static sp_status check(const sp_node *node, int vectors)
{
    sp_shape x = sp_shape_in(node, X);
    if (x.rank < 1 || x.dim[x.rank - 1] < 1)
        return sp_unexpected(node, "x", X, "[..,C] with channels");
    for (int i = GAMMA; i < GAMMA + vectors; i++)
        if (node->in[i] && !sp_shape_equal(sp_shape_in(node, i), sp_shape_of(x.dim[x.rank - 1])))
            return sp_misfit(node, i == GAMMA ? "gamma" : "beta", i, "x", X);
    return SP_OK;
}

static sp_status infer(sp_node *node)
{
    SP_TRY(check(node, 2));
    node->out[0]->shape = sp_shape_in(node, X);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_layer_norm_options *o = node->options;
    sp_value *made = sp_layer_norm_gradient(b, node->in[X], node->in[GAMMA], dy[0], *o);
    if (!made) return;
    for (int i = X; i <= BETA; i++)
        if (sp_wants_gradient(node, i)) dx[i] = sp_output_of(made, i);
}

/* Mean of the row that begins at `row`, and 1 / sqrt(var + eps). */
static void statistics(const sp_node *node, const void *const *in, int64_t row, int64_t C,
                       double *mean, double *scale)
{
    const sp_layer_norm_options *o = node->options;
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < C; c++)
        sum += sp_read(node, in, X, row + c);
    *mean = o->root_mean_square ? 0 : sum / (double)C;
    for (int64_t c = 0; c < C; c++) {
        double d = sp_read(node, in, X, row + c) - *mean;
        squares += d * d;
    }
    *scale = 1 / sqrt(squares / (double)C + o->epsilon);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t C = sp_channels(node->in[X]);
    for (int64_t row = 0; row < sp_count_in(node, X); row += C) {
        double mean, scale;
        statistics(node, in, row, C, &mean, &scale);
        for (int64_t c = 0; c < C; c++) {
            double u = (sp_read(node, in, X, row + c) - mean) * scale;
            sp_write(node, out, 0, row + c,
                     sp_read_or(node, in, GAMMA, c, 1) * u + sp_read_or(node, in, BETA, c, 0));
        }
    }
}

const sp_op sp_op_layer_norm = {
    .name = "layer_norm",
    .outputs = 1,
    .options_size = sizeof(sp_layer_norm_options),
    .full_inputs = 1 << GAMMA | 1 << BETA,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_layer_norm(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta, sp_layer_norm_options options)
{
    return sp_node_make(b, &sp_op_layer_norm, 1, 3, (sp_value *[]){x, gamma, beta}, &options);
}

static sp_status gradient_infer(sp_node *node)
{
    SP_TRY(check(node, 1));
    sp_shape x = sp_shape_in(node, X);
    if (!node->in[DY] || !sp_shape_equal(sp_shape_in(node, DY), x))
        return sp_misfit(node, "dy", DY, "x", X);
    node->out[0]->shape = x;
    for (int i = 1; i < 3; i++) {
        node->out[i]->shape = sp_shape_of(x.dim[x.rank - 1]);
        node->out[i]->dtype = sp_full_dtype(node);
    }
    return SP_OK;
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_layer_norm_options *o = node->options;
    int64_t C = sp_channels(node->in[X]);
    double *dgamma = sp_reference_scratch(node, out, 2 * C), *dbeta = dgamma ? dgamma + C : NULL;
    if (!dgamma) return;
    for (int64_t c = 0; c < C; c++)
        dgamma[c] = dbeta[c] = 0;
    for (int64_t row = 0; row < sp_count_in(node, X); row += C) {
        double mean, scale, sum_d = 0, sum_du = 0;
        statistics(node, in, row, C, &mean, &scale);
        for (int64_t c = 0; c < C; c++) {
            double dy = sp_read(node, in, DY, row + c),
                   u = (sp_read(node, in, X, row + c) - mean) * scale;
            dgamma[c] += dy * u;
            dbeta[c] += dy;
            sum_d += sp_read_or(node, in, GAMMA, c, 1) * dy;
            sum_du += sp_read_or(node, in, GAMMA, c, 1) * dy * u;
        }
        if (o->root_mean_square) sum_d = 0;
        for (int64_t c = 0; c < C; c++) {
            double u = (sp_read(node, in, X, row + c) - mean) * scale;
            double d = sp_read_or(node, in, GAMMA, c, 1) * sp_read(node, in, DY, row + c);
            sp_write(node, out, 0, row + c,
                     scale * (d - sum_d / (double)C - u * sum_du / (double)C));
        }
    }
    for (int64_t c = 0; c < C; c++) {
        sp_write(node, out, 1, c, dgamma[c]);
        sp_write(node, out, 2, c, dbeta[c]);
    }
    sp_free(dgamma);
}

const sp_op sp_op_layer_norm_gradient = {
    .name = "layer_norm_gradient",
    .outputs = 3,
    .options_size = sizeof(sp_layer_norm_options),
    .full_inputs = 1 << GAMMA,
    .full_outputs = 1 << 1 | 1 << 2,
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_layer_norm_gradient(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *dy,
                                 sp_layer_norm_options options)
{
    return sp_node_make(b, &sp_op_layer_norm_gradient, 1, 3, (sp_value *[]){x, gamma, dy}, &options);
}
