/* Convolutions of 1x1 and 3x3 filters, forward and with respect to the input, as they are defined:
 *   y[r][m] = sum over c, taps of x[where the tap of r lies][c] W[m][c][tap]
 * Workers take blocks of positions r and of output channels m. For a part of the input channels, tap by tap, x's rows
 * are copied side by side (what lies side by side already is read where it is) and meet one panel of filters after the
 * other. Each element is one chain of sums over (part, tap, c), an order that follows from the shape alone. */
#include "backend/cpu/vector/product/convolution.h"
#include "backend/cpu/vector/product/held_weight.h"
#include "backend/cpu/vector/product/product.h"

#define PANEL SP_PRODUCT_PANEL
#define MAX_ROWS 96     /* of a block: as many uses of filters that come from afar */
#define MAX_COLUMNS 320 /* of a block: sums and copied rows fit a core's second cache level */
#define COLUMNS 64      /* fewest of a block, where there are few of them */
#define MAX_DEPTH 160   /* of a part: a panel's filters of one tap stay in the first cache level */

typedef struct {
    sp_positions at;
    sp_weight_packer pack;
    int64_t positions;           /* of all pictures */
    int64_t part, rows, columns; /* of a block: of C, of positions, of M */
    bool in_place;               /* x's rows are read where they lie */
    sp_dtype x_dtype, y_dtype;
    int64_t workers; /* that scratch was reserved for */
} convolution;

typedef struct {
    const convolution *c;
    const void *x;
    const void *w;
    sp_convolution_sums add;
    void *y;
    float *scratch;
} task;

/* One worker's memory. */
typedef struct {
    float *x;       /* [rows][part] */
    float *sums;    /* [rows][columns] */
    float *panel;   /* of one tap and part, where it is widened */
    int64_t *lines; /* [rows] */
} workspace;

static int64_t workspace_lay(const convolution *c, float *base, workspace *w)
{
    int64_t used = 0;
    w->x = sp_take(base, &used, c->in_place ? 0 : c->rows * c->part);
    w->sums = sp_take(base, &used, c->rows * c->columns);
    w->panel = sp_take(base, &used, sp_weight_is_widened(&c->pack) ? c->part * PANEL : 0);
    w->lines = (void *)sp_take(base, &used, c->rows * (int64_t)sizeof(int64_t) / 4);
    return used;
}

static int64_t blocks_across(const convolution *c)
{
    return sp_ceil_div(c->pack.M, c->columns);
}

static int64_t block_count(const convolution *c)
{
    return sp_ceil_div(c->positions, c->rows) * blocks_across(c);
}

/* The part of y that a worker makes at a time. */
typedef struct {
    int64_t r, rows, m, columns; /* columns: rounded up to whole vectors */
} block;

/* ---- products ---- */

/* x[k] = the channels first .. first+count-1 of line k. */
static void copy_rows(const task *t, const workspace *w, int64_t rows, int64_t first, int64_t count)
{
    for (int64_t k = 0; k < rows; k++) {
        float *to = w->x + k * count;
        int64_t from = w->lines[k] + first;
        if (w->lines[k] < 0)
            memset(to, 0, (size_t)count * sizeof *to);
        else if (t->c->x_dtype == SP_BF16)
            sp_row_from_bf16(to, (const uint16_t *)t->x + from, count);
        else
            sp_row_copy(to, (const float *)t->x + from, count);
    }
}

/* sums (+)= x W^T of one tap and the channels first .. first+count-1. */
static void multiply(const task *t, const workspace *w, const block *b, int64_t tap, int64_t first, int64_t count,
                     bool accumulate)
{
    const convolution *c = t->c;
    const sp_weight_packer *p = &c->pack;
    const float *x = c->in_place ? (const float *)t->x + b->r * p->C + first : w->x;
    int64_t stored = p->turned ? p->taps - 1 - tap : tap;
    for (int64_t m = 0; m < b->columns; m += PANEL) {
        int64_t width = b->columns - m < PANEL ? b->columns - m : PANEL;
        const sp_weight_part part = {b->m + m, width, stored, first, count};
        sp_product_run(&(sp_product){.a = x,
                                     .a_row = c->in_place ? p->C : count,
                                     .a_column = 1,
                                     .b = sp_weight_widen(p, t->w, &part, w->panel),
                                     .b_row = width,
                                     .c = w->sums + m,
                                     .c_row = c->columns,
                                     .rows = b->rows,
                                     .columns = width,
                                     .depth = count,
                                     .accumulate = accumulate});
    }
}

static void sum_block(const task *t, const workspace *w, const block *b)
{
    const convolution *c = t->c;
    for (int64_t first = 0; first < c->pack.C; first += c->part) {
        int64_t left = c->pack.C - first, count = left < c->part ? left : c->part;
        for (int64_t tap = 0; tap < c->pack.taps; tap++) {
            if (!c->in_place) {
                sp_locate(&c->at, tap, b->r, b->rows, w->lines);
                copy_rows(t, w, b->rows, first, count);
            }
            multiply(t, w, b, tap, first, count, first > 0 || tap > 0);
        }
    }
}

/* y of a block from its sums. */
SP_INLINE void finish(const task *t, const workspace *w, const block *b, const bool half)
{
    const convolution *c = t->c;
    const sp_convolution_sums *add = &t->add;
    int64_t M = c->pack.M;
    for (int64_t k = 0; k < b->rows; k++) {
        int64_t at = (b->r + k) * M + b->m, n = (b->r + k) / (c->at.Ho * c->at.Wo);
        for (int64_t m = 0; m < b->columns; m += SP_LANES) {
            int64_t left = M - b->m - m;
            sp_vf y = sp_vf_load(w->sums + k * c->columns + m);
            if (add->bias) y += sp_vf_get(add->bias, b->m + m, left, false);
            if (add->per_channel)
                y += sp_vf_get(add->per_channel, n * M + b->m + m, left, add->per_channel_dtype == SP_BF16);
            if (add->residual) y += sp_vf_get(add->residual, at + m, left, add->residual_dtype == SP_BF16);
            sp_vf_put(t->y, at + m, y, left, half);
        }
    }
}

/* Blocks, those of the same filters one after the other. */
static void run_blocks(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const convolution *c = t->c;
    workspace w;
    workspace_lay(c, t->scratch + slot * workspace_lay(c, NULL, &w), &w);
    int64_t down = sp_ceil_div(c->positions, c->rows);
    for (int64_t i = begin; i < end; i++) {
        block b = {.r = i % down * c->rows, .m = i / down * c->columns};
        int64_t left = c->pack.M - b.m;
        b.rows = c->positions - b.r < c->rows ? c->positions - b.r : c->rows;
        b.columns = sp_round_up(left < c->columns ? left : c->columns, SP_LANES);
        sum_block(t, &w, &b);
        if (c->y_dtype == SP_BF16)
            finish(t, &w, &b, true);
        else
            finish(t, &w, &b, false);
    }
}

static void run(const convolution *c, task *t, void *scratch)
{
    t->c = c;
    t->scratch = scratch;
    sp_slots slots = {.items = block_count(c), .slots = c->workers, .work = run_blocks, .context = t};
    sp_slots_run(&slots);
}

static void run_forward(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    run(state, &(task){.x = in[0], .w = in[1], .y = out[0], .add = sp_convolution_sums_of(node, in)}, scratch);
}

static void run_gradient(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)node;
    run(state, &(task){.x = in[0], .w = in[1], .y = out[0]}, scratch);
}

/* ---- nodes ---- */

/* x, y: of the convolution that is run; turned: that of a gradient. */
static bool fits(const sp_value *x, const sp_value *weight, const sp_value *y, bool turned)
{
    int64_t side = sp_dim(weight, 2), depth = sp_dim(x, 3), M = sp_dim(weight, turned ? 1 : 0);
    bool widened = sp_weight_held(weight, x, turned) != SP_F32 && !(sp_product_takes_pairs && x->dtype == SP_BF16);
    bool worth = SP_LANES < 16 || widened;
    return worth && sp_is_f32_or_bf16(x) && sp_is_f32_or_bf16(y) && sp_dim(weight, 3) == side &&
           (side == 1 || (side == 3 && M % SP_LANES == 0)) && depth >= SP_LANES && sp_shape_count(x->shape) > 0 &&
           sp_shape_count(y->shape) > 0;
}

static void choose_blocks(convolution *c)
{
    int64_t threads = sp_threads();
    c->part = sp_part_of(c->pack.C, MAX_DEPTH, sp_weight_unit(&c->pack));
    c->rows = sp_part_of(c->positions, MAX_ROWS, 2);
    c->columns = sp_part_of(c->pack.M, MAX_COLUMNS, COLUMNS);
    while (threads > 1 && block_count(c) < 4 * threads && c->columns > COLUMNS)
        c->columns = sp_round_up(c->columns / 2, COLUMNS);
    c->workers = block_count(c) < threads ? block_count(c) : threads;
}

static sp_status create(const sp_value *x, const sp_value *weight, const sp_value *y, const sp_conv2d_options *o,
                        bool turned, sp_kernel *out)
{
    convolution *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    int64_t side = sp_dim(weight, 2), taps = side * side, C = sp_dim(x, 3);
    int64_t outer = taps * sp_dim(weight, 1);
    c->at = sp_positions_of(x, y, side, o);
    c->pack = (sp_weight_packer){.taps = (int)taps,
                                 .held = sp_weight_held(weight, x, turned),
                                 .turned = turned,
                                 .dtype = weight->dtype,
                                 .C = C,
                                 .M = sp_dim(y, 3),
                                 .output_stride = turned ? taps : outer,
                                 .input_stride = turned ? outer : taps,
                                 .group = C,
                                 .panel = PANEL};
    c->positions = sp_dim(y, 0) * sp_dim(y, 1) * sp_dim(y, 2);
    c->in_place = taps == 1 && o->stride == 1 && !o->doubled && x->dtype == SP_F32 &&
                  c->positions == sp_shape_count(x->shape) / C;
    c->x_dtype = x->dtype;
    c->y_dtype = y->dtype;
    choose_blocks(c);
    workspace w;
    out->scratch = (size_t)(c->workers * workspace_lay(c, NULL, &w)) * sizeof(float);
    out->packing[1] = sp_weight_packing(&c->pack);
    out->state = c;
    out->destroy = sp_free;
    return SP_OK;
}

sp_status sp_direct_convolution(const sp_node *node, sp_kernel *out)
{
    const sp_value *bias = node->inputs > 2 ? node->in[2] : NULL;
    if (!fits(node->in[0], node->in[1], node->out[0], false) || (bias && bias->dtype != SP_F32)) return SP_UNSUPPORTED;
    out->run = run_forward;
    return create(node->in[0], node->in[1], node->out[0], node->options, false, out);
}

/* dx is the convolution of dy with turned filters, where no position was left out. */
sp_status sp_direct_data_gradient(const sp_node *node, sp_kernel *out)
{
    const sp_conv2d_gradient_options *options = node->options;
    const sp_value *weight = node->in[1];
    sp_conv2d_options turned = options->conv;
    int most = (int)sp_dim(weight, 2) - 1;
    turned.pad_top = most - turned.pad_top;
    turned.pad_left = most - turned.pad_left;
    if (turned.stride != 1 || turned.doubled || !fits(node->in[0], weight, node->out[0], true)) return SP_UNSUPPORTED;
    out->run = run_gradient;
    return create(node->in[0], weight, node->out[0], &turned, true, out);
}
