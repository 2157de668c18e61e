/* How far a score would lie elsewhere with other pictures of the same kind (Efron 1979): it is measured again of sets
 * drawn from its own with replacement. What is drawn follows from the number of the resample alone.
 *
 * Of a mean, the interval is the mean plus the 2.5th and 97.5th percentile of the resampled means less their mean. Of a
 * Frechet distance it is the distance plus and minus 1.96 standard deviations of the resampled ones: a drawn set
 * repeats pictures, which moves a distance up, and that is no news about the score; and where each takes seconds, a
 * deviation is known to 1/sqrt(2 resamples) of itself, a twentieth of 200, when percentiles are not known at all. */
#ifndef SP_EVAL_BOOTSTRAP_H
#define SP_EVAL_BOOTSTRAP_H
#include "base/progress.h"
#include "eval/frechet.h"

typedef struct {
    double low, high; /* 95 % */
} sp_interval;

/* Of the mean of the terms; what else a term depends on stays as it is. SP_MEMORY. */
sp_status sp_bootstrap_mean(const double *terms, int64_t count, int64_t resamples, sp_interval *out);

/* Both sides that have features are drawn anew each time, one that has a normal distribution alone is taken for exact.
 * A resample is exact: each picture counts as often as it was drawn, so that the covariance is a product of the 63 % of
 * the rows that were. As many are worked at as there are threads, and room in 2 GB, each by one thread; how long the
 * rest will take is said after the first. SP_ARGUMENT if neither has features; SP_CANCELLED; errors of distances. */
sp_status sp_bootstrap_frechet(const sp_frechet_side *a, const sp_frechet_side *b, double distance, int64_t resamples,
                               const sp_callbacks *callbacks, sp_interval *out);

#endif
