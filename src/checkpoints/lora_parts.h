/* What the files on adapters share: one layer's adapter as its tensors. Within src/checkpoints. */
#ifndef SP_CHECKPOINTS_LORA_PARTS_H
#define SP_CHECKPOINTS_LORA_PARTS_H
#include "base/text.h"
#include "checkpoints/lora.h"
#include "checkpoints/lora_names.h"

/* O, I and K are the layer's outputs, inputs and the elements of its kernel (1 of a linear layer), r ranks. What is
 * added to the weight [O,I,K]:
 *   LORA   s up down              up [O,r], down [r,I,K]; or s up mid down: mid [r,r,K], down [r,I]
 *   LOHA   s (w1_a w1_b) * (w2_a w2_b), elementwise      w_a [O,r], w_b [r,I K]; or with t [r,r,K] between them
 *          w_a [r,O], w_b [r,I]
 *   LOKR   s kron(w1, w2), over O and I    w1 [O1,I1] or w1_a [O1,r] w1_b [r,I1]; w2 [O/O1,I/I1,K] or w2_a w2_b, or
 *          with t2 between them, as above
 *   DIFF   diff [O,I,K]; and diff_b [O] to the bias
 * s is alpha/r, of LOKR without ranks 1. */
typedef enum { SP_ADAPTER_LORA, SP_ADAPTER_LOHA, SP_ADAPTER_LOKR, SP_ADAPTER_DIFF } sp_adapter_kind;

typedef struct {
    sp_component_kind component;
    sp_adapter_kind kind;
    char *base;    /* the tensors' names without their ends, for messages */
    size_t module; /* where in it the module's own name begins */
    char *layer;   /* as sp_lora_name has it */
    const sp_tensor *part[SP_LORA_PARTS];
    double alpha;     /* NAN: none is said */
    bool root_scale;  /* s is alpha/sqrt(r) (rsLoRA) */
} sp_layer_adapter;

struct sp_lora {
    sp_tensor_file *file;
    sp_layer_adapter *adapters;
    size_t count;
    sp_dictionary *by_base;
    bool peft;   /* some names have PEFT's prefix */
    int holders; /* who opened it, and the weights that it changes */
};

/* The shape without the last dimensions of 1 beyond two: the kernel of a 1x1 convolution, which some files have. */
static inline sp_shape sp_without_ones(sp_shape shape)
{
    while (shape.rank > 2 && shape.dim[shape.rank - 1] == 1)
        shape.dim[--shape.rank] = 0;
    return shape;
}

/* Sets the kind by the parts. SP_FORMAT if one is missing or of another kind; SP_SHAPE if ranks do not go together.
 * `path` is for messages. */
sp_status sp_layer_adapter_check(const char *path, sp_layer_adapter *a);
/* s */
double sp_layer_adapter_scale(const sp_layer_adapter *a);
/* Rows of the layer that an adapter is of: the part-th of `parts` equal pieces; {0, 1}: all. */
typedef struct {
    int part, parts;
} sp_layer_piece;
/* SP_SHAPE if it cannot change a layer whose weight has that shape, of which `name` is a piece. Kernels of 1 may be
 * absent on either side. SP_UNSUPPORTED for a magnitude of columns where there are pieces: it is of all of them. */
sp_status sp_layer_adapter_fits(const char *path, const sp_layer_adapter *a, const char *name, sp_shape layer,
                                int pieces);
/* weight, the piece of the layer's, + multiplier (W' - weight), in place, f32; W' is the weight with what is added
 * above, or, with a magnitude (DoRA, Liu et al. 2024), that with every row, or column, scaled to it:
 *   V m / (|V| + eps),  V = weight + what is added, eps = 2^-23
 * dora_scale [O,1..] and PEFT's magnitude vector [O] are of rows, dora_scale [1,I,..] is of columns. */
sp_status sp_layer_adapter_apply(const sp_layer_adapter *a, sp_device *device, double multiplier, sp_layer_piece piece,
                                 sp_tensor *weight);
/* bias += multiplier diff_b, of the piece */
void sp_layer_adapter_apply_bias(const sp_layer_adapter *a, double multiplier, sp_layer_piece piece, sp_tensor *bias);

#endif
