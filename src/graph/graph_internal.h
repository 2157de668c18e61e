/* What the files of graph/ share: growing lists and the builder's insides. */
#ifndef SP_GRAPH_GRAPH_INTERNAL_H
#define SP_GRAPH_GRAPH_INTERNAL_H
#include "base/text.h"
#include "graph/graph.h"

sp_graph *sp_graph_create(void);
/* Appends a node at the end of the execution order. */
sp_status sp_graph_append(sp_graph *graph, sp_node *node);
/* Runs the shape rule and makes the output values. */
sp_status sp_node_infer(sp_graph *graph, sp_node *node);

/* The stages that differentiation makes. */
static const char sp_stage_backward[] = "backward", sp_stage_recomputation[] = "recomputation";

/* Views share memory: the value whose memory `value` really is. */
sp_value *sp_value_root(sp_value *value);

#endif
