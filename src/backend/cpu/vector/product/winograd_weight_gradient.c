/* conv2d_weight_gradient by Winograd: the adjoint of F(m x m, 3 x 3), m = 2 or 4, with respect to the kernel,
 *   dg = G^T [ sum over tiles of (A dy A^T) * (B^T d B) ] G,
 * which is 16 products [M, tiles] [tiles, C] where the direct way takes 36, or 36 where it takes 144 (nine or 25, where
 * x is doubled). All tiles are transformed first, as f32 or in pairs of bf16; then workers take blocks of dW, or,
 * where these are few, points of blocks. Each sum is one chain over tiles, or pairs of them, in order, so
 * bits depend neither on the number of threads nor on who takes what. */
#include "backend/cpu/vector/product/weight_gradient.h"
#include "backend/cpu/vector/product/winograd.h"

#define DEPTH 128 /* steps of the sums at a time */
#define COLUMNS 64 /* channels of x that a block is made of */
#define PANEL SP_PRODUCT_PANEL /* channels of x that are multiplied together */

typedef struct {
    sp_winograd_shape x, dy; /* dy as a picture with the tiles of y */
    int64_t steps, points;       /* steps: of the sums, tiles or pairs of them */
    int64_t rows, columns;       /* channels of dy and of x of a block */
    int64_t x_stride, dy_stride; /* of points, in floats */
    bool by_point;               /* workers take points; sums of all blocks are kept */
    int64_t workers;             /* that scratch was reserved for */
} gradient;

typedef struct {
    const gradient *g;
    sp_winograd_tiles x, dy;
    float *dw, *sums;
} task;

/* ---- sizes ---- */

static int64_t zero_bytes(const gradient *g)
{
    int64_t channels = g->x.C > g->dy.C ? g->x.C : g->dy.C;
    return sp_round_up(channels * (int64_t)sizeof(float), 64);
}

static int64_t sums_count(const gradient *g)
{
    return g->points * g->rows * g->columns;
}

static int64_t across(const gradient *g)
{
    return sp_ceil_div(g->x.C, g->columns);
}

static int64_t block_count(const gradient *g)
{
    return sp_ceil_div(g->dy.C, g->rows) * across(g);
}

/* With many tiles one point of a block fills a second cache level, and transformed tiles, which
 * come from farther away, are read as seldom as can be; with few the sums of all its points do. */
static void plan_work(gradient *g)
{
    int64_t threads = sp_threads();
    bool many = g->x.tiles >= 128;
    g->rows = sp_part_of(g->dy.C, many ? 160 : 96, SP_LANES);
    g->columns = sp_part_of(g->x.C, many ? 320 : COLUMNS, COLUMNS);
    g->by_point = threads > 1 && block_count(g) < 4 * threads;
    int64_t items = block_count(g) * (g->by_point ? g->points : 1);
    g->workers = items < threads ? items : threads;
}

static size_t scratch_bytes(const gradient *g)
{
    int64_t sums = (g->by_point ? block_count(g) : g->workers) * sums_count(g);
    int64_t floats = g->points * (g->x_stride + g->dy_stride) + sums;
    return (size_t)zero_bytes(g) + (size_t)floats * sizeof(float);
}

/* ---- one run ---- */

/* G^T v of one row or column, in place: of output + 2 elements, `step` apart, the first three. */
SP_INLINE void kernel_line(sp_vf *v, const int step, const int output)
{
    if (output == 2) {
        sp_vf sum = 0.5f * (v[step] + v[2 * step]), difference = 0.5f * (v[step] - v[2 * step]);
        v[0] += sum;
        v[step] = difference;
        v[2 * step] = sum + v[3 * step];
        return;
    }
    sp_vf sum = v[step] + v[2 * step], difference = v[2 * step] - v[step];
    sp_vf sum2 = v[3 * step] + v[4 * step], difference2 = v[3 * step] - v[4 * step];
    v[0] = 0.25f * v[0] + 1.0f / 24 * (sum2 - 4.0f * sum);
    v[step] = 1.0f / 12 * (2.0f * difference + difference2);
    v[2 * step] = v[5 * step] + 1.0f / 6 * (sum2 - sum);
}

SP_INLINE void store_row(const sp_threes *three, const float *sums, int64_t point_stride, int64_t columns, float *to,
                         const int output, const bool doubled, const bool stream)
{
    const int tile = output + 2;
    for (int64_t c = 0; c < columns; c += SP_LANES, to += 9 * SP_LANES) {
        sp_vf v[SP_WINOGRAD_GRADIENT_POINTS];
#pragma GCC unroll 36
        for (int e = 0; e < tile * tile; e++)
            v[e] = sp_winograd_skips(e / tile, e % tile, doubled)
                       ? (sp_vf){0}
                       : sp_vf_load(sums + c +
                                    sp_winograd_point(e / tile, e % tile, tile, doubled) * point_stride);
#pragma GCC unroll 6
        for (int j = 0; j < tile; j++)
            kernel_line(v + j, tile, output);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            kernel_line(v + tile * i, 1, output);
        sp_vf taps[9];
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++)
            taps[i] = v[i / 3 * tile + i % 3];
        sp_store_taps(three, taps, to, stream);
    }
}

/* The part of dW that is made together. */
typedef struct {
    int64_t m, rows, c, columns;
} block;

static block block_of(const gradient *g, int64_t i)
{
    block b = {.m = i / across(g) * g->rows, .c = i % across(g) * g->columns};
    b.rows = g->dy.C - b.m < g->rows ? g->dy.C - b.m : g->rows;
    b.columns = g->x.C - b.c < g->columns ? g->x.C - b.c : g->columns;
    return b;
}

/* Sums of point e of a block: [panel][rows][PANEL or less]. */
static void multiply(const task *t, const block *b, int64_t e, float *sums)
{
    const gradient *g = t->g;
    const float *dy = t->dy.to + e * g->dy_stride + b->m * g->steps;
    sums += e * b->rows * b->columns;
    for (int64_t c = 0; c < b->columns; c += PANEL) {
        int64_t width = b->columns - c < PANEL ? b->columns - c : PANEL;
        const float *x = t->x.to + e * g->x_stride + (b->c + c) * g->steps;
        for (int64_t k = 0; k < g->steps; k += DEPTH)
            sp_product_run(&(sp_product){.a = dy + k * b->rows,
                                         .a_row = 1,
                                         .a_column = b->rows,
                                         .b = x + k * width,
                                         .b_row = width,
                                         .c = sums + c * b->rows,
                                         .c_row = width,
                                         .rows = b->rows,
                                         .columns = width,
                                         .depth = g->steps - k < DEPTH ? g->steps - k : DEPTH,
                                         .accumulate = k > 0,
                                         .pairs = g->x.half});
    }
}

static void store_rows(const task *t, const block *b, const float *sums, int64_t begin, int64_t end)
{
    const gradient *g = t->g;
    const sp_threes three = sp_threes_together();
    int64_t C = g->x.C, point_stride = b->rows * b->columns;
    bool stream = sp_streams_taps(t->dw, g->dy.C * C * 9);
    for (int64_t row = begin; row < end; row++) {
        float *to = t->dw + ((b->m + row) * C + b->c) * 9;
        for (int64_t c = 0; c < b->columns; c += PANEL) {
            int64_t width = b->columns - c < PANEL ? b->columns - c : PANEL;
            const float *from = sums + c * b->rows + row * width;
            if (g->x.output == 2 && g->x.doubled)
                store_row(&three, from, point_stride, width, to + c * 9, 2, true, stream);
            else if (g->x.output == 2)
                store_row(&three, from, point_stride, width, to + c * 9, 2, false, stream);
            else if (g->x.doubled)
                store_row(&three, from, point_stride, width, to + c * 9, 4, true, stream);
            else
                store_row(&three, from, point_stride, width, to + c * 9, 4, false, stream);
        }
    }
    if (stream) _mm_sfence();
}

static void run_blocks(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    float *sums = t->sums + slot * sums_count(t->g);
    for (int64_t i = begin; i < end; i++) {
        block b = block_of(t->g, i);
        for (int64_t e = 0; e < t->g->points; e++)
            multiply(t, &b, e, sums);
        store_rows(t, &b, sums, 0, b.rows);
    }
}

static void run_points(void *context, int64_t begin, int64_t end, int64_t slot)
{
    (void)slot;
    const task *t = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t place = i / t->g->points;
        block b = block_of(t->g, place);
        multiply(t, &b, i % t->g->points, t->sums + place * sums_count(t->g));
    }
}

static void store_blocks(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t place = i / t->g->rows, row = i % t->g->rows;
        block b = block_of(t->g, place);
        if (row < b.rows) store_rows(t, &b, t->sums + place * sums_count(t->g), row, row + 1);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)node;
    const gradient *g = state;
    char *zeros = scratch;
    float *x = (float *)(void *)(zeros + zero_bytes(g)), *dy = x + g->points * g->x_stride;
    memset(zeros, 0, (size_t)zero_bytes(g));
    task t = {.g = g,
              .x = {.shape = &g->x,
                    .data = in[0],
                    .zeros = zeros,
                    .doubled = g->x.doubled,
                    .to = x,
                    .point_stride = g->x_stride,
                    .panel = PANEL,
                    .steps = g->steps},
              .dy = {.shape = &g->dy,
                     .data = in[1],
                     .zeros = zeros,
                     .spread = true,
                     .doubled = g->x.doubled,
                     .to = dy,
                     .point_stride = g->dy_stride,
                     .panel = g->rows,
                     .steps = g->steps},
              .dw = out[0],
              .sums = dy + g->points * g->dy_stride};
    sp_parallel_for(g->steps, 1, sp_winograd_transform_tiles, &t.x);
    sp_parallel_for(g->steps, 1, sp_winograd_transform_tiles, &t.dy);
    sp_slots slots = {
        .items = block_count(g), .slots = g->workers, .work = run_blocks, .context = &t};
    if (g->by_point) {
        slots.items *= g->points;
        slots.work = run_points;
    }
    sp_slots_run(&slots);
    if (g->by_point) sp_parallel_for(block_count(g) * g->rows, 16, store_blocks, &t);
}

/* ---- nodes ---- */

static bool fits(const sp_node *node)
{
    const sp_conv2d_gradient_options *o = node->options;
    const sp_value *x = node->in[0], *dy = node->in[1];
    bool known = sp_is_f32_or_bf16(x) && sp_is_f32_or_bf16(dy) && node->out[0]->dtype == SP_F32;
    return known && o->conv.stride == 1 && o->kernel_height == 3 &&
           o->kernel_width == 3 && sp_dim(x, 3) % SP_LANES == 0 && sp_dim(dy, 3) % SP_LANES == 0 &&
           sp_shape_count(x->shape) > 0 && sp_shape_count(dy->shape) > 0 &&
           (!o->conv.doubled || (o->conv.pad_top == 1 && o->conv.pad_left == 1));
}

sp_status sp_winograd_weight_gradient(sp_convolution_form form, const sp_node *node, sp_kernel *out)
{
    bool half = form == SP_CONVOLUTION_WINOGRAD_2_BF16;
    bool known = half || form == SP_CONVOLUTION_WINOGRAD_2 || form == SP_CONVOLUTION_WINOGRAD_4;
    if (!known || (half && !sp_product_takes_pairs) || !fits(node)) return SP_UNSUPPORTED;
    const sp_conv2d_gradient_options *o = node->options;
    gradient *g = sp_alloc_zero(sizeof *g);
    if (!g) return SP_MEMORY;
    sp_winograd_describe(form, node->in[0], node->in[1], &o->conv, &g->x);
    g->dy = g->x;
    g->dy.H = g->x.Ho;
    g->dy.W = g->x.Wo;
    g->dy.C = g->x.M;
    g->dy.pad_top = g->dy.pad_left = 0;
    g->dy.doubled = false;
    g->dy.x_dtype = node->in[1]->dtype;
    g->points = sp_winograd_points(&g->x);
    g->steps = half ? sp_ceil_div(g->x.tiles, 2) : g->x.tiles;
    g->x_stride = sp_winograd_stride(g->steps * g->x.C, 16);
    g->dy_stride = sp_winograd_stride(g->steps * g->dy.C, 16);
    plan_work(g);
    out->run = run;
    out->state = g;
    out->destroy = sp_free;
    out->scratch = scratch_bytes(g);
    return SP_OK;
}
