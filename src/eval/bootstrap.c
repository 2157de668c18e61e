/* Intervals of scores by resampling. */
#include "eval/bootstrap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"
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

/* One resample at a time: sides whose rows count as often as they were drawn. */
typedef struct {
    sp_frechet_side a, b;
    uint32_t *index, *times[2]; /* [the larger count], [each count]; NULL for what is not drawn */
    double distance;
    sp_status status;
} worker;

typedef struct {
    worker *worker;
    int64_t first, resamples; /* the first worker's; of all */
} resampling;

static int64_t rows_of(const sp_frechet_side *side)
{
    return side->features ? side->features->shape.dim[0] : 0;
}

static void count_draws(worker *w, int64_t resample, int which, int64_t rows)
{
    uint32_t *times = w->times[which];
    memset(times, 0, (size_t)rows * sizeof *times);
    draw(resample, which, rows, w->index);
    for (int64_t i = 0; i < rows; i++)
        times[w->index[i]]++;
}

static void work(void *context, int64_t begin, int64_t end)
{
    const resampling *r = context;
    for (int64_t i = begin; i < end && r->first + i < r->resamples; i++) {
        worker *w = &r->worker[i];
        if (w->times[0]) count_draws(w, r->first + i, 0, rows_of(&w->a));
        if (w->times[1]) count_draws(w, r->first + i, 1, rows_of(&w->b));
        w->status = sp_frechet_of_sides(&w->a, &w->b, &w->distance);
    }
}

static sp_status worker_create(const sp_frechet_side *a, const sp_frechet_side *b, worker *out)
{
    int64_t rows_a = rows_of(a), rows_b = rows_of(b), most = rows_a > rows_b ? rows_a : rows_b;
    *out = (worker){.a = *a, .b = *b};
    out->index = sp_alloc((size_t)most * sizeof *out->index);
    if (rows_a) out->a.times = out->times[0] = sp_alloc((size_t)rows_a * sizeof *out->index);
    if (rows_b) out->b.times = out->times[1] = sp_alloc((size_t)rows_b * sizeof *out->index);
    return out->index && (!rows_a || out->times[0]) && (!rows_b || out->times[1]) ? SP_OK : SP_MEMORY;
}

static void worker_free(worker *w)
{
    sp_free(w->index);
    sp_free(w->times[0]);
    sp_free(w->times[1]);
}

/* As many as there are threads, but no more than have 2 GB for six matrices of the width and a block of rows. */
static int64_t worker_count(int64_t dim, int64_t resamples)
{
    const double bytes = (6 * (double)dim + 4096) * (double)dim * sizeof(double);
    int64_t most = (int64_t)(2e9 / bytes), width = sp_threads() < resamples ? sp_threads() : resamples;
    if (width > most) width = most;
    return width < 1 ? 1 : width;
}

/* What failed is known by its status alone, for its sentence was another thread's. */
static sp_status failed(sp_status status, int64_t resample)
{
    if (status == SP_MEMORY) return sp_fail(SP_MEMORY, "out of memory: resample %lld has none", (long long)resample);
    return sp_fail(status, "the Frechet distance of resample %lld could not be found", (long long)resample);
}

/* How long the rest will take, once some are done. */
static void say_time(double seconds, int64_t done, int64_t resamples)
{
    char text[32];
    double left = seconds / (double)done * (double)(resamples - done);
    sp_duration_text(left, text, sizeof text);
    if (left >= 60) sp_log_info("%lld resampled distances take %s more", (long long)(resamples - done), text);
}

static sp_status resample_all(worker *workers, int64_t width, double *distances, int64_t resamples,
                              const sp_callbacks *callbacks)
{
    resampling all = {.worker = workers, .resamples = resamples};
    double began = sp_now();
    sp_report(callbacks, "resampled distances", 0, resamples, NULL);
    while (all.first < resamples) {
        int64_t now = resamples - all.first < width ? resamples - all.first : width;
        SP_TRY(sp_check_cancelled(callbacks));
        sp_parallel_for(width, 1, work, &all); /* each by one thread, the last one too: LAPACK's bits depend on it */
        for (int64_t i = 0; i < now; i++) {
            if (workers[i].status) return failed(workers[i].status, all.first + i);
            distances[all.first + i] = workers[i].distance;
        }
        if (!all.first) say_time(sp_now() - began, now, resamples);
        all.first += now;
        sp_report(callbacks, "resampled distances", all.first, resamples, NULL);
    }
    return SP_OK;
}

static void deviation_interval(const double *scores, int64_t count, double score, sp_interval *out)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < count; i++)
        mean += scores[i] / (double)count;
    for (int64_t i = 0; i < count; i++)
        square += (scores[i] - mean) * (scores[i] - mean);
    double half = 1.959963984540054 * sqrt(square / (double)(count - 1)); /* of the normal distribution */
    *out = (sp_interval){score - half, score + half};
}

sp_status sp_bootstrap_frechet(const sp_frechet_side *a, const sp_frechet_side *b, double distance, int64_t resamples,
                               const sp_callbacks *callbacks, sp_interval *out)
{
    if (!a->features && !b->features)
        return sp_fail(SP_ARGUMENT, "an interval is of pictures or their features, and both sets are means and "
                       "covariances");
    int64_t width = worker_count((a->features ? a : b)->features->shape.dim[1], resamples);
    double *distances = sp_alloc((size_t)resamples * sizeof *distances);
    worker *workers = sp_alloc_zero((size_t)width * sizeof *workers);
    sp_status status = distances && workers ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < width && !status; i++)
        status = worker_create(a, b, &workers[i]);
    if (!status) status = resample_all(workers, width, distances, resamples, callbacks);
    if (!status) deviation_interval(distances, resamples, distance, out);
    for (int64_t i = 0; i < width && workers; i++)
        worker_free(&workers[i]);
    sp_free(workers);
    sp_free(distances);
    return status;
}
