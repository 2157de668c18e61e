/* One half of an autoencoder on all of a tensor, in batches or in tiles. */
#include "pipeline/vae_run.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "pipeline/vae_tiles.h"

/* Pixels of all pictures of one batch: beyond this a batch gains nothing and costs memory. */
enum { BATCH_PIXELS = 1 << 16 };
/* Smaller tiles are mostly overlap and see too little. */
enum { LEAST_TILE = 256, USUAL_TILE = 512 };

static const char decoder_set[] = "vae-decoder", encoder_set[] = "vae-encoder";

/* What a half makes of its input; latents as a denoiser sees them. */
static sp_value *build_half(sp_builder *b, const sp_component *vae, sp_vae_half half, sp_value *x)
{
    const sp_vae_config *config = &vae->config.vae;
    bool decodes = half == SP_VAE_DECODE;
    double scale = config->scaling_factor, shift = config->shift_factor;
    const sp_weight_set set = {
        .name = decodes ? decoder_set : encoder_set, .rate = SP_RATE_RUN, .weights = vae->weights};
    const sp_network_use use = {.network = decodes ? &sp_vae_decoder_network : &sp_vae_encoder_network,
                                .config = config,
                                .set = &set};
    sp_values in = {0};
    sp_values_add(&in, decodes ? "latent" : "image", decodes ? sp_affine(b, x, 1 / scale, shift) : x);
    sp_values out = sp_network_graph(b, &use, &in);
    if (decodes) return sp_values_get(&out, "image");
    sp_value *moments[] = {sp_values_get(&out, "mean"), sp_values_get(&out, "logvar")};
    if (half == SP_VAE_ENCODE) return sp_affine(b, moments[0], scale, -shift * scale);
    return moments[1] ? sp_concat(b, 2, moments, -1) : moments[0];
}

static sp_status make_builder(const sp_component *vae, sp_vae_half half, sp_shape in, bool alone, sp_builder **out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    if (alone) sp_builder_set_samples(b, 1);
    sp_value *x = sp_nchw_to_nhwc(b, sp_input(b, "in", SP_F32, in, SP_RATE_STEP));
    sp_output(b, "out", sp_nhwc_to_nchw(b, build_half(b, vae, half, x)));
    *out = b;
    return SP_OK;
}

sp_status sp_vae_runner_create(const sp_component *vae, sp_vae_half half, sp_shape in,
                               sp_device *device, sp_dtype precision, sp_runner *out)
{
    sp_builder *b;
    *out = (sp_runner){0};
    SP_TRY(make_builder(vae, half, in, false, &b));
    SP_TRY(sp_runner_create(b, device, precision, out));
    sp_status status = sp_bind(sp_run_bound(out->run), half == SP_VAE_DECODE ? decoder_set : encoder_set, vae->weights);
    if (status != SP_OK) sp_runner_free(out);
    return status;
}

/* ---- kept plans ---- */

typedef struct {
    const sp_component *vae;
    sp_vae_half half;
    sp_shape in;
    bool alone; /* and in a batch */
} half_shape;

static sp_status build_shape(const void *context, sp_builder **out)
{
    const half_shape *h = context;
    return make_builder(h->vae, h->half, h->in, h->alone, out);
}

static sp_plan_use use_of(const half_shape *h, char shape[SP_PLAN_SHAPE])
{
    snprintf(shape, SP_PLAN_SHAPE, "%s %s%s", h->half == SP_VAE_POSTERIOR ? "posterior" : "picture",
             sp_shape_text(h->in), h->alone ? " as alone" : "");
    return (sp_plan_use){.network = h->half == SP_VAE_DECODE ? decoder_set : encoder_set,
                         .shape = shape,
                         .build = build_shape,
                         .context = h,
                         .weights = h->vae->weights};
}

/* A batch of one is alone as it is. */
static half_shape shape_of(const sp_component *vae, sp_vae_half half, sp_shape in, bool alone)
{
    return (half_shape){vae, half, in, alone && in.dim[0] > 1};
}

sp_status sp_vae_plans_run(sp_plans *plans, const sp_component *vae, sp_vae_half half, sp_shape in, bool alone,
                           sp_run **out)
{
    char shape[SP_PLAN_SHAPE];
    const half_shape h = shape_of(vae, half, in, alone);
    const sp_plan_use use = use_of(&h, shape);
    return sp_plans_run(plans, &use, out);
}

void sp_vae_plans_forget(sp_plans *plans)
{
    sp_plans_forget(plans, decoder_set);
    sp_plans_forget(plans, encoder_set);
}

sp_status sp_vae_run(sp_run *run, const sp_tensor *in, const sp_callbacks *callbacks, sp_tensor *out)
{
    SP_TRY(sp_run_set_input(run, "in", in));
    SP_TRY(sp_run_execute(run, callbacks));
    return sp_run_get_output(run, "out", out);
}

void sp_vae_draw(sp_latent_scale scale, const float *mean, const float *logvar, const float *noise,
                 int64_t count, float *latent)
{
    for (int64_t i = 0; i < count; i++) {
        double away = logvar && noise ? exp(0.5 * (double)logvar[i]) * (double)noise[i] : 0;
        latent[i] = (float)(scale.factor * ((double)mean[i] + away - scale.shift));
    }
}

int64_t sp_vae_batch(int64_t height, int64_t width)
{
    int64_t pixels = height * width;
    return pixels > 0 && pixels < BATCH_PIXELS ? BATCH_PIXELS / pixels : 1;
}

/* ---- all of a tensor ---- */

/* Inputs first..first+n-1 of `in`, which fill `batch` up to what it held before. */
static sp_status run_batch(sp_run *run, const sp_tensor *in, int64_t first, int64_t n,
                           sp_tensor *batch, const sp_callbacks *callbacks, sp_tensor *out)
{
    int64_t rows = batch->shape.dim[0];
    size_t from = sp_tensor_bytes(batch) / (size_t)rows;
    sp_tensor result = {0};
    memcpy(batch->data, (const char *)in->data + (size_t)first * from, (size_t)n * from);
    SP_TRY(sp_vae_run(run, batch, callbacks, &result));
    sp_status status = SP_OK;
    if (!out->data) {
        sp_shape shape = result.shape;
        shape.dim[0] = in->shape.dim[0];
        status = sp_tensor_create(SP_F32, shape, out);
    }
    size_t to = sp_tensor_bytes(&result) / (size_t)rows;
    if (!status) memcpy((char *)out->data + (size_t)first * to, result.data, (size_t)n * to);
    sp_tensor_free(&result);
    return status;
}

static int64_t batch_of(const sp_vae_config *config, sp_vae_half half, sp_shape in)
{
    int64_t factor = half == SP_VAE_DECODE ? config->factor : 1;
    int64_t batch = sp_vae_batch(factor * in.dim[2], factor * in.dim[3]);
    return batch < in.dim[0] ? batch : in.dim[0];
}

static sp_status run_batches(const sp_component *vae, sp_vae_half half, const sp_tensor *in,
                             const sp_vae_settings *settings, const sp_callbacks *callbacks,
                             sp_tensor *out)
{
    const char *task = half == SP_VAE_DECODE ? "decoding pictures" : "encoding pictures";
    sp_shape shape = in->shape;
    int64_t count = shape.dim[0], batch = batch_of(&vae->config.vae, half, shape);
    sp_plans own = {settings->device, settings->precision, 1, NULL}, *plans = settings->plans ? settings->plans : &own;
    sp_run *run = NULL;
    sp_tensor rows = {0};
    shape.dim[0] = batch;
    sp_report(callbacks, task, 0, count, NULL);
    sp_status status = sp_tensor_create(SP_F32, shape, &rows);
    if (!status) status = sp_vae_plans_run(plans, vae, half, shape, settings->alone, &run);
    for (int64_t first = 0; first < count && !status; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        status = sp_check_cancelled(callbacks);
        if (!status) status = run_batch(run, in, first, n, &rows, callbacks, out);
        if (!status) sp_report(callbacks, task, first + n, count, NULL);
    }
    sp_plans_free(&own);
    sp_tensor_free(&rows);
    return status;
}

static bool in_tiles(const sp_vae_config *config, sp_vae_half half, sp_shape in, int64_t tile)
{
    int64_t side = sp_vae_input_tile(config, half, tile);
    return tile > 0 && (in.dim[2] > side || in.dim[3] > side);
}

static sp_status check_input(const sp_vae_config *config, sp_vae_half half, sp_shape in,
                             sp_dtype dtype, int64_t tile)
{
    if (in.rank != 4 || in.dim[0] < 1 || in.dim[2] < 1 || in.dim[3] < 1 || dtype != SP_F32)
        return sp_fail(SP_SHAPE, "%s %s must be F32 [N,C,H,W]",
                       half == SP_VAE_DECODE ? "latents to decode" : "pictures to encode",
                       sp_shape_text(in));
    if (tile % sp_vae_tile_unit(config) || tile < 0)
        return sp_fail(SP_ARGUMENT, "a tile of %lld pixels is not a multiple of %lld",
                       (long long)tile, (long long)sp_vae_tile_unit(config));
    if (half != SP_VAE_DECODE && in_tiles(config, half, in, tile) &&
        (in.dim[2] % config->factor || in.dim[3] % config->factor))
        return sp_fail(SP_SHAPE,
                       "pictures %s to encode in tiles must have multiples of %lld pixels",
                       sp_shape_text(in), (long long)config->factor);
    return SP_OK;
}

sp_status sp_vae_run_all(const sp_component *vae, sp_vae_half half, const sp_tensor *in,
                         const sp_vae_settings *settings, const sp_callbacks *callbacks,
                         sp_tensor *out)
{
    const sp_vae_config *config = &vae->config.vae;
    *out = (sp_tensor){0};
    SP_TRY(check_input(config, half, in->shape, in->dtype, settings->tile));
    sp_status status = in_tiles(config, half, in->shape, settings->tile)
                           ? sp_vae_run_tiles(vae, half, in, settings, callbacks, out)
                           : run_batches(vae, half, in, settings, callbacks, out);
    if (status) sp_tensor_free(out);
    return status;
}

sp_status sp_vae_plan_all(const sp_component *vae, sp_vae_half half, sp_shape in,
                          const sp_vae_settings *settings, sp_plan_memory *out)
{
    const sp_vae_config *config = &vae->config.vae;
    SP_TRY(check_input(config, half, in, SP_F32, settings->tile));
    if (in_tiles(config, half, in, settings->tile)) {
        int64_t side = sp_vae_input_tile(config, half, settings->tile);
        in.dim[0] = 1;
        in.dim[2] = in.dim[2] < side ? in.dim[2] : side;
        in.dim[3] = in.dim[3] < side ? in.dim[3] : side;
    } else {
        in.dim[0] = batch_of(config, half, in);
    }
    sp_plans own = {settings->device, settings->precision, 1, NULL}, *plans = settings->plans ? settings->plans : &own;
    char shape[SP_PLAN_SHAPE];
    const half_shape h = shape_of(vae, half, in, settings->alone);
    const sp_plan_use use = use_of(&h, shape);
    sp_status status = sp_plans_memory(plans, &use, out);
    sp_plans_free(&own);
    return status;
}

int64_t sp_vae_tile_side(const sp_vae_config *config)
{
    int64_t unit = sp_vae_tile_unit(config);
    int64_t side = config->sample_size >= LEAST_TILE ? config->sample_size : USUAL_TILE;
    return side > unit ? side / unit * unit : unit;
}
