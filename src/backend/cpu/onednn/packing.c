/* Weights in the layout a primitive chose: one reorder from the checkpoint's layout. */
#include "backend/cpu/onednn/onednn.h"

/* oneDNN's reorders read neither f16 nor f64, and change type and layout at once slowly: the type
 * is changed first. */
static size_t converted_bytes(const sp_onednn_packer *packer)
{
    if (!packer->reorder.primitive || packer->dtype == packer->plain) return 0;
    return SP_ONEDNN_ALIGN((size_t)packer->count * sp_dtype_size(packer->plain));
}

static void pack(void *state, const void *source, void *packed, void *scratch)
{
    const sp_onednn_packer *packer = state;
    size_t converted = converted_bytes(packer);
    if (!packer->reorder.primitive) {
        sp_convert(packed, packer->plain, source, packer->dtype, packer->count);
        return;
    }
    if (converted) sp_convert(scratch, packer->plain, source, packer->dtype, packer->count);
    void *from = converted ? scratch : (void *)source;
    sp_onednn_run(&packer->reorder, (void *[]){from, packed}, 1, (char *)scratch + converted);
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
                        .scratch = converted_bytes(packer) + packer->reorder.scratch,
                        .pack = pack,
                        .state = packer};
    return SP_OK;
}
