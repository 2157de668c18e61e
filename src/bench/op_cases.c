/* The list. Each family of operators has a build function; a case is one line of sizes for it. The
 * comment over a build function says what those sizes and numbers are. */
#include "graph/passes.h"
#include "bench/op_cases.h"
#include <math.h>
#include <stdio.h>

/* ---- inputs ---- */
static sp_value *declare(sp_case_inputs *t, sp_dtype dtype, sp_shape shape, sp_rate rate,
                         sp_case_input about)
{
    char name[24];
    snprintf(name, sizeof name, "in%d", t->count);
    about.value = sp_input(t->b, name, dtype, shape, rate);
    t->input[t->count++] = about;
    return about.value;
}

static sp_value *in_range(sp_case_inputs *t, sp_shape shape, double low, double high)
{
    return declare(t, t->dtype, shape, SP_RATE_STEP,
                   (sp_case_input){.low = low, .high = high, .differentiable = true});
}

static sp_value *in(sp_case_inputs *t, sp_shape shape)
{
    return in_range(t, shape, -1, 1);
}

/* What only products read: their results, and what is laid over them. */
static sp_value *in_activation(sp_case_inputs *t, sp_shape shape)
{
    return declare(t, t->dtype, shape, SP_RATE_STEP,
                   (sp_case_input){.low = -1, .high = 1, .differentiable = true, .activation = true});
}

static sp_value *in_weight(sp_case_inputs *t, sp_shape shape)
{
    return declare(t, t->dtype, shape, SP_RATE_RUN,
                   (sp_case_input){.low = -1, .high = 1, .differentiable = true});
}

/* For inputs that have no gradient: coefficients, targets, timesteps. */
static sp_value *in_constant(sp_case_inputs *t, sp_shape shape, double low, double high)
{
    return declare(t, t->dtype, shape, SP_RATE_STEP, (sp_case_input){.low = low, .high = high});
}

static sp_value *in_ids(sp_case_inputs *t, sp_shape shape, sp_dtype dtype, int64_t rows)
{
    return declare(t, dtype, shape, SP_RATE_STEP, (sp_case_input){.rows = rows});
}

static sp_value *in_if(sp_case_inputs *t, bool wanted, sp_shape shape)
{
    return wanted ? in(t, shape) : NULL;
}

static sp_value *in_activation_if(sp_case_inputs *t, bool wanted, sp_shape shape)
{
    return wanted ? in_activation(t, shape) : NULL;
}

static sp_shape four(const int64_t *s)
{
    return sp_shape_make(s, 4);
}

/* ---- moving ---- */
static sp_value *reshape(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_reshape(t->b, in(t, four(c->size)), sp_shape_of(c->size[0], -1, c->size[3]));
}

static sp_value *cast(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x = in(t, four(c->size));
    sp_dtype dtype = t->dtype == SP_F32 ? SP_BF16 : t->dtype;
    return sp_node_make(t->b, &sp_op_cast, 1, 1, &x, &(sp_cast_options){dtype});
}

/* shape, order */
static sp_value *permute(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    return sp_permute(t->b, in(t, four(s)), (int[]){(int)s[4], (int)s[5], (int)s[6], (int)s[7]});
}

/* shape, axis, pieces, step of their sizes */
static sp_value *concat(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x[SP_MAX_INPUTS];
    sp_shape shape = four(c->size);
    for (int i = 0; i < c->size[5]; i++) {
        x[i] = in(t, shape);
        shape.dim[c->size[4]] += c->size[6];
    }
    return sp_concat(t->b, (int)c->size[5], x, (int)c->size[4]);
}

/* shape, axis, start, count */
static sp_value *slice(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_slice(t->b, in(t, four(c->size)), (int)c->size[4], c->size[5], c->size[6]);
}

/* shape, axis, start, full */
static sp_value *unslice(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_unslice(t->b, in(t, four(c->size)), (int)c->size[4], c->size[5], c->size[6]);
}

/* shape, height, width */
static sp_value *upsample(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_upsample_nearest(t->b, in(t, four(c->size)), c->size[4], c->size[5]);
}

static sp_value *upsample_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_upsample_nearest_gradient(t->b, in(t, four(c->size)), c->size[4], c->size[5]);
}

/* shape, kernel, stride, padding, largest */
static sp_value *pool2d(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    return sp_pool2d(t->b, in(t, four(s)), (sp_pool2d_options){(int)s[4], (int)s[5], (int)s[6], s[7] != 0});
}

/* ---- elementwise ---- */
/* shape, rank of y; alpha */
static sp_value *add(sp_case_inputs *t, const sp_op_case *c)
{
    int rank = (int)c->size[4];
    sp_value *x = in(t, four(c->size));
    return sp_add_scaled(t->b, x, in(t, sp_shape_make(c->size + 4 - rank, rank)), c->number[0]);
}

static sp_value *mul(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x = in(t, four(c->size));
    return sp_mul(t->b, x, in(t, four(c->size)));
}

static sp_value *affine(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_affine(t->b, in(t, four(c->size)), c->number[0], c->number[1]);
}

static sp_value *add_per_channel(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *h = in(t, four(c->size));
    return sp_add_per_channel(t->b, h, in(t, sp_shape_of(c->size[0], c->size[3])));
}

/* shape, whether there is an offset, a residual; base */
static sp_value *modulate(sp_case_inputs *t, const sp_op_case *c)
{
    const sp_shape vector = sp_shape_of(c->size[0], c->size[3]);
    sp_value *x = in(t, four(c->size)), *factor = in(t, vector), *offset = in_if(t, c->size[4] != 0, vector);
    return sp_modulate(t->b, x, factor, offset, in_if(t, c->size[5] != 0, four(c->size)), c->number[0]);
}

/* shape, terms */
static sp_value *sample_combine(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *terms[SP_MAX_INPUTS];
    for (int i = 0; i < c->size[4]; i++) {
        terms[2 * i] = in_constant(t, sp_shape_of(c->size[0]), -1, 1);
        terms[2 * i + 1] = in(t, four(c->size));
    }
    return sp_sample_combine(t->b, (int)c->size[4], terms);
}

/* shape, kind; range */
static sp_value *unary(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x = in_range(t, four(c->size), -c->number[0], c->number[0]);
    if (c->size[4] == SP_UNARY_CLAMP) return sp_clamp(t->b, x, -0.51, 0.77);
    return sp_unary(t->b, (sp_unary_kind)c->size[4], x);
}

static sp_value *unary_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x = in_range(t, four(c->size), -c->number[0], c->number[0]);
    return sp_unary_gradient(t->b, x, in(t, four(c->size)),
                             (sp_unary_options){(sp_unary_kind)c->size[4], -0.51, 0.77});
}

static sp_value *geglu(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_geglu(t->b, in_range(t, four(c->size), -4, 4));
}

static sp_value *geglu_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_shape dy = four(c->size);
    dy.dim[3] /= 2;
    sp_value *x = in_range(t, four(c->size), -4, 4);
    return sp_geglu_gradient(t->b, x, in(t, dy));
}

/* ---- reductions ---- */
/* shape, keep */
static sp_value *sum_leading(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_sum_leading(t->b, in(t, four(c->size)), (int)c->size[4]);
}

/* shape, rank of x; factor */
static sp_value *fill(sp_case_inputs *t, const sp_op_case *c)
{
    int rank = (int)c->size[4];
    return sp_fill(t->b, in(t, sp_shape_make(c->size + 4 - rank, rank)), four(c->size),
                   c->number[0]);
}

static sp_value *sum_middle(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_sum_middle(t->b, in(t, four(c->size)));
}

static sp_value *broadcast_middle(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_broadcast_middle(t->b, in(t, sp_shape_of(c->size[0], c->size[3])), four(c->size));
}

static sp_value *inverse_mean_abs(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_inverse_mean_abs(t->b, in(t, four(c->size)));
}

static sp_value *mean(sp_case_inputs *t, const sp_op_case *c)
{
    return sp_mean(t->b, in_range(t, four(c->size), -1, 2));
}

/* shape, kind, weighted; huber_c */
static sp_value *loss(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *prediction = in(t, four(c->size)), *target = in_constant(t, four(c->size), -1, 1);
    sp_value *weight = c->size[5] ? in_constant(t, sp_shape_of(c->size[0]), 0.5, 2) : NULL;
    return sp_loss(t->b, prediction, target, weight,
                   (sp_loss_options){(sp_loss_kind)c->size[4], c->number[0]});
}

static sp_value *loss_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *prediction = in(t, four(c->size)), *target = in_constant(t, four(c->size), -1, 1);
    sp_value *weight = c->size[5] ? in_constant(t, sp_shape_of(c->size[0]), 0.5, 2) : NULL;
    sp_value *dy = in_range(t, (sp_shape){0}, 1, 2);
    return sp_loss_gradient(t->b, prediction, target, weight, dy,
                            (sp_loss_options){(sp_loss_kind)c->size[4], c->number[0]});
}

/* ---- products ---- */
enum { BIAS = 1, PER_CHANNEL = 2, RESIDUAL = 4, DOUBLED = 8, SILU = 1, AFFINE = 2, RMS = 4 };

/* N, L, K, M, with what */
static sp_value *linear(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, sp_shape_of(s[0], s[1], s[2])),
             *weight = in_weight(t, sp_shape_of(s[3], s[2]));
    sp_value *bias = in_if(t, s[4] & BIAS, sp_shape_of(s[3]));
    return sp_linear(t->b, x, weight, bias,
                     in_activation_if(t, s[4] & RESIDUAL, sp_shape_of(s[0], s[1], s[3])));
}

/* as linear, x [N,K] */
static sp_value *linear_rank2(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, sp_shape_of(s[0], s[2])), *weight = in_weight(t, sp_shape_of(s[3], s[2]));
    sp_value *bias = in_if(t, s[4] & BIAS, sp_shape_of(s[3]));
    return sp_linear(t->b, x, weight, bias, in_activation_if(t, s[4] & RESIDUAL, sp_shape_of(s[0], s[3])));
}

static sp_value *linear_geglu(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, sp_shape_of(s[0], s[1], s[2])),
             *weight = in_weight(t, sp_shape_of(2 * s[3], s[2]));
    return sp_linear_geglu(t->b, x, weight, in_if(t, s[4] & BIAS, sp_shape_of(2 * s[3])));
}

static sp_value *linear_transposed(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, sp_shape_of(s[0], s[1], s[2]));
    return sp_linear_transposed(t->b, x, in_weight(t, sp_shape_of(s[2], s[3])));
}

static sp_value *linear_weight_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, sp_shape_of(s[0], s[1], s[2]));
    return sp_linear_weight_gradient(t->b, x, in_activation(t, sp_shape_of(s[0], s[1], s[3])));
}

/* Convolutions: N, H, W, C, M, kernel, stride, pad top, left, bottom, right, with what. */
static sp_conv2d_options convolution(const int64_t *s)
{
    return (sp_conv2d_options){(int)s[6], (int)s[7],  (int)s[8],
                               (int)s[9], (int)s[10], (s[11] & DOUBLED) != 0};
}

static sp_shape convolved(const int64_t *s)
{
    int64_t times = s[11] & DOUBLED ? 2 : 1;
    return sp_shape_of(s[0], (times * s[1] + s[7] + s[9] - s[5]) / s[6] + 1,
                       (times * s[2] + s[8] + s[10] - s[5]) / s[6] + 1, s[4]);
}

static sp_value *conv2d(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, four(s)), *weight = in_weight(t, sp_shape_of(s[4], s[3], s[5], s[5]));
    sp_value *bias = in_if(t, s[11] & BIAS, sp_shape_of(s[4]));
    sp_value *per_channel = in_activation_if(t, s[11] & PER_CHANNEL, sp_shape_of(s[0], s[4]));
    sp_value *residual = in_activation_if(t, s[11] & RESIDUAL, convolved(s));
    return sp_conv2d(t->b, x, weight, bias, per_channel, residual, convolution(s));
}

static sp_value *conv2d_data_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *dy = in_activation(t, convolved(s)), *weight = in_weight(t, sp_shape_of(s[4], s[3], s[5], s[5]));
    return sp_conv2d_data_gradient(t->b, dy, weight, s[1], s[2], convolution(s));
}

static sp_value *conv2d_weight_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *x = in_activation(t, four(s));
    return sp_conv2d_weight_gradient(t->b, x, in_activation(t, convolved(s)), s[5], s[5], convolution(s));
}

/* Attention: N, Lq, Lk, heads, head dimension, causal, copies of the last key; range of q (0: 1), which sets how
 * peaked the softmax is. */
static sp_attention_options attention_options(const int64_t *s)
{
    return (sp_attention_options){(int)s[3], 1 / sqrt((double)s[4]), s[5] != 0, s[6]};
}

static void attention_inputs(sp_case_inputs *t, const sp_op_case *c, sp_value **q, sp_value **k,
                             sp_value **v)
{
    const int64_t *s = c->size;
    double range = c->number[0] > 0 ? c->number[0] : 1;
    *q = in_range(t, sp_shape_of(s[0], s[1], s[3] * s[4]), -range, range);
    *k = in(t, sp_shape_of(s[0], s[2], s[3] * s[4]));
    *v = in(t, sp_shape_of(s[0], s[2], s[3] * s[4]));
}

static sp_value *attention(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *q, *k, *v;
    attention_inputs(t, c, &q, &k, &v);
    return sp_attention(t->b, q, k, v, attention_options(c->size));
}

static sp_value *attention_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *q, *k, *v;
    attention_inputs(t, c, &q, &k, &v);
    sp_value *out = sp_attention(t->b, q, k, v, attention_options(c->size));
    sp_value *dout = in(t, sp_shape_of(c->size[0], c->size[1], c->size[3] * c->size[4]));
    return sp_attention_gradient(t->b, q, k, v, out, out ? sp_output_of(out, 1) : NULL, dout,
                                 attention_options(c->size));
}

/* ---- norms: shape, groups, with what; mean of x ---- */
static sp_group_norm_options group_norm_options(const sp_op_case *c)
{
    return (sp_group_norm_options){(int)c->size[4], 1e-5, (c->size[5] & SILU) != 0};
}

static sp_value *in_norm(sp_case_inputs *t, const sp_op_case *c)
{
    return in_range(t, four(c->size), c->number[0] - 1, c->number[0] + 1);
}

static sp_value *group_norm(sp_case_inputs *t, const sp_op_case *c)
{
    sp_shape vector = sp_shape_of(c->size[3]);
    sp_value *x = in_norm(t, c), *gamma = in_if(t, c->size[5] & AFFINE, vector);
    return sp_group_norm(t->b, x, gamma, in_if(t, c->size[5] & AFFINE, vector),
                         group_norm_options(c));
}

static sp_value *group_norm_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_shape vector = sp_shape_of(c->size[3]);
    sp_value *x = in_norm(t, c), *gamma = in_if(t, c->size[5] & AFFINE, vector);
    sp_value *beta = in_if(t, c->size[5] & AFFINE, vector);
    return sp_group_norm_gradient(t->b, x, gamma, beta, in(t, four(c->size)),
                                  group_norm_options(c));
}

static sp_layer_norm_options layer_norm_options(const sp_op_case *c)
{
    return (sp_layer_norm_options){1e-5, c->size[5] & RMS};
}

static sp_value *layer_norm(sp_case_inputs *t, const sp_op_case *c)
{
    sp_shape vector = sp_shape_of(c->size[3]);
    sp_value *x = in_norm(t, c), *gamma = in_if(t, c->size[5] & AFFINE, vector);
    sp_value *beta = in_if(t, c->size[5] & AFFINE && !(c->size[5] & RMS), vector);
    return sp_layer_norm(t->b, x, gamma, beta, layer_norm_options(c));
}

static sp_value *layer_norm_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    sp_value *x = in_norm(t, c), *gamma = in_if(t, c->size[5] & AFFINE, sp_shape_of(c->size[3]));
    return sp_layer_norm_gradient(t->b, x, gamma, in(t, four(c->size)), layer_norm_options(c));
}

/* H, W, C, M, channels before the upsampling (0: none), shortcut, groups, rows at a time, bytes in all, with what of
 * convolutions, of norms */
static sp_value *residual_block(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    int64_t H = s[0], W = s[1], C = s[2], M = s[3], K = s[4];
    bool bias = s[9] & BIAS, affine = s[10] & AFFINE;
    sp_value *in[SP_BLOCK_INPUTS] = {0};
    in[SP_BLOCK_X] = in_activation(t, K ? sp_shape_of(1, H / 2, W / 2, K) : sp_shape_of(1, H, W, C));
    in[SP_BLOCK_WEIGHT1] = in_weight(t, sp_shape_of(M, C, 3, 3));
    in[SP_BLOCK_WEIGHT2] = in_weight(t, sp_shape_of(M, M, 3, 3));
    in[SP_BLOCK_BIAS1] = in_if(t, bias, sp_shape_of(M));
    in[SP_BLOCK_BIAS2] = in_if(t, bias, sp_shape_of(M));
    in[SP_BLOCK_GAMMA1] = in_if(t, affine, sp_shape_of(C));
    in[SP_BLOCK_BETA1] = in_if(t, affine, sp_shape_of(C));
    in[SP_BLOCK_GAMMA2] = in_if(t, affine, sp_shape_of(M));
    in[SP_BLOCK_BETA2] = in_if(t, affine, sp_shape_of(M));
    if (s[5]) in[SP_BLOCK_SHORTCUT] = in_weight(t, sp_shape_of(M, C, 1, 1));
    in[SP_BLOCK_SHORTCUT_BIAS] = in_if(t, s[5] && bias, sp_shape_of(M));
    if (K) in[SP_BLOCK_UP_WEIGHT] = in_weight(t, sp_shape_of(C, K, 3, 3));
    in[SP_BLOCK_UP_BIAS] = in_if(t, K && bias, sp_shape_of(C));
    const sp_group_norm_options norm = {(int)s[6], 1e-5, (s[10] & SILU) != 0};
    return sp_residual_block(t->b, in, (sp_residual_block_options){norm, norm, s[7], s[8], !K});
}

/* ---- tables: N, L, V, C, whether ids are I64 ---- */
static sp_value *embedding(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *ids = in_ids(t, sp_shape_of(s[0], s[1]), s[4] ? SP_I64 : SP_I32, s[2]);
    return sp_embedding(t->b, ids, in_weight(t, sp_shape_of(s[2], s[3])));
}

static sp_value *embedding_gradient(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_value *ids = in_ids(t, sp_shape_of(s[0], s[1]), s[4] ? SP_I64 : SP_I32, s[2]);
    return sp_embedding_gradient(t->b, ids, in(t, sp_shape_of(s[0], s[1], s[3])), s[2]);
}

/* N, dim, cos_first, shift, scale; largest t */
static sp_value *sinusoidal(sp_case_inputs *t, const sp_op_case *c)
{
    const int64_t *s = c->size;
    sp_sinusoidal_options options = {s[1], s[2] != 0, (double)s[3], 10000, (double)s[4]};
    return sp_sinusoidal(t->b, in_constant(t, sp_shape_of(s[0]), 0, c->number[0]), options);
}

/* ---- the list ---- */
#define CASE(op_, name_, class_, large_, ...)                                                      \
    {                                                                                              \
        .op = &sp_op_##op_, .name = name_, .build = op_, .class = class_, .large = large_,         \
        .size = __VA_ARGS__                                                                        \
    }
#define MOVE(op, name, ...) CASE(op, name, SP_CASE_MOVE, false, __VA_ARGS__)
#define EACH(op, name, ...) CASE(op, name, SP_CASE_POINTWISE, false, __VA_ARGS__)
#define SUM(op, name, ...) CASE(op, name, SP_CASE_SUM, false, __VA_ARGS__)
#define ATTEND(op, name, ...) CASE(op, name, SP_CASE_ATTENTION, false, __VA_ARGS__)
#define CHAIN(op, name, ...) CASE(op, name, SP_CASE_CHAIN, false, __VA_ARGS__)
#define LARGE(op, name, ...) CASE(op, name, SP_CASE_SUM, true, __VA_ARGS__)
#define sp_op_linear_rank2 sp_op_linear
#define sp_op_linear_transposed sp_op_linear
#define sp_op_upsample sp_op_upsample_nearest
#define sp_op_upsample_gradient sp_op_upsample_nearest_gradient

#define BOTH(CLASS, op, name, ...)                                                                 \
    CLASS(op, name, __VA_ARGS__), CLASS(op##_gradient, name, __VA_ARGS__)
#define CONVOLUTIONS(CLASS, name, ...)                                                             \
    CLASS(conv2d, name, __VA_ARGS__), CLASS(conv2d_data_gradient, name, __VA_ARGS__),              \
        CLASS(conv2d_weight_gradient, name, __VA_ARGS__)
#define PRODUCTS(CLASS, name, ...)                                                                 \
    CLASS(linear, name, __VA_ARGS__), CLASS(linear_transposed, name, __VA_ARGS__),                 \
        CLASS(linear_weight_gradient, name, __VA_ARGS__)

/* clang-format off */
const sp_op_case sp_op_cases[] = {
    MOVE(reshape, "[2,3,5,7] -> [2,-1,7]", {2, 3, 5, 7}),
    EACH(cast, "[2,3,5,7]", {2, 3, 5, 7}),
    EACH(cast, "one element", {1, 1, 1, 1}),
    MOVE(permute, "nchw to nhwc", {2, 5, 3, 7, 0, 2, 3, 1}),
    MOVE(permute, "nhwc to nchw", {3, 9, 4, 6, 0, 3, 1, 2}),
    MOVE(permute, "nhwc to nchw, 16 channels", {2, 8, 8, 16, 0, 3, 1, 2}),
    MOVE(permute, "middle exchanged", {2, 3, 4, 5, 0, 2, 1, 3}),
    MOVE(permute, "reversed", {2, 3, 4, 5, 3, 2, 1, 0}),
    MOVE(permute, "one pixel", {1, 4, 1, 1, 0, 2, 3, 1}),
    MOVE(concat, "channels", {2, 3, 5, 7, 3, 2, 4}),
    MOVE(concat, "channels, multiples of 16", {2, 4, 4, 32, 3, 2, 16}),
    MOVE(concat, "samples", {1, 3, 5, 7, 0, 2, 1}),
    MOVE(concat, "height, three", {2, 1, 3, 4, 1, 3, 2}),
    MOVE(slice, "channels, first", {2, 3, 5, 8, 3, 0, 3}),
    MOVE(slice, "channels, last", {2, 3, 5, 8, -1, 5, 3}),
    MOVE(slice, "samples", {4, 3, 2, 5, 0, 1, 2}),
    MOVE(unslice, "channels", {2, 3, 5, 3, 3, 4, 8}),
    MOVE(unslice, "samples", {2, 3, 2, 5, 0, 1, 4}),
    MOVE(upsample, "twice", {2, 3, 4, 5, 6, 8}),
    MOVE(upsample, "odd", {1, 3, 4, 16, 5, 7}),
    MOVE(upsample, "one pixel", {1, 1, 1, 3, 2, 2}),
    SUM(upsample_gradient, "twice", {2, 6, 8, 5, 3, 4}),
    SUM(upsample_gradient, "odd", {1, 5, 7, 16, 3, 4}),
    SUM(upsample_gradient, "one pixel", {1, 2, 2, 3, 1, 1}),

    MOVE(pool2d, "largest, 3, stride 2", {2, 7, 8, 5, 3, 2, 0, 1}),
    MOVE(pool2d, "largest, 3, padded", {1, 4, 5, 16, 3, 1, 1, 1}),
    SUM(pool2d, "mean, 3, padded", {2, 5, 4, 7, 3, 1, 1, 0}),
    SUM(pool2d, "mean, 4, stride 2", {1, 8, 6, 3, 4, 2, 0, 0}),
    SUM(pool2d, "mean of a single cell", {1, 1, 1, 3, 3, 2, 1, 0}),

    EACH(add, "equal shapes", {2, 3, 5, 7, 4}, {1}),
    EACH(add, "scaled", {2, 3, 5, 7, 4}, {-0.75}),
    EACH(add, "per channel", {2, 3, 5, 7, 1}, {1}),
    EACH(add, "last two dimensions, scaled", {2, 3, 5, 16, 2}, {2.5}),
    EACH(add, "scalar", {2, 3, 5, 7, 0}, {1}),
    EACH(mul, "[2,3,5,7]", {2, 3, 5, 7}),
    EACH(mul, "[1,4,4,32]", {1, 4, 4, 32}),
    EACH(affine, "[2,3,5,7]", {2, 3, 5, 7}, {-1.5, 0.25}),
    EACH(add_per_channel, "[2,3,5,7]", {2, 3, 5, 7}),
    EACH(add_per_channel, "[3,4,4,32]", {3, 4, 4, 32}),
    EACH(modulate, "factor", {2, 3, 5, 7, 0, 0}, {1}),
    EACH(modulate, "offset", {3, 4, 4, 32, 1, 0}, {1}),
    EACH(modulate, "gate", {2, 3, 5, 16, 0, 1}, {0}),
    EACH(modulate, "all", {2, 1, 3, 600, 1, 1}, {1}),
    EACH(sample_combine, "one term", {3, 2, 5, 4, 1}),
    EACH(sample_combine, "two terms", {3, 2, 5, 4, 2}),
    EACH(sample_combine, "four terms, one sample", {1, 3, 3, 4, 4}),
    BOTH(EACH, unary, "silu", {2, 3, 5, 7, SP_UNARY_SILU}, {8}),
    BOTH(EACH, unary, "silu, saturated", {2, 3, 5, 7, SP_UNARY_SILU}, {120}),
    BOTH(EACH, unary, "gelu", {2, 3, 5, 7, SP_UNARY_GELU}, {6}),
    BOTH(EACH, unary, "gelu, saturated", {2, 3, 5, 7, SP_UNARY_GELU}, {120}),
    BOTH(EACH, unary, "quick_gelu", {2, 3, 5, 7, SP_UNARY_QUICK_GELU}, {6}),
    BOTH(EACH, unary, "gelu_tanh", {2, 3, 5, 7, SP_UNARY_GELU_TANH}, {6}),
    BOTH(EACH, unary, "gelu_tanh, saturated", {2, 3, 5, 7, SP_UNARY_GELU_TANH}, {120}),
    BOTH(EACH, unary, "tanh", {2, 3, 5, 7, SP_UNARY_TANH}, {4}),
    BOTH(EACH, unary, "tanh, small", {2, 3, 5, 7, SP_UNARY_TANH}, {0.01}),
    BOTH(EACH, unary, "relu", {2, 3, 5, 7, SP_UNARY_RELU}, {1}),
    BOTH(EACH, unary, "exp", {2, 3, 5, 7, SP_UNARY_EXP}, {4}),
    BOTH(EACH, unary, "softplus", {2, 3, 5, 7, SP_UNARY_SOFTPLUS}, {8}),
    BOTH(EACH, unary, "softplus, saturated", {2, 3, 5, 7, SP_UNARY_SOFTPLUS}, {120}),
    BOTH(EACH, unary, "clamp", {2, 3, 5, 7, SP_UNARY_CLAMP}, {1}),
    BOTH(EACH, unary, "one element", {1, 1, 1, 1, SP_UNARY_SILU}, {1}),
    BOTH(EACH, geglu, "odd", {2, 3, 5, 14}),
    BOTH(EACH, geglu, "one row", {1, 1, 1, 64}),

    SUM(sum_leading, "keep channels", {2, 3, 5, 7, 1}),
    SUM(sum_leading, "keep two", {3, 4, 5, 16, 2}),
    SUM(sum_leading, "keep nothing", {2, 3, 5, 7, 0}),
    SUM(sum_leading, "keep channels, many rows", {4, 9, 11, 48, 1}),
    EACH(fill, "scalar", {2, 3, 5, 7, 0}, {0.125}),
    EACH(fill, "channels", {2, 3, 5, 7, 1}, {1}),
    SUM(sum_middle, "[2,3,5,7]", {2, 3, 5, 7}),
    SUM(sum_middle, "[3,8,8,32]", {3, 8, 8, 32}),
    SUM(sum_middle, "one pixel", {3, 1, 1, 5}),
    MOVE(broadcast_middle, "[2,3,5,7]", {2, 3, 5, 7}),
    SUM(mean, "[2,3,5,7]", {2, 3, 5, 7}),
    SUM(mean, "one element", {1, 1, 1, 1}),
    SUM(inverse_mean_abs, "[3,5,7,4]", {3, 5, 7, 4}),
    SUM(inverse_mean_abs, "one element", {1, 1, 1, 1}),
    BOTH(SUM, loss, "l2", {3, 2, 5, 4, SP_LOSS_L2, 0}),
    BOTH(SUM, loss, "l2, weighted", {3, 2, 5, 4, SP_LOSS_L2, 1}),
    BOTH(SUM, loss, "huber", {3, 2, 5, 4, SP_LOSS_HUBER, 0}, {0.1}),
    BOTH(SUM, loss, "huber, weighted, small c", {3, 2, 5, 4, SP_LOSS_HUBER, 1}, {1e-3}),

    PRODUCTS(SUM, "plain", {2, 5, 24, 40}),
    PRODUCTS(SUM, "odd", {3, 7, 13, 9}),
    PRODUCTS(SUM, "one token", {1, 1, 32, 64}),
    PRODUCTS(SUM, "to one feature", {2, 3, 17, 1}),
    PRODUCTS(SUM, "from one feature", {2, 3, 1, 8}),
    PRODUCTS(SUM, "320 features", {1, 9, 320, 96}),
    PRODUCTS(SUM, "whole blocks", {2, 20, 64, 128}),
    PRODUCTS(SUM, "whole blocks of 48", {2, 20, 96, 48}),
    PRODUCTS(SUM, "many rows", {1, 901, 40, 72}),
    SUM(linear, "bias", {2, 5, 24, 40, BIAS}),
    SUM(linear, "residual", {2, 5, 24, 40, RESIDUAL}),
    SUM(linear, "bias and residual", {2, 5, 24, 40, BIAS | RESIDUAL}),
    SUM(linear, "bias and residual, odd", {3, 7, 13, 9, BIAS | RESIDUAL}),
    ATTEND(linear_geglu, "bias", {2, 5, 24, 40, BIAS}),
    ATTEND(linear_geglu, "no bias, odd", {3, 7, 13, 9}),
    ATTEND(linear_geglu, "rows in chunks", {1, 1536, 5, 300, BIAS}),
    SUM(linear_rank2, "[N,K], bias", {3, 0, 20, 12, BIAS}),
    SUM(linear_rank2, "[1,K], bias and residual", {1, 0, 64, 32, BIAS | RESIDUAL}),

    /*                        N  H  W  C   M  k  stride, padding t l b r */
    CONVOLUTIONS(SUM, "3x3", {2, 6, 5, 16, 24, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, odd", {1, 5, 7, 3, 5, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, one pixel", {1, 1, 1, 8, 16, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, no padding", {2, 5, 4, 4, 6, 3, 1, 0, 0, 0, 0}),
    CONVOLUTIONS(SUM, "3x3, stride 2", {2, 8, 6, 16, 16, 3, 2, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, stride 2, odd", {1, 7, 5, 5, 4, 3, 2, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, stride 2, right and bottom", {2, 8, 6, 16, 16, 3, 2, 0, 0, 1, 1}),
    CONVOLUTIONS(SUM, "3x3, stride 2, right and bottom, odd", {1, 7, 9, 6, 7, 3, 2, 0, 0, 1, 1}),
    CONVOLUTIONS(SUM, "1x1", {2, 4, 5, 16, 32, 1, 1, 0, 0, 0, 0}),
    CONVOLUTIONS(SUM, "1x1, odd", {3, 3, 5, 7, 9, 1, 1, 0, 0, 0, 0}),
    CONVOLUTIONS(SUM, "3x3, whole blocks", {1, 6, 5, 64, 96, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "1x1, whole blocks", {2, 4, 5, 96, 128, 1, 1, 0, 0, 0, 0}),
    CONVOLUTIONS(SUM, "latent in", {2, 8, 8, 4, 32, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "latent out", {2, 8, 8, 32, 4, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "batch 3, 8x8x64", {3, 8, 8, 64, 32, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "4x4, stride 2", {2, 8, 6, 16, 24, 4, 2, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "4x4, stride 2, odd", {3, 5, 7, 9, 5, 4, 2, 1, 1, 1, 1}),
    CONVOLUTIONS(SUM, "14x14 patches", {1, 28, 28, 3, 8, 14, 14, 0, 0, 0, 0}),
    SUM(conv2d, "bias", {2, 6, 5, 16, 24, 3, 1, 1, 1, 1, 1, BIAS}),
    SUM(conv2d, "bias, per channel", {2, 6, 5, 16, 24, 3, 1, 1, 1, 1, 1, BIAS | PER_CHANNEL}),
    SUM(conv2d, "bias, residual", {2, 6, 5, 16, 24, 3, 1, 1, 1, 1, 1, BIAS | RESIDUAL}),
    SUM(conv2d, "all", {3, 6, 5, 16, 24, 3, 1, 1, 1, 1, 1, BIAS | PER_CHANNEL | RESIDUAL}),
    SUM(conv2d, "all, odd", {3, 5, 7, 5, 3, 3, 1, 1, 1, 1, 1, BIAS | PER_CHANNEL | RESIDUAL}),
    SUM(conv2d, "all, 1x1", {2, 5, 7, 12, 20, 1, 1, 0, 0, 0, 0, BIAS | PER_CHANNEL | RESIDUAL}),
    SUM(conv2d, "doubled", {2, 3, 4, 6, 9, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    SUM(conv2d_weight_gradient, "doubled", {2, 3, 4, 6, 9, 3, 1, 1, 1, 1, 1, DOUBLED}),
    SUM(conv2d_weight_gradient, "doubled, whole vectors", {1, 5, 4, 32, 16, 3, 1, 1, 1, 1, 1, DOUBLED}),
    SUM(conv2d, "doubled, all", {2, 3, 5, 32, 16, 3, 1, 1, 1, 1, 1, BIAS | PER_CHANNEL | RESIDUAL | DOUBLED}),
    SUM(conv2d, "per channel, residual, stride 2", {2, 7, 6, 8, 8, 3, 2, 0, 0, 1, 1, PER_CHANNEL | RESIDUAL}),

    /*                               H   W   C   M   K  s groups rows */
    CHAIN(residual_block, "whole, odd", {7, 5, 12, 9, 0, 1, 3, 0, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "no affine, no bias", {6, 5, 16, 16, 0, 0, 2, 0, 0, 0, 0}),
    CHAIN(residual_block, "strips", {36, 5, 16, 24, 0, 1, 4, 12, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "strips, rows left over", {41, 7, 16, 16, 0, 0, 4, 12, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "strips of tiles", {40, 16, 64, 64, 0, 0, 32, 12, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "strips of tiles, shortcut", {25, 16, 64, 128, 0, 1, 32, 12, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "upsampled, whole", {6, 10, 16, 8, 12, 1, 4, 0, 0, BIAS, AFFINE | SILU}),
    CHAIN(residual_block, "upsampled, strips", {38, 8, 24, 8, 8, 1, 4, 12, 0, 0, AFFINE}),
    CHAIN(residual_block, "upsampled, strips of tiles", {40, 16, 128, 64, 64, 1, 32, 12, 0, BIAS, AFFINE | SILU}),

    /*                             N  Lq  Lk heads D causal */
    BOTH(ATTEND, attention, "self", {2, 16, 16, 2, 8}),
    BOTH(ATTEND, attention, "odd", {3, 7, 7, 3, 5}),
    BOTH(ATTEND, attention, "cross, 77 keys", {2, 9, 77, 2, 16}),
    BOTH(ATTEND, attention, "more queries than keys", {1, 33, 5, 2, 32}),
    BOTH(ATTEND, attention, "head dimension 40", {1, 19, 19, 2, 40}),
    BOTH(ATTEND, attention, "head dimension 64", {1, 17, 21, 2, 64}),
    BOTH(ATTEND, attention, "head dimension 80", {1, 20, 12, 2, 80}),
    BOTH(ATTEND, attention, "head dimension 160", {1, 8, 9, 1, 160}),
    BOTH(ATTEND, attention, "one token", {2, 1, 1, 2, 16}),
    BOTH(ATTEND, attention, "one query", {1, 1, 13, 2, 16}),
    BOTH(ATTEND, attention, "one key", {1, 6, 1, 2, 16}),
    BOTH(ATTEND, attention, "causal", {2, 13, 13, 2, 32, 1}),
    BOTH(ATTEND, attention, "causal, 77 tokens", {1, 77, 77, 2, 16, 1}),
    BOTH(ATTEND, attention, "causal, fewer queries", {1, 5, 9, 1, 16, 1}),
    BOTH(ATTEND, attention, "causal, fewer keys", {1, 9, 5, 1, 16, 1}),
    BOTH(ATTEND, attention, "peaked", {1, 24, 70, 2, 16}, {20}),
    BOTH(ATTEND, attention, "130 keys", {1, 70, 130, 1, 24}),
    BOTH(ATTEND, attention, "peaked, 301 keys", {1, 50, 301, 1, 40}, {20}),
    BOTH(ATTEND, attention, "a last key for 256", {2, 40, 40, 2, 64, 0, 256}),
    BOTH(ATTEND, attention, "peaked, a last key for 77", {1, 70, 203, 1, 24, 0, 77}, {8}),

    BOTH(SUM, group_norm, "groups", {2, 3, 5, 12, 4, AFFINE}, {0.5}),
    BOTH(SUM, group_norm, "silu", {2, 3, 5, 12, 4, AFFINE | SILU}, {0.5}),
    BOTH(SUM, group_norm, "one group", {2, 3, 5, 7, 1, AFFINE}, {2}),
    BOTH(SUM, group_norm, "a group per channel", {2, 3, 5, 7, 7, AFFINE | SILU}, {-1}),
    BOTH(SUM, group_norm, "no affine", {2, 4, 4, 8, 2, 0}, {0}),
    BOTH(SUM, group_norm, "no affine, silu", {2, 4, 4, 8, 2, SILU}, {0}),
    BOTH(SUM, group_norm, "one pixel", {3, 1, 1, 16, 4, AFFINE}, {0}),
    BOTH(SUM, group_norm, "32 groups of 2", {2, 8, 8, 64, 32, AFFINE | SILU}, {0}),
    BOTH(SUM, group_norm, "32 groups of 10", {1, 4, 4, 320, 32, AFFINE | SILU}, {0}),
    BOTH(SUM, group_norm, "far from zero", {1, 6, 6, 16, 4, AFFINE}, {8}),
    BOTH(SUM, layer_norm, "affine", {2, 3, 2, 20, 0, AFFINE}, {0.5}),
    BOTH(SUM, layer_norm, "odd", {2, 3, 3, 13, 0, AFFINE}, {2}),
    BOTH(SUM, layer_norm, "no affine", {1, 2, 3, 64, 0, 0}, {0}),
    BOTH(SUM, layer_norm, "one row", {1, 1, 1, 96, 0, AFFINE}, {0}),
    BOTH(SUM, layer_norm, "far from zero", {1, 2, 4, 40, 0, AFFINE}, {8}),
    BOTH(SUM, layer_norm, "root mean square", {2, 3, 2, 64, 0, AFFINE | RMS}, {0.5}),
    BOTH(SUM, layer_norm, "root mean square, odd", {1, 2, 3, 13, 0, RMS}, {1}),

    MOVE(embedding, "i64", {2, 5, 11, 6, 1}),
    MOVE(embedding, "i32", {1, 7, 4, 16, 0}),
    SUM(embedding_gradient, "i64", {2, 5, 11, 6, 1}),
    SUM(embedding_gradient, "i32, repeated ids", {3, 7, 4, 16, 0}),
    EACH(sinusoidal, "timesteps", {3, 32, 1, 0, 1}, {1000}),
    EACH(sinusoidal, "sine first, shifted", {3, 10, 0, 1, 1}, {1000}),
    EACH(sinusoidal, "guidance", {2, 256, 0, 1, 1000}, {10}),

    /* The UNet of Stable Diffusion 1.5, 64x64 latents; 2.x differs in attention and context alone. */
    CONVOLUTIONS(LARGE, "64x64 320 -> 320", {1, 64, 64, 320, 320, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "32x32 640 -> 640", {1, 32, 32, 640, 640, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "16x16 1280 -> 1280", {1, 16, 16, 1280, 1280, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "8x8 1280 -> 1280", {1, 8, 8, 1280, 1280, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "64x64 320 -> 320, stride 2", {1, 64, 64, 320, 320, 3, 2, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "64x64 960 -> 320, 1x1", {1, 64, 64, 960, 320, 1, 1, 0, 0, 0, 0}),
    LARGE(conv2d, "64x64 320 -> 320, all", {1, 64, 64, 320, 320, 3, 1, 1, 1, 1, 1, BIAS | PER_CHANNEL | RESIDUAL}),
    LARGE(conv2d, "64x64 4 -> 320", {1, 64, 64, 4, 320, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "64x64 640 -> 320", {1, 64, 64, 640, 320, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "64x64 960 -> 320", {1, 64, 64, 960, 320, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "32x32 to 64x64 640 -> 640", {1, 32, 32, 640, 640, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "64x64 320 -> 4", {1, 64, 64, 320, 4, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "32x32 1280 -> 640", {1, 32, 32, 1280, 640, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "32x32 1920 -> 640", {1, 32, 32, 1920, 640, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "16x16 to 32x32 1280 -> 1280", {1, 16, 16, 1280, 1280, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "32x32 960 -> 640", {1, 32, 32, 960, 640, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "32x32 320 -> 640", {1, 32, 32, 320, 640, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "8x8 to 16x16 1280 -> 1280", {1, 8, 8, 1280, 1280, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "16x16 640 -> 1280", {1, 16, 16, 640, 1280, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "16x16 1920 -> 1280", {1, 16, 16, 1920, 1280, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "16x16 2560 -> 1280", {1, 16, 16, 2560, 1280, 3, 1, 1, 1, 1, 1, BIAS}),
    CONVOLUTIONS(LARGE, "8x8 1280 -> 1280, 4x4, stride 2", {2, 8, 8, 1280, 1280, 4, 2, 1, 1, 1, 1}),
    LARGE(conv2d, "8x8 2560 -> 1280", {1, 8, 8, 2560, 1280, 3, 1, 1, 1, 1, 1, BIAS}),
    PRODUCTS(LARGE, "4096x320 -> 320", {1, 4096, 320, 320}),
    PRODUCTS(LARGE, "4096x320 -> 2560", {1, 4096, 320, 2560}),
    PRODUCTS(LARGE, "1024x640 -> 5120", {1, 1024, 640, 5120}),
    PRODUCTS(LARGE, "77x768 -> 320", {1, 77, 768, 320}),
    LARGE(linear, "4096x1280 -> 320", {1, 4096, 1280, 320, BIAS | RESIDUAL}),
    LARGE(linear, "1024x640 -> 640", {1, 1024, 640, 640, BIAS}),
    LARGE(linear, "1024x2560 -> 640", {1, 1024, 2560, 640, BIAS | RESIDUAL}),
    LARGE(linear, "256x1280 -> 1280", {1, 256, 1280, 1280, BIAS}),
    LARGE(linear, "256x1280 -> 10240", {1, 256, 1280, 10240, BIAS}),
    LARGE(linear, "256x5120 -> 1280", {1, 256, 5120, 1280, BIAS | RESIDUAL}),
    LARGE(linear, "77x1024 -> 1280", {1, 77, 1024, 1280}),
    LARGE(linear, "1x1280 -> 1280", {1, 1, 1280, 1280, BIAS}),
    BOTH(LARGE, attention, "64x64, 8 x 40", {1, 4096, 4096, 8, 40}),
    BOTH(LARGE, attention, "32x32, 8 x 80", {1, 1024, 1024, 8, 80}),
    BOTH(LARGE, attention, "64x64 to 77, 8 x 40", {1, 4096, 77, 8, 40}),
    LARGE(attention, "16x16, 8 x 160", {1, 256, 256, 8, 160}),
    LARGE(attention, "32x32 to 77, 8 x 80", {1, 1024, 77, 8, 80}),
    LARGE(attention, "64x64, 5 x 64", {1, 4096, 4096, 5, 64}),
    LARGE(attention, "32x32, 10 x 64", {1, 1024, 1024, 10, 64}),
    LARGE(attention, "64x64 to 77, 5 x 64", {1, 4096, 77, 5, 64}),
    BOTH(LARGE, group_norm, "64x64x320, silu", {1, 64, 64, 320, 32, AFFINE | SILU}, {0}),
    LARGE(group_norm, "32x32x640, silu", {1, 32, 32, 640, 32, AFFINE | SILU}, {0}),
    LARGE(group_norm, "64x64x960, silu", {1, 64, 64, 960, 32, AFFINE | SILU}, {0}),
    BOTH(LARGE, layer_norm, "4096x320", {1, 64, 64, 320, 0, AFFINE}, {0}),
    LARGE(layer_norm, "1024x640", {1, 32, 32, 640, 0, AFFINE}, {0}),
    BOTH(LARGE, geglu, "4096x2560", {1, 64, 64, 2560}),
    LARGE(geglu, "1024x5120", {1, 32, 32, 5120}),
    LARGE(linear_geglu, "4096 x 320 -> 1280", {1, 4096, 320, 1280, BIAS}),
    BOTH(LARGE, unary, "silu, 64x64x320", {1, 64, 64, 320, SP_UNARY_SILU}, {8}),
    LARGE(add, "64x64x320", {1, 64, 64, 320, 4}, {1}),
    LARGE(concat, "64x64, 320 + 640", {1, 64, 64, 320, 3, 2, 320}),
    LARGE(upsample, "32x32x640", {1, 32, 32, 640, 64, 64}),
    LARGE(sum_leading, "4096x320", {1, 64, 64, 320, 1}),
    /* The VAE's decoder, to 512x512. */
    LARGE(conv2d, "64x64 512 -> 512", {1, 64, 64, 512, 512, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "64x64 to 128x128 512 -> 512", {1, 64, 64, 512, 512, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "128x128 512 -> 512", {1, 128, 128, 512, 512, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "128x128 to 256x256 512 -> 512", {1, 128, 128, 512, 512, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "256x256 512 -> 256", {1, 256, 256, 512, 256, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "256x256 256 -> 256", {1, 256, 256, 256, 256, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "256x256 to 512x512 256 -> 256", {1, 256, 256, 256, 256, 3, 1, 1, 1, 1, 1, BIAS | DOUBLED}),
    LARGE(conv2d, "512x512 256 -> 128", {1, 512, 512, 256, 128, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "512x512 128 -> 128", {1, 512, 512, 128, 128, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(conv2d, "512x512 128 -> 3", {1, 512, 512, 128, 3, 3, 1, 1, 1, 1, 1, BIAS}),
    LARGE(attention, "64x64, 1 x 512", {1, 4096, 4096, 1, 512}),
    LARGE(group_norm, "64x64x512, silu", {1, 64, 64, 512, 32, AFFINE | SILU}, {0}),
    LARGE(group_norm, "256x256x256, silu", {1, 256, 256, 256, 32, AFFINE | SILU}, {0}),
    LARGE(group_norm, "512x512x128, silu", {1, 512, 512, 128, 32, AFFINE | SILU}, {0}),
    LARGE(upsample, "256x256x256", {1, 256, 256, 256, 512, 512}),
    /* The text encoders. */
    LARGE(linear, "77x768 -> 3072", {1, 77, 768, 3072, BIAS}),
    LARGE(linear, "77x1024 -> 4096", {1, 77, 1024, 4096, BIAS}),
    LARGE(attention, "77, causal, 12 x 64", {1, 77, 77, 12, 64, 1}),
    /* The emoji model, batch 32. */
    CONVOLUTIONS(LARGE, "32 x 16x16 64 -> 64", {32, 16, 16, 64, 64, 3, 1, 1, 1, 1, 1}),
    CONVOLUTIONS(LARGE, "32 x 8x8 128 -> 128", {32, 8, 8, 128, 128, 3, 1, 1, 1, 1, 1}),
    PRODUCTS(LARGE, "32 x 64x128 -> 512", {32, 64, 128, 512}),
    BOTH(LARGE, attention, "32 x 8x8, 4 x 32", {32, 64, 64, 4, 32}),
    BOTH(LARGE, group_norm, "32 x 16x16x64, silu", {32, 16, 16, 64, 32, AFFINE | SILU}, {0}),
};
/* clang-format on */
const int sp_op_case_count = sizeof(sp_op_cases) / sizeof(sp_op_cases[0]);

sp_value *sp_op_case_build(const sp_op_case *c, sp_builder *b, sp_dtype dtype,
                           sp_case_inputs *inputs)
{
    *inputs = (sp_case_inputs){.b = b, .dtype = dtype};
    return c->build(inputs, c);
}
