/* Passes over a finished or growing graph. */
#ifndef SP_GRAPH_PASSES_H
#define SP_GRAPH_PASSES_H
#include "graph/graph.h"

/* Precision: every float value that the operators' policy does not keep full becomes `precision`
 * (SP_BF16), with cast nodes where the policies meet; named outputs keep their dtype. SP_F32 does
 * nothing. Run after autodiff. */
sp_status sp_pass_precision(sp_graph *graph, sp_dtype precision);
/* Removes nodes that no output needs; sets every node's and value's rate. */
sp_status sp_pass_prune(sp_graph *graph);

/* For passes: makes a cast of `value`, to be placed by the caller in the node list. */
sp_node *sp_graph_new_node(sp_graph *graph, const sp_op *op, int inputs, const void *options);
sp_value *sp_graph_new_value(sp_graph *graph, sp_value_kind kind, sp_dtype dtype, sp_shape shape);
/* The cast operator lives in graph/ because passes insert it. */
extern const sp_op sp_op_cast; /* options: sp_cast_options */
typedef struct {
    sp_dtype dtype;
} sp_cast_options;

#endif
