/* The whole story in one call. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "recipes/demo.h"
#include "recipes/demo_settings.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "checkpoints/student_file.h"
#include "distill/distill.h"
#include "report/results.h"
#include "train/distributed.h"

typedef struct {
    const splam_demo_options *o;
    sp_device *device;
    sp_callbacks callbacks;
    double began;
    char *teacher_folder;
    int resolution;
    sp_pipeline *teacher;
    sp_dataset *dataset;
    sp_latent_cache *encoded; /* what both students are trained on */
    char *sub_paths;          /* a file: where the teacher's sub-paths end, for both */
    sp_evaluation *evaluation;
    sp_compared_model compared; /* the teacher's */
    sp_trajectory trajectory;
    sp_results *results;
    sp_loss_curve loss[SP_DEMO_METHODS];
    json_t *settings; /* of both students */
    sp_claim claim;   /* of the output */
} demo;

/* ---- where the teacher is ---- */

/* The folder of the running program, without a slash at its end. */
static sp_status program_folder(char *out, size_t capacity)
{
    ssize_t length = readlink("/proc/self/exe", out, capacity - 1);
    if (length < 0) length = 0;
    out[length] = 0;
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
    return slash ? SP_OK : sp_fail(SP_IO, "the program's own folder is not known");
}

/* SPLAM_ASSETS, then beside the program: in the source tree that it was built in, or installed. */
static sp_status find_teacher(demo *d)
{
    if (d->o->teacher) {
        d->teacher_folder = sp_strdup(d->o->teacher);
        return d->teacher_folder ? SP_OK : SP_MEMORY;
    }
    static const char *const places[] = {"%s/../../assets/teacher", "%s/../assets/teacher",
                                         "%s/../share/splam/teacher"};
    const char *given = getenv("SPLAM_ASSETS");
    if (given) {
        d->teacher_folder = sp_path_join(given, "teacher");
        return d->teacher_folder ? SP_OK : SP_MEMORY;
    }
    char program[4096];
    SP_TRY(program_folder(program, sizeof program));
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *path = sp_format(places[i], program);
        if (!path) return SP_MEMORY;
        if (sp_path_is_folder(path)) {
            d->teacher_folder = path;
            return SP_OK;
        }
        sp_free(path);
    }
    return sp_fail(SP_IO, "the demo's teacher was not found beside the program; name it, or set "
                          "SPLAM_ASSETS to the folder that has teacher/ in it");
}

/* ---- making ready ---- */

static sp_status claim_output(demo *d)
{
    SP_TRY(sp_results_claim(d->o->output, &d->claim));
    for (int i = 0; i < SP_DEMO_METHODS; i++) { /* they are claimed when they are distilled */
        char *folder = sp_path_join(d->o->output, sp_demo_methods[i].folder);
        sp_status status = folder ? sp_check_output_folder(folder, NULL) : SP_MEMORY;
        sp_free(folder);
        SP_TRY(status);
    }
    return SP_OK;
}

static sp_status prepare(demo *d)
{
    SP_TRY(find_teacher(d));
    SP_TRY(claim_output(d));
    const sp_model_options options = {.device = d->device, .precision = sp_precision_dtype(d->device, d->o->precision)};
    SP_TRY(sp_pipeline_open(d->teacher_folder, &options, &d->teacher));
    d->resolution = (int)(d->teacher->facts.sample_size * d->teacher->vae->config.vae.factor);
    const sp_dataset_options data = {.resolution = d->resolution};
    SP_TRY(sp_dataset_open(d->o->data, &data, &d->callbacks, &d->dataset));
    int64_t all = sp_dataset_count(d->dataset), count = SP_DEMO_PROMPTS;
    const sp_evaluation_options evaluation = {
        .count = d->o->count != SPLAM_UNSET ? d->o->count : count < all ? count : all,
        .seed = d->o->seed,
        .metrics = sp_metrics_all(),
        .wanted = sp_demo_prompts,
        .wanted_count = SP_DEMO_SHEET_PROMPTS,
    };
    SP_TRY(sp_evaluation_create(d->dataset, d->teacher->vae, d->device, &evaluation,
                                &d->callbacks, &d->evaluation));
    SP_TRY(sp_compared_model_create(d->evaluation, d->teacher, &d->compared));
    d->settings = json_object();
    return d->settings ? sp_results_create(d->evaluation, NULL, &d->results) : SP_MEMORY;
}

/* ---- distilling ---- */

static splam_distill_options distill_options(const demo *d, const sp_demo_method *method, const char *folder)
{
    splam_distill_options o = splam_distill_defaults();
    o.teacher = d->teacher_folder;
    o.data = d->o->data;
    o.output = folder;
    o.objective = method->name;
    o.sigma = method->sigma;
    o.gamma_conditioning = method->gamma_conditioning;
    o.gamma_one_probability = method->gamma_one_probability;
    o.gamma_power = method->gamma_power;
    o.guidance_scale_w = sp_demo_guidance_scale_w;
    o.skip = method->skip;
    o.solver_steps = method->solver_steps;
    o.max_train_steps = d->o->max_train_steps != SPLAM_UNSET ? d->o->max_train_steps : SP_DEMO_TRAIN_STEPS;
    o.train_batch_size = SP_DEMO_BATCH;
    o.learning_rate = method->learning_rate;
    o.lr_scheduler = sp_demo_lr_scheduler;
    o.ema_decay = method->ema_decay;
    o.pictures.resolution = d->resolution;
    o.device = d->o->device;
    o.precision = d->o->precision;
    o.checkpointing_steps = 0;
    o.sub_paths = d->sub_paths;
    o.seed = d->o->seed;
    return o;
}

/* What the student's own splam.json says, for the report. */
static sp_status keep_settings(demo *d, const sp_demo_method *method, const char *folder,
                               int64_t steps)
{
    sp_student_file file;
    SP_TRY(sp_student_file_read(folder, &file));
    sp_status status = SP_OK;
    if (json_object_set_new(file.json, "max-train-steps", json_integer(steps)) ||
        json_object_set(d->settings, method->name, file.json))
        status = SP_MEMORY;
    sp_student_file_free(&file);
    return status;
}

/* A demo always begins anew, and when it is done there is nothing left to resume. */
static sp_status drop_checkpoints(const char *folder)
{
    char **names = NULL;
    size_t count = 0;
    sp_status status = sp_path_is_folder(folder) ? sp_list_folder(folder, &names, &count) : SP_OK;
    for (size_t i = 0; i < count; i++) {
        char *path = sp_path_join(folder, names[i]);
        if (!status && !path) status = SP_MEMORY;
        if (!status && sp_starts_with(names[i], "checkpoint-")) status = sp_remove_tree(path);
        sp_free(path);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

static sp_status distil(demo *d, int index)
{
    const sp_demo_method *method = &sp_demo_methods[index];
    char *folder = sp_path_join(d->o->output, method->folder);
    if (!folder) return SP_MEMORY;
    const splam_distill_options options = distill_options(d, method, folder);
    sp_distill_options own;
    sp_status status = sp_distill_options_of(&options, &own);
    own.encoded = d->encoded;
    if (!status) status = drop_checkpoints(folder);
    if (!status) status = sp_distill(&own, &d->callbacks);
    if (status == SP_CANCELLED)
        status = sp_fail(SP_CANCELLED,
                         "interrupted while distilling %s; run the demo again to begin "
                         "anew",
                         folder);
    if (!status) status = sp_loss_curve_read(folder, method->name, &d->loss[index]);
    if (!status) status = keep_settings(d, method, folder, options.max_train_steps);
    if (!status) status = drop_checkpoints(folder);
    sp_free(folder);
    return status;
}

/* Both students meet the same latents, noise and captions on the same sub-paths, so the teacher runs once. */
static sp_status distil_both(demo *d)
{
    d->sub_paths = sp_path_join(d->o->output, "sub-paths");
    if (!d->sub_paths) return SP_MEMORY;
    unlink(d->sub_paths);
    sp_status status = sp_distill_encode(d->dataset, d->teacher, &d->callbacks, &d->encoded);
    for (int i = 0; i < SP_DEMO_METHODS && !status; i++)
        status = distil(d, i);
    unlink(d->sub_paths);
    sp_latent_cache_close(d->encoded);
    d->encoded = NULL;
    return status;
}

/* ---- measuring ---- */

/* The teacher by a fast sampler, guided, from the same first timestep. */
static sp_status fast_row(demo *d, sp_sampler_kind kind, const char *title, int steps)
{
    const sp_scheduler_config scheduler = sp_trajectory_scheduler(&d->teacher->scheduler);
    char label[64];
    snprintf(label, sizeof label, "%s, %d steps", title, steps);
    const sp_row_request request = {.model = "teacher",
                                    .task = label,
                                    .sampler = {.kind = kind, .steps = steps},
                                    .scheduler = &scheduler,
                                    .seed = d->o->seed};
    return sp_results_add(d->results, &d->compared, &request, &d->callbacks);
}

/* The teacher at 50 steps, and what fast samplers make of it in two and four. */
static sp_status teacher_rows(demo *d)
{
    const sp_teacher_request teacher = {
        .seed = d->o->seed, .guidance_scale_w = sp_demo_guidance_scale_w, .cache = d->o->output};
    SP_TRY(sp_results_add_teacher(d->results, &d->compared, &teacher, &d->callbacks, &d->trajectory));
    SP_TRY(fast_row(d, SP_SAMPLER_DDIM, "DDIM", 2)); /* in two steps DPM-Solver++ is DDIM */
    SP_TRY(fast_row(d, SP_SAMPLER_DDIM, "DDIM", 4));
    return fast_row(d, SP_SAMPLER_DPMPP_2M, "DPM-Solver++", 4);
}

/* What students begin as: the teacher without guidance, drawn as a student is. Training is worth what they have over
 * this. */
static sp_status unguided_rows(demo *d)
{
    static const char model[] = "unguided";
    sp_compared_model unguided;
    SP_TRY(sp_compared_model_create(d->evaluation, d->teacher, &unguided));
    sp_status status = sp_results_measure(d->results, &unguided, model, &d->trajectory, &d->callbacks);
    for (int steps = 1; steps <= 4 && !status; steps *= 4) {
        const sp_row_request request = {.model = model,
                                        .task = steps == 1 ? "no guidance, 1 step" : "no guidance, 4 steps",
                                        .sampler = {.kind = SP_SAMPLER_LCM, .steps = steps},
                                        .seed = d->o->seed};
        status = sp_results_add(d->results, &unguided, &request, &d->callbacks);
    }
    sp_compared_model_free(&unguided);
    return status;
}

static sp_status student_row(demo *d, const sp_demo_method *method, sp_compared_model *student, int steps)
{
    char label[64];
    snprintf(label, sizeof label, "%s, %d step%s", method->title, steps, steps == 1 ? "" : "s");
    const sp_row_request request = {.model = method->name,
                                    .task = label,
                                    .sampler = {.kind = SP_SAMPLER_LCM, .steps = steps},
                                    .seed = d->o->seed};
    return sp_results_add(d->results, student, &request, &d->callbacks);
}

static sp_status student_rows(demo *d, const sp_demo_method *method)
{
    char *folder = sp_path_join(d->o->output, method->folder);
    const sp_model_options options = {.unet = sp_demo_unet, .device = d->device, .precision = d->teacher->precision};
    sp_pipeline *pipeline = NULL;
    sp_compared_model student = {0};
    sp_status status = folder ? sp_pipeline_open(folder, &options, &pipeline) : SP_MEMORY;
    if (!status) status = sp_compared_model_create(d->evaluation, pipeline, &student);
    if (!status) status = sp_results_measure(d->results, &student, method->name, &d->trajectory, &d->callbacks);
    for (int steps = 1; steps <= 4 && !status; steps *= 2)
        status = student_row(d, method, &student, steps);
    sp_compared_model_free(&student);
    sp_pipeline_close(pipeline);
    sp_free(folder);
    return status;
}

/* ---- the whole ---- */

static sp_status run(demo *d, char **table)
{
    SP_TRY(prepare(d));
    SP_TRY(distil_both(d));
    SP_TRY(teacher_rows(d));
    SP_TRY(unguided_rows(d));
    sp_pipeline_release(d->teacher);
    for (int i = 0; i < SP_DEMO_METHODS; i++)
        SP_TRY(student_rows(d, &sp_demo_methods[i]));
    const sp_evaluation_report report = {
        .title = "splam: fifty steps in one to four",
        .summary =
            "A text-to-image diffusion model, the teacher, was distilled into students that draw "
            "in one, two or four steps: once as a Latent Consistency Model (LCM), once with "
            "Sub-Path Linear Approximation (SPLAM), each in as many training steps. The sub-paths were chosen for "
            "both on other captions and other noise, of four kinds that were tried. A caption names a kind of "
            "emoji, of which there are many pictures, so that guidance has something to choose. Beside the students "
            "stand the teacher by fast samplers, whose steps are two evaluations each, and what students began as, "
            "the teacher without guidance.",
        .settings = d->settings,
        .losses = d->loss,
        .loss_count = SP_DEMO_METHODS,
        .guidance_scale_w = sp_demo_guidance_scale_w,
        .seed = d->o->seed,
        .version = SPLAM_VERSION,
    };
    return sp_results_save(d->results, d->o->output, report, d->began, table);
}

sp_status sp_demo(const splam_demo_options *o, const sp_callbacks *callbacks, char **table)
{
    demo d = {.o = o, .callbacks = callbacks ? *callbacks : (sp_callbacks){0}, .began = sp_now()};
    sp_status status = sp_ranks_must_be_alone("demo");
    if (!status) status = sp_device_of(o->device, &d.device);
    if (!status) status = run(&d, table);
    for (int i = 0; i < SP_DEMO_METHODS; i++)
        sp_loss_curve_free(&d.loss[i]);
    json_decref(d.settings);
    sp_results_destroy(d.results);
    sp_trajectory_free(&d.trajectory);
    sp_compared_model_free(&d.compared);
    sp_evaluation_destroy(d.evaluation);
    sp_free(d.sub_paths);
    sp_dataset_close(d.dataset);
    sp_pipeline_close(d.teacher);
    sp_free(d.teacher_folder);
    sp_claim_end(&d.claim);
    return status;
}
