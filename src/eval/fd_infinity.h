/* The Frechet distance of infinitely many drawn pictures (Chong & Forsyth 2020), as dgm-eval has it: distances of
 * subsets of 15 sizes, from min(5000, max(n / 10, 2)) to n in equal steps cut to whole numbers, fitted by a + b / size,
 * of which a is told. Other than there, what is drawn is told by a seed: of each size in turn, the first of
 * numpy's RandomState(seed).permutation(n), the generator going on. */
#ifndef SP_EVAL_FD_INFINITY_H
#define SP_EVAL_FD_INFINITY_H
#include "base/progress.h"
#include "eval/frechet.h"

enum { SP_FD_INFINITY_SIZES = 15 };
/* drawn [n,D], f32; the real side counts as a whole. Errors as of distances, and SP_SHAPE where the sizes are all
 * the same; SP_CANCELLED. */
sp_status sp_fd_infinity(const sp_tensor *drawn, const sp_frechet_side *real, uint32_t seed,
                         const sp_callbacks *callbacks, double *out);

#endif
