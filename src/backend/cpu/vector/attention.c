/* softmax(scale q k^T) v in one pass over the keys, with running maxima and sums (Milakov and
 * Gimelshein 2018; Dao et al. 2022). K and V of a head are unpacked once per worker; a tile of
 * queries then meets them block by block. */
#include "backend/cpu/vector/attention.h"

#define KEY_LIMIT 96 /* scores of a block: 24 KiB */

typedef struct {
    sp_attention_shape shape;
    const void *q, *k, *v;
    void *out;
    float *scratch;
} task;

/* One worker's memory. */
typedef struct {
    float *keys,
        *values;    /* [keys][head]; in pairs: bf16 [keys][head] and pairs of keys [keys/2][head] */
    float *query;   /* [head][SP_TILE]; in pairs [head/2][SP_TILE] */
    float *output;  /* [head][SP_TILE], not yet divided by `sum` */
    float *rows;    /* [SP_TILE][head] */
    float *scores;  /* [key_block][SP_TILE] */
    float *weights; /* scores in pairs of keys, [key_block/2][SP_TILE]; only for pairs */
    float *maximum, *sum; /* [SP_TILE] */
} workspace;

static int64_t workspace_floats(const sp_attention_shape *a)
{
    return 2 * sp_round_up(sp_round_up(a->keys, 2) * a->head, 16) + 3 * a->head * SP_TILE +
           a->key_block * (SP_TILE + SP_TILE / 2) + 2 * SP_TILE;
}

static workspace workspace_of(const task *t, int64_t slot)
{
    const sp_attention_shape *a = &t->shape;
    int64_t unpacked = sp_round_up(sp_round_up(a->keys, 2) * a->head, 16), tile = a->head * SP_TILE;
    workspace w = {.keys = t->scratch + slot * workspace_floats(a)};
    w.values = w.keys + unpacked;
    w.query = w.values + unpacked;
    w.output = w.query + tile;
    w.rows = w.output + tile;
    w.scores = w.rows + tile;
    w.weights = w.scores + a->key_block * SP_TILE;
    w.maximum = w.weights + a->key_block * (SP_TILE / 2);
    w.sum = w.maximum + SP_TILE;
    return w;
}

static void unpack_head(const task *t, const workspace *w, int64_t n, int64_t h)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->keys, n, 0, h);
    if (a->pairs) {
        sp_head_copy(a, t->k, offset, a->keys, w->keys);
        sp_head_pair(a, t->v, offset, a->keys, (uint32_t *)w->values, a->head);
    } else {
        sp_head_read(a, t->k, offset, a->keys, w->keys, a->head);
        sp_head_read(a, t->v, offset, a->keys, w->values, a->head);
    }
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

/* Weights of keys 2k and 2k+1 side by side as bf16; an odd last key is paired with weight 0. */
static void pair_weights(const workspace *w, int64_t keys, int64_t lanes)
{
    for (int64_t k = 0; k < keys; k += 2)
        for (int64_t j = 0; j < lanes; j += SP_LANES) {
            const float *scores = w->scores + k * SP_TILE + j;
            sp_vf odd = k + 1 < keys ? sp_vf_load(scores + SP_TILE) : (sp_vf){0};
            sp_vu low = __builtin_convertvector(sp_vf_to_bf16(sp_vf_load(scores)), sp_vu);
            sp_vu high = __builtin_convertvector(sp_vf_to_bf16(odd), sp_vu);
            sp_vf_store(w->weights + k / 2 * SP_TILE + j, (sp_vf)(low | high << 16));
        }
}

static void score_block(const task *t, const workspace *w, int64_t k0, int64_t keys, int64_t lanes)
{
    int64_t elements = t->shape.pairs ? t->shape.head / 2 : t->shape.head;
    sp_product_run(&(sp_product){.a = w->keys + k0 * elements,
                                 .a_row = elements,
                                 .a_column = 1,
                                 .b = w->query,
                                 .b_row = SP_TILE,
                                 .c = w->scores,
                                 .c_row = SP_TILE,
                                 .rows = keys,
                                 .columns = lanes,
                                 .depth = elements,
                                 .pairs = t->shape.pairs});
}

static void output_block(const task *t, const workspace *w, int64_t k0, int64_t keys, int64_t lanes)
{
    int64_t step = t->shape.pairs ? 2 : 1, head = t->shape.head;
    sp_product_run(&(sp_product){.a = w->values + k0 / step * head,
                                 .a_row = 1,
                                 .a_column = head,
                                 .b = t->shape.pairs ? w->weights : w->scores,
                                 .b_row = SP_TILE,
                                 .c = w->output,
                                 .c_row = SP_TILE,
                                 .rows = head,
                                 .columns = lanes,
                                 .depth = sp_ceil_div(keys, step),
                                 .accumulate = k0 > 0,
                                 .pairs = t->shape.pairs});
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
        if (a->causal) sp_mask_later_keys(w->scores, k0, keys, q0);
        softmax_block(w, a, keys, lanes, k0 == 0);
        if (t->shape.pairs) pair_weights(w, keys, lanes);
        output_block(t, w, k0, keys, lanes);
    }
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
    workspace w = workspace_of(t, slot);
    int64_t tiles = sp_ceil_div(a->queries, SP_TILE), unpacked = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / tiles, n = head / a->heads, h = head % a->heads;
        if (head != unpacked) unpack_head(t, &w, n, h);
        unpacked = head;
        attend_tile(t, &w, n, h, i % tiles * SP_TILE);
    }
}

/* Workers for a node: what the plan reserved scratch for. */
typedef struct {
    int64_t slots;
} prepared;

static int64_t item_count(const sp_attention_shape *a)
{
    return a->samples * a->heads * sp_ceil_div(a->queries, SP_TILE);
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = {.shape = sp_attention_shape_of(node, KEY_LIMIT),
              .q = in[0],
              .k = in[1],
              .v = in[2],
              .out = out[0],
              .scratch = scratch};
    sp_slots slots = {item_count(&t.shape), ((const prepared *)state)->slots, attend, &t};
    sp_slots_run(&slots);
}

sp_status SP_KERNEL(attention)(const sp_node *node, sp_kernel *out)
{
    if (!sp_attention_fits(node)) return SP_UNSUPPORTED;
    sp_attention_shape a = sp_attention_shape_of(node, KEY_LIMIT);
    prepared *state = sp_alloc(sizeof *state);
    if (!state) return SP_MEMORY;
    int64_t items = item_count(&a), threads = sp_threads();
    state->slots = items < threads ? items : threads;
    out->run = run;
    out->state = state;
    out->destroy = sp_free;
    out->scratch = (size_t)(state->slots * workspace_floats(&a)) * sizeof(float);
    return SP_OK;
}
