/* Two operators as one kernel, a chunk of rows at a time: what the first makes of a chunk is still
 * in the cache when the second reads it, and never becomes an activation. Each is prepared for a
 * node of its own with the shapes of a chunk. */
#include <string.h>
#include "backend/cpu/kernel_table.h"

#define CHUNK_BYTES ((int64_t)1 << 20) /* of the first's results; about a core's second level */
/* Weights that are larger come from memory, once for every chunk: then all rows are one. */
#define WEIGHT_BYTES ((int64_t)8 << 20)

enum { X, WEIGHT, BIAS };

typedef struct {
    sp_value x, weight, bias, wide, y; /* of a chunk */
    sp_node linear, geglu;
    sp_kernel first, second;
    int64_t chunks;
    size_t x_bytes, y_bytes, wide_bytes; /* of a chunk; the last a multiple of SP_ALIGNMENT */
} linear_geglu;

/* The largest part of `rows` that divides them and is no more than `limit`; all of them if there is
 * none worth it. */
static int64_t chunk_rows(int64_t rows, int64_t limit)
{
    int64_t chunk = limit < rows ? limit : rows;
    while (chunk > 1 && rows % chunk)
        chunk--;
    return chunk * 4 < limit ? rows : chunk;
}

static sp_value rows_value(const sp_value *like, int64_t rows, int64_t columns)
{
    sp_value v = *like;
    v.shape = sp_shape_of(rows, columns);
    return v;
}

static void describe(const sp_node *node, linear_geglu *s)
{
    static const sp_linear_options plain = {.transposed = false};
    const sp_value *x = node->in[X], *y = node->out[0];
    int64_t columns = sp_channels(y), inner = sp_channels(x),
            rows = columns ? sp_shape_count(y->shape) / columns : 0,
            row_bytes = 2 * columns * (int64_t)sp_dtype_size(y->dtype);
    int64_t limit = row_bytes ? CHUNK_BYTES / row_bytes : rows, chunk = rows;
    if (row_bytes * inner <= WEIGHT_BYTES && limit > 0) chunk = chunk_rows(rows, limit);
    s->chunks = chunk ? rows / chunk : 0;
    s->x = rows_value(x, chunk, inner);
    s->y = rows_value(y, chunk, columns);
    s->wide = rows_value(y, chunk, 2 * columns);
    s->weight = *node->in[WEIGHT];
    s->linear = (sp_node){.op = &sp_op_linear,
                          .in = {&s->x, &s->weight},
                          .out = {&s->wide},
                          .inputs = 2,
                          .outputs = 1,
                          .options = &plain,
                          .scope = node->scope,
                          .rate = node->rate};
    if (node->inputs > BIAS && node->in[BIAS]) {
        s->bias = *node->in[BIAS];
        s->linear.in[BIAS] = &s->bias;
        s->linear.inputs = 3;
    }
    s->geglu = (sp_node){.op = &sp_op_geglu,
                         .in = {&s->wide},
                         .out = {&s->y},
                         .inputs = 1,
                         .outputs = 1,
                         .scope = node->scope,
                         .rate = node->rate};
    s->x_bytes = sp_value_bytes(&s->x);
    s->y_bytes = sp_value_bytes(&s->y);
    s->wide_bytes = (sp_value_bytes(&s->wide) + SP_ALIGNMENT - 1) / SP_ALIGNMENT * SP_ALIGNMENT;
}

static void destroy(void *state)
{
    linear_geglu *s = state;
    if (s->first.destroy) s->first.destroy(s->first.state);
    if (s->second.destroy) s->second.destroy(s->second.state);
    sp_free(s);
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    const linear_geglu *s = state;
    void *bias = node->inputs > BIAS && node->in[BIAS] ? in[BIAS] : NULL, *wide = scratch;
    void *rest = (char *)scratch + s->wide_bytes;
    for (int64_t i = 0; i < s->chunks; i++) {
        void *x[SP_MAX_INPUTS] = {(char *)in[X] + (size_t)i * s->x_bytes, in[WEIGHT], bias};
        void *y = (char *)out[0] + (size_t)i * s->y_bytes;
        s->first.run(s->first.state, &s->linear, x, &wide, rest);
        s->second.run(s->second.state, &s->geglu, (void *[SP_MAX_INPUTS]){wide}, &y, rest);
    }
}

static sp_status prepare(const sp_node *node, sp_kernel *out)
{
    sp_device *device = sp_cpu_device();
    linear_geglu *s = sp_alloc_zero(sizeof *s);
    if (!s) return SP_MEMORY;
    describe(node, s);
    sp_status status = device->prepare(device, &s->linear, &s->first);
    if (status == SP_OK) status = device->prepare(device, &s->geglu, &s->second);
    if (status != SP_OK) {
        destroy(s);
        return status;
    }
    size_t first = s->first.scratch, second = s->second.scratch;
    out->run = run;
    out->state = s;
    out->destroy = destroy;
    out->scratch = s->wide_bytes + (first > second ? first : second);
    out->packing[WEIGHT] = s->first.packing[WEIGHT];
    out->packing[BIAS] = s->first.packing[BIAS];
    return SP_OK;
}

const sp_cpu_kernel sp_cpu_fused[] = {
    {&sp_op_linear_geglu, SP_DTYPE_BIT(SP_F32) | SP_DTYPE_BIT(SP_BF16), NULL, prepare,
     "fused linear_geglu"},
    {0},
};
