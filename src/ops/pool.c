/* pool2d: y[n,h,w,c] = the largest, or the mean, of x[n, h*stride - padding + i, w*stride - padding + j, c] over the
 * cells 0 <= i, j < kernel that lie inside x: what lies outside is no cell, so that a mean divides by those there are
 * (PyTorch's count_include_pad=False).
 *   x      [N,H,W,C]
 *   y      [N,Ho,Wo,C], Ho = (H + 2 padding - kernel)/stride + 1
 * Sums in fp64. For inference: it has no gradient. */
#include "ops/pool.h"
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    const sp_pool2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    if (o->kernel < 1 || o->stride < 1 || o->padding < 0 || 2 * o->padding > o->kernel)
        return sp_fail(SP_SHAPE, "%s: a window of %d cells, stride %d and padding %d is none", node->op->name,
                       o->kernel, o->stride, o->padding);
    if (x.rank != 4 || x.dim[1] + 2 * o->padding < o->kernel || x.dim[2] + 2 * o->padding < o->kernel)
        return sp_fail(SP_SHAPE, "%s: x has shape %s, expected [N,H,W,C] of at least one window of %d cells",
                       node->op->name, sp_shape_text(x), o->kernel);
    node->out[0]->shape = sp_shape_of(x.dim[0], (x.dim[1] + 2 * o->padding - o->kernel) / o->stride + 1,
                                      (x.dim[2] + 2 * o->padding - o->kernel) / o->stride + 1, x.dim[3]);
    return SP_OK;
}

static double pooled(const sp_node *node, const void *const *in, int64_t n, sp_pool_window rows,
                     sp_pool_window columns, int64_t c)
{
    const sp_pool2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    double sum = 0, most = -INFINITY;
    for (int64_t h = rows.begin; h < rows.end; h++)
        for (int64_t w = columns.begin; w < columns.end; w++) {
            double v = sp_read(node, in, 0, ((n * x.dim[1] + h) * x.dim[2] + w) * x.dim[3] + c);
            sum += v;
            most = v > most || isnan(v) ? v : most;
        }
    return o->largest ? most : sum / (double)((rows.end - rows.begin) * (columns.end - columns.begin));
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_pool2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0), y = node->out[0]->shape;
    int64_t i = 0;
    for (int64_t n = 0; n < y.dim[0]; n++)
        for (int64_t h = 0; h < y.dim[1]; h++)
            for (int64_t w = 0; w < y.dim[2]; w++)
                for (int64_t c = 0; c < y.dim[3]; c++)
                    sp_write(node, out, 0, i++,
                             pooled(node, in, n, sp_pool_window_at(h, x.dim[1], o),
                                    sp_pool_window_at(w, x.dim[2], o), c));
}

const sp_op sp_op_pool2d = {
    .name = "pool2d",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_pool2d_options),
    .infer = infer,
    .reference = reference,
};

sp_value *sp_pool2d(sp_builder *b, sp_value *x, sp_pool2d_options options)
{
    return sp_node_make(b, &sp_op_pool2d, 1, 1, &x, &options);
}
