/* Packs of weights in blocks of Q8_0 (tensor/quantised.h). Of each panel block after block of 32 inputs:
 *   scales f16 [width], codes [32][width]
 * so that a vector of codes of one input meets the vector of their scales. */
#include <string.h>
#include "backend/cpu/vector/product/held_weight.h"
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"
#include "tensor/quantised.h"

#define BLOCK SP_Q8_0_BLOCK

typedef struct {
    const sp_weight_packer *p;
    const char *source;
    char *packed;
} task;

static int64_t panel_width(const sp_weight_packer *p, int64_t m)
{
    int64_t left = sp_round_up(p->M, SP_LANES) - m;
    return left < p->panel ? left : p->panel;
}

/* One block of `outputs` rows that are there, of `width`. */
static void pack_block(const char *from, int64_t row_bytes, int64_t outputs, int64_t width, char *to)
{
    char *codes = to + width * SP_Q8_0_SCALE;
    if (outputs < width) memset(to, 0, (size_t)(width * SP_Q8_0_BYTES));
    for (int64_t j = 0; j < outputs; j++, from += row_bytes) {
        memcpy(to + j * SP_Q8_0_SCALE, from, SP_Q8_0_SCALE);
        for (int64_t k = 0; k < BLOCK; k++)
            codes[k * width + j] = from[SP_Q8_0_SCALE + k];
    }
}

static void pack_panels(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    const sp_weight_packer *p = t->p;
    const int64_t blocks = p->C / BLOCK, row_bytes = blocks * SP_Q8_0_BYTES;
    for (int64_t i = begin; i < end; i++) {
        int64_t m = i * p->panel, width = panel_width(p, m), outputs = p->M - m < width ? p->M - m : width;
        const char *from = t->source + m * row_bytes;
        char *to = t->packed + m * row_bytes;
        for (int64_t b = 0; b < blocks; b++)
            pack_block(from + b * SP_Q8_0_BYTES, row_bytes, outputs, width, to + b * width * SP_Q8_0_BYTES);
    }
}

void sp_weight_pack_quantised(const sp_weight_packer *p, const void *source, void *packed)
{
    task t = {p, source, packed};
    sp_parallel_for(sp_ceil_div(p->M, p->panel), 1, pack_panels, &t);
}

/* Input `k` of a block, columns j .. j+SP_LANES-1. */
SP_INLINE sp_vf element(const char *codes, int64_t width, int64_t k, int64_t j, sp_vf scale)
{
    return scale * sp_vf_load_i8((const signed char *)codes + k * width + j);
}

/* Vectors of columns from j on, as many as `vectors`, of a block. */
SP_INLINE void dequantise_columns(const char *block, int64_t width, int64_t j, const int vectors, float *to,
                                  const bool pairs)
{
    const char *codes = block + width * SP_Q8_0_SCALE;
    sp_vf scale[SP_PRODUCT_VECTORS];
    for (int v = 0; v < vectors; v++) {
        uint16_t halves[SP_LANES];
        memcpy(halves, block + (j + v * SP_LANES) * SP_Q8_0_SCALE, sizeof halves);
        scale[v] = sp_vf_load_f16(halves);
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < BLOCK; k += pairs ? 2 : 1)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const int64_t at = j + v * SP_LANES;
            sp_vf x = element(codes, width, k, at, scale[v]);
            if (pairs) x = sp_vf_pair_bf16(x, element(codes, width, k + 1, at, scale[v]));
            sp_vf_store(to + (pairs ? k / 2 : k) * width + at, x);
        }
}

SP_INLINE void dequantise_block(const char *block, int64_t width, float *to, const bool pairs)
{
    if (width == SP_PRODUCT_PANEL)
        dequantise_columns(block, SP_PRODUCT_PANEL, 0, SP_PRODUCT_VECTORS, to, pairs);
    else
        for (int64_t j = 0; j < width; j += SP_LANES)
            dequantise_columns(block, width, j, 1, to, pairs);
}

void sp_weight_dequantise(const sp_weight_packer *p, const void *packed, const sp_weight_part *part, float *room)
{
    const int64_t rows = p->pairs ? BLOCK / 2 : BLOCK, width = part->width;
    const char *from = (const char *)packed + part->m * p->C / BLOCK * SP_Q8_0_BYTES +
                       part->first / rows * width * SP_Q8_0_BYTES;
    for (int64_t k = 0; k < part->count; k += rows, from += width * SP_Q8_0_BYTES, room += rows * width)
        if (p->pairs)
            dequantise_block(from, width, room, true);
        else
            dequantise_block(from, width, room, false);
}
