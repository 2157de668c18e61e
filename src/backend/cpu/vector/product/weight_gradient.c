/* conv2d_weight_gradient and linear_weight_gradient: with r = (n,p,q) over all positions of y,
 *   dW[m][c][tap] = sum over r of dy[r][m] x[where the tap of r lies][c]
 * A linear layer is a convolution of one tap, its rows one line of a picture. Workers take blocks
 * of dW. A block walks over the positions a chunk at a time, for which dy and then, tap by tap, a
 * panel of x's channels are copied to the nearest caches, pairs of positions side by side where
 * pairs are multiplied; for AMX dy is turned there, so that positions lie one behind the other. Each element of dW is
 * one chain of sums over r in order (of AMX: of sums of 32 positions), so bits depend neither on the number of threads
 * nor on the blocks. */
#include "backend/cpu/vector/product/convolution.h"
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/product/weight_gradient.h"

#define DEPTH 192 /* pairs of positions, or positions, of a chunk; whole tiles */
#define COLUMNS 64 /* least of a block, in channels of x */
#define PANEL SP_PRODUCT_PANEL /* channels of x that are copied at a time */
/* Floats of a block's sums: with what a chunk needs, half of a core's second cache level. */
#define MAX_SUMS (96 * 1024)
#define MAX_COLUMNS 192
#define MAX_ROWS 336 /* so that the copy of dy has room beside the sums */

typedef struct {
    sp_positions at;
    int64_t C, M, positions, taps;
    bool x_half, dy_half;       /* bf16, not f32 */
    bool pairs, amx;            /* pairs of bf16 are multiplied, in AMX tiles */
    int64_t rows, columns, lot; /* of a block: of m, of c, of taps */
    int64_t workers;            /* that scratch was reserved for */
} sizes;

typedef struct {
    const sizes *s;
    const void *x, *dy;
    float *dw, *scratch;
} task;

/* One worker's memory. */
typedef struct {
    float *dy;   /* [DEPTH][rows] */
    float *dy_turned; /* [rows][DEPTH], of AMX */
    float *x;    /* [DEPTH][PANEL] */
    float *sums; /* [lot][rows][columns]; a block of dW itself where one tap fills whole vectors */
    int64_t *lines; /* [2 * DEPTH + 1]: where the tap of a position lies in x, -1 outside */
} workspace;

/* The part of dW that a worker makes at a time. */
typedef struct {
    int64_t m, rows, c, columns, tap, taps;
    float *sums;
    int64_t row; /* of sums: columns rounded up to whole vectors, or dW's own */
} block;

static bool sums_in_place(const sizes *s)
{
    return s->taps == 1 && s->C % SP_LANES == 0;
}

static int64_t workspace_lay(const sizes *s, float *base, workspace *w)
{
    int64_t used = 0, sums = s->lot * s->rows * sp_round_up(s->columns, SP_LANES);
    w->dy = sp_take(base, &used, DEPTH * s->rows);
    w->dy_turned = sp_take(base, &used, s->amx ? DEPTH * s->rows : 0);
    w->x = sp_take(base, &used, DEPTH * PANEL);
    w->sums = sp_take(base, &used, sums_in_place(s) ? 0 : sums);
    w->lines = (void *)sp_take(base, &used, (2 * DEPTH + 1) * (int64_t)sizeof(int64_t) / 4);
    return used;
}

/* ---- blocks ---- */

static int64_t block_count(const sizes *s)
{
    return sp_ceil_div(s->M, s->rows) * sp_ceil_div(s->C, s->columns) *
           sp_ceil_div(s->taps, s->lot);
}

/* Large blocks copy less for what they multiply; but every worker needs a few. */
static void choose_blocks(sizes *s)
{
    int64_t threads = sp_threads();
    s->lot = s->taps;
    s->columns = s->taps > 1 ? COLUMNS : sp_part_of(s->C, MAX_COLUMNS, COLUMNS);
    int64_t limit = MAX_SUMS / (s->lot * s->columns);
    limit = limit < 32 ? 32 : limit > MAX_ROWS ? MAX_ROWS : limit;
    s->rows = sp_part_of(s->M, limit, 2);
    while (threads > 1 && block_count(s) < 4 * threads) {
        if (s->lot > s->at.filter_width)
            s->lot = s->at.filter_width;
        else if (s->columns > COLUMNS)
            s->columns = sp_round_up(s->columns / 2, COLUMNS);
        else if (s->rows > 32)
            s->rows = sp_part_of(s->M, s->rows / 2, 2);
        else
            break;
    }
    s->workers = block_count(s) < threads ? block_count(s) : threads;
}

static block block_of(const task *t, const workspace *w, int64_t i)
{
    const sizes *s = t->s;
    int64_t lots = sp_ceil_div(s->taps, s->lot), panels = sp_ceil_div(s->C, s->columns);
    block b = {.tap = i % lots * s->lot,
               .c = i / lots % panels * s->columns,
               .m = i / lots / panels * s->rows};
    b.taps = s->taps - b.tap < s->lot ? s->taps - b.tap : s->lot;
    b.columns = s->C - b.c < s->columns ? s->C - b.c : s->columns;
    b.rows = s->M - b.m < s->rows ? s->M - b.m : s->rows;
    b.row = sums_in_place(s) ? s->C : sp_round_up(b.columns, SP_LANES);
    b.sums = sums_in_place(s) ? t->dw + b.m * s->C + b.c : w->sums;
    return b;
}

/* ---- one chunk of positions ---- */

static const float zeros[PANEL];

/* `count` elements of two rows, NULL where there is none, as the products take them; without pairs
 * of the first row alone. */
SP_INLINE void copy_rows(const void *even, const void *odd, bool half, bool pairs, int64_t count,
                         float *to)
{
    if (pairs)
        sp_row_pair((uint32_t *)(void *)to, even, odd, count);
    else if (half)
        sp_row_from_bf16(to, even, count);
    else
        sp_row_copy(to, even, count);
}

static void copy_dy(const task *t, const block *b, int64_t first, int64_t count, float *to)
{
    const sizes *s = t->s;
    int64_t size = s->dy_half ? 2 : 4, step = s->pairs ? 2 : 1;
    const char *from = (const char *)t->dy + (first * s->M + b->m) * size;
    for (int64_t r = 0; r < count; r += step, to += b->rows)
        copy_rows(from + r * s->M * size, r + 1 < count ? from + (r + 1) * s->M * size : NULL,
                  s->dy_half, s->pairs, b->rows, to);
}

static void copy_x(const task *t, const int64_t *lines, int64_t c, int64_t columns, int64_t row,
                   int64_t count, float *to)
{
    const sizes *s = t->s;
    int64_t size = s->x_half ? 2 : 4, step = s->pairs ? 2 : 1;
    const char *from = (const char *)t->x + c * size;
    for (int64_t k = 0; k < count; k += step, to += row) {
        const void *even = lines[k] < 0 ? (const void *)zeros : from + lines[k] * size,
                   *odd = lines[k + 1] < 0 ? (const void *)zeros : from + lines[k + 1] * size;
        if (columns < row) sp_vf_store(to + row - SP_LANES, (sp_vf){0});
        copy_rows(even, odd, s->x_half, s->pairs, columns, to);
    }
}

/* sums (+)= dy^T x for the positions first.. */
static void add_chunk(const task *t, const workspace *w, const block *b, int64_t first,
                      int64_t count)
{
    const sizes *s = t->s;
    const int64_t depth = s->pairs ? sp_ceil_div(count, 2) : count;
    copy_dy(t, b, first, count, w->dy);
    if (s->amx) sp_transpose(w->dy_turned, DEPTH, w->dy, b->rows, depth, b->rows);
    for (int64_t tap = 0; tap < b->taps; tap++) {
        sp_locate(&s->at, b->tap + tap, first, count, w->lines);
        w->lines[count] = -1; /* the partner of an odd last one */
        for (int64_t c = 0; c < b->columns; c += PANEL) {
            int64_t columns = b->columns - c < PANEL ? b->columns - c : PANEL,
                    row = sp_round_up(columns, SP_LANES);
            copy_x(t, w->lines, b->c + c, columns, row, count, w->x);
            sp_product_run(&(sp_product){.a = s->amx ? w->dy_turned : w->dy,
                                         .a_row = s->amx ? DEPTH : 1,
                                         .a_column = s->amx ? 1 : b->rows,
                                         .b = w->x,
                                         .b_row = row,
                                         .c = b->sums + tap * b->rows * b->row + c,
                                         .c_row = b->row,
                                         .rows = b->rows,
                                         .columns = row,
                                         .depth = depth,
                                         .accumulate = first > 0,
                                         .pairs = s->pairs,
                                         .amx = s->amx});
        }
    }
}

/* ---- storing ---- */

/* Of a 3x3 kernel and whole vectors. */
SP_INLINE void store_3x3(const sp_threes *t, const float *from, int64_t tap_stride, int64_t columns,
                         float *to, const bool stream)
{
    for (int64_t c = 0; c < columns; c += SP_LANES, to += 9 * SP_LANES) {
        sp_vf taps[9];
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; tap++)
            taps[tap] = sp_vf_load(from + tap * tap_stride + c);
        sp_store_taps(t, taps, to, stream);
    }
}

static void store_block(const task *t, const block *b)
{
    const sizes *s = t->s;
    const sp_threes three = sp_threes_together();
    bool whole = b->taps == 9 && s->at.filter_width == 3 && b->columns % SP_LANES == 0;
    bool stream = sp_streams_taps(t->dw, s->M * s->C * s->taps) && s->C % SP_LANES == 0;
    for (int64_t m = 0; m < b->rows; m++) {
        float *to = t->dw + ((b->m + m) * s->C + b->c) * s->taps + b->tap;
        const float *from = b->sums + m * b->row;
        if (s->taps == 1)
            sp_row_copy(to, from, b->columns);
        else if (!whole)
            sp_transpose(to, s->taps, from, b->rows * b->row, b->taps, b->columns);
        else if (stream)
            store_3x3(&three, from, b->rows * b->row, b->columns, to, true);
        else
            store_3x3(&three, from, b->rows * b->row, b->columns, to, false);
    }
    if (stream) _mm_sfence();
}

static void run_blocks(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sizes *s = t->s;
    workspace w;
    workspace_lay(s, t->scratch + slot * workspace_lay(s, NULL, &w), &w);
    int64_t chunk = s->pairs ? 2 * DEPTH : DEPTH;
    for (int64_t i = begin; i < end; i++) {
        block b = block_of(t, &w, i);
        for (int64_t r = 0; r < s->positions; r += chunk)
            add_chunk(t, &w, &b, r, s->positions - r < chunk ? s->positions - r : chunk);
        if (!sums_in_place(s)) store_block(t, &b);
    }
}

/* ---- nodes ---- */

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)node;
    const sizes *s = state;
    task t = {.s = s, .x = in[0], .dy = in[1], .dw = out[0], .scratch = scratch};
    sp_slots slots = {
        .items = block_count(s), .slots = s->workers, .work = run_blocks, .context = &t};
    sp_slots_run(&slots);
}

static sp_status create(const sp_node *node, sizes *s, sp_kernel *out)
{
    const sp_value *x = node->in[0], *dy = node->in[1];
    if (node->out[0]->dtype != SP_F32 || sp_shape_count(x->shape) == 0 ||
        sp_shape_count(dy->shape) == 0)
        return SP_UNSUPPORTED;
    s->x_half = x->dtype == SP_BF16;
    s->dy_half = dy->dtype == SP_BF16;
    s->pairs = sp_product_takes_pairs && s->x_half && s->dy_half;
    s->amx = s->pairs && sp_cpu_uses_amx();
    choose_blocks(s);
    sizes *state = sp_alloc(sizeof *state);
    if (!state) return SP_MEMORY;
    *state = *s;
    workspace w;
    out->run = run;
    out->state = state;
    out->destroy = sp_free;
    out->scratch = (size_t)(s->workers * workspace_lay(s, NULL, &w)) * sizeof(float);
    return SP_OK;
}

sp_status SP_ISA_SYMBOL(sp_direct_weight_gradient)(const sp_node *node, sp_kernel *out)
{
    const sp_conv2d_gradient_options *o = node->options;
    const sp_value *x = node->in[0], *dy = node->in[1];
    sizes s = {.at = sp_positions_of(x, dy, o->kernel_width, &o->conv),
               .C = sp_dim(x, 3),
               .M = sp_dim(dy, 3),
               .positions = sp_dim(dy, 0) * sp_dim(dy, 1) * sp_dim(dy, 2),
               .taps = o->kernel_height * o->kernel_width};
    return create(node, &s, out);
}

sp_status SP_KERNEL(conv2d_weight_gradient)(const sp_node *node, sp_kernel *out)
{
    sp_status status = sp_winograd_weight_gradient(sp_convolution_choice(node), node, out);
    return status == SP_UNSUPPORTED ? SP_ISA_SYMBOL(sp_direct_weight_gradient)(node, out) : status;
}

sp_status SP_KERNEL(linear_weight_gradient)(const sp_node *node, sp_kernel *out)
{
    int64_t C = sp_channels(node->in[0]), M = sp_channels(node->in[1]);
    int64_t positions = M ? sp_shape_count(node->in[1]->shape) / M : 0;
    sizes s = {.at = {.H = 1, .W = positions, .C = C, .Ho = 1, .Wo = positions, .filter_width = 1, .o = {.stride = 1}},
               .C = C,
               .M = M,
               .positions = positions,
               .taps = 1};
    return create(node, &s, out);
}
