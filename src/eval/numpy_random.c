/* numpy's legacy shuffle: from the last place down, the partner drawn by masking and rejecting. */
#include "eval/numpy_random.h"

static uint32_t up_to(sp_torch_generator *generator, uint32_t most)
{
    uint32_t mask = most, word;
    for (int shift = 1; shift < 32; shift *= 2)
        mask |= mask >> shift;
    do
        word = sp_torch_bits(generator) & mask;
    while (word > most);
    return word;
}

void sp_numpy_permutation(sp_torch_generator *generator, int64_t *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = i;
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = up_to(generator, (uint32_t)i), held = out[i];
        out[i] = out[j];
        out[j] = held;
    }
}
