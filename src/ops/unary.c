/* unary: y = f(x); unary_gradient: dx = f'(x) * dy
 *   x, y, dx, dy   one shape
 * silu x*sigmoid(x); gelu x*cumulative normal(x); quick_gelu x*sigmoid(1.702 x); gelu_tanh
 * x*sigmoid(2 sqrt(2/pi) (x + .044715 x^3)); tanh; relu; exp;
 * softplus log(1 + e^x); clamp min(max(x, low), high), derivative 1 at the bounds, as in PyTorch. */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    node->out[0]->shape = sp_shape_in(node, 0);
    return SP_OK;
}

/* gelu_tanh's 0.5 (1 + tanh(y)) is sigmoid(2 y). */
static double gelu_argument(double x)
{
    return 2 * sqrt(M_2_PI) * (x + 0.044715 * x * x * x);
}

static double function(const sp_unary_options *o, double x)
{
    switch (o->kind) {
    case SP_UNARY_SILU:
        return x * sp_sigmoid(x);
    case SP_UNARY_GELU:
        return x * sp_normal_cumulative(x);
    case SP_UNARY_QUICK_GELU:
        return x * sp_sigmoid(1.702 * x);
    case SP_UNARY_GELU_TANH:
        return x * sp_sigmoid(gelu_argument(x));
    case SP_UNARY_TANH:
        return tanh(x);
    case SP_UNARY_RELU:
        return x < 0 ? 0 : x;
    case SP_UNARY_EXP:
        return exp(x);
    case SP_UNARY_SOFTPLUS: /* no overflow, and small numbers stay */
        return (x < 0 ? 0 : x) + log1p(exp(-fabs(x)));
    case SP_UNARY_CLAMP:
        return x < o->low ? o->low : x > o->high ? o->high : x;
    }
    return NAN;
}

static double derivative(const sp_unary_options *o, double x)
{
    double s;
    switch (o->kind) {
    case SP_UNARY_SILU:
        s = sp_sigmoid(x);
        return s * (1 + x * (1 - s));
    case SP_UNARY_GELU:
        return sp_normal_cumulative(x) + x * sp_normal_density(x);
    case SP_UNARY_QUICK_GELU:
        s = sp_sigmoid(1.702 * x);
        return s * (1 + 1.702 * x * (1 - s));
    case SP_UNARY_GELU_TANH:
        s = sp_sigmoid(gelu_argument(x));
        return s + x * s * (1 - s) * 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x);
    case SP_UNARY_TANH:
        return 1 - tanh(x) * tanh(x);
    case SP_UNARY_RELU:
        return x > 0;
    case SP_UNARY_EXP:
        return exp(x);
    case SP_UNARY_SOFTPLUS:
        return sp_sigmoid(x);
    case SP_UNARY_CLAMP:
        return x >= o->low && x <= o->high;
    }
    return NAN;
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, function(node->options, sp_read(node, in, 0, i)));
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_unary_gradient(b, node->in[0], dy[0], *(const sp_unary_options *)node->options);
}

const sp_op sp_op_unary = {
    .name = "unary",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_unary_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_unary(sp_builder *b, sp_unary_kind kind, sp_value *x)
{
    return sp_node_make(b, &sp_op_unary, 1, 1, &x, &(sp_unary_options){.kind = kind});
}

sp_value *sp_clamp(sp_builder *b, sp_value *x, double low, double high)
{
    return sp_node_make(b, &sp_op_unary, 1, 1, &x, &(sp_unary_options){SP_UNARY_CLAMP, low, high});
}

static sp_status gradient_infer(sp_node *node)
{
    if (!sp_shape_equal(sp_shape_in(node, 0), sp_shape_in(node, 1)))
        return sp_misfit(node, "dy", 1, "x", 0);
    return infer(node);
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i,
                 derivative(node->options, sp_read(node, in, 0, i)) * sp_read(node, in, 1, i));
}

const sp_op sp_op_unary_gradient = {
    .name = "unary_gradient",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_unary_options),
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_unary_gradient(sp_builder *b, sp_value *x, sp_value *dy, sp_unary_options options)
{
    return sp_node_make(b, &sp_op_unary_gradient, 2, 2, (sp_value *[]){x, dy}, &options);
}
