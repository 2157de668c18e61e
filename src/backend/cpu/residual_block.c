/* residual_block, some rows at a time. In three passes over strips: v and its moments, where there is an upsampling
 * before the block; h and its moments; y. Between two passes a strip is kept: v, then h and what is added to it. Where
 * not all strips fit into the memory that is allowed, the last ones are not kept but made again in the passes that
 * follow. Each element is what the operators one after the other make, bit for bit: strips are convolved and
 * normalised as the whole is.
 *
 * Strips are kept in memory that is free until y is there: y's own, x's as far as it has been read where x may be
 * written over, and scratch. Of an upsampled v a strip takes the place of h and of what the shortcut makes, for it has
 * as many channels as both. */
#include <string.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/norm_rows.h"
#include "backend/cpu/strip_convolution.h"

enum { FIRST, SECOND, UP, SHORTCUT, CONVOLUTIONS };
/* Where a strip is kept. */
typedef enum { IN_Y, IN_X, IN_SCRATCH, NOWHERE } region;
typedef struct {
    region region;
    size_t offset;
} place;

/* A norm and the convolution behind it. */
typedef struct {
    sp_node norm;
    sp_group_norm_options options;
    size_t moments, parts, window; /* offsets in the scratch */
} stage;

typedef struct {
    sp_value x, v, h, y, weights[CONVOLUTIONS], biases[CONVOLUTIONS], gammas[2], betas[2]; /* whole */
    sp_node whole[CONVOLUTIONS];
    sp_strip_convolution convolutions[CONVOLUTIONS];
    stage stages[2];
    bool has_up, has_shortcut, consumes, limited;
    sp_strips_cut cut;
    int64_t kept;   /* strips */
    place *places;  /* of all strips */
    size_t v_row, h_row, x_row; /* bytes */
    size_t up_window, v_strip, h_strip, edge, rest; /* offsets in the scratch, which begins with places of strips */
    size_t scratch;
} block;

static size_t aligned(size_t bytes)
{
    return (bytes + SP_ALIGNMENT - 1) / SP_ALIGNMENT * SP_ALIGNMENT;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t row_bytes(const sp_value *whole)
{
    return sp_value_bytes(whole) / (size_t)sp_dim(whole, 1);
}

/* ---- describing ---- */

typedef struct {
    sp_value *x, *y;
    sp_block_input weight, bias;
    const sp_conv2d_options *options;
    sp_value *residual;
} convolution;

static sp_value *copied(const sp_node *node, sp_block_input input, sp_value *to)
{
    if (!node->in[input]) return NULL;
    *to = *node->in[input];
    return to;
}

static void describe_convolution(const sp_node *node, block *s, int i, const convolution *c)
{
    s->whole[i] = (sp_node){.op = &sp_op_conv2d,
                            .in = {c->x, copied(node, c->weight, &s->weights[i]), copied(node, c->bias, &s->biases[i]),
                                   NULL, c->residual},
                            .out = {c->y},
                            .inputs = 5,
                            .outputs = 1,
                            .options = c->options,
                            .scope = node->scope,
                            .rate = node->rate};
}

static void describe_norm(const sp_node *node, block *s, int i, sp_value *x, const sp_group_norm_options *options,
                          sp_block_input gamma)
{
    s->stages[i].options = *options;
    s->stages[i].norm = (sp_node){.op = &sp_op_group_norm,
                                  .in = {x, copied(node, gamma, &s->gammas[i]), copied(node, gamma + 1, &s->betas[i])},
                                  .out = {x},
                                  .inputs = 3,
                                  .outputs = 1,
                                  .options = &s->stages[i].options,
                                  .scope = node->scope,
                                  .rate = node->rate};
}

static void describe(const sp_node *node, block *s)
{
    static const sp_conv2d_options plain = {1, 1, 1, 1, 1, false}, doubling = {1, 1, 1, 1, 1, true},
                                   point = {1, 0, 0, 0, 0, false};
    const sp_residual_block_options *o = node->options;
    s->x = *node->in[SP_BLOCK_X];
    s->has_up = node->in[SP_BLOCK_UP_WEIGHT];
    s->has_shortcut = node->in[SP_BLOCK_SHORTCUT];
    s->consumes = o->consumes;
    s->y = s->h = *node->out[0];
    s->v = s->x;
    if (s->has_up) {
        s->v.shape = s->y.shape;
        s->v.shape.dim[3] = sp_dim(node->in[SP_BLOCK_UP_WEIGHT], 0);
    }
    describe_norm(node, s, FIRST, &s->v, &o->norm1, SP_BLOCK_GAMMA1);
    describe_norm(node, s, SECOND, &s->h, &o->norm2, SP_BLOCK_GAMMA2);
    describe_convolution(node, s, FIRST, &(convolution){&s->v, &s->h, SP_BLOCK_WEIGHT1, SP_BLOCK_BIAS1, &plain, NULL});
    describe_convolution(node, s, SECOND,
                         &(convolution){&s->h, &s->y, SP_BLOCK_WEIGHT2, SP_BLOCK_BIAS2, &plain, &s->y});
    if (s->has_up)
        describe_convolution(node, s, UP, &(convolution){&s->x, &s->v, SP_BLOCK_UP_WEIGHT, SP_BLOCK_UP_BIAS, &doubling,
                                                         NULL});
    if (s->has_shortcut)
        describe_convolution(node, s, SHORTCUT, &(convolution){&s->v, &s->y, SP_BLOCK_SHORTCUT, SP_BLOCK_SHORTCUT_BIAS,
                                                               &point, NULL});
    s->x_row = row_bytes(&s->x);
    s->v_row = row_bytes(&s->v);
    s->h_row = row_bytes(&s->h);
}

static bool has(const block *s, int i)
{
    return i == UP ? s->has_up : i == SHORTCUT ? s->has_shortcut : true;
}

/* ---- where strips are kept ---- */

/* What is kept of a strip: v, and after it h and what the shortcut made; or, of a v that is there, h. */
static size_t strip_bytes(const block *s, int64_t k)
{
    size_t row = s->has_up && s->v_row > 2 * s->h_row ? s->v_row : s->has_up ? 2 * s->h_row : s->h_row;
    return (size_t)sp_strip_rows(&s->cut, k) * row;
}

/* The bytes of x that are free when strip k of v is made: those read so far but for what strips that are not kept will
 * need again. */
static size_t free_of_x(const block *s, int64_t k, int64_t kept)
{
    if (!s->has_up || !s->consumes) return 0;
    int64_t H = sp_dim(&s->x, 1), read = (k + 1) * s->cut.rows / 2 + 1, needed = kept * s->cut.rows / 2 - 1;
    if (k == s->cut.count - 1 || read > H) read = H;
    if (kept < s->cut.count && read > needed) read = needed;
    return read > 0 ? (size_t)read * s->x_row : 0;
}

/* Finds places for the first `kept` strips; returns bytes of scratch. y is written from its beginning, strip after
 * strip, each when what is kept of it, and so of all before, has been read. */
static size_t find_places(block *s, int64_t kept)
{
    size_t of_y = 0, of_x = 0, of_scratch = 0, y_bytes = s->limited && !s->has_up ? 0 : sp_value_bytes(&s->y);
    for (int64_t k = 0; k < s->cut.count; k++) {
        size_t bytes = strip_bytes(s, k);
        if (k >= kept) {
            s->places[k] = (place){NOWHERE, 0};
        } else if (of_y + bytes <= y_bytes) {
            s->places[k] = (place){IN_Y, of_y};
            of_y += bytes;
        } else if (aligned(of_x + bytes) <= free_of_x(s, k, kept)) {
            s->places[k] = (place){IN_X, of_x};
            of_x = aligned(of_x + bytes);
        } else {
            s->places[k] = (place){IN_SCRATCH, of_scratch};
            of_scratch = aligned(of_scratch + bytes);
        }
    }
    return of_scratch;
}

/* ---- preparing ---- */

static void free_convolutions(block *s)
{
    for (int i = 0; i < CONVOLUTIONS; i++)
        sp_strip_convolution_free(&s->convolutions[i]);
}

static void destroy(void *state)
{
    block *s = state;
    free_convolutions(s);
    sp_free(s->places);
    sp_free(s);
}

static sp_status cut_into(block *s, int64_t rows)
{
    bool alike = true;
    free_convolutions(s);
    sp_free(s->places);
    s->cut = sp_strips_of(sp_dim(&s->y, 1), rows);
    s->places = sp_alloc_zero((size_t)s->cut.count * sizeof *s->places);
    if (!s->places) return SP_MEMORY;
    for (int i = 0; i < CONVOLUTIONS; i++)
        if (has(s, i)) {
            SP_TRY(sp_strip_convolution_prepare(&s->convolutions[i], &s->whole[i], &s->cut));
            alike &= sp_strips_alike(&s->convolutions[i]);
        }
    return alike ? SP_OK : cut_into(s, 0);
}

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += aligned(bytes);
    return at;
}

static size_t window_bytes(const block *s, int i)
{
    const sp_strip_convolution *c = &s->convolutions[i];
    return (size_t)sp_strip_window_rows(c, s->cut.count - 1) * c->window_row;
}

/* Lays out the scratch for so many kept strips. Parts of moments are done with when the pass ends in which they are
 * taken; where h is made again in the pass of y, the window of h's convolution is needed then, too. */
static void lay_out(block *s, int64_t kept)
{
    bool again = kept < s->cut.count;
    int64_t most = sp_strip_rows(&s->cut, s->cut.count - 1);
    size_t used = find_places(s, kept), first = window_bytes(s, FIRST), second = window_bytes(s, SECOND);
    sp_norm_scratch_bytes v = sp_norm_scratch(&s->stages[FIRST].norm), h = sp_norm_scratch(&s->stages[SECOND].norm);
    s->kept = kept;
    s->stages[FIRST].moments = take(&used, v.moments);
    s->stages[SECOND].moments = take(&used, h.moments);
    size_t passing = take(&used, larger(larger(v.parts, h.parts), again ? second : 0));
    s->stages[FIRST].parts = s->stages[SECOND].parts = passing;
    s->stages[FIRST].window = take(&used, again ? first : larger(first, second));
    s->stages[SECOND].window = again ? passing : s->stages[FIRST].window;
    s->up_window = s->has_up ? take(&used, window_bytes(s, UP)) : 0;
    s->v_strip = s->has_up && again ? take(&used, (size_t)most * s->v_row) : 0;
    s->edge = again ? take(&used, s->v_row) : 0;
    s->h_strip = again || s->has_shortcut ? take(&used, (size_t)most * s->h_row) : 0;
    s->rest = used;
    size_t rest = 0;
    for (int i = 0; i < CONVOLUTIONS; i++)
        rest = larger(rest, s->convolutions[i].scratch);
    s->scratch = used + rest;
}

/* With y over x there is one of them. */
static size_t all_bytes(const block *s)
{
    size_t boundary = sp_value_bytes(&s->y) + sp_value_bytes(&s->x);
    return s->scratch + (s->limited && !s->has_up ? boundary / 2 : boundary);
}

/* Smaller strips, y over x, and as many of them kept as memory allows. Not where fewer than half of them could be, or
 * only the first few, whose places in y were written before they are read; and not where x has to stay beside y. */
static sp_status limit(const sp_node *node, block *s)
{
    enum { TILES = 12, FEWEST = 4 };
    const sp_residual_block_options *o = node->options;
    if (!s->has_up && (s->has_shortcut || !s->consumes)) return SP_OK;
    s->limited = true;
    SP_TRY(cut_into(s, (o->rows / 8 + TILES - 1) / TILES * TILES));
    int64_t least = (s->cut.count + 1) / 2;
    for (int64_t kept = s->cut.count; kept >= least && kept >= FEWEST; kept--) {
        lay_out(s, kept);
        if (all_bytes(s) <= (size_t)o->bytes) return SP_OK;
    }
    s->limited = false;
    return SP_OK;
}

static sp_status choose_strips(const sp_node *node, block *s)
{
    const sp_residual_block_options *o = node->options;
    SP_TRY(cut_into(s, o->rows));
    lay_out(s, s->cut.count);
    if (o->bytes <= 0 || all_bytes(s) <= (size_t)o->bytes) return SP_OK;
    SP_TRY(limit(node, s));
    if (s->limited) return SP_OK;
    SP_TRY(cut_into(s, o->rows));
    lay_out(s, s->cut.count);
    return SP_OK;
}

static void offer_packing(const block *s, int i, sp_block_input weight, sp_block_input bias, sp_kernel *out)
{
    if (!has(s, i)) return;
    out->packing[weight] = s->convolutions[i].strips[SP_STRIP_LAST].kernel.packing[1];
    out->packing[bias] = s->convolutions[i].strips[SP_STRIP_LAST].kernel.packing[2];
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch);

static sp_status prepare(const sp_node *node, sp_kernel *out)
{
    block *s = sp_alloc_zero(sizeof *s);
    if (!s) return SP_MEMORY;
    describe(node, s);
    sp_status status = choose_strips(node, s);
    if (status) {
        destroy(s);
        return status;
    }
    out->run = run;
    out->state = s;
    out->destroy = destroy;
    out->scratch = s->scratch;
    out->in_place = s->limited && !s->has_up;
    offer_packing(s, FIRST, SP_BLOCK_WEIGHT1, SP_BLOCK_BIAS1, out);
    offer_packing(s, SECOND, SP_BLOCK_WEIGHT2, SP_BLOCK_BIAS2, out);
    offer_packing(s, UP, SP_BLOCK_UP_WEIGHT, SP_BLOCK_UP_BIAS, out);
    offer_packing(s, SHORTCUT, SP_BLOCK_SHORTCUT, SP_BLOCK_SHORTCUT_BIAS, out);
    return SP_OK;
}

/* ---- running ---- */

/* Rows in the window of a convolution; of those that a strip has read the last two stay for the next one. */
typedef struct {
    char *rows;
    int64_t held;
} window;

typedef struct {
    const block *s;
    char *x, *y, *scratch;
    void *weight[CONVOLUTIONS], *bias[CONVOLUTIONS], *gamma[2], *beta[2];
    window windows[CONVOLUTIONS];
    int64_t next_of_x; /* the row that UP's window takes next */
} work;

static size_t window_row(const work *w, int i)
{
    return w->s->convolutions[i].window_row;
}

static void put_zeros(work *w, int i)
{
    memset(w->windows[i].rows + (size_t)w->windows[i].held++ * window_row(w, i), 0, window_row(w, i));
}

static void put_rows(work *w, int i, const void *rows, int64_t count)
{
    memcpy(w->windows[i].rows + (size_t)w->windows[i].held * window_row(w, i), rows, (size_t)count * window_row(w, i));
    w->windows[i].held += count;
}

/* What a stage's norm makes of rows that it reads. */
static void put_normalised(work *w, int i, const char *rows, int64_t count)
{
    const stage *t = &w->s->stages[i];
    void *in[SP_MAX_INPUTS] = {(void *)rows, w->gamma[i], w->beta[i]};
    sp_norm_rows(&t->norm, in, w->scratch + t->moments, count * sp_dim(&w->s->y, 2),
                 w->windows[i].rows + (size_t)w->windows[i].held * window_row(w, i));
    w->windows[i].held += count;
}

static void take_moments(work *w, int i, const char *rows, int64_t first, int64_t count)
{
    const stage *t = &w->s->stages[i];
    int64_t W = sp_dim(&w->s->y, 2);
    void *in[SP_MAX_INPUTS] = {(void *)rows, w->gamma[i], w->beta[i]};
    sp_norm_moments(&t->norm, in, w->scratch + t->moments, w->scratch + t->parts, first * W, count * W);
}

static void convolve(const work *w, int i, int64_t k, void *rows, void *residual, void *to)
{
    sp_strip_convolve(&w->s->convolutions[i], k, rows, w->weight[i], w->bias[i], residual, to,
                      w->scratch + w->s->rest);
}

/* Strip k of what the window of convolution i is filled for. */
static void convolve_window(work *w, int i, int64_t k, void *residual, void *to)
{
    window *z = &w->windows[i];
    convolve(w, i, k, z->rows, residual, to);
    memmove(z->rows, z->rows + (size_t)(z->held - 2) * window_row(w, i), 2 * window_row(w, i));
    z->held = 2;
}

static int64_t rows_of(const work *w, int64_t k)
{
    return sp_strip_rows(&w->s->cut, k);
}

static char *place_of(const work *w, int64_t k)
{
    const place *p = &w->s->places[k];
    char *const regions[] = {[IN_Y] = w->y, [IN_X] = w->x, [IN_SCRATCH] = w->scratch};
    return regions[p->region] + p->offset;
}

static char *y_of(const work *w, int64_t k)
{
    return w->y + (size_t)(k * w->s->cut.rows) * w->s->h_row;
}

/* ---- v ---- */

/* So that the strip that comes next is k. */
static void begin_v(work *w, int64_t k)
{
    if (!w->s->has_up) return;
    w->windows[UP].held = 0;
    w->next_of_x = k * w->s->cut.rows / 2;
    if (k == 0)
        put_zeros(w, UP);
    else
        put_rows(w, UP, w->x + (size_t)(w->next_of_x - 1) * w->s->x_row, 1);
}

/* The next strip, upsampled. */
static char *make_v(work *w, int64_t k, char *to)
{
    int64_t missing = sp_strip_window_rows(&w->s->convolutions[UP], k) - w->windows[UP].held;
    int64_t left = sp_dim(&w->s->x, 1) - w->next_of_x, count = missing < left ? missing : left;
    put_rows(w, UP, w->x + (size_t)w->next_of_x * w->s->x_row, count);
    w->next_of_x += count;
    if (count < missing) put_zeros(w, UP);
    convolve_window(w, UP, k, NULL, to);
    return to;
}

static bool is_kept(const work *w, int64_t k)
{
    return k < w->s->kept;
}

static char *v_of(work *w, int64_t k)
{
    if (!w->s->has_up) return w->x + (size_t)(k * w->s->cut.rows) * w->s->v_row;
    return is_kept(w, k) ? place_of(w, k) : make_v(w, k, w->scratch + w->s->v_strip);
}

static void pass_v(work *w)
{
    const block *s = w->s;
    if (!s->has_up) {
        take_moments(w, FIRST, w->x, 0, s->cut.height);
        return;
    }
    begin_v(w, 0);
    for (int64_t k = 0; k < s->cut.count; k++) {
        char *to = is_kept(w, k) ? place_of(w, k) : w->scratch + s->v_strip;
        take_moments(w, FIRST, make_v(w, k, to), k * s->cut.rows, rows_of(w, k));
    }
}

/* ---- h ---- */

/* What is added to strip k of y takes, beside h, the place of v. Strips of h lie there as well, so the strip for h made
 * again is free. */
static void keep_shortcut(work *w, int64_t k, char *v)
{
    char *passed = w->scratch + w->s->h_strip;
    size_t bytes = (size_t)rows_of(w, k) * w->s->h_row;
    convolve(w, SHORTCUT, k, v, NULL, passed);
    memcpy(v + bytes, passed, bytes);
}

/* The row above the first strip that is made again is kept, since what it is made of is not. */
static void keep_edge(work *w)
{
    if (is_kept(w, w->s->cut.count - 1)) return;
    memcpy(w->scratch + w->s->edge, w->windows[FIRST].rows, window_row(w, FIRST));
}

static void pass_h(work *w)
{
    const block *s = w->s;
    put_zeros(w, FIRST);
    for (int64_t k = 0; k <= s->cut.count; k++) {
        if (k == s->kept && k < s->cut.count) begin_v(w, k);
        char *v = k < s->cut.count ? v_of(w, k) : NULL;
        if (v)
            put_normalised(w, FIRST, v, 1);
        else
            put_zeros(w, FIRST);
        if (k > 0) {
            char *h = is_kept(w, k - 1) ? place_of(w, k - 1) : w->scratch + s->h_strip;
            convolve_window(w, FIRST, k - 1, NULL, h);
            take_moments(w, SECOND, h, (k - 1) * s->cut.rows, rows_of(w, k - 1));
        }
        if (k == s->kept) keep_edge(w);
        if (v) put_normalised(w, FIRST, v + s->v_row, rows_of(w, k) - 1);
        if (s->has_up && is_kept(w, k) && v) keep_shortcut(w, k, v);
    }
}

/* Strip k of h made again, all before it from kept + 1 on having been so. What the shortcut makes of the upsampled v
 * waits in y's place. */
static char *again_h(work *w, int64_t k)
{
    const block *s = w->s;
    char *h = w->scratch + s->h_strip, *v = w->scratch + s->v_strip;
    if (k == s->kept) {
        w->windows[FIRST].held = 0;
        put_rows(w, FIRST, w->scratch + s->edge, 1);
        begin_v(w, k);
        v = v_of(w, k);
        put_normalised(w, FIRST, v, rows_of(w, k));
    }
    if (s->has_up) convolve(w, SHORTCUT, k, v, NULL, y_of(w, k));
    bool last = k + 1 == s->cut.count;
    if (last) {
        put_zeros(w, FIRST);
    } else {
        v = v_of(w, k + 1);
        put_normalised(w, FIRST, v, 1);
    }
    convolve_window(w, FIRST, k, NULL, h);
    if (!last) put_normalised(w, FIRST, v + s->v_row, rows_of(w, k + 1) - 1);
    return h;
}

/* ---- y ---- */

/* What is added to strip k of y. */
static char *residual_of(work *w, int64_t k)
{
    const block *s = w->s;
    char *passed = w->scratch + s->h_strip;
    if (s->has_up) return is_kept(w, k) ? place_of(w, k) + (size_t)rows_of(w, k) * s->h_row : y_of(w, k);
    if (!s->has_shortcut) return v_of(w, k);
    convolve(w, SHORTCUT, k, v_of(w, k), NULL, passed);
    return passed;
}

static void pass_y(work *w)
{
    const block *s = w->s;
    w->windows[SECOND].held = 0;
    put_zeros(w, SECOND);
    for (int64_t k = 0; k <= s->cut.count; k++) {
        char *h = k == s->cut.count ? NULL : is_kept(w, k) ? place_of(w, k) : again_h(w, k);
        if (h)
            put_normalised(w, SECOND, h, 1);
        else
            put_zeros(w, SECOND);
        if (k > 0) convolve_window(w, SECOND, k - 1, residual_of(w, k - 1), y_of(w, k - 1));
        if (h) put_normalised(w, SECOND, h + s->h_row, rows_of(w, k) - 1);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    const block *s = state;
    work w = {.s = s,
              .x = in[SP_BLOCK_X],
              .y = out[0],
              .scratch = scratch,
              .weight = {in[SP_BLOCK_WEIGHT1], in[SP_BLOCK_WEIGHT2], in[SP_BLOCK_UP_WEIGHT], in[SP_BLOCK_SHORTCUT]},
              .bias = {in[SP_BLOCK_BIAS1], in[SP_BLOCK_BIAS2], in[SP_BLOCK_UP_BIAS], in[SP_BLOCK_SHORTCUT_BIAS]},
              .gamma = {in[SP_BLOCK_GAMMA1], in[SP_BLOCK_GAMMA2]},
              .beta = {in[SP_BLOCK_BETA1], in[SP_BLOCK_BETA2]}};
    (void)node;
    w.windows[FIRST].rows = w.scratch + s->stages[FIRST].window;
    w.windows[SECOND].rows = w.scratch + s->stages[SECOND].window;
    w.windows[UP].rows = w.scratch + s->up_window;
    pass_v(&w);
    pass_h(&w);
    pass_y(&w);
}

static bool supports(const sp_node *node)
{
    return node->out[0]->dtype == node->in[SP_BLOCK_X]->dtype && sp_dim(node->in[SP_BLOCK_X], 0) == 1;
}

const sp_cpu_kernel sp_cpu_residual_block[] = {
    {&sp_op_residual_block, SP_DTYPE_BIT(SP_F32) | SP_DTYPE_BIT(SP_BF16), supports, prepare, "residual_block"},
    {0},
};
