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

/* Layouts of bf16 on AVX512 and for AMX: pairs of input channels in panels of output channels forward, pairs of output
 * channels in panels of input channels for data gradients of 3x3 filters. Where channels are whole blocks of 32, which
 * equal dimensions say, the library's blocks of them lie as all of them do. */
typedef struct {
    dnnl_format_tag_t tag;
    int64_t panel, group; /* group 0: all channels */
    bool gradient;
} own_layout;
static const own_layout convolution_layouts[] = {
    {dnnl_AcdB64a2b, 64, 0, false},     {dnnl_AcdB48a2b, 48, 0, false},     {dnnl_AcdB32a2b, 32, 0, false},
    {dnnl_AcdB16a2b, 16, 0, false},     {dnnl_ABcd8a16b2a, 16, 16, true},   {dnnl_AcdB16b64a2b, 64, 0, false},
    {dnnl_AcdB16b48a2b, 48, 0, false},  {dnnl_AcdB16b32a2b, 32, 0, false},  {dnnl_AcdB16b16a2b, 16, 0, false},
    {dnnl_ABcd16a16b2a, 16, 32, true},
};
static const own_layout linear_layouts[] = {
    {dnnl_BA16a64b2a, 64, 0, false}, {dnnl_BA16a48b2a, 48, 0, false}, {dnnl_BA16a32b2a, 32, 0, false},
    {dnnl_BA16a16b2a, 16, 0, false},
};

static bool lies_as(const dnnl_memory_desc_t *packed, int rank, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t layout;
    return memcmp(packed->dims, packed->padded_dims, (size_t)rank * sizeof *packed->dims) == 0 &&
           dnnl_memory_desc_init_by_tag(&layout, rank, packed->dims, dnnl_bf16, tag) == dnnl_success &&
           dnnl_memory_desc_equal(&layout, packed);
}

static bool packs_itself(const dnnl_memory_desc_t *packed)
{
    return sp_cpu_isa() == SP_ISA_AVX512_BF16 && packed->data_type == dnnl_bf16;
}

static sp_packing packing_of(const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *packed,
                             sp_weight_packer *packer)
{
    return (sp_packing){.bytes = dnnl_memory_desc_get_size(packed),
                        .key = key_of(plain, packed),
                        .pack = sp_weight_pack_avx512bf16,
                        .state = packer};
}

bool sp_onednn_packs_convolution(const sp_value *weight, const dnnl_memory_desc_t *packed,
                                 sp_weight_packer *packer, sp_packing *out)
{
    const int64_t *d = weight->shape.dim, taps = d[2] * d[3];
    if (!packs_itself(packed) || (taps != 1 && taps != 9)) return false;
    for (size_t i = 0; i < sizeof convolution_layouts / sizeof *convolution_layouts; i++) {
        bool g = convolution_layouts[i].gradient;
        if ((g && taps != 9) || !lies_as(packed, 4, convolution_layouts[i].tag)) continue;
        *packer = (sp_weight_packer){.taps = (int)taps,
                                     .held = SP_BF16,
                                     .pairs = true,
                                     .dtype = weight->dtype,
                                     .C = g ? d[0] : d[1],
                                     .M = g ? d[1] : d[0],
                                     .output_stride = g ? taps : taps * d[1],
                                     .input_stride = g ? taps * d[1] : taps,
                                     .panel = convolution_layouts[i].panel};
        packer->group = convolution_layouts[i].group ? convolution_layouts[i].group : packer->C;
        dnnl_memory_desc_t plain = sp_onednn_plain(SP_BF16, 4, d);
        *out = packing_of(&plain, packed, packer);
        return true;
    }
    return false;
}

bool sp_onednn_packs_linear(const sp_value *weight, const int64_t *dims, const int64_t *strides,
                            const dnnl_memory_desc_t *packed, sp_weight_packer *packer, sp_packing *out)
{
    if (!packs_itself(packed)) return false;
    for (size_t i = 0; i < sizeof linear_layouts / sizeof *linear_layouts; i++) {
        if (!lies_as(packed, 2, linear_layouts[i].tag)) continue;
        *packer = (sp_weight_packer){.taps = 1,
                                     .held = SP_BF16,
                                     .pairs = true,
                                     .dtype = weight->dtype,
                                     .C = dims[0],
                                     .M = dims[1],
                                     .input_stride = strides[0],
                                     .output_stride = strides[1],
                                     .group = dims[0],
                                     .panel = linear_layouts[i].panel};
        dnnl_memory_desc_t plain = sp_onednn_strided(SP_BF16, 2, dims, strides);
        *out = packing_of(&plain, packed, packer);
        return true;
    }
    return false;
}
