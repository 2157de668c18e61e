/* Intervals of scores by resampling. */
#include "eval/bootstrap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/random.h"

/* Indices in 0..count-1 of resample number `resample`; each is as likely as the next but for count / 2^32. */
static void draw(int64_t resample, int which, int64_t count, uint32_t *out)
{
    sp_random_key key = {0, SP_STREAM_BOOTSTRAP, (uint64_t)resample, (uint64_t)which};
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

/* ---- of a mean ---- */

sp_status sp_bootstrap_mean(const double *terms, int64_t count, int64_t resamples, sp_interval *out)
{
    double *scores = sp_alloc_zero((size_t)resamples * sizeof *scores), mean = 0;
    uint32_t *index = sp_alloc((size_t)count * sizeof *index);
    sp_status status = scores && index ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < count; i++)
        mean += terms[i] / (double)count;
    for (int64_t r = 0; r < resamples && !status; r++) {
        draw(r, 0, count, index);
        for (int64_t i = 0; i < count; i++)
            scores[r] += terms[index[i]] / (double)count;
    }
    if (!status) interval_of(scores, resamples, mean, out);
    sp_free(scores);
    sp_free(index);
    return status;
}

/* ---- of a Frechet distance ---- */

static bool few(const sp_tensor *features)
{
    return features->shape.dim[0] <= features->shape.dim[1];
}

static sp_status fit(const sp_frechet_side *side, sp_gaussian *own, const sp_gaussian **out)
{
    *own = (sp_gaussian){0};
    *out = side->gaussian;
    if (!side->features) return SP_OK;
    *out = own;
    return sp_gaussian_fit(side->features, own);
}

sp_status sp_frechet_of_sides(const sp_frechet_side *a, const sp_frechet_side *b, double *out)
{
    sp_gaussian own_a = {0}, own_b = {0};
    const sp_gaussian *one, *two;
    if (a->features && b->features && (few(a->features) || few(b->features)))
        return sp_frechet_of_few(a->features, b->features, out);
    sp_status status = fit(a, &own_a, &one);
    if (!status) status = fit(b, &own_b, &two);
    if (!status) status = sp_gaussian_distance(one, two, out);
    sp_gaussian_free(&own_a);
    sp_gaussian_free(&own_b);
    return status;
}

typedef struct {
    const sp_frechet_side *side;
    sp_tensor rows; /* [N,D]: the drawn ones */
    uint32_t *index;
} resampled;

static sp_status prepare(const sp_frechet_side *side, resampled *out)
{
    *out = (resampled){.side = side};
    if (!side->features) return SP_OK;
    SP_TRY(sp_tensor_create(side->features->dtype, side->features->shape, &out->rows));
    out->index = sp_alloc((size_t)side->features->shape.dim[0] * sizeof *out->index);
    return out->index ? SP_OK : SP_MEMORY;
}

static sp_frechet_side drawn(resampled *r, int64_t resample, int which)
{
    if (!r->side->features) return *r->side;
    int64_t count = r->rows.shape.dim[0];
    size_t row = sp_tensor_bytes(&r->rows) / (size_t)count;
    draw(resample, which, count, r->index);
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)r->rows.data + (size_t)i * row, (char *)r->side->features->data + r->index[i] * row, row);
    return (sp_frechet_side){&r->rows, NULL};
}

static void finish(resampled *r)
{
    sp_tensor_free(&r->rows);
    sp_free(r->index);
}

sp_status sp_bootstrap_frechet(const sp_frechet_side *a, const sp_frechet_side *b, double distance, int64_t resamples,
                               const sp_callbacks *callbacks, sp_interval *out)
{
    resampled one = {0}, two = {0};
    if (!a->features && !b->features)
        return sp_fail(SP_ARGUMENT, "an interval is of pictures or their features, and both sets are means and "
                       "covariances");
    double *scores = sp_alloc((size_t)resamples * sizeof *scores);
    sp_status status = scores ? SP_OK : SP_MEMORY;
    if (!status) status = prepare(a, &one);
    if (!status) status = prepare(b, &two);
    for (int64_t r = 0; r < resamples && !status; r++) {
        status = sp_check_cancelled(callbacks);
        const sp_frechet_side x = drawn(&one, r, 0), y = drawn(&two, r, 1);
        if (!status) status = sp_frechet_of_sides(&x, &y, &scores[r]);
        sp_report(callbacks, "resampled distances", r + 1, resamples, NULL);
    }
    if (!status) interval_of(scores, resamples, distance, out);
    sp_free(scores);
    finish(&one);
    finish(&two);
    return status;
}
