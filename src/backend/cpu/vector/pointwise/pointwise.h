/* Elementwise kernels: the driver cuts tensors into chunks that stay in the first cache level,
 * converts what is not f32, and calls a function of floats. So each operator is written once for
 * all dtypes. Where all operands are bf16 a loop may be compiled a second time, to convert in
 * registers. */
#ifndef SP_BACKEND_CPU_VECTOR_POINTWISE_POINTWISE_H
#define SP_BACKEND_CPU_VECTOR_POINTWISE_POINTWISE_H
#include "backend/cpu/vector/vector.h"

#define SP_POINTWISE_INPUTS 4
#define SP_POINTWISE_OUTPUTS 2
#define SP_POINTWISE_CHUNK 512 /* elements */

/* Element i of row r lies at offset + (r / row_divisor) * row_stride + i % period. */
typedef struct {
    void *data;
    sp_dtype dtype; /* SP_F32 or SP_BF16 */
    int64_t offset, row_stride;
    int64_t row_divisor; /* 0: 1 */
    int64_t period;      /* 0: no repetition; else at most SP_POINTWISE_CHUNK */
} sp_pointwise_operand;

typedef struct sp_pointwise sp_pointwise;
/* y[..] from x[..], `count` elements, all of row `row`. y may be x. */
typedef void sp_pointwise_body(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x,
                               int64_t count);

struct sp_pointwise {
    int64_t rows, row_length;
    int inputs, outputs;
    sp_pointwise_operand in[SP_POINTWISE_INPUTS], out[SP_POINTWISE_OUTPUTS];
    sp_pointwise_body *body; /* of floats */
    sp_pointwise_body *half_body; /* of bf16; may be NULL */
    float parameter[2];
    const void *context; /* for the body */
    /* Set by sp_pointwise_run: the chunk that the periods allow; whether half_body runs. */
    int64_t chunk;
    bool half;
};

#define sp_pointwise_run SP_ISA_SYMBOL(sp_pointwise_run)
void sp_pointwise_run(sp_pointwise *loop);

/* An operand that is a whole contiguous tensor with one row of the loop after the other. */
static inline sp_pointwise_operand sp_pointwise_rows(const sp_value *value, const void *data,
                                                     int64_t row_length)
{
    return (sp_pointwise_operand){.data = (void *)data, .dtype = value->dtype, .row_stride = row_length};
}

/* h [rows,middle,C] with t [rows,C]: rows, and how t repeats. Rows are split where C does not fit a
 * chunk. */
static inline void sp_pointwise_per_channel(sp_pointwise *loop, int64_t samples, int64_t middle,
                                            int64_t channels, sp_pointwise_operand *t)
{
    bool short_rows = channels <= SP_POINTWISE_CHUNK;
    loop->rows = short_rows ? samples : samples * middle;
    loop->row_length = short_rows ? middle * channels : channels;
    t->row_stride = channels;
    t->row_divisor = short_rows ? 1 : middle;
    t->period = short_rows ? channels : 0;
}

/* Lane-wise loops over a chunk, `name` of floats and `name`_half of bf16; `a` and `b` are the
 * vectors of inputs 0 and 1, and the value is output 0. `half` says which of the two it is, so that
 * the value may be less exact there. */
#define SP_POINTWISE_LOOP(name, setup, loads, value)                                               \
    SP_INLINE void name##_loop(const sp_pointwise *loop, void *const *y, const void *const *x,     \
                               int64_t count, const bool half)                                     \
    {                                                                                              \
        (void)loop;                                                                                \
        setup;                                                                                     \
        for (int64_t i = 0; i < count; i += SP_LANES) {                                            \
            int64_t left = count - i;                                                              \
            loads;                                                                                 \
            sp_vf_put(y[0], i, value, left, half);                                                 \
        }                                                                                          \
    }                                                                                              \
    static void name(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x,  \
                     int64_t count)                                                                \
    {                                                                                              \
        (void)row;                                                                                 \
        name##_loop(loop, y, x, count, false);                                                     \
    }                                                                                              \
    static void name##_half(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x, \
                            int64_t count)                                                         \
    {                                                                                              \
        (void)row;                                                                                 \
        name##_loop(loop, y, x, count, true);                                                      \
    }
#define SP_POINTWISE_LOAD_1 sp_vf a = sp_vf_get(x[0], i, left, half)
#define SP_POINTWISE_LOAD_2 SP_POINTWISE_LOAD_1, b = sp_vf_get(x[1], i, left, half)

#endif
