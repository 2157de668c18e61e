/* layer_norm and its gradient, row by row while the row is in the first cache level: mean, then
 * squared deviations from it, then the result. */
#include <math.h>
#include "backend/cpu/vector/norm/norm.h"

enum { X, GAMMA, BETA, DY = 2 }; /* the gradient takes (x, gamma, dy) */

#define GRAIN_FLOATS 8192 /* elements that one thread takes at least */
#define MAX_PARTS 64      /* of the rows, for the sums of dgamma and dbeta */

typedef struct {
    int64_t rows, C;
    double epsilon;
    bool centred; /* the mean is taken off; else statistics are of a mean of 0 */
    bool half;    /* x, y, dy, dx are bf16 */
    const void *x, *dy;
    void *y;               /* or dx */
    float *gamma, *beta;   /* [C] */
    int64_t part;          /* rows of a part */
    float *dgamma, *dbeta; /* [parts][C] */
} task;

static int64_t part_size(int64_t rows)
{
    int64_t part = sp_ceil_div(rows, MAX_PARTS);
    return part < 16 ? 16 : part;
}

static task task_of(const sp_node *node, void *const *in, void *scratch)
{
    const sp_layer_norm_options *o = node->options;
    task t = {.C = sp_channels(node->in[X]),
              .epsilon = o->epsilon,
              .centred = !o->root_mean_square,
              .half = node->in[X]->dtype == SP_BF16,
              .x = in[X],
              .gamma = scratch};
    t.rows = sp_shape_count(node->in[X]->shape) / t.C;
    t.part = part_size(t.rows);
    t.beta = t.gamma + t.C;
    sp_norm_weights(node->in[GAMMA], in[GAMMA], t.C, 1, t.gamma);
    return t;
}

/* Mean and 1 / sqrt(var + eps) of the row at element `at`. */
SP_INLINE void statistics_f32(const task *t, int64_t at, float *mean, float *scale)
{
    int64_t C = t->C, c = 0;
    sp_vf sum[2] = {0}, squares[2] = {0};
    for (; c + 2 * SP_LANES <= C; c += 2 * SP_LANES)
        for (int v = 0; v < 2; v++)
            sum[v] += sp_vf_load((const float *)t->x + at + c + v * SP_LANES);
    for (; c < C; c += SP_LANES)
        sum[0] += sp_vf_get(t->x, at + c, C - c, false);
    *mean = t->centred ? sp_vf_sum(sum[0] + sum[1]) / (float)C : 0;
    for (c = 0; c + 2 * SP_LANES <= C; c += 2 * SP_LANES)
        for (int v = 0; v < 2; v++) {
            sp_vf d = sp_vf_load((const float *)t->x + at + c + v * SP_LANES) - *mean;
            squares[v] += d * d;
        }
    float rest = 0;
    for (; c < C; c++) {
        float d = ((const float *)t->x)[at + c] - *mean;
        rest += d * d;
    }
    float variance = (sp_vf_sum(squares[0] + squares[1]) + rest) / (float)C;
    *scale = (float)(1 / sqrt((double)variance + t->epsilon));
}

/* The same of bf16 in one pass, from the differences d with the first element: the squared
 * deviations are sum d^2 - (sum d)^2 / C. As that element counts itself, sum d^2 is at most C + 1
 * times the result, and no more than that cancels. */
SP_INLINE void statistics_bf16(const task *t, int64_t at, float *mean, float *scale)
{
    const uint16_t *x = (const uint16_t *)t->x + at;
    const float first = t->centred ? sp_bf16_to_f32(x[0]) : 0;
    int64_t C = t->C, c = 0;
    sp_vf sum[4] = {0}, squares[4] = {0};
    for (; c + 4 * SP_LANES <= C; c += 4 * SP_LANES)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            sp_vf d = sp_vf_load_bf16(x + c + v * SP_LANES) - first;
            sum[v] += d;
            squares[v] += d * d;
        }
    for (; c + SP_LANES <= C; c += SP_LANES) {
        sp_vf d = sp_vf_load_bf16(x + c) - first;
        sum[0] += d;
        squares[0] += d * d;
    }
    float total = sp_vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3])),
          total_squares = sp_vf_sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
    for (; c < C; c++) {
        float d = sp_bf16_to_f32(x[c]) - first;
        total += d;
        total_squares += d * d;
    }
    float offset = t->centred ? total / (float)C : 0, variance = (total_squares - total * offset) / (float)C;
    *mean = first + offset;
    *scale = 1 / sqrtf((variance < 0 ? 0 : variance) + (float)t->epsilon);
}

SP_INLINE void statistics(const task *t, int64_t at, const bool half, float *mean, float *scale)
{
    if (half)
        statistics_bf16(t, at, mean, scale);
    else
        statistics_f32(t, at, mean, scale);
}

SP_INLINE void norm_rows(const task *t, int64_t begin, int64_t end, const bool half)
{
    for (int64_t r = begin; r < end; r++) {
        float mean, scale;
        statistics(t, r * t->C, half, &mean, &scale);
        for (int64_t c = 0; c < t->C; c += SP_LANES) {
            int64_t left = t->C - c;
            sp_vf u = (sp_vf_get(t->x, r * t->C + c, left, half) - mean) * scale;
            sp_vf y = u * sp_vf_get(t->gamma, c, left, false) + sp_vf_get(t->beta, c, left, false);
            sp_vf_put(t->y, r * t->C + c, y, left, half);
        }
    }
}

static void norm_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    if (t->half)
        norm_rows(t, begin, end, true);
    else
        norm_rows(t, begin, end, false);
}

static void layer_norm_run(void *state, const sp_node *node, void *const *in, void *const *out,
                           void *scratch)
{
    (void)state;
    task t = task_of(node, in, scratch);
    t.y = out[0];
    sp_norm_weights(node->in[BETA], in[BETA], t.C, 0, t.beta);
    sp_parallel_for(t.rows, sp_ceil_div(GRAIN_FLOATS, t.C), norm_range, &t);
}

sp_status SP_KERNEL(layer_norm)(const sp_node *node, sp_kernel *out)
{
    if (node->out[0]->dtype != node->in[X]->dtype) return SP_UNSUPPORTED;
    out->run = layer_norm_run;
    out->scratch = (size_t)(2 * sp_channels(node->in[X])) * sizeof(float);
    return SP_OK;
}

SP_INLINE void gradient_row(const task *t, int64_t at, float *dgamma, float *dbeta, const bool half)
{
    float mean, scale;
    statistics(t, at, half, &mean, &scale);
    sp_vf sum_d = {0}, sum_du = {0};
    for (int64_t c = 0; c < t->C; c += SP_LANES) {
        int64_t left = t->C - c;
        sp_vf u = (sp_vf_get(t->x, at + c, left, half) - mean) * scale,
              dy = sp_vf_get(t->dy, at + c, left, half);
        sp_vf_put(dgamma, c, sp_vf_get(dgamma, c, left, false) + dy * u, left, false);
        sp_vf_put(dbeta, c, sp_vf_get(dbeta, c, left, false) + dy, left, false);
        sp_vf d = dy * sp_vf_get(t->gamma, c, left, false); /* 0 in lanes past the row's end */
        sum_d += d;
        sum_du += d * u;
    }
    float mean_d = t->centred ? sp_vf_sum(sum_d) / (float)t->C : 0, mean_du = sp_vf_sum(sum_du) / (float)t->C;
    for (int64_t c = 0; c < t->C; c += SP_LANES) {
        int64_t left = t->C - c;
        sp_vf u = (sp_vf_get(t->x, at + c, left, half) - mean) * scale;
        sp_vf d = sp_vf_get(t->dy, at + c, left, half) * sp_vf_get(t->gamma, c, left, false);
        sp_vf_put(t->y, at + c, (d - mean_d - u * mean_du) * scale, left, half);
    }
}

static void gradient_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    for (int64_t p = begin; p < end; p++) {
        float *dgamma = t->dgamma + p * t->C, *dbeta = t->dbeta + p * t->C;
        memset(dgamma, 0, (size_t)t->C * sizeof *dgamma);
        memset(dbeta, 0, (size_t)t->C * sizeof *dbeta);
        int64_t last = (p + 1) * t->part < t->rows ? (p + 1) * t->part : t->rows;
        for (int64_t r = p * t->part; r < last; r++)
            if (t->half)
                gradient_row(t, r * t->C, dgamma, dbeta, true);
            else
                gradient_row(t, r * t->C, dgamma, dbeta, false);
    }
}

static void layer_norm_gradient_run(void *state, const sp_node *node, void *const *in,
                                    void *const *out, void *scratch)
{
    (void)state;
    task t = task_of(node, in, scratch);
    int64_t parts = sp_ceil_div(t.rows, t.part);
    t.dy = in[DY];
    t.y = out[0];
    t.dgamma = t.beta;
    t.dbeta = t.dgamma + parts * t.C;
    sp_parallel_for(parts, 1, gradient_range, &t);
    sp_add_partials(t.dgamma, 1, parts, t.C, out[1], node->out[1]->dtype);
    sp_add_partials(t.dbeta, 1, parts, t.C, out[2], node->out[2]->dtype);
}

sp_status SP_KERNEL(layer_norm_gradient)(const sp_node *node, sp_kernel *out)
{
    sp_dtype dtype = node->in[X]->dtype;
    if (node->in[DY]->dtype != dtype || node->out[0]->dtype != dtype) return SP_UNSUPPORTED;
    int64_t C = sp_channels(node->in[X]), rows = sp_shape_count(node->in[X]->shape) / C;
    out->run = layer_norm_gradient_run;
    out->scratch = (size_t)(C * (1 + 2 * sp_ceil_div(rows, part_size(rows)))) * sizeof(float);
    return SP_OK;
}
