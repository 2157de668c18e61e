/* Pictures through Inception, a batch after the other. */
#include "eval/inception_features.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "models/inception.h"
#include "models/runner.h"

enum { BATCH = 8, PIXELS = 3 * SP_INCEPTION_SIDE * SP_INCEPTION_SIDE };

/* ---- one picture ---- */

static const struct {
    const char *name;
    sp_float_resize resize;
    bool symmetric; /* v/127.5 - 1, else (v - 128)/128 */
} conventions[] = {
    [SP_CONVENTION_CLEAN] = {"clean", SP_RESIZE_PILLOW_BICUBIC, false},
    [SP_CONVENTION_PYTORCH] = {"pytorch", SP_RESIZE_TORCH_BILINEAR, true},
    [SP_CONVENTION_TENSORFLOW] = {"tensorflow", SP_RESIZE_TF1_BILINEAR, false},
    [SP_CONVENTION_TORCHMETRICS] = {"torchmetrics", SP_RESIZE_TORCH_ANTIALIAS, false},
};

const char *sp_convention_name(sp_convention convention)
{
    return conventions[convention].name;
}

const char *sp_transform_name(sp_transform transform)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_TRANSFORM_LIST(X)
#undef X
    };
    return names[transform];
}

static sp_status apply_convention(sp_convention convention, const sp_image *image, float *nchw)
{
    SP_TRY(sp_image_resize_float(image, SP_INCEPTION_SIDE, conventions[convention].resize, nchw));
    for (int64_t i = 0; i < PIXELS; i++)
        nchw[i] = conventions[convention].symmetric ? nchw[i] / 127.5f - 1 : (nchw[i] - 128) / 128;
    return SP_OK;
}

sp_status sp_preparation_apply(const sp_preparation *preparation, const sp_image *image, float *nchw)
{
    enum { SIDE = 256 };
    int side = image->width < image->height ? image->width : image->height;
    sp_image square, small;
    if (preparation->transform == SP_TRANSFORM_NONE) return apply_convention(preparation->convention, image, nchw);
    SP_TRY(sp_image_center_crop(image, side, side, &square));
    sp_status status = sp_image_resize(&square, SIDE, SIDE, SP_FILTER_LANCZOS, &small);
    sp_image_free(&square);
    SP_TRY(status);
    status = apply_convention(preparation->convention, &small, nchw);
    sp_image_free(&small);
    return status;
}

static sp_status load_picture(const char *path, const sp_preparation *preparation, float *nchw)
{
    sp_image image;
    char *bytes;
    size_t size;
    SP_TRY(sp_read_file(path, &bytes, &size));
    sp_status status = sp_image_decode_plain(bytes, size, path, &image);
    sp_free(bytes);
    SP_TRY(status);
    status = sp_preparation_apply(preparation, &image, nchw);
    sp_image_free(&image);
    return status;
}

/* ---- a batch ---- */

/* What went wrong with a picture, which its own thread knows. */
typedef struct {
    sp_status status;
    char message[1024];
} problem;

typedef struct {
    const char *const *paths;
    const sp_preparation *preparation;
    float *pixels;
    problem problem[BATCH];
} batch;

static void load_range(void *context, int64_t begin, int64_t end)
{
    batch *b = context;
    for (int64_t i = begin; i < end; i++) {
        problem *p = &b->problem[i];
        p->status = load_picture(b->paths[i], b->preparation, b->pixels + i * PIXELS);
        if (p->status) snprintf(p->message, sizeof p->message, "%s", sp_error_message());
    }
}

static sp_status load_batch(const char *const *paths, int64_t count, const sp_preparation *preparation,
                            sp_tensor *pixels)
{
    batch b = {.paths = paths, .preparation = preparation, .pixels = pixels->data};
    sp_parallel_for(count, 1, load_range, &b);
    for (int64_t i = 0; i < count; i++)
        if (b.problem[i].status) return sp_fail(b.problem[i].status, "%s", b.problem[i].message);
    return SP_OK;
}

/* ---- all ---- */

static const char set_name[] = "inception";

static sp_status make_runner(const sp_inception_file *inception, int64_t pictures, sp_device *device, sp_runner *out)
{
    const sp_weight_set set = {.name = set_name, .rate = SP_RATE_RUN, .weights = inception->weights};
    const sp_network_use use = {.network = &sp_inception_network, .set = &set};
    const sp_network_sizes sizes = {.batch = pictures};
    sp_builder *b;
    *out = (sp_runner){0};
    SP_TRY(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    SP_TRY(sp_runner_create(b, device, SP_F32, out));
    sp_status status = sp_bind(sp_run_bound(out->run), set_name, inception->weights);
    if (status) sp_runner_free(out);
    return status;
}

static sp_status copy_output(sp_run *run, const char *name, int64_t first, int64_t count, sp_tensor *to)
{
    sp_tensor result;
    size_t row = sp_tensor_bytes(to) / (size_t)to->shape.dim[0];
    SP_TRY(sp_run_get_output(run, name, &result));
    memcpy((char *)to->data + (size_t)first * row, result.data, (size_t)count * row);
    sp_tensor_free(&result);
    return SP_OK;
}

static sp_status run_batch(sp_run *run, const sp_tensor *pixels, int64_t first, int64_t count,
                           const sp_callbacks *callbacks, sp_inception_features *out)
{
    SP_TRY(sp_run_set_input(run, "image", pixels));
    SP_TRY(sp_run_execute(run, callbacks));
    SP_TRY(copy_output(run, "features", first, count, &out->features));
    return copy_output(run, "logits", first, count, &out->logits);
}

static sp_status run_all(sp_run *run, const char *const *paths, int64_t count, const sp_preparation *preparation,
                         sp_tensor *pixels, const sp_callbacks *callbacks, sp_inception_features *out)
{
    int64_t size = pixels->shape.dim[0];
    sp_report(callbacks, "pictures", 0, count, NULL);
    for (int64_t first = 0; first < count; first += size) {
        int64_t n = count - first < size ? count - first : size;
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(load_batch(paths + first, n, preparation, pixels));
        SP_TRY(run_batch(run, pixels, first, n, callbacks, out));
        sp_report(callbacks, "pictures", first + n, count, NULL);
    }
    SP_TRY(sp_tensor_check_finite(&out->features, "Inception's features"));
    return sp_tensor_check_finite(&out->logits, "Inception's logits");
}

void sp_inception_features_free(sp_inception_features *features)
{
    sp_tensor_free(&features->features);
    sp_tensor_free(&features->logits);
    *features = (sp_inception_features){0};
}

sp_status sp_inception_features_of(const sp_inception_file *inception, const sp_preparation *preparation,
                                   const char *const *paths, int64_t count, sp_device *device,
                                   const sp_callbacks *callbacks, sp_inception_features *out)
{
    sp_runner runner = {0};
    sp_tensor pixels = {0};
    *out = (sp_inception_features){0};
    sp_status status = sp_tensor_create(SP_F32, sp_shape_of(BATCH, 3, SP_INCEPTION_SIDE, SP_INCEPTION_SIDE), &pixels);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(count, SP_INCEPTION_FEATURES), &out->features);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(count, SP_INCEPTION_CLASSES), &out->logits);
    if (!status) status = make_runner(inception, BATCH, device, &runner);
    if (!status) status = run_all(runner.run, paths, count, preparation, &pixels, callbacks, out);
    sp_runner_free(&runner);
    sp_tensor_free(&pixels);
    if (status) sp_inception_features_free(out);
    return status;
}
