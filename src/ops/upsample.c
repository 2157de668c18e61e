/* upsample_nearest: y[n,h,w,c] = x[n, h*Hx/H, w*Wx/W, c] (floor)
 *   x      [N,Hx,Wx,C]
 *   y      [N,H,W,C]
 * upsample_nearest_gradient: dx[n,i,j,c] = sum of dy[n,h,w,c] over the (h,w) that read (i,j)
 *   dy     [N,H,W,C]
 *   dx     [N,Hx,Wx,C] */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    const sp_resize_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    if (x.rank != 4 || x.dim[1] < 1 || x.dim[2] < 1 || o->height < 1 || o->width < 1)
        return sp_fail(SP_SHAPE,
                       "%s: x has shape %s, expected [N,H,W,C], to become [N,%lld,%lld,C]",
                       node->op->name, sp_shape_text(x), (long long)o->height, (long long)o->width);
    node->out[0]->shape = sp_shape_of(x.dim[0], o->height, o->width, x.dim[3]);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[0] = sp_upsample_nearest_gradient(b, dy[0], sp_dim(node->in[0], 1), sp_dim(node->in[0], 2));
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    sp_shape x = sp_shape_in(node, 0), y = node->out[0]->shape;
    int64_t H = y.dim[1], W = y.dim[2], C = y.dim[3], i = 0;
    for (int64_t n = 0; n < y.dim[0]; n++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++) {
                int64_t row = n * x.dim[1] + h * x.dim[1] / H,
                        from = (row * x.dim[2] + w * x.dim[2] / W) * C;
                for (int64_t c = 0; c < C; c++)
                    sp_write(node, out, 0, i++, sp_read(node, in, 0, from + c));
            }
}

/* The first y that reads x or a later one: y * size_x / size_y >= x. */
static int64_t first_reader(int64_t x, int64_t size_x, int64_t size_y)
{
    return (x * size_y + size_x - 1) / size_x;
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    sp_shape y = sp_shape_in(node, 0), x = node->out[0]->shape;
    int64_t H = y.dim[1], W = y.dim[2], C = y.dim[3];
    for (int64_t i = 0; i < sp_shape_count(x); i++) {
        int64_t c = i % C, col = i / C % x.dim[2], row = i / C / x.dim[2] % x.dim[1];
        int64_t n = i / C / x.dim[2] / x.dim[1];
        double sum = 0;
        for (int64_t h = first_reader(row, x.dim[1], H); h < first_reader(row + 1, x.dim[1], H);
             h++)
            for (int64_t w = first_reader(col, x.dim[2], W); w < first_reader(col + 1, x.dim[2], W);
                 w++)
                sum += sp_read(node, in, 0, ((n * H + h) * W + w) * C + c);
        sp_write(node, out, 0, i, sum);
    }
}

const sp_op sp_op_upsample_nearest = {
    .name = "upsample_nearest",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_resize_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

const sp_op sp_op_upsample_nearest_gradient = {
    .name = "upsample_nearest_gradient",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_resize_options),
    .infer = infer,
    .reference = gradient_reference,
};

sp_value *sp_upsample_nearest(sp_builder *b, sp_value *x, int64_t height, int64_t width)
{
    return sp_node_make(b, &sp_op_upsample_nearest, 1, 1, &x, &(sp_resize_options){height, width});
}

sp_value *sp_upsample_nearest_gradient(sp_builder *b, sp_value *dy, int64_t height, int64_t width)
{
    return sp_node_make(b, &sp_op_upsample_nearest_gradient, 1, 1, &dy,
                        &(sp_resize_options){height, width});
}
