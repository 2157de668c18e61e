/* slice: y = x[.., start .. start+count), ..]; unslice is its gradient, and the other way round:
 *        zeros with x at start
 *   slice     x [.., full, ..]   y [.., count, ..]
 *   unslice   x [.., count, ..]  y [.., full, ..] */
#include "ops/rules.h"

static sp_status infer_axis(sp_node *node, int64_t found, int64_t made)
{
    const sp_slice_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0), y = x;
    int axis = sp_resolve_axis(x, o->axis);
    if (axis < 0 || x.dim[axis] != found || o->start < 0 || o->count < 0 ||
        o->start > o->full - o->count)
        return sp_fail(SP_SHAPE,
                       "%s: x has shape %s, and axis %d does not fit %lld .. %lld of %lld",
                       node->op->name, sp_shape_text(x), o->axis, (long long)o->start,
                       (long long)(o->start + o->count), (long long)o->full);
    y.dim[axis] = made;
    return sp_infer_moved(node, y);
}

static sp_status slice_infer(sp_node *node)
{
    const sp_slice_options *o = node->options;
    return infer_axis(node, o->full, o->count);
}

static sp_status unslice_infer(sp_node *node)
{
    const sp_slice_options *o = node->options;
    return infer_axis(node, o->count, o->full);
}

static void slice_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_slice_options *o = node->options;
    dx[0] = sp_unslice(b, dy[0], o->axis, o->start, o->full);
}

static void unslice_gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    const sp_slice_options *o = node->options;
    dx[0] = sp_slice(b, dy[0], o->axis, o->start, o->count);
}

static void slice_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_slice_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    int axis = sp_resolve_axis(x, o->axis);
    int64_t outer = sp_extent(x, 0, axis), inner = sp_extent(x, axis + 1, x.rank);
    for (int64_t k = 0; k < outer; k++)
        for (int64_t i = 0; i < o->count * inner; i++)
            sp_write(node, out, 0, k * o->count * inner + i,
                     sp_read(node, in, 0, (k * o->full + o->start) * inner + i));
}

static void unslice_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_slice_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0);
    int axis = sp_resolve_axis(x, o->axis);
    int64_t outer = sp_extent(x, 0, axis), inner = sp_extent(x, axis + 1, x.rank);
    for (int64_t k = 0; k < outer; k++)
        for (int64_t i = 0; i < o->full * inner; i++) {
            int64_t from = i - o->start * inner;
            bool inside = from >= 0 && from < o->count * inner;
            sp_write(node, out, 0, k * o->full * inner + i,
                     inside ? sp_read(node, in, 0, k * o->count * inner + from) : 0);
        }
}

const sp_op sp_op_slice = {
    .name = "slice",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_slice_options),
    .infer = slice_infer,
    .gradient = slice_gradient,
    .reference = slice_reference,
};

const sp_op sp_op_unslice = {
    .name = "unslice",
    .flags = SP_OP_FOLLOWS,
    .outputs = 1,
    .options_size = sizeof(sp_slice_options),
    .infer = unslice_infer,
    .gradient = unslice_gradient,
    .reference = unslice_reference,
};

/* The size of x along axis, 0 where there is none: the shape rule then says so. */
static int64_t axis_size(const sp_value *x, int axis)
{
    return x && sp_resolve_axis(x->shape, axis) >= 0 ? sp_dim(x, axis) : 0;
}

sp_value *sp_slice(sp_builder *b, sp_value *x, int axis, int64_t start, int64_t count)
{
    return sp_node_make(b, &sp_op_slice, 1, 1, &x,
                        &(sp_slice_options){axis, start, count, axis_size(x, axis)});
}

sp_value *sp_unslice(sp_builder *b, sp_value *x, int axis, int64_t start, int64_t full)
{
    return sp_node_make(b, &sp_op_unslice, 1, 1, &x,
                        &(sp_slice_options){axis, start, axis_size(x, axis), full});
}
