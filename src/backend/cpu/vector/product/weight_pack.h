/* Convolution filters in the order in which products read them. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_WEIGHT_PACK_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_WEIGHT_PACK_H
#include "backend/cpu/kernel_table.h"

/* Filters of C input and M output channels; those of a data gradient have the roles changed, and a
 * linear layer has filters of one tap. Weight (o,i,tap) lies at o * output_stride + i *
 * input_stride + tap; one of the strides is the number of taps.
 *
 * Each filter becomes `points`: its 9 taps, or its 1, or for output > 0 the points of G g G^T of
 * Winograd's F(output x output, 3 x 3), made in f32 and rounded once. They are laid as
 *   [C / group][M / panel][points][group][panel] of f32 or of 16 bits, or
 *   [C / group][M / panel][points][group / 2][panel][2] of bf16 (pairs; C and group are even);
 * the last panel is as narrow as whole vectors make it. M is a multiple of their lanes, or there
 * is one tap and zeros lie past M. */
typedef struct {
    int taps;       /* 1 or 9 */
    int output;     /* m, or 0 */
    sp_dtype held;  /* in the pack: F32; BF16; or F16, whose output is 0. BF16 has pairs, or an output of 0. Q8_0 is of
                       one tap and one group, its source too, and laid as quantised_weight.c says */
    bool pairs;     /* of input channels, side by side */
    bool turned;    /* filters by 180 degrees first; taps as they are stay so, and are met in reverse */
    bool doubled;   /* points that a doubled picture does not need are left out */
    sp_dtype dtype; /* of the source */
    int64_t C, M, output_stride, input_stride;
    int64_t group, panel; /* channels */
} sp_weight_packer;

/* sp_packing's function, whose state is a sp_weight_packer; needs no scratch. */
void sp_weight_pack_baseline(void *packer, const void *source, void *packed, void *scratch);
void sp_weight_pack_avx2(void *packer, const void *source, void *packed, void *scratch);
void sp_weight_pack_avx512(void *packer, const void *source, void *packed, void *scratch);
void sp_weight_pack_avx512bf16(void *packer, const void *source, void *packed, void *scratch);

#endif
