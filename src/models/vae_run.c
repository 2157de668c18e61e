#include "models/vae_run.h"

#include <string.h>

/* Pixels of all pictures of one batch: beyond this a batch gains nothing and costs memory. */
enum { BATCH_PIXELS = 1 << 16 };

sp_status sp_vae_runner_create(const sp_component *vae, sp_vae_half half, sp_shape in,
                               sp_backend *backend, sp_dtype storage, sp_runner *out)
{
    const sp_vae_config *config = &vae->config.vae;
    double scale = config->scaling_factor;
    sp_builder *b;
    *out = (sp_runner){0};
    SP_TRY(sp_builder_create(&b));
    sp_set_enter(b, "vae", SP_RATE_RUN, sp_weights_dtype, vae->weights);
    sp_value *x = sp_nchw_to_nhwc(b, sp_input(b, "in", SP_F32, in, SP_RATE_STEP));
    sp_value *y = half == SP_VAE_ENCODE ? sp_affine(b, sp_vae_encode(b, config, x).mean, scale, 0)
                                        : sp_vae_decode(b, config, sp_affine(b, x, 1 / scale, 0));
    sp_output(b, "out", sp_nhwc_to_nchw(b, y));
    SP_TRY(sp_runner_create(b, backend, storage, out));
    sp_status status = sp_run_bind(out->run, "vae", vae->weights);
    if (status != SP_OK) sp_runner_free(out);
    return status;
}

sp_status sp_vae_run(sp_runner *runner, const sp_tensor *in, sp_tensor *out)
{
    SP_TRY(sp_run_set_input(runner->run, "in", in));
    SP_TRY(sp_run_execute(runner->run));
    return sp_run_get_output(runner->run, "out", out);
}

int64_t sp_vae_batch(int64_t height, int64_t width)
{
    int64_t pixels = height * width;
    return pixels > 0 && pixels < BATCH_PIXELS ? BATCH_PIXELS / pixels : 1;
}

/* The last, incomplete batch is filled up with what the one before it held. */
static sp_status decode_batches(sp_runner *runner, const sp_tensor *latents, sp_tensor *in,
                                const sp_callbacks *callbacks, sp_tensor *images)
{
    int64_t count = latents->shape.dim[0], batch = in->shape.dim[0];
    size_t latent = sp_tensor_bytes(in) / (size_t)batch;
    size_t picture = sp_tensor_bytes(images) / (size_t)count;
    for (int64_t first = 0; first < count; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        sp_tensor out = {0};
        SP_TRY(sp_check_cancelled(callbacks));
        memcpy(in->data, (const char *)latents->data + (size_t)first * latent, (size_t)n * latent);
        SP_TRY(sp_vae_run(runner, in, &out));
        memcpy((char *)images->data + (size_t)first * picture, out.data, (size_t)n * picture);
        sp_tensor_free(&out);
        sp_report(callbacks, "decoding pictures", first + n, count, NULL);
    }
    return SP_OK;
}

sp_status sp_vae_decode_all(const sp_component *vae, const sp_tensor *latents, sp_backend *backend,
                            sp_dtype storage, const sp_callbacks *callbacks, sp_tensor *images)
{
    const sp_vae_config *config = &vae->config.vae;
    sp_shape shape = latents->shape;
    *images = (sp_tensor){0};
    if (shape.rank != 4 || shape.dim[0] < 1 || latents->dtype != SP_F32)
        return sp_fail(SP_SHAPE, "latents %s to decode must be F32 [N,C,h,w]",
                       sp_shape_text(shape));
    int64_t factor = config->factor, count = shape.dim[0];
    int64_t height = factor * shape.dim[2], width = factor * shape.dim[3];
    int64_t batch = sp_vae_batch(height, width);
    shape.dim[0] = batch < count ? batch : count;
    sp_runner runner = {0};
    sp_tensor in = {0};
    sp_status status = sp_tensor_create(SP_F32, shape, &in);
    if (status == SP_OK)
        status = sp_tensor_create(SP_F32, sp_shape_of(count, config->out_channels, height, width),
                                  images);
    if (status == SP_OK)
        status = sp_vae_runner_create(vae, SP_VAE_DECODE, shape, backend, storage, &runner);
    if (status == SP_OK) status = decode_batches(&runner, latents, &in, callbacks, images);
    sp_runner_free(&runner);
    sp_tensor_free(&in);
    if (status != SP_OK) sp_tensor_free(images);
    return status;
}
