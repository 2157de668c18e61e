/* Reverse-mode differentiation as graph nodes. */
#ifndef SP_OPS_AUTODIFF_H
#define SP_OPS_AUTODIFF_H
#include "graph/graph.h"

/* Adds nodes that compute d(loss)/d(wrt[i]) to the graph and stores the values in gradients[i],
 * each of wrt[i]'s shape (NULL where the loss does not depend on it). `loss` is a scalar. Blocks
 * between sp_checkpoint_begin and _end are computed again before their backward pass. An operator
 * without a gradient rule on the way is SP_UNSUPPORTED, naming it. */
sp_status sp_gradient(sp_builder *b, sp_value *loss, sp_value *const *wrt, int count,
                      sp_value **gradients);

/* All parameters of a weight set, in the order they were first used; *out is in the builder's
 * arena. */
sp_status sp_parameters_of(sp_builder *b, const char *set, sp_value ***out, int *count);

/* Names d(loss)/d(NAME) of every parameter NAME of `set` that the loss depends on as output
 * "gradient.NAME". */
sp_status sp_output_gradients(sp_builder *b, sp_value *loss, const char *set);
/* Outputs input NAME + value, in the input's own memory: what is there when the graph runs again is
 * the sum so far. The addition runs as soon as it can. */
void sp_output_sum(sp_builder *b, const char *name, sp_value *value);

/* The same, each added to an input of its name (sp_output_sum): gradients of several runs. */
sp_status sp_output_gradient_sums(sp_builder *b, sp_value *loss, const char *set);

#endif
