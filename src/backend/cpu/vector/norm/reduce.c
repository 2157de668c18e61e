/* sum_leading, sum_middle, mean and loss. Sums have three levels (a strip of rows, a part, all
 * parts), which keeps the error of f32 small; the parts are cut by shape alone. */
#include <math.h>
#include "backend/cpu/vector/vector.h"

#define COLUMNS 512 /* columns that one worker sums at a time */
#define STRIP 32    /* rows summed before they are added to the part's sum */
#define MAX_PARTS 64
#define FLAT_PART 4096 /* elements of a part of a flat sum */

typedef struct {
    const float *partials;
    int64_t parts, columns;
    void *out;
    sp_dtype dtype;
} addition;

static void add_range(void *context, int64_t begin, int64_t end)
{
    const addition *a = context;
    int64_t per_row = sp_ceil_div(a->columns, COLUMNS);
    for (int64_t i = begin; i < end; i++) {
        int64_t o = i / per_row, c0 = i % per_row * COLUMNS;
        int64_t c1 = c0 + COLUMNS < a->columns ? c0 + COLUMNS : a->columns;
        for (int64_t c = c0; c < c1; c += SP_LANES) {
            sp_vf sum = {0};
            for (int64_t p = 0; p < a->parts; p++)
                sum += sp_vf_get(a->partials, (o * a->parts + p) * a->columns + c, c1 - c, false);
            sp_vf_put(a->out, o * a->columns + c, sum, c1 - c, a->dtype == SP_BF16);
        }
    }
}

void sp_add_partials(const float *partials, int64_t outer, int64_t parts, int64_t columns,
                     void *out, sp_dtype dtype)
{
    addition a = {partials, parts, columns, out, dtype};
    sp_parallel_for(outer * sp_ceil_div(columns, COLUMNS), 4, add_range, &a);
}

/* x [outer,rows,columns] -> [outer,columns] */
typedef struct {
    int64_t outer, rows, columns;
    int64_t part, parts; /* rows of a part */
    const void *x;
    bool half;
    float *partials; /* [outer,parts,columns] */
} column_sum;

static void cut_rows(column_sum *s)
{
    s->part = sp_ceil_div(s->rows, MAX_PARTS);
    if (s->part < 2 * STRIP) s->part = 2 * STRIP;
    s->parts = sp_ceil_div(s->rows, s->part);
    if (s->parts < 1) s->parts = 1;
}

SP_INLINE void sum_strip(const column_sum *s, int64_t at, int64_t rows, int64_t columns,
                         float *sums, const int vectors, const bool half)
{
    sp_vf sum[4] = {0};
    for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] +=
                sp_vf_get(s->x, at + r * s->columns + v * SP_LANES, columns - v * SP_LANES, half);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        int64_t left = columns - v * SP_LANES;
        sp_vf_put(sums, v * SP_LANES, sp_vf_get(sums, v * SP_LANES, left, false) + sum[v], left,
                  false);
    }
}

SP_INLINE void sum_part(const column_sum *s, int64_t at, int64_t rows, int64_t columns, float *sums,
                        const bool half)
{
    for (int64_t r = 0; r < rows; r += STRIP) {
        int64_t count = rows - r < STRIP ? rows - r : STRIP, c = 0;
        for (; c + 4 * SP_LANES <= columns; c += 4 * SP_LANES)
            sum_strip(s, at + r * s->columns + c, count, 4 * SP_LANES, sums + c, 4, half);
        for (; c < columns; c += SP_LANES)
            sum_strip(s, at + r * s->columns + c, count, columns - c, sums + c, 1, half);
    }
}

static void sum_range(void *context, int64_t begin, int64_t end)
{
    const column_sum *s = context;
    int64_t per_row = sp_ceil_div(s->columns, COLUMNS);
    for (int64_t i = begin; i < end; i++) {
        int64_t part = i / per_row, c = i % per_row * COLUMNS, r = part % s->parts * s->part;
        int64_t rows = s->rows - r < s->part ? s->rows - r : s->part;
        int64_t columns = s->columns - c < COLUMNS ? s->columns - c : COLUMNS;
        int64_t at = (part / s->parts * s->rows + r) * s->columns + c;
        float *sums = s->partials + part * s->columns + c;
        memset(sums, 0, (size_t)columns * sizeof *sums);
        if (s->half)
            sum_part(s, at, rows, columns, sums, true);
        else
            sum_part(s, at, rows, columns, sums, false);
    }
}

static void sum_columns(column_sum *s, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    s->x = in[0];
    s->half = node->in[0]->dtype == SP_BF16;
    s->partials = scratch;
    int64_t length = s->part * (s->columns < COLUMNS ? s->columns : COLUMNS);
    int64_t grain = length > 0 ? sp_ceil_div(8192, length) : 1;
    sp_parallel_for(s->outer * s->parts * sp_ceil_div(s->columns, COLUMNS), grain, sum_range, s);
    sp_add_partials(s->partials, s->outer, s->parts, s->columns, out[0], node->out[0]->dtype);
}

static size_t partial_bytes(const column_sum *s)
{
    return (size_t)(s->outer * s->parts * s->columns) * sizeof(float);
}

static column_sum leading_of(const sp_node *node)
{
    int64_t kept = sp_shape_count(node->out[0]->shape);
    column_sum s = {
        .outer = 1, .columns = kept, .rows = kept ? sp_shape_count(node->in[0]->shape) / kept : 0};
    cut_rows(&s);
    return s;
}

static void sum_leading_run(void *state, const sp_node *node, void *const *in, void *const *out,
                            void *scratch)
{
    (void)state;
    column_sum s = leading_of(node);
    sum_columns(&s, node, in, out, scratch);
}

sp_status SP_KERNEL(sum_leading)(const sp_node *node, sp_kernel *out)
{
    column_sum s = leading_of(node);
    out->run = sum_leading_run;
    out->scratch = partial_bytes(&s);
    return SP_OK;
}

static column_sum middle_of(const sp_node *node)
{
    sp_shape x = node->in[0]->shape;
    column_sum s = {.outer = x.dim[0], .rows = 1, .columns = x.dim[x.rank - 1]};
    for (int i = 1; i < x.rank - 1; i++)
        s.rows *= x.dim[i];
    cut_rows(&s);
    return s;
}

static void sum_middle_run(void *state, const sp_node *node, void *const *in, void *const *out,
                           void *scratch)
{
    (void)state;
    column_sum s = middle_of(node);
    sum_columns(&s, node, in, out, scratch);
}

sp_status SP_KERNEL(sum_middle)(const sp_node *node, sp_kernel *out)
{
    column_sum s = middle_of(node);
    out->run = sum_middle_run;
    out->scratch = partial_bytes(&s);
    return SP_OK;
}

/* Flat sums: each part in f32 lanes, the parts in double. */
typedef struct {
    const void *x, *target; /* target NULL: the mean of x */
    bool half, target_half;
    int64_t count, per_sample;
    const void *weight; /* per sample, or NULL */
    sp_dtype weight_dtype;
    sp_loss_options loss;
    double *partials;
} flat_sum;

/* Terms of one vector. d^2 / (sqrt(d^2 + c^2) + c) is huber's loss without the cancellation near 0,
 * where it is 0. */
static inline sp_vf terms(const flat_sum *s, int64_t at, int64_t left)
{
    sp_vf x = sp_vf_get(s->x, at, left, s->half);
    if (!s->target) return x;
    sp_vf d = x - sp_vf_get(s->target, at, left, s->target_half);
    if (s->loss.kind == SP_LOSS_L2) return d * d;
    float c = (float)s->loss.huber_c;
    sp_vf f = d * d / (sp_vf_sqrt(d * d + c * c) + c);
    return sp_vf_select_less(sp_vf_abs(d), sp_vf_set(1e-18f), sp_vf_set(0), f);
}

/* Sum of elements begin..end-1, all of one sample. */
static double flat_run(const flat_sum *s, int64_t begin, int64_t end)
{
    sp_vf sum[2] = {0};
    int v = 0;
    for (int64_t i = begin; i < end; i += SP_LANES, v ^= 1)
        sum[v] += terms(s, i, end - i);
    double weight = s->weight ? sp_load(s->weight, s->weight_dtype, begin / s->per_sample) : 1;
    return weight * (double)sp_vf_sum(sum[0] + sum[1]);
}

static void flat_range(void *context, int64_t begin, int64_t end)
{
    const flat_sum *s = context;
    for (int64_t p = begin; p < end; p++) {
        int64_t last = (p + 1) * FLAT_PART < s->count ? (p + 1) * FLAT_PART : s->count;
        double sum = 0;
        for (int64_t i = p * FLAT_PART; i < last;) {
            int64_t sample_end = (i / s->per_sample + 1) * s->per_sample,
                    stop = sample_end < last ? sample_end : last;
            sum += flat_run(s, i, stop);
            i = stop;
        }
        s->partials[p] = sum;
    }
}

static void flat_mean(flat_sum *s, const sp_node *node, void *const *out)
{
    int64_t parts = sp_ceil_div(s->count, FLAT_PART);
    sp_parallel_for(parts, 4, flat_range, s);
    double sum = 0;
    for (int64_t p = 0; p < parts; p++)
        sum += s->partials[p];
    sp_store(out[0], node->out[0]->dtype, 0, sum / (double)s->count);
}

static sp_status prepare_flat(const sp_node *node, sp_kernel *out)
{
    out->scratch =
        (size_t)sp_ceil_div(sp_shape_count(node->in[0]->shape), FLAT_PART) * sizeof(double);
    return SP_OK;
}

static void mean_run(void *state, const sp_node *node, void *const *in, void *const *out,
                     void *scratch)
{
    (void)state;
    int64_t count = sp_shape_count(node->in[0]->shape);
    flat_sum s = {.x = in[0],
                  .half = node->in[0]->dtype == SP_BF16,
                  .count = count,
                  .per_sample = count,
                  .partials = scratch};
    flat_mean(&s, node, out);
}

sp_status SP_KERNEL(mean)(const sp_node *node, sp_kernel *out)
{
    out->run = mean_run;
    return prepare_flat(node, out);
}

static void loss_run(void *state, const sp_node *node, void *const *in, void *const *out,
                     void *scratch)
{
    (void)state;
    int64_t count = sp_shape_count(node->in[0]->shape);
    flat_sum s = {.x = in[0],
                  .target = in[1],
                  .half = node->in[0]->dtype == SP_BF16,
                  .target_half = node->in[1]->dtype == SP_BF16,
                  .count = count,
                  .per_sample = count,
                  .loss = *(const sp_loss_options *)node->options,
                  .partials = scratch};
    if (node->in[2]) {
        s.weight = in[2];
        s.weight_dtype = node->in[2]->dtype;
        s.per_sample = count / node->in[2]->shape.dim[0];
    }
    flat_mean(&s, node, out);
}

sp_status SP_KERNEL(loss)(const sp_node *node, sp_kernel *out)
{
    out->run = loss_run;
    return prepare_flat(node, out);
}
