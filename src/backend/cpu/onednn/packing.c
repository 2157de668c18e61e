/* Weights in the layout a primitive chose: one reorder from the checkpoint's layout. */
#include <string.h>
#include "backend/cpu/onednn/onednn.h"
#include "base/log.h"

/* oneDNN's reorders read neither f16 nor f64, and change type and layout at once slowly: the type
 * is changed first. */
static void pack(void *state, const void *source, void *packed)
{
    const sp_onednn_packer *packer = state;
    const void *from = source;
    void *converted = NULL, *scratch = NULL;
    if (!packer->reorder.primitive) {
        sp_convert(packed, packer->plain, source, packer->dtype, packer->count);
        return;
    }
    bool failed = false;
    if (packer->dtype != packer->plain) {
        from = converted = sp_alloc((size_t)packer->count * sp_dtype_size(packer->plain));
        failed = !converted;
        if (converted) sp_convert(converted, packer->plain, source, packer->dtype, packer->count);
    }
    if (!failed && packer->reorder.scratch > 0) {
        scratch = sp_alloc(packer->reorder.scratch);
        failed = !scratch;
    }
    if (failed) {
        sp_log_warn("%s", sp_error_message());
        memset(packed, 0xff, dnnl_memory_desc_get_size(&packer->reorder.arguments[1].layout));
    } else {
        sp_onednn_run(&packer->reorder, (void *[]){(void *)from, packed}, 1, scratch);
    }
    sp_free(scratch);
    sp_free(converted);
}

sp_status sp_onednn_make_packer(const sp_value *weight, int rank, const int64_t *dims,
                                const int64_t *strides, const dnnl_memory_desc_t *packed,
                                sp_onednn_packer *packer, sp_packing *out)
{
    sp_dtype type = packed->data_type == dnnl_bf16 ? SP_BF16 : SP_F32;
    dnnl_memory_desc_t plain = sp_onednn_strided(type, rank, dims, strides);
    *packer = (sp_onednn_packer){
        .dtype = weight->dtype, .plain = type, .count = sp_shape_count(weight->shape)};
    *out = (sp_packing){0};
    bool same = dnnl_memory_desc_equal(&plain, packed);
    if (weight->dtype == type && same) return SP_OK;
    if (!same) SP_TRY(sp_onednn_make_reorder(&plain, packed, &packer->reorder));
    /* Both layouts count: a square matrix and its transpose pack into the same layout, and are not
     * the same. */
    uint64_t key = sp_onednn_layout_key(packed) ^ (sp_onednn_layout_key(&plain) * 3);
    *out = (sp_packing){.bytes = dnnl_memory_desc_get_size(packed),
                        .key = key ? key : 1,
                        .pack = pack,
                        .state = packer};
    return SP_OK;
}
