/* Elementwise work dealt out to threads. */
#include "backend/cpu/vector/pointwise/map.h"

#define GRAIN 16        /* chunks of SP_MAP_CHUNK that one thread takes at least */
#define HALF_CHUNK 4096 /* elements that one call works on where nothing is converted */

/* The operand's elements of a chunk as floats, where they lie or in `buffer`. */
static const float *chunk_in(const sp_map_operand *operand, int64_t row, int64_t begin,
                             int64_t count, float *buffer)
{
    int64_t at = operand->offset +
                 (operand->row_divisor ? row / operand->row_divisor : row) * operand->row_stride;
    int64_t period = operand->period;
    if (!period) {
        at += begin;
        if (operand->dtype == SP_F32) return (const float *)operand->data + at;
        sp_row_from_bf16(buffer, (const uint16_t *)operand->data + at, count);
        return buffer;
    }
    /* Chunks begin at a multiple of the period. */
    if (operand->dtype == SP_F32)
        memcpy(buffer, (const float *)operand->data + at, (size_t)period * sizeof *buffer);
    else
        sp_row_from_bf16(buffer, (const uint16_t *)operand->data + at, period);
    for (int64_t filled = period; filled < count; filled *= 2) {
        int64_t more = count - filled < filled ? count - filled : filled;
        memcpy(buffer + filled, buffer, (size_t)more * sizeof *buffer);
    }
    return buffer;
}

/* All operands are bf16 and worked on where they lie. */
static void run_half_chunk(const sp_map *map, int64_t row, int64_t begin, int64_t count)
{
    const void *x[SP_MAP_INPUTS] = {0};
    void *y[SP_MAP_OUTPUTS] = {0};
    for (int k = 0; k < map->inputs; k++) {
        const sp_map_operand *o = &map->in[k];
        int64_t of_row = (o->row_divisor ? row / o->row_divisor : row) * o->row_stride;
        x[k] = (const uint16_t *)o->data + o->offset + of_row + begin;
    }
    for (int k = 0; k < map->outputs; k++) {
        const sp_map_operand *o = &map->out[k];
        y[k] = (uint16_t *)o->data + o->offset + row * o->row_stride + begin;
    }
    map->half_body(map, row, y, x, count);
}

static void run_chunk(const sp_map *map, int64_t row, int64_t begin, int64_t count)
{
    _Alignas(64) float in_buffer[SP_MAP_INPUTS][SP_MAP_CHUNK],
        out_buffer[SP_MAP_OUTPUTS][SP_MAP_CHUNK];
    const void *x[SP_MAP_INPUTS] = {0};
    void *y[SP_MAP_OUTPUTS] = {0};
    for (int k = 0; k < map->inputs; k++)
        x[k] = chunk_in(&map->in[k], row, begin, count, in_buffer[k]);
    for (int k = 0; k < map->outputs; k++) {
        const sp_map_operand *o = &map->out[k];
        y[k] = o->dtype == SP_F32 ? (float *)o->data + o->offset + row * o->row_stride + begin
                                  : out_buffer[k];
    }
    map->body(map, row, y, x, count);
    for (int k = 0; k < map->outputs; k++) {
        const sp_map_operand *o = &map->out[k];
        if (o->dtype == SP_F32) continue;
        sp_row_to_bf16((uint16_t *)o->data + o->offset + row * o->row_stride + begin, out_buffer[k],
                       count);
    }
}

static void run_range(void *context, int64_t begin, int64_t end)
{
    const sp_map *map = context;
    int64_t per_row = sp_ceil_div(map->row_length, map->chunk);
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i % per_row * map->chunk, left = map->row_length - at;
        (map->half ? run_half_chunk : run_chunk)(map, i / per_row, at,
                                                 left < map->chunk ? left : map->chunk);
    }
}

static bool all_half(const sp_map *map)
{
    bool half = map->half_body != NULL;
    for (int k = 0; k < map->inputs; k++)
        half = half && map->in[k].dtype == SP_BF16 && map->in[k].period == 0;
    for (int k = 0; k < map->outputs; k++)
        half = half && map->out[k].dtype == SP_BF16;
    return half;
}

void sp_map_run(sp_map *map)
{
    if (map->row_length < 1) return;
    map->half = all_half(map);
    map->chunk = map->half ? HALF_CHUNK : SP_MAP_CHUNK;
    for (int k = 0; k < map->inputs; k++)
        if (map->in[k].period) map->chunk = map->in[k].period * (SP_MAP_CHUNK / map->in[k].period);
    int64_t items = map->rows * sp_ceil_div(map->row_length, map->chunk);
    /* Short rows: as many as make up the usual grain. */
    int64_t length = map->row_length < map->chunk ? map->row_length : map->chunk;
    sp_parallel_for(items, sp_ceil_div(GRAIN * SP_MAP_CHUNK, length), run_range, map);
}
