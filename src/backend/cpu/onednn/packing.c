/* Weights in the layout a primitive chose: one reorder from the checkpoint's layout, or our own
 * loop where that is faster. */
#include <string.h>
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
        sp_convert_elements(packed, packer->plain, source, packer->dtype, packer->count);
        return;
    }
    if (converted) sp_convert_elements(scratch, packer->plain, source, packer->dtype, packer->count);
    void *from = converted ? scratch : (void *)source;
    sp_onednn_run(&packer->reorder, (void *[]){from, packed}, 1, (char *)scratch + converted);
}

/* Both layouts count: a square matrix and its transpose pack into the same layout, and are not the
 * same. */
static uint64_t key_of(const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *packed)
{
    uint64_t key = sp_onednn_layout_key(packed) ^ (sp_onednn_layout_key(plain) * 3);
    return key ? key : 1;
}

/* The library's code for SSE4.1 adds and multiplies straight from memory, which that instruction set
 * can at multiples of 16 bytes alone; from AVX on any address will do. */
static bool reads_any_address(void)
{
    return dnnl_get_effective_cpu_isa() > dnnl_cpu_isa_sse41;
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
    if (weight->dtype == type && same && reads_any_address()) return SP_OK;
    if (!same) SP_TRY(sp_onednn_make_reorder(&plain, packed, &packer->reorder));
    *out = (sp_packing){.bytes = dnnl_memory_desc_get_size(packed),
                        .key = key_of(&plain, packed),
                        .scratch = converted_bytes(packer) + packer->reorder.scratch,
                        .pack = pack,
                        .state = packer};
    return SP_OK;
}

/* Layouts of convolutions of bf16 on AVX512: pairs of input channels in panels of output channels
 * forward, pairs of output channels in panels of input channels for data gradients. */
static const struct {
    dnnl_format_tag_t tag;
    int64_t panel, group; /* group 0: all channels */
    bool gradient;
} layouts[] = {
    {dnnl_AcdB64a2b, 64, 0, false},   {dnnl_AcdB48a2b, 48, 0, false},
    {dnnl_AcdB32a2b, 32, 0, false},   {dnnl_AcdB16a2b, 16, 0, false},
    {dnnl_ABcd8a16b2a, 16, 16, true},
};

bool sp_onednn_packs_convolution(const sp_value *weight, const dnnl_memory_desc_t *packed,
                                 sp_weight_packer *packer, sp_packing *out)
{
    const int64_t *d = weight->shape.dim, taps = d[2] * d[3];
    if (sp_cpu_isa() != SP_ISA_AVX512_BF16 || packed->data_type != dnnl_bf16) return false;
    if (memcmp(packed->dims, packed->padded_dims, 4 * sizeof *packed->dims) != 0) return false;
    if (taps != 1 && taps != 9) return false;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        dnnl_memory_desc_t layout, plain = sp_onednn_plain(SP_BF16, 4, d);
        if (layouts[i].gradient && taps != 9) continue;
        if (dnnl_memory_desc_init_by_tag(&layout, 4, packed->dims, dnnl_bf16, layouts[i].tag) !=
                dnnl_success ||
            !dnnl_memory_desc_equal(&layout, packed))
            continue;
        bool g = layouts[i].gradient;
        *packer = (sp_weight_packer){.taps = (int)taps,
                                     .held = SP_BF16,
                                     .pairs = true,
                                     .dtype = weight->dtype,
                                     .C = g ? d[0] : d[1],
                                     .M = g ? d[1] : d[0],
                                     .output_stride = g ? taps : taps * d[1],
                                     .input_stride = g ? taps * d[1] : taps,
                                     .panel = layouts[i].panel};
        packer->group = layouts[i].group ? layouts[i].group : packer->C;
        *out = (sp_packing){.bytes = dnnl_memory_desc_get_size(packed),
                            .key = key_of(&plain, packed),
                            .pack = sp_weight_pack_avx512bf16,
                            .state = packer};
        return true;
    }
    return false;
}
