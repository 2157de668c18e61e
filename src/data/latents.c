/* Encoding and decoding many pictures with one plan. The last, incomplete batch is filled up with
 * zeros. */
#include "data/latents.h"
#include "base/memory.h"
#include "data/image.h"
#include "graph/plan.h"

enum { SP_LATENT_BATCH = 16 };

/* A VAE half ready to run batches of SP_LATENT_BATCH. */
typedef struct {
    sp_plan *plan;
    sp_run *run;
} vae_runner;

static void runner_free(vae_runner *r)
{
    sp_run_destroy(r->run);
    sp_plan_destroy(r->plan);
}

/* Input "in", output "out", both NCHW: pictures to latents or back. */
static sp_status runner_create(const sp_component *vae, bool encode, sp_shape in,
                               sp_backend *backend, sp_dtype storage, vae_runner *out)
{
    const sp_vae_config *config = &vae->config.vae;
    sp_builder *b;
    sp_graph *graph = NULL;
    *out = (vae_runner){0};
    SP_TRY(sp_builder_create(&b));
    sp_set_enter(b, "vae", SP_RATE_RUN, sp_weights_dtype, vae->weights);
    sp_value *x = sp_nchw_to_nhwc(b, sp_input(b, "in", SP_F32, in, SP_RATE_STEP));
    sp_value *y = encode ? sp_affine(b, sp_vae_encode(b, config, x).mean, config->scaling_factor, 0)
                         : sp_vae_decode(b, config, sp_affine(b, x, 1 / config->scaling_factor, 0));
    sp_output(b, "out", sp_nhwc_to_nchw(b, y));
    sp_status status = sp_pass_fuse(sp_builder_graph(b));
    if (!status) status = sp_builder_finish(b, &graph);
    sp_builder_destroy(b);
    if (!status) status = sp_plan_create(graph, backend, storage, &out->plan);
    if (!status) status = sp_run_create(out->plan, &out->run);
    if (!status) status = sp_run_bind(out->run, "vae", vae->weights);
    if (status) runner_free(out);
    return status;
}

static sp_status runner_run(vae_runner *r, const sp_tensor *in, sp_tensor *out)
{
    SP_TRY(sp_run_set_input(r->run, "in", in));
    SP_TRY(sp_run_execute(r->run));
    return sp_run_get_output(r->run, "out", out);
}

static sp_status encode_batch(vae_runner *r, sp_dataset *dataset, const int64_t *samples,
                              int64_t first, int64_t count, uint8_t *rgb, sp_tensor *pictures,
                              sp_latents *out)
{
    int size = sp_dataset_resolution(dataset);
    for (int64_t i = 0; i < count; i++) {
        SP_TRY(sp_dataset_image(dataset, samples ? samples[first + i] : first + i, rgb, NULL));
        sp_rgb_to_float(rgb, size, size, (float *)pictures->data + i * 3 * size * size);
    }
    sp_tensor latents = {0};
    SP_TRY(runner_run(r, pictures, &latents));
    size_t one = sp_tensor_bytes(&latents) / SP_LATENT_BATCH;
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
                            const sp_component *vae, sp_backend *backend, sp_dtype storage,
                            const sp_callbacks *callbacks, sp_latents *out)
{
    int64_t size = sp_dataset_resolution(dataset);
    *out = (sp_latents){.count = count};
    vae_runner runner = {0};
    sp_tensor pictures = {0};
    uint8_t *rgb = sp_alloc((size_t)(size * size * 3));
    sp_status status =
        rgb ? sp_tensor_create(SP_F32, sp_shape_of(SP_LATENT_BATCH, 3, size, size), &pictures)
            : SP_MEMORY;
    if (!status) status = runner_create(vae, true, pictures.shape, backend, storage, &runner);
    for (int64_t first = 0; first < count && !status; first += SP_LATENT_BATCH) {
        int64_t n = count - first < SP_LATENT_BATCH ? count - first : SP_LATENT_BATCH;
        status = encode_batch(&runner, dataset, samples, first, n, rgb, &pictures, out);
        sp_report(callbacks, "encoding pictures", first + n, count, NULL);
        if (!status) status = sp_check_cancelled(callbacks);
    }
    runner_free(&runner);
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

sp_status sp_latents_decode(const float *latents, sp_shape shape, const sp_component *vae,
                            sp_backend *backend, sp_dtype storage, const sp_callbacks *callbacks,
                            sp_tensor *images)
{
    int64_t count = shape.dim[0], factor = sp_vae_factor(&vae->config.vae);
    int64_t batch = count < SP_LATENT_BATCH ? count : SP_LATENT_BATCH;
    int64_t one = sp_shape_count(shape) / (count ? count : 1);
    vae_runner runner = {0};
    sp_tensor in = {0};
    shape.dim[0] = batch;
    sp_status status = sp_tensor_create(SP_F32,
                                        sp_shape_of(count, vae->config.vae.out_channels,
                                                    factor * shape.dim[2], factor * shape.dim[3]),
                                        images);
    if (!status) status = sp_tensor_create(SP_F32, shape, &in);
    if (!status) status = runner_create(vae, false, shape, backend, storage, &runner);
    for (int64_t first = 0; first < count && !status; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        memcpy(in.data, latents + first * one, (size_t)(n * one) * sizeof(float));
        sp_tensor out = {0};
        status = runner_run(&runner, &in, &out);
        if (status) break;
        size_t picture = sp_tensor_bytes(&out) / (size_t)batch;
        memcpy((char *)images->data + (size_t)first * picture, out.data, (size_t)n * picture);
        sp_tensor_free(&out);
        if (callbacks) sp_report(callbacks, "decoding pictures", first + n, count, NULL);
        status = sp_check_cancelled(callbacks);
    }
    runner_free(&runner);
    sp_tensor_free(&in);
    if (status) sp_tensor_free(images);
    return status;
}
