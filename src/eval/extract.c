/* Features of pictures: reading and preparing on all threads, then the network, a batch after the other. */
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
    look *looks;      /* [batch] */
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

/* As many pictures as there are free places. */
static sp_status look_further(extraction *x)
{
    int64_t first = x->filled, left = x->pictures->count - x->next, room = x->e->extractor->batch - first;
    int64_t count = left < room ? left : room;
    sp_parallel_for(count, 1, look_at_range, x);
    for (int64_t i = 0; i < count; i++)
        SP_TRY(settle(x, &x->looks[i], first + i, &x->row[x->next + i]));
    x->next += count;
    return SP_OK;
}

/* ---- a batch ---- */

/* What the network says of the pictures that wait, in the store. */
static sp_status take_feature(const extraction *x, int feature)
{
    const sp_extractor *extractor = x->e->extractor;
    const sp_feature *f = &extractor->feature[feature];
    sp_tensor result;
    char name[64];
    float *to = sp_feature_store_values(x->store, feature, x->store->count - x->filled);
    SP_TRY(sp_run_get_output(x->e->runner.run, f->name, &result));
    memcpy(to, result.data, (size_t)(x->filled * f->width) * sizeof *to);
    sp_tensor_free(&result);
    snprintf(name, sizeof name, "%s's %s", extractor->kind->title, f->name);
    return sp_tensor_check_finite(&(sp_tensor){SP_F32, sp_shape_of(x->filled, f->width), to, false}, name);
}

static sp_status run_batch(extraction *x)
{
    sp_extraction *e = x->e;
    if (!e->runner.run) SP_TRY(e->extractor->kind->make_runner(e->extractor, e->device, &e->runner));
    SP_TRY(sp_run_set_input(e->runner.run, "image", &e->pixels));
    SP_TRY(sp_run_execute(e->runner.run, e->callbacks));
    for (int k = 0; k < e->extractor->feature_count; k++)
        SP_TRY(take_feature(x, k));
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
        if (x->filled == x->e->extractor->batch || (x->filled && x->next == x->pictures->count)) SP_TRY(run_batch(x));
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
    int64_t batch = e->extractor->batch, side = e->extractor->side;
    extraction x = {.e = e, .pictures = pictures, .store = store, .row = row, .unreadable = unreadable};
    SP_TRY(sp_feature_store_reserve(store, pictures->count));
    if (!e->pixels.data) SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch, 3, side, side), &e->pixels));
    x.looks = sp_alloc_zero((size_t)batch * sizeof *x.looks);
    if (!x.looks) return SP_MEMORY;
    sp_status status = run_all(&x);
    sp_free(x.looks);
    return status;
}

void sp_extraction_free(sp_extraction *e)
{
    sp_runner_free(&e->runner);
    sp_tensor_free(&e->pixels);
}

void sp_extraction_turn(sp_extraction *e, const sp_extractor *extractor)
{
    if (e->extractor && e->extractor->model != extractor->model) sp_extraction_free(e);
    e->extractor = extractor;
}
