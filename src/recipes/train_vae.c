/* The autoencoder of the demo: L1 on pixels and on their horizontal and vertical differences (thin
 * lines weigh more), and a small Kullback-Leibler term. L1 is the pseudo-Huber loss with a small c,
 * so that it has a gradient at 0. */
#include <math.h>
#include "backend/registry.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/random.h"
#include "image/image.h"
#include "latents/latents.h"
#include "pipeline/vae_run.h"
#include "recipes/from_scratch.h"
#include "train/checkpoint.h"

static const double kl_weight = 1e-4;
static const double huber_c = 0.01; /* in units of a picture's [-1,1] */

static const sp_vae_config demo_vae = {
    .kind = SP_VAE_KL,
    .factor = 4,
    .sample_size = 64,
    .in_channels = 3,
    .out_channels = 3,
    .latent_channels = 4,
    .scaling_factor = 1,
    .kl =
        {
            .levels = 3,
            .channels = {32, 64, 96},
            .layers = 1,
            .groups = 8,
            .quant_conv = true,
            .post_quant_conv = true,
            .mid_attention = false,
        },
};

typedef struct {
    const splam_train_options *options;
    sp_device *device;
    sp_dataset *dataset;
    sp_dataset_order *order;
    sp_tensor pictures, noise; /* one batch */
    uint8_t *rgb;
    sp_from_scratch_options how;
    sp_claim claim; /* of the output */
} vae_training;

/* ---- the graph ---- */

static sp_value *l1(sp_builder *b, sp_value *x, sp_value *y)
{
    return sp_loss(b, x, y, NULL, (sp_loss_options){SP_LOSS_HUBER, huber_c});
}

/* Neighbour differences along `axis` (1 height, 2 width) of NHWC pictures. */
static sp_value *difference(sp_builder *b, sp_value *x, int axis)
{
    int64_t n = sp_dim(x, axis) - 1;
    return sp_add_scaled(b, sp_slice(b, x, axis, 1, n), sp_slice(b, x, axis, 0, n), -1);
}

static sp_value *reconstruction_loss(sp_builder *b, sp_value *picture, sp_value *original)
{
    sp_value *loss = l1(b, picture, original);
    for (int axis = 1; axis <= 2; axis++)
        loss = sp_add(b, loss, l1(b, difference(b, picture, axis), difference(b, original, axis)));
    return loss;
}

/* KL(N(mean, exp(logvar)) || N(0,1)) per latent element, averaged. */
static sp_value *kl(sp_builder *b, sp_vae_moments q)
{
    sp_value *sum = sp_add(b, sp_mul(b, q.mean, q.mean), sp_unary(b, SP_UNARY_EXP, q.logvar));
    return sp_affine(b, sp_mean(b, sp_add_scaled(b, sum, q.logvar, -1)), 0.5, -0.5);
}

static sp_value *vae_loss(sp_builder *b, int64_t batch, int64_t size)
{
    int64_t factor = demo_vae.factor, side = size / factor;
    sp_value *x = sp_nchw_to_nhwc(
        b, sp_input(b, "pictures", SP_F32, sp_shape_of(batch, 3, size, size), SP_RATE_STEP));
    sp_value *noise = sp_input(
        b, "noise", SP_F32, sp_shape_of(batch, side, side, demo_vae.latent_channels), SP_RATE_STEP);
    const sp_weight_set set = {.name = "online", .rate = SP_RATE_STEP};
    const sp_network_use encoder = {.network = &sp_vae_encoder_network, .config = &demo_vae, .set = &set};
    const sp_network_use decoder = {.network = &sp_vae_decoder_network, .config = &demo_vae, .set = &set};
    sp_values image = {0}, z = {0};
    sp_values_add(&image, "image", x);
    sp_values moments = sp_network_graph(b, &encoder, &image);
    const sp_vae_moments q = {sp_values_get(&moments, "mean"), sp_values_get(&moments, "logvar")};
    sp_value *deviation = sp_unary(b, SP_UNARY_EXP, sp_affine(b, q.logvar, 0.5, 0));
    sp_values_add(&z, "latent", sp_add(b, q.mean, sp_mul(b, deviation, noise)));
    sp_value *y = sp_network_value(b, &decoder, &z);
    sp_value *loss = sp_add(b, reconstruction_loss(b, y, x), sp_affine(b, kl(b, q), kl_weight, 0));
    sp_output(b, "loss", loss);
    return loss;
}

static sp_status vae_graph(int64_t batch, int64_t size, sp_graph **out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    return sp_finish_training_graph(b, vae_loss(b, batch, size), out);
}

/* ---- feeding ---- */

static sp_status feed(void *context, sp_run *run, int64_t micro)
{
    vae_training *t = context;
    int64_t batch = t->options->train_batch_size, size = sp_dataset_resolution(t->dataset);
    size_t one = (size_t)(sp_tensor_count(&t->noise) / batch);
    for (int64_t i = 0; i < batch; i++) {
        int64_t k = sp_dataset_order_at(t->order, (uint64_t)(micro * batch + i));
        SP_TRY(
            sp_dataset_image(t->dataset, sp_dataset_training_sample(t->dataset, k), t->rgb, NULL));
        sp_rgb_to_float(t->rgb, (int)size, (int)size,
                        (float *)t->pictures.data + i * 3 * size * size);
        sp_random_key key = {t->options->seed, SP_STREAM_POSTERIOR, (uint64_t)micro, (uint64_t)i};
        sp_random_normal(key, (float *)t->noise.data + (size_t)i * one, one);
    }
    SP_TRY(sp_run_set_input(run, "pictures", &t->pictures));
    return sp_run_set_input(run, "noise", &t->noise);
}

/* ---- the finished model ---- */

/* Mean and deviation of each latent channel over the data. */
static sp_status channel_statistics(const sp_latents *latents, double *mean, double *deviation)
{
    int64_t area = latents->height * latents->width;
    for (int64_t c = 0; c < latents->channels; c++) {
        double sum = 0, squares = 0;
        for (int64_t n = 0; n < latents->count; n++)
            for (int64_t i = 0; i < area; i++) {
                double x = (double)sp_latent_at(latents, n)[c * area + i];
                sum += x;
                squares += x * x;
            }
        double count = (double)(latents->count * area);
        mean[c] = sum / count;
        double variance = squares / count - mean[c] * mean[c];
        /* A sum of many numbers rounds, so a channel that never changes may have a small one, or
         * less than none. */
        if (!(variance > 1e-12 * (1 + mean[c] * mean[c])))
            return sp_fail(
                SP_NUMERIC,
                "latent channel %lld has the same value, %g, for all of the data, and cannot be brought to "
                "deviation 1: the pictures are too few or too alike",
                (long long)c, mean[c]);
        deviation[c] = sqrt(variance);
    }
    return SP_OK;
}

/* z -> (z - mean)/deviation after the encoder's last 1x1 convolution, and back before the decoder's
 * first. */
static sp_status fold_normalization(sp_weights *weights, int64_t channels, const double *mean,
                                    const double *deviation)
{
    const char *names[] = {"quant_conv.weight", "quant_conv.bias", "post_quant_conv.weight",
                           "post_quant_conv.bias"};
    float *data[4];
    for (int i = 0; i < 4; i++) {
        sp_tensor *tensor = sp_weights_find(weights, names[i]);
        if (!tensor) return sp_fail(SP_INTERNAL, "the autoencoder has no \"%s\"", names[i]);
        data[i] = tensor->data;
    }
    int64_t moments = 2 * channels;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t i = 0; i < moments; i++)
            data[0][c * moments + i] = (float)((double)data[0][c * moments + i] / deviation[c]);
        data[1][c] = (float)(((double)data[1][c] - mean[c]) / deviation[c]);
        data[1][channels + c] = (float)((double)data[1][channels + c] - 2 * log(deviation[c]));
    }
    for (int64_t o = 0; o < channels; o++) {
        double bias = (double)data[3][o];
        for (int64_t c = 0; c < channels; c++) {
            bias += (double)data[2][o * channels + c] * mean[c];
            data[2][o * channels + c] = (float)((double)data[2][o * channels + c] * deviation[c]);
        }
        data[3][o] = (float)bias;
    }
    return SP_OK;
}

static sp_status normalize(vae_training *t, const sp_component *vae, const sp_callbacks *callbacks)
{
    sp_latents latents = {0};
    double mean[SP_MODEL_MAX_LEVELS], deviation[SP_MODEL_MAX_LEVELS];
    SP_TRY(sp_latents_encode(t->dataset, NULL, sp_dataset_count(t->dataset), vae, t->device,
                             sp_precision_dtype(t->device, t->options->precision), callbacks, &latents));
    sp_status status = channel_statistics(&latents, mean, deviation);
    if (!status) status = fold_normalization(vae->weights, latents.channels, mean, deviation);
    sp_latents_free(&latents);
    return status;
}

/* Peak signal-to-noise ratio, in dB, of pictures encoded to the posterior's mean and decoded:
 * held-out ones if there are any. */
static sp_status reconstruction_psnr(vae_training *t, const sp_component *vae, double *out)
{
    int64_t samples[256], count = sp_dataset_held_out_count(t->dataset),
                          size = sp_dataset_resolution(t->dataset);
    bool held_out = count > 0;
    if (!held_out) count = sp_dataset_training_count(t->dataset);
    if (count > 256) count = 256;
    for (int64_t i = 0; i < count; i++)
        samples[i] = held_out ? sp_dataset_held_out_sample(t->dataset, i)
                             : sp_dataset_training_sample(t->dataset, i);
    sp_latents latents = {0};
    sp_tensor images = {0};
    SP_TRY(sp_latents_encode(t->dataset, samples, count, vae, t->device, SP_F32, NULL,
                             &latents));
    sp_tensor encoded = {.shape =
                             sp_shape_of(count, latents.channels, latents.height, latents.width),
                         .data = latents.data};
    const sp_vae_settings settings = {.device = t->device};
    sp_status status = sp_vae_run_all(vae, SP_VAE_DECODE, &encoded, &settings, NULL, &images);
    double sum = 0;
    float *original = sp_alloc((size_t)(3 * size * size) * sizeof *original);
    if (!original) status = SP_MEMORY;
    for (int64_t i = 0; i < count && !status; i++) {
        status = sp_dataset_image(t->dataset, samples[i], t->rgb, NULL);
        sp_rgb_to_float(t->rgb, (int)size, (int)size, original);
        const float *y = (const float *)images.data + i * 3 * size * size;
        for (int64_t k = 0; k < 3 * size * size; k++) {
            double d = fmin(1, fmax(-1, (double)y[k])) - (double)original[k];
            sum += d * d;
        }
    }
    *out = 10 * log10(4 * (double)(count * 3 * size * size) / sum); /* the range is 2 */
    sp_free(original);
    sp_tensor_free(&images);
    sp_latents_free(&latents);
    return status;
}

static sp_status finish(vae_training *t, const sp_training_state *state,
                        const sp_callbacks *callbacks)
{
    json_t *config = sp_vae_config_write(&demo_vae);
    char *folder = sp_path_join(t->options->output, "vae");
    sp_component component = {.place = SP_COMPONENT_VAE,
                              .config = {.kind = SP_COMPONENT_VAE, .vae = demo_vae},
                              .weights = state->ema};
    double psnr = 0;
    sp_status status = config && folder ? normalize(t, &component, callbacks) : SP_MEMORY;
    if (!status) status = sp_component_save(folder, SP_COMPONENT_VAE, config, state->ema, SP_F32, NULL);
    if (!status) status = reconstruction_psnr(t, &component, &psnr);
    if (!status)
        sp_log_info("%s: reconstruction %.2f dB on pictures it %s", folder, psnr,
                    sp_dataset_held_out_count(t->dataset) ? "has not seen" : "was trained on");
    json_decref(config);
    sp_free(folder);
    return status;
}

/* ---- putting it together ---- */

static sp_status train(vae_training *t, const sp_callbacks *callbacks)
{
    const splam_train_options *o = t->options;
    t->how.device = t->device;
    t->how.name = "train vae";
    const sp_training_task task = {.context = t, .feed = feed};
    sp_graph *graph;
    json_t *settings;
    sp_training_state state = {0};
    SP_TRY(sp_train_settings(o, &t->how, &settings));
    sp_status status = vae_graph(o->train_batch_size, sp_dataset_resolution(t->dataset), &graph);
    if (!status) status = sp_train_from_scratch(graph, o, &t->how, settings, &task, callbacks, &state);
    if (!status) status = finish(t, &state, callbacks);
    sp_training_state_free(&state);
    json_decref(settings);
    return status;
}

static sp_status prepare(vae_training *t, const sp_callbacks *callbacks)
{
    int64_t batch = t->options->train_batch_size, factor = demo_vae.factor;
    static const char *const names[] = {"metrics.jsonl", "vae/config.json", NULL};
    SP_TRY(sp_claim_folder(t->options->output, names, &t->claim));
    SP_TRY(sp_checkpoint_check_output(t->options->output, t->options->resume, names));
    SP_TRY(sp_from_scratch_dataset(t->options, factor, callbacks, &t->dataset));
    int64_t size = sp_dataset_resolution(t->dataset), side = size / factor;
    SP_TRY(sp_dataset_order_create(t->options->seed, sp_dataset_training_count(t->dataset),
                                   &t->order));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch, 3, size, size), &t->pictures));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch, side, side, demo_vae.latent_channels),
                            &t->noise));
    t->rgb = sp_alloc((size_t)(3 * size * size));
    return t->rgb ? SP_OK : SP_MEMORY;
}

static sp_status refuse_teachers(const splam_train_options *o)
{
    const char *option = o->vae ? "vae" : o->start ? "start" : o->family ? "family" : NULL;
    if (o->width != SPLAM_UNSET) option = "width";
    if (!option) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is for a teacher, and this trains an autoencoder", option);
}

sp_status sp_train_vae(const splam_train_options *options, const sp_callbacks *callbacks)
{
    splam_train_options o = *options;
    sp_device *device;
    SP_TRY(sp_ranks_must_be_alone("train vae"));
    SP_TRY(refuse_teachers(&o));
    SP_TRY(sp_device_of(o.device, &device));
    if (o.max_train_steps == SPLAM_UNSET) o.max_train_steps = 2000;
    if (o.train_batch_size == SPLAM_UNSET) o.train_batch_size = 32;
    if (o.learning_rate == (double)SPLAM_UNSET) o.learning_rate = 1e-3;
    if (!o.ema_decay) o.ema_decay = "0.995";
    vae_training t = {.options = &o, .device = device};
    SP_TRY(sp_from_scratch_read(&o, 50, &t.how));
    sp_status status = prepare(&t, callbacks);
    if (!status) status = train(&t, callbacks);
    sp_free(t.rgb);
    sp_tensor_free(&t.pictures);
    sp_tensor_free(&t.noise);
    sp_dataset_order_destroy(t.order);
    sp_dataset_close(t.dataset);
    sp_claim_end(&t.claim);
    return status;
}
