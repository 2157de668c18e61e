/* The numbers that operator cases run on, and how closely kernels must agree on them. */
#include <string.h>
#include <xxhash.h>
#include "base/random.h"
#include "bench/op_cases.h"

static sp_status integer_data(const sp_case_input *about, sp_random_key key, sp_tensor *out)
{
    SP_TRY(sp_tensor_create(about->value->dtype, about->value->shape, out));
    for (int64_t i = 0; i < sp_tensor_count(out); i++) {
        key.step = (uint64_t)i;
        int64_t id = (int64_t)sp_random_below(key, (uint64_t)about->rows + 2) - 1;
        sp_store(out->data, out->dtype, i, (double)id);
    }
    return SP_OK;
}

/* Of what a case is called, so that others may be added without moving its numbers. */
static uint64_t seed_of(const sp_op_case *c)
{
    return XXH3_64bits_withSeed(c->name, strlen(c->name), XXH3_64bits(c->op->name, strlen(c->op->name)));
}

sp_status sp_op_case_data(const sp_op_case *c, const sp_case_inputs *inputs, int index,
                          sp_tensor *out)
{
    const sp_case_input *about = &inputs->input[index];
    sp_random_key key = {seed_of(c), SP_STREAM_INIT, 0, (uint64_t)index};
    if (about->rows) return integer_data(about, key, out);
    int64_t count = sp_shape_count(about->value->shape);
    float *uniform = sp_alloc(((size_t)count + 1) * sizeof *uniform);
    if (!uniform) return SP_MEMORY;
    sp_random_uniform(key, uniform, (size_t)count);
    sp_status status = sp_tensor_create(about->value->dtype, about->value->shape, out);
    for (int64_t i = 0; i < count && !status; i++) {
        float value = (float)(about->low + (about->high - about->low) * (double)uniform[i]);
        sp_store(out->data, out->dtype, i, (double)sp_bf16_to_f32(sp_f32_to_bf16(value)));
    }
    sp_free(uniform);
    return status;
}

/* fp32 rounds at 6e-8: approximated functions err by a few of that, sums of thousands of terms by a
 * few tens. bf16 rounds at 2^-8 = 3.9e-3: that once, for the result; attention rounds probabilities
 * and their gradients too. Its gradient subtracts dout . out, of an out that is rounded, and where one key stands for
 * many that difference is small and the error of it 1 % (the same sums in double precision, out alone rounded). */
double sp_op_case_tolerance(const sp_op_case *c, sp_dtype dtype)
{
    static const double f32[] = {0, 1e-6, 2e-6, 4e-6, 8e-6}, bf16[] = {0, 4e-3, 4e-3, 1.2e-2, 1.2e-2};
    if (dtype != SP_BF16) return f32[c->class];
    bool counted = c->op == &sp_op_attention_gradient && c->size[6] > 1;
    return counted ? 2.4e-2 : bf16[c->class];
}
