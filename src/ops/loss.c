/* loss: y = mean over (n,..) of weight[n] * f(prediction - target)
 *       huber f(d) = sqrt(d^2 + c^2) - c; l2 f(d) = d^2
 *   prediction, target   [N,..]
 *   weight               [N] or absent (1)
 *   y                    scalar
 * loss_gradient: dprediction = dy * weight[n] * f'(d) / count
 *   dy                   scalar
 * All in full precision. */
#include "ops/rules.h"

static sp_status check(const sp_node *node)
{
    sp_shape prediction = sp_shape_in(node, 0);
    if (!sp_shape_equal(prediction, sp_shape_in(node, 1)))
        return sp_misfit(node, "target", 1, "prediction", 0);
    if (sp_shape_count(prediction) < 1)
        return sp_unexpected(node, "prediction", 0, "at least one element");
    if (!node->in[2]) return SP_OK;
    sp_shape weight = sp_shape_in(node, 2);
    if (prediction.rank < 1 || weight.rank != 1 || weight.dim[0] != prediction.dim[0])
        return sp_misfit(node, "weight", 2, "prediction", 0);
    return SP_OK;
}

static sp_status infer(sp_node *node)
{
    SP_TRY(check(node));
    node->out[0]->shape = (sp_shape){0};
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    if (!sp_wants_gradient(node, 0)) return; /* target and weight have none */
    dx[0] = sp_loss_gradient(b, node->in[0], node->in[1], node->in[2], dy[0],
                             *(const sp_loss_options *)node->options);
}

/* How many elements share a weight. */
static int64_t per_sample(const sp_node *node)
{
    return node->in[2] ? sp_count_in(node, 0) / sp_count_in(node, 2) : 1;
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_loss_options *o = node->options;
    int64_t count = sp_count_in(node, 0), inner = per_sample(node);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = sp_read(node, in, 0, i) - sp_read(node, in, 1, i), c = o->huber_c;
        /* d^2 / (sqrt(d^2 + c^2) + c) is the same number without the cancellation near 0. */
        double f = o->kind == SP_LOSS_L2 ? d * d : d == 0 ? 0 : d * d / (sqrt(d * d + c * c) + c);
        sum += f * sp_read_or(node, in, 2, i / inner, 1);
    }
    sp_write(node, out, 0, 0, sum / (double)count);
}

const sp_op sp_op_loss = {
    .name = "loss",
    .outputs = 1,
    .options_size = sizeof(sp_loss_options),
    .full_inputs = 7,
    .full_outputs = 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_loss(sp_builder *b, sp_value *prediction, sp_value *target, sp_value *weight,
                  sp_loss_options options)
{
    return sp_node_make(b, &sp_op_loss, 2, 3, (sp_value *[]){prediction, target, weight}, &options);
}

static sp_status gradient_infer(sp_node *node)
{
    SP_TRY(check(node));
    if (sp_shape_in(node, 3).rank != 0) return sp_unexpected(node, "dy", 3, "a scalar");
    node->out[0]->shape = sp_shape_in(node, 0);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_loss_options *o = node->options;
    int64_t count = sp_count_in(node, 0), inner = per_sample(node);
    double dy = sp_read(node, in, 3, 0) / (double)count;
    for (int64_t i = 0; i < count; i++) {
        double d = sp_read(node, in, 0, i) - sp_read(node, in, 1, i), c = o->huber_c;
        double slope = o->kind == SP_LOSS_L2 ? 2 * d : d == 0 ? 0 : d / sqrt(d * d + c * c);
        sp_write(node, out, 0, i, dy * slope * sp_read_or(node, in, 2, i / inner, 1));
    }
}

const sp_op sp_op_loss_gradient = {
    .name = "loss_gradient",
    .flags = SP_OP_ELEMENTWISE,
    .outputs = 1,
    .options_size = sizeof(sp_loss_options),
    .full_inputs = 15,
    .full_outputs = 1,
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_loss_gradient(sp_builder *b, sp_value *prediction, sp_value *target, sp_value *weight,
                           sp_value *dy, sp_loss_options options)
{
    return sp_node_make(b, &sp_op_loss_gradient, 2, 4,
                        (sp_value *[]){prediction, target, weight, dy}, &options);
}
