/* Intervals of scores by resampling. */
#include "eval/bootstrap.h"
#include <math.h>
#include <stdlib.h>
#include "base/memory.h"
#include "base/random.h"

/* Indices in 0..count-1 of resample number `resample`; each is as likely as the next but for count / 2^32. */
static void draw(int64_t resample, int64_t count, uint32_t *out)
{
    sp_random_key key = {0, SP_STREAM_BOOTSTRAP, (uint64_t)resample, 0};
    sp_random_bits(key, out, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint32_t)((uint64_t)out[i] * (uint64_t)count >> 32);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between neighbours in proportion, as numpy's percentile. */
static double quantile(const double *sorted, int64_t count, double share)
{
    double place = share * (double)(count - 1);
    int64_t below = (int64_t)place, above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

static void interval_of(double *scores, int64_t count, double score, sp_interval *out)
{
    double mean = 0;
    for (int64_t i = 0; i < count; i++)
        mean += scores[i] / (double)count;
    qsort(scores, (size_t)count, sizeof *scores, ascending);
    out->low = score + quantile(scores, count, 0.025) - mean;
    out->high = score + quantile(scores, count, 0.975) - mean;
}

sp_status sp_bootstrap_mean(const double *terms, int64_t count, int64_t resamples, sp_interval *out)
{
    double *scores = sp_alloc_zero((size_t)resamples * sizeof *scores), mean = 0;
    uint32_t *index = sp_alloc((size_t)count * sizeof *index);
    sp_status status = scores && index ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < count; i++)
        mean += terms[i] / (double)count;
    for (int64_t r = 0; r < resamples && !status; r++) {
        draw(r, count, index);
        for (int64_t i = 0; i < count; i++)
            scores[r] += terms[index[i]] / (double)count;
    }
    if (!status) interval_of(scores, resamples, mean, out);
    sp_free(scores);
    sp_free(index);
    return status;
}
