/* Kernels into the form in which a convolution is a product: U = G g G^T, in f32, rounded once. */
#include "backend/cpu/vector/winograd.h"

#define MAX_TILE 8
#define CHUNK 8 /* input channels transformed at a time */

/* G of the three forms; column k belongs to tap k. */
static const float g2[4][3] = {{1, 0, 0}, {.5f, .5f, .5f}, {.5f, -.5f, .5f}, {0, 0, 1}};
static const float g4[6][3] = {{1.f / 4, 0, 0},
                               {-1.f / 6, -1.f / 6, -1.f / 6},
                               {-1.f / 6, 1.f / 6, -1.f / 6},
                               {1.f / 24, 1.f / 12, 1.f / 6},
                               {1.f / 24, -1.f / 12, 1.f / 6},
                               {0, 0, 1}};
static const float g6[8][3] = {{1, 0, 0},
                               {-2.f / 9, -2.f / 9, -2.f / 9},
                               {-2.f / 9, 2.f / 9, -2.f / 9},
                               {1.f / 90, 1.f / 45, 2.f / 45},
                               {1.f / 90, -1.f / 45, 2.f / 45},
                               {32.f / 45, 16.f / 45, 8.f / 45},
                               {32.f / 45, -16.f / 45, 8.f / 45},
                               {0, 0, 1}};

static const float (*matrix(int output))[3]
{
    return output == 2 ? g2 : output == 4 ? g4 : g6;
}

/* SP_LANES kernels of one input channel: taps[9] vectors -> u[tile * tile] vectors. */
static void transform(const float *taps, const float (*g)[3], int tile, bool turned, sp_vf *u)
{
    sp_vf half[MAX_TILE][3];
    for (int j = 0; j < 3; j++) {
        sp_vf tap[3];
        for (int i = 0; i < 3; i++)
            tap[i] = sp_vf_load(taps + (turned ? 8 - (i * 3 + j) : i * 3 + j) * SP_LANES);
        for (int i = 0; i < tile; i++)
            half[i][j] = g[i][0] * tap[0] + g[i][1] * tap[1] + g[i][2] * tap[2];
    }
    for (int i = 0; i < tile; i++)
        for (int j = 0; j < tile; j++)
            u[i * tile + j] = g[j][0] * half[i][0] + g[j][1] * half[i][1] + g[j][2] * half[i][2];
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
            const char *from = (const char *)source + (size_t)at * size;
            if (p->dtype == SP_BF16)
                sp_row_from_bf16(rows + o * length, (const uint16_t *)(const void *)from, length);
            else
                sp_convert(rows + o * length, SP_F32, from, p->dtype, length);
        }
        sp_transpose(taps + i * 9 * SP_LANES, SP_LANES, rows, length, SP_LANES, length);
    }
}

/* Element (o,i) of a point: to + point * point_stride + i * row, lane o; i counts pairs of channels
 * in bf16. */
static void write(const sp_winograd_shape *s, sp_vf (*u)[MAX_TILE * MAX_TILE], int64_t inputs,
                  float *to, int64_t point_stride, int64_t row)
{
    bool half = s->half;
    for (int64_t i = 0; i < inputs; i += half ? 2 : 1)
        for (int e = 0; e < s->tile * s->tile; e++) {
            if (sp_winograd_skips(e / s->tile, e % s->tile, s->doubled)) continue;
            sp_vf v = u[i][e];
            if (half) {
                sp_vu low = __builtin_convertvector(sp_vf_to_bf16(u[i][e]), sp_vu);
                sp_vu high = __builtin_convertvector(sp_vf_to_bf16(u[i + 1][e]), sp_vu);
                v = (sp_vf)(low | high << 16);
            }
            int64_t point = sp_winograd_point(e / s->tile, e % s->tile, s->tile, s->doubled);
            sp_vf_store(to + point * point_stride + i / (half ? 2 : 1) * row, v);
        }
}

typedef struct {
    const sp_winograd_packer *packer;
    const void *source;
    float *packed;
} task;

/* Vectors of output channels `begin` .. `end`-1. */
static void pack_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    const sp_winograd_shape *s = &t->packer->shape;
    int64_t depth = s->half ? s->C / 2 : s->C, vectors = s->M / SP_LANES;
    int64_t points = sp_winograd_points(s);
    float rows[SP_LANES * 9 * CHUNK], taps[CHUNK * 9 * SP_LANES];
    sp_vf u[CHUNK][MAX_TILE * MAX_TILE];
    for (int64_t v = begin; v < end; v++) {
        int64_t panel = v / 4, width = vectors - panel * 4 < 4 ? vectors - panel * 4 : 4;
        int64_t row = width * SP_LANES, point_stride = depth * row;
        float *to = t->packed + panel * 4 * SP_LANES * depth * points + v % 4 * SP_LANES;
        for (int64_t c = 0; c < s->C; c += CHUNK) {
            int64_t inputs = s->C - c < CHUNK ? s->C - c : CHUNK;
            gather(t->packer, t->source, v * SP_LANES, c, inputs, rows, taps);
            for (int64_t i = 0; i < inputs; i++)
                transform(taps + i * 9 * SP_LANES, matrix(s->output), s->tile, t->packer->turned,
                          u[i]);
            write(s, u, inputs, to + c / (s->half ? 2 : 1) * row, point_stride, row);
        }
    }
}

void sp_winograd_pack(void *packer, const void *source, void *packed)
{
    const sp_winograd_packer *p = packer;
    sp_parallel_for(p->shape.M / SP_LANES, 1, pack_range, &(task){p, source, packed});
}
