/* Convolutions some rows at a time: a strip is a node of its own, prepared as the whole is. */
#include "backend/cpu/strip_convolution.h"
#include <string.h>
#include "backend/cpu/kernel_table.h"
#include "base/parallel.h"

enum { X, WEIGHT, BIAS, PER_CHANNEL, RESIDUAL };

sp_strips_cut sp_strips_of(int64_t height, int64_t rows)
{
    int64_t count = rows > 0 ? height / rows : 0;
    return count > 1 ? (sp_strips_cut){rows, count, height} : (sp_strips_cut){height, 1, height};
}

static sp_value rows_of(const sp_value *whole, int64_t rows)
{
    sp_value v = *whole;
    v.shape.dim[1] = rows;
    return v;
}

static size_t row_bytes(const sp_value *whole)
{
    return sp_value_bytes(whole) / (size_t)sp_dim(whole, 1);
}

static bool is_point(const sp_strip_convolution *s)
{
    return sp_dim(&s->weight, 2) == 1;
}

/* Rows of x's window for so many of y; of a doubled picture before it is doubled. */
static int64_t window_rows(const sp_strip_convolution *s, const sp_node *whole, int64_t rows)
{
    const sp_conv2d_options *o = whole->options;
    return is_point(s) ? rows : o->doubled ? rows / 2 + 2 : rows + 2;
}

/* ---- preparing ---- */

static void describe(sp_strip_convolution *s, sp_strip *t, const sp_node *whole, int64_t rows)
{
    t->x = rows_of(whole->in[X], window_rows(s, whole, rows));
    if (s->expanded_bytes) {
        t->x.shape.dim[1] = rows + 2;
        t->x.shape.dim[2] *= 2;
    }
    t->y = rows_of(whole->out[0], rows);
    t->node = (sp_node){.op = &sp_op_conv2d,
                        .in = {&t->x, &s->weight, whole->in[BIAS] ? &s->bias : NULL},
                        .out = {&t->y},
                        .inputs = 5,
                        .outputs = 1,
                        .options = &s->options,
                        .scope = whole->scope,
                        .rate = whole->rate};
    if (!whole->in[RESIDUAL]) return;
    t->residual = rows_of(whole->in[RESIDUAL], rows);
    t->node.in[RESIDUAL] = &t->residual;
}

static sp_status prepare_kinds(sp_strip_convolution *s, const sp_node *whole, sp_convolution_form form,
                               sp_convolution_filters filters)
{
    for (int kind = 0; kind < SP_STRIP_KINDS; kind++) {
        sp_strip *t = &s->strips[kind];
        describe(s, t, whole, sp_strip_rows(&s->cut, kind == SP_STRIP_LAST ? s->cut.count - 1 : 0));
        t->kernel = (sp_kernel){.name = sp_convolution_form_name(form)};
        bool own = s->options.doubled; /* others double by themselves, and know no rows that are left out */
        SP_TRY(own ? sp_winograd_prepare(form, filters, &t->node, &t->kernel)
                   : sp_convolution_prepare(form, filters, &t->node, &t->kernel));
        if (t->kernel.scratch > s->scratch) s->scratch = t->kernel.scratch;
    }
    return SP_OK;
}

void sp_strip_convolution_free(sp_strip_convolution *s)
{
    for (int kind = 0; kind < SP_STRIP_KINDS; kind++) {
        sp_kernel *kernel = &s->strips[kind].kernel;
        if (kernel->destroy) kernel->destroy(kernel->state);
        *kernel = (sp_kernel){0};
    }
}

static size_t aligned(size_t bytes)
{
    return (bytes + SP_ALIGNMENT - 1) / SP_ALIGNMENT * SP_ALIGNMENT;
}

/* A doubled picture's window begins and ends with half a row of y too many, which the padding takes away; where no
 * kernel of ours doubles, the window is doubled in memory. */
static sp_status prepare_doubled(sp_strip_convolution *s, const sp_node *whole, sp_convolution_form form,
                                 sp_convolution_filters filters)
{
    s->options = (sp_conv2d_options){.stride = 1, .pad_top = -1, .pad_left = 1, .pad_bottom = -1, .pad_right = 1,
                                     .doubled = true};
    sp_status status = form == SP_CONVOLUTION_DIRECT ? SP_UNSUPPORTED : prepare_kinds(s, whole, form, filters);
    if (status != SP_UNSUPPORTED) return status;
    sp_strip_convolution_free(s);
    s->options = (sp_conv2d_options){.stride = 1, .pad_left = 1, .pad_right = 1};
    s->expanded_bytes = aligned((size_t)(sp_strip_rows(&s->cut, s->cut.count - 1) + 2) * 2 * s->window_row);
    s->scratch = 0;
    SP_TRY(prepare_kinds(s, whole, SP_CONVOLUTION_DIRECT, filters));
    s->scratch += s->expanded_bytes;
    return SP_OK;
}

sp_status sp_strip_convolution_prepare(sp_strip_convolution *s, const sp_node *whole, const sp_strips_cut *cut)
{
    const sp_conv2d_options *o = whole->options;
    *s = (sp_strip_convolution){.cut = *cut, .weight = *whole->in[WEIGHT]};
    if (whole->in[BIAS]) s->bias = *whole->in[BIAS];
    s->window_row = row_bytes(whole->in[X]);
    s->y_row = row_bytes(whole->out[0]);
    sp_convolution_form form = sp_convolution_choice(whole);
    sp_convolution_filters filters = sp_convolution_filters_of(form, whole);
    if (o->doubled) return prepare_doubled(s, whole, form, filters);
    s->options = *o;
    s->options.pad_top = s->options.pad_bottom = 0; /* those rows are in the window */
    return prepare_kinds(s, whole, form, filters);
}

bool sp_strips_alike(const sp_strip_convolution *s)
{
    const sp_packing *usual = s->strips[SP_STRIP_USUAL].kernel.packing, *last = s->strips[SP_STRIP_LAST].kernel.packing;
    for (int i = WEIGHT; i <= BIAS; i++)
        if (usual[i].key != last[i].key || usual[i].bytes != last[i].bytes) return false;
    return true;
}

/* ---- running ---- */

int64_t sp_strip_window_rows(const sp_strip_convolution *s, int64_t k)
{
    int64_t rows = sp_strip_rows(&s->cut, k);
    return is_point(s) ? rows : s->options.doubled || s->expanded_bytes ? rows / 2 + 2 : rows + 2;
}

typedef struct {
    const char *from;
    char *to;
    int64_t width; /* of what is doubled */
    size_t pixel;  /* bytes */
} doubling;

/* Rows of the doubled window, the first of which is the second half of its first row. */
static void double_rows(void *context, int64_t begin, int64_t end)
{
    const doubling *d = context;
    size_t row = (size_t)d->width * d->pixel;
    for (int64_t r = begin; r < end; r++) {
        const char *from = d->from + (size_t)((r + 1) / 2) * row;
        char *to = d->to + (size_t)r * 2 * row;
        for (int64_t w = 0; w < d->width; w++, from += d->pixel, to += 2 * d->pixel) {
            memcpy(to, from, d->pixel);
            memcpy(to + d->pixel, from, d->pixel);
        }
    }
}

void sp_strip_convolve(const sp_strip_convolution *s, int64_t k, void *window, void *weight, void *bias, void *residual,
                       void *y, void *scratch)
{
    const sp_strip *t = &s->strips[k == s->cut.count - 1 ? SP_STRIP_LAST : SP_STRIP_USUAL];
    if (s->expanded_bytes) {
        int64_t width = sp_dim(&t->x, 2) / 2;
        sp_parallel_for(sp_dim(&t->x, 1), 1, double_rows,
                        &(doubling){window, scratch, width, s->window_row / (size_t)width});
        window = scratch;
        scratch = (char *)scratch + s->expanded_bytes;
    }
    void *in[SP_MAX_INPUTS] = {window, weight, bias, NULL, residual};
    t->kernel.run(t->kernel.state, &t->node, in, &y, scratch);
}
