/* What both ways to a convolution's weight gradient share: how dW [M,C,3,3] is stored. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_WEIGHT_GRADIENT_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_WEIGHT_GRADIENT_H
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/vector/product/threes.h"
#include "backend/cpu/vector/vector.h"

/* The two ways: this and sp_direct_weight_gradient. SP_UNSUPPORTED where the form does not fit. */
#define sp_winograd_weight_gradient SP_ISA_SYMBOL(sp_winograd_weight_gradient)
sp_status sp_winograd_weight_gradient(sp_convolution_form form, const sp_node *node,
                                      sp_kernel *out);

/* Whether a dW is stored past the caches. */
static inline bool sp_streams_taps(const float *dw, int64_t elements)
{
    return elements * 4 >= SP_STREAM_BYTES && (uintptr_t)dw % sizeof(sp_vf) == 0;
}

/* to[c][tap] = taps[tap][c] for a vector of c: rows of taps are interleaved, and then what came of
 * the three columns. */
SP_INLINE void sp_store_taps(const sp_threes *t, const sp_vf taps[9], float *to, const bool stream)
{
    sp_vf column[3][3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
        sp_threes_run(t, (sp_vf[]){taps[j], taps[3 + j], taps[6 + j]}, column[j]);
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        sp_vf mixed[3];
        sp_threes_run(t, (sp_vf[]){column[0][i], column[1][i], column[2][i]}, mixed);
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++)
            if (stream)
                sp_vf_stream(to + (3 * i + k) * SP_LANES, mixed[k]);
            else
                sp_vf_store(to + (3 * i + k) * SP_LANES, mixed[k]);
    }
}

#endif
