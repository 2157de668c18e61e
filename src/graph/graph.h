/* The static graph: values, nodes, and the builder that checks shapes as it goes.
 * A graph is built once per shape, in execution order: a node only reads values made before it. */
#ifndef SP_GRAPH_GRAPH_H
#define SP_GRAPH_GRAPH_H
#include <stdbool.h>
#include <stdint.h>
#include "base/memory.h"
#include "base/status.h"
#include "tensor/tensor.h"

#define SP_MAX_INPUTS 14
#define SP_MAX_OUTPUTS 3

/* How often a value changes. A value computed from slower ones only is computed once per change of
 * those: packed weights once per binding, cross-attention keys once per prompt. Ordered from slow
 * to fast. */
typedef enum { SP_RATE_RUN, SP_RATE_PROMPT, SP_RATE_STEP, SP_RATE_COUNT } sp_rate;

typedef struct sp_op sp_op;
typedef struct sp_node sp_node;
typedef struct sp_value sp_value;
typedef struct sp_builder sp_builder;

typedef enum { SP_VALUE_INPUT, SP_VALUE_PARAMETER, SP_VALUE_RESULT } sp_value_kind;

struct sp_value {
    sp_value_kind kind;
    sp_dtype dtype;
    sp_shape shape;
    sp_rate rate;
    const char *name;  /* inputs: the name to set it by; parameters: the checkpoint's name; results:
                          NULL or a scope */
    const char *set;   /* parameters: which weight set ("online", "teacher"); else NULL */
    sp_node *producer; /* results: the node and which output of it */
    int output_index;
    int id;              /* dense, unique in the graph */
    bool needs_gradient; /* set by sp_gradient: lies on a path from the values differentiated for */
    void *scratch;       /* belongs to the pass that is running */
};

struct sp_node {
    const sp_op *op;
    sp_value *in[SP_MAX_INPUTS]; /* NULL: an optional input that is absent */
    sp_value *out[SP_MAX_OUTPUTS];
    int inputs, outputs; /* inputs counts up to the last one, absent ones included */
    const void *options; /* op->options_size bytes, copied when the node was made */
    const char *scope;   /* where in the model, for messages and profiles */
    const char *stage;   /* of the work as a whole, for times: "teacher"; "" where none is said */
    int block;           /* > 0: the block that gradient checkpointing may compute again */
    int checkpoint;      /* the same where it does; else 0 */
    sp_rate rate;
    int64_t samples; /* sp_builder_set_samples */
    bool removed; /* fused away or dead; passes skip it */
};

typedef struct {
    const char *name;
    sp_value *value;
    sp_value *sum; /* an input whose memory the value takes over; NULL: none */
} sp_graph_output;

typedef struct sp_graph {
    sp_arena *arena; /* everything below lives here */
    sp_node **nodes; /* execution order */
    int node_count, node_capacity;
    sp_value **values; /* by id */
    int value_count, value_capacity;
    sp_graph_output *outputs;
    int output_count, output_capacity;
} sp_graph;

/* ---- Building ----
 * Errors are sticky: after the first one every call returns NULL, calls accept NULL values, and
 * sp_builder_finish reports it. So models read without a check on every line. */
sp_status sp_builder_create(sp_builder **out);
void sp_builder_destroy(sp_builder *b);
/* Hands the graph over (free with sp_graph_destroy) or returns the first error; b can only be
 * destroyed after. */
sp_status sp_builder_finish(sp_builder *b, sp_graph **out);
void sp_graph_destroy(sp_graph *graph);
sp_graph *sp_builder_graph(sp_builder *b);
bool sp_builder_failed(const sp_builder *b);
sp_arena *sp_builder_arena(sp_builder *b);
/* Records an error found while building (the first one wins); always returns NULL. The scope is put
 * before it. */
sp_value *sp_builder_fail(sp_builder *b, sp_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Kernels of the nodes made from here on are chosen as for a batch of so many samples, whatever N is, where the choice
 * would depend on N: the bits of a sample are those that it has in such a batch. 0, as at first: as for the batch that
 * there is. */
void sp_builder_set_samples(sp_builder *b, int64_t samples);

/* Names: scopes join with '.', "down_blocks.0" may be entered at once. printf format. */
void sp_scope_enter(sp_builder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sp_scope_leave(sp_builder *b);
/* Weight set of the parameters made from here on ("" at start), how often that set changes (RUN:
 * never while bound; STEP: training), and, if not NULL, where the dtype of a stored parameter comes
 * from (default F32). */
typedef sp_dtype sp_parameter_dtype(void *context, const char *name);
void sp_set_enter(sp_builder *b, const char *set, sp_rate rate, sp_parameter_dtype *dtype,
                  void *context);
void sp_set_leave(sp_builder *b);
/* What a weight set adds to layers of another one. */
typedef struct {
    void *context;
    bool (*owns)(void *context, const char *parameter); /* by its full name */
    /* What takes the place of a layer's output; called in the layer's scope, after it was made. */
    sp_value *(*adapt)(void *context, sp_builder *b, sp_value *output);
} sp_adapter;
/* A set over the one entered before: parameters that the adapter owns are of this set, all others
 * of the one below. The adapter must live until sp_set_leave. */
void sp_set_enter_over(sp_builder *b, const char *set, sp_rate rate, const sp_adapter *adapter);
/* For layers: their output as the current set's adapter has it; the output itself without one. */
sp_value *sp_adapted(sp_builder *b, sp_value *output);

/* A named input; asking again for the same name gives the same value (and fails if the shape
 * differs). */
sp_value *sp_input(sp_builder *b, const char *name, sp_dtype dtype, sp_shape shape, sp_rate rate);
/* Parameter "scope.name" of the current set; the same name gives the same value (and fails if the
 * shape differs). */
sp_value *sp_parameter(sp_builder *b, const char *name, sp_shape shape);
void sp_output(sp_builder *b, const char *name, sp_value *value);
/* Outputs `sum`, which the last node made of an input and of `value`, in the input's own memory; that node runs as soon
 * as there is a value. */
void sp_output_over(sp_builder *b, const char *name, sp_value *input, sp_value *value, sp_value *sum);

/* Stages: what a run's time is split by (sp_run_stage). Nodes belong to the innermost one; those of
 * the backward pass to "backward", what it computes again to "recomputation". */
void sp_stage_enter(sp_builder *b, const char *stage);
void sp_stage_leave(sp_builder *b);

/* Gradient checkpointing: nodes made between begin and end form a block, numbered from 1 in the
 * builder, which the backward pass computes again if `recompute`. */
void sp_checkpoint_begin(sp_builder *b, bool recompute);
void sp_checkpoint_end(sp_builder *b);

/* For operators: makes a node, runs the shape rule, returns output 0. options: op->options_size
 * bytes or NULL. `required` leading inputs must not be NULL (a NULL there after an error passes the
 * error on). */
sp_value *sp_node_make(sp_builder *b, const sp_op *op, int required, int inputs,
                       sp_value *const *in, const void *options);
/* Output `index` of the node that made `value`. */
sp_value *sp_output_of(sp_value *value, int index);

/* Convenience for shapes. */
static inline int64_t sp_dim(const sp_value *v, int i)
{
    return v ? v->shape.dim[i < 0 ? v->shape.rank + i : i] : 0;
}
static inline int64_t sp_channels(const sp_value *v)
{
    return sp_dim(v, -1);
}
/* Bytes of a value's elements; 0 of none. */
static inline size_t sp_value_bytes(const sp_value *v)
{
    return v ? sp_dtype_bytes(v->dtype, sp_shape_count(v->shape)) : 0;
}

#endif
