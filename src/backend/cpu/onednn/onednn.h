/* oneDNN 2.6 behind one file per primitive. Only this folder includes dnnl.h. */
#ifndef SP_BACKEND_CPU_ONEDNN_ONEDNN_H
#define SP_BACKEND_CPU_ONEDNN_ONEDNN_H
#include <dnnl.h>
#include "backend/cpu/kernel_table.h"

#define SP_ONEDNN_MAX_ARGUMENTS 8

/* A primitive and the memory it works on: one address per argument when it runs, in the order they were added. */
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

/* The one engine; NULL (with the message set) if oneDNN cannot make it. */
dnnl_engine_t sp_onednn_engine(void);
/* SP_OK, or the matching status with a message that says what oneDNN was asked for. */
sp_status sp_onednn_check(dnnl_status_t status, const char *what);
/* The dtypes that oneDNN computes with. */
bool sp_onednn_dtype(sp_dtype dtype, dnnl_data_type_t *out);

/* A plain layout: dims outermost first, rows one after the other. */
dnnl_memory_desc_t sp_onednn_plain(sp_dtype dtype, int rank, const int64_t *dims);
/* NHWC memory of a value [N,H,W,C] seen as oneDNN's [N,C,H,W]. */
dnnl_memory_desc_t sp_onednn_nhwc(sp_dtype dtype, const sp_value *value);
/* The layout that the library may choose. */
dnnl_memory_desc_t sp_onednn_any(sp_dtype dtype, int rank, const int64_t *dims);

/* Makes the primitive of an operation descriptor (attributes may be NULL; user scratchpad mode is set here). The
 * descriptor may be kept in *keep (dnnl_primitive_desc_destroy) to ask it for layouts, or NULL. SP_UNSUPPORTED where the library
 * has no implementation. */
sp_status sp_onednn_make(const_dnnl_op_desc_t operation, dnnl_primitive_attr_t attributes, const_dnnl_primitive_desc_t hint,
                         sp_onednn_primitive *out, dnnl_primitive_desc_t *keep);
sp_status sp_onednn_make_reorder(const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, sp_onednn_primitive *out);
void sp_onednn_add(sp_onednn_primitive *primitive, int argument, const dnnl_memory_desc_t *layout);
void sp_onednn_destroy(sp_onednn_primitive *primitive); /* zeroed is legal */
/* Runs it. A failure (out of memory for the call's own few bytes) is logged and fills argument `output` with NaN,
 * which the callers' checks for finite numbers find. */
void sp_onednn_run(const sp_onednn_primitive *primitive, void *const *addresses, int output, void *scratch);
/* The same for equal layouts, never 0. */
uint64_t sp_onednn_layout_key(const dnnl_memory_desc_t *layout);

#endif
