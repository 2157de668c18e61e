/* mul:             z = x * y                          x, y, z of one shape
 * affine:          y = factor * x + offset            x, y of one shape
 * add_per_channel: y[n,..,c] = h[n,..,c] + t[n,c]     h, y [N,..,C]; t [N,C] */
#include "ops/rules.h"

static sp_status mul_infer(sp_node *node)
{
    if (!sp_shape_equal(sp_shape_in(node, 0), sp_shape_in(node, 1)))
        return sp_misfit(node, "y", 1, "x", 0);
    node->out[0]->shape = sp_shape_in(node, 0);
    return SP_OK;
}

static void mul_gradient(sp_builder *b, sp_node *node, sp_value *const *dz, sp_value **dx)
{
    if (sp_wants_gradient(node, 0)) dx[0] = sp_mul(b, dz[0], node->in[1]);
    if (sp_wants_gradient(node, 1)) dx[1] = sp_mul(b, dz[0], node->in[0]);
}

static void mul_reference(const sp_node *node, const void *const *in, void *const *out)
{
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, sp_read(node, in, 0, i) * sp_read(node, in, 1, i));
}

const sp_op sp_op_mul = {
    .name = "mul",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .infer = mul_infer,
    .gradient = mul_gradient,
    .reference = mul_reference,
};

sp_value *sp_mul(sp_builder *b, sp_value *x, sp_value *y)
{
    return sp_node_make(b, &sp_op_mul, 2, 2, (sp_value *[]){x, y}, NULL);
}

static sp_status affine_infer(sp_node *node)
{
    node->out[0]->shape = sp_shape_in(node, 0);
    return SP_OK;
}

static void affine_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_affine_options *o = node->options;
    dx[0] = o->factor == 1 ? dy[0] : sp_affine(b, dy[0], o->factor, 0);
}

static void affine_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_affine_options *o = node->options;
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, o->factor * sp_read(node, in, 0, i) + o->offset);
}

const sp_op sp_op_affine = {
    .name = "affine",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_affine_options),
    .infer = affine_infer,
    .gradient = affine_gradient,
    .reference = affine_reference,
};

sp_value *sp_affine(sp_builder *b, sp_value *x, double factor, double offset)
{
    return sp_node_make(b, &sp_op_affine, 1, 1, &x, &(sp_affine_options){factor, offset});
}

static sp_status add_per_channel_infer(sp_node *node)
{
    sp_shape h = sp_shape_in(node, 0), t = sp_shape_in(node, 1);
    if (h.rank < 2) return sp_unexpected(node, "h", 0, "[N,..,C]");
    if (t.rank != 2 || t.dim[0] != h.dim[0] || t.dim[1] != h.dim[h.rank - 1])
        return sp_misfit(node, "t", 1, "h", 0);
    node->out[0]->shape = h;
    return SP_OK;
}

static void add_per_channel_gradient(sp_builder *b, sp_node *node, sp_value *const *dy,
                                     sp_value **dx)
{
    dx[0] = dy[0];
    if (sp_wants_gradient(node, 1)) dx[1] = sp_sum_middle(b, dy[0]);
}

static void add_per_channel_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t C = sp_channels(node->in[0]),
            middle = sp_extent(sp_shape_in(node, 0), 1, sp_shape_in(node, 0).rank - 1);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++) {
        int64_t n = i / C / middle, c = i % C;
        sp_write(node, out, 0, i, sp_read(node, in, 0, i) + sp_read(node, in, 1, n * C + c));
    }
}

const sp_op sp_op_add_per_channel = {
    .name = "add_per_channel",
    .flags = SP_OP_ELEMENTWISE | SP_OP_FOLLOWS,
    .outputs = 1,
    .infer = add_per_channel_infer,
    .gradient = add_per_channel_gradient,
    .reference = add_per_channel_reference,
};

sp_value *sp_add_per_channel(sp_builder *b, sp_value *h, sp_value *t)
{
    return sp_node_make(b, &sp_op_add_per_channel, 2, 2, (sp_value *[]){h, t}, NULL);
}
