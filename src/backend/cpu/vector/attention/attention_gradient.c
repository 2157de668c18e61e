/* The gradient of attention with the scores computed again (Dao et al. 2022), one head at a time,
 * queries along the lanes as in the forward pass. With S^T = scale K Q^T, P^T = exp(S^T - log_sum)
 * and D[i] = dout[i] . out[i], per tile of queries and block of keys:
 *   dV += P^T dO
 *   dS^T = scale P^T (V dO^T - D)
 *   dK += dS^T Q
 *   dQ^T += K^T dS^T
 * Where products of bf16 pairs are fast, each operand is kept in pairs along the dimension that its
 * product sums over. */
#include "backend/cpu/vector/attention/attention.h"

enum { Q, K, V, OUT, LOG_SUM, DOUT };
enum { DQ, DK, DV };

#define KEY_LIMIT 96

typedef struct {
    sp_attention_shape shape;
    int64_t row;   /* the head's dimension rounded up to whole vectors */
    int64_t k_row; /* row length of workspace k and v in elements of 32 bits */
    void *const *in, *const *out;
    float *scratch;
} task;

/* One worker's memory. Lanes and rows past the head's end are 0. Where there are two layouts the
 * second is that of pairs. */
typedef struct {
    float *k, *v;                  /* [keys][row]; bf16 [keys][head] */
    float *k_columns;              /* k itself; pairs of keys [keys/2][head] */
    float *dk, *dv;                /* [keys][row] */
    float *q, *dout;               /* [SP_TILE][row]; pairs of queries [SP_TILE/2][row] */
    float *q_turned, *dout_turned; /* [head][SP_TILE]; pairs of channels [head/2][SP_TILE] */
    float *dq_turned;              /* [head][SP_TILE] */
    float *rows;                   /* [SP_TILE][head] */
    float *s, *dp;                 /* [key_block][SP_TILE]; become P^T and dS^T */
    float *p_rows, *ds_rows;       /* s and dp; bf16 [key_block][SP_TILE] */
    float *ds_columns;             /* dp; pairs of keys [key_block/2][SP_TILE] */
    float *shift, *delta;          /* [SP_TILE]; shift: -log_sum in units of log 2 */
} workspace;

/* Lays out one worker's memory from `base` on; returns how many floats it takes. */
static int64_t workspace_lay(const sp_attention_shape *a, float *base, workspace *w)
{
    int64_t used = 0, row = sp_round_up(a->head, SP_LANES), turned = a->head * SP_TILE,
            block = a->key_block * SP_TILE;
    w->k = sp_take(base, &used, a->keys * row);
    w->v = sp_take(base, &used, a->keys * row);
    w->k_columns = a->pairs ? sp_take(base, &used, sp_ceil_div(a->keys, 2) * a->head) : w->k;
    w->dk = sp_take(base, &used, a->keys * row);
    w->dv = sp_take(base, &used, a->keys * row);
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
                                 .depth = shape->pairs ? shape->head / 2 : shape->head,
                                 .pairs = shape->pairs});
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
                                 .c = c + b->k0 * t->row,
                                 .c_row = t->row,
                                 .rows = b->keys,
                                 .columns = t->row,
                                 .depth = sp_ceil_div(b->count, step),
                                 .accumulate = true,
                                 .pairs = t->shape.pairs});
}

/* dQ^T [head][lanes] += K^T dS^T */
static void key_product(const task *t, const workspace *w, const block *b)
{
    int64_t step = t->shape.pairs ? 2 : 1, a_column = t->shape.pairs ? t->shape.head : t->row;
    sp_product_run(&(sp_product){.a = w->k_columns + b->k0 / step * a_column,
                                 .a_row = 1,
                                 .a_column = a_column,
                                 .b = w->ds_columns,
                                 .b_row = SP_TILE,
                                 .c = w->dq_turned,
                                 .c_row = SP_TILE,
                                 .rows = t->shape.head,
                                 .columns = b->lanes,
                                 .depth = sp_ceil_div(b->keys, step),
                                 .accumulate = b->k0 > 0,
                                 .pairs = t->shape.pairs});
}

static void score_block(const task *t, const workspace *w, const block *b)
{
    head_product(t, b, w->k, w->q_turned, w->s);
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

static void gradient_block(const task *t, const workspace *w, const block *b)
{
    head_product(t, b, w->v, w->dout_turned, w->dp);
    if (t->shape.pairs)
        differentiate_pairs(w, &t->shape, b);
    else
        differentiate_block(w, &t->shape, b);
    query_product(t, b, w->p_rows, w->dout, w->dv);
    query_product(t, b, w->ds_rows, w->q, w->dk);
    key_product(t, w, b);
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
        gradient_block(t, w, &b);
    }
    sp_transpose(w->rows, a->head, w->dq_turned, SP_TILE, a->head, b.count);
    sp_head_write(a, t->out[DQ], sp_head_offset(a, a->queries, n, q0, h), b.count, w->rows,
                  a->head);
}

static void load_head(const task *t, const workspace *w, int64_t n, int64_t h)
{
    const sp_attention_shape *a = &t->shape;
    int64_t offset = sp_head_offset(a, a->keys, n, 0, h);
    if (a->pairs) {
        sp_head_copy(a, t->in[K], offset, a->keys, w->k);
        sp_head_copy(a, t->in[V], offset, a->keys, w->v);
        sp_head_pair(a, t->in[K], offset, a->keys, (uint32_t *)w->k_columns, a->head);
    } else {
        sp_head_read(a, t->in[K], offset, a->keys, w->k, t->row);
        sp_head_read(a, t->in[V], offset, a->keys, w->v, t->row);
    }
    memset(w->dk, 0, (size_t)(a->keys * t->row) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(a->keys * t->row) * sizeof *w->dv);
}

static void gradient_heads(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_attention_shape *a = &t->shape;
    workspace w;
    workspace_lay(a, t->scratch + slot * workspace_lay(a, NULL, &w), &w);
    /* What lies past the head in these rows is never written, and counts. */
    memset(w.q, 0, (size_t)(SP_TILE * t->row) * sizeof *w.q);
    memset(w.dout, 0, (size_t)(SP_TILE * t->row) * sizeof *w.dout);
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / a->heads, h = i % a->heads, offset = sp_head_offset(a, a->keys, n, 0, h);
        load_head(t, &w, n, h);
        for (int64_t q0 = 0; q0 < a->queries; q0 += SP_TILE)
            gradient_tile(t, &w, n, h, q0);
        sp_head_write(a, t->out[DK], offset, a->keys, w.dk, t->row);
        sp_head_write(a, t->out[DV], offset, a->keys, w.dv, t->row);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    task t = {
        .shape = sp_attention_shape_of(node, KEY_LIMIT), .in = in, .out = out, .scratch = scratch};
    t.row = sp_round_up(t.shape.head, SP_LANES);
    t.k_row = t.shape.pairs ? t.shape.head / 2 : t.row;
    sp_slots slots = {.items = t.shape.samples * t.shape.heads,
                      .slots = ((const sp_workers *)state)->slots,
                      .work = gradient_heads,
                      .context = &t};
    sp_slots_run(&slots);
}

sp_status SP_KERNEL(attention_gradient)(const sp_node *node, sp_kernel *out)
{
    if (!sp_attention_fits(node, node->in[LOG_SUM])) return SP_UNSUPPORTED;
    sp_attention_shape a = sp_attention_shape_of(node, KEY_LIMIT);
    workspace w;
    SP_TRY(sp_workers_prepare(a.samples * a.heads, workspace_lay(&a, NULL, &w), out));
    out->run = run;
    return SP_OK;
}
