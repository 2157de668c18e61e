/* The operator interface. ops/ fills one sp_op per operator; graph/ knows operators only through
 * it. */
#ifndef SP_GRAPH_OP_H
#define SP_GRAPH_OP_H
#include "graph/graph.h"

enum {
    SP_OP_VIEW = 1,          /* output 0 is input 0's memory under another shape; no kernel runs */
    SP_OP_STOP_GRADIENT = 2, /* gradients do not pass */
    SP_OP_ELEMENTWISE =
        4, /* out[i] depends on element i of the inputs of equal shape; may run in place */
    SP_OP_FOLLOWS = 8, /* precision: stays f32 while all its float inputs are f32 (moving and adding
                          data), else lowered */
};

/* Reference kernel: plain C, any float dtype through sp_load/sp_store, arithmetic in double. The
 * oracle. */
typedef void sp_reference_kernel(const sp_node *node, const void *const *in, void *const *out);

struct sp_op {
    const char *name;
    unsigned flags;
    int outputs;
    size_t options_size;
    /* Precision policy, bit i for input/output i: kept in full precision (f32) when the graph is
     * lowered to bf16. All float inputs and outputs not named here become bf16. */
    unsigned full_inputs, full_outputs;
    /* Bit i: a parameter at input i is not lowered but read as it is stored, in any float type;
     * kernels convert it as they pack it. */
    unsigned stored_inputs;
    /* Shape rule: checks node->in, sets node->out[*]->shape (dtype is preset to the first float
     * input's dtype, and may be changed). On a fault returns sp_fail(SP_SHAPE, ...) with both
     * shapes in the text. */
    sp_status (*infer)(sp_node *node);
    /* Gradient rule: builds nodes for the inputs with sp_wants_gradient(node, i) and stores their
     * values in input_gradients[i]. output_gradients[k] is NULL where nothing flows back. NULL
     * rule: not differentiable, an error when asked. */
    void (*gradient)(sp_builder *b, sp_node *node, sp_value *const *output_gradients,
                     sp_value **input_gradients);
    sp_reference_kernel *reference;
    /* Floating-point operations of one execution, multiply and add counted as two; NULL: counted as
     * 0. */
    double (*flops)(const sp_node *node);
};

static inline bool sp_wants_gradient(const sp_node *node, int i)
{
    return i < node->inputs && node->in[i] && node->in[i]->needs_gradient;
}

#endif
