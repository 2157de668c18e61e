/* Models, one after the other, on the same prompts and noise. */
#include <math.h>
#include <string.h>
#include "report/evaluate.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/file.h"
#include "base/memory.h"
#include "report/results.h"
#include "checkpoints/student_file.h"
#include "models/vae.h"

typedef struct {
    const splam_eval_options *o;
    sp_device *device;
    sp_callbacks callbacks;
    double began;
    sp_metric_set metrics;
    double guidance_scale_w; /* NaN: nobody said */
    sp_pipeline *evaluator; /* the teacher, or else the first model; open to the end */
    sp_dataset *dataset;
    sp_evaluation *evaluation;
    sp_trajectory trajectory;
    sp_results *results;
    sp_claim claim; /* of the output */
} evaluation_run;

/* ---- what is asked for ---- */

/* The guidance that a student was distilled with; left alone if its folder does not say. */
static sp_status read_guidance(const char *model, double *out)
{
    sp_student_file file;
    SP_TRY(sp_student_file_read(model, &file));
    if (isfinite(file.guidance_scale_w)) *out = file.guidance_scale_w;
    sp_student_file_free(&file);
    return SP_OK;
}

/* The first metric asked for that compares with the teacher; NULL if none does. */
static const sp_metric *needs_teacher(const evaluation_run *r)
{
    sp_metric_set rest = r->metrics & ~sp_metrics_of_real_pictures();
    return rest ? sp_metric_at(__builtin_ctz(rest)) : NULL;
}

static sp_status check(evaluation_run *r)
{
    const splam_eval_options *o = r->o;
    r->metrics = o->teacher ? sp_metrics_all() : sp_metrics_of_real_pictures();
    if (o->metrics) SP_TRY(sp_metrics_parse(o->metrics, &r->metrics));
    r->guidance_scale_w = NAN;
    if (o->guidance_scale_w != (double)SPLAM_UNSET) r->guidance_scale_w = o->guidance_scale_w;
    for (size_t i = 0; i < o->model_count && !isfinite(r->guidance_scale_w); i++)
        SP_TRY(read_guidance(o->models[i], &r->guidance_scale_w));
    const sp_metric *needing = needs_teacher(r);
    if (!needing) return SP_OK;
    if (!o->teacher) return sp_fail(SP_ARGUMENT, "`teacher` is missing: %s needs its folder", needing->name);
    if (!isfinite(r->guidance_scale_w))
        return sp_fail(SP_ARGUMENT,
                       "%s needs `guidance_scale_w`: no model's splam.json says which it was distilled with",
                       needing->name);
    return SP_OK;
}

static sp_status open_model(const evaluation_run *r, const char *folder, const char *unet,
                            sp_pipeline **out)
{
    const sp_model_options options = {.unet = unet, .device = r->device,
                                         .precision = sp_precision_dtype(r->device, r->o->precision),
                                         .callbacks = &r->callbacks};
    return sp_pipeline_open(folder, &options, out);
}

static sp_status open_evaluator(evaluation_run *r)
{
    const splam_eval_options *o = r->o;
    SP_TRY(open_model(r, o->teacher ? o->teacher : o->models[0], o->teacher ? NULL : o->unet,
                      &r->evaluator));
    sp_dataset_options data = {.resolution = o->resolution == SPLAM_UNSET ? 0 : (int)o->resolution,
                               .caption_column = o->caption_column};
    if (!data.resolution)
        data.resolution =
            (int)(r->evaluator->unet_config.sample_size * r->evaluator->vae->config.vae.factor);
    SP_TRY(sp_dataset_open(o->data, &data, &r->callbacks, &r->dataset));
    int64_t all = sp_dataset_count(r->dataset);
    const sp_evaluation_options options = {
        .count = o->count != SPLAM_UNSET ? o->count : all < 128 ? all : 128,
        .seed = o->seed,
        .metrics = r->metrics,
    };
    return sp_evaluation_create(r->dataset, r->evaluator->vae, r->device, &options,
                                &r->callbacks, &r->evaluation);
}

/* ---- rows ---- */

static sp_status teacher_row(evaluation_run *r)
{
    sp_compared_model teacher;
    const sp_teacher_request request = {
        .seed = r->o->seed, .guidance_scale_w = r->guidance_scale_w, .cache = r->o->output};
    SP_TRY(sp_compared_model_create(r->evaluation, r->evaluator, &teacher));
    sp_status status = sp_results_add_teacher(r->results, &teacher, &request, &r->callbacks, &r->trajectory);
    sp_compared_model_free(&teacher);
    return status;
}

/* "student" of "runs/student/". */
static char *model_name(const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && folder[begin - 1] != '/')
        begin--;
    return sp_format("%.*s", (int)(length - begin), folder + begin);
}

/* The one asked for, or the model's own. */
static sp_status choose_sampler(const evaluation_run *r, const sp_scheduler_config *scheduler,
                                sp_sampler_options *out)
{
    *out = (sp_sampler_options){.kind = sp_sampler_for(scheduler), .eta = sp_default_eta};
    if (r->o->sampler) SP_TRY(sp_sampler_kind_of(r->o->sampler, &out->kind));
    return sp_sampler_check(scheduler, out);
}

static sp_status model_row(evaluation_run *r, sp_compared_model *compared, const char *name,
                           const sp_sampler_options *sampler, int steps)
{
    sp_row_request request = {.model = name, .sampler = *sampler, .seed = r->o->seed};
    request.sampler.steps = steps;
    char *task = sp_format("%s, %s, %d step%s", name, sp_sampler_name(request.sampler.kind), steps,
                           steps == 1 ? "" : "s");
    if (!task) return SP_MEMORY;
    request.task = task;
    sp_status status = sp_results_add(r->results, compared, &request, &r->callbacks);
    sp_free(task);
    return status;
}

/* The model, measured along the trajectory if there is one. */
static sp_status compare_model(evaluation_run *r, sp_pipeline *pipeline, const char *name, sp_compared_model *out)
{
    SP_TRY(sp_compared_model_create(r->evaluation, pipeline, out));
    if (!pipeline->scheduler.student) out->guidance = isfinite(r->guidance_scale_w) ? r->guidance_scale_w + 1 : 7.5;
    if (!r->trajectory.points.data) return SP_OK;
    return sp_results_measure(r->results, out, name, &r->trajectory, &r->callbacks);
}

static sp_status model_rows(evaluation_run *r, const char *folder)
{
    static const int64_t usual[] = {1, 2, 4};
    const int64_t *steps = r->o->step_count ? r->o->steps : usual;
    size_t count = r->o->step_count ? r->o->step_count : 3;
    sp_pipeline *pipeline = NULL;
    sp_compared_model compared = {0};
    sp_sampler_options sampler;
    char *name = model_name(folder);
    sp_status status = name ? open_model(r, folder, r->o->unet, &pipeline) : SP_MEMORY;
    if (!status) status = choose_sampler(r, &pipeline->scheduler, &sampler);
    if (!status) status = compare_model(r, pipeline, name, &compared);
    for (size_t i = 0; i < count && !status; i++)
        status = steps[i] >= 1 && steps[i] <= SP_MAX_TIMESTEPS
                     ? model_row(r, &compared, name, &sampler, (int)steps[i])
                     : sp_fail(SP_ARGUMENT, "%lld steps are not possible", (long long)steps[i]);
    sp_compared_model_free(&compared);
    sp_pipeline_close(pipeline);
    sp_free(name);
    return status;
}

/* ---- the whole ---- */

static sp_status evaluate(evaluation_run *r, char **table)
{
    const splam_eval_options *o = r->o;
    SP_TRY(check(r));
    SP_TRY(sp_results_claim(o->output, &r->claim));
    SP_TRY(open_evaluator(r));
    SP_TRY(sp_results_create(r->evaluation, &r->results));
    if (needs_teacher(r)) SP_TRY(teacher_row(r));
    for (size_t i = 0; i < o->model_count; i++)
        SP_TRY(model_rows(r, o->models[i]));
    const sp_evaluation_report report = {
        .title = "splam: an evaluation",
        .summary = "The same captions drawn from the same noise by every model.",
        .guidance_scale_w = r->trajectory.points.data ? r->guidance_scale_w : NAN,
        .seed = o->seed,
        .version = SPLAM_VERSION,
    };
    return sp_results_save(r->results, o->output, report, r->began, table);
}

sp_status sp_evaluate(const splam_eval_options *o, const sp_callbacks *callbacks, char **table)
{
    evaluation_run r = {.o = o, .callbacks = callbacks ? *callbacks : (sp_callbacks){0}, .began = sp_now()};
    sp_status status = sp_device_of(o->device, &r.device);
    if (!status) status = evaluate(&r, table);
    sp_results_destroy(r.results);
    sp_trajectory_free(&r.trajectory);
    sp_evaluation_destroy(r.evaluation);
    sp_dataset_close(r.dataset);
    sp_pipeline_close(r.evaluator);
    sp_claim_end(&r.claim);
    return status;
}
