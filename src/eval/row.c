/* One row: draw, time, decode, score; and a model's errors along the trajectory, each worked out once. */
#include <string.h>
#include "base/inner_callbacks.h"
#include "eval/evaluation.h"
#include "pipeline/vae_run.h"

sp_status sp_compared_model_create(const sp_evaluation *e, sp_pipeline *pipeline, sp_compared_model *out)
{
    int64_t size = sp_dataset_resolution(e->dataset);
    int64_t factor = pipeline->vae->config.vae.factor;
    *out = (sp_compared_model){
        .pipeline = pipeline, .height = size / factor, .width = size / factor, .guidance = 1};
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
    sp_model_errors_free(&c->errors);
    *c = (sp_compared_model){0};
}

/* ---- the trajectory error ---- */

sp_status sp_compared_model_measure(sp_compared_model *c, const sp_trajectory *trajectory, bool is_teacher,
                                    const char *task, const sp_callbacks *callbacks)
{
    sp_model_errors_free(&c->errors);
    c->errors = (sp_model_errors){
        .pipeline = c->pipeline,
        .trajectory = trajectory,
        .request = {.guidance = c->guidance, .conditioning = &c->conditioning, .negative = &c->negative}};
    memcpy(c->curve.t, trajectory->timestep, sizeof c->curve.t);
    if (is_teacher) {
        sp_trajectory_own_error(trajectory, c->curve.error);
        SP_TRY(sp_model_errors_add(&c->errors, c->curve.t, c->curve.error, SP_TRAJECTORY_STEPS));
    }
    return sp_model_errors_at(&c->errors, c->curve.t, SP_TRAJECTORY_STEPS, task, callbacks, c->curve.error);
}

static sp_status score_map(const sp_evaluation *e, sp_compared_model *c, const sp_row_request *r,
                           const sp_callbacks *callbacks, sp_scores *scores)
{
    double own;
    if (!c->errors.trajectory) return SP_OK;
    SP_TRY(sp_model_errors_of_sampler(&c->errors, r->scheduler, &r->sampler, callbacks, &own));
    return sp_evaluation_score_map(e, &c->curve, own, scores);
}

/* ---- the row ---- */

static sp_status draw(const sp_compared_model *c, const sp_row_request *r, const sp_callbacks *callbacks,
                      sp_tensor *latents)
{
    sp_philox_noise noise = {r->seed};
    sp_renamed_task name = {callbacks, r->task};
    const sp_callbacks shown = sp_rename_task(&name);
    const sp_denoise_request request = {
        .sampler = r->sampler,
        .scheduler = r->scheduler,
        .guidance = c->guidance,
        .conditioning = &c->conditioning,
        .negative = &c->negative,
        .height = c->height,
        .width = c->width,
        .noise = sp_noise_philox(&noise),
    };
    return sp_pipeline_denoise(c->pipeline, &request, &shown, latents);
}

sp_status sp_evaluation_row_of(const sp_evaluation *e, const sp_compared_model *c,
                               const sp_tensor *latents, double seconds,
                               const sp_callbacks *callbacks, sp_row *row, sp_tensor *images)
{
    sp_callbacks quiet = sp_without_report(callbacks);
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

sp_status sp_evaluation_row(const sp_evaluation *e, sp_compared_model *c, const sp_row_request *r,
                            const sp_callbacks *callbacks, sp_row *row, sp_tensor *images)
{
    sp_tensor latents;
    *row = (sp_row){.model = r->model,
                    .sampler = sp_sampler_name(r->sampler.kind),
                    .steps = r->sampler.steps,
                    .scores = sp_scores_none()};
    double began = sp_now();
    SP_TRY(draw(c, r, callbacks, &latents));
    double seconds = sp_now() - began;
    sp_status status = score_map(e, c, r, callbacks, &row->scores);
    if (!status) status = sp_evaluation_row_of(e, c, &latents, seconds, callbacks, row, images);
    sp_tensor_free(&latents);
    return status;
}
