/* How a convolution is computed: a function of shape, dtype and instruction set, never of a live
 * timing, so that equal inputs give equal bits. */
#ifndef SP_BACKEND_CPU_CONVOLUTION_CHOICE_H
#define SP_BACKEND_CPU_CONVOLUTION_CHOICE_H
#include "backend/cpu/cpu.h"

/* (enumerator, name). Relative RMS error on layers like Stable Diffusion's, against float64: direct
 * f32 1e-7, bf16 2.4e-3; winograd_2_bf16 4.2e-3; winograd_2 2e-7; winograd_4 2.5e-6; winograd_6 4.7e-6. The last
 * three multiply in f32, whatever the activations are stored as. */
#define SP_CONVOLUTION_FORM_LIST(X)                                                                \
    X(DIRECT, "direct")                                                                            \
    X(WINOGRAD_2_BF16, "winograd_2_bf16")                                                          \
    X(WINOGRAD_2, "winograd_2")                                                                    \
    X(WINOGRAD_4, "winograd_4")                                                                    \
    X(WINOGRAD_6, "winograd_6")
typedef enum {
#define X(name, text) SP_CONVOLUTION_##name,
    SP_CONVOLUTION_FORM_LIST(X)
#undef X
        SP_CONVOLUTION_FORM_COUNT
} sp_convolution_form;
const char *sp_convolution_form_name(sp_convolution_form form);
/* m of Winograd's F(m x m, 3 x 3); not of direct ones. */
static inline int sp_winograd_output_of(sp_convolution_form form)
{
    return form == SP_CONVOLUTION_WINOGRAD_6 ? 6 : form == SP_CONVOLUTION_WINOGRAD_4 ? 4 : 2;
}
/* Points of a tile, less those that are zero where the picture is doubled. */
static inline int64_t sp_winograd_point_count(int output, bool doubled)
{
    int64_t side = output + 2 - doubled;
    return side * side;
}

/* A measured layer: 3x3, stride 1. positions: N * Ho * Wo; C and M: channels of input and output
 * (of a gradient: of dy and dx). */
typedef struct {
    sp_isa isa;
    sp_dtype dtype; /* of the input */
    int64_t positions, C, M;
    bool doubled;
    sp_convolution_form form;
} sp_convolution_row;
/* Describes a conv2d node or one of its gradients, all but the form; false where it is none that
 * has a choice. */
bool sp_convolution_describe(const sp_node *node, sp_convolution_row *out);

bool sp_convolution_same_layer(const sp_convolution_row *a, const sp_convolution_row *b);

/* The layers measured so far, from convolution_table/, a file an instruction set, which `splam bench --tune` writes. */
extern const sp_convolution_row sp_convolution_table[];
extern const size_t sp_convolution_table_count;

/* The form for a conv2d node or one of its gradients: the table's, else by a rule that says what
 * the table's layers have in common. Gradients of weights go by a rule of their own alone. Where the environment says
 * SPLAM_CONVOLUTIONS=direct (read once in a process) it is direct always, for whoever wants no error but of
 * rounding. */
sp_convolution_form sp_convolution_choice(const sp_node *node);

/* Whether the form may be chosen for the layer. Accuracy: products of bf16 only where activations
 * are bf16. Memory: filters packed as points of at most 192 MB, and not larger than the plain ones where
 * there are few positions to gain on. */
bool sp_convolution_allows(sp_convolution_form form, const sp_convolution_row *layer);

/* Whether a form has the layer's filters packed as their nine taps, and makes points of them as they are met: where the
 * points of all are too many to stay in a cache, and the layer's transformed tiles, of which all are kept then, are 64
 * MB or less. Else they are packed as points. */
bool sp_convolution_packs_taps(sp_convolution_form form, const sp_convolution_row *layer);
/* How filters are packed: as the rule above says, or one way whatever the size. */
typedef enum { SP_FILTERS_BY_SIZE, SP_FILTERS_TAPS, SP_FILTERS_POINTS } sp_convolution_filters;
/* For tests, which have small layers: one way for all of them. */
extern sp_convolution_filters sp_convolution_packed_filters;
/* The rule's way for a conv2d node. */
sp_convolution_filters sp_convolution_filters_of(sp_convolution_form form, const sp_node *node);

/* Prepares the node in a given form; SP_UNSUPPORTED where it does not fit or `form` is direct. */
sp_status sp_winograd_prepare(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,
                              sp_kernel *out);
/* Prepares a conv2d node as the CPU backend prepares one whose form this is. */
sp_status sp_convolution_prepare(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,
                                 sp_kernel *out);
/* The CPU backend with convolutions in this form; SP_UNSUPPORTED for those it does not fit. */
sp_device *sp_cpu_device_with(sp_convolution_form form);

#endif
