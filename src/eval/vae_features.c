#include "eval/vae_features.h"
#include <string.h>
#include "base/memory.h"
#include "data/image.h"
#include "models/vae_run.h"

static double mean_of(const float *plane, int64_t width, const int64_t rows[2],
                      const int64_t columns[2])
{
    double sum = 0;
    for (int64_t y = rows[0]; y < rows[1]; y++)
        for (int64_t x = columns[0]; x < columns[1]; x++)
            sum += (double)plane[y * width + x];
    return sum / (double)((rows[1] - rows[0]) * (columns[1] - columns[0]));
}

sp_status sp_features_pool(const sp_tensor *latents, int64_t grid, sp_tensor *out)
{
    const sp_shape *s = &latents->shape;
    *out = (sp_tensor){0};
    if (latents->dtype != SP_F32 || s->rank != 4 || s->dim[2] < 1 || s->dim[3] < 1)
        return sp_fail(SP_SHAPE, "latents %s to pool must be F32 [N,C,h,w]", sp_shape_text(*s));
    int64_t count = s->dim[0], channels = s->dim[1], height = s->dim[2], width = s->dim[3];
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(count, channels * grid * grid), out));
    const float *from = latents->data;
    float *to = out->data;
    for (int64_t plane = 0; plane < count * channels; plane++, from += height * width)
        for (int64_t y = 0; y < grid; y++)
            for (int64_t x = 0; x < grid; x++) {
                int64_t rows[] = {y * height / grid, ((y + 1) * height + grid - 1) / grid};
                int64_t columns[] = {x * width / grid, ((x + 1) * width + grid - 1) / grid};
                *to++ = (float)mean_of(from, width, rows, columns);
            }
    return SP_OK;
}

void sp_features_quantise(sp_tensor *images)
{
    float *x = images->data;
    for (int64_t i = 0, count = sp_tensor_count(images); i < count; i += 3) {
        uint8_t rgb[3]; /* any three numbers: each is rounded by itself */
        sp_rgb_from_float(x + i, 1, 1, rgb);
        sp_rgb_to_float(rgb, 1, 1, x + i);
    }
}

/* The last, incomplete batch is filled up with what the one before it held. */
static sp_status encode_batches(sp_runner *runner, const sp_tensor *images, sp_tensor *in,
                                const sp_callbacks *callbacks, sp_tensor *latents)
{
    int64_t count = images->shape.dim[0], batch = in->shape.dim[0];
    size_t picture = sp_tensor_bytes(in) / (size_t)batch;
    for (int64_t first = 0; first < count; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        sp_tensor out = {0};
        SP_TRY(sp_check_cancelled(callbacks));
        memcpy(in->data, (const char *)images->data + (size_t)first * picture, (size_t)n * picture);
        SP_TRY(sp_vae_run(runner, in, &out));
        sp_status status = SP_OK;
        if (!latents->data) {
            sp_shape shape = out.shape;
            shape.dim[0] = count;
            status = sp_tensor_create(SP_F32, shape, latents);
        }
        size_t one = sp_tensor_bytes(&out) / (size_t)batch;
        if (!status) memcpy((char *)latents->data + (size_t)first * one, out.data, (size_t)n * one);
        sp_tensor_free(&out);
        SP_TRY(status);
        sp_report(callbacks, "encoding pictures", first + n, count, NULL);
    }
    return SP_OK;
}

sp_status sp_features_encode(const sp_component *vae, const sp_tensor *images, sp_backend *backend,
                             sp_dtype storage, const sp_callbacks *callbacks, sp_tensor *latents)
{
    sp_shape shape = images->shape;
    *latents = (sp_tensor){0};
    if (shape.rank != 4 || shape.dim[0] < 1 || images->dtype != SP_F32)
        return sp_fail(SP_SHAPE, "pictures %s to encode must be F32 [N,3,H,W]",
                       sp_shape_text(shape));
    int64_t batch = sp_vae_batch(shape.dim[2], shape.dim[3]);
    shape.dim[0] = batch < shape.dim[0] ? batch : shape.dim[0];
    sp_runner runner = {0};
    sp_tensor in = {0};
    sp_status status = sp_tensor_create(SP_F32, shape, &in);
    if (!status)
        status = sp_vae_runner_create(vae, SP_VAE_ENCODE, shape, backend, storage, &runner);
    if (!status) status = encode_batches(&runner, images, &in, callbacks, latents);
    sp_runner_free(&runner);
    sp_tensor_free(&in);
    if (status) sp_tensor_free(latents);
    return status;
}
