/* Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), as the latter's prdc
 * measures them: r_i the distance from real picture i to its k-th nearest real one, itself not counted, r'_j the same
 * among the drawn ones, and d_ij that from real i to drawn j,
 *
 *   precision = mean_j [any_i d_ij < r_i]          recall   = mean_i [any_j d_ij < r'_j]
 *   density   = mean_j |{i: d_ij < r_i}| / k       coverage = mean_i [any_j d_ij < r_i].
 *
 * Distances are of products in fp64; where one is as near to a radius as rounding reaches, it is summed anew from
 * differences, so that equal pictures are not nearer than themselves. */
#ifndef SP_EVAL_PRDC_H
#define SP_EVAL_PRDC_H
#include "base/progress.h"
#include "tensor/tensor.h"

/* (NAME, "text") */
#define SP_PRDC_LIST(X)                                                                                          \
    X(PRECISION, "precision") X(RECALL, "recall") X(DENSITY, "density") X(COVERAGE, "coverage")
enum {
#define X(name, text) SP_PRDC_##name,
    SP_PRDC_LIST(X)
#undef X
        SP_PRDC_COUNT
};

typedef struct {
    double *terms[SP_PRDC_COUNT]; /* what each is the mean of: owned */
    int64_t count[SP_PRDC_COUNT]; /* of them: drawn pictures, real ones, drawn, real */
    double mean[SP_PRDC_COUNT];
} sp_prdc;

/* drawn [M,D], real [N,D], f32; no more than a block of distances is in memory. SP_SHAPE if the widths differ or
 * a set has not more rows than `nearest`, SP_NUMERIC if a value is not finite, SP_CANCELLED, SP_MEMORY. */
sp_status sp_prdc_of(const sp_tensor *drawn, const sp_tensor *real, int64_t nearest, const sp_callbacks *callbacks,
                     sp_prdc *out);
void sp_prdc_free(sp_prdc *prdc); /* zeroed is legal */

#endif
