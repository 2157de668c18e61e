/* softmax(scale q k^T) v in one pass over the keys, with running maxima and sums (Milakov and
 * Gimelshein 2018; Dao et al. 2022). K and V of a head are unpacked once per worker; a tile of
 * queries then meets them block by block. */
#include "backend/cpu/vector/attention/attention.h"

#define KEY_LIMIT 96 /* scores of a block: 24 KiB */

typedef sp_attention_task task;

/* One worker's memory. */
typedef struct {
    float *keys, *values; /* [keys][head] */
    float *query;         /* [head][SP_TILE] */
    float *output;        /* [head][SP_TILE], not yet divided by `sum` */
    float *rows;          /* [SP_TILE][head] */
    float *scores;        /* [key_block][SP_TILE] */
    float *maximum, *sum; /* [SP_TILE] */
} workspace;

/* Lays out one worker's memory from `base` on; returns how many floats it takes. */
static int64_t workspace_lay(const sp_attention_shape *a, float *base, workspace *w)
{
    int64_t used = 0;
    w->keys = sp_take(base, &used, a->keys * a->head);
    w->values = sp_take(base, &used, a->keys * a->head);
    w->query = sp_take(base, &used, a->head * SP_TILE);
    w->output = sp_take(base, &used, a->head * SP_TILE);
    w->rows = sp_take(base, &used, a->head * SP_TILE);
    w->scores = sp_take(base, &used, a->key_block * SP_TILE);
    w->maximum = sp_take(base, &used, SP_TILE);
    w->sum = sp_take(base, &used, SP_TILE);
    return used;
}

static void unpack_head(const task *t, const workspace *w, int64_t n, int64_t h)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->keys, n, 0, h);
    sp_head_read(a, t->k, offset, a->keys, w->keys, a->head);
    sp_head_read(a, t->v, offset, a->keys, w->values, a->head);
}

/* Scores become weights e^(scale (s - maximum)); the maximum, the sum, and what was summed before
 * follow. */
static void softmax_block(const workspace *w, const sp_attention_shape *a, int64_t keys,
                          int64_t lanes, bool first)
{
    for (int64_t j = 0; j < lanes; j += SP_LANES) {
        float *scores = w->scores + j;
        sp_vf before = sp_vf_load(w->maximum + j), maximum = before;
        for (int64_t k = 0; k < keys; k++)
            maximum = sp_vf_max(sp_vf_load(scores + k * SP_TILE), maximum);
        sp_vf sum = {0};
        for (int64_t k = 0; k < keys; k++) {
            sp_vf weight =
                sp_vf_exp2_negative((sp_vf_load(scores + k * SP_TILE) - maximum) * a->log2_scale);
            sp_vf_store(scores + k * SP_TILE, weight);
            sum += weight;
        }
        sp_vf_store(w->maximum + j, maximum);
        if (first) {
            sp_vf_store(w->sum + j, sum);
            continue;
        }
        sp_vf fade = sp_vf_exp2_negative((before - maximum) * a->log2_scale);
        sp_vf_store(w->sum + j, sp_vf_load(w->sum + j) * fade + sum);
        for (int64_t c = 0; c < a->head; c++)
            sp_vf_store(w->output + c * SP_TILE + j,
                        sp_vf_load(w->output + c * SP_TILE + j) * fade);
    }
}

static void score_block(const task *t, const workspace *w, int64_t k0, int64_t keys, int64_t lanes)
{
    int64_t head = t->shape.head;
    sp_product_run(&(sp_product){.a = w->keys + k0 * head,
                                 .a_row = head,
                                 .a_column = 1,
                                 .b = w->query,
                                 .b_row = SP_TILE,
                                 .c = w->scores,
                                 .c_row = SP_TILE,
                                 .rows = keys,
                                 .columns = lanes,
                                 .depth = head});
}

static void output_block(const task *t, const workspace *w, int64_t k0, int64_t keys, int64_t lanes)
{
    int64_t head = t->shape.head;
    sp_product_run(&(sp_product){.a = w->values + k0 * head,
                                 .a_row = 1,
                                 .a_column = head,
                                 .b = w->scores,
                                 .b_row = SP_TILE,
                                 .c = w->output,
                                 .c_row = SP_TILE,
                                 .rows = head,
                                 .columns = lanes,
                                 .depth = keys,
                                 .accumulate = k0 > 0});
}

static void attend_tile(const task *t, const workspace *w, int64_t n, int64_t h, int64_t q0)
{
    const sp_attention_shape *a = &t->shape;
    int64_t count = a->queries - q0 < SP_TILE ? a->queries - q0 : SP_TILE,
            lanes = sp_round_up(count, SP_LANES);
    int64_t visible = sp_visible_keys(a, q0, count);
    sp_head_turn(a, t->q, sp_head_offset(a, a->queries, n, q0, h), count, w->rows, w->query);
    for (int64_t j = 0; j < SP_TILE; j++)
        w->maximum[j] = SP_MASKED;
    for (int64_t k0 = 0; k0 < visible; k0 += a->key_block) {
        int64_t keys = visible - k0 < a->key_block ? visible - k0 : a->key_block;
        score_block(t, w, k0, keys, lanes);
        sp_count_last_key(a, w->scores, k0, keys);
        if (a->causal) sp_mask_later_keys(w->scores, k0, keys, q0);
        softmax_block(w, a, keys, lanes, k0 == 0);
        output_block(t, w, k0, keys, lanes);
    }
    sp_write_log_sum(a, t->log_sum, n, h, q0, count, w->maximum, w->sum);
    for (int64_t j = 0; j < lanes; j += SP_LANES) {
        sp_vf share = 1.0f / sp_vf_load(w->sum + j);
        for (int64_t c = 0; c < a->head; c++)
            sp_vf_store(w->output + c * SP_TILE + j,
                        sp_vf_load(w->output + c * SP_TILE + j) * share);
    }
    sp_transpose(w->rows, a->head, w->output, SP_TILE, a->head, count);
    sp_head_write(a, t->out, sp_head_offset(a, a->queries, n, q0, h), count, w->rows, a->head);
}

static void attend(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w;
    workspace_lay(a, t->scratch + slot * workspace_lay(a, NULL, &w), &w);
    int64_t tiles = sp_ceil_div(a->queries, SP_TILE), unpacked = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / tiles, n = head / a->heads, h = head % a->heads;
        if (head != unpacked) unpack_head(t, &w, n, h);
        unpacked = head;
        attend_tile(t, &w, n, h, i % tiles * SP_TILE);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = {.shape = sp_attention_shape_of(node, KEY_LIMIT)};
    sp_attention_take(&t, in, out, scratch);
    sp_attention_deal(&t, state, attend);
}

sp_status SP_KERNEL(attention)(const sp_node *node, sp_kernel *out)
{
    if (!sp_attention_fits(node, node->out[1])) return SP_UNSUPPORTED;
    sp_attention_shape a = sp_attention_shape_of(node, KEY_LIMIT);
#if defined(__AVX512BF16__)
    if (a.amx) return sp_attention_amx(node, out);
#endif
    if (a.pairs) return sp_attention_pairs(node, out);
    workspace w;
    SP_TRY(sp_workers_prepare(sp_attention_tiles(&a), workspace_lay(&a, NULL, &w), out));
    out->run = run;
    return SP_OK;
}
