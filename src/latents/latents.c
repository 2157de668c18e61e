/* Encoding many pictures with one plan. The last, incomplete batch is filled up with what the one
 * before it held. */
#include "latents/latents.h"
#include "base/memory.h"
#include "image/image.h"
#include "pipeline/vae_run.h"

static sp_status encode_batch(sp_runner *r, sp_dataset *dataset, const int64_t *samples,
                              int64_t first, int64_t count, uint8_t *rgb, sp_tensor *pictures,
                              const sp_callbacks *callbacks, sp_latents *out)
{
    int size = sp_dataset_resolution(dataset);
    for (int64_t i = 0; i < count; i++) {
        SP_TRY(sp_dataset_image(dataset, samples ? samples[first + i] : first + i, rgb, NULL));
        sp_rgb_to_float(rgb, size, size, (float *)pictures->data + i * 3 * size * size);
    }
    sp_tensor latents = {0};
    SP_TRY(sp_vae_run(r->run, pictures, callbacks, &latents));
    size_t one = sp_tensor_bytes(&latents) / (size_t)pictures->shape.dim[0];
    if (!out->data) {
        *out = (sp_latents){out->count, latents.shape.dim[1], latents.shape.dim[2],
                            latents.shape.dim[3], sp_alloc((size_t)out->count * one)};
        if (!out->data) {
            sp_tensor_free(&latents);
            return SP_MEMORY;
        }
    }
    memcpy(sp_latent_at(out, first), latents.data, (size_t)count * one);
    sp_tensor_free(&latents);
    return SP_OK;
}

sp_status sp_latents_encode(sp_dataset *dataset, const int64_t *samples, int64_t count,
                            const sp_component *vae, sp_device *device, sp_dtype precision,
                            const sp_callbacks *callbacks, sp_latents *out)
{
    int64_t size = sp_dataset_resolution(dataset), batch = sp_vae_batch(size, size);
    *out = (sp_latents){.count = count};
    sp_runner runner = {0};
    sp_tensor pictures = {0};
    uint8_t *rgb = sp_alloc((size_t)(size * size * 3));
    sp_status status =
        rgb ? sp_tensor_create(SP_F32, sp_shape_of(batch, 3, size, size), &pictures) : SP_MEMORY;
    if (!status)
        status =
            sp_vae_runner_create(vae, SP_VAE_ENCODE, pictures.shape, device, precision, &runner);
    for (int64_t first = 0; first < count && !status; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        status = encode_batch(&runner, dataset, samples, first, n, rgb, &pictures, callbacks,
                              out);
        sp_report(callbacks, "encoding pictures", first + n, count, NULL);
        if (!status) status = sp_check_cancelled(callbacks);
    }
    sp_runner_free(&runner);
    sp_tensor_free(&pictures);
    sp_free(rgb);
    if (status) sp_latents_free(out);
    return status;
}

void sp_latents_free(sp_latents *latents)
{
    sp_free(latents->data);
    *latents = (sp_latents){0};
}
