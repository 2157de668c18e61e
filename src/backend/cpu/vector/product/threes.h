/* Three vectors in a row taken apart by threes, and put together: taps of 3x3 kernels lie side by
 * side in memory, and one to a vector where they are computed with. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_THREES_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_THREES_H
#include "backend/cpu/vector/math.h"

/* Lanes of result i: from the first two vectors by `others`, those of the last put between by
 * `third`. */
typedef struct {
    sp_vi others[3], third[3];
} sp_threes;

/* Lane l of result i is element 3 l + i of the three vectors in a row. */
static inline sp_threes sp_threes_apart(void)
{
    sp_threes t = {0};
    for (int i = 0; i < 3; i++)
        for (int l = 0; l < SP_LANES; l++) {
            int e = 3 * l + i;
            t.others[i][l] = e < 2 * SP_LANES ? e : 0;
            t.third[i][l] = e < 2 * SP_LANES ? l : e - SP_LANES;
        }
    return t;
}

/* Element e of the three results in a row is lane e / 3 of vector e % 3. */
static inline sp_threes sp_threes_together(void)
{
    sp_threes t = {0};
    for (int e = 0; e < 3 * SP_LANES; e++) {
        int i = e / SP_LANES, lane = e % SP_LANES;
        t.others[i][lane] = e % 3 == 1 ? SP_LANES + e / 3 : e / 3;
        t.third[i][lane] = e % 3 == 2 ? SP_LANES + e / 3 : lane;
    }
    return t;
}

SP_INLINE void sp_threes_run(const sp_threes *t, const sp_vf from[3], sp_vf to[3])
{
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        sp_vf others = __builtin_shuffle(from[0], from[1], t->others[i]);
        to[i] = __builtin_shuffle(others, from[2], t->third[i]);
    }
}

#endif
