/* Kernels into the form in which a convolution is a product: U = G g G^T, in f32, rounded once. */
#include "backend/cpu/vector/winograd.h"

#define MAX_TILE 8
#define MAX_POINTS (MAX_TILE * MAX_TILE)
#define CHUNK 8 /* input channels transformed at a time */

/* G times the three taps of a row or column; elements of u `step` apart. */
SP_INLINE void kernel_line(const sp_vf *tap, sp_vf *u, const int step, const int output)
{
    sp_vf ends = tap[0] + tap[2], even, odd;
    if (output == 2) {
        u[0] = tap[0];
        u[step] = 0.5f * (ends + tap[1]);
        u[2 * step] = 0.5f * (ends - tap[1]);
        u[3 * step] = tap[2];
    } else if (output == 4) {
        even = ends * (-1.0f / 6), odd = tap[1] * (-1.0f / 6);
        u[0] = 0.25f * tap[0];
        u[step] = even + odd;
        u[2 * step] = even - odd;
        even = tap[0] * (1.0f / 24) + tap[2] * (1.0f / 6), odd = tap[1] * (1.0f / 12);
        u[3 * step] = even + odd;
        u[4 * step] = even - odd;
        u[5 * step] = tap[2];
    } else {
        even = ends * (-2.0f / 9), odd = tap[1] * (-2.0f / 9);
        u[0] = tap[0];
        u[step] = even + odd;
        u[2 * step] = even - odd;
        even = tap[0] * (1.0f / 90) + tap[2] * (2.0f / 45), odd = tap[1] * (1.0f / 45);
        u[3 * step] = even + odd;
        u[4 * step] = even - odd;
        even = tap[0] * (32.0f / 45) + tap[2] * (8.0f / 45), odd = tap[1] * (16.0f / 45);
        u[5 * step] = even + odd;
        u[6 * step] = even - odd;
        u[7 * step] = tap[2];
    }
}

/* SP_LANES kernels of one input channel: taps[9] vectors -> u[tile * tile] vectors. */
SP_INLINE void transform(const float *taps, bool turned, sp_vf *u, const int output)
{
    const int tile = output + 2;
    sp_vf half[MAX_TILE * 3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        sp_vf tap[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            tap[i] = sp_vf_load(taps + (turned ? 8 - (i * 3 + j) : i * 3 + j) * SP_LANES);
        kernel_line(tap, half + j, 3, output);
    }
#pragma GCC unroll 8
    for (int i = 0; i < tile; i++)
        kernel_line(half + 3 * i, u + i * tile, 1, output);
}

static void read_row(float *to, const void *from, sp_dtype dtype, int64_t count)
{
    if (dtype == SP_BF16)
        sp_row_from_bf16(to, from, count);
    else if (dtype == SP_F16)
        sp_row_from_f16(to, from, count);
    else if (dtype == SP_F32)
        memcpy(to, from, (size_t)count * sizeof *to);
    else
        sp_convert(to, SP_F32, from, dtype, count);
}

/* Taps of `inputs` input channels and SP_LANES output channels: taps[input][9][SP_LANES]. */
static void gather(const sp_winograd_packer *p, const void *source, int64_t output, int64_t input,
                   int64_t inputs, float *rows, float *taps)
{
    size_t size = sp_dtype_size(p->dtype);
    int64_t together = p->input_stride == 9 ? inputs : 1, length = 9 * together;
    for (int64_t i = 0; i < inputs; i += together) {
        for (int64_t o = 0; o < SP_LANES; o++) {
            int64_t at = (output + o) * p->output_stride + (input + i) * p->input_stride;
            read_row(rows + o * length, (const char *)source + (size_t)at * size, p->dtype, length);
        }
        sp_transpose(taps + i * 9 * SP_LANES, SP_LANES, rows, length, SP_LANES, length);
    }
}

/* Element (o,i) of a point: to + point * point_stride + i * row, lane o; i counts pairs of channels
 * in bf16. */
SP_INLINE void write(const sp_winograd_shape *s, sp_vf (*u)[MAX_POINTS], int64_t inputs, float *to,
                     int64_t point_stride, int64_t row, const int output, const bool half)
{
    const int tile = output + 2;
    for (int64_t i = 0; i < inputs; i += half ? 2 : 1)
        for (int e = 0; e < tile * tile; e++) {
            if (sp_winograd_skips(e / tile, e % tile, s->doubled)) continue;
            int64_t point = sp_winograd_point(e / tile, e % tile, tile, s->doubled);
            sp_vf v = u[i][e];
            if (half) {
                sp_vu low = __builtin_convertvector(sp_vf_to_bf16(u[i][e]), sp_vu);
                sp_vu high = __builtin_convertvector(sp_vf_to_bf16(u[i + 1][e]), sp_vu);
                v = (sp_vf)(low | high << 16);
            }
            sp_vf_store(to + point * point_stride + i / (half ? 2 : 1) * row, v);
        }
}

typedef struct {
    const sp_winograd_packer *packer;
    const void *source;
    float *packed;
} task;

/* Vectors of output channels `begin` .. `end`-1. */
SP_INLINE void pack_vectors(const task *t, int64_t begin, int64_t end, const int output,
                            const bool half)
{
    const sp_winograd_shape *s = &t->packer->shape;
    int64_t depth = half ? s->C / 2 : s->C, vectors = s->M / SP_LANES;
    int64_t points = sp_winograd_points(s);
    float rows[SP_LANES * 9 * CHUNK], taps[CHUNK * 9 * SP_LANES];
    sp_vf u[CHUNK][MAX_POINTS];
    for (int64_t v = begin; v < end; v++) {
        int64_t panel = v / 4, width = vectors - panel * 4 < 4 ? vectors - panel * 4 : 4;
        int64_t row = width * SP_LANES, point_stride = depth * row;
        float *to = t->packed + panel * 4 * SP_LANES * depth * points + v % 4 * SP_LANES;
        for (int64_t c = 0; c < s->C; c += CHUNK) {
            int64_t inputs = s->C - c < CHUNK ? s->C - c : CHUNK;
            gather(t->packer, t->source, v * SP_LANES, c, inputs, rows, taps);
            for (int64_t i = 0; i < inputs; i++)
                transform(taps + i * 9 * SP_LANES, t->packer->turned, u[i], output);
            write(s, u, inputs, to + c / (half ? 2 : 1) * row, point_stride, row, output, half);
        }
    }
}

static void pack_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    const sp_winograd_shape *s = &t->packer->shape;
    if (s->half)
        pack_vectors(t, begin, end, 2, true);
    else if (s->output == 4)
        pack_vectors(t, begin, end, 4, false);
    else
        pack_vectors(t, begin, end, 6, false);
}

void sp_winograd_pack(void *packer, const void *source, void *packed, void *scratch)
{
    (void)scratch;
    const sp_winograd_packer *p = packer;
    sp_parallel_for(p->shape.M / SP_LANES, 1, pack_range, &(task){p, source, packed});
}
