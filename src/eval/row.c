/* One row: draw, time, decode, score. */
#include "eval/evaluation.h"
#include "eval/task_name.h"
#include "pipeline/vae_run.h"

sp_status sp_compared_model_create(const sp_evaluation *e, sp_pipeline *pipeline, sp_compared_model *out)
{
    int64_t size = sp_dataset_resolution(e->dataset);
    int64_t factor = pipeline->vae->config.vae.factor;
    *out = (sp_compared_model){.pipeline = pipeline, .height = size / factor, .width = size / factor};
    if (size % factor)
        return sp_fail(SP_SHAPE, "%s makes sides of a multiple of %lld pixels, and %s has %lld",
                       pipeline->model->folder.path, (long long)factor, sp_dataset_spec(e->dataset),
                       (long long)size);
    sp_status status = sp_pipeline_encode(pipeline, e->prompt, e->count, &out->conditioning);
    if (!status) status = sp_pipeline_encode_negative(pipeline, "", &out->negative);
    if (status) sp_compared_model_free(out);
    return status;
}

void sp_compared_model_free(sp_compared_model *c)
{
    sp_conditioning_free(&c->conditioning);
    sp_conditioning_free(&c->negative);
    *c = (sp_compared_model){0};
}

/* What comes after the drawing is short: it can be stopped, and does not show. */
static sp_callbacks silent(const sp_callbacks *callbacks)
{
    return callbacks ? (sp_callbacks){callbacks->context, NULL, callbacks->cancelled}
                     : (sp_callbacks){0};
}

static sp_status draw(const sp_compared_model *c, const sp_row_request *r, bool deterministic,
                      const sp_callbacks *callbacks, sp_tensor *latents)
{
    sp_philox_noise noise = {r->seed};
    sp_renamed_task name = {callbacks, r->task};
    const sp_callbacks shown = sp_rename_task(&name);
    sp_denoise_request request = {
        .sampler = r->sampler,
        .scheduler = r->scheduler,
        .guidance = r->guidance,
        .conditioning = &c->conditioning,
        .negative = &c->negative,
        .height = c->height,
        .width = c->width,
        .noise = sp_noise_philox(&noise),
    };
    request.sampler.deterministic = deterministic;
    return sp_pipeline_denoise(c->pipeline, &request, &shown, latents);
}

sp_status sp_evaluation_row_of(const sp_evaluation *e, const sp_compared_model *c,
                               const sp_tensor *latents, double seconds,
                               const sp_callbacks *callbacks, sp_row *row, sp_tensor *images)
{
    sp_callbacks quiet = silent(callbacks);
    sp_tensor decoded;
    double began = sp_now();
    SP_TRY(sp_pipeline_decode(c->pipeline, latents, &quiet, &decoded));
    row->seconds_per_image = (seconds + sp_now() - began) / (double)e->count;
    sp_status status = sp_evaluation_score_images(e, &decoded, &quiet, &row->scores);
    if (!status && images)
        *images = decoded;
    else
        sp_tensor_free(&decoded);
    return status;
}

/* Metrics of latents are of the deterministic chain. */
static sp_status score_chain(const sp_evaluation *e, const sp_compared_model *c, const sp_row_request *r,
                             const sp_callbacks *callbacks, const sp_tensor *latents, sp_scores *scores)
{
    if (!r->references) return SP_OK;
    if (!sp_sampler_draws(&r->sampler)) return sp_evaluation_score_latents(e, latents, r->references, scores);
    sp_tensor chain;
    SP_TRY(draw(c, r, true, callbacks, &chain));
    sp_status status = sp_evaluation_score_latents(e, &chain, r->references, scores);
    sp_tensor_free(&chain);
    return status;
}

sp_status sp_evaluation_row(const sp_evaluation *e, const sp_compared_model *c, const sp_row_request *r,
                            const sp_callbacks *callbacks, sp_row *row, sp_tensor *images)
{
    sp_tensor latents;
    *row = (sp_row){.model = r->model,
                    .sampler = sp_sampler_name(r->sampler.kind),
                    .steps = r->sampler.steps,
                    .scores = sp_scores_none()};
    double began = sp_now();
    SP_TRY(draw(c, r, r->sampler.deterministic, callbacks, &latents));
    double seconds = sp_now() - began;
    sp_status status = score_chain(e, c, r, callbacks, &latents, &row->scores);
    if (!status) status = sp_evaluation_row_of(e, c, &latents, seconds, callbacks, row, images);
    sp_tensor_free(&latents);
    return status;
}
