/* linear: y[r,m] = sum_k x[r,k] W[m,k] + bias[m] + residual[r,m], as products of blocks of rows
 * with panels of W, packed once; and linear_geglu in f32: of the 2 M columns that this makes, column
 * m times gelu of column M + m, which are made side by side, so that neither is written. Each
 * element is one chain of sums over k in order (in AMX tiles: of sums of 32), so bits depend neither on the number of
 * threads nor on the blocks. */
#include "backend/cpu/vector/product/held_weight.h"
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"

#define PANEL SP_PRODUCT_PANEL
#define COLUMNS 64  /* of a block: whole lines of y, in one panel or several */
#define MAX_ROWS 96 /* of a block: as many uses of a panel that comes from afar */
#define MAX_AMX_ROWS 384 /* products in AMX tiles take a tenth of the time, and widening a panel what it takes */
/* Most of a panel at a time, which stays near while all rows meet it: 96 KiB in the second cache level where a line of
 * it takes as long to use as to fetch from there; else 10 in the first, of which other programs may have the half. */
#define MAX_DEPTH (SP_LANES == 16 ? 384 : 160)
#define MAX_AMX_DEPTH 192
#define FETCHES_AHEAD (SP_LANES < 16) /* the next part has room beside it in the first cache level */

typedef struct {
    sp_weight_packer pack; /* of W: one tap, one group, panels of PANEL */
    int64_t M;             /* columns of y: those of W, or with geglu half of them */
    int64_t R, rows;       /* all rows, and those of a block */
    int64_t workers;       /* that scratch was reserved for */
    bool widens;           /* x is bf16 and multiplied as f32 */
    bool geglu;
    bool amx;              /* pairs are multiplied in AMX tiles */
} linear;

typedef struct {
    const linear *l;
    const void *x, *w, *bias, *residual;
    sp_dtype x_dtype, bias_dtype, residual_dtype, y_dtype;
    void *y;
    float *scratch;
} task;

/* One worker's memory: x [rows][K] where it is widened, sums [rows][COLUMNS], or [rows][2][COLUMNS] with geglu, and a
 * part of a panel where that is widened. */
typedef struct {
    float *x, *sums, *panel;
} workspace;

static int64_t sums_row(const linear *l)
{
    return l->geglu ? 2 * COLUMNS : COLUMNS;
}

static int64_t workspace_lay(const linear *l, float *base, workspace *w)
{
    int64_t used = 0;
    w->x = sp_take(base, &used, l->widens ? l->rows * l->pack.C : 0);
    w->sums = sp_take(base, &used, l->rows * sums_row(l));
    w->panel = sp_take(base, &used, sp_weight_is_widened(&l->pack) ? MAX_DEPTH * PANEL : 0);
    return used;
}

static int64_t blocks_of_columns(const linear *l)
{
    return sp_ceil_div(l->M, COLUMNS);
}

static int64_t depth_of(const sp_weight_packer *p)
{
    return p->pairs ? p->C / 2 : p->C;
}

/* ---- products ---- */

/* y of `rows` rows and `columns` columns from the sums. */
SP_INLINE void finish(const task *t, const float *sums, int64_t r0, int64_t rows, int64_t m, int64_t columns,
                      const bool half)
{
    for (int64_t r = 0; r < rows; r++, sums += COLUMNS)
        for (int64_t c = 0; c < columns; c += SP_LANES) {
            int64_t left = columns - c, at = (r0 + r) * t->l->M + m + c;
            sp_vf y = sp_vf_load(sums + c);
            if (t->bias) y += sp_vf_get(t->bias, m + c, left, t->bias_dtype == SP_BF16);
            if (t->residual) y += sp_vf_get(t->residual, at, left, t->residual_dtype == SP_BF16);
            sp_vf_put(t->y, at, y, left, half);
        }
}

/* The same of gated columns. */
static void finish_geglu(const task *t, const float *sums, int64_t r0, int64_t rows, int64_t m, int64_t columns)
{
    const int64_t M = t->l->M;
    for (int64_t r = 0; r < rows; r++, sums += 2 * COLUMNS)
        for (int64_t c = 0; c < columns; c += SP_LANES) {
            sp_vf value = sp_vf_load(sums + c), gate = sp_vf_load(sums + COLUMNS + c), density;
            if (t->bias) {
                value += sp_vf_load_as(t->bias, m + c, t->bias_dtype == SP_BF16);
                gate += sp_vf_load_as(t->bias, M + m + c, t->bias_dtype == SP_BF16);
            }
            sp_vf gelu = gate * sp_vf_normal(gate, &density);
            sp_vf_store((float *)t->y + (r0 + r) * M + m + c, value * gelu);
        }
}

/* sums of `rows` rows of x and the panel that begins at column m. */
static void multiply_panel(const task *t, const workspace *w, const float *x, int64_t rows, int64_t m, float *sums)
{
    const sp_weight_packer *p = &t->l->pack;
    const bool amx = t->l->amx;
    int64_t depth = depth_of(p);
    int64_t part = sp_part_of(depth, amx ? MAX_AMX_DEPTH : MAX_DEPTH, amx ? SP_AMX_PAIRS : sp_weight_unit(p));
    int64_t width = p->M - m < PANEL ? sp_round_up(p->M - m, SP_LANES) : PANEL;
    for (int64_t k = 0; k < depth; k += part) {
        int64_t count = depth - k < part ? depth - k : part;
        const sp_weight_part of_panel = {.m = m, .width = width, .first = k, .count = count};
        int64_t after = sp_weight_bytes(p, depth, m) + sp_weight_bytes(p, k + count, width);
        bool ahead = FETCHES_AHEAD && after < sp_weight_bytes(p, depth, p->M);
        sp_product_run(&(sp_product){.a = x + k,
                                     .a_row = depth,
                                     .a_column = 1,
                                     .b = sp_weight_widen(p, t->w, &of_panel, w->panel),
                                     .b_row = width,
                                     .c = sums,
                                     .c_row = sums_row(t->l),
                                     .rows = rows,
                                     .columns = width,
                                     .depth = count,
                                     .accumulate = k > 0,
                                     .next = ahead ? (const char *)t->w + after : NULL,
                                     .ahead = sp_ceil_div(sp_weight_bytes(p, count, width), rows),
                                     .pairs = p->pairs,
                                     .amx = amx});
    }
}

static void multiply(const task *t, const workspace *w, int64_t r0, int64_t rows, int64_t m)
{
    const linear *l = t->l;
    const float *x = l->widens ? w->x : (const float *)t->x + r0 * depth_of(&l->pack);
    int64_t columns = l->M - m < COLUMNS ? l->M - m : COLUMNS;
    for (int64_t c = 0; c < columns; c += PANEL) {
        multiply_panel(t, w, x, rows, m + c, w->sums + c);
        if (l->geglu) multiply_panel(t, w, x, rows, l->M + m + c, w->sums + COLUMNS + c);
    }
    if (l->geglu)
        finish_geglu(t, w->sums, r0, rows, m, columns);
    else if (t->y_dtype == SP_BF16)
        finish(t, w->sums, r0, rows, m, columns, true);
    else
        finish(t, w->sums, r0, rows, m, columns, false);
}

/* Blocks of rows and columns. */
static void run_items(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const linear *l = t->l;
    workspace w;
    workspace_lay(l, t->scratch + slot * workspace_lay(l, NULL, &w), &w);
    int64_t across = blocks_of_columns(l), widened = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t r0 = i / across * l->rows, rows = l->R - r0 < l->rows ? l->R - r0 : l->rows;
        if (l->widens && widened != r0)
            sp_row_from_bf16(w.x, (const uint16_t *)t->x + r0 * l->pack.C, rows * l->pack.C);
        widened = r0;
        multiply(t, &w, r0, rows, i % across * COLUMNS);
    }
}

static int64_t item_count(const linear *l)
{
    return sp_ceil_div(l->R, l->rows) * blocks_of_columns(l);
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    const linear *l = state;
    const sp_value *bias = node->inputs > 2 ? node->in[2] : NULL,
                   *residual = node->inputs > 3 ? node->in[3] : NULL;
    task t = {.l = l,
              .x = in[0],
              .w = in[1],
              .y = out[0],
              .x_dtype = node->in[0]->dtype,
              .y_dtype = node->out[0]->dtype,
              .scratch = scratch};
    if (bias) t.bias = in[2], t.bias_dtype = bias->dtype;
    if (residual) t.residual = in[3], t.residual_dtype = residual->dtype;
    sp_slots slots = {
        .items = item_count(l), .slots = l->workers, .work = run_items, .context = &t};
    sp_slots_run(&slots);
}

/* ---- nodes ---- */

/* M: columns of W. */
static sp_status create(const sp_node *node, int64_t M, bool turned, bool geglu, sp_kernel *out)
{
    const sp_value *x = node->in[0];
    linear *l = sp_alloc_zero(sizeof *l);
    if (!l) return SP_MEMORY;
    int64_t K = sp_channels(x), threads = sp_threads();
    bool pairs = sp_product_takes_pairs && x->dtype == SP_BF16 && K % 2 == 0;
    sp_dtype held = sp_weight_held(node->in[1], x, turned);
    l->pack = (sp_weight_packer){.taps = 1,
                                 .held = pairs && held != SP_Q8_0 ? SP_BF16 : held,
                                 .pairs = pairs,
                                 .dtype = node->in[1]->dtype,
                                 .C = K,
                                 .M = M,
                                 .output_stride = turned ? 1 : K,
                                 .input_stride = turned ? M : 1,
                                 .group = K,
                                 .panel = PANEL};
    l->M = geglu ? M / 2 : M;
    l->geglu = geglu;
    l->widens = x->dtype == SP_BF16 && !pairs;
    l->amx = pairs && sp_cpu_uses_amx();
    l->R = sp_shape_count(x->shape) / K;
    l->rows = sp_round_up(sp_ceil_div(l->R, sp_ceil_div(l->R, l->amx ? MAX_AMX_ROWS : MAX_ROWS)), 2);
    l->workers = item_count(l) < threads ? item_count(l) : threads;
    workspace w;
    out->run = run;
    out->state = l;
    out->destroy = sp_free;
    out->scratch = (size_t)(l->workers * workspace_lay(l, NULL, &w)) * sizeof(float);
    out->packing[1] = sp_weight_packing(&l->pack);
    if (turned) sp_weight_repacking(&l->pack, &out->packing[1]);
    return SP_OK;
}

/* The library cuts rows into equal parts: of 64 or another power of two it is up to a third faster than ours in AMX
 * tiles, of what has large prime factors up to four times slower (docs/kernels.md). */
static bool library_is_faster(const sp_value *x)
{
    return sp_shape_count(x->shape) / sp_channels(x) % 64 == 0;
}

sp_status SP_KERNEL(linear)(const sp_node *node, sp_kernel *out)
{
    const sp_value *x = node->in[0], *y = node->out[0];
    if (!sp_is_f32_or_bf16(x) || sp_shape_count(x->shape) == 0 || sp_shape_count(y->shape) == 0)
        return SP_UNSUPPORTED;
    bool turned = ((const sp_linear_options *)node->options)->transposed;
    bool quantised = sp_weight_held(node->in[1], x, turned) == SP_Q8_0; /* which the library would keep as bf16 */
    if (x->dtype == SP_BF16 && sp_cpu_uses_amx() && !quantised && library_is_faster(x)) return SP_UNSUPPORTED;
    return create(node, sp_channels(y), turned, false, out);
}

/* Both halves of W must begin with a panel. In bf16 what lies between is rounded, so there it is made. */
sp_status SP_KERNEL(linear_geglu)(const sp_node *node, sp_kernel *out)
{
    const sp_value *x = node->in[0], *y = node->out[0];
    bool fits = x->dtype == SP_F32 && y->dtype == SP_F32 && sp_channels(y) % PANEL == 0;
    if (!fits || sp_shape_count(x->shape) == 0 || sp_shape_count(y->shape) == 0) return SP_UNSUPPORTED;
    return create(node, 2 * sp_channels(y), false, true, out);
}
