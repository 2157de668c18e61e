/* norm_conv2d as group_norm and conv2d, some rows of y at a time, so that neither what the norm makes nor what a
 * shortcut makes is ever there as a whole. The norm's moments are taken of all of x first. Each element is what the
 * operators one after the other make, bit for bit: a strip begins where all kinds of tiles do, and the way that the
 * convolution is computed is that of the whole. */
#include <string.h>
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/norm_rows.h"
#include "base/parallel.h"

#define DECLARE(isa)                                                                                                  \
    size_t sp_norm_scratch_##isa(const sp_node *node);                                                                 \
    void sp_norm_moments_##isa(const sp_node *node, void *const *in, void *scratch);                                   \
    void sp_norm_rows_##isa(const sp_node *node, void *const *in, void *scratch, int64_t first, int64_t count,         \
                            void *to);
DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
DECLARE(avx512bf16)

size_t sp_norm_scratch(const sp_node *node)
{
    return SP_ISA_CALL(sp_norm_scratch, node);
}

void sp_norm_moments(const sp_node *node, void *const *in, void *scratch)
{
    SP_ISA_CALL(sp_norm_moments, node, in, scratch);
}

void sp_norm_rows(const sp_node *node, void *const *in, void *scratch, int64_t first, int64_t count, void *to)
{
    SP_ISA_CALL(sp_norm_rows, node, in, scratch, first, count, to);
}

enum { X, WEIGHT, BIAS, GAMMA, BETA, RESIDUAL, SHORTCUT, SHORTCUT_BIAS };
enum { USUAL, LAST, KINDS }; /* of strips: the last one has the rows that are left over, too */

static const sp_conv2d_options without_rows = {.stride = 1, .pad_left = 1, .pad_right = 1}, /* those are in the strip */
    whole_options = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1}, point = {.stride = 1};

/* The convolutions of a strip, each a node of its own. */
typedef struct {
    int64_t rows;
    sp_value z, y, residual, passed; /* passed: what the shortcut makes of the residual */
    sp_node conv, shortcut;
    sp_kernel convolve, pass;
} strip;

typedef struct {
    sp_value x, y, weight, bias, gamma, beta, shortcut_weight, shortcut_bias; /* whole */
    sp_node norm;
    sp_group_norm_options norm_options;
    strip strips[KINDS];
    int64_t count;                       /* of strips */
    size_t z_row, y_row, residual_row;   /* bytes */
    size_t moments_bytes, z_bytes, passed_bytes;
} norm_convolution;

static size_t aligned(size_t bytes)
{
    return (bytes + SP_ALIGNMENT - 1) / SP_ALIGNMENT * SP_ALIGNMENT;
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

/* ---- describing ---- */

static void describe_strip(const sp_node *node, norm_convolution *s, strip *t, int64_t rows)
{
    t->rows = rows;
    t->z = rows_of(&s->x, rows + 2);
    t->y = rows_of(&s->y, rows);
    t->conv = (sp_node){.op = &sp_op_conv2d,
                        .in = {&t->z, &s->weight, node->in[BIAS] ? &s->bias : NULL},
                        .out = {&t->y},
                        .inputs = 5,
                        .outputs = 1,
                        .options = &without_rows,
                        .scope = node->scope,
                        .rate = node->rate};
    if (!node->in[RESIDUAL]) return;
    t->residual = rows_of(node->in[RESIDUAL], rows);
    t->passed = t->y;
    t->conv.in[4] = node->in[SHORTCUT] ? &t->passed : &t->residual;
    if (!node->in[SHORTCUT]) return;
    t->shortcut = t->conv;
    t->shortcut.options = &point;
    t->shortcut.in[0] = &t->residual;
    t->shortcut.in[1] = &s->shortcut_weight;
    t->shortcut.in[2] = node->in[SHORTCUT_BIAS] ? &s->shortcut_bias : NULL;
    t->shortcut.in[4] = NULL;
    t->shortcut.out[0] = &t->passed;
}

static void describe(const sp_node *node, norm_convolution *s)
{
    const sp_norm_conv2d_options *o = node->options;
    sp_value *const values[] = {&s->x, &s->weight, &s->bias, &s->gamma, &s->beta, NULL, &s->shortcut_weight,
                                &s->shortcut_bias};
    for (int i = 0; i <= SHORTCUT_BIAS; i++)
        if (values[i] && node->in[i]) *values[i] = *node->in[i];
    s->y = *node->out[0];
    s->norm_options = o->norm;
    s->norm = (sp_node){.op = &sp_op_group_norm,
                        .in = {&s->x, node->in[GAMMA] ? &s->gamma : NULL, node->in[BETA] ? &s->beta : NULL},
                        .out = {&s->x},
                        .inputs = 3,
                        .outputs = 1,
                        .options = &s->norm_options,
                        .scope = node->scope,
                        .rate = node->rate};
    s->z_row = row_bytes(&s->x);
    s->y_row = row_bytes(&s->y);
    s->residual_row = node->in[RESIDUAL] ? row_bytes(node->in[RESIDUAL]) : 0;
}

/* ---- preparing ---- */

static sp_status prepare_strip(norm_convolution *s, strip *t, bool shortcut)
{
    const sp_node whole = {.op = &sp_op_conv2d, .in = {&s->x, &s->weight}, .out = {&s->y}, .inputs = 2,
                           .outputs = 1, .options = &whole_options};
    SP_TRY(sp_convolution_prepare(sp_convolution_choice(&whole), &t->conv, &t->convolve));
    return shortcut ? sp_convolution_prepare(SP_CONVOLUTION_DIRECT, &t->shortcut, &t->pass) : SP_OK;
}

static bool same_packing(const sp_kernel *a, const sp_kernel *b)
{
    for (int i = 1; i < 3; i++)
        if (a->packing[i].key != b->packing[i].key || a->packing[i].bytes != b->packing[i].bytes) return false;
    return true;
}

static void drop_kernels(norm_convolution *s)
{
    for (int k = 0; k < KINDS; k++) {
        strip *t = &s->strips[k];
        if (t->convolve.destroy) t->convolve.destroy(t->convolve.state);
        if (t->pass.destroy) t->pass.destroy(t->pass.state);
        t->convolve = t->pass = (sp_kernel){0};
    }
}

static void destroy(void *state)
{
    drop_kernels(state);
    sp_free(state);
}

/* In `count` strips, all of `rows` rows but for the last one. */
static sp_status prepare_strips(const sp_node *node, norm_convolution *s, int64_t rows, int64_t count)
{
    const int64_t sizes[KINDS] = {rows, sp_dim(&s->x, 1) - (count - 1) * rows};
    s->count = count;
    for (int k = 0; k < KINDS; k++) {
        describe_strip(node, s, &s->strips[k], sizes[k]);
        SP_TRY(prepare_strip(s, &s->strips[k], node->in[SHORTCUT]));
    }
    return SP_OK;
}

/* Where both kinds do not want weights alike there is one strip. */
static sp_status choose_strips(const sp_node *node, norm_convolution *s)
{
    const sp_norm_conv2d_options *o = node->options;
    int64_t H = sp_dim(&s->x, 1), count = o->rows > 0 ? H / o->rows : 0;
    if (count > 1) {
        SP_TRY(prepare_strips(node, s, o->rows, count));
        const strip *t = s->strips;
        if (same_packing(&t[USUAL].convolve, &t[LAST].convolve) && same_packing(&t[USUAL].pass, &t[LAST].pass))
            return SP_OK;
        drop_kernels(s);
    }
    return prepare_strips(node, s, H, 1);
}

/* ---- running ---- */

/* Rows of z from row `from` of x, which may lie one row outside of it on either side, where zeros are. */
static void normalise(const norm_convolution *s, void *const *in, void *moments, int64_t from, int64_t rows, char *to)
{
    int64_t H = sp_dim(&s->x, 1), W = sp_dim(&s->x, 2);
    if (from < 0) {
        memset(to, 0, s->z_row);
        to += s->z_row;
        from++;
        rows--;
    }
    if (from + rows > H) memset(to + (size_t)--rows * s->z_row, 0, s->z_row);
    sp_norm_rows(&s->norm, in, moments, from * W, rows * W, to);
}

static void run_strip(const norm_convolution *s, const strip *t, void *const *in, char *z, char *passed, void *rest,
                      int64_t row, char *y)
{
    char *residual = in[RESIDUAL] ? (char *)in[RESIDUAL] + (size_t)row * s->residual_row : NULL;
    if (t->pass.run) {
        void *out = passed, *from[SP_MAX_INPUTS] = {residual, in[SHORTCUT], in[SHORTCUT_BIAS]};
        t->pass.run(t->pass.state, &t->shortcut, from, &out, rest);
        residual = passed;
    }
    void *out = y + (size_t)row * s->y_row, *from[SP_MAX_INPUTS] = {z, in[WEIGHT], in[BIAS], NULL, residual};
    t->convolve.run(t->convolve.state, &t->conv, from, &out, rest);
}

/* A strip's z has a row more on either side. The last two of each are the next one's first, so y may be written over
 * x: what is read of it lies ahead. */
static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    const norm_convolution *s = state;
    char *moments = scratch, *z = moments + s->moments_bytes, *passed = z + s->z_bytes;
    char *rest = passed + s->passed_bytes;
    void *norm_in[SP_MAX_INPUTS] = {in[X], in[GAMMA], in[BETA]}, *all[SP_MAX_INPUTS] = {0};
    for (int i = 0; i < node->inputs; i++)
        all[i] = node->in[i] ? in[i] : NULL;
    sp_norm_moments(&s->norm, norm_in, moments);
    for (int64_t k = 0, row = 0; k < s->count; row += s->strips[USUAL].rows, k++) {
        const strip *t = &s->strips[k == s->count - 1 ? LAST : USUAL];
        int64_t kept = k ? 2 : 0;
        if (kept) memmove(z, z + (size_t)s->strips[USUAL].rows * s->z_row, 2 * s->z_row);
        normalise(s, norm_in, moments, row - 1 + kept, t->rows + 2 - kept, z + (size_t)kept * s->z_row);
        run_strip(s, t, all, z, passed, rest, row, out[0]);
    }
}

static bool supports(const sp_node *node)
{
    bool alike = node->out[0]->dtype == node->in[X]->dtype && sp_dim(node->in[X], 0) == 1;
    return alike && (!node->in[RESIDUAL] || node->in[RESIDUAL]->dtype == node->in[X]->dtype);
}

static size_t most_scratch(const norm_convolution *s)
{
    size_t most = 0;
    for (int k = 0; k < KINDS; k++) {
        size_t convolve = s->strips[k].convolve.scratch, pass = s->strips[k].pass.scratch;
        most = convolve > most ? convolve : most;
        most = pass > most ? pass : most;
    }
    return most;
}

static sp_status prepare(const sp_node *node, sp_kernel *out)
{
    norm_convolution *s = sp_alloc_zero(sizeof *s);
    if (!s) return SP_MEMORY;
    describe(node, s);
    sp_status status = choose_strips(node, s);
    if (status) {
        destroy(s);
        return status;
    }
    const strip *last = &s->strips[LAST];
    s->moments_bytes = aligned(sp_norm_scratch(&s->norm));
    s->z_bytes = aligned((size_t)(last->rows + 2) * s->z_row);
    s->passed_bytes = last->pass.run ? aligned((size_t)last->rows * s->y_row) : 0;
    out->run = run;
    out->state = s;
    out->destroy = destroy;
    out->scratch = s->moments_bytes + s->z_bytes + s->passed_bytes + most_scratch(s);
    out->in_place = !node->in[RESIDUAL] || node->in[RESIDUAL] != node->in[X];
    out->packing[WEIGHT] = last->convolve.packing[1];
    out->packing[BIAS] = last->convolve.packing[2];
    out->packing[SHORTCUT] = last->pass.packing[1];
    out->packing[SHORTCUT_BIAS] = last->pass.packing[2];
    return SP_OK;
}

const sp_cpu_kernel sp_cpu_norm_convolution[] = {
    {&sp_op_norm_conv2d, SP_DTYPE_BIT(SP_F32) | SP_DTYPE_BIT(SP_BF16), supports, prepare, "norm_conv2d in strips"},
    {0},
};
