/* What both ways to a convolution's weight gradient share: how dW [M,C,3,3] is stored. */
#ifndef SP_BACKEND_CPU_VECTOR_WEIGHT_GRADIENT_H
#define SP_BACKEND_CPU_VECTOR_WEIGHT_GRADIENT_H
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/vector/vector.h"

/* The two ways: this and sp_direct_weight_gradient. SP_UNSUPPORTED where the form does not fit. */
#define sp_winograd_weight_gradient SP_ISA_SYMBOL(sp_winograd_weight_gradient)
sp_status sp_winograd_weight_gradient(sp_convolution_form form, const sp_node *node,
                                      sp_kernel *out);

/* Whether a dW is stored past the caches: none keeps so much for whoever reads it. */
static inline bool sp_streams_taps(const float *dw, int64_t elements)
{
    return elements >= (int64_t)1 << 20 && (uintptr_t)dw % sizeof(sp_vf) == 0;
}

/* Parts of nearly equal size, none above `limit`, multiples of `unit`. */
static inline int64_t sp_part_of(int64_t whole, int64_t limit, int64_t unit)
{
    return sp_round_up(sp_ceil_div(whole, sp_ceil_div(whole, limit)), unit);
}

/* How three vectors are interleaved: lane l of result i is lane e / 3 of vector e % 3 for
 * e = i * SP_LANES + l; `third` puts those of the last vector between the others. */
typedef struct {
    sp_vi others[3], third[3];
} sp_interleaving;

static inline sp_interleaving sp_by_three(void)
{
    sp_interleaving t = {0};
    for (int e = 0; e < 3 * SP_LANES; e++) {
        int i = e / SP_LANES, lane = e % SP_LANES;
        t.others[i][lane] = e % 3 == 1 ? SP_LANES + e / 3 : e / 3;
        t.third[i][lane] = e % 3 == 2 ? SP_LANES + e / 3 : lane;
    }
    return t;
}

SP_INLINE void sp_interleave(const sp_interleaving *t, const sp_vf from[3], sp_vf to[3])
{
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        sp_vf others = __builtin_shuffle(from[0], from[1], t->others[i]);
        to[i] = __builtin_shuffle(others, from[2], t->third[i]);
    }
}

/* to[c][tap] = taps[tap][c] for a vector of c: rows of taps are interleaved, and then what came of
 * the three columns. */
SP_INLINE void sp_store_taps(const sp_interleaving *t, const sp_vf taps[9], float *to,
                             const bool stream)
{
    sp_vf column[3][3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
        sp_interleave(t, (sp_vf[]){taps[j], taps[3 + j], taps[6 + j]}, column[j]);
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        sp_vf mixed[3];
        sp_interleave(t, (sp_vf[]){column[0][i], column[1][i], column[2][i]}, mixed);
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++)
            if (stream)
                sp_vf_stream(to + (3 * i + k) * SP_LANES, mixed[k]);
            else
                sp_vf_store(to + (3 * i + k) * SP_LANES, mixed[k]);
    }
}

#endif
