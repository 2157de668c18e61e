/* The transform of a filter of 3x3 taps into the points of Winograd's F(m x m, 3 x 3). */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_WINOGRAD_FILTER_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_WINOGRAD_FILTER_H
#include "backend/cpu/vector/product/winograd.h"

/* G times the three taps of a row or column; elements of u `step` apart. No sum is of two products, of which a compiler
 * might round either: equal taps give equal bits wherever this is compiled into. */
SP_INLINE void sp_winograd_filter_line(const sp_vf *tap, sp_vf *u, const int step, const int output)
{
    sp_vf ends = tap[0] + tap[2];
    if (output == 2) {
        u[0] = tap[0];
        u[step] = 0.5f * (ends + tap[1]);
        u[2 * step] = 0.5f * (ends - tap[1]);
        u[3 * step] = tap[2];
        return;
    }
    const float ones = output == 4 ? -1.0f / 6 : -2.0f / 9, twos = output == 4 ? 1.0f / 6 : 2.0f / 45;
    sp_vf even = 0.25f * tap[0] + tap[2];
    u[0] = output == 4 ? 0.25f * tap[0] : tap[0];
    u[step] = ones * (ends + tap[1]);
    u[2 * step] = ones * (ends - tap[1]);
    u[3 * step] = twos * (even + 0.5f * tap[1]);
    u[4 * step] = twos * (even - 0.5f * tap[1]);
    if (output == 6) {
        even = 4.0f * tap[0] + tap[2];
        u[5 * step] = 8.0f / 45 * (even + 2.0f * tap[1]);
        u[6 * step] = 8.0f / 45 * (even - 2.0f * tap[1]);
    }
    u[(output + 1) * step] = tap[2];
}

/* G g G^T of SP_LANES filters g, first turned by 180 degrees if asked: taps[9] -> u[tile * tile], row by row. */
SP_INLINE void sp_winograd_filter(const sp_vf *taps, bool turned, sp_vf *u, const int output)
{
    const int tile = output + 2;
    sp_vf half[SP_WINOGRAD_MAX_TILE * 3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        sp_vf tap[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            tap[i] = taps[turned ? 8 - (i * 3 + j) : i * 3 + j];
        sp_winograd_filter_line(tap, half + j, 3, output);
    }
#pragma GCC unroll 8
    for (int i = 0; i < tile; i++)
        sp_winograd_filter_line(half + 3 * i, u + i * tile, 1, output);
}

#endif
