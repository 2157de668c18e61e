/* How far a score would lie elsewhere with other pictures of the same kind (Efron 1979): it is measured again of sets
 * drawn from its own with replacement. The interval is the score plus the 2.5th and 97.5th percentile of these scores
 * less their mean: a drawn set repeats pictures, which moves a Frechet distance up, and that is no news about the
 * score. What is drawn follows from the number of the resample alone. */
#ifndef SP_EVAL_BOOTSTRAP_H
#define SP_EVAL_BOOTSTRAP_H
#include "base/progress.h"
#include "eval/frechet.h"

typedef struct {
    double low, high; /* 95 % */
} sp_interval;

/* Of the mean of the terms; what else a term depends on stays as it is. SP_MEMORY. */
sp_status sp_bootstrap_mean(const double *terms, int64_t count, int64_t resamples, sp_interval *out);

/* One side of a Frechet distance: its features, or, where these are not known, their normal distribution, which then is
 * taken for exact. */
typedef struct {
    const sp_tensor *features;
    const sp_gaussian *gaussian;
} sp_frechet_side;
/* By the singular values of few rows, or else by covariances, as eval/frechet.h says; errors as there. */
sp_status sp_frechet_of_sides(const sp_frechet_side *a, const sp_frechet_side *b, double *out);
/* Both sides are drawn anew each time. SP_ARGUMENT if neither has features; SP_CANCELLED. */
sp_status sp_bootstrap_frechet(const sp_frechet_side *a, const sp_frechet_side *b, double distance, int64_t resamples,
                               const sp_callbacks *callbacks, sp_interval *out);

#endif
