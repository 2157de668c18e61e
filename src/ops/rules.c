/* What shape and gradient rules share. */
#include "ops/rules.h"

sp_status sp_misfit(const sp_node *node, const char *what, int input, const char *other,
                    int other_input)
{
    return sp_fail(SP_SHAPE, "%s: %s has shape %s, which does not fit %s of shape %s",
                   node->op->name, what, sp_shape_text(sp_shape_in(node, input)), other,
                   sp_shape_text(sp_shape_in(node, other_input)));
}

sp_status sp_unexpected(const sp_node *node, const char *what, int input, const char *pattern)
{
    return sp_fail(SP_SHAPE, "%s: %s has shape %s, expected %s", node->op->name, what,
                   sp_shape_text(sp_shape_in(node, input)), pattern);
}

sp_dtype sp_full_dtype(const sp_node *node)
{
    return node->out[0]->dtype == SP_F64 ? SP_F64 : SP_F32;
}

sp_status sp_infer_moved(sp_node *node, sp_shape shape)
{
    node->out[0]->shape = shape;
    node->out[0]->dtype = node->in[0]->dtype;
    return SP_OK;
}

int sp_resolve_axis(sp_shape shape, int axis)
{
    if (axis < 0) axis += shape.rank;
    return axis >= 0 && axis < shape.rank ? axis : -1;
}

int64_t sp_extent(sp_shape shape, int begin, int end)
{
    int64_t product = 1;
    for (int i = begin; i < end; i++)
        product *= shape.dim[i];
    return product;
}

bool sp_is_suffix(sp_shape y, sp_shape x)
{
    if (y.rank > x.rank) return false;
    for (int i = 0; i < y.rank; i++)
        if (y.dim[i] != x.dim[x.rank - y.rank + i]) return false;
    return true;
}

double *sp_reference_scratch(const sp_node *node, void *const *out, int64_t count)
{
    double *scratch = sp_alloc((size_t)count * sizeof(double));
    if (scratch) return scratch;
    for (int k = 0; k < node->outputs; k++)
        for (int64_t i = 0; i < sp_count_out(node, k); i++)
            sp_write(node, out, k, i, NAN);
    return NULL;
}
