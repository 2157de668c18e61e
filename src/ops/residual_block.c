/* residual_block: y = conv2d(z2) + r, with h = conv2d(z1); both convolutions are 3x3, of stride 1 and padding 1
 *         z1 = group_norm(v), z2 = group_norm(h), each with silu or without
 *         r = v; or, where there is a shortcut, sum_c v[n,h,w,c] shortcut[m,c] + shortcut_bias[m]
 *         v = x; or, where there is up_weight, conv2d{doubled}(x), 3x3, of padding 1: H and W are twice those of x
 *   x              [N,H,W,C]; with up_weight [N,H/2,W/2,K]
 *   weight1        [M,C,3,3]
 *   weight2        [M,M,3,3]
 *   bias1, bias2   [M] or absent, full
 *   gamma1, beta1  [C] or absent, full
 *   gamma2, beta2  [M] or absent, full
 *   shortcut       [M,C,1,1]; absent only where C = M and there is no up_weight
 *   shortcut_bias  [M] or absent, full
 *   up_weight      [C,K,3,3] or absent
 *   up_bias        [C] or absent, full
 *   y              [N,H,W,M]
 * v, z1, h and z2 need never be there as a whole. */
#include "ops/rules.h"

#define NAME(name, text) text,
static const char *const names[] = {SP_BLOCK_INPUT_LIST(NAME)};
#undef NAME

/* Sizes of v and y. */
typedef struct {
    int64_t N, H, W, C, M;
} sizes;

static sp_value *input_of(const sp_node *node, int i)
{
    return i < node->inputs ? node->in[i] : NULL;
}

static sizes sizes_of(const sp_node *node)
{
    sp_shape x = sp_shape_in(node, SP_BLOCK_X);
    const sp_value *up = input_of(node, SP_BLOCK_UP_WEIGHT);
    int64_t times = up ? 2 : 1;
    return (sizes){x.dim[0], times * x.dim[1], times * x.dim[2], up ? sp_dim(up, 0) : x.dim[3],
                   sp_shape_in(node, SP_BLOCK_WEIGHT1).dim[0]};
}

static sp_status expect(const sp_node *node, int input, sp_shape shape, int other)
{
    if (!input_of(node, input) || sp_shape_equal(sp_shape_in(node, input), shape)) return SP_OK;
    return sp_misfit(node, names[input], input, names[other], other);
}

static sp_status expect_groups(const sp_node *node, int64_t channels, int groups)
{
    if (groups >= 1 && channels % groups == 0) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: %lld channels are no multiple of %d groups", node->op->name, (long long)channels,
                   groups);
}

static sp_status check_shortcut(const sp_node *node, const sizes *s)
{
    if (input_of(node, SP_BLOCK_SHORTCUT))
        return expect(node, SP_BLOCK_SHORTCUT, sp_shape_of(s->M, s->C, 1, 1), SP_BLOCK_WEIGHT1);
    if (input_of(node, SP_BLOCK_UP_WEIGHT))
        return sp_unexpected(node, "up_weight", SP_BLOCK_UP_WEIGHT, "none without a shortcut");
    return s->C == s->M ? SP_OK : sp_misfit(node, "weight1", SP_BLOCK_WEIGHT1, "x, which is added", SP_BLOCK_X);
}

static sp_status infer(sp_node *node)
{
    const sp_residual_block_options *o = node->options;
    sp_shape x = sp_shape_in(node, SP_BLOCK_X), first = sp_shape_in(node, SP_BLOCK_WEIGHT1);
    if (x.rank != 4 || sp_shape_count(x) < 1) return sp_unexpected(node, "x", SP_BLOCK_X, "[N,H,W,C] with elements");
    if (first.rank != 4) return sp_unexpected(node, "weight1", SP_BLOCK_WEIGHT1, "[M,C,3,3]");
    sizes s = sizes_of(node);
    SP_TRY(expect(node, SP_BLOCK_UP_WEIGHT, sp_shape_of(s.C, x.dim[3], 3, 3), SP_BLOCK_X));
    SP_TRY(expect(node, SP_BLOCK_UP_BIAS, sp_shape_of(s.C), SP_BLOCK_UP_WEIGHT));
    SP_TRY(expect(node, SP_BLOCK_WEIGHT1, sp_shape_of(s.M, s.C, 3, 3), SP_BLOCK_X));
    SP_TRY(expect(node, SP_BLOCK_WEIGHT2, sp_shape_of(s.M, s.M, 3, 3), SP_BLOCK_WEIGHT1));
    static const int of_y[] = {SP_BLOCK_BIAS1, SP_BLOCK_BIAS2, SP_BLOCK_GAMMA2, SP_BLOCK_BETA2, SP_BLOCK_SHORTCUT_BIAS};
    for (size_t i = 0; i < sizeof of_y / sizeof *of_y; i++)
        SP_TRY(expect(node, of_y[i], sp_shape_of(s.M), SP_BLOCK_WEIGHT1));
    SP_TRY(expect(node, SP_BLOCK_GAMMA1, sp_shape_of(s.C), SP_BLOCK_WEIGHT1));
    SP_TRY(expect(node, SP_BLOCK_BETA1, sp_shape_of(s.C), SP_BLOCK_WEIGHT1));
    SP_TRY(check_shortcut(node, &s));
    SP_TRY(expect_groups(node, s.C, o->norm1.groups));
    SP_TRY(expect_groups(node, s.M, o->norm2.groups));
    node->out[0]->shape = sp_shape_of(s.N, s.H, s.W, s.M);
    return SP_OK;
}

/* ---- reference ---- */

typedef struct {
    const sp_node *node;
    const void *const *in;
    sizes s;
} arguments;

static double read(const arguments *a, int input, int64_t i, double absent)
{
    return input_of(a->node, input) ? sp_read(a->node, a->in, input, i) : absent;
}

/* The group_norm of a sample's group g of x [S,C], in place. */
static void normalise_group(const arguments *a, const sp_group_norm_options *o, int gamma, double *x, int64_t C,
                            int64_t g)
{
    int64_t S = a->s.H * a->s.W, width = C / o->groups;
    double sum = 0, squares = 0, count = (double)(S * width);
    for (int64_t i = 0; i < S * width; i++)
        sum += x[i / width * C + g * width + i % width];
    for (int64_t i = 0; i < S * width; i++) {
        double d = x[i / width * C + g * width + i % width] - sum / count;
        squares += d * d;
    }
    double scale = 1 / sqrt(squares / count + o->epsilon);
    for (int64_t i = 0; i < S * width; i++) {
        int64_t c = g * width + i % width;
        double *at = &x[i / width * C + c], z = (*at - sum / count) * scale;
        z = z * read(a, gamma, c, 1) + read(a, gamma + 1, c, 0);
        *at = o->silu ? z * sp_sigmoid(z) : z;
    }
}

static void normalise(const arguments *a, const sp_group_norm_options *o, int gamma, double *x, int64_t C)
{
    for (int64_t n = 0; n < a->s.N; n++)
        for (int64_t g = 0; g < o->groups; g++)
            normalise_group(a, o, gamma, x + n * a->s.H * a->s.W * C, C, g);
}

/* Element `index` of the 3x3 convolution of x [N,H >> shift,W >> shift,C], doubled where shift is 1, to M channels. */
static double convolved(const arguments *a, const double *x, int64_t C, int shift, int weight, int bias, int64_t M,
                        int64_t index)
{
    int64_t H = a->s.H, W = a->s.W;
    int64_t m = index % M, q = index / M % W, p = index / M / W % H, n = index / M / W / H;
    double sum = read(a, bias, m, 0);
    for (int64_t tap = 0; tap < 9; tap++) {
        int64_t h = p + tap / 3 - 1, w = q + tap % 3 - 1;
        if (h < 0 || h >= H || w < 0 || w >= W) continue;
        const double *from = x + ((n * (H >> shift) + (h >> shift)) * (W >> shift) + (w >> shift)) * C;
        for (int64_t c = 0; c < C; c++)
            sum += from[c] * read(a, weight, (m * C + c) * 9 + tap, 0);
    }
    return sum;
}

/* r of y's element `index`. */
static double residual(const arguments *a, const double *v, int64_t index)
{
    int64_t C = a->s.C, M = a->s.M, m = index % M;
    if (!input_of(a->node, SP_BLOCK_SHORTCUT)) return v[index];
    double sum = read(a, SP_BLOCK_SHORTCUT_BIAS, m, 0);
    for (int64_t c = 0; c < C; c++)
        sum += v[index / M * C + c] * read(a, SP_BLOCK_SHORTCUT, m * C + c, 0);
    return sum;
}

static void make_v(const arguments *a, double *x, double *v)
{
    int64_t K = sp_channels(a->node->in[SP_BLOCK_X]), count = a->s.N * a->s.H * a->s.W * a->s.C;
    bool up = input_of(a->node, SP_BLOCK_UP_WEIGHT);
    for (int64_t i = 0; i < sp_count_in(a->node, SP_BLOCK_X); i++)
        x[i] = read(a, SP_BLOCK_X, i, 0);
    for (int64_t i = 0; i < count; i++)
        v[i] = up ? convolved(a, x, K, 1, SP_BLOCK_UP_WEIGHT, SP_BLOCK_UP_BIAS, a->s.C, i) : x[i];
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_residual_block_options *o = node->options;
    const arguments a = {node, in, sizes_of(node)};
    int64_t positions = a.s.N * a.s.H * a.s.W, C = a.s.C, M = a.s.M, x_count = sp_count_in(node, SP_BLOCK_X);
    double *x = sp_reference_scratch(node, out, x_count + positions * (2 * C + M));
    if (!x) return;
    double *v = x + x_count, *z = v + positions * C, *h = z + positions * C;
    make_v(&a, x, v);
    memcpy(z, v, (size_t)(positions * C) * sizeof *z);
    normalise(&a, &o->norm1, SP_BLOCK_GAMMA1, z, C);
    for (int64_t i = 0; i < positions * M; i++)
        h[i] = convolved(&a, z, C, 0, SP_BLOCK_WEIGHT1, SP_BLOCK_BIAS1, M, i);
    normalise(&a, &o->norm2, SP_BLOCK_GAMMA2, h, M);
    for (int64_t i = 0; i < positions * M; i++)
        sp_write(node, out, 0, i,
                 convolved(&a, h, M, 0, SP_BLOCK_WEIGHT2, SP_BLOCK_BIAS2, M, i) + residual(&a, v, i));
    sp_free(x);
}

static double flops(const sp_node *node)
{
    sizes s = sizes_of(node);
    bool up = input_of(node, SP_BLOCK_UP_WEIGHT), shortcut = input_of(node, SP_BLOCK_SHORTCUT);
    double of_position = (double)(9 * (s.C + s.M) * s.M + (shortcut ? s.C * s.M : 0));
    if (up) of_position += (double)(9 * s.C * sp_channels(node->in[SP_BLOCK_X]));
    return 2.0 * (double)(s.N * s.H * s.W) * of_position;
}

const sp_op sp_op_residual_block = {
    .name = "residual_block",
    .outputs = 1,
    .options_size = sizeof(sp_residual_block_options),
    .full_inputs = 1 << SP_BLOCK_BIAS1 | 1 << SP_BLOCK_BIAS2 | 1 << SP_BLOCK_GAMMA1 | 1 << SP_BLOCK_BETA1 |
                   1 << SP_BLOCK_GAMMA2 | 1 << SP_BLOCK_BETA2 | 1 << SP_BLOCK_SHORTCUT_BIAS | 1 << SP_BLOCK_UP_BIAS,
    .stored_inputs =
        1 << SP_BLOCK_WEIGHT1 | 1 << SP_BLOCK_WEIGHT2 | 1 << SP_BLOCK_SHORTCUT | 1 << SP_BLOCK_UP_WEIGHT,
    .infer = infer,
    .reference = reference,
    .flops = flops,
};

sp_value *sp_residual_block(sp_builder *b, sp_value *const in[SP_BLOCK_INPUTS], sp_residual_block_options options)
{
    return sp_node_make(b, &sp_op_residual_block, SP_BLOCK_BIAS1, SP_BLOCK_INPUTS, in, &options);
}
