/* A model at work: prompts to a conditioning, latents to pictures, and what is kept between calls. */
#include "pipeline/pipeline.h"
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "pipeline/vae_run.h"

static const char text_set[] = "text-encoder";

/* ---- models ---- */

/* The model's parts as they are now. */
static void look_at(sp_pipeline *p)
{
    p->unet = p->model->unet;
    p->vae = p->model->vae;
    p->text_encoder = p->model->text_encoder;
    p->tokenizer = p->model->tokenizer;
}

sp_status sp_pipeline_create(const sp_model *model, sp_pipeline **out)
{
    *out = NULL;
    sp_pipeline *p = sp_alloc_zero(sizeof *p);
    if (!p) return SP_MEMORY;
    p->model = model;
    p->device = model->device;
    p->precision = model->precision;
    p->scheduler = model->scheduler;
    p->plans = (sp_plans){.device = model->device, .precision = model->precision, .most = 1};
    look_at(p);
    sp_status status = p->unet ? sp_pipeline_set_unet(p, NULL, NULL) : SP_OK;
    if (status)
        sp_pipeline_close(p);
    else
        *out = p;
    return status;
}

sp_status sp_pipeline_open(const char *path, const sp_model_options *options, sp_pipeline **out)
{
    sp_model *model;
    *out = NULL;
    SP_TRY(sp_model_open(path, options, &model));
    sp_status status = sp_pipeline_create(model, out);
    if (status) {
        sp_model_close(model);
        return status;
    }
    (*out)->owned = model;
    if (options->callbacks) (*out)->callbacks = *options->callbacks;
    return SP_OK;
}

void sp_pipeline_close(sp_pipeline *p)
{
    if (!p) return;
    sp_plans_free(&p->plans);
    sp_model_close(p->owned);
    sp_free(p);
}

sp_status sp_pipeline_set_unet(sp_pipeline *p, const sp_unet_config *config,
                               const sp_weights *weights)
{
    if (!weights && !p->unet)
        return sp_fail(SP_INTERNAL, "the pipeline was opened without its UNet");
    const sp_unet_config *chosen = weights ? config : &p->unet->config.unet;
    SP_TRY(sp_model_check_unet(p->model, chosen));
    sp_pipeline_release(p);
    p->unet_config = *chosen;
    p->unet_weights = weights ? weights : p->unet->weights;
    return SP_OK;
}

sp_status sp_pipeline_set_clip_skip(sp_pipeline *p, int layers)
{
    int64_t all = p->text_encoder ? p->text_encoder->config.text.layers : 1;
    if (layers < 0 || layers >= all)
        return sp_fail(SP_ARGUMENT, "`clip_skip` is %d, and must lie in 0..%lld for this text encoder", layers,
                       (long long)all - 1);
    p->clip_skip = layers;
    return SP_OK;
}

sp_status sp_pipeline_set_vae_tile(sp_pipeline *p, int64_t tile)
{
    int64_t unit = p->vae ? sp_vae_tile_unit(&p->vae->config.vae) : 1;
    if (tile < 0 || tile % unit)
        return sp_fail(SP_ARGUMENT, "a tile of %lld pixels is not a multiple of %lld", (long long)tile,
                       (long long)unit);
    p->vae_tile = tile;
    return SP_OK;
}

void sp_pipeline_close_parts(sp_pipeline *p, unsigned parts)
{
    if (parts & SP_PART_VAE) sp_vae_plans_forget(&p->plans);
    if (parts & SP_PART_TEXT) sp_plans_forget(&p->plans, text_set);
    sp_model_close_parts(p->owned, parts);
    look_at(p);
}

/* Lets the kernel take back the mapped pages of a component that has been run. */
static void drop_pages(const sp_component *component)
{
    for (size_t i = 0; i < sp_tensor_file_count(component->file); i++)
        sp_tensor_file_drop(component->file, sp_tensor_file_at(component->file, i));
}

void sp_pipeline_release(sp_pipeline *p)
{
    sp_plans_forget(&p->plans, "unet");
    p->denoiser = NULL;
    if (p->unet) drop_pages(p->unet);
}

void sp_pipeline_keep(sp_pipeline *p, bool keep)
{
    p->keeps = keep;
}

/* ---- prompts ---- */

typedef struct {
    const sp_pipeline *pipeline;
    int64_t batch;
    int clip_skip;
} text_shape;

static sp_status build_text(const void *context, sp_builder **out)
{
    const text_shape *t = context;
    const sp_component *encoder = t->pipeline->text_encoder;
    const sp_weight_set set = {.name = text_set, .rate = SP_RATE_RUN, .weights = encoder->weights};
    const sp_clip_text_options options = {.clip_skip = t->clip_skip};
    const sp_network_use text = {
        .network = &sp_clip_text_network, .config = &encoder->config.text, .options = &options, .set = &set};
    const sp_network_sizes sizes = {
        .batch = t->batch, .tokens = (int64_t)sp_tokenizer_max_length(t->pipeline->tokenizer), .ids = SP_I32};
    SP_TRY(sp_builder_create(out));
    sp_network_alone(*out, &text, &sizes);
    return SP_OK;
}

static sp_plan_use text_use(const text_shape *t, char shape[SP_PLAN_SHAPE])
{
    snprintf(shape, SP_PLAN_SHAPE, "%lld without %d layers", (long long)t->batch, t->clip_skip);
    return (sp_plan_use){.network = text_set,
                         .shape = shape,
                         .build = build_text,
                         .context = t,
                         .weights = t->pipeline->text_encoder->weights};
}

sp_status sp_pipeline_plan_text(sp_pipeline *p, int64_t prompts, sp_plan_memory *out)
{
    char shape[SP_PLAN_SHAPE];
    const text_shape t = {p, prompts < SP_TEXT_BATCH ? prompts : SP_TEXT_BATCH, p->clip_skip};
    const sp_plan_use use = text_use(&t, shape);
    return sp_plans_memory(&p->plans, &use, out);
}

sp_status sp_pipeline_pack_text(sp_pipeline *p, const sp_callbacks *callbacks)
{
    char shape[SP_PLAN_SHAPE];
    sp_run *run;
    const text_shape t = {p, 1, p->clip_skip};
    const sp_plan_use use = text_use(&t, shape);
    SP_TRY(sp_plans_run(&p->plans, &use, &run));
    return sp_run_make_weights(run, callbacks);
}

static sp_status encode_batches(const sp_pipeline *p, const char *const *prompts, int64_t count,
                                sp_run *run, sp_tensor *ids, sp_tensor *states)
{
    int64_t batch = ids->shape.dim[0], length = ids->shape.dim[1];
    for (int64_t first = 0; first < count; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        for (int64_t i = 0; i < n; i++)
            SP_TRY(sp_tokenizer_encode(p->tokenizer, prompts[first + i],
                                       (int32_t *)ids->data + i * length, NULL));
        sp_tensor out = {0};
        SP_TRY(sp_run_set_input(run, "input_ids", ids));
        SP_TRY(sp_run_execute(run, &p->callbacks));
        SP_TRY(sp_run_get_output(run, "last_hidden_state", &out));
        size_t one = sp_tensor_bytes(&out) / (size_t)batch;
        memcpy((char *)states->data + (size_t)first * one, out.data, (size_t)n * one);
        sp_tensor_free(&out);
    }
    return SP_OK;
}

/* The text encoder's last hidden states, new tensor [count,L,D] f32. */
static sp_status encode_text(sp_pipeline *p, const char *const *prompts, int64_t count, int clip_skip,
                             sp_tensor *states)
{
    *states = (sp_tensor){0};
    int64_t length = (int64_t)sp_tokenizer_max_length(p->tokenizer),
            width = p->text_encoder->config.text.width;
    sp_tensor ids = {0};
    int64_t batch = count < SP_TEXT_BATCH ? count : SP_TEXT_BATCH;
    sp_status status = sp_tensor_create(SP_I32, sp_shape_of(batch, length), &ids);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(count, length, width), states);
    char shape[SP_PLAN_SHAPE];
    sp_run *run;
    const text_shape text = {p, batch, clip_skip};
    const sp_plan_use use = text_use(&text, shape);
    if (!status) status = sp_plans_run(&p->plans, &use, &run);
    if (!status) status = encode_batches(p, prompts, count, run, &ids, states);
    sp_tensor_free(&ids);
    if (!p->keeps || status) {
        sp_plans_forget(&p->plans, text_set);
        drop_pages(p->text_encoder);
    }
    if (status) sp_tensor_free(states);
    return status;
}

/* Here the set is made: what another family of models takes is added here. */
static sp_status encode(sp_pipeline *p, const char *const *prompts, int64_t count, int clip_skip, sp_conditioning *out)
{
    sp_tensor states;
    *out = (sp_conditioning){0};
    if (!p->text_encoder)
        return sp_fail(SP_INTERNAL, "the pipeline was opened without its text encoder");
    if (count < 1) return sp_fail(SP_ARGUMENT, "there is no prompt");
    SP_TRY(encode_text(p, prompts, count, clip_skip, &states));
    SP_TRY(sp_conditioning_add(out, "encoder_hidden_states", states));
    sp_status status = sp_conditioning_check_finite(out, "the prompts");
    if (status) sp_conditioning_free(out);
    return status;
}

sp_status sp_pipeline_encode(sp_pipeline *p, const char *const *prompts, int64_t count, sp_conditioning *out)
{
    return encode(p, prompts, count, p->clip_skip, out);
}

sp_status sp_pipeline_encode_negative(sp_pipeline *p, const char *prompt, sp_conditioning *out)
{
    return encode(p, &prompt, 1, 0, out);
}

sp_conditioning sp_pipeline_conditioning(const sp_pipeline *p, int64_t count)
{
    return sp_conditioning_declared(&sp_unet_network, &p->unet_config, count,
                                    (int64_t)sp_tokenizer_max_length(p->tokenizer));
}

/* ---- pictures ---- */

/* *out is new and finite; `what` names it in the message if it is not. */
static sp_status run_vae(sp_pipeline *p, sp_vae_half half, const sp_tensor *in, const char *what,
                         const sp_callbacks *callbacks, sp_tensor *out)
{
    const sp_vae_settings settings = {
        .device = p->device, .precision = p->precision, .tile = p->vae_tile, .plans = &p->plans};
    *out = (sp_tensor){0};
    if (!p->vae) return sp_fail(SP_INTERNAL, "the pipeline was opened without its VAE");
    sp_status status = sp_vae_run_all(p->vae, half, in, &settings, callbacks, out);
    if (!p->keeps || status) {
        sp_vae_plans_forget(&p->plans);
        drop_pages(p->vae);
    }
    SP_TRY(status);
    status = sp_tensor_check_finite(out, what);
    if (status) sp_tensor_free(out);
    return status;
}

sp_status sp_pipeline_plan_vae(sp_pipeline *p, sp_vae_half half, sp_shape in,
                               sp_plan_memory *out)
{
    const sp_vae_settings settings = {
        .device = p->device, .precision = p->precision, .tile = p->vae_tile, .plans = &p->plans};
    return sp_vae_plan_all(p->vae, half, in, &settings, out);
}

sp_status sp_pipeline_pack_vae(sp_pipeline *p, sp_vae_half half, sp_shape in, const sp_callbacks *callbacks)
{
    sp_run *run;
    SP_TRY(sp_vae_plans_run(&p->plans, p->vae, half, in, &run));
    return sp_run_make_weights(run, callbacks);
}

sp_status sp_pipeline_decode(sp_pipeline *p, const sp_tensor *latents,
                             const sp_callbacks *callbacks, sp_tensor *images)
{
    return run_vae(p, SP_VAE_DECODE, latents, "the decoded pictures", callbacks, images);
}

sp_status sp_pipeline_encode_pictures(sp_pipeline *p, const sp_tensor *pictures,
                                      const sp_callbacks *callbacks, sp_tensor *posterior)
{
    return run_vae(p, SP_VAE_POSTERIOR, pictures, "the encoded picture", callbacks, posterior);
}

sp_status sp_pipeline_draw_latents(const sp_pipeline *p, const sp_tensor *posterior,
                                   const sp_noise *noise, int64_t first_sample, int64_t count,
                                   sp_tensor *latents)
{
    const sp_vae_config *config = &p->vae->config.vae;
    sp_shape shape = posterior->shape;
    bool drawn = noise && shape.dim[1] == 2 * config->latent_channels;
    shape.dim[0] = count;
    shape.dim[1] = config->latent_channels;
    SP_TRY(sp_tensor_create(SP_F32, shape, latents));
    int64_t one = sp_tensor_count(latents) / count;
    const float *mean = posterior->data, *logvar = mean + one;
    sp_status status = SP_OK;
    for (int64_t i = 0; i < count && !status; i++) {
        float *z = (float *)latents->data + i * one;
        if (drawn)
            status = noise->draw(noise->context, first_sample + i, SP_NOISE_POSTERIOR, z, one);
        if (!status) sp_vae_draw(config->scaling_factor, mean, drawn ? logvar : NULL, z, one, z);
    }
    if (status) sp_tensor_free(latents);
    return status;
}
