/* The gradient of attention with the scores computed again (Dao et al. 2022), one head at a time, queries along the lanes as in the
 * forward pass. With S^T = scale K Q^T, P^T its softmax and D[i] = dout[i] . out[i], per tile of queries and block of keys:
 *   dV += P^T dO;  dP^T = V dO^T;  dS^T = scale P^T (dP^T - D);  dK += dS^T Q;  dQ^T += K^T dS^T
 * Few keys are one block, whose scores serve both the softmax and the products; else the softmax's maxima and sums come from a first
 * walk over the keys, and the scores are made once more. */
#include "backend/cpu/vector/attention.h"

enum { Q, K, V, OUT, DOUT };
enum { DQ, DK, DV };

#define ONE_BLOCK 128 /* keys that are a single block */
#define KEY_LIMIT 96

typedef struct {
    sp_attention_shape shape;
    int64_t row; /* the head's dimension rounded up to whole vectors */
    void *const *in, *const *out;
    float *scratch;
} task;

/* One worker's memory. Lanes and rows past the head's end are 0. */
typedef struct {
    float *k, *v;       /* [keys][row] */
    float *dk, *dv;     /* [keys][row] */
    float *q, *dout;    /* [SP_TILE][row] */
    float *qt, *doutt;  /* [head][SP_TILE] */
    float *dqt;         /* [head][SP_TILE] */
    float *s, *dp;      /* [key_block][SP_TILE]; become P^T and dS^T */
    float *maximum, *sum, *delta; /* [SP_TILE]; sum becomes its reciprocal */
} workspace;

static sp_attention_shape shape_of(const sp_node *node)
{
    return sp_attention_shape_of(node, sp_dim(node->in[K], 1) <= ONE_BLOCK ? ONE_BLOCK : KEY_LIMIT);
}

static int64_t workspace_floats(const sp_attention_shape *a)
{
    int64_t row = sp_round_up(a->head, SP_LANES);
    return sp_round_up(4 * a->keys * row + 2 * SP_TILE * row, 16) + (3 * a->head + 2 * a->key_block + 3) * SP_TILE;
}

static workspace workspace_of(const task *t, int64_t slot)
{
    const sp_attention_shape *a = &t->shape;
    int64_t keys = a->keys * t->row, tile = SP_TILE * t->row, turned = a->head * SP_TILE, block = a->key_block * SP_TILE;
    workspace w = {.qt = t->scratch + slot * workspace_floats(a)};
    w.doutt = w.qt + turned;
    w.dqt = w.doutt + turned;
    w.s = w.dqt + turned;
    w.dp = w.s + block;
    w.maximum = w.dp + block;
    w.sum = w.maximum + SP_TILE;
    w.delta = w.sum + SP_TILE;
    w.k = w.delta + SP_TILE;
    w.v = w.k + keys;
    w.dk = w.v + keys;
    w.dv = w.dk + keys;
    w.q = w.dv + keys;
    w.dout = w.q + tile;
    return w;
}

/* C (+)= A B for A and C with a row per key. */
static void by_key(const float *a, int64_t a_row, const float *b, int64_t b_row, int64_t columns, float *c, int64_t c_row,
                   int64_t keys, int64_t depth, bool accumulate)
{
    sp_product_run(&(sp_product){.a = a,
                                 .a_row = a_row,
                                 .a_column = 1,
                                 .b = b,
                                 .b_row = b_row,
                                 .c = c,
                                 .c_row = c_row,
                                 .rows = keys,
                                 .columns = columns,
                                 .depth = depth,
                                 .accumulate = accumulate});
}

/* A tile of queries against a block of keys. */
typedef struct {
    int64_t q0, count, lanes; /* queries; lanes: count rounded up to whole vectors */
    int64_t k0, keys;
} block;

static void score_block(const task *t, const workspace *w, const block *b)
{
    const sp_attention_shape *a = &t->shape;
    by_key(w->k + b->k0 * t->row, t->row, w->qt, SP_TILE, b->lanes, w->s, SP_TILE, b->keys, a->head, false);
    if (a->causal) sp_mask_later_keys(w->s, b->k0, b->keys, b->q0);
}

/* Running maxima and sums; the scores stay. */
static void softmax_statistics(const workspace *w, const sp_attention_shape *a, const block *b)
{
    for (int64_t j = 0; j < b->lanes; j += SP_LANES) {
        sp_vf before = sp_vf_load(w->maximum + j), maximum = before, sum = {0};
        for (int64_t k = 0; k < b->keys; k++)
            maximum = sp_vf_max(sp_vf_load(w->s + k * SP_TILE + j), maximum);
        for (int64_t k = 0; k < b->keys; k++)
            sum += sp_vf_exp2_negative((sp_vf_load(w->s + k * SP_TILE + j) - maximum) * a->log2_scale);
        sum += sp_vf_load(w->sum + j) * sp_vf_exp2_negative((before - maximum) * a->log2_scale);
        sp_vf_store(w->maximum + j, maximum);
        sp_vf_store(w->sum + j, sum);
    }
}

/* Scores become P^T, dP^T becomes dS^T. */
static void differentiate_softmax(const workspace *w, const sp_attention_shape *a, const block *b)
{
    for (int64_t j = 0; j < b->lanes; j += SP_LANES) {
        sp_vf maximum = sp_vf_load(w->maximum + j), share = sp_vf_load(w->sum + j), delta = sp_vf_load(w->delta + j);
        for (int64_t k = 0; k < b->keys; k++) {
            float *s = w->s + k * SP_TILE + j, *dp = w->dp + k * SP_TILE + j;
            sp_vf p = sp_vf_exp2_negative((sp_vf_load(s) - maximum) * a->log2_scale) * share;
            sp_vf_store(s, p);
            sp_vf_store(dp, p * (sp_vf_load(dp) - delta) * a->scale);
        }
    }
}

static void gradient_block(const task *t, const workspace *w, const block *b)
{
    const sp_attention_shape *a = &t->shape;
    by_key(w->v + b->k0 * t->row, t->row, w->doutt, SP_TILE, b->lanes, w->dp, SP_TILE, b->keys, a->head, false);
    differentiate_softmax(w, a, b);
    by_key(w->s, SP_TILE, w->dout, t->row, t->row, w->dv + b->k0 * t->row, t->row, b->keys, b->count, true);
    by_key(w->dp, SP_TILE, w->q, t->row, t->row, w->dk + b->k0 * t->row, t->row, b->keys, b->count, true);
    sp_product_run(&(sp_product){.a = w->k + b->k0 * t->row,
                                 .a_row = 1,
                                 .a_column = t->row,
                                 .b = w->dp,
                                 .b_row = SP_TILE,
                                 .c = w->dqt,
                                 .c_row = SP_TILE,
                                 .rows = a->head,
                                 .columns = b->lanes,
                                 .depth = b->keys,
                                 .accumulate = b->k0 > 0});
}

/* Queries and output gradients of a tile, both ways up, and delta. */
static void load_tile(const task *t, const workspace *w, int64_t n, int64_t h, const block *b)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->queries, n, b->q0, h);
    if (b->count < SP_TILE) memset(w->qt, 0, (size_t)(2 * a->head * SP_TILE) * sizeof(float)); /* doutt too */
    /* out rests in the place of q for the moment. */
    sp_head_read(a, t->in[OUT], offset, b->count, w->q, t->row);
    sp_head_read(a, t->in[DOUT], offset, b->count, w->dout, t->row);
    for (int64_t j = 0; j < SP_TILE; j++) {
        sp_vf delta = {0};
        for (int64_t c = 0; c < t->row && j < b->count; c += SP_LANES)
            delta += sp_vf_load(w->q + j * t->row + c) * sp_vf_load(w->dout + j * t->row + c);
        w->delta[j] = sp_vf_sum(delta);
        w->maximum[j] = SP_MASKED;
        w->sum[j] = 0;
    }
    sp_head_read(a, t->in[Q], offset, b->count, w->q, t->row);
    sp_transpose(w->qt, SP_TILE, w->q, t->row, b->count, a->head);
    sp_transpose(w->doutt, SP_TILE, w->dout, t->row, b->count, a->head);
}

static void gradient_tile(const task *t, const workspace *w, int64_t n, int64_t h, int64_t q0)
{
    const sp_attention_shape *a = &t->shape;
    block b = {.q0 = q0, .count = a->queries - q0 < SP_TILE ? a->queries - q0 : SP_TILE};
    b.lanes = sp_round_up(b.count, SP_LANES);
    load_tile(t, w, n, h, &b);
    int64_t visible = sp_visible_keys(a, q0, b.count);
    for (b.k0 = 0; b.k0 < visible; b.k0 += a->key_block) {
        b.keys = visible - b.k0 < a->key_block ? visible - b.k0 : a->key_block;
        score_block(t, w, &b);
        softmax_statistics(w, a, &b);
    }
    for (int64_t j = 0; j < b.lanes; j += SP_LANES)
        sp_vf_store(w->sum + j, 1.0f / sp_vf_load(w->sum + j));
    for (b.k0 = 0; b.k0 < visible; b.k0 += a->key_block) {
        b.keys = visible - b.k0 < a->key_block ? visible - b.k0 : a->key_block;
        if (visible > a->key_block) score_block(t, w, &b);
        gradient_block(t, w, &b);
    }
    sp_transpose(w->q, t->row, w->dqt, SP_TILE, a->head, b.count);
    sp_head_write(a, t->out[DQ], sp_head_offset(a, a->queries, n, q0, h), b.count, w->q, t->row);
}

static void gradient_heads(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w = workspace_of(t, slot);
    /* What lies past the head in each row is never written again, and must count as 0. */
    memset(w.k, 0, (size_t)((4 * a->keys + 2 * SP_TILE) * t->row) * sizeof(float));
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / a->heads, h = i % a->heads, offset = sp_head_offset(a, a->keys, n, 0, h);
        sp_head_read(a, t->in[K], offset, a->keys, w.k, t->row);
        sp_head_read(a, t->in[V], offset, a->keys, w.v, t->row);
        memset(w.dk, 0, (size_t)(2 * a->keys * t->row) * sizeof(float)); /* dv too */
        for (int64_t q0 = 0; q0 < a->queries; q0 += SP_TILE)
            gradient_tile(t, &w, n, h, q0);
        sp_head_write(a, t->out[DK], offset, a->keys, w.dk, t->row);
        sp_head_write(a, t->out[DV], offset, a->keys, w.dv, t->row);
    }
}

typedef struct {
    int64_t slots; /* workers that the plan reserved scratch for */
} prepared;

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = {.shape = shape_of(node), .in = in, .out = out, .scratch = scratch};
    t.row = sp_round_up(t.shape.head, SP_LANES);
    sp_slots slots = {t.shape.samples * t.shape.heads, ((const prepared *)state)->slots, gradient_heads, &t};
    sp_slots_run(&slots);
}

sp_status SP_KERNEL(attention_gradient)(const sp_node *node, sp_kernel *out)
{
    if (!sp_attention_fits(node)) return SP_UNSUPPORTED;
    sp_attention_shape a = shape_of(node);
    prepared *state = sp_alloc(sizeof *state);
    if (!state) return SP_MEMORY;
    int64_t items = a.samples * a.heads, threads = sp_threads();
    state->slots = items < threads ? items : threads;
    out->run = run;
    out->state = state;
    out->destroy = sp_free;
    out->scratch = (size_t)(state->slots * workspace_floats(&a)) * sizeof(float);
    return SP_OK;
}
