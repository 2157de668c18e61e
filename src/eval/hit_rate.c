/* hit@1: how often a picture is nearest to one of its own caption. */
#include "eval/hit_rate.h"
#include <math.h>
#include <stdlib.h>
#include "base/memory.h"
#include "base/parallel.h"

typedef struct {
    const float *generated, *real;
    int64_t dim, real_count;
    const sp_real_picture *pictures;
    const int64_t *named, *group;
    int64_t group_count, *rank;
    uint64_t *nearer; /* one bit per group and generated picture */
} ranking;

typedef struct {
    uint64_t picture;
    int64_t index;
} keyed;

static int by_picture(const void *a, const void *b)
{
    uint64_t x = ((const keyed *)a)->picture, y = ((const keyed *)b)->picture;
    return (x > y) - (x < y);
}

/* group[m] = a small number, equal where the picture is. */
static sp_status make_groups(const sp_real_picture *pictures, int64_t count, int64_t *group, int64_t *group_count)
{
    keyed *order = sp_alloc((size_t)count * sizeof *order);
    if (!order) return SP_MEMORY;
    for (int64_t i = 0; i < count; i++)
        order[i] = (keyed){pictures[i].picture, i};
    qsort(order, (size_t)count, sizeof *order, by_picture);
    *group_count = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || order[i].picture != order[i - 1].picture) ++*group_count;
        group[order[i].index] = *group_count - 1;
    }
    sp_free(order);
    return SP_OK;
}

static double squared_distance(const float *a, const float *b, int64_t dim)
{
    double sum = 0;
    for (int64_t i = 0; i < dim; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sum;
}

/* Whether a picture is named by a caption that names `named`. */
static bool is_named(sp_real_picture named, sp_real_picture picture)
{
    return picture.caption == named.caption || picture.picture == named.picture;
}

static double nearest_named(const ranking *r, const float *x, sp_real_picture named)
{
    double least = INFINITY;
    for (int64_t m = 0; m < r->real_count; m++)
        if (is_named(named, r->pictures[m])) least = fmin(least, squared_distance(x, r->real + m * r->dim, r->dim));
    return least;
}

/* Distances to equal pictures differ by what a batch's place may do to the last bit, so those of a named one never
 * count. */
static void rank_range(void *context, int64_t begin, int64_t end)
{
    const ranking *r = context;
    int64_t words = (r->group_count + 63) / 64;
    for (int64_t i = begin; i < end; i++) {
        const float *x = r->generated + i * r->dim;
        uint64_t *nearer = r->nearer + i * words;
        const sp_real_picture named = r->pictures[r->named[i]];
        double limit = nearest_named(r, x, named);
        for (int64_t m = 0; m < r->real_count; m++)
            if (!is_named(named, r->pictures[m]) && squared_distance(x, r->real + m * r->dim, r->dim) < limit)
                nearer[r->group[m] / 64] |= UINT64_C(1) << (r->group[m] % 64);
        r->rank[i] = 0;
        for (int64_t w = 0; w < words; w++)
            r->rank[i] += __builtin_popcountll(nearer[w]);
    }
}

sp_status sp_caption_ranks(const sp_tensor *generated, const sp_tensor *real, const sp_real_picture *pictures,
                           const int64_t *named, int64_t *rank)
{
    if (generated->dtype != SP_F32 || real->dtype != SP_F32 || generated->shape.rank != 2 ||
        real->shape.rank != 2 || generated->shape.dim[1] != real->shape.dim[1])
        return sp_fail(SP_SHAPE, "features %s and %s must be F32 [N,D] and [M,D]",
                       sp_shape_text(generated->shape), sp_shape_text(real->shape));
    int64_t count = generated->shape.dim[0], real_count = real->shape.dim[0];
    for (int64_t i = 0; i < count; i++)
        if (named[i] < 0 || named[i] >= real_count)
            return sp_fail(SP_ARGUMENT, "caption %lld names picture %lld of %lld", (long long)i,
                           (long long)named[i], (long long)real_count);
    int64_t *group = sp_alloc((size_t)real_count * sizeof *group);
    ranking r = {
        generated->data, real->data, real->shape.dim[1], real_count, pictures, named, group, 0, rank, NULL};
    sp_status status = group ? make_groups(pictures, real_count, group, &r.group_count) : SP_MEMORY;
    if (!status) {
        r.nearer = sp_alloc_zero((size_t)(count * ((r.group_count + 63) / 64)) * sizeof(uint64_t));
        if (!r.nearer) status = SP_MEMORY;
    }
    if (!status) sp_parallel_for(count, 1, rank_range, &r);
    sp_free(r.nearer);
    sp_free(group);
    return status;
}

double sp_hit_rate(const int64_t *rank, const bool *group, bool wanted, int64_t count, int64_t k)
{
    int64_t hits = 0, of = 0;
    for (int64_t i = 0; i < count; i++) {
        if (group[i] != wanted) continue;
        of++;
        hits += rank[i] < k;
    }
    return of ? (double)hits / (double)of : NAN;
}
