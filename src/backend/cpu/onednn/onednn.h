/* oneDNN 2.6 behind one file per primitive. Only this folder includes dnnl.h. */
#ifndef SP_BACKEND_CPU_ONEDNN_ONEDNN_H
#define SP_BACKEND_CPU_ONEDNN_ONEDNN_H
#include <dnnl.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/vector/product/weight_pack.h"

#define SP_ONEDNN_MAX_ARGUMENTS 8

/* A primitive and the memory it works on: one address per argument when it runs, in the order they
 * were added. */
typedef struct {
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t scratchpad;
    size_t scratch; /* bytes of the scratchpad */
    int count;
    struct {
        int index; /* DNNL_ARG_* */
        dnnl_memory_desc_t layout;
    } arguments[SP_ONEDNN_MAX_ARGUMENTS];
} sp_onednn_primitive;

/* The one engine; NULL (with the message set) if oneDNN cannot make it. Whoever asks is about to
 * make or run something, for which oneDNN asks OpenMP for the calling thread's number of threads:
 * it is ours then. */
dnnl_engine_t sp_onednn_engine(void);
/* SP_OK, or the matching status with a message that says what oneDNN was asked for. */
sp_status sp_onednn_check(dnnl_status_t status, const char *what);
/* The dtypes that oneDNN computes with. */
bool sp_onednn_dtype(sp_dtype dtype, dnnl_data_type_t *out);

/* Input i, NULL where it is absent. */
static inline const sp_value *sp_onednn_optional(const sp_node *node, int i)
{
    return i < node->inputs ? node->in[i] : NULL;
}
/* Input i is absent or of a dtype that oneDNN reads beside products. */
bool sp_onednn_reads(const sp_node *node, int i);
/* No input or output has a dimension of 0. */
bool sp_onednn_not_empty(const sp_node *node);

/* A plain layout: dims outermost first, rows one after the other. */
dnnl_memory_desc_t sp_onednn_plain(sp_dtype dtype, int rank, const int64_t *dims);
/* Any strides, in elements; swapped ones make a transpose. */
dnnl_memory_desc_t sp_onednn_strided(sp_dtype dtype, int rank, const int64_t *dims,
                                     const int64_t *strides);
/* NHWC memory of a value [N,H,W,C] seen as oneDNN's [N,C,H,W]. */
dnnl_memory_desc_t sp_onednn_nhwc(sp_dtype dtype, const sp_value *value);
/* The layout that the library may choose. */
dnnl_memory_desc_t sp_onednn_any(sp_dtype dtype, int rank, const int64_t *dims);

/* Makes the primitive of an operation descriptor (attributes may be NULL; user scratchpad mode is
 * set here). The descriptor may be kept in *keep (dnnl_primitive_desc_destroy) to ask it for
 * layouts, or NULL. SP_UNSUPPORTED where the library has no implementation. */
sp_status sp_onednn_make(const_dnnl_op_desc_t operation, dnnl_primitive_attr_t attributes,
                         const_dnnl_primitive_desc_t hint, sp_onednn_primitive *out,
                         dnnl_primitive_desc_t *keep);
sp_status sp_onednn_make_reorder(const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                 sp_onednn_primitive *out);
void sp_onednn_add(sp_onednn_primitive *primitive, int argument, const dnnl_memory_desc_t *layout);
void sp_onednn_destroy(sp_onednn_primitive *primitive); /* zeroed is legal */
/* Runs it. A failure (out of memory for the call's own few bytes) is logged and fills argument
 * `output` with NaN, which the callers' checks for finite numbers find. */
void sp_onednn_run(const sp_onednn_primitive *primitive, void *const *addresses, int output,
                   void *scratch);
/* The same for equal layouts, never 0. */
uint64_t sp_onednn_layout_key(const dnnl_memory_desc_t *layout);

#define SP_ONEDNN_ALIGN(bytes) (((bytes) + SP_ALIGNMENT - 1) / SP_ALIGNMENT * SP_ALIGNMENT)

/* A weight's way from the checkpoint's layout to a primitive's. */
typedef struct {
    sp_onednn_primitive reorder; /* unused (NULL) where only the type changes */
    sp_dtype dtype, plain;       /* of the source (any float type), and of what is packed */
    int64_t count;
} sp_onednn_packer;
/* The weight's (or bias's) bytes seen as dims with strides (in elements) become `packed`. *packer must
 * live as long as the kernel; out->bytes is 0 where the weight is already so, and may be read where it
 * lies. Destroy packer->reorder. */
sp_status sp_onednn_make_packer(const sp_value *weight, int rank, const int64_t *dims,
                                const int64_t *strides, const dnnl_memory_desc_t *packed,
                                sp_onednn_packer *packer, sp_packing *out);

/* The same for a convolution's weights [M,C,kh,kw] and a layout that our own loop makes, several
 * times as fast; false, and nothing done, for any other. */
bool sp_onednn_packs_convolution(const sp_value *weight, const dnnl_memory_desc_t *packed,
                                 sp_weight_packer *packer, sp_packing *out);
/* The same for a linear layer's, [inner, columns] wherever `strides` put them. */
bool sp_onednn_packs_linear(const sp_value *weight, const int64_t *dims, const int64_t *strides,
                            const dnnl_memory_desc_t *packed, sp_weight_packer *packer, sp_packing *out);

/* Entries of the table, one pair per operator. */
#define SP_ONEDNN_DECLARE(op)                                                                      \
    bool sp_onednn_supports_##op(const sp_node *node);                                             \
    sp_status sp_onednn_prepare_##op(const sp_node *node, sp_kernel *out);
SP_ONEDNN_DECLARE(conv2d)
SP_ONEDNN_DECLARE(conv2d_data_gradient)
SP_ONEDNN_DECLARE(linear)

#endif
