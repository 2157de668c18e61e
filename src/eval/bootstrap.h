/* Intervals of means by resampling (Efron 1979): a mean is measured again of sets drawn from its own terms with
 * replacement, and its interval is the mean plus the 2.5th and 97.5th percentile of the resampled means less their
 * mean. What is drawn follows from the number of the resample alone. */
#ifndef SP_EVAL_BOOTSTRAP_H
#define SP_EVAL_BOOTSTRAP_H
#include <stdint.h>
#include "base/status.h"
#include "eval/interval.h"

/* Of the mean of the terms; what else a term depends on stays as it is. SP_MEMORY. */
sp_status sp_bootstrap_mean(const double *terms, int64_t count, int64_t resamples, sp_interval *out);

#endif
