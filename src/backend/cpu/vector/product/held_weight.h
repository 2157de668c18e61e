/* Packed weights as products read them: f32 where they lie, or widened from 16 bits into memory near the core that
 * multiplies, so that what comes from afar is half as much. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_HELD_WEIGHT_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_HELD_WEIGHT_H
#include "backend/cpu/vector/product/weight_pack.h"
#include "graph/graph.h"

/* The type in which a weight that meets `x` is held: its own where that has 16 bits, so that nothing is lost; bf16 for
 * a smaller one, which it holds without loss, and where activations are bf16; else f32. */
static inline sp_dtype sp_weight_held(const sp_value *weight, const sp_value *x)
{
    if (weight->dtype == SP_F16) return SP_F16;
    return weight->dtype == SP_F32 ? x->dtype : SP_BF16;
}

/* Whether products want the pack's elements widened. */
static inline bool sp_weight_is_widened(const sp_weight_packer *packer)
{
    return packer->held != SP_F32 && !packer->pairs;
}

/* The packing that a packer does; the packer lives as long as the kernel. */
#define sp_weight_packing SP_ISA_SYMBOL(sp_weight_packing)
sp_packing sp_weight_packing(sp_weight_packer *packer);

/* Where the weight can be packed from the pack of the same weight with inputs and outputs changed, says so. */
#define sp_weight_repacking SP_ISA_SYMBOL(sp_weight_repacking)
void sp_weight_repacking(const sp_weight_packer *packer, sp_packing *packing);

/* `count` elements of a pack from `at` on (a pair is one): where they lie, or widened into `room`. */
#define sp_weight_widen SP_ISA_SYMBOL(sp_weight_widen)
const float *sp_weight_widen(const sp_weight_packer *packer, const void *packed, int64_t at, int64_t count,
                             float *room);

/* Points of Winograd's F(output x output, 3 x 3) of filters that are packed as 9 taps in one group: of the panel that
 * begins at output channel m, input channels first .. first+count-1. Point e, channel c, column j:
 *   u[e * point_stride + (c - first) * width + j], width = min(panel, M - m)
 * turned, doubled: as the packer's. */
#define sp_weight_points SP_ISA_SYMBOL(sp_weight_points)
void sp_weight_points(const sp_weight_packer *packer, const void *packed, int output, int64_t m, int64_t first,
                      int64_t count, float *u, int64_t point_stride);

#endif
