/* Weights out of their packs: widened, and the filters of Winograd's convolutions transformed. */
#include "backend/cpu/vector/product/held_weight.h"
#include "backend/cpu/vector/product/winograd_filter.h"

const float *sp_weight_widen(const sp_weight_packer *p, const void *packed, const sp_weight_part *part, float *room)
{
    int64_t depth = p->pairs ? p->C / 2 : p->C, count = part->count * part->width;
    int64_t at = part->m * p->taps * depth + (part->tap * depth + part->first) * part->width;
    if (!sp_weight_is_widened(p)) return (const float *)packed + at;
    if (p->held == SP_Q8_0)
        sp_weight_dequantise(p, packed, part, room);
    else if (p->held == SP_BF16)
        sp_row_from_bf16(room, (const uint16_t *)packed + at, count);
    else
        sp_row_from_f16(room, (const uint16_t *)packed + at, count);
    return room;
}

SP_INLINE sp_vf load(const void *packed, int64_t at, const sp_dtype held)
{
    return held == SP_F16 ? sp_vf_load_f16((const uint16_t *)packed + at)
                          : sp_vf_load_as(packed, at, held == SP_BF16);
}

SP_INLINE void points(const sp_weight_packer *p, const void *packed, int64_t m, int64_t first, int64_t count, float *u,
                      int64_t point_stride, const int output, const sp_dtype held)
{
    const int tile = output + 2;
    const int64_t width = p->M - m < p->panel ? p->M - m : p->panel, tap_stride = p->C * width;
    const int64_t from = m * 9 * p->C + first * width;
    for (int64_t at = 0; at < count * width; at += SP_LANES) {
        sp_vf taps[9], point[SP_WINOGRAD_MAX_POINTS];
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; tap++)
            taps[tap] = load(packed, from + tap * tap_stride + at, held);
        sp_winograd_filter(taps, p->turned, point, output);
#pragma GCC unroll 8
        for (int i = 0; i < tile; i++)
#pragma GCC unroll 8
            for (int j = 0; j < tile; j++)
                if (!sp_winograd_skips(i, j, p->doubled))
                    sp_vf_store(u + sp_winograd_point(i, j, tile, p->doubled) * point_stride + at, point[i * tile + j]);
    }
}

SP_INLINE void points_of(const sp_weight_packer *p, const void *packed, int64_t m, int64_t first, int64_t count,
                         float *u, int64_t point_stride, const sp_dtype held, int output)
{
    if (output == 2)
        points(p, packed, m, first, count, u, point_stride, 2, held);
    else if (output == 4)
        points(p, packed, m, first, count, u, point_stride, 4, held);
    else
        points(p, packed, m, first, count, u, point_stride, 6, held);
}

void sp_weight_points(const sp_weight_packer *p, const void *packed, int output, int64_t m, int64_t first,
                      int64_t count, float *u, int64_t point_stride)
{
    if (p->held == SP_F16)
        points_of(p, packed, m, first, count, u, point_stride, SP_F16, output);
    else if (p->held == SP_BF16)
        points_of(p, packed, m, first, count, u, point_stride, SP_BF16, output);
    else
        points_of(p, packed, m, first, count, u, point_stride, SP_F32, output);
}
