/* sum_leading: y[s] = sum over l of x[l,s]          (the last `keep` dimensions stay)
 *   x      [..,S..]
 *   y      [S..], full
 * fill: y[l,s] = factor * x[s]
 *   x      [S..], full
 *   y      [..,S..]
 * sum_middle: y[n,c] = sum over m of x[n,m,c]
 *   x      [N,..,C]
 *   y      [N,C]
 * broadcast_middle: y[n,m,c] = x[n,c]
 *   x      [N,C]
 *   y      [N,..,C]
 * mean: y = sum of x / count
 *   x      any shape, full
 *   y      scalar, full
 * sum_leading and fill are each other's gradient, as are sum_middle and broadcast_middle. */
#include "ops/rules.h"

static sp_status sum_leading_infer(sp_node *node)
{
    const sp_sum_leading_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    if (o->keep < 0 || o->keep > x.rank)
        return sp_fail(SP_SHAPE,
                       "sum_leading: x has shape %s, which has no last %d dimensions to keep",
                       sp_shape_text(x), o->keep);
    node->out[0]->shape = sp_shape_make(x.dim + x.rank - o->keep, o->keep);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void sum_leading_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_fill(b, dy[0], sp_shape_in(node, 0), 1);
}

static void sum_leading_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t total = sp_count_in(node, 0), kept = sp_count_out(node, 0);
    for (int64_t s = 0; s < kept; s++) {
        double sum = 0;
        for (int64_t i = s; i < total; i += kept)
            sum += sp_read(node, in, 0, i);
        sp_write(node, out, 0, s, sum);
    }
}

const sp_op sp_op_sum_leading = {
    .name = "sum_leading",
    .outputs = 1,
    .options_size = sizeof(sp_sum_leading_options),
    .full_outputs = 1,
    .infer = sum_leading_infer,
    .gradient = sum_leading_gradient,
    .reference = sum_leading_reference,
};

sp_value *sp_sum_leading(sp_builder *b, sp_value *x, int keep)
{
    return sp_node_make(b, &sp_op_sum_leading, 1, 1, &x, &(sp_sum_leading_options){keep});
}

static sp_status fill_infer(sp_node *node)
{
    const sp_fill_options *o = node->options;
    if (!sp_is_suffix(sp_shape_in(node, 0), o->shape))
        return sp_fail(SP_SHAPE, "fill: x has shape %s, which is not the end of %s",
                       sp_shape_text(sp_shape_in(node, 0)), sp_shape_text(o->shape));
    node->out[0]->shape = o->shape;
    return SP_OK;
}

static void fill_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_fill_options *o = node->options;
    dx[0] = sp_affine(b, sp_sum_leading(b, dy[0], sp_shape_in(node, 0).rank), o->factor, 0);
}

static void fill_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_fill_options *o = node->options;
    int64_t period = sp_count_in(node, 0);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, o->factor * sp_read(node, in, 0, i % period));
}

const sp_op sp_op_fill = {
    .name = "fill",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_fill_options),
    .full_inputs = 1,
    .infer = fill_infer,
    .gradient = fill_gradient,
    .reference = fill_reference,
};

sp_value *sp_fill(sp_builder *b, sp_value *x, sp_shape shape, double factor)
{
    return sp_node_make(b, &sp_op_fill, 1, 1, &x, &(sp_fill_options){shape, factor});
}

static int64_t middle_extent(sp_shape shape)
{
    return sp_extent(shape, 1, shape.rank - 1);
}

static sp_status sum_middle_infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0);
    if (x.rank < 2) return sp_unexpected(node, "x", 0, "[N,..,C]");
    node->out[0]->shape = sp_shape_of(x.dim[0], x.dim[x.rank - 1]);
    return SP_OK;
}

static void sum_middle_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_broadcast_middle(b, dy[0], sp_shape_in(node, 0));
}

static void sum_middle_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t middle = middle_extent(sp_shape_in(node, 0)), C = sp_channels(node->in[0]);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++) {
        double sum = 0;
        for (int64_t m = 0; m < middle; m++)
            sum += sp_read(node, in, 0, (i / C * middle + m) * C + i % C);
        sp_write(node, out, 0, i, sum);
    }
}

const sp_op sp_op_sum_middle = {
    .name = "sum_middle",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .infer = sum_middle_infer,
    .gradient = sum_middle_gradient,
    .reference = sum_middle_reference,
};

sp_value *sp_sum_middle(sp_builder *b, sp_value *x)
{
    return sp_node_make(b, &sp_op_sum_middle, 1, 1, &x, NULL);
}

static sp_status broadcast_middle_infer(sp_node *node)
{
    sp_shape x = sp_shape_in(node, 0), y = *(const sp_shape *)node->options;
    if (y.rank < 2 || !sp_shape_equal(x, sp_shape_of(y.dim[0], y.dim[y.rank - 1])))
        return sp_fail(SP_SHAPE, "broadcast_middle: x has shape %s, which does not fit %s",
                       sp_shape_text(x), sp_shape_text(y));
    node->out[0]->shape = y;
    return SP_OK;
}

static void broadcast_middle_gradient(sp_builder *b, sp_node *node, sp_value *const *dy,
                                      sp_value **dx)
{
    (void)node;
    dx[0] = sp_sum_middle(b, dy[0]);
}

static void broadcast_middle_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t middle = middle_extent(node->out[0]->shape), C = sp_channels(node->out[0]);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, sp_read(node, in, 0, i / C / middle * C + i % C));
}

const sp_op sp_op_broadcast_middle = {
    .name = "broadcast_middle",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_shape),
    .infer = broadcast_middle_infer,
    .gradient = broadcast_middle_gradient,
    .reference = broadcast_middle_reference,
};

sp_value *sp_broadcast_middle(sp_builder *b, sp_value *x, sp_shape shape)
{
    return sp_node_make(b, &sp_op_broadcast_middle, 1, 1, &x, &shape);
}

static sp_status mean_infer(sp_node *node)
{
    if (sp_count_in(node, 0) < 1) return sp_unexpected(node, "x", 0, "at least one element");
    node->out[0]->shape = (sp_shape){0};
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void mean_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_fill(b, dy[0], sp_shape_in(node, 0), 1.0 / (double)sp_count_in(node, 0));
}

static void mean_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t count = sp_count_in(node, 0);
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += sp_read(node, in, 0, i);
    sp_write(node, out, 0, 0, sum / (double)count);
}

const sp_op sp_op_mean = {
    .name = "mean",
    .outputs = 1,
    .full_inputs = 1,
    .full_outputs = 1,
    .infer = mean_infer,
    .gradient = mean_gradient,
    .reference = mean_reference,
};

sp_value *sp_mean(sp_builder *b, sp_value *x)
{
    return sp_node_make(b, &sp_op_mean, 1, 1, &x, NULL);
}
