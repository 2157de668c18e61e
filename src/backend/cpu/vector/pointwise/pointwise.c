/* Elementwise work dealt out to threads. */
#include "backend/cpu/vector/pointwise/pointwise.h"

#define GRAIN 16        /* chunks of SP_POINTWISE_CHUNK that one thread takes at least */
#define HALF_CHUNK 4096 /* elements that one call works on where nothing is converted */

/* The operand's elements of a chunk as floats, where they lie or in `buffer`. */
static const float *chunk_in(const sp_pointwise_operand *operand, int64_t row, int64_t begin,
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
static void run_half_chunk(const sp_pointwise *loop, int64_t row, int64_t begin, int64_t count)
{
    const void *x[SP_POINTWISE_INPUTS] = {0};
    void *y[SP_POINTWISE_OUTPUTS] = {0};
    for (int k = 0; k < loop->inputs; k++) {
        const sp_pointwise_operand *o = &loop->in[k];
        int64_t of_row = (o->row_divisor ? row / o->row_divisor : row) * o->row_stride;
        x[k] = (const uint16_t *)o->data + o->offset + of_row + begin;
    }
    for (int k = 0; k < loop->outputs; k++) {
        const sp_pointwise_operand *o = &loop->out[k];
        y[k] = (uint16_t *)o->data + o->offset + row * o->row_stride + begin;
    }
    loop->half_body(loop, row, y, x, count);
}

static void run_chunk(const sp_pointwise *loop, int64_t row, int64_t begin, int64_t count)
{
    _Alignas(64) float in_buffer[SP_POINTWISE_INPUTS][SP_POINTWISE_CHUNK],
        out_buffer[SP_POINTWISE_OUTPUTS][SP_POINTWISE_CHUNK];
    const void *x[SP_POINTWISE_INPUTS] = {0};
    void *y[SP_POINTWISE_OUTPUTS] = {0};
    for (int k = 0; k < loop->inputs; k++)
        x[k] = chunk_in(&loop->in[k], row, begin, count, in_buffer[k]);
    for (int k = 0; k < loop->outputs; k++) {
        const sp_pointwise_operand *o = &loop->out[k];
        y[k] = o->dtype == SP_F32 ? (float *)o->data + o->offset + row * o->row_stride + begin
                                  : out_buffer[k];
    }
    loop->body(loop, row, y, x, count);
    for (int k = 0; k < loop->outputs; k++) {
        const sp_pointwise_operand *o = &loop->out[k];
        if (o->dtype == SP_F32) continue;
        sp_row_to_bf16((uint16_t *)o->data + o->offset + row * o->row_stride + begin, out_buffer[k],
                       count);
    }
}

static void run_range(void *context, int64_t begin, int64_t end)
{
    const sp_pointwise *loop = context;
    int64_t per_row = sp_ceil_div(loop->row_length, loop->chunk);
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i % per_row * loop->chunk, left = loop->row_length - at;
        (loop->half ? run_half_chunk : run_chunk)(loop, i / per_row, at,
                                                  left < loop->chunk ? left : loop->chunk);
    }
}

static bool all_half(const sp_pointwise *loop)
{
    bool half = loop->half_body != NULL;
    for (int k = 0; k < loop->inputs; k++)
        half = half && loop->in[k].dtype == SP_BF16 && loop->in[k].period == 0;
    for (int k = 0; k < loop->outputs; k++)
        half = half && loop->out[k].dtype == SP_BF16;
    return half;
}

void sp_pointwise_run(sp_pointwise *loop)
{
    if (loop->row_length < 1) return;
    loop->half = all_half(loop);
    loop->chunk = loop->half ? HALF_CHUNK : SP_POINTWISE_CHUNK;
    for (int k = 0; k < loop->inputs; k++)
        if (loop->in[k].period) loop->chunk = loop->in[k].period * (SP_POINTWISE_CHUNK / loop->in[k].period);
    int64_t items = loop->rows * sp_ceil_div(loop->row_length, loop->chunk);
    /* Short rows: as many as make up the usual grain. */
    int64_t length = loop->row_length < loop->chunk ? loop->row_length : loop->chunk;
    sp_parallel_for(items, sp_ceil_div(GRAIN * SP_POINTWISE_CHUNK, length), run_range, loop);
}
