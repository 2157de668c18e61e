/* The vectorised kernels of one instruction set. */
#include "backend/cpu/vector/vector.h"

static bool small_float(const sp_value *value)
{
    return !value || sp_is_f32_or_bf16(value);
}

/* Integers are ids, which the kernels that take them know, and so are weights that they pack. */
static bool floats_fit(const sp_node *node)
{
    bool fit = true;
    for (int i = 0; i < node->inputs; i++)
        fit = fit && (small_float(node->in[i]) || (node->op->stored_inputs >> i & 1) ||
                      node->in[i]->dtype == SP_I32 || node->in[i]->dtype == SP_I64);
    for (int i = 0; i < node->outputs; i++)
        fit = fit && small_float(node->out[i]);
    return fit;
}

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
#define FLOATS (SP_DTYPE_BIT(SP_F32) | SP_DTYPE_BIT(SP_BF16))
#define EVERY_DTYPE ((1u << SP_DTYPE_COUNT) - 1)
#define ENTRY(op, dtypes, supports)                                                                \
    {&sp_op_##op, dtypes, supports, SP_KERNEL(op), "vector " #op " " TEXT(SP_ISA)},
#define FLOAT_ENTRY(op) ENTRY(op, FLOATS, floats_fit)
#define ANY_ENTRY(op) ENTRY(op, EVERY_DTYPE, NULL)

/* clang-format off */
const sp_cpu_kernel SP_ISA_SYMBOL(sp_cpu_vector)[] = {
    SP_VECTOR_FLOAT_OPS(FLOAT_ENTRY)
    SP_VECTOR_MOVING_OPS(ANY_ENTRY)
    {0},
};
/* clang-format on */
