/* pool2d in f32: an output row a task, channels innermost, sums of each window in fp64 as the reference has them, so
 * that results are its own, bit for bit. */
#include "backend/cpu/pool.h"
#include <math.h>
#include <string.h>
#include "base/parallel.h"
#include "ops/pool.h"

enum { CHANNELS = 64 }; /* that are summed at a time */

typedef struct {
    const sp_pool2d_options *o;
    const float *x;
    float *y;
    sp_shape from, to;
} pool;

static void largest(const pool *p, const float *x, sp_pool_window rows, sp_pool_window columns, float *y)
{
    int64_t channels = p->from.dim[3], line = p->from.dim[2] * channels;
    memcpy(y, x + rows.begin * line + columns.begin * channels, (size_t)channels * sizeof *y);
    for (int64_t h = rows.begin; h < rows.end; h++)
        for (int64_t w = columns.begin; w < columns.end; w++) {
            const float *cell = x + h * line + w * channels;
            for (int64_t c = 0; c < channels; c++)
                y[c] = cell[c] > y[c] || cell[c] != cell[c] ? cell[c] : y[c];
        }
}

static void mean(const pool *p, const float *x, sp_pool_window rows, sp_pool_window columns, float *y)
{
    int64_t channels = p->from.dim[3], line = p->from.dim[2] * channels;
    double count = (double)((rows.end - rows.begin) * (columns.end - columns.begin));
    for (int64_t first = 0; first < channels; first += CHANNELS) {
        int64_t few = channels - first < CHANNELS ? channels - first : CHANNELS;
        double sum[CHANNELS] = {0};
        for (int64_t h = rows.begin; h < rows.end; h++)
            for (int64_t w = columns.begin; w < columns.end; w++) {
                const float *cell = x + h * line + w * channels + first;
                for (int64_t c = 0; c < few; c++)
                    sum[c] += (double)cell[c];
            }
        for (int64_t c = 0; c < few; c++)
            y[first + c] = (float)(sum[c] / count);
    }
}

static void pool_rows(void *context, int64_t begin, int64_t end)
{
    const pool *p = context;
    int64_t height = p->to.dim[1], width = p->to.dim[2], channels = p->to.dim[3];
    int64_t picture = p->from.dim[1] * p->from.dim[2] * channels;
    for (int64_t row = begin; row < end; row++) {
        const float *x = p->x + row / height * picture;
        sp_pool_window rows = sp_pool_window_at(row % height, p->from.dim[1], p->o);
        for (int64_t w = 0; w < width; w++)
            (p->o->largest ? largest : mean)(p, x, rows, sp_pool_window_at(w, p->from.dim[2], p->o),
                                             p->y + (row * width + w) * channels);
    }
}

static void run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    pool p = {node->options, in[0], out[0], node->in[0]->shape, node->out[0]->shape};
    sp_parallel_for(p.to.dim[0] * p.to.dim[1], 1, pool_rows, &p);
}

static sp_status prepare(const sp_node *node, sp_kernel *out)
{
    (void)node;
    out->run = run;
    return SP_OK;
}

const sp_cpu_kernel sp_cpu_pool[] = {
    {&sp_op_pool2d, SP_DTYPE_BIT(SP_F32), NULL, prepare, "cpu pool2d"},
    {0},
};
