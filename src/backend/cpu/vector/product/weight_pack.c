/* Filters into the form in which a convolution is products: vectors of output channels, whose taps
 * are put side by side, transformed and stored. */
#include "backend/cpu/vector/product/held_weight.h"
#include "backend/cpu/vector/product/threes.h"
#include "backend/cpu/vector/product/winograd_filter.h"

/* What is read at a time: whole cache lines, of few rows where each is met in the next step too.
 * LONG: taps of each of SP_LANES output channels, where those are rows of the source; SHORT and
 * SHORT_ONE: input channels, where those are, of nine taps and of one. */
#define LONG 144
#define SHORT 4
#define SHORT_ONE 16

/* ---- reading ---- */

/* Elements at .. of the source. */
static void read_row(float *to, const char *source, sp_dtype dtype, int64_t at, int64_t count)
{
    if (sp_dtype_is_quantised(dtype)) {
        sp_dequantise(dtype, source, at, count, to);
        return;
    }
    const void *from = source + at * (int64_t)sp_dtype_size(dtype);
    if (dtype == SP_BF16)
        sp_row_from_bf16(to, from, count);
    else if (dtype == SP_F16)
        sp_row_from_f16(to, from, count);
    else if (dtype == SP_F32)
        memcpy(to, from, (size_t)count * sizeof *to);
    else
        sp_convert_elements(to, SP_F32, from, dtype, count);
}

/* taps[tap][o] = from[o][tap] of a 3x3 filter for SP_LANES o: columns of taps are taken apart, then
 * their rows. */
SP_INLINE void part_taps(const sp_threes *t, const float *from, float *taps)
{
    sp_vf column[3][3];
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        sp_vf row[3], parts[3];
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++)
            row[k] = sp_vf_load(from + (3 * i + k) * SP_LANES);
        sp_threes_run(t, row, parts);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            column[j][i] = parts[j];
    }
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        sp_vf parts[3];
        sp_threes_run(t, column[j], parts);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            sp_vf_store(taps + (3 * i + j) * SP_LANES, parts[i]);
    }
}

typedef struct {
    const sp_weight_packer *p;
    const char *source;
    char *packed;
    bool stream;
    sp_threes three;
} task;

/* `count` elements from `at` on as f32: where they are, or in `row`. */
static const float *row_of(const task *t, int64_t at, int64_t count, float *row)
{
    if (t->p->dtype == SP_F32) return (const float *)(const void *)t->source + at;
    read_row(row, t->source, t->p->dtype, at, count);
    return row;
}

/* taps[i][SP_LANES] of `outputs` rows of the source, `length` elements of each; zeros past them. */
static void gather_rows(const task *t, int64_t at, int64_t outputs, int64_t length, float *taps)
{
    float rows[SP_LANES * LONG];
    int64_t row = t->p->output_stride;
    const float *from = row_of(t, at, length, rows);
    if (from == rows || outputs < SP_LANES) {
        for (int64_t o = 0; o < outputs; o++) {
            const float *read = row_of(t, at + o * row, length, rows + o * length);
            if (read != rows + o * length) sp_row_copy(rows + o * length, read, length);
        }
        memset(rows + outputs * length, 0, (size_t)((SP_LANES - outputs) * length) * sizeof *rows);
        from = rows;
        row = length;
    }
    sp_transpose(taps, SP_LANES, from, row, SP_LANES, length);
}

/* The same of 9 taps and SP_LANES output channels in one row of the source. */
static void gather_row(const task *t, int64_t at, float *taps)
{
    float row[SP_LANES * 9];
    part_taps(&t->three, row_of(t, at, t->p->taps * SP_LANES, row), taps);
}

/* ---- writing ---- */

static int64_t padded(int64_t channels)
{
    return sp_round_up(channels, SP_LANES);
}

static int64_t points_of(const sp_weight_packer *p)
{
    return p->output ? sp_winograd_point_count(p->output, p->doubled) : p->taps;
}

/* How an element of the pack is written: as f32, as pairs of bf16, or rounded to the 16 bits of the packer's type. */
typedef enum { FLOATS, PAIRS, SMALL } element_kind;

static int64_t size_of(const element_kind kind)
{
    return kind == SMALL ? 2 : 4;
}

/* Element `at` and those of the lanes after it. */
SP_INLINE void put(const task *t, char *to, int64_t at, sp_vf v, const element_kind kind)
{
    if (kind == SMALL) {
        sp_vh h = t->p->held == SP_BF16 ? sp_vf_to_bf16(v) : sp_vf_to_f16(v);
        memcpy(to + at * 2, &h, sizeof h);
    } else if (t->stream) {
        sp_vf_stream((float *)(void *)to + at, v);
    } else {
        sp_vf_store((float *)(void *)to + at, v);
    }
}

/* Points of one input channel, as pairs of two, to + point * stride. */
SP_INLINE void write(const task *t, const float *taps, char *to, int64_t stride, const int count, const int output,
                     const element_kind kind)
{
    const sp_weight_packer *p = t->p;
    const int tile = output + 2, points = output ? tile * tile : count, inputs = kind == PAIRS ? 2 : 1;
    sp_vf u[2][SP_WINOGRAD_MAX_POINTS];
    for (int i = 0; i < inputs; i++, taps += count * SP_LANES) {
        sp_vf tap[9];
#pragma GCC unroll 9
        for (int e = 0; e < count; e++)
            tap[e] = sp_vf_load(taps + e * SP_LANES);
        if (output)
            sp_winograd_filter(tap, p->turned, u[i], output);
        else
            memcpy(u[i], tap, (size_t)count * sizeof *tap);
    }
#pragma GCC unroll 16
    for (int e = 0; e < points; e++) {
        if (output && sp_winograd_skips(e / tile, e % tile, p->doubled)) continue;
        int64_t point = output ? sp_winograd_point(e / tile, e % tile, tile, p->doubled) : e;
        put(t, to, point * stride, kind == PAIRS ? sp_vf_pair_bf16(u[0][e], u[1][e]) : u[0][e], kind);
    }
}

/* One vector of a row of the source; zeros past the `outputs` that are there. */
SP_INLINE sp_vf vector_of(const task *t, int64_t at, int64_t outputs)
{
    if (t->p->dtype == SP_F32) return sp_vf_get(t->source, at, outputs, false);
    if (t->p->dtype == SP_BF16) return sp_vf_get(t->source, at, outputs, true);
    float row[SP_LANES] = {0};
    return sp_vf_load(row_of(t, at, outputs, row));
}

/* Filters of one tap, where a row of the source holds an input channel. */
SP_INLINE void pack_straight(const task *t, int64_t at, int64_t outputs, int64_t inputs, char *to,
                             int64_t row, const element_kind kind)
{
    const int64_t stride = t->p->input_stride, step = kind == PAIRS ? 2 : 1;
    for (int64_t i = 0; i < inputs; i += step, at += step * stride, to += row * size_of(kind)) {
        sp_vf v = vector_of(t, at, outputs);
        put(t, to, 0, kind == PAIRS ? sp_vf_pair_bf16(v, vector_of(t, at + stride, outputs)) : v, kind);
    }
}

/* The output channels from m on, as many as a vector holds; input channels first .. first+inputs-1
 * of a group. */
SP_INLINE void pack_block(const task *t, int64_t m, int64_t group, int64_t first, int64_t inputs,
                          const int count, const int output, const element_kind kind)
{
    const sp_weight_packer *p = t->p;
    const int64_t step = kind == PAIRS ? 2 : 1, depth = p->group / step, M = padded(p->M);
    int64_t panel = m / p->panel * p->panel, row = M - panel < p->panel ? M - panel : p->panel;
    int64_t place = (group * M + panel) * depth * points_of(p) + m - panel + first / step * row;
    char *to = t->packed + place * size_of(kind);
    int64_t at = m * p->output_stride + (group * p->group + first) * p->input_stride;
    int64_t outputs = p->M - m < SP_LANES ? p->M - m : SP_LANES;
    float taps[LONG * SP_LANES];
    if (p->input_stride == count) {
        gather_rows(t, at, outputs, inputs * count, taps);
    } else if (count == 1) {
        pack_straight(t, at, outputs, inputs, to, row, kind);
        return;
    } else {
        for (int64_t i = 0; i < inputs; i++)
            gather_row(t, at + i * p->input_stride, taps + i * 9 * SP_LANES);
    }
    for (int64_t i = 0; i < inputs; i += step, to += row * size_of(kind))
        write(t, taps + i * count * SP_LANES, to, depth * row, count, output, kind);
}

/* Vectors of output channels begin .. end-1, in the order in which the source lies: all of a few input channels, or one
 * after the other; all of a panel where a vector is a part of a line of it, so that lines are written whole. */
SP_INLINE void pack_vectors(const task *t, int64_t begin, int64_t end, const int count,
                            const int output, const element_kind kind)
{
    const sp_weight_packer *p = t->p;
    bool rows_first = p->input_stride == count, lines = sizeof(sp_vf) == 64;
    int64_t most = rows_first   ? LONG / count
                   : count == 1 ? SHORT_ONE
                                : SHORT,
            together = !rows_first ? end - begin : lines ? 1 : p->panel / SP_LANES;
    for (int64_t v = begin; v < end; v += together)
        for (int64_t group = 0; group < p->C / p->group; group++)
            for (int64_t first = 0; first < p->group; first += most) {
                int64_t left = p->group - first, inputs = left < most ? left : most;
                for (int64_t i = v; i < v + together && i < end; i++)
                    pack_block(t, i * SP_LANES, group, first, inputs, count, output, kind);
            }
}

static element_kind kind_of(const sp_weight_packer *p)
{
    return p->pairs ? PAIRS : p->held == SP_F32 ? FLOATS : SMALL;
}

static int64_t bytes_of(const sp_weight_packer *p)
{
    if (p->held == SP_Q8_0) return p->C / SP_Q8_0_BLOCK * padded(p->M) * SP_Q8_0_BYTES;
    return points_of(p) * p->C * padded(p->M) * (p->held == SP_F32 ? 4 : 2);
}

static void pack_range(void *context, int64_t begin, int64_t end)
{
    const task *t = context;
    const sp_weight_packer *p = t->p;
    const element_kind kind = kind_of(p);
    if (p->output == 2 && kind == PAIRS)
        pack_vectors(t, begin, end, 9, 2, PAIRS);
    else if (p->output == 2)
        pack_vectors(t, begin, end, 9, 2, FLOATS);
    else if (p->output == 4)
        pack_vectors(t, begin, end, 9, 4, FLOATS);
    else if (p->output == 6)
        pack_vectors(t, begin, end, 9, 6, FLOATS);
    else if (p->taps == 9 && kind == PAIRS)
        pack_vectors(t, begin, end, 9, 0, PAIRS);
    else if (p->taps == 9 && kind == SMALL)
        pack_vectors(t, begin, end, 9, 0, SMALL);
    else if (p->taps == 9)
        pack_vectors(t, begin, end, 9, 0, FLOATS);
    else if (kind == PAIRS)
        pack_vectors(t, begin, end, 1, 0, PAIRS);
    else if (kind == SMALL)
        pack_vectors(t, begin, end, 1, 0, SMALL);
    else
        pack_vectors(t, begin, end, 1, 0, FLOATS);
    if (t->stream) _mm_sfence();
}

void SP_ISA_SYMBOL(sp_weight_pack)(void *packer, const void *source, void *packed, void *scratch)
{
    (void)scratch;
    const sp_weight_packer *p = packer;
    if (p->held == SP_Q8_0) {
        sp_weight_pack_quantised(p, source, packed);
        return;
    }
    task t = {.p = p, .source = source, .packed = packed, .three = sp_threes_apart()};
    /* Parts of cache lines would go to memory one by one. */
    t.stream = bytes_of(p) >= SP_STREAM_BYTES && sizeof(sp_vf) == 64 && (uintptr_t)packed % 64 == 0;
    sp_parallel_for(padded(p->M) / SP_LANES, 1, pack_range, &t);
}

/* What lies where depends on all but the source's dtype. */
sp_packing sp_weight_packing(sp_weight_packer *p)
{
    const int64_t parts[] = {p->taps,  p->output,        p->held,         p->pairs, p->output && p->turned, p->doubled,
                             p->M,     p->output_stride, p->input_stride, p->group, p->panel};
    uint64_t key = 0x77656967687473;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        key = ((key ^ (uint64_t)parts[i]) * 0x9e3779b97f4a7c15u) ^ (key >> 29);
    return (sp_packing){.bytes = (size_t)bytes_of(p),
                        .key = key,
                        .pack = SP_ISA_SYMBOL(sp_weight_pack),
                        .state = p};
}

/* ---- a pack of one tap, transposed ---- */

typedef struct {
    const sp_weight_packer *p;
    const char *from;
    char *to;
} turn;

/* Two pairs of inputs of neighbouring outputs become two pairs of these outputs. */
SP_INLINE uint64_t turn_pairs(uint64_t v)
{
    return (v & UINT64_C(0xffff00000000ffff)) | (v >> 16 & UINT64_C(0xffff0000)) |
           (v << 16 & UINT64_C(0xffff00000000));
}

/* A square of `side` elements each way, of pairs two by two. */
SP_INLINE void turn_square(const void *from, void *to, int64_t side, const element_kind kind)
{
    for (int64_t r = 0; r < side; r++)
        for (int64_t l = 0; l < side; l++) {
            const int64_t at = r * side + l, turned = l * side + r;
            if (kind == PAIRS)
                ((uint64_t *)to)[turned] = turn_pairs(((const uint64_t *)from)[at]);
            else if (kind == SMALL)
                ((uint16_t *)to)[turned] = ((const uint16_t *)from)[at];
            else
                ((float *)to)[turned] = ((const float *)from)[at];
        }
}

/* Panels of the new pack; a square of it is one of the other's, a panel's side each way. */
static void turn_panels(void *context, int64_t begin, int64_t end)
{
    const turn *t = context;
    const element_kind kind = kind_of(t->p);
    const int64_t together = kind == PAIRS ? 2 : 1, side = t->p->panel / together, across = t->p->M / together,
                  rows = t->p->C / t->p->panel, bytes = side * (kind == PAIRS ? 8 : size_of(kind));
    for (int64_t n = begin; n < end; n++)
        for (int64_t m = 0; m < rows; m++) {
            const char *from = t->from + (m * across + n * side) * bytes;
            char *to = t->to + (n * rows + m) * side * bytes;
            if (kind == PAIRS)
                turn_square(from, to, side, PAIRS);
            else if (kind == SMALL)
                turn_square(from, to, side, SMALL);
            else
                turn_square(from, to, side, FLOATS);
        }
}

static void repack(void *packer, const void *from, void *packed)
{
    const sp_weight_packer *p = packer;
    turn t = {.p = p, .from = from, .to = packed};
    sp_parallel_for(p->M / p->panel, 1, turn_panels, &t);
}

void sp_weight_repacking(const sp_weight_packer *p, sp_packing *packing)
{
    if (p->taps != 1 || p->group != p->C || p->C % p->panel || p->M % p->panel || p->held == SP_Q8_0) return;
    sp_weight_packer other = *p;
    other.C = other.group = p->M;
    other.M = p->C;
    other.output_stride = p->input_stride;
    other.input_stride = p->output_stride;
    const sp_packing from = sp_weight_packing(&other);
    packing->from_key = from.key;
    packing->from_bytes = from.bytes;
    packing->repack = repack;
}
