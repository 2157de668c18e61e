/* The gradient of attention with the scores computed again (Dao et al. 2022), one head at a time,
 * queries along the lanes as in the forward pass. With S^T = scale K Q^T, P^T = exp(S^T - log_sum)
 * and D[i] = dout[i] . out[i], per tile of queries and block of keys:
 *   dV += P^T dO
 *   dS^T = scale P^T (V dO^T - D)
 *   dK += dS^T Q
 *   dQ^T += K^T dS^T
 * Where there are fewer heads than would keep all workers busy, tiles of queries make dQ and then blocks of keys dK and
 * dV, each with P and dS of its own: seven products for five, and the same sums in the same order.
 * Where products of bf16 pairs are fast, each operand is kept in pairs along the dimension that its
 * product sums over; for AMX tiles the left factors lie with it one behind the other. */
#include "backend/cpu/vector/attention/attention.h"

enum { Q, K, V, OUT, LOG_SUM, DOUT };
enum { DQ, DK, DV };

#define KEY_LIMIT 96
#define LEAST_KEYS 32 /* of a piece */

/* What is made. */
enum { FOR_QUERIES = 1, FOR_KEYS = 2 };

typedef struct {
    int64_t slots;
    int64_t piece; /* keys that dK and dV are made of at a time, apart from dQ; 0: all three together, head by head */
} sharing;

typedef struct {
    sp_attention_shape shape;
    sharing how;
    int64_t row;   /* the head's dimension rounded up to whole vectors */
    int64_t k_row; /* row length of workspace k and v in elements of 32 bits */
    int64_t depth; /* of sums over channels */
    void *const *in, *const *out;
    float *scratch;
} task;

/* One worker's memory. Lanes and rows past the head's end are 0. Where there are two layouts the
 * second is that of pairs. */
typedef struct {
    float *k, *v;                  /* [keys][row]; bf16 [keys][head], for AMX [keys][depth] pairs */
    float *k_columns;              /* k itself; pairs of keys [keys/2][head], for AMX [head][keys/2] */
    float *k_pairs;                /* for AMX: the former, before it is turned */
    float *dk, *dv;                /* [keys][row], or of a piece */
    float *q, *dout;               /* [SP_TILE][row]; pairs of queries [SP_TILE/2][row] */
    float *q_turned, *dout_turned; /* [head][SP_TILE]; pairs of channels [depth][SP_TILE] */
    float *dq_turned;              /* [head][SP_TILE] */
    float *rows;                   /* [SP_TILE][head] */
    float *s, *dp;                 /* [key_block][SP_TILE]; become P^T and dS^T */
    float *p_rows, *ds_rows;       /* s and dp; bf16 [key_block][SP_TILE] */
    float *ds_columns;             /* dp; pairs of keys [key_block/2][SP_TILE] */
    float *shift, *delta;          /* [SP_TILE]; shift: -log_sum in units of log 2 */
} workspace;

/* What a sum over channels has: their number, or that of their pairs, of whole tiles where the rest is 0. */
static int64_t channel_depth(const sp_attention_shape *a)
{
    return a->amx ? sp_round_up(a->head / 2, SP_AMX_PAIRS) : a->pairs ? a->head / 2 : a->head;
}

static int64_t key_pairs(const sp_attention_shape *a)
{
    return sp_ceil_div(a->keys, 2);
}

/* Lays out one worker's memory from `base` on; returns how many floats it takes. */
static int64_t workspace_lay(const sp_attention_shape *a, const sharing *how, float *base, workspace *w)
{
    int64_t used = 0, made = how->piece ? how->piece : a->keys;
    int64_t row = sp_round_up(a->head, SP_LANES), depth = channel_depth(a), block = a->key_block * SP_TILE;
    int64_t turned = (a->head > depth ? a->head : depth) * SP_TILE;
    w->k = sp_take(base, &used, a->keys * row);
    w->v = sp_take(base, &used, a->keys * row);
    w->k_columns = a->pairs ? sp_take(base, &used, key_pairs(a) * a->head) : w->k;
    w->k_pairs = a->amx ? sp_take(base, &used, key_pairs(a) * a->head) : w->k_columns;
    w->dk = sp_take(base, &used, made * row);
    w->dv = sp_take(base, &used, made * row);
    w->q = sp_take(base, &used, SP_TILE * row);
    w->dout = sp_take(base, &used, SP_TILE * row);
    w->q_turned = sp_take(base, &used, turned);
    w->dout_turned = sp_take(base, &used, turned);
    w->dq_turned = sp_take(base, &used, turned);
    w->rows = sp_take(base, &used, turned);
    w->s = sp_take(base, &used, block);
    w->dp = sp_take(base, &used, block);
    w->p_rows = a->pairs ? sp_take(base, &used, block / 2) : w->s;
    w->ds_rows = a->pairs ? sp_take(base, &used, block / 2) : w->dp;
    w->ds_columns = a->pairs ? sp_take(base, &used, block / 2) : w->dp;
    w->shift = sp_take(base, &used, SP_TILE);
    w->delta = sp_take(base, &used, SP_TILE);
    return used;
}

/* A tile of queries against a block of keys. */
typedef struct {
    int64_t q0, count, lanes; /* queries; lanes: count rounded up to whole vectors */
    int64_t k0, keys;
} block;

/* C [keys][lanes] = A B for A [keys][head] of the block and B turned. */
static void head_product(const task *t, const block *b, const float *a, const float *turned,
                         float *c)
{
    const sp_attention_shape *shape = &t->shape;
    sp_product_run(&(sp_product){.a = a + b->k0 * t->k_row,
                                 .a_row = t->k_row,
                                 .a_column = 1,
                                 .b = turned,
                                 .b_row = SP_TILE,
                                 .c = c,
                                 .c_row = SP_TILE,
                                 .rows = b->keys,
                                 .columns = b->lanes,
                                 .depth = t->depth,
                                 .pairs = shape->pairs,
                                 .amx = shape->amx});
}

/* C [keys][row] += A B for A [keys][SP_TILE] and B [queries][row]. */
static void query_product(const task *t, const block *b, const float *a, const float *queries,
                          float *c)
{
    int64_t step = t->shape.pairs ? 2 : 1;
    sp_product_run(&(sp_product){.a = a,
                                 .a_row = SP_TILE / step,
                                 .a_column = 1,
                                 .b = queries,
                                 .b_row = t->row,
                                 .c = c + (t->how.piece ? 0 : b->k0) * t->row,
                                 .c_row = t->row,
                                 .rows = b->keys,
                                 .columns = t->row,
                                 .depth = sp_ceil_div(b->count, step),
                                 .accumulate = true,
                                 .pairs = t->shape.pairs,
                                 .amx = t->shape.amx});
}

/* dQ^T [head][lanes] += K^T dS^T */
static void key_product(const task *t, const workspace *w, const block *b)
{
    const sp_attention_shape *a = &t->shape;
    int64_t step = a->pairs ? 2 : 1;
    int64_t a_row = a->amx ? key_pairs(a) : 1, a_column = a->amx ? 1 : a->pairs ? a->head : t->row;
    sp_product_run(&(sp_product){.a = w->k_columns + b->k0 / step * a_column,
                                 .a_row = a_row,
                                 .a_column = a_column,
                                 .b = w->ds_columns,
                                 .b_row = SP_TILE,
                                 .c = w->dq_turned,
                                 .c_row = SP_TILE,
                                 .rows = a->head,
                                 .columns = b->lanes,
                                 .depth = sp_ceil_div(b->keys, step),
                                 .accumulate = b->k0 > 0,
                                 .pairs = a->pairs,
                                 .amx = a->amx});
}

static void score_block(const task *t, const workspace *w, const block *b)
{
    head_product(t, b, w->k, w->q_turned, w->s);
    sp_count_last_key(&t->shape, w->s, b->k0, b->keys);
    if (t->shape.causal) sp_mask_later_keys(w->s, b->k0, b->keys, b->q0);
}

/* 2^x; of weights that are rounded to bf16 not more exactly than that. */
SP_INLINE sp_vf exp2_as(sp_vf x, const bool half)
{
    return half ? sp_vf_exp2_brief(x) : sp_vf_exp2_negative(x);
}

/* P^T and dS^T of key k in the lanes j... */
SP_INLINE void differentiate(const workspace *w, const sp_attention_shape *a, int64_t k, int64_t j,
                             sp_vf *p, sp_vf *ds, const bool half)
{
    sp_vf score = sp_vf_load(w->s + k * SP_TILE + j);
    *p = exp2_as(score * a->log2_scale + sp_vf_load(w->shift + j), half);
    *ds = *p * (sp_vf_load(w->dp + k * SP_TILE + j) - sp_vf_load(w->delta + j)) * a->scale;
}

static void differentiate_block(const workspace *w, const sp_attention_shape *a, const block *b)
{
    sp_vf p, ds;
    for (int64_t k = 0; k < b->keys; k++)
        for (int64_t j = 0; j < b->lanes; j += SP_LANES) {
            differentiate(w, a, k, j, &p, &ds, false);
            sp_vf_store(w->s + k * SP_TILE + j, p);
            sp_vf_store(w->dp + k * SP_TILE + j, ds);
        }
}

/* The same in pairs: rows of bf16 for the products over queries, pairs of keys for the one over
 * keys. An odd last key is paired with 0. */
static void differentiate_pairs(const workspace *w, const sp_attention_shape *a, const block *b)
{
    for (int64_t k = 0; k < b->keys; k += 2)
        for (int64_t j = 0; j < b->lanes; j += SP_LANES) {
            sp_vf p, ds[2] = {0};
            for (int64_t i = 0; i < 2 && k + i < b->keys; i++) {
                differentiate(w, a, k + i, j, &p, &ds[i], true);
                sp_vf_store_as(w->p_rows, (k + i) * SP_TILE + j, p, true);
                sp_vf_store_as(w->ds_rows, (k + i) * SP_TILE + j, ds[i], true);
            }
            sp_vf_store(w->ds_columns + k / 2 * SP_TILE + j, sp_vf_pair_bf16(ds[0], ds[1]));
        }
}

static void gradient_block(const task *t, const workspace *w, const block *b, int made)
{
    head_product(t, b, w->v, w->dout_turned, w->dp);
    if (t->shape.pairs)
        differentiate_pairs(w, &t->shape, b);
    else
        differentiate_block(w, &t->shape, b);
    if (made & FOR_KEYS) {
        query_product(t, b, w->p_rows, w->dout, w->dv);
        query_product(t, b, w->ds_rows, w->q, w->dk);
    }
    if (made & FOR_QUERIES) key_product(t, w, b);
}

/* Queries and output gradients of a tile, both ways up, and delta. */
static void load_tile(const task *t, const workspace *w, int64_t n, int64_t h, const block *b)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->queries, n, b->q0, h);
    const float *log_sum = (const float *)t->in[LOG_SUM] + (n * a->heads + h) * a->queries + b->q0;
    bool half = a->dtype == SP_BF16;
    for (int64_t j = 0; j < SP_TILE; j++) {
        sp_vf delta = {0};
        int64_t at = offset + j * a->channels;
        for (int64_t c = 0; c < a->head && j < b->count; c += SP_LANES)
            delta += sp_vf_get(t->in[OUT], at + c, a->head - c, half) *
                     sp_vf_get(t->in[DOUT], at + c, a->head - c, half);
        w->delta[j] = sp_vf_sum(delta);
        w->shift[j] = j < b->count ? (float)(-1.4426950408889634 * (double)log_sum[j]) : 0;
    }
    sp_head_turn(a, t->in[Q], offset, b->count, w->rows, w->q_turned);
    sp_head_turn(a, t->in[DOUT], offset, b->count, w->rows, w->dout_turned);
    if (a->pairs) {
        sp_head_pair(a, t->in[Q], offset, b->count, (uint32_t *)w->q, t->row);
        sp_head_pair(a, t->in[DOUT], offset, b->count, (uint32_t *)w->dout, t->row);
    } else {
        sp_head_read(a, t->in[Q], offset, b->count, w->q, t->row);
        sp_head_read(a, t->in[DOUT], offset, b->count, w->dout, t->row);
    }
}

/* A tile of queries against the keys first .. end-1, `step` at a time. */
static void gradient_tile(const task *t, const workspace *w, int64_t n, int64_t h, int64_t q0, int64_t first,
                          int64_t end, int64_t step, int made)
{
    const sp_attention_shape *a = &t->shape;
    block b = {.q0 = q0, .count = a->queries - q0 < SP_TILE ? a->queries - q0 : SP_TILE};
    b.lanes = sp_round_up(b.count, SP_LANES);
    int64_t visible = sp_visible_keys(a, q0, b.count);
    if (end < visible) visible = end;
    if (first >= visible) return; /* later keys than the queries see: these have gradients from other tiles alone */
    load_tile(t, w, n, h, &b);
    for (b.k0 = first; b.k0 < visible; b.k0 += step) {
        b.keys = visible - b.k0 < step ? visible - b.k0 : step;
        score_block(t, w, &b);
        gradient_block(t, w, &b, made);
    }
    if (!(made & FOR_QUERIES)) return;
    sp_transpose(w->rows, a->head, w->dq_turned, SP_TILE, a->head, b.count);
    sp_head_write(a, t->out[DQ], sp_head_offset(a, a->queries, n, q0, h), b.count, w->rows,
                  a->head);
}

/* Keys first .. first+count-1 and their values; first is even. */
static void load_keys(const task *t, const workspace *w, int64_t n, int64_t h, int64_t first, int64_t count)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->keys, n, first, h), at = first * t->k_row;
    if (a->pairs) {
        sp_head_copy(a, t->in[K], offset, count, w->k + at, t->k_row);
        sp_head_copy(a, t->in[V], offset, count, w->v + at, t->k_row);
        float *pairs = w->k_pairs + first / 2 * a->head;
        sp_head_pair(a, t->in[K], offset, count, (uint32_t *)pairs, a->head);
        if (a->amx)
            sp_transpose(w->k_columns + first / 2, key_pairs(a), pairs, a->head, sp_ceil_div(count, 2), a->head);
    } else {
        sp_head_read(a, t->in[K], offset, count, w->k + at, t->row);
        sp_head_read(a, t->in[V], offset, count, w->v + at, t->row);
    }
}

static void clear_keys(const task *t, const workspace *w, int64_t count)
{
    memset(w->dk, 0, (size_t)(count * t->row) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(count * t->row) * sizeof *w->dv);
}

static void store_keys(const task *t, const workspace *w, int64_t n, int64_t h, int64_t first, int64_t count)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->keys, n, first, h);
    sp_head_write(a, t->out[DK], offset, count, w->dk, t->row);
    sp_head_write(a, t->out[DV], offset, count, w->dv, t->row);
}

static workspace workspace_of(const task *t, int64_t slot)
{
    const sp_attention_shape *a = &t->shape;
    workspace w;
    workspace_lay(a, &t->how, t->scratch + slot * workspace_lay(a, &t->how, NULL, &w), &w);
    /* What lies past the head in these rows is never written, and counts. */
    memset(w.q, 0, (size_t)(SP_TILE * t->row) * sizeof *w.q);
    memset(w.dout, 0, (size_t)(SP_TILE * t->row) * sizeof *w.dout);
    memset(w.q_turned, 0, (size_t)(t->depth * SP_TILE) * sizeof *w.q_turned);
    memset(w.dout_turned, 0, (size_t)(t->depth * SP_TILE) * sizeof *w.dout_turned);
    return w;
}

static void gradient_heads(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w = workspace_of(t, slot);
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / a->heads, h = i % a->heads;
        load_keys(t, &w, n, h, 0, a->keys);
        clear_keys(t, &w, a->keys);
        for (int64_t q0 = 0; q0 < a->queries; q0 += SP_TILE)
            gradient_tile(t, &w, n, h, q0, 0, a->keys, a->key_block, FOR_QUERIES | FOR_KEYS);
        store_keys(t, &w, n, h, 0, a->keys);
    }
}

/* dQ by tiles of queries. */
static void gradient_queries(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w = workspace_of(t, slot);
    int64_t tiles = sp_ceil_div(a->queries, SP_TILE), loaded = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / tiles, n = head / a->heads, h = head % a->heads;
        if (head != loaded) load_keys(t, &w, n, h, 0, a->keys);
        loaded = head;
        gradient_tile(t, &w, n, h, i % tiles * SP_TILE, 0, a->keys, a->key_block, FOR_QUERIES);
    }
}

/* dK and dV by pieces of the keys. */
static void gradient_keys(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w = workspace_of(t, slot);
    int64_t piece = t->how.piece, pieces = sp_ceil_div(a->keys, piece);
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / pieces, n = head / a->heads, h = head % a->heads, first = i % pieces * piece;
        int64_t count = a->keys - first < piece ? a->keys - first : piece;
        load_keys(t, &w, n, h, first, count);
        clear_keys(t, &w, count);
        for (int64_t q0 = 0; q0 < a->queries; q0 += SP_TILE)
            gradient_tile(t, &w, n, h, q0, first, first + count, piece, FOR_KEYS);
        store_keys(t, &w, n, h, first, count);
    }
}

/* ---- sharing out ---- */

/* Products that the busiest of `threads` does where `items` share `products` of each of `heads`. */
static double busiest(double products, int64_t heads, int64_t items, int64_t threads)
{
    return products * (double)heads * (double)sp_ceil_div(items, threads) / (double)items;
}

static sharing share_out(const sp_attention_shape *a)
{
    int64_t threads = sp_threads(), heads = a->samples * a->heads, tiles = heads * sp_ceil_div(a->queries, SP_TILE);
    int64_t piece = a->key_block;
    while (piece > LEAST_KEYS && heads * sp_ceil_div(a->keys, piece) < threads)
        piece = sp_round_up(sp_ceil_div(piece, 2), 2);
    int64_t pieces = heads * sp_ceil_div(a->keys, piece);
    /* A tenth for what is loaded twice. */
    double apart = 1.1 * (busiest(3, heads, tiles, threads) + busiest(4, heads, pieces, threads));
    if (!(apart < busiest(5, heads, heads, threads))) return (sharing){heads < threads ? heads : threads, 0};
    int64_t items = tiles > pieces ? tiles : pieces;
    return (sharing){items < threads ? items : threads, piece};
}

static void deal(task *t, int64_t items, void (*work)(void *context, int64_t begin, int64_t end, int64_t slot))
{
    sp_slots slots = {.items = items, .slots = t->how.slots < items ? t->how.slots : items, .work = work, .context = t};
    sp_slots_run(&slots);
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = {.shape = sp_attention_shape_of(node, KEY_LIMIT),
              .how = *(const sharing *)state,
              .in = in,
              .out = out,
              .scratch = scratch};
    const sp_attention_shape *a = &t.shape;
    int64_t heads = a->samples * a->heads;
    t.row = sp_round_up(a->head, SP_LANES);
    t.depth = channel_depth(a);
    t.k_row = a->pairs ? t.depth : t.row;
    if (!t.how.piece) {
        deal(&t, heads, gradient_heads);
        return;
    }
    deal(&t, heads * sp_ceil_div(a->queries, SP_TILE), gradient_queries);
    deal(&t, heads * sp_ceil_div(a->keys, t.how.piece), gradient_keys);
}

sp_status SP_KERNEL(attention_gradient)(const sp_node *node, sp_kernel *out)
{
    if (!sp_attention_fits(node, node->in[LOG_SUM])) return SP_UNSUPPORTED;
    sp_attention_shape a = sp_attention_shape_of(node, KEY_LIMIT);
    workspace w;
    sharing *state = sp_alloc(sizeof *state);
    if (!state) return SP_MEMORY;
    *state = share_out(&a);
    out->state = state;
    out->destroy = sp_free;
    out->scratch = (size_t)(state->slots * workspace_lay(&a, state, NULL, &w)) * sizeof(float);
    out->run = run;
    return SP_OK;
}
