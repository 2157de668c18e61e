/* What attention and its gradient share. Queries lie along the lanes: scores are S^T
 * [keys][queries], so that every step of softmax works on whole vectors, and no head dimension or
 * number of keys is padded. Scores are in units of log 2 when exponentiated. */
#ifndef SP_BACKEND_CPU_VECTOR_ATTENTION_ATTENTION_H
#define SP_BACKEND_CPU_VECTOR_ATTENTION_ATTENTION_H
#include <float.h>
#include <math.h>
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"

#define SP_TILE 64 /* queries at a time; the row length of S^T and of everything transposed */
#define SP_MASKED (-FLT_MAX) /* below every score; finite, so that differences are numbers */

typedef struct {
    int64_t samples, heads, queries, keys, head, channels; /* head: its dimension */
    sp_dtype dtype;
    float scale, log2_scale; /* log2_scale = scale * log2(e) */
    float last_key; /* added to the last key's scores, which are not scaled yet: log(copies) / scale */
    bool causal;
    bool pairs; /* products of pairs of bf16: tensors are bf16, and tokens whole pairs of channels */
    bool amx;   /* these in AMX tiles */
    int64_t key_block; /* keys at a time */
} sp_attention_shape;

/* Blocks of at most `limit` keys, of nearly equal size, even, so that none is a small rest. */
static inline int64_t sp_key_block(int64_t keys, int64_t limit)
{
    return sp_round_up(sp_ceil_div(keys, sp_ceil_div(keys, limit)), 2);
}

static inline sp_attention_shape sp_attention_shape_of(const sp_node *node, int64_t key_limit)
{
    const sp_attention_options *options = node->options;
    const sp_value *q = node->in[0], *k = node->in[1];
    sp_attention_shape a = {
        .samples = sp_dim(q, 0),
        .heads = options->heads,
        .queries = sp_dim(q, 1),
        .keys = sp_dim(k, 1),
        .channels = sp_dim(q, 2),
        .dtype = q->dtype,
        .scale = (float)options->scale,
        .log2_scale = (float)(options->scale * 1.4426950408889634),
        .last_key =
            options->last_key_copies > 1 ? (float)(log((double)options->last_key_copies) / options->scale) : 0,
        .causal = options->causal,
    };
    a.head = a.channels / a.heads;
    a.pairs = sp_product_takes_pairs && a.dtype == SP_BF16 && a.head % 2 == 0;
    a.amx = a.pairs && sp_cpu_uses_amx();
    a.key_block = sp_key_block(a.keys > 0 ? a.keys : 1, key_limit);
    return a;
}

/* Mixed dtypes, and a scale that would turn the largest score into the smallest, are left to the
 * reference. log_sum is f32 always. */
static inline bool sp_attention_fits(const sp_node *node, const sp_value *log_sum)
{
    const sp_attention_options *options = node->options;
    bool fits = options->scale > 0 && isfinite(options->scale) && log_sum->dtype == SP_F32;
    for (int i = 0; i < node->inputs; i++)
        fits = fits && (node->in[i] == log_sum || node->in[i]->dtype == node->in[0]->dtype);
    for (int i = 0; i < node->outputs; i++)
        fits = fits && (node->out[i] == log_sum || node->out[i]->dtype == node->in[0]->dtype);
    return fits;
}

/* log_sum of `count` queries from the largest scores, or any near them, not yet scaled, and the
 * sums of the exponentials of the differences. */
static inline void sp_write_log_sum(const sp_attention_shape *a, float *log_sum, int64_t n,
                                    int64_t h, int64_t q0, int64_t count, const float *maximum,
                                    const float *sum)
{
    float *to = log_sum + (n * a->heads + h) * a->queries + q0;
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)((double)a->scale * (double)maximum[i] + log((double)sum[i]));
}

/* Workers that the plan reserves scratch for. */
typedef struct {
    int64_t slots;
} sp_workers;

/* A kernel that deals `items` pieces of work to workers with `floats` of scratch each. */
static inline sp_status sp_workers_prepare(int64_t items, int64_t floats, sp_kernel *out)
{
    sp_workers *state = sp_alloc(sizeof *state);
    if (!state) return SP_MEMORY;
    int64_t threads = sp_threads();
    state->slots = items < threads ? items : threads;
    out->state = state;
    out->destroy = sp_free;
    out->scratch = (size_t)(state->slots * floats) * sizeof(float);
    return SP_OK;
}

static inline int64_t sp_attention_tiles(const sp_attention_shape *a)
{
    return a->samples * a->heads * sp_ceil_div(a->queries, SP_TILE);
}

/* Of the forward pass: what every form of it works on. */
typedef struct {
    sp_attention_shape shape;
    const void *q, *k, *v;
    void *out;
    float *log_sum, *scratch;
} sp_attention_task;

static inline void sp_attention_take(sp_attention_task *t, void *const *in, void *const *out, void *scratch)
{
    t->q = in[0];
    t->k = in[1];
    t->v = in[2];
    t->out = out[0];
    t->log_sum = out[1];
    t->scratch = scratch;
}

/* Deals tiles of queries to the workers of `state`; the context of `work` begins with a sp_attention_task. */
static inline void sp_attention_deal(void *context, const void *state,
                                     void (*work)(void *context, int64_t begin, int64_t end, int64_t slot))
{
    const sp_attention_task *t = context;
    sp_slots slots = {.items = sp_attention_tiles(&t->shape),
                      .slots = ((const sp_workers *)state)->slots,
                      .work = work,
                      .context = context};
    sp_slots_run(&slots);
}

/* attention_amx.c; only where sp_cpu_uses_amx, of pairs. */
#define sp_attention_amx SP_ISA_SYMBOL(sp_attention_amx)
sp_status sp_attention_amx(const sp_node *node, sp_kernel *out);

/* attention_pairs.c; only where sp_product_takes_pairs. */
#define sp_attention_pairs SP_ISA_SYMBOL(sp_attention_pairs)
sp_status sp_attention_pairs(const sp_node *node, sp_kernel *out);

/* Where head `h` of token `t` of sample `n` begins in a tensor of `tokens` tokens. */
static inline int64_t sp_head_offset(const sp_attention_shape *a, int64_t tokens, int64_t n,
                                     int64_t t, int64_t h)
{
    return (n * tokens + t) * a->channels + h * a->head;
}

/* One head of `count` tokens to and from rows of floats of length `row` >= head; what lies past the
 * head is left alone. */
static inline void sp_head_read(const sp_attention_shape *a, const void *data, int64_t offset,
                                int64_t count, float *to, int64_t row)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t at = offset + i * a->channels;
        if (a->dtype == SP_F32)
            sp_row_copy(to + i * row, (const float *)data + at, a->head);
        else
            sp_row_from_bf16(to + i * row, (const uint16_t *)data + at, a->head);
    }
}

static inline void sp_head_write(const sp_attention_shape *a, void *data, int64_t offset,
                                 int64_t count, const float *from, int64_t row)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t at = offset + i * a->channels;
        if (a->dtype == SP_F32)
            sp_row_copy((float *)data + at, from + i * row, a->head);
        else
            sp_row_to_bf16((uint16_t *)data + at, from + i * row, a->head);
    }
}

/* One head of `count` tokens turned, [head][SP_TILE] (pairs: [head/2][SP_TILE] pairs of channels);
 * lanes past count are 0. `rows`, [SP_TILE][head], is used where the tensor cannot be turned as it
 * lies. */
static inline void sp_head_turn(const sp_attention_shape *a, const void *data, int64_t offset,
                                int64_t count, float *rows, float *to)
{
    int64_t elements = a->pairs ? a->head / 2 : a->head;
    if (count < SP_TILE) memset(to, 0, (size_t)(elements * SP_TILE) * sizeof *to);
    if (a->pairs) {
        sp_transpose(to, SP_TILE, (const uint16_t *)data + offset, a->channels / 2, count,
                     elements);
    } else if (a->dtype == SP_F32) {
        sp_transpose(to, SP_TILE, (const float *)data + offset, a->channels, count, elements);
    } else {
        sp_head_read(a, data, offset, count, rows, a->head);
        sp_transpose(to, SP_TILE, rows, a->head, count, elements);
    }
}

/* One head of `count` tokens of bf16 with tokens 2i and 2i+1 side by side: to[i][c], row length
 * `row`. An odd last token is paired with zeros. */
static inline void sp_head_pair(const sp_attention_shape *a, const void *data, int64_t offset,
                                int64_t count, uint32_t *to, int64_t row)
{
    const uint16_t *from = (const uint16_t *)data + offset;
    for (int64_t i = 0; i < count; i += 2)
        sp_row_pair(to + i / 2 * row, from + i * a->channels,
                    i + 1 < count ? from + (i + 1) * a->channels : NULL, a->head);
}

/* One head of `count` tokens of bf16 as it is, pairs of channels in rows of length `row`; those past the head are 0. */
static inline void sp_head_copy(const sp_attention_shape *a, const void *data, int64_t offset, int64_t count, float *to,
                                int64_t row)
{
    int64_t pairs = a->head / 2;
    for (int64_t i = 0; i < count; i++, to += row) {
        sp_row_copy(to, (const float *)((const uint16_t *)data + offset + i * a->channels), pairs);
        if (row > pairs) memset(to + pairs, 0, (size_t)(row - pairs) * sizeof *to);
    }
}

/* Outputs [head][SP_TILE] of `count` queries, divided by their sums, as bf16 to the tensor by way of `pairs`,
 * [head/2][SP_TILE]. */
static inline void sp_head_divide_pairs(const sp_attention_shape *a, void *data, int64_t offset, int64_t count,
                                        const float *output, const float *sum, float *pairs)
{
    for (int64_t j = 0; j < count; j += SP_LANES) {
        sp_vf share = 1.0f / sp_vf_load(sum + j);
        for (int64_t c = 0; c < a->head; c += 2) {
            sp_vf even = sp_vf_load(output + c * SP_TILE + j) * share,
                  odd = sp_vf_load(output + (c + 1) * SP_TILE + j) * share;
            sp_vf_store(pairs + c / 2 * SP_TILE + j, sp_vf_pair_bf16(even, odd));
        }
    }
    sp_transpose((uint16_t *)data + offset, a->channels / 2, pairs, SP_TILE, a->head / 2, count);
}

/* Keys k0.. that come after query q0 + lane are masked in that lane. */
static inline void sp_mask_later_keys(float *scores, int64_t k0, int64_t count, int64_t q0)
{
    for (int64_t k = 0; k < count; k++) {
        int64_t hidden = k0 + k - q0;
        for (int64_t lane = 0; lane < hidden && lane < SP_TILE; lane++)
            scores[k * SP_TILE + lane] = SP_MASKED;
    }
}

/* Scores of keys k0.., `count` of them, of which the last one of all may stand for several. */
static inline void sp_count_last_key(const sp_attention_shape *a, float *scores, int64_t k0, int64_t count)
{
    if (a->last_key == 0 || k0 + count != a->keys) return;
    for (int64_t lane = 0; lane < SP_TILE; lane++)
        scores[(count - 1) * SP_TILE + lane] += a->last_key;
}

/* The keys that any of the queries q0 .. q0+count-1 sees. */
static inline int64_t sp_visible_keys(const sp_attention_shape *a, int64_t q0, int64_t count)
{
    return a->causal && q0 + count < a->keys ? q0 + count : a->keys;
}

#endif
