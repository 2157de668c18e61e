/* Frechet distances of growing subsets, and the line through them. */
#include "eval/fd_infinity.h"
#include <string.h>
#include "base/memory.h"
#include "eval/numpy_random.h"

enum { SIZES = SP_FD_INFINITY_SIZES };

/* numpy's linspace, whose last number is n itself. */
static void choose_sizes(int64_t n, int64_t *out)
{
    int64_t least = n / 10 > 2 ? n / 10 : 2;
    if (least > 5000) least = 5000;
    double step = (double)(n - least) / (SIZES - 1);
    for (int i = 0; i < SIZES; i++)
        out[i] = (int64_t)(i * step + (double)least);
    out[SIZES - 1] = n;
}

/* a of a + b / size by least squares. */
static double intercept(const int64_t *size, const double *distance)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (int i = 0; i < SIZES; i++) {
        x += 1 / (double)size[i] / SIZES;
        y += distance[i] / SIZES;
    }
    for (int i = 0; i < SIZES; i++) {
        double apart = 1 / (double)size[i] - x;
        xx += apart * apart;
        xy += apart * (distance[i] - y);
    }
    return y - xy / xx * x;
}

typedef struct {
    sp_frechet_side drawn, real;
    sp_torch_generator generator;
    int64_t count, *order; /* [count] */
    uint32_t *times;       /* [count] */
} subsets;

static sp_status distance_of(subsets *s, int64_t size, double *out)
{
    memset(s->times, 0, (size_t)s->count * sizeof *s->times);
    sp_numpy_permutation(&s->generator, s->order, s->count);
    for (int64_t i = 0; i < size; i++)
        s->times[s->order[i]] = 1;
    return sp_frechet_of_sides(&s->drawn, &s->real, out);
}

static sp_status all_distances(subsets *s, const sp_callbacks *callbacks, double *out)
{
    int64_t size[SIZES];
    double distance[SIZES];
    choose_sizes(s->count, size);
    if (size[0] == s->count)
        return sp_fail(SP_SHAPE, "%lld pictures have no subsets of different sizes", (long long)s->count);
    sp_report(callbacks, "distances of subsets", 0, SIZES, NULL);
    for (int i = 0; i < SIZES; i++) {
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(distance_of(s, size[i], &distance[i]));
        sp_report(callbacks, "distances of subsets", i + 1, SIZES, NULL);
    }
    *out = intercept(size, distance);
    return SP_OK;
}

/* The real side's distribution, once for all sizes; few rows are as well taken as they are. */
static sp_status fit_real(subsets *s, sp_gaussian *own)
{
    const sp_tensor *features = s->real.features;
    if (!features || features->shape.dim[0] <= features->shape.dim[1]) return SP_OK;
    SP_TRY(sp_gaussian_fit(features, own));
    s->real = (sp_frechet_side){.gaussian = own};
    return SP_OK;
}

sp_status sp_fd_infinity(const sp_tensor *drawn, const sp_frechet_side *real, uint32_t seed,
                         const sp_callbacks *callbacks, double *out)
{
    subsets s = {.drawn.features = drawn, .real = *real, .count = drawn->shape.dim[0]};
    sp_gaussian own = {0};
    sp_torch_seed(&s.generator, seed);
    s.order = sp_alloc((size_t)s.count * sizeof *s.order);
    s.times = sp_alloc((size_t)s.count * sizeof *s.times);
    s.drawn.times = s.times;
    sp_status status = s.order && s.times ? fit_real(&s, &own) : SP_MEMORY;
    if (!status) status = all_distances(&s, callbacks, out);
    sp_gaussian_free(&own);
    sp_free(s.order);
    sp_free(s.times);
    return status;
}
