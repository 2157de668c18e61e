/* Weights of few bits, brought to the types that kernels take. */
#ifndef SP_MODELS_QUANTISE_H
#define SP_MODELS_QUANTISE_H
#include "formats/weights.h"
#include "graph/graph.h"

/* Of a set of weights, all of it parameters of `graph`: quantised tensors become Q8_0 where they are the weight of
 * linear layers and 1x1 convolutions alone whose inputs are whole blocks, else F32. `every`: such layers' other weights
 * become Q8_0 too. Each is made when it is packed (sp_weights_change_dtype). Names that the set lacks are passed
 * over. */
sp_status sp_quantise_weights(const sp_graph *graph, sp_weights *weights, bool every);

#endif
