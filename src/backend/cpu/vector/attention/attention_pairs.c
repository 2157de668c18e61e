/* softmax(scale q k^T) v for bf16 where products of bf16 pairs are fast: as in attention.c, but the
 * left factors of both products are packed for registers once per worker and head, and the weights
 * of a few keys are made while the scores of the next few are. That needs the maximum before the
 * scores: it is taken from the first keys of all, and a block of keys whose scores turn out to pass
 * it by far is done again with its own. */
#include "backend/cpu/vector/attention/attention_pairs.h"

#if defined(__AVX512BF16__)

#define KEY_LIMIT 128
#define FIRST_KEYS 16 /* which the first maxima are taken from */
/* Of weights, none of which is negative, so no weight is larger. Moderate, so that products with
 * values stay far from infinity. */
#define LARGEST_SUM 0x1p60f

typedef struct {
    sp_attention_task common;
    int64_t panel_keys; /* keys rounded up to whole panels; those past the end are 0 */
    int64_t channels;   /* the head's dimension, likewise */
} task;

/* One worker's memory. */
typedef struct {
    uint32_t *keys;   /* panels of keys: [head/2][SP_PANEL] pairs of channels */
    uint32_t *values; /* per block of keys panels of channels: [keys/2][SP_PANEL] pairs of keys */
    float *query;     /* [head/2][SP_TILE] pairs of channels */
    float *output;    /* [channels][SP_TILE], not yet divided by the sum */
    float *scores;    /* [key_block][SP_TILE] */
    float *weights;   /* [key_block/2][SP_TILE] pairs of keys; at the end the output in pairs */
    float *maximum;   /* [SP_TILE] */
    sp_softmax_tile softmax;
} workspace;

static task task_of(const sp_node *node)
{
    task t = {.common.shape = sp_attention_shape_of(node, KEY_LIMIT)};
    t.common.shape.key_block = sp_round_up(t.common.shape.key_block, SP_PANEL);
    t.panel_keys = sp_round_up(t.common.shape.keys, SP_PANEL);
    t.channels = sp_round_up(t.common.shape.head, SP_PANEL);
    return t;
}

static int64_t weight_rows(const task *t)
{
    return t->common.shape.key_block > t->common.shape.head ? t->common.shape.key_block / 2 : t->common.shape.head / 2;
}

/* Lays out one worker's memory from `base` on; returns how many floats it takes. */
static int64_t workspace_lay(const task *t, float *base, workspace *w)
{
    int64_t used = 0, half_head = t->common.shape.head / 2;
    *w = (workspace){.softmax = {.scale = t->common.shape.log2_scale}};
    w->keys = (uint32_t *)sp_take(base, &used, t->panel_keys * half_head);
    w->values = (uint32_t *)sp_take(base, &used, t->panel_keys / 2 * t->channels);
    w->query = sp_take(base, &used, half_head * SP_TILE);
    w->output = sp_take(base, &used, t->channels * SP_TILE);
    w->scores = sp_take(base, &used, t->common.shape.key_block * SP_TILE);
    w->weights = sp_take(base, &used, weight_rows(t) * SP_TILE);
    w->maximum = sp_take(base, &used, SP_TILE);
    w->softmax.shift = sp_take(base, &used, SP_TILE);
    w->softmax.sum = sp_take(base, &used, SP_TILE);
    return used;
}

static void pack_keys(const task *t, const workspace *w, const uint16_t *from)
{
    const sp_attention_shape *a = &t->common.shape;
    int64_t depth = a->head / 2;
    for (int64_t k = 0; k < a->keys; k += SP_PANEL) {
        int64_t count = a->keys - k < SP_PANEL ? a->keys - k : SP_PANEL;
        uint32_t *to = w->keys + k * depth;
        if (count < SP_PANEL) memset(to, 0, (size_t)(SP_PANEL * depth) * sizeof *to);
        sp_transpose(to, SP_PANEL, from + k * a->channels, a->channels / 2, count, depth);
    }
}

/* The pairs of keys that the packed values of the block from key k0 on hold. */
static int64_t block_pairs(const task *t, int64_t k0)
{
    int64_t left = t->panel_keys - k0;
    return (left < t->common.shape.key_block ? left : t->common.shape.key_block) / 2;
}

/* One pair of keys into all panels, `panel_size` apart; odd NULL: zeros. */
static void pack_value_pair(uint32_t *to, int64_t panel_size, const uint16_t *even,
                            const uint16_t *odd, int64_t head)
{
    int64_t c = 0;
    for (; odd && c + 16 <= head; c += 16, to += 4 * panel_size) {
        /* In each half of 128 bits, channels 0..3 and 8..11, then 4..7 and 12..15: a panel each. */
        __m256i e = _mm256_loadu_si256((const void *)(even + c)),
                o = _mm256_loadu_si256((const void *)(odd + c));
        __m256i low = _mm256_unpacklo_epi16(e, o), high = _mm256_unpackhi_epi16(e, o);
        _mm_storeu_si128((void *)to, _mm256_castsi256_si128(low));
        _mm_storeu_si128((void *)(to + panel_size), _mm256_castsi256_si128(high));
        _mm_storeu_si128((void *)(to + 2 * panel_size), _mm256_extracti128_si256(low, 1));
        _mm_storeu_si128((void *)(to + 3 * panel_size), _mm256_extracti128_si256(high, 1));
    }
    for (; c < head; c += SP_PANEL, to += panel_size)
        for (int64_t i = 0; i < SP_PANEL; i++)
            to[i] = c + i < head ? even[c + i] | (odd ? (uint32_t)odd[c + i] << 16 : 0) : 0;
}

static void pack_values(const task *t, const workspace *w, const uint16_t *from)
{
    const sp_attention_shape *a = &t->common.shape;
    for (int64_t k0 = 0; k0 < a->keys; k0 += a->key_block) {
        int64_t pairs = block_pairs(t, k0), size = pairs * SP_PANEL;
        uint32_t *block = w->values + k0 / 2 * t->channels;
        for (int64_t i = 0; i < pairs; i++) {
            int64_t k = k0 + 2 * i;
            const uint16_t *even = from + k * a->channels;
            if (k < a->keys)
                pack_value_pair(block + i * SP_PANEL, size, even,
                                k + 1 < a->keys ? even + a->channels : NULL, a->head);
            for (int64_t c = 0; k >= a->keys && c < t->channels; c++)
                block[(c / SP_PANEL * pairs + i) * SP_PANEL + c % SP_PANEL] = 0;
        }
    }
}

/* A block of keys against a tile of queries. */
typedef struct {
    int64_t q0, k0, keys; /* keys: those that a query of the tile sees */
    int64_t panels;
} block;

/* Scores of panel p: the last key of all may stand for several, and some keys no query may see, those past the last
 * one and of a causal tile those after the query. */
static void adjust_panel(const task *t, const block *b, int64_t p, float *scores)
{
    int64_t first = b->k0 + p * SP_PANEL, left = t->common.shape.keys - first;
    if (left <= SP_PANEL) sp_count_last_key(&t->common.shape, scores, first, left);
    for (int64_t k = p * SP_PANEL; k < (p + 1) * SP_PANEL; k++) {
        int64_t hidden = k >= b->keys ? SP_TILE : t->common.shape.causal ? b->k0 + k - b->q0 : 0;
        for (int64_t lane = 0; lane < hidden && lane < SP_TILE; lane++)
            scores[(k % SP_PANEL) * SP_TILE + lane] = SP_MASKED;
    }
}

/* Weights of the first `panels` panels by way of all their scores: the maximum follows, and with it
 * what was summed before. */
SP_INLINE void weigh_exactly(const task *t, const workspace *w, const block *b, int64_t panels,
                             const int vectors)
{
    const int64_t depth = t->common.shape.head / 2;
    const uint32_t *keys = w->keys + b->k0 * depth;
    sp_panels_product(keys, SP_PANEL * depth, panels, w->query, depth, w->scores, false, vectors);
    for (int64_t p = 0; p < panels; p++)
        adjust_panel(t, b, p, w->scores + p * SP_PANEL * SP_TILE);
    const float scale = t->common.shape.log2_scale;
    for (int64_t j = 0; j < vectors * SP_LANES; j += SP_LANES) {
        float *scores = w->scores + j;
        sp_vf before = sp_vf_load(w->maximum + j), maximum = before, sum = {0};
        for (int64_t k = 0; k < panels * SP_PANEL; k++)
            maximum = sp_vf_max(sp_vf_load(scores + k * SP_TILE), maximum);
        for (int64_t k = 0; k < panels * SP_PANEL; k += 2) {
            sp_vf even = sp_vf_exp2_brief((sp_vf_load(scores + k * SP_TILE) - maximum) * scale),
                  odd =
                      sp_vf_exp2_brief((sp_vf_load(scores + (k + 1) * SP_TILE) - maximum) * scale);
            sum += even + odd;
            sp_vf_store(w->weights + k / 2 * SP_TILE + j, sp_vf_pair_bf16(even, odd));
        }
        sp_vf_store(w->maximum + j, maximum);
        sp_vf_store(w->softmax.shift + j, -maximum * scale);
        if (b->k0 > 0) {
            sp_vf fade = sp_vf_exp2_negative((before - maximum) * scale);
            sum += sp_vf_load(w->softmax.sum + j) * fade;
            for (int64_t c = 0; c < t->channels; c++)
                sp_vf_store(w->output + c * SP_TILE + j,
                            sp_vf_load(w->output + c * SP_TILE + j) * fade);
        }
        sp_vf_store(w->softmax.sum + j, sum);
    }
}

/* Weights of the panels from `first` on with the maxima as they are. False where a score passes
 * them by too much or is no number; then nothing but the weights was touched. */
SP_INLINE bool weigh_quickly(const task *t, const workspace *w, const block *b, int64_t first,
                             const int vectors)
{
    const int64_t depth = t->common.shape.head / 2, panel = SP_PANEL * SP_TILE;
    const uint32_t *keys = w->keys + b->k0 * depth;
    float sums[SP_TILE];
    memcpy(sums, w->softmax.sum, sizeof sums);
    sp_panel_product(keys + first * SP_PANEL * depth, 0, w->query, depth, w->scores, false, 1,
                     vectors);
    for (int64_t p = first + 1; p < b->panels; p++)
        sp_panel_scores(&w->softmax, keys + p * SP_PANEL * depth, w->query, depth,
                        w->scores + ((p - first) & 1) * panel,
                        w->scores + ((p - 1 - first) & 1) * panel,
                        w->weights + (p - 1) * (panel / 2), vectors);
    float *last = w->scores + ((b->panels - 1 - first) & 1) * panel;
    adjust_panel(t, b, b->panels - 1, last);
    for (int i = 0; i < 2 * vectors; i++)
        sp_weigh_pair(&w->softmax, last, w->weights + (b->panels - 1) * (panel / 2), i);
    __mmask16 fits = 0xffff;
    for (int64_t j = 0; j < vectors * SP_LANES; j += SP_LANES)
        fits &= _mm512_cmp_ps_mask(_mm512_loadu_ps(w->softmax.sum + j), _mm512_set1_ps(LARGEST_SUM),
                                   _CMP_LT_OQ);
    if (fits != 0xffff) memcpy(w->softmax.sum, sums, sizeof sums);
    return fits == 0xffff;
}

SP_INLINE void attend_block(const task *t, const workspace *w, const block *b, const int vectors)
{
    int64_t first = b->k0 > 0 ? 0 : FIRST_KEYS / SP_PANEL;
    bool exact = b->panels <= first || (t->common.shape.causal && b->k0 + b->keys > b->q0 + 1);
    if (!exact) {
        if (first > 0) weigh_exactly(t, w, b, first, vectors);
        exact = !weigh_quickly(t, w, b, first, vectors);
    }
    if (exact) weigh_exactly(t, w, b, b->panels, vectors);
    sp_panels_product(w->values + b->k0 / 2 * t->channels, block_pairs(t, b->k0) * SP_PANEL,
                      t->channels / SP_PANEL, w->weights, b->panels * (SP_PANEL / 2), w->output,
                      b->k0 > 0, vectors);
}

static void attend_block_of(const task *t, const workspace *w, const block *b, int64_t vectors)
{
    switch (vectors) {
    case 1:
        attend_block(t, w, b, 1);
        break;
    case 2:
        attend_block(t, w, b, 2);
        break;
    case 3:
        attend_block(t, w, b, 3);
        break;
    default:
        attend_block(t, w, b, 4);
        break;
    }
}

static void attend_tile(const task *t, const workspace *w, int64_t n, int64_t h, int64_t q0)
{
    const sp_attention_shape *a = &t->common.shape;
    int64_t count = a->queries - q0 < SP_TILE ? a->queries - q0 : SP_TILE,
            vectors = sp_ceil_div(count, SP_LANES),
            offset = sp_head_offset(a, a->queries, n, q0, h);
    int64_t visible = sp_visible_keys(a, q0, count);
    sp_head_turn(a, t->common.q, offset, count, NULL, w->query);
    for (int64_t j = 0; j < SP_TILE; j++)
        w->maximum[j] = SP_MASKED;
    for (int64_t k0 = 0; k0 < visible; k0 += a->key_block) {
        int64_t left = visible - k0;
        block b = {q0, k0, left < a->key_block ? left : a->key_block, 0};
        b.panels = sp_ceil_div(b.keys, SP_PANEL);
        attend_block_of(t, w, &b, vectors);
    }
    sp_write_log_sum(a, t->common.log_sum, n, h, q0, count, w->maximum, w->softmax.sum);
    sp_head_divide_pairs(a, t->common.out, offset, count, w->output, w->softmax.sum, w->weights);
}

static void attend(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->common.shape;
    workspace w;
    workspace_lay(t, t->common.scratch + slot * workspace_lay(t, NULL, &w), &w);
    int64_t tiles = sp_ceil_div(a->queries, SP_TILE), packed = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / tiles, n = head / a->heads, h = head % a->heads;
        if (head != packed) {
            int64_t offset = sp_head_offset(a, a->keys, n, 0, h);
            pack_keys(t, &w, (const uint16_t *)t->common.k + offset);
            pack_values(t, &w, (const uint16_t *)t->common.v + offset);
        }
        packed = head;
        attend_tile(t, &w, n, h, i % tiles * SP_TILE);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = task_of(node);
    sp_attention_take(&t.common, in, out, scratch);
    sp_attention_deal(&t, state, attend);
}

sp_status sp_attention_pairs(const sp_node *node, sp_kernel *out)
{
    task t = task_of(node);
    workspace w;
    SP_TRY(sp_workers_prepare(sp_attention_tiles(&t.common.shape), workspace_lay(&t, NULL, &w), out));
    out->run = run;
    return SP_OK;
}

#else

sp_status sp_attention_pairs(const sp_node *node, sp_kernel *out)
{
    (void)node, (void)out;
    return SP_UNSUPPORTED;
}

#endif
