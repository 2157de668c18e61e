/* norm_conv2d: y = conv2d(z) + r, a 3x3 convolution of stride 1 and padding 1
 *         z = group_norm(x), with silu or without
 *         r = residual; or, where there is a shortcut, sum_c residual[n,h,w,c] shortcut[m,c] + shortcut_bias[m]
 *   x              [N,H,W,C]
 *   weight         [M,C,3,3]
 *   bias           [M] or absent, full
 *   gamma, beta    [C] or absent, full
 *   residual       [N,H,W,M] or absent; with a shortcut [N,H,W,K]
 *   shortcut       [M,K,1,1] or absent
 *   shortcut_bias  [M] or absent, full
 *   y              [N,H,W,M]
 * z and what the shortcut makes need never be there as a whole: kernels take `rows` rows of y at a time. */
#include "ops/rules.h"

enum { X, WEIGHT, BIAS, GAMMA, BETA, RESIDUAL, SHORTCUT, SHORTCUT_BIAS, INPUTS };
static const char *const names[] = {"x", "weight", "bias", "gamma", "beta", "residual", "shortcut", "shortcut_bias"};

static sp_status expect(const sp_node *node, int input, sp_shape shape, int other)
{
    if (!node->in[input] || sp_shape_equal(sp_shape_in(node, input), shape)) return SP_OK;
    return sp_misfit(node, names[input], input, names[other], other);
}

static sp_status infer(sp_node *node)
{
    const sp_norm_conv2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, X), weight = sp_shape_in(node, WEIGHT), y = x;
    if (x.rank != 4 || sp_shape_count(x) < 1) return sp_unexpected(node, "x", X, "[N,H,W,C] with elements");
    int64_t C = x.dim[3], M = weight.dim[0];
    if (weight.rank != 4 || weight.dim[1] != C || weight.dim[2] != 3 || weight.dim[3] != 3)
        return sp_misfit(node, "weight", WEIGHT, "x", X);
    if (o->norm.groups < 1 || C % o->norm.groups)
        return sp_fail(SP_SHAPE, "%s: x has shape %s, whose channels are no multiple of %d groups", node->op->name,
                       sp_shape_text(x), o->norm.groups);
    y.dim[3] = M;
    SP_TRY(expect(node, BIAS, sp_shape_of(M), WEIGHT));
    SP_TRY(expect(node, GAMMA, sp_shape_of(C), X));
    SP_TRY(expect(node, BETA, sp_shape_of(C), X));
    SP_TRY(expect(node, SHORTCUT_BIAS, sp_shape_of(M), WEIGHT));
    sp_shape residual = y;
    if (node->in[SHORTCUT]) {
        if (!node->in[RESIDUAL]) return sp_unexpected(node, "shortcut", SHORTCUT, "none without a residual");
        residual.dim[3] = sp_channels(node->in[RESIDUAL]);
        SP_TRY(expect(node, SHORTCUT, sp_shape_of(M, residual.dim[3], 1, 1), RESIDUAL));
    }
    SP_TRY(expect(node, RESIDUAL, residual, X));
    node->out[0]->shape = y;
    return SP_OK;
}

/* Mean of a group of a sample and 1 / sqrt(var + eps), for each of its channels. */
static void statistics(const sp_node *node, const void *const *in, int64_t n, int64_t g, double *mean, double *scale)
{
    const sp_norm_conv2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, X);
    int64_t S = x.dim[1] * x.dim[2], C = x.dim[3], width = C / o->norm.groups;
    double sum = 0, squares = 0, count = (double)(S * width);
    for (int64_t s = 0; s < S; s++)
        for (int64_t c = g * width; c < (g + 1) * width; c++)
            sum += sp_read(node, in, X, (n * S + s) * C + c);
    for (int64_t s = 0; s < S; s++)
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            double d = sp_read(node, in, X, (n * S + s) * C + c) - sum / count;
            squares += d * d;
        }
    *mean = sum / count;
    *scale = 1 / sqrt(squares / count + o->norm.epsilon);
}

static void normalise(const sp_node *node, const void *const *in, double *z)
{
    const sp_norm_conv2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, X);
    int64_t S = x.dim[1] * x.dim[2], C = x.dim[3], width = C / o->norm.groups;
    for (int64_t n = 0; n < x.dim[0]; n++)
        for (int64_t g = 0; g < o->norm.groups; g++) {
            double mean, scale;
            statistics(node, in, n, g, &mean, &scale);
            for (int64_t s = 0; s < S; s++)
                for (int64_t c = g * width; c < (g + 1) * width; c++) {
                    int64_t i = (n * S + s) * C + c;
                    double u = (sp_read(node, in, X, i) - mean) * scale;
                    u = u * sp_read_or(node, in, GAMMA, c, 1) + sp_read_or(node, in, BETA, c, 0);
                    z[i] = o->norm.silu ? u * sp_sigmoid(u) : u;
                }
        }
}

/* r of y's element i, which is of channel m. */
static double residual_at(const sp_node *node, const void *const *in, int64_t i, int64_t m)
{
    if (!node->in[SHORTCUT]) return sp_read_or(node, in, RESIDUAL, i, 0);
    int64_t K = sp_channels(node->in[RESIDUAL]), M = sp_channels(node->out[0]);
    double sum = sp_read_or(node, in, SHORTCUT_BIAS, m, 0);
    for (int64_t k = 0; k < K; k++)
        sum += sp_read(node, in, RESIDUAL, i / M * K + k) * sp_read(node, in, SHORTCUT, m * K + k);
    return sum;
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    sp_shape x = sp_shape_in(node, X);
    int64_t H = x.dim[1], W = x.dim[2], C = x.dim[3], M = sp_channels(node->out[0]);
    double *z = sp_reference_scratch(node, out, sp_count_in(node, X));
    if (!z) return;
    normalise(node, in, z);
    for (int64_t index = 0; index < sp_count_out(node, 0); index++) {
        int64_t m = index % M, q = index / M % W, p = index / M / W % H, n = index / M / W / H;
        double sum = sp_read_or(node, in, BIAS, m, 0) + residual_at(node, in, index, m);
        for (int64_t tap = 0; tap < 9; tap++) {
            int64_t h = p + tap / 3 - 1, w = q + tap % 3 - 1;
            if (h < 0 || h >= H || w < 0 || w >= W) continue;
            for (int64_t c = 0; c < C; c++)
                sum += z[((n * H + h) * W + w) * C + c] * sp_read(node, in, WEIGHT, (m * C + c) * 9 + tap);
        }
        sp_write(node, out, 0, index, sum);
    }
    sp_free(z);
}

static double flops(const sp_node *node)
{
    int64_t of_shortcut = node->in[SHORTCUT] ? sp_channels(node->in[RESIDUAL]) : 0;
    return 2.0 * (double)sp_count_out(node, 0) * (double)(9 * sp_channels(node->in[X]) + of_shortcut);
}

const sp_op sp_op_norm_conv2d = {
    .name = "norm_conv2d",
    .outputs = 1,
    .options_size = sizeof(sp_norm_conv2d_options),
    .full_inputs = 1 << BIAS | 1 << GAMMA | 1 << BETA | 1 << SHORTCUT_BIAS,
    .stored_inputs = 1 << WEIGHT | 1 << SHORTCUT,
    .infer = infer,
    .reference = reference,
    .flops = flops,
};

sp_value *sp_norm_conv2d(sp_builder *b, const sp_norm_conv2d_inputs *in, sp_norm_conv2d_options options)
{
    sp_value *const list[INPUTS] = {in->x,    in->weight,   in->bias,     in->gamma,
                                    in->beta, in->residual, in->shortcut, in->shortcut_bias};
    return sp_node_make(b, &sp_op_norm_conv2d, 2, INPUTS, list, &options);
}
