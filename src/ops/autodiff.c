/* Reverse mode: walks the nodes backwards and lets each operator's rule add its gradient nodes. */
#include "ops/autodiff.h"
#include "graph/graph_internal.h"
#include "ops/ops.h"

typedef struct {
    sp_builder *b;
    sp_graph *graph;
    int forward_nodes; /* nodes and values that existed before */
    int forward_values;
    sp_value **gradient;  /* by id of a forward value: what has flown back so far */
    sp_value **clone;     /* by id of a forward value: its copy in a block computed again */
    sp_node **clone_node; /* by index of a forward node */
    bool *reached;        /* by id: the loss depends on it */
} autodiff;

/* Which values lie between wrt and the loss. */
static void mark(autodiff *a, sp_value *loss, sp_value *const *wrt, int count)
{
    for (int i = 0; i < a->forward_values; i++)
        a->graph->values[i]->needs_gradient = false;
    for (int i = 0; i < count; i++)
        wrt[i]->needs_gradient = true;
    for (int n = 0; n < a->forward_nodes; n++) {
        sp_node *node = a->graph->nodes[n];
        if (node->op->flags & SP_OP_STOP_GRADIENT) continue;
        bool needs = false;
        for (int i = 0; i < node->inputs; i++)
            needs |= sp_wants_gradient(node, i);
        for (int i = 0; i < node->outputs; i++)
            node->out[i]->needs_gradient |= needs && sp_dtype_is_float(node->out[i]->dtype);
    }
    a->reached[loss->id] = true;
    for (int n = a->forward_nodes - 1; n >= 0; n--) {
        sp_node *node = a->graph->nodes[n];
        bool reached = false;
        for (int i = 0; i < node->outputs; i++)
            reached |= a->reached[node->out[i]->id] && node->out[i]->needs_gradient;
        for (int i = 0; i < node->inputs && reached; i++)
            if (node->in[i]) a->reached[node->in[i]->id] = true;
    }
}

/* Appends copies of all nodes of a checkpointing block; their inputs are copies too where they come
 * from the block. */
static sp_status clone_block(autodiff *a, int block)
{
    for (int n = 0; n < a->forward_nodes; n++) {
        const sp_node *node = a->graph->nodes[n];
        if (node->checkpoint != block || node->removed) continue;
        sp_node *copy = sp_arena_alloc(a->graph->arena, sizeof *copy);
        if (!copy) return SP_MEMORY;
        *copy = *node;
        for (int i = 0; i < copy->inputs; i++)
            if (copy->in[i] && a->clone[copy->in[i]->id]) copy->in[i] = a->clone[copy->in[i]->id];
        SP_TRY(sp_node_infer(a->graph, copy));
        copy->stage = sp_stage_recomputation;
        copy->block = copy->checkpoint = 0;
        for (int i = 0; i < copy->outputs; i++) {
            copy->out[i]->needs_gradient = node->out[i]->needs_gradient;
            a->clone[node->out[i]->id] = copy->out[i];
        }
        SP_TRY(sp_graph_append(a->graph, copy));
        a->clone_node[n] = copy;
    }
    return SP_OK;
}

static sp_status accumulate(autodiff *a, sp_value *value, sp_value *gradient)
{
    if (!sp_shape_equal(value->shape, gradient->shape))
        return sp_fail(SP_INTERNAL, "the gradient of \"%s\" is %s, not %s",
                       value->name ? value->name : "", sp_shape_text(gradient->shape),
                       sp_shape_text(value->shape));
    sp_value **sum = &a->gradient[value->id];
    *sum = *sum ? sp_add(a->b, *sum, gradient) : gradient;
    return *sum ? SP_OK : SP_INTERNAL;
}

static sp_status backward_node(autodiff *a, int index)
{
    sp_node *node = a->graph->nodes[index];
    sp_value *output_gradient[SP_MAX_OUTPUTS] = {NULL}, *input_gradient[SP_MAX_INPUTS] = {NULL};
    bool any = false, wanted = false;
    for (int i = 0; i < node->outputs; i++) {
        output_gradient[i] = a->gradient[node->out[i]->id];
        any |= output_gradient[i] != NULL;
    }
    for (int i = 0; i < node->inputs; i++)
        wanted |= sp_wants_gradient(node, i);
    if (!any || !wanted || (node->op->flags & SP_OP_STOP_GRADIENT)) return SP_OK;
    if (!node->op->gradient)
        return sp_fail(SP_UNSUPPORTED, "operator \"%s\" has no gradient (asked for at \"%s\")",
                       node->op->name, node->scope);
    if (node->checkpoint && !a->clone_node[index]) SP_TRY(clone_block(a, node->checkpoint));
    sp_node *seen = a->clone_node[index] ? a->clone_node[index] : node;
    sp_scope_enter(a->b, "%s", node->scope);
    node->op->gradient(a->b, seen, output_gradient, input_gradient);
    sp_scope_leave(a->b);
    if (sp_builder_failed(a->b)) return SP_INTERNAL;
    for (int i = 0; i < node->inputs; i++)
        if (sp_wants_gradient(node, i)) {
            if (!input_gradient[i])
                return sp_fail(SP_UNSUPPORTED,
                               "operator \"%s\" has no gradient for input %d (asked for at \"%s\")",
                               node->op->name, i, node->scope);
            SP_TRY(accumulate(a, node->in[i], input_gradient[i]));
        }
    return SP_OK;
}

static sp_status differentiate(autodiff *a, sp_value *loss, sp_value *const *wrt, int count,
                               sp_value **gradients)
{
    mark(a, loss, wrt, count);
    sp_stage_enter(a->b, sp_stage_backward);
    /* The seed, d(loss)/d(loss) = 1; written so that a loss that is not finite makes every gradient
     * so. */
    a->gradient[loss->id] = sp_affine(a->b, loss, 0, 1);
    for (int n = a->forward_nodes - 1; n >= 0; n--) {
        sp_node *node = a->graph->nodes[n];
        bool reached = false;
        for (int i = 0; i < node->outputs; i++)
            reached |= a->reached[node->out[i]->id];
        if (reached) SP_TRY(backward_node(a, n));
    }
    sp_stage_leave(a->b);
    for (int i = 0; i < count; i++)
        gradients[i] = a->gradient[wrt[i]->id];
    return SP_OK;
}

sp_status sp_gradient(sp_builder *b, sp_value *loss, sp_value *const *wrt, int count,
                      sp_value **gradients)
{
    if (sp_builder_failed(b)) return SP_INTERNAL;
    if (!loss || sp_shape_count(loss->shape) != 1)
        return sp_fail(SP_SHAPE,
                       "the gradient of a value of shape %s was asked for; only a scalar has one",
                       loss ? sp_shape_text(loss->shape) : "(none)");
    sp_graph *graph = sp_builder_graph(b);
    autodiff a = {.b = b,
                  .graph = graph,
                  .forward_nodes = graph->node_count,
                  .forward_values = graph->value_count};
    size_t values = (size_t)a.forward_values + 1, nodes = (size_t)a.forward_nodes + 1;
    a.gradient = sp_alloc_zero(values * sizeof *a.gradient);
    a.clone = sp_alloc_zero(values * sizeof *a.clone);
    a.clone_node = sp_alloc_zero(nodes * sizeof *a.clone_node);
    a.reached = sp_alloc_zero(values);
    sp_status status = SP_MEMORY;
    if (a.gradient && a.clone && a.clone_node && a.reached)
        status = differentiate(&a, loss, wrt, count, gradients);
    sp_free(a.gradient);
    sp_free(a.clone);
    sp_free(a.clone_node);
    sp_free(a.reached);
    if (status) sp_builder_fail(b, status, "%s", sp_error_message());
    return status;
}

sp_status sp_parameters_of(sp_builder *b, const char *set, sp_value ***out, int *count)
{
    sp_graph *graph = sp_builder_graph(b);
    *count = 0;
    *out = sp_arena_alloc(graph->arena, ((size_t)graph->value_count + 1) * sizeof **out);
    if (!*out) return SP_MEMORY;
    for (int i = 0; i < graph->value_count; i++) {
        sp_value *value = graph->values[i];
        if (value->kind == SP_VALUE_PARAMETER && strcmp(value->set, set) == 0)
            (*out)[(*count)++] = value;
    }
    return SP_OK;
}

typedef void output_function(sp_builder *b, const char *name, sp_value *value);

void sp_output_sum(sp_builder *b, const char *name, sp_value *value)
{
    if (!value) {
        sp_output(b, name, value);
        return;
    }
    sp_value *so_far = sp_input(b, name, SP_F32, value->shape, SP_RATE_STEP);
    sp_output_over(b, name, so_far, value, sp_add(b, so_far, value));
}

static sp_status output_all(sp_builder *b, sp_value *loss, const char *set, output_function *output)
{
    sp_arena *arena = sp_builder_arena(b);
    sp_value **parameters;
    int count;
    SP_TRY(sp_parameters_of(b, set, &parameters, &count));
    sp_value **gradients = sp_arena_alloc(arena, sizeof *gradients * (size_t)(count + 1));
    if (!gradients) return SP_MEMORY;
    SP_TRY(sp_gradient(b, loss, parameters, count, gradients));
    for (int i = 0; i < count; i++) {
        char *name = sp_arena_format(arena, "gradient.%s", parameters[i]->name);
        if (!name) return SP_MEMORY;
        if (gradients[i]) output(b, name, gradients[i]);
    }
    return SP_OK;
}

sp_status sp_output_gradients(sp_builder *b, sp_value *loss, const char *set)
{
    return output_all(b, loss, set, sp_output);
}

sp_status sp_output_gradient_sums(sp_builder *b, sp_value *loss, const char *set)
{
    return output_all(b, loss, set, sp_output_sum);
}
