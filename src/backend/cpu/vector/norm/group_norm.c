/* group_norm and its gradient on channels-last tensors: x [N,S,C], S the middle dimensions
 * together. A sample's rows are cut into parts, and parts into blocks that stay in the first cache
 * level. A block's mean and squared deviations are taken channel by channel in two passes (bf16: in
 * one, of differences from the block's first row, for numbers that are known to eight bits), and
 * joined by Chan, Golub and LeVeque's formula, so nothing cancels however large the mean, and x is
 * read from memory once. */
#include <math.h>
#include "backend/cpu/norm_rows.h"
#include "backend/cpu/vector/norm/norm.h"

enum { X, GAMMA, BETA, DY };

#define BLOCK_FLOATS 8192 /* 32 KiB */
#define PART_BLOCKS 4
#define LEAST_PIECE 2048 /* elements of a piece, and of what a group's moments are joined from for one thread */

typedef struct {
    int64_t N, S, C, G;
    int64_t block, part, parts; /* rows of a block and of a part; parts of a sample */
    int64_t columns, pieces;    /* channels of a piece of a part, which is what workers take; pieces of a part */
    double epsilon;
    bool silu, half; /* half: x, y, dy, dx are bf16 */
} sizes;

static sizes sizes_of(const sp_node *node)
{
    const sp_group_norm_options *o = node->options;
    sp_shape x = node->in[X]->shape;
    sizes s = {.N = x.dim[0],
               .S = 1,
               .C = x.dim[x.rank - 1],
               .G = o->groups,
               .epsilon = o->epsilon,
               .silu = o->silu};
    for (int i = 1; i < x.rank - 1; i++)
        s.S *= x.dim[i];
    s.half = node->in[X]->dtype == SP_BF16;
    s.block = BLOCK_FLOATS / s.C < 4 ? 4 : BLOCK_FLOATS / s.C > 64 ? 64 : BLOCK_FLOATS / s.C;
    s.part = s.block * PART_BLOCKS;
    if (s.half) s.block = s.part; /* one pass: no need that a block stays in the cache */
    s.parts = sp_ceil_div(s.S, s.part);
    s.columns = s.C;
    s.pieces = 1;
    return s;
}

typedef struct {
    sizes s;
    const void *x, *dy;
    int64_t first_part; /* that x begins with; others come before it */
    void *y;             /* or dx */
    float *gamma, *beta; /* [C] */
    /* Per sample, [N][..][C] */
    float *first, *second; /* [N][parts][C]: per part means and squared deviations; in the gradient
                              later sums of dz and dz u */
    /* The group's, for each of its channels: u = (x - mean) * scale. Forward, scale has gamma in
     * it, and of bf16 mean becomes beta - mean * scale: y = x * scale + mean. */
    float *mean, *scale;
    float *dbeta, *dgamma;   /* sums of dz and of dz u over a sample */
    float *mean_d, *mean_du; /* the group's means of d and d u, for each of its channels */
} task;

/* The scratch is what stays to the end, and then what is kept of each part. */
static int64_t kept_floats(const sizes *s, bool gradient)
{
    return s->C * (2 + s->N * (gradient ? 6 : 2));
}

static int64_t part_floats(const sizes *s)
{
    return 2 * s->N * s->parts * s->C;
}

static size_t scratch_bytes(const sizes *s, bool gradient)
{
    return (size_t)(kept_floats(s, gradient) + part_floats(s)) * sizeof(float);
}

static task task_of(const sp_node *node, void *const *in, void *kept, void *parts, bool gradient)
{
    task t = {.s = sizes_of(node), .x = in[X], .gamma = kept, .first = parts};
    const sizes *s = &t.s;
    int64_t row = s->N * s->C;
    if (parts) t.second = t.first + row * s->parts;
    t.beta = t.gamma + s->C;
    t.mean = t.beta + s->C;
    t.scale = t.mean + row;
    if (gradient) {
        t.dy = in[DY];
        t.dbeta = t.scale + row;
        t.dgamma = t.dbeta + row;
        t.mean_d = t.dgamma + row;
        t.mean_du = t.mean_d + row;
    }
    sp_norm_weights(node->in[GAMMA], in[GAMMA], s->C, 1, t.gamma);
    sp_norm_weights(node->in[BETA], in[BETA], s->C, 0, t.beta);
    return t;
}

static task whole_task(const sp_node *node, void *const *in, void *scratch, bool gradient)
{
    sizes s = sizes_of(node);
    return task_of(node, in, scratch, (float *)scratch + kept_floats(&s, gradient), gradient);
}

/* The channels of a piece. */
typedef struct {
    int64_t begin, end;
} range;

static range piece_columns(const sizes *s, int64_t piece)
{
    int64_t begin = piece * s->columns;
    return (range){begin, s->C - begin < s->columns ? s->C : begin + s->columns};
}

/* The rows of part p of a sample. */
static int64_t part_rows(const sizes *s, int64_t p)
{
    return s->S - p * s->part < s->part ? s->S - p * s->part : s->part;
}

/* Means and sums of squared deviations of `rows` rows beginning at element `at`: `vectors` vectors
 * of channels at once. */
SP_INLINE void block_moments(const void *x, int64_t at, int64_t rows, int64_t C, int64_t left,
                             sp_vf *mean, sp_vf *squares, const int vectors)
{
    for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            mean[v] += sp_vf_get(x, at + r * C + v * SP_LANES, left - v * SP_LANES, false);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        mean[v] *= 1.0f / (float)rows;
    for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sp_vf d = sp_vf_get(x, at + r * C + v * SP_LANES, left - v * SP_LANES, false) - mean[v];
            squares[v] += d * d;
        }
}

/* The same of bf16, from the differences d with the first row: the squared deviations are sum d^2 -
 * (sum d)^2 / rows. As that row counts itself, sum d^2 is at most rows + 1 times the result, and
 * no more than that cancels. */
SP_INLINE void block_moments_shifted(const void *x, int64_t at, int64_t rows, int64_t C,
                                     int64_t left, sp_vf *mean, sp_vf *squares, const int vectors)
{
    sp_vf first[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        first[v] = sp_vf_get(x, at + v * SP_LANES, left - v * SP_LANES, true);
    for (int64_t r = 1; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sp_vf d = sp_vf_get(x, at + r * C + v * SP_LANES, left - v * SP_LANES, true) - first[v];
            mean[v] += d;
            squares[v] += d * d;
        }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        sp_vf sum = mean[v];
        mean[v] *= 1.0f / (float)rows;
        squares[v] = sp_vf_max(squares[v] - sum * mean[v], sp_vf_set(0) * sum);
        mean[v] += first[v];
    }
}

/* Joins the moments of `rows` rows beginning at element `at` to those of `before` rows: `vectors`
 * vectors of channels at once. */
SP_INLINE void join_block(const void *x, int64_t at, int64_t rows, int64_t C, int64_t left,
                          float *first, float *second, int64_t before, const int vectors,
                          const bool half)
{
    sp_vf mean[4] = {0}, squares[4] = {0};
    if (half)
        block_moments_shifted(x, at, rows, C, left, mean, squares, vectors);
    else
        block_moments(x, at, rows, C, left, mean, squares, vectors);
    float share = (float)rows / (float)(before + rows);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        int64_t rest = left - v * SP_LANES;
        if (before > 0) {
            sp_vf earlier = sp_vf_get(first, v * SP_LANES, rest, false), d = mean[v] - earlier;
            mean[v] = earlier + d * share;
            squares[v] +=
                sp_vf_get(second, v * SP_LANES, rest, false) + d * d * (share * (float)before);
        }
        sp_vf_put(first, v * SP_LANES, mean[v], rest, false);
        sp_vf_put(second, v * SP_LANES, squares[v], rest, false);
    }
}

SP_INLINE void moments_of_part(const task *t, int64_t n, int64_t p, range of, const bool half)
{
    const sizes *s = &t->s;
    int64_t rows = part_rows(s, p), at = (n * s->S + (p - t->first_part) * s->part) * s->C;
    float *first = t->first + (n * s->parts + p) * s->C,
          *second = t->second + (n * s->parts + p) * s->C;
    for (int64_t r = 0; r < rows; r += s->block) {
        int64_t count = rows - r < s->block ? rows - r : s->block, c = of.begin;
        for (; c + 4 * SP_LANES <= of.end; c += 4 * SP_LANES)
            join_block(t->x, at + r * s->C + c, count, s->C, 4 * SP_LANES, first + c, second + c, r,
                       4, half);
        for (; c < of.end; c += SP_LANES)
            join_block(t->x, at + r * s->C + c, count, s->C, s->C - c, first + c, second + c, r, 1,
                       half);
    }
}

static void part_moments(const task *t, int64_t n, int64_t p, range of)
{
    if (t->s.half)
        moments_of_part(t, n, p, of, true);
    else
        moments_of_part(t, n, p, of, false);
}

/* Mean and scale of groups of sample n from the moments of its parts. */
static void join_parts(const task *t, int64_t n, range groups)
{
    const sizes *s = &t->s;
    int64_t width = s->C / s->G;
    double count = (double)s->S * (double)width;
    for (int64_t g = groups.begin; g < groups.end; g++) {
        double mean = 0, squares = 0;
        for (int64_t p = 0; p < s->parts; p++) {
            const float *first = t->first + (n * s->parts + p) * s->C + g * width;
            double sum = 0;
            for (int64_t c = 0; c < width; c++)
                sum += (double)first[c];
            mean += sum * (double)part_rows(s, p) / count;
        }
        for (int64_t p = 0; p < s->parts; p++) {
            const float *first = t->first + (n * s->parts + p) * s->C + g * width,
                        *second = first + (t->second - t->first);
            for (int64_t c = 0; c < width; c++) {
                double d = (double)first[c] - mean;
                squares += (double)second[c] + (double)part_rows(s, p) * d * d;
            }
        }
        float scale = (float)(1 / sqrt(squares / count + s->epsilon));
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            float factor = t->dy ? scale : scale * t->gamma[c];
            bool shifts = s->half && !t->dy;
            t->mean[n * s->C + c] = shifts ? t->beta[c] - (float)mean * factor : (float)mean;
            t->scale[n * s->C + c] = factor;
        }
    }
}

/* `rows` rows of x from element `at`, of sample n, to y from element `to`. */
SP_INLINE void apply_rows(const task *t, int64_t n, int64_t at, int64_t to, int64_t rows, range of, const bool half,
                          const bool silu)
{
    const sizes *s = &t->s;
    const float *mean = t->mean + n * s->C, *scale = t->scale + n * s->C;
    for (int64_t r = 0; r < rows; r++, at += s->C, to += s->C)
        for (int64_t c = of.begin; c < of.end; c += SP_LANES) {
            int64_t left = s->C - c;
            sp_vf x = sp_vf_get(t->x, at + c, left, half),
                  factor = sp_vf_get(scale, c, left, false);
            sp_vf shift = sp_vf_get(mean, c, left, false);
            sp_vf z = half ? x * factor + shift
                           : (x - shift) * factor + sp_vf_get(t->beta, c, left, false);
            sp_vf_put(t->y, to + c, silu ? z * sp_vf_sigmoid_as(z, half) : z, left, half);
        }
}

static void apply_to(const task *t, int64_t n, int64_t at, int64_t to, int64_t rows, range of)
{
    if (t->s.half && t->s.silu)
        apply_rows(t, n, at, to, rows, of, true, true);
    else if (t->s.half)
        apply_rows(t, n, at, to, rows, of, true, false);
    else if (t->s.silu)
        apply_rows(t, n, at, to, rows, of, false, true);
    else
        apply_rows(t, n, at, to, rows, of, false, false);
}

static void part_apply(const task *t, int64_t n, int64_t p, range of)
{
    int64_t at = (n * t->s.S + p * t->s.part) * t->s.C;
    apply_to(t, n, at, at, part_rows(&t->s, p), of);
}

typedef void part_function(const task *t, int64_t n, int64_t p, range columns);
typedef void group_function(const task *t, int64_t n, range groups);

/* Steps over all parts of all samples, each step followed by one over the groups (which may be NULL). No two channels
 * meet in the first, no two groups in the second. */
typedef struct {
    task *t;
    part_function *part[3];
    group_function *group[3];
    int steps, step;    /* step: the one that runs, when they run one at a time */
} schedule;

static void run_pieces(void *context, int64_t begin, int64_t end)
{
    const schedule *all = context;
    const sizes *s = &all->t->s;
    for (int64_t i = begin; i < end; i++) {
        int64_t part = all->t->first_part + i / s->pieces;
        all->part[all->step](all->t, part / s->parts, part % s->parts, piece_columns(s, i % s->pieces));
    }
}

static void run_groups(void *context, int64_t begin, int64_t end)
{
    const schedule *all = context;
    int64_t G = all->t->s.G;
    for (int64_t i = begin; i < end;) {
        int64_t n = i / G, left = end - i, rest = G - i % G, count = left < rest ? left : rest;
        all->group[all->step](all->t, n, (range){i % G, i % G + count});
        i += count;
    }
}

static void run_whole_samples(void *context, int64_t begin, int64_t end)
{
    const schedule *all = context;
    const sizes *s = &all->t->s;
    for (int64_t n = begin; n < end; n++)
        for (int k = 0; k < all->steps; k++) {
            for (int64_t p = 0; p < s->parts; p++)
                all->part[k](all->t, n, p, (range){0, s->C});
            if (all->group[k]) all->group[k](all->t, n, (range){0, s->G});
        }
}

/* Where there are few parts, their channels are taken apart, to whole lines of a cache. */
static void choose_pieces(sizes *s, int64_t parts, int64_t threads)
{
    const int64_t unit = 4 * SP_LANES;
    int64_t wanted = threads > 1 ? sp_ceil_div(4 * threads, parts) : 1;
    int64_t most = s->part * s->C / LEAST_PIECE;
    if (wanted > most) wanted = most > 1 ? most : 1;
    s->columns = sp_round_up(sp_ceil_div(s->C, wanted), unit);
    s->pieces = sp_ceil_div(s->C, s->columns);
}

/* With enough samples each goes through all steps while it is in the cache; the sums are the same
 * either way. */
static void run_schedule(schedule *all)
{
    sizes *s = &all->t->s;
    int64_t threads = sp_threads(), joined = s->parts * (s->C / s->G);
    if (s->N % threads == 0 || s->N >= 4 * threads) {
        sp_parallel_for(s->N, 1, run_whole_samples, all);
        return;
    }
    choose_pieces(s, s->N * s->parts, threads);
    for (all->step = 0; all->step < all->steps; all->step++) {
        sp_parallel_for(s->N * s->parts * s->pieces, 1, run_pieces, all);
        if (all->group[all->step])
            sp_parallel_for(s->N * s->G, sp_ceil_div(LEAST_PIECE, joined), run_groups, all);
    }
}

static void group_norm_run(void *state, const sp_node *node, void *const *in, void *const *out,
                           void *scratch)
{
    (void)state;
    task t = whole_task(node, in, scratch, false);
    t.y = out[0];
    schedule all = {&t, {part_moments, part_apply}, {join_parts, NULL}, 2, 0};
    run_schedule(&all);
}

sp_status SP_KERNEL(group_norm)(const sp_node *node, sp_kernel *out)
{
    if (node->out[0]->dtype != node->in[X]->dtype) return SP_UNSUPPORTED;
    sizes s = sizes_of(node);
    out->run = group_norm_run;
    out->in_place = true;
    out->scratch = scratch_bytes(&s, false);
    return SP_OK;
}

/* ---- in two steps ---- */

static size_t row_bytes(const sizes *s)
{
    return (size_t)s->C * (s->half ? 2 : 4);
}

/* Behind what is kept of each part lie the rows of one that is not complete. */
sp_norm_scratch_bytes SP_ISA_SYMBOL(sp_norm_scratch)(const sp_node *node)
{
    sizes s = sizes_of(node);
    return (sp_norm_scratch_bytes){(size_t)kept_floats(&s, false) * sizeof(float),
                                   (size_t)part_floats(&s) * sizeof(float) + (size_t)s.part * row_bytes(&s)};
}

/* The moments of `count` parts, the first of which begins at x. */
static void take_parts(task *t, const void *x, int64_t first, int64_t count)
{
    if (count < 1) return;
    t->x = x;
    t->first_part = first;
    choose_pieces(&t->s, count, sp_threads());
    sp_parallel_for(count * t->s.pieces, 1, run_pieces, &(schedule){t, {part_moments}, {NULL}, 1, 0});
}

/* Completes a part that was begun, as far as there are rows for it; returns how many positions that took. */
static int64_t complete_part(task *t, char *begun, const char *rows, int64_t first, int64_t count)
{
    const sizes *s = &t->s;
    int64_t held = first % s->part, room = s->part - held, taken = count < room ? count : room;
    if (!held) return 0;
    memcpy(begun + (size_t)held * row_bytes(s), rows, (size_t)taken * row_bytes(s));
    if (taken == room || first + taken == s->S) take_parts(t, begun, first / s->part, 1);
    return taken;
}

void SP_ISA_SYMBOL(sp_norm_moments)(const sp_node *node, void *const *in, void *moments, void *parts, int64_t first,
                                    int64_t count)
{
    task t = task_of(node, in, moments, parts, false);
    const sizes *s = &t.s;
    char *begun = (char *)parts + (size_t)part_floats(s) * sizeof(float);
    const char *rows = in[X];
    int64_t end = first + count, taken = complete_part(&t, begun, rows, first, count);
    first += taken;
    rows += (size_t)taken * row_bytes(s);
    int64_t whole = end == s->S ? sp_ceil_div(end - first, s->part) : (end - first) / s->part;
    take_parts(&t, rows, first / s->part, whole);
    int64_t left = end - first - whole * s->part;
    if (left > 0) memcpy(begun, rows + (size_t)(whole * s->part) * row_bytes(s), (size_t)left * row_bytes(s));
    if (end < s->S) return;
    int64_t joined = s->parts * (s->C / s->G);
    sp_parallel_for(s->G, sp_ceil_div(LEAST_PIECE, joined), run_groups, &(schedule){&t, {NULL}, {join_parts}, 1, 0});
}

static void apply_some(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    int64_t C = t->s.C;
    apply_to(t, 0, begin * C, begin * C, end - begin, (range){0, C});
}

void SP_ISA_SYMBOL(sp_norm_rows)(const sp_node *node, void *const *in, void *moments, int64_t count, void *to)
{
    task t = task_of(node, in, moments, NULL, false);
    t.y = to;
    sp_parallel_for(count, t.s.part, apply_some, &t);
}

/* u and dz of one vector of channels c.. of element `at`. */
SP_INLINE sp_vf normalised_gradient(const task *t, int64_t n, int64_t at, int64_t c, int64_t left,
                                    const bool half, const bool silu, sp_vf *u)
{
    int64_t channel = n * t->s.C + c;
    *u = sp_vf_get(t->x, at + c, left, half) - sp_vf_get(t->mean, channel, left, false);
    *u *= sp_vf_get(t->scale, channel, left, false);
    sp_vf dy = sp_vf_get(t->dy, at + c, left, half);
    if (!silu) return dy;
    sp_vf z = *u * sp_vf_get(t->gamma, c, left, false) + sp_vf_get(t->beta, c, left, false);
    sp_vf s = sp_vf_sigmoid(z); /* exact, for the gradients of gamma and beta are f32 */
    return dy * (s * (1.0f + z * (1.0f - s)));
}

SP_INLINE void sums_of_part(const task *t, int64_t n, int64_t p, range of, const bool half, const bool silu)
{
    const sizes *s = &t->s;
    int64_t rows = part_rows(s, p), at = (n * s->S + p * s->part) * s->C;
    float *first = t->first + (n * s->parts + p) * s->C,
          *second = t->second + (n * s->parts + p) * s->C;
    for (int64_t r0 = 0; r0 < rows; r0 += s->block) {
        int64_t r1 = rows - r0 < s->block ? rows : r0 + s->block;
        for (int64_t c = of.begin; c < of.end; c += SP_LANES) {
            int64_t left = s->C - c;
            sp_vf sum = {0}, sum_u = {0}, u;
            for (int64_t r = r0; r < r1; r++) {
                sp_vf dz = normalised_gradient(t, n, at + r * s->C, c, left, half, silu, &u);
                sum += dz;
                sum_u += dz * u;
            }
            if (r0 > 0) {
                sum += sp_vf_get(first, c, left, false);
                sum_u += sp_vf_get(second, c, left, false);
            }
            sp_vf_put(first, c, sum, left, false);
            sp_vf_put(second, c, sum_u, left, false);
        }
    }
}

static void part_sums(const task *t, int64_t n, int64_t p, range of)
{
    if (t->s.half && t->s.silu)
        sums_of_part(t, n, p, of, true, true);
    else if (t->s.half)
        sums_of_part(t, n, p, of, true, false);
    else if (t->s.silu)
        sums_of_part(t, n, p, of, false, true);
    else
        sums_of_part(t, n, p, of, false, false);
}

/* Sums of groups of sample n over its parts, and their means of d = gamma dz and of d u. */
static void join_sums(const task *t, int64_t n, range groups)
{
    const sizes *s = &t->s;
    int64_t width = s->C / s->G;
    double count = (double)s->S * (double)width;
    for (int64_t g = groups.begin; g < groups.end; g++) {
        double d = 0, du = 0;
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            double sum = 0, sum_u = 0;
            for (int64_t p = 0; p < s->parts; p++) {
                sum += (double)t->first[(n * s->parts + p) * s->C + c];
                sum_u += (double)t->second[(n * s->parts + p) * s->C + c];
            }
            t->dbeta[n * s->C + c] = (float)sum;
            t->dgamma[n * s->C + c] = (float)sum_u;
            d += sum * (double)t->gamma[c];
            du += sum_u * (double)t->gamma[c];
        }
        for (int64_t c = n * s->C + g * width; c < n * s->C + (g + 1) * width; c++) {
            t->mean_d[c] = (float)(d / count);
            t->mean_du[c] = (float)(du / count);
        }
    }
}

SP_INLINE void gradient_rows(const task *t, int64_t n, int64_t p, range of, const bool half, const bool silu)
{
    const sizes *s = &t->s;
    int64_t rows = part_rows(s, p), at = (n * s->S + p * s->part) * s->C;
    for (int64_t r = 0; r < rows; r++, at += s->C)
        for (int64_t c = of.begin; c < of.end; c += SP_LANES) {
            int64_t left = s->C - c, channel = n * s->C + c;
            sp_vf u, dz = normalised_gradient(t, n, at, c, left, half, silu, &u);
            sp_vf d = dz * sp_vf_get(t->gamma, c, left, false) -
                      sp_vf_get(t->mean_d, channel, left, false);
            d -= u * sp_vf_get(t->mean_du, channel, left, false);
            sp_vf_put(t->y, at + c, d * sp_vf_get(t->scale, channel, left, false), left, half);
        }
}

static void part_gradient(const task *t, int64_t n, int64_t p, range of)
{
    if (t->s.half && t->s.silu)
        gradient_rows(t, n, p, of, true, true);
    else if (t->s.half)
        gradient_rows(t, n, p, of, true, false);
    else if (t->s.silu)
        gradient_rows(t, n, p, of, false, true);
    else
        gradient_rows(t, n, p, of, false, false);
}

static void group_norm_gradient_run(void *state, const sp_node *node, void *const *in,
                                    void *const *out, void *scratch)
{
    (void)state;
    task t = whole_task(node, in, scratch, true);
    t.y = out[0];
    schedule all = {
        &t, {part_moments, part_sums, part_gradient}, {join_parts, join_sums, NULL}, 3, 0};
    run_schedule(&all);
    sp_add_partials(t.dgamma, 1, t.s.N, t.s.C, out[1], node->out[1]->dtype);
    sp_add_partials(t.dbeta, 1, t.s.N, t.s.C, out[2], node->out[2]->dtype);
}

sp_status SP_KERNEL(group_norm_gradient)(const sp_node *node, sp_kernel *out)
{
    sp_dtype dtype = node->in[X]->dtype;
    if (node->in[DY]->dtype != dtype || node->out[0]->dtype != dtype) return SP_UNSUPPORTED;
    sizes s = sizes_of(node);
    out->run = group_norm_gradient_run;
    out->scratch = scratch_bytes(&s, true);
    return SP_OK;
}
