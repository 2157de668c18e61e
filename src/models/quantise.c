/* Which weights can be held in few bits. */
#include "models/quantise.h"
#include "base/memory.h"
#include "graph/op.h"
#include "ops/ops.h"
#include "tensor/quantised.h"

/* What the operators that read a parameter make of it. */
typedef struct {
    bool multiplied; /* as a linear layer's or a 1x1 convolution's weight, by one at least */
    bool otherwise;
} use;

static bool multiplies(const sp_node *node, int input)
{
    if (input != 1) return false;
    if (node->op == &sp_op_linear || node->op == &sp_op_linear_geglu) return true;
    const sp_shape shape = node->in[1]->shape;
    return node->op == &sp_op_conv2d && shape.dim[2] == 1 && shape.dim[3] == 1;
}

static bool in_whole_blocks(sp_shape shape)
{
    return shape.rank >= 2 && shape.dim[1] % SP_Q8_0_BLOCK == 0;
}

static void find_uses(const sp_graph *graph, use *uses)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->inputs; k++) {
            const sp_value *value = graph->nodes[i]->in[k];
            if (!value) continue;
            use *of = &uses[value->id];
            if (multiplies(graph->nodes[i], k))
                of->multiplied = true;
            else
                of->otherwise = true;
        }
}

static sp_status quantise(const sp_value *parameter, const use *of, sp_weights *weights, bool every)
{
    const sp_tensor *tensor = sp_weights_find(weights, parameter->name);
    if (!tensor) return SP_OK;
    bool can = of->multiplied && !of->otherwise && in_whole_blocks(tensor->shape);
    bool quantised = sp_dtype_is_quantised(tensor->dtype), wanted = quantised || (every && can);
    sp_dtype dtype = can ? SP_Q8_0 : SP_F32;
    if (!wanted || tensor->dtype == dtype) return SP_OK;
    return sp_weights_change_dtype(weights, parameter->name, dtype);
}

sp_status sp_quantise_weights(const sp_graph *graph, sp_weights *weights, bool every)
{
    use *uses = sp_alloc_zero(((size_t)graph->value_count + 1) * sizeof *uses);
    if (!uses) return SP_MEMORY;
    find_uses(graph, uses);
    sp_status status = SP_OK;
    for (int i = 0; i < graph->value_count && !status; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER)
            status = quantise(graph->values[i], &uses[graph->values[i]->id], weights, every);
    sp_free(uses);
    return status;
}
