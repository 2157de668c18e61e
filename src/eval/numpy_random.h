/* numpy's RandomState as far as published scores are drawn by it: mt19937, whose words are sp_torch_bits. */
#ifndef SP_EVAL_NUMPY_RANDOM_H
#define SP_EVAL_NUMPY_RANDOM_H
#include "base/random.h"

/* RandomState.permutation(count), which begins with RandomState.choice(count, m, replace=False): `generator` was begun
 * by sp_torch_seed with RandomState's seed and goes on. count up to 2^31. */
void sp_numpy_permutation(sp_torch_generator *generator, int64_t *out, int64_t count);

#endif
