/* The builder: names, weight sets, sticky errors. */
#include <stdarg.h>
#include <stdio.h>
#include "graph/graph_internal.h"
#include "graph/passes.h"
#include "graph/op.h"

enum { SP_MAX_DEPTH = 32 };

typedef struct {
    const char *name;
    sp_rate rate;
    sp_parameter_dtype *dtype;
    void *context;
    const sp_adapter *adapter; /* NULL: every parameter is of this set */
} weight_set;

struct sp_builder {
    sp_graph *graph;
    sp_dictionary *inputs, *parameters;
    sp_string scope;
    size_t scope_end[SP_MAX_DEPTH];
    int depth;
    weight_set set[SP_MAX_DEPTH];
    int set_depth;
    const char *stage[SP_MAX_DEPTH];
    int stage_depth;
    int block, blocks;
    int64_t samples;
    bool recompute;
    sp_status status;
    char *message; /* in the graph's arena */
};

sp_status sp_builder_create(sp_builder **out)
{
    *out = NULL;
    sp_builder *b = sp_alloc_zero(sizeof *b);
    if (!b) return SP_MEMORY;
    b->graph = sp_graph_create();
    b->inputs = sp_dictionary_create();
    b->parameters = sp_dictionary_create();
    if (!b->graph || !b->inputs || !b->parameters) {
        sp_builder_destroy(b);
        return SP_MEMORY;
    }
    b->stage[0] = "";
    b->set[0] = (weight_set){.name = "", .rate = SP_RATE_RUN};
    *out = b;
    return SP_OK;
}

void sp_builder_destroy(sp_builder *b)
{
    if (!b) return;
    sp_graph_destroy(b->graph);
    sp_dictionary_destroy(b->inputs);
    sp_dictionary_destroy(b->parameters);
    sp_string_free(&b->scope);
    sp_free(b);
}

sp_status sp_builder_finish(sp_builder *b, sp_graph **out)
{
    *out = NULL;
    if (b->status) return b->message ? sp_fail(b->status, "%s", b->message) : b->status;
    *out = b->graph;
    b->graph = NULL;
    return SP_OK;
}

sp_graph *sp_builder_graph(sp_builder *b)
{
    return b->graph;
}

bool sp_builder_failed(const sp_builder *b)
{
    return b->status != SP_OK;
}

sp_arena *sp_builder_arena(sp_builder *b)
{
    return b->graph->arena;
}

sp_value *sp_builder_fail(sp_builder *b, sp_status status, const char *format, ...)
{
    if (b->status) return NULL;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    b->status = status;
    const char *scope = sp_string_text(&b->scope);
    b->message = sp_arena_format(b->graph->arena, "%s%s%s", scope, *scope ? ": " : "", text);
    return NULL;
}

void sp_builder_set_samples(sp_builder *b, int64_t samples)
{
    b->samples = samples;
}

void sp_scope_enter(sp_builder *b, const char *format, ...)
{
    if (b->depth == SP_MAX_DEPTH) {
        sp_builder_fail(b, SP_INTERNAL, "scopes are nested more than %d deep", SP_MAX_DEPTH);
        return;
    }
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    b->scope_end[b->depth++] = b->scope.length;
    sp_string_append_format(&b->scope, "%s%s", b->scope.length ? "." : "", text);
    if (b->scope.failed)
        sp_builder_fail(b, SP_MEMORY, "out of memory"); /* names would be wrong from here on */
}

void sp_scope_leave(sp_builder *b)
{
    if (b->depth == 0) return;
    b->scope.length = b->scope_end[--b->depth];
    if (b->scope.data) b->scope.data[b->scope.length] = 0;
}

static void push_set(sp_builder *b, const char *name, weight_set set)
{
    if (b->set_depth + 1 == SP_MAX_DEPTH) {
        sp_builder_fail(b, SP_INTERNAL, "weight sets are nested more than %d deep", SP_MAX_DEPTH);
        return;
    }
    set.name = sp_arena_strdup(b->graph->arena, name);
    if (!set.name) sp_builder_fail(b, SP_MEMORY, "out of memory");
    b->set[++b->set_depth] = set;
}

void sp_set_enter(sp_builder *b, const char *set, sp_rate rate, sp_parameter_dtype *dtype,
                  void *context)
{
    push_set(b, set, (weight_set){.rate = rate, .dtype = dtype, .context = context});
}

void sp_set_enter_over(sp_builder *b, const char *set, sp_rate rate, const sp_adapter *adapter)
{
    push_set(b, set, (weight_set){.rate = rate, .adapter = adapter});
}

sp_value *sp_adapted(sp_builder *b, sp_value *output)
{
    const sp_adapter *adapter = b->set[b->set_depth].adapter;
    return adapter && output ? adapter->adapt(adapter->context, b, output) : output;
}

void sp_set_leave(sp_builder *b)
{
    if (b->set_depth > 0) b->set_depth--;
}

/* The value known under `key`, or a new one; the shapes must agree. */
static sp_value *named_value(sp_builder *b, sp_dictionary *dictionary, const char *key, const char *name,
                             sp_value_kind kind, sp_dtype dtype, sp_shape shape)
{
    if (!key || !name) return sp_builder_fail(b, SP_MEMORY, "out of memory");
    sp_value *known = sp_dictionary_get(dictionary, key);
    if (known) {
        if (!sp_shape_equal(known->shape, shape))
            return sp_builder_fail(b, SP_SHAPE, "\"%s\" is used as %s and as %s", name,
                                   sp_shape_text(known->shape), sp_shape_text(shape));
        return known;
    }
    sp_value *value = sp_graph_new_value(b->graph, kind, dtype, shape);
    if (!value || sp_dictionary_put(dictionary, key, value))
        return sp_builder_fail(b, SP_MEMORY, "out of memory");
    value->name = name;
    return value;
}

sp_value *sp_input(sp_builder *b, const char *name, sp_dtype dtype, sp_shape shape, sp_rate rate)
{
    if (b->status) return NULL;
    sp_value *value = named_value(b, b->inputs, name, sp_arena_strdup(b->graph->arena, name),
                                  SP_VALUE_INPUT, dtype, shape);
    if (value) value->rate = rate;
    return value;
}

sp_value *sp_parameter(sp_builder *b, const char *name, sp_shape shape)
{
    if (b->status) return NULL;
    sp_arena *arena = b->graph->arena;
    const weight_set *set = &b->set[b->set_depth];
    const char *scope = sp_string_text(&b->scope);
    char *full = sp_arena_format(arena, "%s%s%s", scope, *scope ? "." : "", name);
    while (full && set->adapter && !set->adapter->owns(set->adapter->context, full))
        set--;
    char *key = sp_arena_format(arena, "%s:%s", set->name, full ? full : "");
    if (!full) return sp_builder_fail(b, SP_MEMORY, "out of memory");
    sp_dtype dtype = set->dtype ? set->dtype(set->context, full) : SP_F32;
    sp_value *value = named_value(b, b->parameters, key, full, SP_VALUE_PARAMETER, dtype, shape);
    if (value) {
        value->set = set->name;
        value->rate = set->rate;
    }
    return value;
}

void sp_output(sp_builder *b, const char *name, sp_value *value)
{
    if (b->status) return;
    sp_graph *graph = b->graph;
    if (!value) {
        sp_builder_fail(b, SP_INTERNAL, "output \"%s\" has no value", name);
        return;
    }
    if (graph->output_count == graph->output_capacity) {
        int wanted = graph->output_capacity ? 2 * graph->output_capacity : 16;
        void *larger =
            sp_realloc(graph->outputs, (size_t)graph->output_capacity * sizeof *graph->outputs,
                       (size_t)wanted * sizeof *graph->outputs);
        if (!larger) {
            sp_builder_fail(b, SP_MEMORY, "out of memory");
            return;
        }
        graph->outputs = larger;
        graph->output_capacity = wanted;
    }
    char *copy = sp_arena_strdup(graph->arena, name);
    if (!copy) {
        sp_builder_fail(b, SP_MEMORY, "out of memory");
        return;
    }
    graph->outputs[graph->output_count++] = (sp_graph_output){copy, value, NULL};
}

/* Behind the node that made `value`, so that `value` need not stay. */
static void move_behind(sp_graph *graph, const sp_value *value)
{
    int last = graph->node_count - 1, n = last;
    sp_node *node = graph->nodes[last];
    while (n > 0 && graph->nodes[n - 1] != value->producer)
        n--;
    if (!value->producer) return;
    memmove(graph->nodes + n + 1, graph->nodes + n, (size_t)(last - n) * sizeof *graph->nodes);
    graph->nodes[n] = node;
}

void sp_output_over(sp_builder *b, const char *name, sp_value *input, sp_value *value, sp_value *sum)
{
    if (b->status || !sum) return;
    sum->producer->stage = sp_stage_backward;
    move_behind(b->graph, value);
    sp_output(b, name, sum);
    if (!b->status) b->graph->outputs[b->graph->output_count - 1].sum = input;
}

void sp_stage_enter(sp_builder *b, const char *stage)
{
    if (b->stage_depth + 1 == SP_MAX_DEPTH) {
        sp_builder_fail(b, SP_INTERNAL, "stages are nested more than %d deep", SP_MAX_DEPTH);
        return;
    }
    const char *name = sp_arena_strdup(b->graph->arena, stage);
    if (!name) sp_builder_fail(b, SP_MEMORY, "out of memory");
    b->stage[++b->stage_depth] = name ? name : "";
}

void sp_stage_leave(sp_builder *b)
{
    if (b->stage_depth > 0) b->stage_depth--;
}

void sp_checkpoint_begin(sp_builder *b, bool recompute)
{
    b->block = ++b->blocks;
    b->recompute = recompute;
}

void sp_checkpoint_end(sp_builder *b)
{
    b->block = 0;
}

sp_value *sp_node_make(sp_builder *b, const sp_op *op, int required, int inputs,
                       sp_value *const *in, const void *options)
{
    if (b->status) return NULL;
    if (inputs > SP_MAX_INPUTS)
        return sp_builder_fail(b, SP_INTERNAL, "%s takes at most %d inputs, not %d", op->name,
                               SP_MAX_INPUTS, inputs);
    for (int i = 0; i < required; i++)
        if (!in[i]) return sp_builder_fail(b, SP_INTERNAL, "%s: input %d is missing", op->name, i);
    sp_node *node = sp_graph_new_node(b->graph, op, inputs, options);
    if (!node) return sp_builder_fail(b, SP_MEMORY, "out of memory");
    for (int i = 0; i < inputs; i++)
        node->in[i] = in[i];
    node->scope = sp_arena_strdup(b->graph->arena, sp_string_text(&b->scope));
    node->stage = b->stage[b->stage_depth];
    node->samples = b->samples;
    node->block = b->block;
    node->checkpoint = b->recompute ? b->block : 0;
    sp_status status = node->scope ? sp_node_infer(b->graph, node) : SP_MEMORY;
    if (!status) status = sp_graph_append(b->graph, node);
    if (status) return sp_builder_fail(b, status, "%s", sp_error_message());
    return node->out[0];
}

sp_value *sp_output_of(sp_value *value, int index)
{
    return value && value->producer ? value->producer->out[index] : NULL;
}
