/* The kernels: tiles in blocks, transformed, multiplied point by point, transformed back. Filters are packed as
 * their points where those stay in a cache, or tiles are many: a worker takes a block of tiles and meets all
 * filters. Else they are packed as taps, which are half to a seventh of the points, and half of that in 16 bits: all
 * tiles are transformed first, and a worker takes a panel of filters, makes points of some channels at a time in its
 * cache and meets a block of tiles. */
#include "backend/cpu/vector/product/winograd.h"
#include "backend/cpu/vector/product/held_weight.h"

/* Most channels, and tiles where filters are packed as taps, that are multiplied at a time: of one point they take
 * 12 KB in f32, a panel's filters as much, and the products 16. */
#define MAX_DEPTH 48
#define MAX_TILES 64

typedef struct {
    sp_winograd_shape shape;
    sp_weight_packer packer;
    bool taps;       /* filters are packed as taps */
    bool shared;     /* all tiles are transformed first, for panels dealt to the workers */
    int64_t depth;   /* channels that are multiplied at a time */
    int64_t workers; /* that scratch was reserved for */
} convolution;

/* ---- sizes ---- */

static int64_t element_bytes(const convolution *c)
{
    return c->shape.half ? 2 : 4;
}

/* Of the points of `depth` channels of a block of transformed tiles. */
static int64_t v_stride(const convolution *c)
{
    return sp_winograd_stride(c->shape.block * c->depth, c->shape.half ? 32 : 16);
}

/* A block of transformed tiles: [part of the channels][point][tile][channel], so that what is multiplied together lies
 * together. */
static int64_t v_bytes(const convolution *c)
{
    int64_t parts = sp_ceil_div(c->shape.C, c->depth);
    return sp_round_up(parts * sp_winograd_points(&c->shape) * v_stride(c) * element_bytes(c), 64);
}

static int64_t product_stride(const sp_winograd_shape *s)
{
    return sp_winograd_stride(s->block * SP_WINOGRAD_PANEL, 16);
}

static int64_t product_bytes(const sp_winograd_shape *s)
{
    return sp_winograd_points(s) * product_stride(s) * (int64_t)sizeof(float);
}

static int64_t zero_bytes(const sp_winograd_shape *s)
{
    return sp_round_up(s->C * (int64_t)sizeof(float), 64);
}

/* Of the points that are made of taps at a time. */
static int64_t made_stride(const convolution *c)
{
    return sp_winograd_stride(c->depth * SP_WINOGRAD_PANEL, 16);
}

static int64_t made_bytes(const convolution *c)
{
    return c->taps ? sp_winograd_points(&c->shape) * made_stride(c) * (int64_t)sizeof(float) : 0;
}

static int64_t block_count(const sp_winograd_shape *s)
{
    return sp_ceil_div(s->tiles, s->block);
}

static int64_t panel_count(const sp_winograd_shape *s)
{
    return sp_ceil_div(s->M, SP_WINOGRAD_PANEL);
}

/* Tiles at a time: as many as half of a second cache level holds, for each turns a kernel read from
 * farther away to use; whole register blocks. */
static int64_t choose_block(const sp_winograd_shape *s)
{
    int64_t bytes = sp_winograd_points(s) * s->C * (s->half ? 2 : 4), fit = 512 * 1024 / bytes;
    int64_t block = fit < 18 ? 18 : fit > 48 ? 48 : fit / 6 * 6;
    return block < s->tiles ? block : s->tiles;
}

/* ---- one run ---- */

typedef struct {
    const convolution *c;
    const void *x;
    const char *u;
    sp_convolution_sums sums;
    void *y;
    char *zeros, *v, *scratch; /* v: of all tiles, where it is shared */
} task;

/* Filters of one panel, or of some channels of it: element (channel, column) of point e at
 * from[e * point_stride + channel * columns + column]. */
typedef struct {
    const char *from;
    int64_t point_stride, columns;
} filters;

/* products (+)= the channels first .. first+depth-1 of a block of `count` tiles times their filters. */
static void multiply_points(const task *t, const char *v, int64_t count, const filters *u, int64_t first, int64_t depth,
                            float *products)
{
    const sp_winograd_shape *s = &t->c->shape;
    int64_t points = sp_winograd_points(s), element = element_bytes(t->c), step = s->half ? 2 : 1;
    for (int64_t e = 0; e < points; e++)
        sp_product_run(&(sp_product){.a = v + (first / t->c->depth * points + e) * v_stride(t->c) * element,
                                     .a_row = t->c->depth / step,
                                     .a_column = 1,
                                     .b = u->from + e * u->point_stride * element,
                                     .b_row = u->columns,
                                     .c = products + e * product_stride(s),
                                     .c_row = u->columns,
                                     .rows = count,
                                     .columns = u->columns,
                                     .depth = depth / step,
                                     .accumulate = first > 0,
                                     .pairs = s->half});
}

/* Filters of the panel that begins at output channel m, for input channels k .. k+depth-1: as they are packed, or made
 * of taps in `made`. */
static filters take_filters(const task *t, int64_t m, int64_t columns, int64_t k, int64_t depth, float *made)
{
    const convolution *c = t->c;
    const sp_winograd_shape *s = &c->shape;
    if (c->taps) {
        sp_weight_points(&c->packer, t->u, s->output, m, k, depth, made, made_stride(c));
        return (filters){(const char *)made, made_stride(c), columns};
    }
    int64_t first = m * s->C * sp_winograd_points(s) + k * columns;
    return (filters){t->u + first * element_bytes(c), s->C * columns, columns};
}

/* Products of one block of tiles with one panel, and what becomes of them. made: room for points, where filters are
 * packed as taps. */
static void multiply(const task *t, const char *v, int64_t first, int64_t count, int64_t panel, float *products,
                     float *made)
{
    const convolution *c = t->c;
    const sp_winograd_shape *s = &c->shape;
    int64_t channel = panel * SP_WINOGRAD_PANEL, left = s->M - channel;
    int64_t columns = left < SP_WINOGRAD_PANEL ? left : SP_WINOGRAD_PANEL;
    for (int64_t k = 0; k < s->C; k += c->depth) {
        int64_t depth = s->C - k < c->depth ? s->C - k : c->depth;
        filters u = take_filters(t, channel, columns, k, depth, made);
        multiply_points(t, v, count, &u, k, depth, products);
    }
    sp_winograd_output(s, products, product_stride(s), columns, first, count, channel, columns, &t->sums,
                       t->y);
}

/* Blocks of tiles from beginning to end, all panels. */
static void run_blocks(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_winograd_shape *s = &t->c->shape;
    char *v = t->scratch + slot * (v_bytes(t->c) + product_bytes(s));
    float *products = (float *)(void *)(v + v_bytes(t->c));
    for (int64_t block = begin; block < end; block++) {
        int64_t first = block * s->block, left = s->tiles - first;
        int64_t count = left < s->block ? left : s->block;
        sp_winograd_input(s, t->x, t->zeros, first, count, v, t->c->depth, v_stride(t->c));
        for (int64_t panel = 0; panel < panel_count(s); panel++)
            multiply(t, v, first, count, panel, products, NULL);
    }
}

static void transform_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    const convolution *c = t->c;
    const sp_winograd_shape *s = &c->shape;
    while (begin < end) {
        int64_t within = begin % s->block, left = s->block - within;
        int64_t count = end - begin < left ? end - begin : left;
        char *v = t->v + begin / s->block * v_bytes(c) + within * c->depth * element_bytes(c);
        sp_winograd_input(s, t->x, t->zeros, begin, count, v, c->depth, v_stride(c));
        begin += count;
    }
}

/* Panels and blocks, panels outermost, of tiles transformed before. */
static void run_panels(void *context, int64_t begin, int64_t end, int64_t slot)
{
    const task *t = context;
    const sp_winograd_shape *s = &t->c->shape;
    float *products = (float *)(void *)(t->scratch + slot * (product_bytes(s) + made_bytes(t->c)));
    float *made = products + product_bytes(s) / (int64_t)sizeof *made;
    for (int64_t i = begin; i < end; i++) {
        int64_t block = i % block_count(s), first = block * s->block, left = s->tiles - first;
        multiply(t, t->v + block * v_bytes(t->c), first, left < s->block ? left : s->block, i / block_count(s),
                 products, made);
    }
}

static void run(const convolution *c, task *t, void *scratch)
{
    const sp_winograd_shape *s = &c->shape;
    t->c = c;
    t->zeros = scratch;
    memset(t->zeros, 0, (size_t)zero_bytes(s));
    t->v = t->zeros + zero_bytes(s);
    t->scratch = t->v;
    sp_slots slots = {
        .items = block_count(s), .slots = c->workers, .work = run_blocks, .context = t};
    if (c->shared) {
        t->scratch += block_count(s) * v_bytes(c);
        sp_parallel_for(s->tiles, 1, transform_range, t);
        slots.items *= panel_count(s);
        slots.work = run_panels;
    }
    sp_slots_run(&slots);
}

/* ---- nodes ---- */

void sp_winograd_describe(sp_convolution_form form, const sp_value *x, const sp_value *y,
                          const sp_conv2d_options *o, sp_winograd_shape *s)
{
    int m = sp_winograd_output_of(form);
    *s = (sp_winograd_shape){.output = m,
                             .tile = m + 2,
                             .half = form == SP_CONVOLUTION_WINOGRAD_2_BF16,
                             .doubled = o->doubled,
                             .N = sp_dim(x, 0),
                             .H = sp_dim(x, 1),
                             .W = sp_dim(x, 2),
                             .C = sp_dim(x, 3),
                             .Ho = sp_dim(y, 1),
                             .Wo = sp_dim(y, 2),
                             .M = sp_dim(y, 3),
                             .pad_top = o->pad_top,
                             .pad_left = o->pad_left,
                             .x_dtype = x->dtype,
                             .y_dtype = y->dtype};
    s->tile_rows = sp_ceil_div(s->Ho, m);
    s->tile_columns = sp_ceil_div(s->Wo, m);
    s->tiles = s->N * s->tile_rows * s->tile_columns;
    s->block = choose_block(s);
}

/* Doubling skips points only where tiles begin at an odd place of the doubled picture. */
static bool fits(sp_convolution_form form, const sp_value *x, const sp_value *weight,
                 const sp_value *y, const sp_conv2d_options *o)
{
    if (form == SP_CONVOLUTION_DIRECT) return false;
    bool small = sp_is_f32_or_bf16(x) && sp_is_f32_or_bf16(y);
    bool pairs = form != SP_CONVOLUTION_WINOGRAD_2_BF16 || (sp_product_takes_pairs && sp_dim(x, 3) % 2 == 0);
    return small && pairs && o->stride == 1 && sp_dim(weight, 2) == 3 && sp_dim(weight, 3) == 3 &&
           sp_dim(y, 3) % SP_LANES == 0 && sp_shape_count(x->shape) > 0 &&
           sp_shape_count(y->shape) > 0 && (!o->doubled || (o->pad_top % 2 && o->pad_left % 2));
}

static void plan_work(convolution *c, sp_kernel *out)
{
    const sp_winograd_shape *s = &c->shape;
    int64_t threads = sp_threads(), blocks = block_count(s);
    c->shared = c->taps || (blocks < 4 * threads && threads > 1);
    int64_t items = blocks * (c->shared ? panel_count(s) : 1);
    c->workers = items < threads ? items : threads;
    int64_t each = product_bytes(s) + (c->shared ? made_bytes(c) : v_bytes(c));
    out->scratch = (size_t)(zero_bytes(s) + (c->shared ? blocks * v_bytes(c) : 0) + c->workers * each);
}

static sp_status create(sp_convolution_form form, sp_convolution_filters filters, const sp_winograd_shape *shape,
                        const sp_value *x, const sp_value *weight, bool of_gradient, sp_kernel *out)
{
    convolution *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    int64_t outer = 9 * sp_dim(weight, 1), inner = 9;
    c->shape = *shape;
    const sp_convolution_row layer = {
        .positions = shape->N * shape->Ho * shape->Wo, .C = shape->C, .M = shape->M, .doubled = shape->doubled};
    c->taps = filters == SP_FILTERS_BY_SIZE ? sp_convolution_packs_taps(form, &layer) : filters == SP_FILTERS_TAPS;
    if (c->taps) c->shape.block = sp_part_of(shape->tiles, MAX_TILES, 1);
    c->depth = shape->half ? shape->C : sp_part_of(shape->C, MAX_DEPTH, SP_LANES);
    const sp_dtype held = c->taps ? sp_weight_held(weight, x, of_gradient) : SP_F32;
    c->packer = (sp_weight_packer){.taps = 9,
                                   .output = c->taps ? 0 : shape->output,
                                   .held = shape->half ? SP_BF16 : held,
                                   .pairs = shape->half,
                                   .turned = of_gradient,
                                   .doubled = shape->doubled,
                                   .dtype = weight->dtype,
                                   .C = shape->C,
                                   .M = shape->M,
                                   .output_stride = of_gradient ? inner : outer,
                                   .input_stride = of_gradient ? outer : inner,
                                   .group = shape->C,
                                   .panel = SP_WINOGRAD_PANEL};
    plan_work(c, out);
    out->packing[1] = sp_weight_packing(&c->packer);
    out->state = c;
    out->destroy = sp_free;
    return SP_OK;
}

static void run_forward(void *state, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    run(state, &(task){.x = in[0], .u = in[1], .y = out[0], .sums = sp_convolution_sums_of(node, in)}, scratch);
}

sp_status SP_ISA_SYMBOL(sp_winograd)(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,
                                     sp_kernel *out)
{
    const sp_conv2d_options *o = node->options;
    if (!fits(form, node->in[0], node->in[1], node->out[0], o)) return SP_UNSUPPORTED;
    if (node->inputs > 2 && node->in[2] && node->in[2]->dtype != SP_F32) return SP_UNSUPPORTED;
    sp_winograd_shape shape;
    sp_winograd_describe(form, node->in[0], node->out[0], o, &shape);
    out->run = run_forward;
    return create(form, filters, &shape, node->in[0], node->in[1], false, out);
}

static void run_gradient(void *state, const sp_node *node, void *const *in, void *const *out,
                         void *scratch)
{
    (void)node;
    run(state, &(task){.x = in[0], .u = in[1], .y = out[0]}, scratch);
}

sp_status SP_ISA_SYMBOL(sp_winograd_data_gradient)(sp_convolution_form form, const sp_node *node,
                                                   sp_kernel *out)
{
    const sp_conv2d_gradient_options *options = node->options;
    sp_conv2d_options turned = options->conv;
    turned.pad_top = 2 - turned.pad_top;
    turned.pad_left = 2 - turned.pad_left;
    if (!fits(form, node->in[0], node->in[1], node->out[0], &turned) || turned.doubled)
        return SP_UNSUPPORTED;
    sp_winograd_shape shape;
    sp_winograd_describe(form, node->in[0], node->out[0], &turned, &shape);
    out->run = run_gradient;
    return create(form, SP_FILTERS_BY_SIZE, &shape, node->in[0], node->in[1], true, out);
}

sp_status SP_KERNEL(conv2d)(const sp_node *node, sp_kernel *out)
{
    sp_status status = SP_ISA_SYMBOL(sp_winograd)(sp_convolution_choice(node), SP_FILTERS_BY_SIZE, node, out);
    return status == SP_UNSUPPORTED ? sp_direct_convolution(node, out) : status;
}

sp_status SP_KERNEL(conv2d_data_gradient)(const sp_node *node, sp_kernel *out)
{
    sp_status status = SP_ISA_SYMBOL(sp_winograd_data_gradient)(sp_convolution_choice(node), node, out);
    return status == SP_UNSUPPORTED ? sp_direct_data_gradient(node, out) : status;
}
