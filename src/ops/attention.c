/* attention, per head of D = C/heads channels:               (Vaswani et al. 2017)
 *   S[i,j] = scale * q[i] . k[j]; log_sum[i] = log sum_j exp S[i,j]
 *   S[i,Lk-1] = scale * q[i] . k[Lk-1] + log copies, for a last key that stands for so many equal ones
 *   P[i,j] = exp(S[i,j] - log_sum[i]); out[i] = sum_j P[i,j] v[j]
 *   causal: only j <= i
 *   q, out     [N,Lq,C]
 *   k, v       [N,Lk,C]
 *   log_sum    [N,heads,Lq], full
 * attention_gradient, with P from log_sum, delta[i] = dout[i] . out[i] and
 * dS[i,j] = scale * P[i,j] (dout[i] . v[j] - delta[i]):
 *   dq[i] = sum_j dS[i,j] k[j]; dk[j] = sum_i dS[i,j] q[i]; dv[j] = sum_i P[i,j] dout[i]
 *   dout, dq   [N,Lq,C]
 *   dk, dv     [N,Lk,C] */
#include "ops/rules.h"

enum { Q, K, V, OUT, LOG_SUM, DOUT }; /* inputs; attention has the first three */
enum { DQ, DK, DV };                  /* outputs of the gradient */

typedef struct {
    int64_t N, Lq, Lk, C, D;
    int heads;
    double scale;
    bool causal;
    double last_key; /* added to the last key's score */
} sizes;

static sizes sizes_of(const sp_node *node)
{
    const sp_attention_options *o = node->options;
    sp_shape q = sp_shape_in(node, Q);
    return (sizes){
        q.dim[0], q.dim[1], sp_dim(node->in[K], 1), q.dim[2], q.dim[2] / o->heads, o->heads,
        o->scale, o->causal, o->last_key_copies > 1 ? log((double)o->last_key_copies) : 0};
}

/* How many keys query i sees. */
static int64_t visible(const sizes *s, int64_t i)
{
    return s->causal && i + 1 < s->Lk ? i + 1 : s->Lk;
}

/* Product of row i of input a and row j of input b in sample n and one head. */
static double dot(const sp_node *node, const void *const *in, const sizes *s, int64_t n, int head,
                  int a, int64_t i, int b, int64_t j)
{
    int64_t row_a = (n * sp_dim(node->in[a], 1) + i) * s->C,
            row_b = (n * sp_dim(node->in[b], 1) + j) * s->C;
    double sum = 0;
    for (int64_t c = head * s->D; c < (head + 1) * s->D; c++)
        sum += sp_read(node, in, a, row_a + c) * sp_read(node, in, b, row_b + c);
    return sum;
}

/* S[i,j] */
static double score_of(const sp_node *node, const void *const *in, const sizes *s, int64_t n, int head, int64_t i,
                       int64_t j)
{
    return s->scale * dot(node, in, s, n, head, Q, i, K, j) + (j == s->Lk - 1 ? s->last_key : 0);
}

static sp_status check(const sp_node *node)
{
    const sp_attention_options *o = node->options;
    sp_shape q = sp_shape_in(node, Q), k = sp_shape_in(node, K);
    if (q.rank != 3) return sp_unexpected(node, "q", Q, "[N,Lq,C]");
    if (o->heads < 1 || q.dim[2] % o->heads)
        return sp_fail(SP_SHAPE, "%s: q has shape %s, whose channels are no multiple of %d heads",
                       node->op->name, sp_shape_text(q), o->heads);
    if (o->last_key_copies < 0)
        return sp_fail(SP_SHAPE, "%s: the last key cannot stand for %lld", node->op->name,
                       (long long)o->last_key_copies);
    if (k.rank != 3 || k.dim[0] != q.dim[0] || k.dim[1] < 1 || k.dim[2] != q.dim[2])
        return sp_misfit(node, "k", K, "q", Q);
    if (!sp_shape_equal(sp_shape_in(node, V), k)) return sp_misfit(node, "v", V, "k", K);
    return SP_OK;
}

static sp_shape log_sum_shape(const sp_node *node)
{
    const sp_attention_options *o = node->options;
    return sp_shape_of(sp_dim(node->in[Q], 0), o->heads, sp_dim(node->in[Q], 1));
}

static sp_status infer(sp_node *node)
{
    SP_TRY(check(node));
    node->out[0]->shape = sp_shape_in(node, Q);
    node->out[1]->shape = log_sum_shape(node);
    node->out[1]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dout, sp_value **dx)
{
    sp_value *dq =
        sp_attention_gradient(b, node->in[Q], node->in[K], node->in[V], node->out[0], node->out[1],
                              dout[0], *(const sp_attention_options *)node->options);
    if (!dq) return;
    for (int i = 0; i < 3; i++)
        if (sp_wants_gradient(node, i)) dx[i] = sp_output_of(dq, i);
}

/* The largest score of query i, and the logarithm of the sum of the scores' exponentials. */
static double log_sum_exp(const sp_node *node, const void *const *in, const sizes *s, int64_t n,
                          int head, int64_t i)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < visible(s, i); j++) {
        double score = score_of(node, in, s, n, head, i, j);
        if (score > largest) {
            sum *= exp(largest - score);
            largest = score;
        }
        sum += exp(score - largest);
    }
    return largest + log(sum);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    sizes s = sizes_of(node);
    double *p = sp_reference_scratch(node, out, s.Lk);
    if (!p) return;
    for (int64_t row = 0; row < s.N * s.heads * s.Lq; row++) {
        int64_t i = row % s.Lq, n = row / s.Lq / s.heads;
        int head = (int)(row / s.Lq % s.heads);
        double total = log_sum_exp(node, in, &s, n, head, i);
        sp_write(node, out, 1, row, total);
        for (int64_t j = 0; j < visible(&s, i); j++)
            p[j] = exp(score_of(node, in, &s, n, head, i, j) - total);
        for (int64_t c = head * s.D; c < (head + 1) * s.D; c++) {
            double sum = 0;
            for (int64_t j = 0; j < visible(&s, i); j++)
                sum += p[j] * sp_read(node, in, V, (n * s.Lk + j) * s.C + c);
            sp_write(node, out, 0, (n * s.Lq + i) * s.C + c, sum);
        }
    }
    sp_free(p);
}

static double flops(const sp_node *node)
{
    sizes s = sizes_of(node);
    return 4.0 * (double)s.N * (double)s.Lq * (double)s.Lk * (double)s.C;
}

const sp_op sp_op_attention = {
    .name = "attention",
    .outputs = 2,
    .options_size = sizeof(sp_attention_options),
    .full_outputs = 1 << 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
    .flops = flops,
};

sp_value *sp_attention(sp_builder *b, sp_value *q, sp_value *k, sp_value *v,
                       sp_attention_options options)
{
    return sp_node_make(b, &sp_op_attention, 3, 3, (sp_value *[]){q, k, v}, &options);
}

static sp_status gradient_infer(sp_node *node)
{
    SP_TRY(check(node));
    if (!sp_shape_equal(sp_shape_in(node, OUT), sp_shape_in(node, Q)))
        return sp_misfit(node, "out", OUT, "q", Q);
    if (!sp_shape_equal(sp_shape_in(node, LOG_SUM), log_sum_shape(node)))
        return sp_misfit(node, "log_sum", LOG_SUM, "q", Q);
    if (!sp_shape_equal(sp_shape_in(node, DOUT), sp_shape_in(node, Q)))
        return sp_misfit(node, "dout", DOUT, "q", Q);
    for (int i = 0; i < 3; i++)
        node->out[i]->shape = sp_shape_in(node, i);
    return SP_OK;
}

/* P and dS of one head, [Lq,Lk] each; zeros where a query does not see a key. */
static void head_matrices(const sp_node *node, const void *const *in, const sizes *s, int64_t n,
                          int head, double *P, double *dS)
{
    for (int64_t i = 0; i < s->Lq; i++) {
        double total = sp_read(node, in, LOG_SUM, (n * s->heads + head) * s->Lq + i);
        double delta = dot(node, in, s, n, head, DOUT, i, OUT, i);
        for (int64_t j = 0; j < s->Lk; j++) {
            int64_t at = i * s->Lk + j;
            P[at] = dS[at] = 0;
            if (j >= visible(s, i)) continue;
            P[at] = exp(score_of(node, in, s, n, head, i, j) - total);
            dS[at] = s->scale * P[at] * (dot(node, in, s, n, head, DOUT, i, V, j) - delta);
        }
    }
}

/* Rows of one head of output `to`: out[r] = sum_t matrix[r*step_r + t*step_t] from[t]. */
static void head_product(const sp_node *node, const void *const *in, void *const *out,
                         const sizes *s, int64_t n, int head, int to, const double *matrix,
                         int64_t step_r, int64_t step_t, int from)
{
    int64_t rows = sp_dim(node->out[to], 1), terms = sp_dim(node->in[from], 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = head * s->D; c < (head + 1) * s->D; c++) {
            double sum = 0;
            for (int64_t t = 0; t < terms; t++)
                sum += matrix[r * step_r + t * step_t] *
                       sp_read(node, in, from, (n * terms + t) * s->C + c);
            sp_write(node, out, to, (n * rows + r) * s->C + c, sum);
        }
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    sizes s = sizes_of(node);
    double *P = sp_reference_scratch(node, out, 2 * s.Lq * s.Lk), *dS = P ? P + s.Lq * s.Lk : NULL;
    if (!P) return;
    for (int64_t n = 0; n < s.N; n++)
        for (int head = 0; head < s.heads; head++) {
            head_matrices(node, in, &s, n, head, P, dS);
            head_product(node, in, out, &s, n, head, DQ, dS, s.Lk, 1, K);
            head_product(node, in, out, &s, n, head, DK, dS, 1, s.Lk, Q);
            head_product(node, in, out, &s, n, head, DV, P, 1, s.Lk, DOUT);
        }
    sp_free(P);
}

static double gradient_flops(const sp_node *node)
{
    return 2.5 * flops(node);
}

const sp_op sp_op_attention_gradient = {
    .name = "attention_gradient",
    .outputs = 3,
    .options_size = sizeof(sp_attention_options),
    .full_inputs = 1 << LOG_SUM,
    .infer = gradient_infer,
    .reference = gradient_reference,
    .flops = gradient_flops,
};

sp_value *sp_attention_gradient(sp_builder *b, sp_value *q, sp_value *k, sp_value *v, sp_value *out,
                                sp_value *log_sum, sp_value *dout, sp_attention_options options)
{
    return sp_node_make(b, &sp_op_attention_gradient, 6, 6,
                        (sp_value *[]){q, k, v, out, log_sum, dout}, &options);
}
