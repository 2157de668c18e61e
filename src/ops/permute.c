/* permute: y[i_0, ..., i_r] = x[j] with j[order[k]] = i_k, so y.dim[k] = x.dim[order[k]]
 *   x      any shape
 *   y      x's dimensions in another order, dtype of x */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    const sp_permute_options *options = node->options;
    sp_shape x = sp_shape_in(node, 0), y = x;
    unsigned seen = 0;
    for (int i = 0; i < x.rank; i++) {
        int from = options->order[i];
        if (from < 0 || from >= x.rank || seen >> from & 1)
            return sp_fail(
                SP_SHAPE,
                "permute: entry %d of the order is %d, no unused dimension of x of shape %s", i,
                from, sp_shape_text(x));
        seen |= 1u << from;
        y.dim[i] = x.dim[from];
    }
    return sp_infer_moved(node, y);
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_permute_options *options = node->options;
    int inverse[SP_MAX_RANK] = {0};
    for (int i = 0; i < sp_shape_in(node, 0).rank; i++)
        inverse[options->order[i]] = i;
    dx[0] = sp_permute(b, dy[0], inverse);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_permute_options *options = node->options;
    sp_shape x = sp_shape_in(node, 0), y = node->out[0]->shape;
    for (int64_t i = 0; i < sp_shape_count(y); i++) {
        int64_t rest = i, from = 0;
        for (int k = y.rank - 1; k >= 0; k--) {
            from += rest % y.dim[k] * sp_extent(x, options->order[k] + 1, x.rank);
            rest /= y.dim[k];
        }
        sp_write(node, out, 0, i, sp_read(node, in, 0, from));
    }
}

const sp_op sp_op_permute = {
    .name = "permute",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_permute_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_permute(sp_builder *b, sp_value *x, const int *order)
{
    sp_permute_options options = {{0}};
    for (int i = 0; x && i < x->shape.rank; i++)
        options.order[i] = order[i];
    return sp_node_make(b, &sp_op_permute, 1, 1, &x, &options);
}

static sp_value *permute_image(sp_builder *b, sp_value *x, const int *order)
{
    if (x && x->shape.rank != 4)
        return sp_builder_fail(b, SP_SHAPE, "permute: x has shape %s, expected four dimensions",
                               sp_shape_text(x->shape));
    return sp_permute(b, x, order);
}

sp_value *sp_nchw_to_nhwc(sp_builder *b, sp_value *x)
{
    return permute_image(b, x, (const int[]){0, 2, 3, 1});
}

sp_value *sp_nhwc_to_nchw(sp_builder *b, sp_value *x)
{
    return permute_image(b, x, (const int[]){0, 3, 1, 2});
}
