/* A model at work: prompts to a conditioning, latents to pictures, and what is kept between calls. */
#include "pipeline/pipeline.h"
#include <string.h>
#include "base/memory.h"
#include "pipeline/text_run.h"
#include "pipeline/vae_run.h"

/* ---- models ---- */

/* The model's parts as they are now. */
static void look_at(sp_pipeline *p)
{
    p->denoiser = p->model->denoiser;
    p->vae = p->model->vae;
    p->text = p->model->text;
    p->text_count = p->model->text_count;
}

sp_status sp_pipeline_create(const sp_model *model, sp_pipeline **out)
{
    *out = NULL;
    sp_pipeline *p = sp_alloc_zero(sizeof *p);
    if (!p) return SP_MEMORY;
    p->model = model;
    p->device = model->device;
    p->precision = model->precision;
    p->chunks = 1;
    p->scheduler = model->scheduler;
    p->plans = (sp_plans){.device = model->device, .precision = model->precision, .most = 1};
    look_at(p);
    sp_status status = p->denoiser ? sp_pipeline_set_denoiser(p, NULL, NULL) : SP_OK;
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

sp_status sp_pipeline_set_denoiser(sp_pipeline *p, const sp_component_config *config, const sp_weights *weights)
{
    if (!weights && !p->denoiser)
        return sp_fail(SP_INTERNAL, "the pipeline was opened without its denoiser");
    const sp_component_config *chosen = weights ? config : &p->denoiser->config;
    const sp_denoiser facts = sp_denoiser_of(chosen);
    SP_TRY(sp_model_check_denoiser(p->model, &facts));
    sp_pipeline_release(p);
    p->denoiser_config = *chosen;
    p->facts = sp_denoiser_of(&p->denoiser_config);
    p->denoiser_weights = weights ? weights : p->denoiser->weights;
    return SP_OK;
}

sp_status sp_pipeline_set_clip_skip(sp_pipeline *p, int layers)
{
    int64_t most = sp_text_most_skipped(p);
    if (layers < 0 || layers > most)
        return sp_fail(SP_ARGUMENT, "`clip_skip` is %d, and must lie in 0..%lld for this text encoder", layers,
                       (long long)most);
    p->clip_skip = layers;
    return SP_OK;
}

void sp_pipeline_set_syntax(sp_pipeline *p, sp_prompt_syntax syntax, int64_t chunks)
{
    p->syntax = syntax;
    p->chunks = chunks;
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
    if (parts & SP_PART_TEXT) sp_text_forget(p);
    sp_model_close_parts(p->owned, parts);
    look_at(p);
}

void sp_pipeline_release(sp_pipeline *p)
{
    sp_plans_forget(&p->plans, "unet");
    p->denoiser_run = NULL;
    if (p->denoiser) sp_component_drop_pages(p->denoiser);
}

void sp_pipeline_set_alone(sp_pipeline *p, bool alone)
{
    p->alone = alone;
}

void sp_pipeline_keep(sp_pipeline *p, bool keep)
{
    p->keeps = keep;
}

/* ---- pictures ---- */

/* Why what the autoencoder makes of `in` is not finite, as far as it can be seen. f32 and bf16, in which it computes,
 * have the same range, so half precision's overflow is not it. */
static sp_status blame_vae(const sp_pipeline *p, const sp_tensor *in, const sp_tensor *out, const char *what)
{
    const sp_weights *weights = p->vae->weights;
    const char *folder = p->vae->folder;
    SP_TRY(sp_tensor_check_finite(in, "what the autoencoder is given"));
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        sp_status status = sp_tensor_check_finite(sp_weights_at((sp_weights *)(uintptr_t)weights, i),
                                                  sp_weights_name(weights, i));
        if (status)
            return sp_fail_within(status, "%s: the autoencoder's weights are damaged, and `vae` can name others",
                                  folder);
    }
    sp_status status = sp_tensor_check_finite(out, what);
    return sp_fail_within(status, "%s: the autoencoder's sums are too large for f32, though its weights are finite: "
                          "they may be damaged, and `vae` can name others", folder);
}

static sp_vae_settings settings_of(sp_pipeline *p)
{
    return (sp_vae_settings){.device = p->device,
                             .precision = p->precision,
                             .tile = p->vae_tile,
                             .alone = p->alone,
                             .plans = &p->plans};
}

/* *out is new and finite; `what` names it in the message if it is not. */
static sp_status run_vae(sp_pipeline *p, sp_vae_half half, const sp_tensor *in, const char *what,
                         const sp_callbacks *callbacks, sp_tensor *out)
{
    const sp_vae_settings settings = settings_of(p);
    *out = (sp_tensor){0};
    if (!p->vae) return sp_fail(SP_INTERNAL, "the pipeline was opened without its VAE");
    sp_status status = sp_vae_run_all(p->vae, half, in, &settings, callbacks, out);
    if (!p->keeps || status) {
        sp_vae_plans_forget(&p->plans);
        sp_component_drop_pages(p->vae);
    }
    SP_TRY(status);
    if (sp_tensor_check_finite(out, what)) status = blame_vae(p, in, out, what);
    if (status) sp_tensor_free(out);
    return status;
}

sp_status sp_pipeline_plan_vae(sp_pipeline *p, sp_vae_half half, sp_shape in,
                               sp_plan_memory *out)
{
    const sp_vae_settings settings = settings_of(p);
    return sp_vae_plan_all(p->vae, half, in, &settings, out);
}

sp_status sp_pipeline_pack_vae(sp_pipeline *p, sp_vae_half half, sp_shape in, const sp_callbacks *callbacks)
{
    sp_run *run;
    SP_TRY(sp_vae_plans_run(&p->plans, p->vae, half, in, p->alone, &run));
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
    const sp_latent_scale scale = {config->scaling_factor, config->shift_factor};
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
        if (!status) sp_vae_draw(scale, mean, drawn ? logvar : NULL, z, one, z);
    }
    if (status) sp_tensor_free(latents);
    return status;
}
