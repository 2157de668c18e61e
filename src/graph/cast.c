/* cast: y = x in another float dtype, rounded to nearest even. In graph/ because the precision pass inserts it.
 *   x, y   any equal shape; gradient: the cast back */
#include "graph/graph_internal.h"
#include "graph/op.h"
#include "graph/passes.h"

static sp_status infer(sp_node *node)
{
    const sp_cast_options *options = node->options;
    if (!sp_dtype_is_float(node->in[0]->dtype))
        return sp_fail(SP_ARGUMENT, "cast: %s is not a float type",
                       sp_dtype_name(node->in[0]->dtype));
    node->out[0]->shape = node->in[0]->shape;
    node->out[0]->dtype = options->dtype;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    sp_value *in[] = {dy[0]};
    if (sp_wants_gradient(node, 0))
        dx[0] = sp_node_make(b, &sp_op_cast, 1, 1, in, &(sp_cast_options){node->in[0]->dtype});
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t count = sp_shape_count(node->in[0]->shape);
    for (int64_t i = 0; i < count; i++)
        sp_store(out[0], node->out[0]->dtype, i, sp_load(in[0], node->in[0]->dtype, i));
}

const sp_op sp_op_cast = {
    .name = "cast",
    .flags = SP_OP_ELEMENTWISE,
    .outputs = 1,
    .options_size = sizeof(sp_cast_options),
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};
