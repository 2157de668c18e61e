/* The trajectory error of a student while it trains. */
#include "distill/student_error.h"
#include <math.h>
#include "base/inner_callbacks.h"
#include "base/memory.h"
#include "base/random.h"
#include "distill/student_folder.h"
#include "models/guidance.h"
#include "pipeline/model_errors.h"

const int sp_student_error_steps[SP_STUDENT_ERROR_COUNTS] = {1, 2, 4};

/* ---- captions ---- */

sp_status sp_student_error_prompts(const sp_distill_options *o, int64_t count, int64_t *out)
{
    int64_t wanted = o->given.validation_prompts;
    *out = wanted != SPLAM_UNSET ? wanted : count < SP_STUDENT_ERROR_PROMPTS ? count : SP_STUDENT_ERROR_PROMPTS;
    if (*out <= count) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`validation_prompts` is %lld, and %s has %lld training samples", (long long)wanted,
                   o->given.data, (long long)count);
}

size_t sp_student_error_bytes(const sp_latent_facts *facts, const sp_conditioning *conditioning, int64_t prompts)
{
    size_t latent = (size_t)(facts->channels * facts->height * facts->width) * sizeof(float), row = 0;
    for (int i = 0; i < conditioning->count; i++) {
        const sp_shape shape = conditioning->item[i].tensor.shape;
        row += sizeof(float) * (size_t)(sp_shape_count(shape) / shape.dim[0]);
    }
    return (size_t)prompts * ((SP_TRAJECTORY_POINTS + 3) * latent + row);
}

static sp_status take_captions(sp_student_error *e, const sp_distill_feed *feed)
{
    const sp_latent_cache *cache = feed->cache;
    int64_t count = sp_latent_cache_facts(cache)->count, prompts;
    SP_TRY(sp_student_error_prompts(e->options, count, &prompts));
    SP_TRY(sp_conditioning_create(sp_latent_cache_conditioning(cache), SP_F32, prompts, &e->conditioning));
    uint32_t *order = sp_alloc((size_t)count * sizeof *order);
    if (!order) return SP_MEMORY;
    sp_random_permutation((sp_random_key){e->options->given.seed, SP_STREAM_SHUFFLE, 0, 0}, order, (size_t)count);
    sp_status status = SP_OK;
    for (int64_t i = 0; i < prompts && !status; i++)
        status = sp_latent_cache_read(cache, order[i], false, feed->moments, &e->conditioning, i);
    sp_free(order);
    return status;
}

/* ---- making ---- */

static sp_status read_scheduler(sp_student_error *e)
{
    json_t *json = NULL;
    e->scheduler = sp_alloc(sizeof *e->scheduler);
    if (!e->scheduler) return SP_MEMORY;
    sp_status status = sp_student_scheduler(&e->options->objective, &e->teacher->model->folder, &json);
    if (!status) status = sp_scheduler_config_read(json, "the student's scheduler", e->scheduler);
    json_decref(json);
    return status;
}

sp_status sp_student_error_create(const sp_distill_options *o, const sp_distill_feed *feed, sp_pipeline *teacher,
                                  const sp_callbacks *callbacks, sp_student_error *out)
{
    const sp_latent_facts *facts = sp_latent_cache_facts(feed->cache);
    *out = (sp_student_error){.options = o, .teacher = teacher};
    SP_TRY(read_scheduler(out));
    SP_TRY(take_captions(out, feed));
    const sp_trajectory_request request = {.conditioning = &out->conditioning,
                                           .negative = sp_latent_cache_negative(feed->cache),
                                           .height = facts->height,
                                           .width = facts->width,
                                           .seed = o->given.seed,
                                           .guidance_scale_w = o->objective.guidance_scale_w,
                                           .cache = o->given.output,
                                           .task = "teacher's trajectories"};
    sp_status status = sp_trajectory_create(teacher, &request, callbacks, &out->trajectory);
    sp_pipeline_release(teacher);
    return status;
}

void sp_student_error_free(sp_student_error *e)
{
    sp_conditioning_free(&e->conditioning);
    sp_trajectory_free(&e->trajectory);
    sp_free(e->scheduler);
    *e = (sp_student_error){0};
}

/* ---- measuring ---- */

/* The curve's mean, and that of each number of steps that the student samples in. */
static sp_status measure_all(const sp_student_error *e, sp_model_errors *errors, const sp_callbacks *callbacks,
                             sp_student_errors *out)
{
    double curve[SP_TRAJECTORY_STEPS], sum = 0;
    SP_TRY(sp_model_errors_at(errors, e->trajectory.timestep, SP_TRAJECTORY_STEPS, NULL, callbacks, curve));
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++)
        sum += curve[i];
    out->mean = sum / SP_TRAJECTORY_STEPS;
    for (int i = 0; i < SP_STUDENT_ERROR_COUNTS; i++) {
        const sp_sampler_kind kind = sp_sampler_for(e->scheduler);
        const sp_sampler_options sampler = {
            .kind = kind, .steps = sp_student_error_steps[i], .eta = sp_sampler_eta_for(kind)};
        out->at[i] = NAN;
        if (e->scheduler->student != SP_STUDENT_DDIM && sampler.steps > e->options->objective.ddim_timesteps) continue;
        SP_TRY(sp_model_errors_of_sampler(errors, NULL, &sampler, callbacks, &out->at[i]));
    }
    return SP_OK;
}

/* Of the network that the pipeline has now. */
static sp_status measure(const sp_student_error *e, const sp_callbacks *callbacks, sp_student_errors *out)
{
    sp_model_errors errors = {
        .pipeline = e->teacher,
        .trajectory = &e->trajectory,
        .request = {.scheduler = e->scheduler,
                    .guidance = sp_usual_guidance(&e->teacher->facts.guidance),
                    .conditioning = &e->conditioning}};
    sp_status status = measure_all(e, &errors, callbacks, out);
    sp_model_errors_free(&errors);
    return status;
}

sp_status sp_student_error_measure(const sp_student_error *e, const sp_component_config *student,
                                   const sp_weights *weights, const sp_callbacks *callbacks, sp_student_errors *out)
{
    const sp_distill_options *o = e->options;
    const sp_callbacks quiet = sp_without_report(callbacks);
    sp_weights *merged = NULL;
    sp_status status = SP_OK;
    if (o->lora.rank)
        status = sp_lora_merged(e->teacher->device, e->teacher->denoiser->weights, weights, &o->lora, &merged);
    if (!status) status = sp_pipeline_set_denoiser(e->teacher, student, merged ? merged : weights);
    if (!status) status = measure(e, &quiet, out);
    /* The weights will change, and the memory is the next step's. */
    sp_status restored = sp_pipeline_set_denoiser(e->teacher, NULL, NULL);
    sp_weights_destroy(merged);
    return status ? status : restored;
}

json_t *sp_student_errors_json(const sp_student_errors *errors)
{
    json_t *at = json_object();
    bool set = at != NULL;
    for (int i = 0; i < SP_STUDENT_ERROR_COUNTS; i++) {
        char steps[16];
        snprintf(steps, sizeof steps, "%d", sp_student_error_steps[i]);
        if (isfinite(errors->at[i])) set &= json_object_set_new(at, steps, json_real(errors->at[i])) == 0;
    }
    json_t *json = set ? json_pack("{s:f, s:O}", "trajectory_error_mean", errors->mean, "trajectory_error", at) : NULL;
    json_decref(at);
    return json;
}
