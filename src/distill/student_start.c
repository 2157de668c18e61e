/* The weights that a student starts from. */
#include "distill/student_start.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoints/fold_guidance.h"
#include "models/initialize.h"

/* Adapters that change nothing, or those of a file. */
static sp_status make_adapters(const sp_distill_options *o, const sp_component_config *student, sp_weights **out)
{
    sp_lora *lora;
    SP_TRY(sp_lora_check_guidance(student));
    SP_TRY(sp_lora_create(student, &o->lora, o->given.seed, o->random_cond_proj, out));
    if (!o->given.lora_start) return SP_OK;
    SP_TRY(sp_lora_open(o->given.lora_start, &lora));
    sp_status status = sp_lora_start(lora, &o->lora, *out);
    sp_lora_close(lora);
    return status;
}

/* ---- from a student ---- */

/* The first key of their configs by which a network is another one than the teacher. Any size runs, and cond_proj is
 * the students' matter. */
static sp_status check_config(const char *where, sp_component_config start, const sp_component_config *teacher)
{
    if (start.kind == SP_COMPONENT_UNET) {
        start.unet.time_cond_dim = teacher->unet.time_cond_dim;
        start.unet.guidance = teacher->unet.guidance;
        start.unet.sample_size = teacher->unet.sample_size;
    } else {
        start.transformer.sample_size = teacher->transformer.sample_size;
    }
    json_t *found = sp_component_config_write(&start), *wanted = sp_component_config_write(teacher), *value;
    const char *key;
    sp_status status = found && wanted ? SP_OK : SP_MEMORY;
    json_object_foreach(wanted, key, value)
    {
        if (status || json_equal(value, json_object_get(found, key))) continue;
        char a[64], b[64];
        sp_json_brief(json_object_get(found, key), a, sizeof a);
        sp_json_brief(value, b, sizeof b);
        status = sp_fail(SP_ARGUMENT, "`student_start` %s has a %s of \"%s\" %s, and the teacher's is %s", where,
                         sp_denoiser_of(&start).name, key, a, b);
    }
    json_decref(found);
    json_decref(wanted);
    return status;
}

/* What a denoiser predicts stands in its model's scheduler; its own folder does not say it. */
static sp_status check_prediction(const sp_distill_options *o, const sp_path *teacher)
{
    sp_model_folder folder;
    sp_scheduler_config *config = sp_alloc(sizeof *config);
    if (!config) return SP_MEMORY;
    sp_status status = sp_model_folder_open(o->given.student_start, &folder);
    if (!status) {
        folder.prediction = folder.single ? o->given.prediction_type : NULL;
        bool says = sp_model_folder_has(&folder, "scheduler");
        if (says) status = sp_scheduler_config_of(&folder, NULL, config);
        if (!status && says && config->path.prediction != teacher->prediction)
            status = sp_fail(SP_ARGUMENT, "`student_start` %s predicts %s, and the teacher %s", o->given.student_start,
                             sp_prediction_name(config->path.prediction), sp_prediction_name(teacher->prediction));
        sp_model_folder_close(&folder);
    }
    sp_free(config);
    return status;
}

/* A start that is told its guidance becomes one of this run's. */
static double fold_at(const sp_distill_options *o, const sp_denoiser *start)
{
    return start->guidance.high > 0 ? o->objective.guidance_scale_w + 1 : 1;
}

/* Both have a cond_proj, which is told the same thing. */
static sp_status check_told(const char *where, const sp_denoiser *start, const sp_denoiser *student)
{
    if (start->guidance.high <= 0 || student->guidance.high > 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`student_start` %s is told its guidance by cond_proj, and this student gamma", where);
}

static sp_status fit_told(const sp_distill_options *o, sp_component *start, const sp_component_config *config)
{
    const sp_denoiser student = sp_denoiser_of(config), own = sp_denoiser_of(&start->config);
    if (!own.time_cond_dim) return SP_OK;
    if (!student.time_cond_dim) return sp_fold_guidance(start, fold_at(o, &own));
    SP_TRY(check_told(o->given.student_start, &own, &student));
    if (own.time_cond_dim == student.time_cond_dim) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`student_start` %s has time_cond_proj_dim %lld, and this student's is %lld",
                   o->given.student_start, (long long)own.time_cond_dim, (long long)student.time_cond_dim);
}

static sp_status open_start(const sp_distill_options *o, const sp_pipeline *teacher, const sp_component_config *student,
                            sp_component **out)
{
    SP_TRY(check_prediction(o, &teacher->scheduler.path));
    SP_TRY(sp_component_open_as(o->given.student_start, sp_component_folder_name(student->kind),
                                o->given.prediction_type, out));
    sp_status status = check_config(o->given.student_start, (*out)->config, student);
    if (!status) status = fit_told(o, *out, student);
    if (!status) return SP_OK;
    sp_component_close(*out);
    *out = NULL;
    return status;
}

static sp_status copy_start(const sp_distill_options *o, const sp_pipeline *teacher, const sp_component_config *student,
                            sp_weights **out)
{
    sp_component *start = NULL;
    if (!o->given.student_start) return sp_weights_copy(teacher->denoiser->weights, SP_F32, out);
    SP_TRY(open_start(o, teacher, student, &start));
    sp_status status = sp_weights_copy(start->weights, SP_F32, out);
    sp_component_close(start);
    return status;
}

sp_status sp_fake_score_start(const sp_distill_options *o, const sp_pipeline *teacher, sp_weights **out)
{
    if (!o->lora.rank) return sp_weights_copy(teacher->denoiser->weights, SP_F32, out);
    return sp_lora_create(&teacher->denoiser->config, &o->lora, o->given.seed, false, out);
}

sp_status sp_student_start_check(const sp_distill_options *o, const sp_pipeline *teacher,
                                 const sp_component_config *student)
{
    sp_component *start = NULL;
    if (!o->given.student_start) return SP_OK;
    SP_TRY(open_start(o, teacher, student, &start));
    const sp_denoiser own = sp_denoiser_of(&start->config);
    if (own.time_cond_dim && own.guidance.high <= 0 && sp_denoiser_of(student).guidance.high > 0)
        sp_log_warn("%s does not say what its cond_proj is told, and it is taken to be guidance",
                    o->given.student_start);
    sp_component_close(start);
    return SP_OK;
}

sp_status sp_student_start(const sp_distill_options *o, const sp_pipeline *teacher, const sp_component_config *student,
                           sp_weights **out)
{
    if (o->lora.rank) return make_adapters(o, student, out);
    SP_TRY(copy_start(o, teacher, student, out));
    sp_graph *graph;
    SP_TRY(sp_component_graph(student, &graph));
    const sp_initialize_options initialize = {.seed = o->given.seed,
                                              .zero = {o->random_cond_proj ? NULL : "cond_proj"}};
    sp_status status = sp_initialize(graph, "", &initialize, *out);
    sp_graph_destroy(graph);
    return status;
}
