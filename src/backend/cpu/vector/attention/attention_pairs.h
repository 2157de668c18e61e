/* The two small products of attention_pairs.c and the weights between them, in registers of 512
 * bits. The left factor lies in panels of SP_PANEL rows, [depth][SP_PANEL] pairs of bf16 each, so
 * that its pairs are read one after the other; the right factor and the result are [..][SP_TILE].
 *
 * Weights 2^(scale (s - maximum)) are rounded to bf16, so they need not be more exact; and the
 * maximum may be any number near the largest score, for the division by the sum takes it out again. */
#ifndef SP_BACKEND_CPU_VECTOR_ATTENTION_ATTENTION_PAIRS_H
#define SP_BACKEND_CPU_VECTOR_ATTENTION_ATTENTION_PAIRS_H
#include "backend/cpu/vector/attention/attention.h"

#if defined(__AVX512BF16__)

#define SP_PANEL 4
/* Of a tile of queries, [SP_TILE] each. */
typedef struct {
    float scale;
    float *shift; /* -scale maximum */
    float *sum;   /* of the weights */
} sp_softmax_tile;

/* Weights of two keys of a panel for one vector of queries: number i of 2 * vectors in all. */
SP_INLINE void sp_weigh_pair(const sp_softmax_tile *t, const float *scores, float *weights, int i)
{
    const int64_t pair = i & 1, j = (i >> 1) * SP_LANES;
    const float *s = scores + 2 * pair * SP_TILE + j;
    const sp_vf shift = sp_vf_load(t->shift + j);
    sp_vf even = sp_vf_exp2_brief(sp_vf_load(s) * t->scale + shift),
          odd = sp_vf_exp2_brief(sp_vf_load(s + SP_TILE) * t->scale + shift);
    sp_vf_store(t->sum + j, sp_vf_load(t->sum + j) + (even + odd));
    sp_vf_store(weights + pair * SP_TILE + j, sp_vf_pair_bf16(even, odd));
}

/* sum[panel row][v] += left[panel row] right[v] */
SP_INLINE void sp_panel_step(__m512 sum[2 * SP_PANEL][4], const uint32_t *left, int64_t panel_size,
                             const float *right, const int panels, const int vectors)
{
    __m512bh r[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        r[v] = (__m512bh)_mm512_loadu_ps(right + v * SP_LANES);
#pragma GCC unroll 8
    for (int i = 0; i < panels * SP_PANEL; i++) {
        const uint32_t *pair = left + i / SP_PANEL * panel_size + i % SP_PANEL;
        __m512bh l = (__m512bh)_mm512_set1_epi32((int)*pair);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm512_dpbf16_ps(sum[i][v], l, r[v]);
    }
}

SP_INLINE void sp_panel_store(__m512 sum[2 * SP_PANEL][4], float *to, const int panels,
                              const int vectors)
{
#pragma GCC unroll 8
    for (int i = 0; i < panels * SP_PANEL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(to + i * SP_TILE + v * SP_LANES, sum[i][v]);
}

/* to = or += left right for `panels` panels, `panel_size` pairs apart. */
SP_INLINE void sp_panel_product(const uint32_t *left, int64_t panel_size, const float *right,
                                int64_t depth, float *to, bool accumulate, const int panels,
                                const int vectors)
{
    __m512 sum[2 * SP_PANEL][4];
#pragma GCC unroll 8
    for (int i = 0; i < panels * SP_PANEL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] =
                accumulate ? _mm512_loadu_ps(to + i * SP_TILE + v * SP_LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k++)
        sp_panel_step(sum, left + k * SP_PANEL, panel_size, right + k * SP_TILE, panels, vectors);
    sp_panel_store(sum, to, panels, vectors);
}

/* Scores of one panel of keys, and beside them the weights of the panel before, whose scores are
 * done: the products alone keep the multipliers busy, so what the weights need besides is free. */
SP_INLINE void sp_panel_scores(const sp_softmax_tile *t, const uint32_t *keys, const float *query,
                               int64_t depth, float *scores, const float *before, float *weights,
                               const int vectors)
{
    __m512 sum[2 * SP_PANEL][4];
#pragma GCC unroll 4
    for (int i = 0; i < SP_PANEL; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm512_setzero_ps();
    int64_t k = 0;
    int pair = 0;
    for (; pair < 2 * vectors && k + 2 <= depth; pair++, k += 2) {
        sp_panel_step(sum, keys + k * SP_PANEL, 0, query + k * SP_TILE, 1, vectors);
        sp_weigh_pair(t, before, weights, pair);
        sp_panel_step(sum, keys + (k + 1) * SP_PANEL, 0, query + (k + 1) * SP_TILE, 1, vectors);
    }
    for (; k < depth; k++)
        sp_panel_step(sum, keys + k * SP_PANEL, 0, query + k * SP_TILE, 1, vectors);
    for (; pair < 2 * vectors; pair++)
        sp_weigh_pair(t, before, weights, pair);
    sp_panel_store(sum, scores, 1, vectors);
}

/* As sp_panel_product, for `count` panels, as many of them at a time as keep enough sums under way. */
SP_INLINE void sp_panels_product(const uint32_t *left, int64_t panel_size, int64_t count,
                                 const float *right, int64_t depth, float *to, bool accumulate,
                                 const int vectors)
{
    const int together = vectors <= 2 ? 2 : 1;
    int64_t p = 0;
    for (; p + together <= count; p += together)
        sp_panel_product(left + p * panel_size, panel_size, right, depth,
                         to + p * SP_PANEL * SP_TILE, accumulate, together, vectors);
    for (; p < count; p++)
        sp_panel_product(left + p * panel_size, panel_size, right, depth,
                         to + p * SP_PANEL * SP_TILE, accumulate, 1, vectors);
}

#endif
#endif
