/* The graph as a container: nodes, values, their creation and destruction. */
#include "graph/graph_internal.h"
#include "graph/op.h"
#include "graph/passes.h"

sp_graph *sp_graph_create(void)
{
    sp_arena *arena = sp_arena_create();
    if (!arena) return NULL;
    sp_graph *graph = sp_arena_alloc(arena, sizeof *graph);
    if (!graph) {
        sp_arena_destroy(arena);
        return NULL;
    }
    graph->arena = arena;
    return graph;
}

void sp_graph_destroy(sp_graph *graph)
{
    if (!graph) return;
    sp_free(graph->nodes);
    sp_free(graph->values);
    sp_free(graph->outputs);
    sp_arena_destroy(graph->arena);
}

/* Makes room for one more element of `size` bytes in a list of `count`. */
static sp_status grow(void **list, int count, int *capacity, size_t size)
{
    if (count < *capacity) return SP_OK;
    int wanted = *capacity ? *capacity * 2 : 256;
    void *larger = sp_realloc(*list, (size_t)*capacity * size, (size_t)wanted * size);
    if (!larger) return SP_MEMORY;
    *list = larger;
    *capacity = wanted;
    return SP_OK;
}

sp_status sp_graph_append(sp_graph *graph, sp_node *node)
{
    SP_TRY(grow((void **)&graph->nodes, graph->node_count, &graph->node_capacity,
                sizeof *graph->nodes));
    graph->nodes[graph->node_count++] = node;
    return SP_OK;
}

sp_value *sp_graph_new_value(sp_graph *graph, sp_value_kind kind, sp_dtype dtype, sp_shape shape)
{
    if (grow((void **)&graph->values, graph->value_count, &graph->value_capacity,
             sizeof *graph->values))
        return NULL;
    sp_value *value = sp_arena_alloc(graph->arena, sizeof *value);
    if (!value) return NULL;
    value->kind = kind;
    value->dtype = dtype;
    value->shape = shape;
    value->rate = SP_RATE_STEP;
    value->id = graph->value_count;
    graph->values[graph->value_count++] = value;
    return value;
}

sp_node *sp_graph_new_node(sp_graph *graph, const sp_op *op, int inputs, const void *options)
{
    sp_node *node = sp_arena_alloc(graph->arena, sizeof *node);
    if (!node) return NULL;
    node->op = op;
    node->inputs = inputs;
    node->outputs = op->outputs;
    node->rate = SP_RATE_STEP;
    node->scope = node->stage = "";
    if (op->options_size) {
        void *copy = sp_arena_alloc(graph->arena, op->options_size);
        if (!copy) return NULL;
        if (options) memcpy(copy, options, op->options_size);
        node->options = copy;
    }
    return node;
}

sp_status sp_node_infer(sp_graph *graph, sp_node *node)
{
    sp_dtype dtype = SP_F32;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i] && sp_dtype_is_float(node->in[i]->dtype)) {
            dtype = node->in[i]->dtype;
            /* How a weight is stored says nothing about what is computed from it. */
            if (node->in[i]->kind == SP_VALUE_PARAMETER && dtype != SP_F64) dtype = SP_F32;
            break;
        }
    for (int i = 0; i < node->outputs; i++) {
        sp_value *out = sp_graph_new_value(graph, SP_VALUE_RESULT, dtype, (sp_shape){0});
        if (!out) return SP_MEMORY;
        out->producer = node;
        out->output_index = i;
        out->name = node->scope;
        node->out[i] = out;
    }
    SP_TRY(node->op->infer(node));
    node->rate = SP_RATE_RUN;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i] && node->in[i]->rate > node->rate) node->rate = node->in[i]->rate;
    for (int i = 0; i < node->outputs; i++)
        node->out[i]->rate = node->rate;
    return SP_OK;
}

sp_value *sp_value_root(sp_value *value)
{
    while (value->producer && (value->producer->op->flags & SP_OP_VIEW))
        value = value->producer->in[0];
    return value;
}
