/* Buckets of gradients. */
#include "train/reducer.h"
#include <xxhash.h>
#include "base/memory.h"
#include "graph/graph.h"

/* Large enough that a network's latency does not count, small enough that the last one, which
 * nothing hides, is short. */
#define LARGEST_BUCKET ((int64_t)25 << 18) /* floats: 25 MiB */
#define SMALLEST_BUCKET ((int64_t)1 << 18)
enum { SP_BUCKETS_WANTED = 16 };

typedef struct {
    float *begin; /* of the device's */
    int64_t count;
    int first, last; /* tensors that it overlaps */
    int step;        /* of the plan: after it, all of them are complete */
    int remaining;   /* tensors not complete yet */
} bucket;

struct sp_reducer {
    sp_ranks *ranks;
    sp_device *device; /* whose addresses gradients are */
    sp_reduced *tensors; /* by address, no address twice */
    int tensor_count;
    int *tensor_of;  /* by output; -1: none */
    bucket *buckets; /* in the order of starting */
    int bucket_count;
    float *staging[SP_RANKS_SLOTS]; /* what is sent; the sum goes where the gradients are, */
    float *sum[SP_RANKS_SLOTS];     /* or where the host cannot see them, here first; else NULL */
    const bucket *in[SP_RANKS_SLOTS]; /* in the slot; NULL: none */
    bool busy[SP_RANKS_SLOTS];
    bool active;
    int started; /* buckets */
    sp_reducer_times times;
};

/* ---- making buckets ---- */

static int by_address(const void *a, const void *b)
{
    const sp_reduced *x = a, *y = b;
    return x->gradient < y->gradient ? -1 : x->gradient > y->gradient;
}

static int by_step(const void *a, const void *b)
{
    const bucket *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static sp_status take_tensors(sp_reducer *r, const sp_plan *plan, const sp_reduced *tensors,
                              size_t count)
{
    int outputs = sp_plan_graph(plan)->output_count;
    r->tensors = sp_alloc((count + 1) * sizeof *r->tensors);
    r->tensor_of = sp_alloc(((size_t)outputs + 1) * sizeof *r->tensor_of);
    if (!r->tensors || !r->tensor_of) return SP_MEMORY;
    memcpy(r->tensors, tensors, count * sizeof *tensors);
    qsort(r->tensors, count, sizeof *r->tensors, by_address);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || r->tensors[i].gradient != r->tensors[i - 1].gradient)
            r->tensors[r->tensor_count++] = r->tensors[i];
    for (int i = 0; i < outputs; i++)
        r->tensor_of[i] = -1;
    for (int i = 0; i < r->tensor_count; i++)
        r->tensor_of[r->tensors[i].output] = i;
    return SP_OK;
}

static int64_t bucket_size(const sp_reducer *r)
{
    int64_t total = 0;
    for (int i = 0; i < r->tensor_count; i++)
        total += r->tensors[i].count;
    int64_t size = total / SP_BUCKETS_WANTED;
    return size > LARGEST_BUCKET ? LARGEST_BUCKET : size < SMALLEST_BUCKET ? SMALLEST_BUCKET : size;
}

/* The last tensor that lies in one piece of memory with `first`. The run aligns its outputs; what lies between two of
 * them is summed along. */
static int end_of_piece(const sp_reducer *r, int first)
{
    size_t largest_gap = r->device->alignment / sizeof(float);
    int last = first;
    while (last + 1 < r->tensor_count &&
           (size_t)(r->tensors[last + 1].gradient - r->tensors[last].gradient -
                    r->tensors[last].count) < largest_gap)
        last++;
    return last;
}

/* Cuts tensors first..last, one piece of memory, into buckets of `size`. */
static void cut(sp_reducer *r, const sp_plan *plan, int first, int last, int64_t size)
{
    float *next = r->tensors[first].gradient,
          *end = r->tensors[last].gradient + r->tensors[last].count;
    for (int tensor = first; next < end;) {
        bucket *b = &r->buckets[r->bucket_count++];
        *b = (bucket){.begin = next, .count = end - next < size ? end - next : size, .step = -1};
        next += b->count;
        while (r->tensors[tensor].gradient + r->tensors[tensor].count <= b->begin)
            tensor++;
        b->first = b->last = tensor;
        while (b->last < last && r->tensors[b->last + 1].gradient < next)
            b->last++;
        for (int i = b->first; i <= b->last; i++) {
            int step = sp_plan_output_step(plan, r->tensors[i].output);
            if (step > b->step) b->step = step;
        }
    }
}

static sp_status make_buckets(sp_reducer *r, const sp_plan *plan)
{
    int64_t size = bucket_size(r), most = 1;
    for (int i = 0; i < r->tensor_count; i++)
        most += 2 + r->tensors[i].count / size;
    r->buckets = sp_alloc((size_t)most * sizeof *r->buckets);
    if (!r->buckets) return SP_MEMORY;
    for (int first = 0; first < r->tensor_count;) {
        int last = end_of_piece(r, first);
        cut(r, plan, first, last, size);
        first = last + 1;
    }
    qsort(r->buckets, (size_t)r->bucket_count, sizeof *r->buckets, by_step);
    for (int i = 0; i < r->bucket_count; i++)
        r->times.bytes += r->buckets[i].count * (int64_t)sizeof(float);
    r->times.buckets = r->bucket_count;
    for (int i = 0; i < SP_RANKS_SLOTS; i++) {
        r->staging[i] = sp_alloc((size_t)size * sizeof(float));
        if (!r->staging[i]) return SP_MEMORY;
        if (r->device->host_visible) continue;
        r->sum[i] = sp_alloc((size_t)size * sizeof(float));
        if (!r->sum[i]) return SP_MEMORY;
    }
    return SP_OK;
}

/* Ranks whose buckets differ would add up what does not belong together. */
static sp_status check_same(const sp_reducer *r, const char *settings)
{
    XXH64_hash_t mine = XXH3_64bits(settings, strlen(settings));
    for (int i = 0; i < r->bucket_count; i++) {
        const bucket *b = &r->buckets[i];
        const int64_t shape[] = {b->count, b->first, b->last};
        mine = XXH3_64bits_withSeed(shape, sizeof shape, mine);
    }
    int count = sp_ranks_count(r->ranks);
    XXH64_hash_t *all = sp_alloc((size_t)count * sizeof *all);
    if (!all) return SP_MEMORY;
    sp_status status = sp_ranks_gather(r->ranks, &mine, sizeof mine, all);
    for (int i = 1; i < count && !status; i++)
        if (all[i] != all[0])
            status =
                sp_fail(SP_ARGUMENT,
                        "rank %d is not in the same run as rank 0: other flags, another version "
                        "of splam, or a processor that the model is planned for otherwise",
                        i);
    sp_free(all);
    return status;
}

sp_status sp_reducer_create(sp_ranks *ranks, const sp_plan *plan, const sp_reduced *tensors,
                            size_t count, const char *settings, sp_reducer **out)
{
    *out = NULL;
    sp_reducer *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    r->ranks = ranks;
    r->device = sp_plan_device(plan);
    sp_status status = take_tensors(r, plan, tensors, count);
    if (!status) status = make_buckets(r, plan);
    if (!status) status = check_same(r, settings);
    if (status) {
        sp_reducer_destroy(r);
        return status;
    }
    *out = r;
    return SP_OK;
}

void sp_reducer_destroy(sp_reducer *r)
{
    if (!r) return;
    for (int i = 0; i < SP_RANKS_SLOTS; i++) {
        if (r->busy[i]) continue; /* MPI may still send what a broken-off sum left */
        sp_free(r->staging[i]);
        sp_free(r->sum[i]);
    }
    sp_free(r->tensors);
    sp_free(r->tensor_of);
    sp_free(r->buckets);
    sp_free(r);
}

/* ---- one step ---- */

void sp_reducer_begin(sp_reducer *r)
{
    for (int i = 0; i < r->bucket_count; i++)
        r->buckets[i].remaining = r->buckets[i].last - r->buckets[i].first + 1;
    r->started = 0;
    r->active = true;
    r->times.during = r->times.after = 0;
}

/* This rank's part of bucket b; what lies between tensors counts nothing. */
static sp_status stage(const sp_reducer *r, const bucket *b, float *to)
{
    sp_device *device = r->device;
    float *end = b->begin + b->count, *next = b->begin;
    for (int i = b->first; i <= b->last; i++) {
        const sp_reduced *t = &r->tensors[i];
        float *from = t->gradient > b->begin ? t->gradient : b->begin,
              *until = t->gradient + t->count < end ? t->gradient + t->count : end;
        for (; next < from; next++)
            to[next - b->begin] = 0;
        SP_TRY(device->download(device, to + (from - b->begin), from, (size_t)(until - from) * sizeof *from));
        next = until;
    }
    for (; next < end; next++)
        to[next - b->begin] = 0;
    return SP_OK;
}

static sp_status start_complete(sp_reducer *r)
{
    for (int slot = 0; slot < SP_RANKS_SLOTS && r->started < r->bucket_count; slot++) {
        const bucket *b = &r->buckets[r->started];
        if (r->busy[slot]) continue;
        if (b->remaining > 0) return SP_OK;
        float *sum = r->sum[slot] ? r->sum[slot] : sp_host_view(r->device, b->begin);
        SP_TRY(stage(r, b, r->staging[slot]));
        SP_TRY(sp_ranks_sum_begin(r->ranks, slot, r->staging[slot], sum, b->count));
        r->busy[slot] = true;
        r->in[slot] = b;
        r->started++;
    }
    return SP_OK;
}

/* Sums that are there go to the device. */
static sp_status take_sums(sp_reducer *r)
{
    SP_TRY(sp_ranks_sum_test(r->ranks, r->busy));
    for (int i = 0; i < SP_RANKS_SLOTS; i++) {
        if (r->busy[i] || !r->in[i]) continue;
        if (r->sum[i])
            r->device->upload(r->device, r->in[i]->begin, r->sum[i], (size_t)r->in[i]->count * sizeof(float));
        r->in[i] = NULL;
    }
    return SP_OK;
}

sp_status sp_reducer_ready(void *reducer, int output_index)
{
    sp_reducer *r = reducer;
    int tensor = r->tensor_of[output_index];
    if (!r->active || tensor < 0) return SP_OK;
    double began = sp_now();
    for (int i = 0; i < r->bucket_count; i++)
        if (r->buckets[i].first <= tensor && tensor <= r->buckets[i].last)
            r->buckets[i].remaining--;
    SP_TRY(start_complete(r));
    r->times.during += sp_now() - began;
    return SP_OK;
}

sp_status sp_reducer_poll(void *reducer, int step)
{
    (void)step;
    sp_reducer *r = reducer;
    SP_TRY(sp_ranks_stopped(r->ranks));
    if (!r->active || r->started == 0) return SP_OK;
    double began = sp_now();
    SP_TRY(take_sums(r));
    SP_TRY(start_complete(r));
    r->times.during += sp_now() - began;
    return SP_OK;
}

static bool any_busy(const sp_reducer *r)
{
    bool busy = r->started < r->bucket_count;
    for (int i = 0; i < SP_RANKS_SLOTS; i++)
        busy |= r->busy[i];
    return busy;
}

sp_status sp_reducer_finish(sp_reducer *r)
{
    double began = sp_now();
    r->active = false;
    for (;;) {
        SP_TRY(start_complete(r));
        SP_TRY(take_sums(r));
        if (!any_busy(r)) break;
        SP_TRY(sp_ranks_pause(r->ranks, began));
    }
    r->times.after = sp_now() - began;
    return SP_OK;
}

sp_reducer_times sp_reducer_get_times(const sp_reducer *r)
{
    return r->times;
}
