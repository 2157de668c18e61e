/* Features of pictures: reading and preparing on all threads, then the network, a batch after the other; with ranks one
 * each, which the first of them has prepared. */
#include "eval/extract.h"
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"

enum { MOST_WARNINGS = 20 };

/* A picture that was looked at, by its own thread. */
typedef struct {
    sp_status status;
    char message[1024];
    sp_picture_key key;
} look;

typedef struct {
    sp_extraction *e;
    const sp_pictures *pictures;
    sp_feature_store *store;
    int64_t *row;
    sp_rejections *unreadable;
    look *looks;      /* a place each */
    int64_t next;     /* the first picture that was not looked at */
    int64_t filled;   /* places of the batch that are taken, the store's last rows; the others are looked at into */
    int64_t warnings;
    bool computed;    /* something had to be */
} extraction;

static float *place(const extraction *x, int64_t index)
{
    int64_t side = x->e->extractor->side;
    return (float *)x->e->pixels.data + index * 3 * side * side;
}

/* ---- one picture ---- */

/* The key; and the network's input, if the store has no row of it. */
static sp_status look_at_bytes(const extraction *x, const char *bytes, size_t size, const char *name, look *out,
                               float *nchw)
{
    sp_image image;
    out->key = sp_picture_key_of(bytes, size);
    if (sp_feature_store_find(x->store, &out->key) >= 0) return SP_OK;
    SP_TRY(sp_image_decode_plain(bytes, size, name, &image));
    sp_status status = sp_extractor_prepare(x->e->extractor, x->e->preparation, &image, nchw);
    sp_image_free(&image);
    return status;
}

static sp_status look_at(const extraction *x, int64_t index, look *out, float *nchw)
{
    char *bytes;
    size_t size;
    SP_TRY(sp_pictures_read(x->pictures, index, &bytes, &size));
    sp_status status = look_at_bytes(x, bytes, size, sp_pictures_name(x->pictures, index), out, nchw);
    sp_free(bytes);
    return status;
}

static void look_at_range(void *context, int64_t begin, int64_t end)
{
    const extraction *x = context;
    for (int64_t i = begin; i < end; i++) {
        look *l = &x->looks[i];
        l->status = look_at(x, x->next + i, l, place(x, x->filled + i));
        if (l->status) snprintf(l->message, sizeof l->message, "%s", sp_error_message());
    }
}

static sp_status leave_out(extraction *x, const look *l)
{
    if (l->status == SP_MEMORY || l->status == SP_INTERNAL) return sp_fail(l->status, "%s", l->message);
    if (!x->unreadable) return SP_OK;
    const char *reason = l->status == SP_IO            ? "cannot be opened"
                         : l->status == SP_UNSUPPORTED ? "of a kind that is not read"
                                                       : "damaged, or no picture";
    sp_rejections_add(x->unreadable, reason, l->message, NULL);
    if (x->warnings++ < MOST_WARNINGS) sp_log_warn("left out: %s", l->message);
    return SP_OK;
}

/* Gives the picture its row, and its input the next place of the batch if it has to be computed. */
static sp_status settle(extraction *x, const look *l, int64_t from, int64_t *row)
{
    int64_t side = x->e->extractor->side;
    *row = -1;
    if (l->status) return leave_out(x, l);
    *row = sp_feature_store_find(x->store, &l->key);
    if (*row >= 0) return SP_OK;
    *row = sp_feature_store_claim(x->store, &l->key);
    if (from != x->filled) memcpy(place(x, x->filled), place(x, from), (size_t)(3 * side * side) * sizeof(float));
    x->filled++;
    x->computed = true;
    return SP_OK;
}

/* Pictures that are computed at once. */
static int64_t places(const sp_extraction *e)
{
    return e->extractor->batch * sp_ranks_count(e->ranks);
}

/* As many pictures as there are free places. */
static sp_status look_further(extraction *x)
{
    int64_t first = x->filled, left = x->pictures->count - x->next, room = places(x->e) - first;
    int64_t count = left < room ? left : room;
    sp_parallel_for(count, 1, look_at_range, x);
    for (int64_t i = 0; i < count; i++)
        SP_TRY(settle(x, &x->looks[i], first + i, &x->row[x->next + i]));
    x->next += count;
    return SP_OK;
}

/* ---- a batch ---- */

/* What the network says of the first `count` pictures at `pixels`, feature by feature: to[i] is where feature i of the
 * first of them goes. */
static sp_status compute(sp_extraction *e, float *pixels, int64_t count, float *const to[SP_FEATURES_MOST])
{
    const sp_extractor *x = e->extractor;
    sp_tensor input = {SP_F32, sp_shape_of(x->batch, 3, x->side, x->side), pixels, false}, result;
    if (!e->runner.run) SP_TRY(x->kind->make_runner(x, e->device, &e->runner));
    SP_TRY(sp_run_set_input(e->runner.run, "image", &input));
    SP_TRY(sp_run_execute(e->runner.run, e->callbacks));
    for (int i = 0; i < x->feature_count; i++) {
        SP_TRY(sp_run_get_output(e->runner.run, x->feature[i].name, &result));
        memcpy(to[i], result.data, (size_t)(count * x->feature[i].width) * sizeof(float));
        sp_tensor_free(&result);
    }
    return SP_OK;
}

/* ---- with ranks ---- */

/* What rank 0 says before each round. */
typedef struct {
    int64_t network; /* -1: it needs no more help */
    int64_t count;   /* pictures, of which rank r has the r-th batch */
} round_head;

static int64_t share(const sp_extraction *e, int64_t count, int rank)
{
    int64_t batch = e->extractor->batch, left = count - rank * batch;
    return left < 0 ? 0 : left < batch ? left : batch;
}

/* Numbers of a batch's features. */
static int64_t numbers(const sp_extractor *x)
{
    int64_t sum = 0;
    for (int i = 0; i < x->feature_count; i++)
        sum += x->batch * x->feature[i].width;
    return sum;
}

/* Where each feature of a batch begins. */
static void lay_out(const sp_extractor *x, float *at, float *to[SP_FEATURES_MOST])
{
    for (int i = 0; i < x->feature_count; at += x->batch * x->feature[i++].width)
        to[i] = at;
}

static sp_status make_room(sp_extraction *e)
{
    int64_t side = e->extractor->side, all = numbers(e->extractor);
    if (!e->pixels.data) SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(places(e), 3, side, side), &e->pixels));
    if (!e->ranks || e->features) return SP_OK;
    e->mine = sp_alloc_zero((size_t)all * sizeof(float));
    e->features = sp_alloc((size_t)(all * sp_ranks_count(e->ranks)) * sizeof(float));
    return e->mine && e->features ? SP_OK : SP_MEMORY;
}

/* Each rank's batch of these pictures, which rank 0 has, into `features`. */
static sp_status run_round(sp_extraction *e, int64_t count)
{
    int rank = sp_ranks_rank(e->ranks);
    int64_t one = 3 * e->extractor->side * e->extractor->side, batch = e->extractor->batch;
    float *to[SP_FEATURES_MOST], *pixels = e->pixels.data;
    lay_out(e->extractor, e->mine, to);
    SP_TRY(sp_ranks_broadcast(e->ranks, pixels, (size_t)(count * one) * sizeof(float)));
    if (share(e, count, rank)) SP_TRY(compute(e, pixels + rank * batch * one, share(e, count, rank), to));
    return sp_ranks_gather(e->ranks, e->mine, (size_t)numbers(e->extractor) * sizeof(float), e->features);
}

static void take_batch(const extraction *x, int rank)
{
    const sp_extractor *extractor = x->e->extractor;
    int64_t count = share(x->e, x->filled, rank), row = x->store->count - x->filled + rank * extractor->batch;
    float *from[SP_FEATURES_MOST];
    lay_out(extractor, x->e->features + rank * numbers(extractor), from);
    for (int i = 0; i < extractor->feature_count && count; i++)
        memcpy(sp_feature_store_values(x->store, i, row), from[i],
               (size_t)(count * extractor->feature[i].width) * sizeof(float));
}

static sp_status compute_together(extraction *x)
{
    round_head head = {x->store->network, x->filled};
    SP_TRY(sp_ranks_broadcast(x->e->ranks, &head, sizeof head));
    SP_TRY(run_round(x->e, x->filled));
    for (int r = 0; r < sp_ranks_count(x->e->ranks); r++)
        take_batch(x, r);
    return SP_OK;
}

sp_status sp_extraction_dismiss(sp_extraction *e)
{
    round_head head = {-1, 0};
    return sp_ranks_broadcast(e->ranks, &head, sizeof head);
}

static sp_status help_with(sp_extraction *e, const sp_extractor extractors[SP_EXTRACTORS], const round_head *head)
{
    sp_extraction_turn(e, &extractors[head->network]);
    SP_TRY(make_room(e));
    return run_round(e, head->count);
}

sp_status sp_extraction_help(sp_extraction *e, const sp_extractor extractors[SP_EXTRACTORS])
{
    for (;;) {
        round_head head;
        SP_TRY(sp_ranks_broadcast(e->ranks, &head, sizeof head));
        if (head.network < 0) return SP_OK;
        SP_TRY(help_with(e, extractors, &head));
    }
}

/* ---- the pictures that wait ---- */

static sp_status compute_alone(const extraction *x)
{
    float *to[SP_FEATURES_MOST];
    for (int i = 0; i < x->e->extractor->feature_count; i++)
        to[i] = sp_feature_store_values(x->store, i, x->store->count - x->filled);
    return compute(x->e, x->e->pixels.data, x->filled, to);
}

static sp_status check_finite(const extraction *x, int feature)
{
    const sp_extractor *extractor = x->e->extractor;
    const sp_feature *f = &extractor->feature[feature];
    char name[64];
    snprintf(name, sizeof name, "%s's %s", extractor->kind->title, f->name);
    float *values = sp_feature_store_values(x->store, feature, x->store->count - x->filled);
    return sp_tensor_check_finite(&(sp_tensor){SP_F32, sp_shape_of(x->filled, f->width), values, false}, name);
}

static sp_status run_batch(extraction *x)
{
    SP_TRY(x->e->ranks ? compute_together(x) : compute_alone(x));
    for (int k = 0; k < x->e->extractor->feature_count; k++)
        SP_TRY(check_finite(x, k));
    sp_feature_store_fill(x->store);
    x->filled = 0;
    return sp_feature_store_keep(x->store);
}

/* ---- all ---- */

/* Under another name until something has to be computed, so that a rate and the time left are of what is computed. */
static void report(const extraction *x)
{
    const char *task = x->computed ? "pictures" : "pictures that are known";
    sp_report(x->e->callbacks, task, x->next - x->filled, x->pictures->count, NULL);
}

static sp_status run_all(extraction *x)
{
    report(x);
    while (x->next < x->pictures->count || x->filled) {
        SP_TRY(sp_check_cancelled(x->e->callbacks));
        if (x->next < x->pictures->count) SP_TRY(look_further(x));
        report(x);
        if (x->filled == places(x->e) || (x->filled && x->next == x->pictures->count)) SP_TRY(run_batch(x));
        report(x);
    }
    if (x->warnings > MOST_WARNINGS)
        sp_log_warn("%lld more pictures of %s are left out", (long long)(x->warnings - MOST_WARNINGS),
                    x->pictures->source);
    return SP_OK;
}

sp_status sp_extract(sp_extraction *e, const sp_pictures *pictures, sp_feature_store *store, int64_t *row,
                     sp_rejections *unreadable)
{
    extraction x = {.e = e, .pictures = pictures, .store = store, .row = row, .unreadable = unreadable};
    SP_TRY(sp_feature_store_reserve(store, pictures->count));
    SP_TRY(make_room(e));
    x.looks = sp_alloc_zero((size_t)places(e) * sizeof *x.looks);
    if (!x.looks) return SP_MEMORY;
    sp_status status = run_all(&x);
    sp_free(x.looks);
    return status;
}

void sp_extraction_free(sp_extraction *e)
{
    sp_runner_free(&e->runner);
    sp_tensor_free(&e->pixels);
    sp_free(e->mine);
    sp_free(e->features);
    e->mine = e->features = NULL;
}

void sp_extraction_turn(sp_extraction *e, const sp_extractor *extractor)
{
    if (e->extractor && e->extractor->model != extractor->model) sp_extraction_free(e);
    e->extractor = extractor;
}
