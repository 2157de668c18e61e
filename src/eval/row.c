/* One row: draw, time, decode, score; and a model's errors along the trajectory, each worked out once. */
#include <string.h>
#include "base/inner_callbacks.h"
#include "base/memory.h"
#include "diffusion/map.h"
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
    sp_free(c->known_t);
    sp_free(c->known_error);
    *c = (sp_compared_model){0};
}

/* ---- the trajectory error ---- */

static int find_known(const sp_compared_model *c, double t)
{
    for (int i = 0; i < c->known; i++)
        if (c->known_t[i] == t) return i;
    return -1;
}

/* Room for `more` timesteps beyond those that are known. */
static sp_status make_room(sp_compared_model *c, int more)
{
    size_t old = (size_t)c->known * sizeof(double), size = old + (size_t)more * sizeof(double);
    double *t = sp_realloc(c->known_t, old, size);
    if (!t) return SP_MEMORY;
    c->known_t = t;
    double *error = sp_realloc(c->known_error, old, size);
    if (!error) return SP_MEMORY;
    c->known_error = error;
    return SP_OK;
}

/* error[i] at t[i], evaluated where it is not known yet. */
static sp_status errors_at(sp_compared_model *c, const double *t, int count, const char *task,
                           const sp_callbacks *callbacks, double *error)
{
    const sp_trajectory_error_request request = {
        .guidance = c->guidance, .conditioning = &c->conditioning, .negative = &c->negative, .task = task};
    int more = 0;
    SP_TRY(make_room(c, count));
    for (int i = 0; i < count; i++)
        if (find_known(c, t[i]) < 0) c->known_t[c->known + more++] = t[i];
    if (more)
        SP_TRY(sp_pipeline_trajectory_error(c->pipeline, c->trajectory, &request, c->known_t + c->known, more,
                                            callbacks, c->known_error + c->known));
    c->known += more;
    for (int i = 0; i < count; i++)
        error[i] = c->known_error[find_known(c, t[i])];
    return SP_OK;
}

sp_status sp_compared_model_measure(sp_compared_model *c, const sp_trajectory *trajectory, bool is_teacher,
                                    const char *task, const sp_callbacks *callbacks)
{
    c->trajectory = trajectory;
    c->known = 0;
    memcpy(c->curve.t, trajectory->timestep, sizeof c->curve.t);
    if (is_teacher) {
        SP_TRY(make_room(c, SP_TRAJECTORY_STEPS));
        memcpy(c->known_t, trajectory->timestep, sizeof c->curve.t);
        sp_trajectory_own_error(trajectory, c->known_error);
        c->known = SP_TRAJECTORY_STEPS;
    }
    return errors_at(c, c->curve.t, SP_TRAJECTORY_STEPS, task, callbacks, c->curve.error);
}

/* Where hops of another number of phases lead is no point of the curve. */
static sp_status hop_errors(const sp_compared_model *c, const sp_row_request *r, const double *t, int count,
                            const sp_callbacks *callbacks, double *error)
{
    sp_scheduler_config phases = c->pipeline->scheduler;
    phases.distilled_steps = r->sampler.steps;
    const sp_trajectory_error_request request = {
        .scheduler = &phases, .guidance = c->guidance, .conditioning = &c->conditioning, .negative = &c->negative};
    return sp_pipeline_trajectory_error(c->pipeline, c->trajectory, &request, t, count, callbacks, error);
}

static sp_status score_map(const sp_evaluation *e, sp_compared_model *c, const sp_row_request *r,
                           const sp_callbacks *callbacks, sp_scores *scores)
{
    if (!c->trajectory) return SP_OK;
    sp_sampler sampler;
    const bool otherwise = sp_map_is_otherwise(&c->pipeline->scheduler, &r->sampler);
    SP_TRY(sp_sampler_create(r->scheduler ? r->scheduler : &c->pipeline->scheduler, &r->sampler, &sampler));
    double *t = sp_alloc(2 * (size_t)sampler.count * sizeof *t), *error = t ? t + sampler.count : NULL;
    sp_status status = t ? SP_OK : SP_MEMORY;
    int count = t ? sp_sampler_timesteps(&sampler, t) : 0;
    if (!status)
        status = otherwise ? hop_errors(c, r, t, count, callbacks, error)
                           : errors_at(c, t, count, NULL, callbacks, error);
    if (!status) status = sp_evaluation_score_map(e, &c->curve, error, count, scores);
    sp_free(t);
    sp_sampler_free(&sampler);
    return status;
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
