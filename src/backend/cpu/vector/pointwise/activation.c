/* unary, geglu and their gradients. */
#include "backend/cpu/vector/pointwise/pointwise.h"

SP_INLINE sp_vf silu_slope(sp_vf x, float factor, const bool half)
{
    sp_vf s = sp_vf_sigmoid_as(factor * x, half);
    return s * (1.0f + factor * x * (1.0f - s));
}

SP_INLINE sp_vf gelu(sp_vf x, const bool half)
{
    sp_vf density;
    if (half) return x * sp_vf_normal_brief(x);
    return x * sp_vf_normal(x, &density);
}

SP_INLINE sp_vf gelu_slope(sp_vf x)
{
    sp_vf density, cumulative = sp_vf_normal(x, &density);
    return cumulative + x * density;
}

#define GELU_FACTOR 1.5957691216f /* 2 sqrt(2/pi) */
#define GELU_CUBE 0.044715f

/* Its logistic function stands for the normal one. */
SP_INLINE sp_vf gelu_argument(sp_vf x)
{
    return GELU_FACTOR * x * (1.0f + GELU_CUBE * x * x);
}

/* 1 - s as a sigmoid of its own: the difference has lost its digits where the factor before it is large. */
SP_INLINE sp_vf gelu_tanh_slope(sp_vf x, const bool half)
{
    sp_vf argument = gelu_argument(x), s = sp_vf_sigmoid_as(argument, half), rest = sp_vf_sigmoid_as(-argument, half);
    return s + x * s * rest * GELU_FACTOR * (1.0f + 3.0f * GELU_CUBE * x * x);
}

SP_INLINE sp_vf tanh_slope(sp_vf x)
{
    sp_vf t = sp_vf_tanh(x);
    return 1.0f - t * t;
}

#define ZERO sp_vf_set(0.0f)
#define ONE sp_vf_set(1.0f)
#define BOUNDS sp_vf low = sp_vf_set(loop->parameter[0]), high = sp_vf_set(loop->parameter[1])

SP_POINTWISE_LOOP(silu_body, , SP_POINTWISE_LOAD_1, a *sp_vf_sigmoid_as(a, half))
SP_POINTWISE_LOOP(gelu_body, , SP_POINTWISE_LOAD_1, gelu(a, half))
SP_POINTWISE_LOOP(quick_gelu_body, , SP_POINTWISE_LOAD_1, a *sp_vf_sigmoid_as(1.702f * a, half))
SP_POINTWISE_LOOP(gelu_tanh_body, , SP_POINTWISE_LOAD_1, a *sp_vf_sigmoid_as(gelu_argument(a), half))
SP_POINTWISE_LOOP(tanh_body, , SP_POINTWISE_LOAD_1, sp_vf_tanh(a))
SP_POINTWISE_LOOP(relu_body, , SP_POINTWISE_LOAD_1, sp_vf_max(ZERO, a))
SP_POINTWISE_LOOP(exp_body, , SP_POINTWISE_LOAD_1, sp_vf_exp(a))
SP_POINTWISE_LOOP(softplus_body, , SP_POINTWISE_LOAD_1, sp_vf_softplus(a))
SP_POINTWISE_LOOP(clamp_body, BOUNDS, SP_POINTWISE_LOAD_1, sp_vf_min(high, sp_vf_max(low, a)))

SP_POINTWISE_LOOP(silu_gradient_body, , SP_POINTWISE_LOAD_2, b *silu_slope(a, 1.0f, half))
SP_POINTWISE_LOOP(gelu_gradient_body, , SP_POINTWISE_LOAD_2, b *gelu_slope(a))
SP_POINTWISE_LOOP(quick_gelu_gradient_body, , SP_POINTWISE_LOAD_2, b *silu_slope(a, 1.702f, half))
SP_POINTWISE_LOOP(gelu_tanh_gradient_body, , SP_POINTWISE_LOAD_2, b *gelu_tanh_slope(a, half))
SP_POINTWISE_LOOP(tanh_gradient_body, , SP_POINTWISE_LOAD_2, b *tanh_slope(a))
SP_POINTWISE_LOOP(relu_gradient_body, , SP_POINTWISE_LOAD_2, b *sp_vf_select_less(ZERO, a, ONE, ZERO))
SP_POINTWISE_LOOP(exp_gradient_body, , SP_POINTWISE_LOAD_2, b *sp_vf_exp(a))
SP_POINTWISE_LOOP(softplus_gradient_body, , SP_POINTWISE_LOAD_2, b *sp_vf_sigmoid_as(a, half))
SP_POINTWISE_LOOP(clamp_gradient_body, BOUNDS, SP_POINTWISE_LOAD_2,
                  b *sp_vf_select_less(a, low, ZERO, sp_vf_select_less(high, a, ZERO, ONE)))

/* By kind, by whether it is the gradient, by whether operands are bf16. */
#define BODIES(name)                                                                               \
    {                                                                                              \
        {name##_body, name##_body_half},                                                           \
        {                                                                                          \
            name##_gradient_body, name##_gradient_body_half                                        \
        }                                                                                          \
    }
static sp_pointwise_body *const bodies[][2][2] = {
    [SP_UNARY_SILU] = BODIES(silu),
    [SP_UNARY_GELU] = BODIES(gelu),
    [SP_UNARY_QUICK_GELU] = BODIES(quick_gelu),
    [SP_UNARY_GELU_TANH] = BODIES(gelu_tanh),
    [SP_UNARY_TANH] = BODIES(tanh),
    [SP_UNARY_RELU] = BODIES(relu),
    [SP_UNARY_EXP] = BODIES(exp),
    [SP_UNARY_SOFTPLUS] = BODIES(softplus),
    [SP_UNARY_CLAMP] = BODIES(clamp),
};

static void run_unary(const sp_node *node, void *const *in, void *const *out, int gradient)
{
    const sp_unary_options *o = node->options;
    int64_t count = sp_shape_count(node->out[0]->shape);
    sp_pointwise loop = {.rows = 1,
                         .row_length = count,
                         .inputs = 1 + gradient,
                         .outputs = 1,
                         .body = bodies[o->kind][gradient][0],
                         .half_body = bodies[o->kind][gradient][1],
                         .parameter = {(float)o->low, (float)o->high}};
    for (int k = 0; k < loop.inputs; k++)
        loop.in[k] = sp_pointwise_rows(node->in[k], in[k], count);
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], count);
    sp_pointwise_run(&loop);
}

static void unary_run(void *state, const sp_node *node, void *const *in, void *const *out,
                      void *scratch)
{
    (void)state, (void)scratch;
    run_unary(node, in, out, 0);
}
SP_DEFINE_KERNEL(unary, unary_run)

static void unary_gradient_run(void *state, const sp_node *node, void *const *in, void *const *out,
                               void *scratch)
{
    (void)state, (void)scratch;
    run_unary(node, in, out, 1);
}
SP_DEFINE_KERNEL(unary_gradient, unary_gradient_run)

/* x[..,2C] = [a | g] as two operands of rows of C. */
static void halves(sp_pointwise_operand *a, sp_pointwise_operand *g, const sp_value *x, const void *data,
                   int64_t channels)
{
    *a = *g = sp_pointwise_rows(x, data, 2 * channels);
    g->offset = channels;
}

SP_POINTWISE_LOOP(geglu_body, , SP_POINTWISE_LOAD_2, a *gelu(b, half))

static void geglu_run(void *state, const sp_node *node, void *const *in, void *const *out,
                      void *scratch)
{
    (void)state, (void)scratch;
    int64_t channels = sp_channels(node->out[0]);
    if (channels == 0) return;
    sp_pointwise loop = {.rows = sp_shape_count(node->out[0]->shape) / channels,
                         .row_length = channels,
                         .inputs = 2,
                         .outputs = 1,
                         .body = geglu_body,
                         .half_body = geglu_body_half};
    halves(&loop.in[0], &loop.in[1], node->in[0], in[0], channels);
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], channels);
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(geglu, geglu_run)

/* Inputs a, g, dy; outputs da, dg. */
static void geglu_gradient_body(const sp_pointwise *loop, int64_t row, void *const *y,
                                const void *const *x, int64_t count)
{
    (void)loop, (void)row;
    for (int64_t i = 0; i < count; i += SP_LANES) {
        int64_t left = count - i;
        sp_vf a = sp_vf_get(x[0], i, left, false), g = sp_vf_get(x[1], i, left, false),
              dy = sp_vf_get(x[2], i, left, false);
        sp_vf density, cumulative = sp_vf_normal(g, &density);
        sp_vf_put(y[0], i, dy * (g * cumulative), left, false);
        sp_vf_put(y[1], i, dy * a * (cumulative + g * density), left, false);
    }
}

static void geglu_gradient_run(void *state, const sp_node *node, void *const *in, void *const *out,
                               void *scratch)
{
    (void)state, (void)scratch;
    int64_t channels = sp_channels(node->in[1]);
    if (channels == 0) return;
    sp_pointwise loop = {.rows = sp_shape_count(node->in[1]->shape) / channels,
                         .row_length = channels,
                         .inputs = 3,
                         .outputs = 2,
                         .body = geglu_gradient_body};
    halves(&loop.in[0], &loop.in[1], node->in[0], in[0], channels);
    loop.in[2] = sp_pointwise_rows(node->in[1], in[1], channels);
    halves(&loop.out[0], &loop.out[1], node->out[0], out[0], channels);
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(geglu_gradient, geglu_gradient_run)
