/* Packed weights as products read them: where they lie, or made of fewer bits in memory near the core that multiplies,
 * so that what comes from afar is a half or a quarter as much. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_HELD_WEIGHT_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_HELD_WEIGHT_H
#include "backend/cpu/vector/product/weight_pack.h"
#include "graph/graph.h"
#include "tensor/quantised.h"

/* The type in which a weight that meets `x` is held: its own where that has 16 bits or less, so that nothing is lost,
 * an f8 as bf16; else that of `x`. Blocks lie along what is summed over, so that where inputs and outputs are changed
 * (`turned`), or inputs are no whole blocks, a quantised one is held as `x` is. */
static inline sp_dtype sp_weight_held(const sp_value *weight, const sp_value *x, bool turned)
{
    int64_t inputs = sp_shape_count(weight->shape) / (weight->shape.dim[0] ? weight->shape.dim[0] : 1);
    bool in_blocks = weight->dtype == SP_Q8_0 && !turned && inputs % SP_Q8_0_BLOCK == 0;
    if (weight->dtype == SP_F16 || in_blocks) return weight->dtype;
    return weight->dtype == SP_BF16 || sp_dtype_is_f8(weight->dtype) ? SP_BF16 : x->dtype;
}

/* Whether what products read is made from the pack. */
static inline bool sp_weight_is_widened(const sp_weight_packer *packer)
{
    return packer->held == SP_Q8_0 || (packer->held != SP_F32 && !packer->pairs);
}

/* Elements that a part of a pack must be a multiple of, in rows of it. */
static inline int64_t sp_weight_unit(const sp_weight_packer *packer)
{
    return packer->held != SP_Q8_0 ? 1 : packer->pairs ? SP_Q8_0_BLOCK / 2 : SP_Q8_0_BLOCK;
}

/* Rows first .. first+count-1 of the panel that begins at output m, its last one `width` wide, of filters of one group:
 * a row is an input channel, or a pair of them, of one tap. Multiples of sp_weight_unit. */
typedef struct {
    int64_t m, width, tap, first, count;
} sp_weight_part;

/* Bytes of a whole panel's rows in the pack. */
static inline int64_t sp_weight_bytes(const sp_weight_packer *packer, int64_t rows, int64_t width)
{
    if (packer->held == SP_Q8_0) return rows / sp_weight_unit(packer) * width * SP_Q8_0_BYTES;
    return rows * width * (packer->held == SP_F32 || packer->pairs ? 4 : 2);
}

/* The packing that a packer does; the packer lives as long as the kernel. */
#define sp_weight_packing SP_ISA_SYMBOL(sp_weight_packing)
sp_packing sp_weight_packing(sp_weight_packer *packer);

/* Where the weight can be packed from the pack of the same weight with inputs and outputs changed, says so. */
#define sp_weight_repacking SP_ISA_SYMBOL(sp_weight_repacking)
void sp_weight_repacking(const sp_weight_packer *packer, sp_packing *packing);

/* [count][width] of a part, f32 or pairs: where they lie, or made in `room`. */
#define sp_weight_widen SP_ISA_SYMBOL(sp_weight_widen)
const float *sp_weight_widen(const sp_weight_packer *packer, const void *packed, const sp_weight_part *part,
                             float *room);

/* The pack of a weight in Q8_0, and a part of it. */
#define sp_weight_pack_quantised SP_ISA_SYMBOL(sp_weight_pack_quantised)
void sp_weight_pack_quantised(const sp_weight_packer *packer, const void *source, void *packed);
#define sp_weight_dequantise SP_ISA_SYMBOL(sp_weight_dequantise)
void sp_weight_dequantise(const sp_weight_packer *packer, const void *packed, const sp_weight_part *part, float *room);

/* Points of Winograd's F(output x output, 3 x 3) of filters that are packed as 9 taps in one group: of the panel that
 * begins at output channel m, input channels first .. first+count-1. Point e, channel c, column j:
 *   u[e * point_stride + (c - first) * width + j], width = min(panel, M - m)
 * turned, doubled: as the packer's. */
#define sp_weight_points SP_ISA_SYMBOL(sp_weight_points)
void sp_weight_points(const sp_weight_packer *packer, const void *packed, int output, int64_t m, int64_t first,
                      int64_t count, float *u, int64_t point_stride);

#endif
