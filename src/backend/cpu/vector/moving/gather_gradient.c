/* upsample_nearest_gradient, embedding_gradient and sinusoidal. */
#include <math.h>
#include "backend/cpu/vector/vector.h"

typedef struct {
    const void *dy;
    void *dx;
    bool half, half_out;
    int64_t height, width, from_height, from_width, channels; /* of dx; from: of dy */
} downsum;

/* The first row (or column) of dy that reads x or a later one. */
static int64_t first_reader(int64_t x, int64_t size, int64_t from)
{
    return sp_ceil_div(x * from, size);
}

static void downsum_range(void *context, int64_t begin, int64_t end)
{
    const downsum *d = context;
    int64_t C = d->channels;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / d->height, i = row % d->height;
        int64_t h0 = first_reader(i, d->height, d->from_height),
                h1 = first_reader(i + 1, d->height, d->from_height);
        for (int64_t j = 0; j < d->width; j++) {
            int64_t w0 = first_reader(j, d->width, d->from_width),
                    w1 = first_reader(j + 1, d->width, d->from_width);
            for (int64_t c = 0; c < C; c += SP_LANES) {
                sp_vf sum = {0};
                for (int64_t h = h0; h < h1; h++)
                    for (int64_t w = w0; w < w1; w++)
                        sum +=
                            sp_vf_get(d->dy, ((n * d->from_height + h) * d->from_width + w) * C + c,
                                      C - c, d->half);
                sp_vf_put(d->dx, (row * d->width + j) * C + c, sum, C - c, d->half_out);
            }
        }
    }
}

static void upsample_gradient_run(void *state, const sp_node *node, void *const *in,
                                  void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    sp_shape y = node->in[0]->shape, x = node->out[0]->shape;
    downsum d = {in[0],
                 out[0],
                 node->in[0]->dtype == SP_BF16,
                 node->out[0]->dtype == SP_BF16,
                 x.dim[1],
                 x.dim[2],
                 y.dim[1],
                 y.dim[2],
                 x.dim[3]};
    int64_t length = y.dim[2] * y.dim[3];
    sp_parallel_for(x.dim[0] * x.dim[1], length > 0 ? sp_ceil_div(8192, length) : 1, downsum_range,
                    &d);
}
SP_DEFINE_KERNEL(upsample_nearest_gradient, upsample_gradient_run)

#define COLUMNS                                                                                    \
    64 /* of the table that one worker sums: all tokens in order, so the sums do not depend on the \
          workers */

typedef struct {
    const void *ids, *dy;
    bool wide, half; /* ids are 64 bits; dy is bf16 */
    float *table;
    int64_t rows, channels, count;
} scatter;

static void scatter_range(void *context, int64_t begin, int64_t end)
{
    const scatter *s = context;
    int64_t first = begin * COLUMNS,
            last = end * COLUMNS < s->channels ? end * COLUMNS : s->channels;
    for (int64_t r = 0; r < s->rows; r++)
        memset(s->table + r * s->channels + first, 0, (size_t)(last - first) * sizeof *s->table);
    for (int64_t i = 0; i < s->count; i++) {
        int64_t id = s->wide ? ((const int64_t *)s->ids)[i] : ((const int32_t *)s->ids)[i];
        if (id < 0 || id >= s->rows) id = 0;
        for (int64_t c = first; c < last; c += SP_LANES) {
            int64_t at = id * s->channels + c;
            sp_vf sum = sp_vf_get(s->table, at, last - c, false) +
                        sp_vf_get(s->dy, i * s->channels + c, last - c, s->half);
            sp_vf_put(s->table, at, sum, last - c, false);
        }
    }
}

static void embedding_gradient_run(void *state, const sp_node *node, void *const *in,
                                   void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    scatter s = {in[0],
                 in[1],
                 node->in[0]->dtype == SP_I64,
                 node->in[1]->dtype == SP_BF16,
                 out[0],
                 sp_dim(node->out[0], 0),
                 sp_dim(node->out[0], 1),
                 sp_shape_count(node->in[0]->shape)};
    sp_parallel_for(sp_ceil_div(s.channels, COLUMNS), 1, scatter_range, &s);
}

sp_status SP_KERNEL(embedding_gradient)(const sp_node *node, sp_kernel *out)
{
    if (node->out[0]->dtype != SP_F32) return SP_UNSUPPORTED;
    out->run = embedding_gradient_run;
    return SP_OK;
}

/* y[n] = [sin(t f) | cos(t f)]; f and t f are rounded to f32, as the reference and diffusers do:
 * phases reach 10,000, so that the rounding shows. */
typedef struct {
    const sp_node *node;
    const void *t;
    float *y;
    const float *frequencies;
} waves;

static void sinusoidal_range(void *context, int64_t begin, int64_t end)
{
    const waves *w = context;
    const sp_sinusoidal_options *o = w->node->options;
    int64_t half = o->dim / 2, sine = o->cos_first ? half : 0, cosine = half - sine;
    for (int64_t n = begin; n < end; n++) {
        float t = (float)o->scale * (float)sp_load(w->t, w->node->in[0]->dtype, n);
        for (int64_t j = 0; j < half; j++) {
            float phase = t * w->frequencies[j];
            w->y[n * o->dim + sine + j] = (float)sin(phase);
            w->y[n * o->dim + cosine + j] = (float)cos(phase);
        }
    }
}

static void sinusoidal_run(void *state, const sp_node *node, void *const *in, void *const *out,
                           void *scratch)
{
    (void)state;
    const sp_sinusoidal_options *o = node->options;
    float *frequencies = scratch;
    for (int64_t j = 0; j < o->dim / 2; j++) {
        float exponent =
            (float)-log(o->max_period) * (float)j / (float)((double)(o->dim / 2) - o->shift);
        frequencies[j] = (float)exp(exponent);
    }
    waves w = {node, in[0], out[0], frequencies};
    sp_parallel_for(sp_dim(node->in[0], 0), sp_ceil_div(512, o->dim), sinusoidal_range, &w);
}

sp_status SP_KERNEL(sinusoidal)(const sp_node *node, sp_kernel *out)
{
    const sp_sinusoidal_options *o = node->options;
    if (node->out[0]->dtype != SP_F32) return SP_UNSUPPORTED;
    out->run = sinusoidal_run;
    out->scratch = (size_t)(o->dim / 2) * sizeof(float);
    return SP_OK;
}
