/* Precision and pruning. */
#include "graph/passes.h"
#include "graph/graph_internal.h"
#include "graph/op.h"

/* `value` in `dtype`: itself, a cast made earlier, or a new cast appended to the order.
 * value->scratch remembers it. */
static sp_status converted(sp_graph *graph, sp_value *value, sp_dtype dtype, const sp_node *user,
                           sp_value **out)
{
    *out = value;
    if (value->dtype == dtype) return SP_OK;
    for (sp_value *known = value->scratch; known; known = known->scratch)
        if (known->dtype == dtype && (value->kind == SP_VALUE_PARAMETER ||
                                      known->producer->checkpoint == user->checkpoint)) {
            *out = known;
            return SP_OK;
        }
    sp_node *node = sp_graph_new_node(graph, &sp_op_cast, 1, &(sp_cast_options){dtype});
    if (!node) return SP_MEMORY;
    node->in[0] = value;
    node->scope = user->scope;
    node->stage = user->stage;
    node->block = user->block;
    node->checkpoint = user->checkpoint;
    SP_TRY(sp_node_infer(graph, node));
    SP_TRY(sp_graph_append(graph, node));
    node->out[0]->scratch = value->scratch;
    value->scratch = node->out[0];
    *out = node->out[0];
    return SP_OK;
}

static bool any_input_lowered(const sp_node *node)
{
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i] && node->in[i]->kind == SP_VALUE_RESULT && node->in[i]->dtype != SP_F32 &&
            sp_dtype_is_float(node->in[i]->dtype))
            return true;
    return false;
}

static sp_status lower_node(sp_graph *graph, sp_node *node, sp_dtype precision)
{
    const sp_op *op = node->op;
    if (op->flags & SP_OP_VIEW) {
        node->out[0]->dtype = node->in[0]->dtype;
        return sp_graph_append(graph, node);
    }
    bool explicit_cast = op == &sp_op_cast;
    if ((op->flags & SP_OP_FOLLOWS) && !any_input_lowered(node)) precision = SP_F32;
    for (int i = 0; i < node->inputs && !explicit_cast; i++)
        if (node->in[i] && sp_dtype_is_float(node->in[i]->dtype)) {
            bool stored = (op->stored_inputs >> i) & 1;
            if (stored && node->in[i]->kind == SP_VALUE_PARAMETER) continue;
            sp_dtype wanted = (op->full_inputs >> i) & 1 ? SP_F32 : precision;
            SP_TRY(converted(graph, node->in[i], wanted, node, &node->in[i]));
        }
    for (int i = 0; i < node->outputs && !explicit_cast; i++)
        if (sp_dtype_is_float(node->out[i]->dtype))
            node->out[i]->dtype = (op->full_outputs >> i) & 1 ? SP_F32 : precision;
    return sp_graph_append(graph, node);
}

sp_status sp_pass_precision(sp_graph *graph, sp_dtype precision)
{
    for (int i = 0; i < graph->value_count; i++) {
        if (graph->values[i]->dtype == SP_F64)
            return SP_OK; /* a gradient check: everything stays double */
        graph->values[i]->scratch = NULL;
    }
    sp_node **old = graph->nodes;
    int count = graph->node_count;
    graph->nodes = NULL;
    graph->node_count = graph->node_capacity = 0;
    sp_dtype *declared = sp_alloc(sizeof *declared * (size_t)(graph->output_count + 1));
    sp_status status = declared ? SP_OK : SP_MEMORY;
    for (int i = 0; i < graph->output_count && !status; i++)
        declared[i] = graph->outputs[i].value->dtype;
    for (int i = 0; i < count && !status; i++)
        if (!old[i]->removed) status = lower_node(graph, old[i], precision);
    for (int i = 0; i < graph->output_count && !status; i++) {
        const sp_node *producer = graph->outputs[i].value->producer;
        const sp_node outside = {.scope = "", .stage = producer ? producer->stage : ""};
        if (sp_dtype_is_float(declared[i]))
            status = converted(graph, graph->outputs[i].value, declared[i], &outside,
                               &graph->outputs[i].value);
    }
    sp_free(old);
    sp_free(declared);
    return status;
}

sp_status sp_pass_prune(sp_graph *graph)
{
    bool *needed = sp_alloc_zero((size_t)graph->value_count + 1);
    if (!needed) return SP_MEMORY;
    for (int i = 0; i < graph->output_count; i++)
        needed[graph->outputs[i].value->id] = true;
    for (int i = graph->node_count - 1; i >= 0; i--) {
        sp_node *node = graph->nodes[i];
        bool wanted = false;
        for (int k = 0; k < node->outputs; k++)
            wanted |= needed[node->out[k]->id];
        if (!wanted) node->removed = true;
        for (int k = 0; k < node->inputs && !node->removed; k++)
            if (node->in[k]) needed[node->in[k]->id] = true;
    }
    sp_free(needed);
    int kept = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (!graph->nodes[i]->removed) graph->nodes[kept++] = graph->nodes[i];
    graph->node_count = kept;
    for (int i = 0; i < kept; i++) {
        sp_node *node = graph->nodes[i];
        node->rate = SP_RATE_RUN;
        for (int k = 0; k < node->inputs; k++)
            if (node->in[k] && node->in[k]->rate > node->rate) node->rate = node->in[k]->rate;
        for (int k = 0; k < node->outputs; k++)
            node->out[k]->rate = node->rate;
    }
    return SP_OK;
}
