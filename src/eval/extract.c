/* Features of pictures: reading and preparing on all threads, then the network, a batch after the other. */
#include "eval/extract.h"
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/parallel.h"

/* What went wrong with a picture, which its own thread knows. */
typedef struct {
    sp_status status;
    char message[1024];
} problem;

typedef struct {
    const sp_extraction *e;
    const sp_pictures *pictures;
    sp_runner runner;
    sp_tensor pixels;
    problem *problem; /* [batch] */
    int64_t first;    /* the batch's first picture */
    sp_tensor *out;
} extraction;

/* ---- one picture ---- */

static sp_status load_picture(const extraction *x, int64_t index, float *nchw)
{
    sp_image image;
    char *bytes;
    size_t size;
    SP_TRY(sp_pictures_read(x->pictures, index, &bytes, &size));
    sp_status status = sp_image_decode_plain(bytes, size, sp_pictures_name(x->pictures, index), &image);
    sp_free(bytes);
    SP_TRY(status);
    status = sp_extractor_prepare(x->e->extractor, x->e->preparation, &image, nchw);
    sp_image_free(&image);
    return status;
}

/* ---- a batch ---- */

static void load_range(void *context, int64_t begin, int64_t end)
{
    extraction *x = context;
    int64_t each = sp_tensor_count(&x->pixels) / x->pixels.shape.dim[0];
    for (int64_t i = begin; i < end; i++) {
        problem *p = &x->problem[i];
        p->status = load_picture(x, x->first + i, (float *)x->pixels.data + i * each);
        if (p->status) snprintf(p->message, sizeof p->message, "%s", sp_error_message());
    }
}

static sp_status load_batch(extraction *x, int64_t count)
{
    sp_parallel_for(count, 1, load_range, x);
    for (int64_t i = 0; i < count; i++)
        if (x->problem[i].status) return sp_fail(x->problem[i].status, "%s", x->problem[i].message);
    return SP_OK;
}

static sp_status copy_feature(const extraction *x, int feature, int64_t count)
{
    sp_tensor result, *to = &x->out[feature];
    size_t row = sp_tensor_bytes(to) / (size_t)to->shape.dim[0];
    SP_TRY(sp_run_get_output(x->runner.run, x->e->extractor->feature[feature].name, &result));
    memcpy((char *)to->data + (size_t)x->first * row, result.data, (size_t)count * row);
    sp_tensor_free(&result);
    return SP_OK;
}

static sp_status run_batch(const extraction *x, int64_t count)
{
    SP_TRY(sp_run_set_input(x->runner.run, "image", &x->pixels));
    SP_TRY(sp_run_execute(x->runner.run, x->e->callbacks));
    for (int k = 0; k < x->e->extractor->feature_count; k++)
        SP_TRY(copy_feature(x, k, count));
    return SP_OK;
}

/* ---- all ---- */

static sp_status run_all(extraction *x)
{
    int64_t all = x->pictures->count, batch = x->e->extractor->batch;
    sp_report(x->e->callbacks, "pictures", 0, all, NULL);
    for (; x->first < all; x->first += batch) {
        int64_t n = all - x->first < batch ? all - x->first : batch;
        SP_TRY(sp_check_cancelled(x->e->callbacks));
        SP_TRY(load_batch(x, n));
        SP_TRY(run_batch(x, n));
        sp_report(x->e->callbacks, "pictures", x->first + n, all, NULL);
    }
    return SP_OK;
}

static sp_status make_room(extraction *x)
{
    const sp_extractor *e = x->e->extractor;
    x->problem = sp_alloc_zero((size_t)e->batch * sizeof *x->problem);
    if (!x->problem) return SP_MEMORY;
    for (int k = 0; k < e->feature_count; k++)
        SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(x->pictures->count, e->feature[k].width), &x->out[k]));
    return sp_tensor_create(SP_F32, sp_shape_of(e->batch, 3, e->side, e->side), &x->pixels);
}

static sp_status check_finite(const extraction *x)
{
    const sp_extractor *e = x->e->extractor;
    for (int k = 0; k < e->feature_count; k++) {
        char name[64];
        snprintf(name, sizeof name, "%s's %s", e->kind->title, e->feature[k].name);
        SP_TRY(sp_tensor_check_finite(&x->out[k], name));
    }
    return SP_OK;
}

sp_status sp_extract(const sp_extraction *e, const sp_pictures *pictures, sp_tensor out[SP_FEATURES_MOST])
{
    extraction x = {.e = e, .pictures = pictures, .out = out};
    memset(out, 0, SP_FEATURES_MOST * sizeof *out);
    sp_status status = make_room(&x);
    if (!status) status = e->extractor->kind->make_runner(e->extractor, e->device, &x.runner);
    if (!status) status = run_all(&x);
    if (!status) status = check_finite(&x);
    sp_runner_free(&x.runner);
    sp_tensor_free(&x.pixels);
    sp_free(x.problem);
    for (int k = 0; k < SP_FEATURES_MOST && status; k++)
        sp_tensor_free(&out[k]);
    return status;
}
