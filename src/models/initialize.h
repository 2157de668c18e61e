/* Starting values for weights that are trained from scratch, and for what a student has more than
 * its teacher. */
#ifndef SP_MODELS_INITIALIZE_H
#define SP_MODELS_INITIALIZE_H
#include "graph/graph.h"
#include "formats/weights.h"

enum { SP_INITIALIZE_ZEROS = 4 };
typedef struct {
    uint64_t seed;
    const char *zero[SP_INITIALIZE_ZEROS]; /* parameters whose name ends in "ZERO.weight" or "ZERO.bias" start at 0,
                            e.g. "conv_out"; NULL: none */
} sp_initialize_options;

/* Adds to `weights` an owned f32 tensor for every parameter of `set` in the graph that it does not
 * have yet. As PyTorch does by default: weights and biases of linear and convolution layers
 * U(-1/sqrt(fan_in), 1/sqrt(fan_in)), norms 1 and 0; embedding tables N(0, 0.02^2) as CLIP's. A
 * value depends on the seed, the parameter's place in the graph and the element alone. */
sp_status sp_initialize(const sp_graph *graph, const char *set,
                        const sp_initialize_options *options, sp_weights *weights);

#endif
