/* softmax(scale q k^T) v for bf16 where pairs are multiplied in AMX tiles: as in attention.c, with keys, and values
 * turned, laid out once per worker and head so that what a product sums over lies one behind the other, in whole tiles.
 * The products take a tenth of the time of vectors then, and the weights between them most of the rest. */
#include "backend/cpu/vector/attention/attention.h"

#if defined(__AVX512BF16__)

#define KEY_LIMIT 128
#define AMX_KEYS (2 * SP_AMX_PAIRS)

typedef struct {
    sp_attention_task common; /* its key_block: whole AMX tiles */
    int64_t depth;            /* pairs of channels, whole AMX tiles; those past the head are 0 */
    int64_t key_pairs;        /* of all keys, whole AMX tiles; values past the last key are 0 */
} task;

/* One worker's memory. */
typedef struct {
    float *keys;      /* [keys][depth] pairs of channels */
    uint32_t *values; /* [head][key_pairs] */
    uint32_t *pairs;  /* [key_block/2][head] pairs of keys, before they are turned */
    float *query;     /* [depth][SP_TILE] pairs of channels */
    float *output;    /* [head][SP_TILE], not yet divided by the sum */
    float *scores;    /* [key_block][SP_TILE] */
    float *weights;   /* [key_block/2][SP_TILE] pairs of keys; at the end the output in pairs, [head/2][SP_TILE] */
    float *maximum, *sum; /* [SP_TILE] */
} workspace;

static task task_of(const sp_node *node)
{
    task t = {.common.shape = sp_attention_shape_of(node, KEY_LIMIT)};
    t.common.shape.key_block = sp_round_up(t.common.shape.key_block, AMX_KEYS);
    t.depth = sp_round_up(t.common.shape.head / 2, SP_AMX_PAIRS);
    t.key_pairs = sp_round_up(sp_ceil_div(t.common.shape.keys, 2), SP_AMX_PAIRS);
    return t;
}

/* Lays out one worker's memory from `base` on; returns how many floats it takes. */
static int64_t workspace_lay(const task *t, float *base, workspace *w)
{
    const sp_attention_shape *a = &t->common.shape;
    int64_t used = 0, half = (a->key_block > a->head ? a->key_block : a->head) / 2;
    w->keys = sp_take(base, &used, a->keys * t->depth);
    w->values = (uint32_t *)sp_take(base, &used, a->head * t->key_pairs);
    w->pairs = (uint32_t *)sp_take(base, &used, a->key_block / 2 * a->head);
    w->query = sp_take(base, &used, t->depth * SP_TILE);
    w->output = sp_take(base, &used, a->head * SP_TILE);
    w->scores = sp_take(base, &used, a->key_block * SP_TILE);
    w->weights = sp_take(base, &used, half * SP_TILE);
    w->maximum = sp_take(base, &used, SP_TILE);
    w->sum = sp_take(base, &used, SP_TILE);
    return used;
}

static void lay_out_head(const task *t, const workspace *w, int64_t n, int64_t h)
{
    const sp_attention_shape *a = &t->common.shape;
    int64_t offset = sp_head_offset(a, a->keys, n, 0, h), pairs = sp_ceil_div(a->keys, 2);
    sp_head_copy(a, t->common.k, offset, a->keys, w->keys, t->depth);
    for (int64_t k0 = 0; k0 < a->keys; k0 += a->key_block) {
        int64_t count = a->keys - k0 < a->key_block ? a->keys - k0 : a->key_block;
        sp_head_pair(a, t->common.v, offset + k0 * a->channels, count, w->pairs, a->head);
        sp_transpose(w->values + k0 / 2, t->key_pairs, w->pairs, a->head, sp_ceil_div(count, 2), a->head);
    }
    for (int64_t c = 0; c < a->head; c++)
        memset(w->values + c * t->key_pairs + pairs, 0, (size_t)(t->key_pairs - pairs) * sizeof *w->values);
}

/* A block of keys against a tile of queries. */
typedef struct {
    int64_t q0, k0, keys, lanes;
    int64_t pairs; /* of keys, whole tiles */
} block;

static void score_block(const task *t, const workspace *w, const block *b)
{
    sp_product_run(&(sp_product){.a = w->keys + b->k0 * t->depth,
                                 .a_row = t->depth,
                                 .a_column = 1,
                                 .b = w->query,
                                 .b_row = SP_TILE,
                                 .c = w->scores,
                                 .c_row = SP_TILE,
                                 .rows = b->keys,
                                 .columns = b->lanes,
                                 .depth = t->depth,
                                 .pairs = true,
                                 .amx = true});
}

static void output_block(const task *t, const workspace *w, const block *b)
{
    sp_product_run(&(sp_product){.a = w->values + b->k0 / 2,
                                 .a_row = t->key_pairs,
                                 .a_column = 1,
                                 .b = w->weights,
                                 .b_row = SP_TILE,
                                 .c = w->output,
                                 .c_row = SP_TILE,
                                 .rows = t->common.shape.head,
                                 .columns = b->lanes,
                                 .depth = b->pairs,
                                 .accumulate = b->k0 > 0,
                                 .pairs = true,
                                 .amx = true});
}

/* What was summed so far, for a maximum that has changed. */
static sp_vf fade(const task *t, const workspace *w, int64_t j, sp_vf before, sp_vf maximum)
{
    sp_vf share = sp_vf_exp2_negative((before - maximum) * t->common.shape.log2_scale);
    if (_mm512_cmp_ps_mask((__m512)share, _mm512_set1_ps(1), _CMP_NEQ_UQ))
        for (int64_t c = 0; c < t->common.shape.head; c++)
            sp_vf_store(w->output + c * SP_TILE + j, sp_vf_load(w->output + c * SP_TILE + j) * share);
    return sp_vf_load(w->sum + j) * share;
}

/* Scores become weights e^(scale (s - maximum)) in pairs; the maximum and the sum follow. */
static void weigh_block(const task *t, const workspace *w, const block *b)
{
    const float scale = t->common.shape.log2_scale;
    for (int64_t k = b->keys; k < 2 * b->pairs; k++)
        for (int64_t j = 0; j < b->lanes; j += SP_LANES)
            sp_vf_store(w->scores + k * SP_TILE + j, sp_vf_set(SP_MASKED));
    for (int64_t j = 0; j < b->lanes; j += SP_LANES) {
        const float *scores = w->scores + j;
        sp_vf before = sp_vf_load(w->maximum + j), largest[2] = {before, before}, sum[2] = {{0}, {0}};
        for (int64_t k = 0; k < 2 * b->pairs; k += 2)
            for (int i = 0; i < 2; i++)
                largest[i] = sp_vf_max(sp_vf_load(scores + (k + i) * SP_TILE), largest[i]);
        sp_vf maximum = sp_vf_max(largest[0], largest[1]), shift = -maximum * scale;
        for (int64_t k = 0; k < b->pairs; k++) {
            sp_vf weight[2];
            for (int i = 0; i < 2; i++) {
                weight[i] = sp_vf_exp2_brief(sp_vf_load(scores + (2 * k + i) * SP_TILE) * scale + shift);
                sum[i] += weight[i];
            }
            sp_vf_store(w->weights + k * SP_TILE + j, sp_vf_pair_bf16(weight[0], weight[1]));
        }
        sp_vf_store(w->maximum + j, maximum);
        sp_vf total = sum[0] + sum[1];
        sp_vf_store(w->sum + j, b->k0 > 0 ? fade(t, w, j, before, maximum) + total : total);
    }
}

static void attend_tile(const task *t, const workspace *w, int64_t n, int64_t h, int64_t q0)
{
    const sp_attention_shape *a = &t->common.shape;
    int64_t count = a->queries - q0 < SP_TILE ? a->queries - q0 : SP_TILE,
            offset = sp_head_offset(a, a->queries, n, q0, h), visible = sp_visible_keys(a, q0, count);
    block b = {.q0 = q0, .lanes = sp_round_up(count, SP_LANES)};
    sp_head_turn(a, t->common.q, offset, count, NULL, w->query);
    for (int64_t j = 0; j < SP_TILE; j++)
        w->maximum[j] = SP_MASKED;
    for (b.k0 = 0; b.k0 < visible; b.k0 += a->key_block) {
        b.keys = visible - b.k0 < a->key_block ? visible - b.k0 : a->key_block;
        b.pairs = sp_round_up(sp_ceil_div(b.keys, 2), SP_AMX_PAIRS);
        score_block(t, w, &b);
        sp_count_last_key(a, w->scores, b.k0, b.keys);
        if (a->causal) sp_mask_later_keys(w->scores, b.k0, b.keys, q0);
        weigh_block(t, w, &b);
        output_block(t, w, &b);
    }
    sp_write_log_sum(a, t->common.log_sum, n, h, q0, count, w->maximum, w->sum);
    sp_head_divide_pairs(a, t->common.out, offset, count, w->output, w->sum, w->weights);
}

static void attend(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->common.shape;
    workspace w;
    workspace_lay(t, t->common.scratch + slot * workspace_lay(t, NULL, &w), &w);
    memset(w.query, 0, (size_t)(t->depth * SP_TILE) * sizeof *w.query);
    int64_t tiles = sp_ceil_div(a->queries, SP_TILE), laid = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / tiles, n = head / a->heads, h = head % a->heads;
        if (head != laid) lay_out_head(t, &w, n, h);
        laid = head;
        attend_tile(t, &w, n, h, i % tiles * SP_TILE);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = task_of(node);
    sp_attention_take(&t.common, in, out, scratch);
    sp_attention_deal(&t, state, attend);
}

sp_status sp_attention_amx(const sp_node *node, sp_kernel *out)
{
    task t = task_of(node);
    workspace w;
    SP_TRY(sp_workers_prepare(sp_attention_tiles(&t.common.shape), workspace_lay(&t, NULL, &w), out));
    out->run = run;
    return SP_OK;
}

#endif
