/* permute, concat, slice, unslice, upsample_nearest and embedding: elements of any type are moved. */
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"

#define PIECE 65536 /* bytes that are moved at a time */

/* `rows` rows of `bytes` each; from NULL: zeros. */
typedef struct {
    char *to;
    const char *from;
    int64_t rows, bytes, to_stride, from_stride;
} row_copy;

static void copy_range(void *context, int64_t begin, int64_t end)
{
    const row_copy *c = context;
    int64_t pieces = sp_ceil_div(c->bytes, PIECE);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / pieces, at = i % pieces * PIECE,
                count = c->bytes - at < PIECE ? c->bytes - at : PIECE;
        char *to = c->to + row * c->to_stride + at;
        if (c->from)
            memcpy(to, c->from + row * c->from_stride + at, (size_t)count);
        else
            memset(to, 0, (size_t)count);
    }
}

static void copy_rows(row_copy c)
{
    if (c.bytes < 1) return;
    int64_t piece = c.bytes < PIECE ? c.bytes : PIECE;
    sp_parallel_for(c.rows * sp_ceil_div(c.bytes, PIECE), sp_ceil_div(PIECE, piece), copy_range,
                    &c);
}

/* A tensor around an axis: [outer][axis][inner bytes]. */
typedef struct {
    int64_t outer, inner;
} around;

static around around_axis(const sp_value *x, int axis)
{
    if (axis < 0) axis += x->shape.rank;
    around a = {1, (int64_t)sp_dtype_size(x->dtype)};
    for (int i = 0; i < x->shape.rank; i++) {
        if (i < axis) a.outer *= x->shape.dim[i];
        if (i > axis) a.inner *= x->shape.dim[i];
    }
    return a;
}

static void concat_run(void *state, const sp_node *node, void *const *in, void *const *out,
                       void *scratch)
{
    (void)state, (void)scratch;
    int axis = ((const sp_concat_options *)node->options)->axis;
    around y = around_axis(node->out[0], axis);
    int64_t row = sp_dim(node->out[0], axis) * y.inner;
    char *to = out[0];
    for (int k = 0; k < node->inputs; k++) {
        int64_t bytes = sp_dim(node->in[k], axis) * y.inner;
        copy_rows((row_copy){to, in[k], y.outer, bytes, row, bytes});
        to += bytes;
    }
}
SP_DEFINE_KERNEL(concat, concat_run)

static void slice_run(void *state, const sp_node *node, void *const *in, void *const *out,
                      void *scratch)
{
    (void)state, (void)scratch;
    const sp_slice_options *o = node->options;
    around x = around_axis(node->in[0], o->axis);
    const char *from = (const char *)in[0] + o->start * x.inner;
    copy_rows((row_copy){out[0], from, x.outer, o->count * x.inner, o->count * x.inner,
                         o->full * x.inner});
}
SP_DEFINE_KERNEL(slice, slice_run)

static void unslice_run(void *state, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    (void)state, (void)scratch;
    const sp_slice_options *o = node->options;
    around x = around_axis(node->in[0], o->axis);
    int64_t before = o->start * x.inner, bytes = o->count * x.inner, row = o->full * x.inner;
    char *to = out[0];
    copy_rows((row_copy){to, NULL, x.outer, before, row, 0});
    copy_rows((row_copy){to + before, in[0], x.outer, bytes, row, bytes});
    copy_rows((row_copy){to + before + bytes, NULL, x.outer, row - before - bytes, row, 0});
}
SP_DEFINE_KERNEL(unslice, unslice_run)

/* The output's dimensions with the steps that they make in the input, in elements; those that lie
 * together are one. */
typedef struct {
    int rank, turned; /* turned: the dimension with step 1; the last one if rows are whole */
    int64_t dim[SP_MAX_RANK], from[SP_MAX_RANK], to[SP_MAX_RANK];
    int64_t element; /* bytes */
    const char *x;
    char *y;
} permutation;

static permutation permutation_of(const sp_node *node)
{
    const sp_permute_options *o = node->options;
    sp_shape x = node->in[0]->shape;
    int64_t step[SP_MAX_RANK], size = 1;
    for (int i = x.rank - 1; i >= 0; i--) {
        step[i] = size;
        size *= x.dim[i];
    }
    permutation p = {.element = (int64_t)sp_dtype_size(node->in[0]->dtype)};
    for (int i = 0; i < x.rank; i++) {
        int64_t dim = x.dim[o->order[i]], from = step[o->order[i]];
        if (dim == 1) continue;
        if (p.rank > 0 && p.from[p.rank - 1] == from * dim) {
            p.dim[p.rank - 1] *= dim;
            p.from[p.rank - 1] = from;
            continue;
        }
        p.dim[p.rank] = dim;
        p.from[p.rank++] = from;
    }
    if (p.rank == 0) p = (permutation){.rank = 1, .dim = {1}, .from = {1}, .element = p.element};
    size = 1;
    for (int i = p.rank - 1; i >= 0; i--) {
        p.to[i] = size;
        size *= p.dim[i];
        if (p.from[i] == 1) p.turned = i;
    }
    return p;
}

/* Position `index` in the dimensions other than `skip` and the last: where it lies in x and in y. */
static void outer_position(const permutation *p, int skip, int64_t index, int64_t *from,
                           int64_t *to)
{
    *from = *to = 0;
    for (int i = p->rank - 2; i >= 0; i--) {
        if (i == skip) continue;
        int64_t at = index % p->dim[i];
        index /= p->dim[i];
        *from += at * p->from[i];
        *to += at * p->to[i];
    }
}

static int64_t outer_count(const permutation *p, int skip)
{
    int64_t count = 1;
    for (int i = 0; i < p->rank - 1; i++)
        if (i != skip) count *= p->dim[i];
    return count;
}

static void permute_rows(void *context, int64_t begin, int64_t end)
{
    const permutation *p = context;
    int64_t bytes = p->dim[p->rank - 1] * p->element;
    for (int64_t i = begin; i < end; i++) {
        int64_t from, to;
        outer_position(p, -1, i, &from, &to);
        memcpy(p->y + to * p->element, p->x + from * p->element, (size_t)bytes);
    }
}

#define TURN 32   /* elements of the turned dimension at a time */
#define ALONG 2048 /* of the last one */

#define TURN_LOOP(type)                                                                            \
    for (int64_t j = 0; j < columns; j += 16)                                                      \
        for (int64_t r = 0; r < rows; r++)                                                         \
            for (int64_t k = j; k < columns && k < j + 16; k++)                                    \
                ((type *)y)[r * y_row + k] = ((const type *)x)[k * x_row + r];

/* y[r][k] = x[k][r] */
static void turn(char *y, int64_t y_row, const char *x, int64_t x_row, int64_t rows,
                 int64_t columns, int64_t element)
{
    switch (element) {
    case 1:
        TURN_LOOP(uint8_t) break;
    case 2:
        TURN_LOOP(uint16_t) break;
    case 4:
        sp_transpose(y, y_row, x, x_row, columns, rows);
        break;
    default:
        TURN_LOOP(uint64_t) break;
    }
}

static void permute_tiles(void *context, int64_t begin, int64_t end)
{
    const permutation *p = context;
    int last = p->rank - 1;
    int64_t tiles = sp_ceil_div(p->dim[p->turned], TURN), along = sp_ceil_div(p->dim[last], ALONG);
    for (int64_t i = begin; i < end; i++) {
        int64_t from, to, r = i / along % tiles * TURN, c = i % along * ALONG;
        int64_t rows = p->dim[p->turned] - r < TURN ? p->dim[p->turned] - r : TURN,
                columns = p->dim[last] - c < ALONG ? p->dim[last] - c : ALONG;
        outer_position(p, p->turned, i / along / tiles, &from, &to);
        turn(p->y + (to + r * p->to[p->turned] + c) * p->element, p->to[p->turned],
             p->x + (from + r + c * p->from[last]) * p->element, p->from[last], rows, columns, p->element);
    }
}

static void permute_run(void *state, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    (void)state, (void)scratch;
    permutation p = permutation_of(node);
    p.x = in[0];
    p.y = out[0];
    int last = p.rank - 1;
    int64_t bytes = sp_shape_count(node->in[0]->shape) * p.element;
    if (bytes == 0) return;
    if (p.rank == 1) {
        copy_rows((row_copy){p.y, p.x, 1, bytes, bytes, bytes});
    } else if (p.turned == last) {
        sp_parallel_for(outer_count(&p, -1), sp_ceil_div(PIECE, p.dim[last] * p.element),
                        permute_rows, &p);
    } else {
        int64_t rows = p.dim[p.turned] < TURN ? p.dim[p.turned] : TURN,
                columns = p.dim[last] < ALONG ? p.dim[last] : ALONG;
        int64_t tiles = sp_ceil_div(p.dim[p.turned], TURN) * sp_ceil_div(p.dim[last], ALONG);
        sp_parallel_for(outer_count(&p, p.turned) * tiles, sp_ceil_div(PIECE / 4, rows * columns * p.element),
                        permute_tiles, &p);
    }
}
SP_DEFINE_KERNEL(permute, permute_run)

/* Rows of y, [N*H][W][pixel bytes], from rows of x. */
typedef struct {
    const char *x;
    char *y;
    int64_t from_height, from_width, height, width, pixel;
} upsampling;

static int64_t source_row(const upsampling *u, int64_t row)
{
    return row / u->height * u->from_height + row % u->height * u->from_height / u->height;
}

static void upsample_range(void *context, int64_t begin, int64_t end)
{
    const upsampling *u = context;
    int64_t bytes = u->width * u->pixel;
    for (int64_t row = begin; row < end; row++) {
        char *y = u->y + row * bytes;
        int64_t source = source_row(u, row);
        if (row > begin && source_row(u, row - 1) == source) {
            memcpy(y, y - bytes, (size_t)bytes);
            continue;
        }
        const char *x = u->x + source * u->from_width * u->pixel;
        for (int64_t w = 0; w < u->width; w++)
            memcpy(y + w * u->pixel, x + w * u->from_width / u->width * u->pixel, (size_t)u->pixel);
    }
}

static void upsample_nearest_run(void *state, const sp_node *node, void *const *in,
                                 void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    sp_shape x = node->in[0]->shape, y = node->out[0]->shape;
    upsampling u = {in[0],
                    out[0],
                    x.dim[1],
                    x.dim[2],
                    y.dim[1],
                    y.dim[2],
                    y.dim[3] * (int64_t)sp_dtype_size(node->in[0]->dtype)};
    if (u.pixel == 0) return;
    sp_parallel_for(y.dim[0] * y.dim[1], sp_ceil_div(PIECE, u.width * u.pixel), upsample_range, &u);
}
SP_DEFINE_KERNEL(upsample_nearest, upsample_nearest_run)

typedef struct {
    const void *ids;
    bool wide; /* ids are 64 bits */
    const char *table;
    char *y;
    int64_t rows, bytes;
} lookup;

static void embedding_range(void *context, int64_t begin, int64_t end)
{
    const lookup *l = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t id = l->wide ? ((const int64_t *)l->ids)[i] : ((const int32_t *)l->ids)[i];
        if (id < 0 || id >= l->rows) id = 0;
        memcpy(l->y + i * l->bytes, l->table + id * l->bytes, (size_t)l->bytes);
    }
}

static void embedding_run(void *state, const sp_node *node, void *const *in, void *const *out,
                          void *scratch)
{
    (void)state, (void)scratch;
    const sp_value *table = node->in[1];
    lookup l = {in[0],
                node->in[0]->dtype == SP_I64,
                in[1],
                out[0],
                sp_dim(table, 0),
                sp_dim(table, 1) * (int64_t)sp_dtype_size(table->dtype)};
    if (l.bytes == 0) return;
    sp_parallel_for(sp_shape_count(node->in[0]->shape), sp_ceil_div(PIECE, l.bytes),
                    embedding_range, &l);
}

sp_status SP_KERNEL(embedding)(const sp_node *node, sp_kernel *out)
{
    if (node->in[1]->dtype != node->out[0]->dtype) return SP_UNSUPPORTED;
    out->run = embedding_run;
    return SP_OK;
}
