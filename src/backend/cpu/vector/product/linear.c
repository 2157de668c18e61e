/* linear: y[r,m] = sum_k x[r,k] W[m,k] + bias[m] + residual[r,m], as products of blocks of rows
 * with panels of W, packed once. Each element is one chain of sums over k in order, so bits depend
 * neither on the number of threads nor on the blocks. */
#include "backend/cpu/vector/product/weight_pack.h"
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"

#define PANEL 64
#define MAX_ROWS 96 /* of a block: as many uses of a panel that comes from afar */
#define DEPTH 384   /* of a part of a panel: 96 KiB, which stay near while all rows meet them */

typedef struct {
    sp_weight_packer pack; /* of W: one tap, one group, panels of PANEL */
    int64_t R, rows;       /* all rows, and those of a block */
    int64_t workers;       /* that scratch was reserved for */
    bool widens;           /* x is bf16 and multiplied as f32 */
} linear;

typedef struct {
    const linear *l;
    const void *x, *w, *bias, *residual;
    sp_dtype x_dtype, bias_dtype, residual_dtype, y_dtype;
    void *y;
    float *scratch;
} task;

/* One worker's memory: x [rows][K] where it is widened, sums [rows][PANEL]. */
typedef struct {
    float *x, *sums;
} workspace;

static int64_t workspace_lay(const linear *l, float *base, workspace *w)
{
    int64_t used = 0;
    w->x = sp_take(base, &used, l->widens ? l->rows * l->pack.C : 0);
    w->sums = sp_take(base, &used, l->rows * PANEL);
    return used;
}

static int64_t panels_of(const sp_weight_packer *p)
{
    return sp_ceil_div(p->M, PANEL);
}

/* Columns of the panel that begins at m, whole vectors. */
static int64_t panel_width(const sp_weight_packer *p, int64_t m)
{
    return p->M - m < PANEL ? sp_round_up(p->M - m, SP_LANES) : PANEL;
}

static int64_t depth_of(const sp_weight_packer *p)
{
    return p->half ? p->C / 2 : p->C;
}

/* ---- products ---- */

/* y of `rows` rows and the panel's columns from the sums. */
SP_INLINE void finish(const task *t, const float *sums, int64_t width, int64_t r0, int64_t rows,
                      int64_t m, const bool half)
{
    int64_t M = t->l->pack.M, columns = M - m < PANEL ? M - m : PANEL;
    for (int64_t r = 0; r < rows; r++, sums += width)
        for (int64_t c = 0; c < columns; c += SP_LANES) {
            int64_t left = columns - c, at = (r0 + r) * M + m + c;
            sp_vf y = sp_vf_load(sums + c);
            if (t->bias) y += sp_vf_get(t->bias, m + c, left, t->bias_dtype == SP_BF16);
            if (t->residual) y += sp_vf_get(t->residual, at, left, t->residual_dtype == SP_BF16);
            sp_vf_put(t->y, at, y, left, half);
        }
}

static void multiply(const task *t, const workspace *w, int64_t r0, int64_t rows, int64_t m)
{
    const sp_weight_packer *p = &t->l->pack;
    int64_t depth = depth_of(p), width = panel_width(p, m);
    const float *panel = (const float *)t->w + m * depth;
    const float *x =
        t->l->widens
            ? w->x
            : (const float *)(const void *)((const char *)t->x + r0 * depth * (int64_t)sizeof *x);
    for (int64_t k = 0; k < depth; k += DEPTH)
        sp_product_run(&(sp_product){.a = x + k,
                                     .a_row = depth,
                                     .a_column = 1,
                                     .b = panel + k * width,
                                     .b_row = width,
                                     .c = w->sums,
                                     .c_row = width,
                                     .rows = rows,
                                     .columns = width,
                                     .depth = depth - k < DEPTH ? depth - k : DEPTH,
                                     .accumulate = k > 0,
                                     .pairs = p->half});
    if (t->y_dtype == SP_BF16)
        finish(t, w->sums, width, r0, rows, m, true);
    else
        finish(t, w->sums, width, r0, rows, m, false);
}

/* Panels of blocks of rows. */
static void run_items(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const linear *l = t->l;
    workspace w;
    workspace_lay(l, t->scratch + slot * workspace_lay(l, NULL, &w), &w);
    int64_t panels = panels_of(&l->pack), widened = -1;
    for (int64_t i = begin; i < end; i++) {
        int64_t r0 = i / panels * l->rows, rows = l->R - r0 < l->rows ? l->R - r0 : l->rows;
        if (l->widens && widened != r0)
            sp_row_from_bf16(w.x, (const uint16_t *)t->x + r0 * l->pack.C, rows * l->pack.C);
        widened = r0;
        multiply(t, &w, r0, rows, i % panels * PANEL);
    }
}

static int64_t item_count(const linear *l)
{
    return sp_ceil_div(l->R, l->rows) * panels_of(&l->pack);
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

static bool is_float(const sp_value *v)
{
    return v->dtype == SP_F32 || v->dtype == SP_BF16;
}

sp_status SP_KERNEL(linear)(const sp_node *node, sp_kernel *out)
{
    const sp_value *x = node->in[0], *weight = node->in[1], *y = node->out[0];
    if (!is_float(x) || sp_shape_count(x->shape) == 0 || sp_shape_count(y->shape) == 0)
        return SP_UNSUPPORTED;
    if (x->dtype == SP_BF16 && sp_onednn_uses_amx()) return SP_UNSUPPORTED;
    linear *l = sp_alloc_zero(sizeof *l);
    if (!l) return SP_MEMORY;
    int64_t K = sp_channels(x), M = sp_channels(y), threads = sp_threads();
    bool turned = ((const sp_linear_options *)node->options)->transposed;
    l->pack =
        (sp_weight_packer){.taps = 1,
                           .half = sp_product_takes_pairs && x->dtype == SP_BF16 && K % 2 == 0,
                           .dtype = weight->dtype,
                           .C = K,
                           .M = M,
                           .output_stride = turned ? 1 : K,
                           .input_stride = turned ? M : 1,
                           .group = K,
                           .panel = PANEL};
    l->widens = x->dtype == SP_BF16 && !l->pack.half;
    l->R = sp_shape_count(x->shape) / K;
    l->rows = sp_round_up(sp_ceil_div(l->R, sp_ceil_div(l->R, MAX_ROWS)), 2);
    l->workers = item_count(l) < threads ? item_count(l) : threads;
    workspace w;
    out->run = run;
    out->state = l;
    out->destroy = sp_free;
    out->scratch = (size_t)(l->workers * workspace_lay(l, NULL, &w)) * sizeof(float);
    int64_t columns = sp_round_up(M, SP_LANES);
    out->packing[1] =
        (sp_packing){.bytes = (size_t)(depth_of(&l->pack) * columns) * sizeof(float),
                     .key = 0x6c696e6561720000u ^ (uint64_t)(turned * 2 + l->pack.half),
                     .pack = SP_ISA_SYMBOL(sp_weight_pack),
                     .state = &l->pack};
    return SP_OK;
}
