/* Weights in the layout a primitive chose: one reorder from the checkpoint's layout. */
#include <string.h>
#include "backend/cpu/onednn/onednn.h"
#include "base/log.h"

/* oneDNN's CPU reorders do not read f16; it becomes f32 first. */
static sp_dtype readable(sp_dtype dtype)
{
    return dtype == SP_F16 ? SP_F32 : dtype;
}

static void pack(void *state, const void *source, void *packed)
{
    const sp_onednn_packer *packer = state;
    const void *from = source;
    void *converted = NULL, *scratch = NULL;
    bool failed = false;
    if (packer->dtype != readable(packer->dtype)) {
        from = converted = sp_alloc((size_t)packer->count * sp_dtype_size(readable(packer->dtype)));
        failed = !converted;
        if (converted)
            sp_convert(converted, readable(packer->dtype), source, packer->dtype, packer->count);
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
    dnnl_data_type_t type;
    if (!sp_onednn_dtype(readable(weight->dtype), &type))
        return sp_fail(SP_UNSUPPORTED, "oneDNN takes no weights of %s",
                       sp_dtype_name(weight->dtype));
    dnnl_memory_desc_t plain = sp_onednn_strided(readable(weight->dtype), rank, dims, strides);
    *packer = (sp_onednn_packer){.dtype = weight->dtype, .count = sp_shape_count(weight->shape)};
    *out = (sp_packing){0};
    if (weight->dtype == readable(weight->dtype) && dnnl_memory_desc_equal(&plain, packed))
        return SP_OK;
    SP_TRY(sp_onednn_make_reorder(&plain, packed, &packer->reorder));
    /* Both layouts count: a square matrix and its transpose pack into the same layout, and are not
     * the same. */
    uint64_t key = sp_onednn_layout_key(packed) ^ (sp_onednn_layout_key(&plain) * 3);
    *out = (sp_packing){.bytes = dnnl_memory_desc_get_size(packed),
                        .key = key ? key : 1,
                        .pack = pack,
                        .state = packer};
    return SP_OK;
}
