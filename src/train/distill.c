/* Distillation: teacher, student, graph, loop, results. */
#include "train/distill.h"
#include <sys/stat.h>
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/system.h"
#include "models/initialize.h"
#include "train/distill_feed.h"
#include "train/step_memory.h"
#include "train/student_folder.h"
#include "train/trainer.h"
#include "train/validation.h"

enum { SP_GAMMA_EMBEDDING_DIM = 256 };

typedef struct {
    const sp_distill_options *options;
    const sp_callbacks *callbacks;
    sp_pipeline *teacher;
    sp_unet_config student;
    sp_distill_feed feed;
    sp_plan *plan;
    sp_run *run;
    sp_training_state state;
    sp_step_memory memory;
    json_t *settings;
    sp_weights *trace;       /* what --trace writes; NULL: none */
    sp_tensor losses, norms; /* [steps] */
} distillation;

sp_distill_options sp_distill_defaults(void)
{
    return (sp_distill_options){
        .objective = {.objective = SP_OBJECTIVE_SPLAM,
                      .sigma = SP_SIGMA_QUADRATIC,
                      .conditioning = SP_GAMMA_EMBEDDING,
                      .gamma_power = 1,
                      .guidance_w = 8,
                      .ddim_timesteps = 50,
                      .skip = 20,
                      .solver_steps = 1,
                      .loss = {.kind = SP_LOSS_HUBER, .huber_c = 1e-3}},
        .max_train_steps = 1000,
        .batch = 12,
        .accumulation = 1,
        .learning_rate = 8e-6,
        .ema_decay = 0.95,
        .max_grad_norm = 1,
        .checkpointing_steps = 200,
        .checkpoints_total_limit = 2,
    };
}

/* ---- settings ---- */

/* Where the pictures come from: what is not given is not among the settings. */
static sp_status set_sources(json_t *settings, const sp_distill_options *o)
{
    SP_TRY(sp_settings_set_text(settings, "teacher", o->teacher));
    if (o->draws) return sp_settings_set_text(settings, "draws", o->draws);
    SP_TRY(sp_settings_set_text(settings, "data", o->data));
    if (!o->resolution) return SP_OK;
    return json_object_set_new(settings, "resolution", json_integer(o->resolution)) == 0
               ? SP_OK
               : SP_MEMORY;
}

static sp_status run_settings(const sp_distill_options *o, sp_prediction prediction, json_t **out)
{
    const sp_objective_settings *s = &o->objective;
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:f, s:f, s:f, s:i, s:i, s:i, s:s, s:f}", "objective",
        sp_objective_name(s->objective), "sigma", sp_sigma_name(s->sigma), "gamma-conditioning",
        sp_gamma_conditioning_name(s->conditioning), "gamma-one-probability",
        s->gamma_one_probability, "gamma-power", s->gamma_power, "guidance-scale-w", s->guidance_w,
        "num-ddim-timesteps", s->ddim_timesteps, "skip", s->skip, "solver-steps", s->solver_steps,
        "loss-type", s->loss.kind == SP_LOSS_L2 ? "l2" : "huber", "huber-c", s->loss.huber_c);
    json_t *rest = json_pack(
        "{s:I, s:I, s:f, s:f, s:I, s:s, s:s, s:s, s:b}", "train-batch-size", (json_int_t)o->batch,
        "gradient-accumulation-steps", (json_int_t)o->accumulation, "learning-rate",
        o->learning_rate, "ema-decay", o->ema_decay, "seed", (json_int_t)o->seed, "optimizer",
        sp_optimizer_name(o->optimizer), "mixed-precision", o->storage == SP_BF16 ? "bf16" : "no",
        "prediction-type", prediction == SP_PREDICTION_V ? "v_prediction" : "epsilon",
        "random-cond-proj", (int)o->random_cond_proj);
    sp_status status =
        json && rest && json_object_update(json, rest) == 0 ? set_sources(json, o) : SP_MEMORY;
    json_decref(rest);
    *out = json;
    return status;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static sp_status check_options(const sp_distill_options *o, const sp_noise_schedule *schedule)
{
    const sp_objective_settings *s = &o->objective;
    if (!o->data && !o->draws)
        return sp_fail(SP_ARGUMENT, "distill needs --data SPEC (or --draws FILE to replay a run)");
    if (o->max_train_steps < 1 || o->batch < 1 || o->accumulation < 1)
        return sp_fail(
            SP_ARGUMENT,
            "--max-train-steps, --train-batch-size and --gradient-accumulation-steps are %lld, %lld and %lld, "
            "expected at least 1 each",
            (long long)o->max_train_steps, (long long)o->batch, (long long)o->accumulation);
    if (o->output && same_folder(o->teacher, o->output))
        return sp_fail(
            SP_ARGUMENT,
            "--output is the teacher's folder %s, whose UNet the student's would overwrite",
            o->teacher);
    if (s->ddim_timesteps < 1 || s->ddim_timesteps > schedule->timesteps)
        return sp_fail(SP_ARGUMENT, "--num-ddim-timesteps is %d, expected 1 to %d",
                       s->ddim_timesteps, schedule->timesteps);
    if (s->skip < 1 || s->skip > schedule->timesteps)
        return sp_fail(SP_ARGUMENT, "--skip is %d, expected 1 to %d", s->skip, schedule->timesteps);
    if (s->solver_steps < 1 || s->solver_steps > SP_MAX_SOLVER_STEPS || s->solver_steps > s->skip)
        return sp_fail(SP_ARGUMENT, "--solver-steps is %d, expected 1 to %d and at most --skip",
                       s->solver_steps, SP_MAX_SOLVER_STEPS);
    return SP_OK;
}

/* ---- making ready ---- */

static sp_status configure_student(distillation *d)
{
    const sp_distill_options *o = d->options;
    d->student = d->teacher->unet->config.unet;
    if (d->student.time_cond_dim)
        return sp_fail(
            SP_UNSUPPORTED,
            "%s: the teacher's UNet has time_cond_proj_dim %lld, so it is a student already",
            o->teacher, (long long)d->student.time_cond_dim);
    if (o->objective.conditioning == SP_GAMMA_EMBEDDING)
        d->student.time_cond_dim = SP_GAMMA_EMBEDDING_DIM;
    return SP_OK;
}

/* The teacher's weights in fp32, and a cond_proj of zeros where gamma is told by an embedding: at
 * step 0 the student is the teacher. */
static sp_status make_student(const distillation *d, sp_weights **out)
{
    const sp_distill_options *o = d->options;
    SP_TRY(sp_weights_copy(d->teacher->unet->weights, SP_F32, out));
    sp_component_config config = {.kind = SP_COMPONENT_UNET, .unet = d->student};
    sp_graph *graph;
    SP_TRY(sp_component_graph(&config, &graph));
    const sp_initialize_options initialize = {.seed = o->seed,
                                              .zero = o->random_cond_proj ? NULL : "cond_proj"};
    sp_status status = sp_initialize(graph, "", &initialize, *out);
    sp_graph_destroy(graph);
    return status;
}

static sp_status make_state(distillation *d)
{
    sp_weights *initial = NULL;
    sp_status status = make_student(d, &initial);
    if (!status) return sp_training_state_create(initial, d->options->optimizer, &d->state);
    sp_weights_destroy(initial);
    return status;
}

/* ---- memory ---- */

/* What no plan knows of: generated code, buffers of files. */
static const size_t unplanned = 32u << 20;

/* The denoiser and the VAE of a sheet follow each other. `pipeline` has all parts. */
static sp_status plan_sheet(const distillation *d, const sp_pipeline *pipeline, size_t *bytes)
{
    *bytes = 0;
    if (!d->options->validation_steps || d->options->draws) return SP_OK;
    const sp_latents *latents = &d->feed.latents;
    int64_t pictures =
        latents->count < SP_VALIDATION_COLUMNS ? latents->count : SP_VALIDATION_COLUMNS;
    const sp_denoise_shape shape = {
        .batch = sp_denoise_batch(pictures, latents->height, latents->width, 0),
        .height = latents->height,
        .width = latents->width};
    sp_plan_memory denoise, decode;
    SP_TRY(sp_pipeline_plan_denoise(pipeline, &shape, &denoise));
    SP_TRY(sp_pipeline_plan_vae(
        pipeline, SP_VAE_DECODE,
        sp_shape_of(pictures, latents->channels, latents->height, latents->width), &decode));
    size_t a = denoise.arena + denoise.persistent + denoise.boundary,
           b = decode.arena + decode.persistent + decode.boundary;
    *bytes = a > b ? a : b;
    return SP_OK;
}

/* Latents and contexts; the text encoder and the VAE that make them are open no longer than that.
 * Recorded draws bring them along. */
static sp_status make_feed(distillation *d, sp_step_shape *shape)
{
    const sp_distill_options *o = d->options;
    const sp_pipeline_options parts = {.parts = o->draws ? SP_PART_UNET : SP_PART_ALL,
                                       .storage = o->storage};
    sp_pipeline *pipeline;
    SP_TRY(sp_pipeline_open(o->teacher, &parts, &pipeline));
    sp_status status =
        sp_distill_feed_create(o, pipeline, &d->student, d->callbacks, &d->feed, shape);
    d->feed.schedule = &d->teacher->scheduler.schedule;
    if (!status) status = plan_sheet(d, pipeline, &d->memory.validation);
    sp_pipeline_close(pipeline);
    return status;
}

typedef struct {
    const sp_objective_settings *objective;
    sp_step_shape *shape;
} step_context;

static sp_status build_step(void *context, uint64_t recompute, sp_graph **out)
{
    step_context *step = context;
    step->shape->recompute = recompute;
    return sp_objective_graph(step->objective, step->shape, out);
}

static sp_status report_memory(const distillation *d, size_t limit)
{
    sp_string table = {0};
    sp_step_memory_append(&d->memory, limit, &table);
    bool failed = table.failed;
    if (!failed) sp_log_info("memory of a step\n%s", sp_string_text(&table));
    sp_string_free(&table);
    if (failed) return SP_MEMORY;
    size_t total = sp_step_memory_total(&d->memory);
    if (!limit || total <= limit) return SP_OK;
    return sp_fail(
        SP_MEMORY, "%s of %s is too small for a step, which takes %s%s: see the table above",
        d->options->memory_limit ? "--memory-limit" : "free memory", sp_bytes_text(limit),
        sp_bytes_text(total), d->plan ? "" : " with all blocks recomputed");
}

static sp_status make_plan(distillation *d, sp_step_shape *shape)
{
    const sp_distill_options *o = d->options;
    step_context context = {&o->objective, shape};
    shape->teacher = &d->teacher->unet->config.unet;
    shape->teacher_weights = d->teacher->unet->weights;
    shape->student = &d->student;
    shape->trace = o->trace != NULL;
    shape->accumulate = o->accumulation > 1;
    int64_t own = sp_resident_memory();
    size_t program = own > 0 ? (size_t)own : 0;
    d->memory.optimizer = o->optimizer;
    d->memory.data = sp_distill_feed_bytes(&d->feed);
    d->memory.program = unplanned + (program > d->memory.data ? program - d->memory.data : 0);
    const sp_step_request request = {
        .build = build_step,
        .context = &context,
        .backend = d->teacher->backend,
        .storage = o->storage,
        .limit = o->memory_limit ? (size_t)o->memory_limit : sp_step_memory_allowed(),
        .recompute_all = o->gradient_checkpointing,
    };
    SP_TRY(sp_step_plan(&request, &d->memory, &d->plan));
    return report_memory(d, request.limit);
}

static sp_status make_run(distillation *d)
{
    SP_TRY(sp_run_create(d->plan, &d->run));
    SP_TRY(sp_run_bind(d->run, "teacher", d->teacher->unet->weights));
    return sp_run_bind(d->run, "ema", d->state.ema);
}

/* ---- tracing ---- */

static sp_status trace_output(distillation *d, const char *name, int64_t micro)
{
    char full[64];
    sp_tensor value;
    snprintf(full, sizeof full, "%s.%lld", name, (long long)micro);
    SP_TRY(sp_run_get_output(d->run, name, &value));
    return sp_weights_add(d->trace, full, value);
}

static sp_status observe(void *context, sp_run *run, int64_t micro)
{
    (void)run;
    distillation *d = context;
    if (!d->trace) return SP_OK;
    SP_TRY(trace_output(d, "prediction", micro));
    return trace_output(d, "target", micro);
}

static sp_status measured(void *context, int64_t step, double loss, double grad_norm)
{
    distillation *d = context;
    if (!d->trace) return SP_OK;
    ((float *)d->losses.data)[step - 1] = (float)loss;
    ((float *)d->norms.data)[step - 1] = (float)grad_norm;
    return SP_OK;
}

static sp_status start_trace(distillation *d)
{
    if (!d->options->trace) return SP_OK;
    SP_TRY(sp_weights_create(&d->trace));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(d->options->max_train_steps), &d->losses));
    return sp_tensor_create(SP_F32, sp_shape_of(d->options->max_train_steps), &d->norms);
}

static sp_status write_trace(distillation *d)
{
    if (!d->trace) return SP_OK;
    sp_tensor losses = d->losses, norms = d->norms;
    losses.owned = norms.owned = false;
    SP_TRY(sp_weights_add(d->trace, "loss", losses));
    SP_TRY(sp_weights_add(d->trace, "grad_norm", norms));
    return sp_weights_save(d->trace, d->options->trace, SP_F32, NULL, 0);
}

/* ---- running ---- */

static sp_status feed(void *context, sp_run *run, int64_t micro)
{
    distillation *d = context;
    return sp_distill_feed_run(&d->feed, run, micro);
}

static sp_status validate(void *context, const sp_training_state *state)
{
    distillation *d = context;
    if (d->options->draws) return SP_OK; /* a replayed run has no prompts */
    return sp_validation_sheet(d->options, &d->feed, &d->student, state);
}

/* What --dry-run is for: does it fit, and how long will it take. */
static sp_status time_one_step(distillation *d)
{
    SP_TRY(sp_run_bind(d->run, "online", d->state.online));
    SP_TRY(feed(d, d->run, 0));
    if (d->options->accumulation > 1) SP_TRY(sp_clear_gradient_sums(d->run, d->state.online));
    SP_TRY(sp_run_execute(d->run)); /* packs weights, touches memory */
    double began = sp_now();
    SP_TRY(sp_run_execute(d->run));
    double seconds = (sp_now() - began) * (double)d->options->accumulation;
    sp_log_info("one step takes about %.2f s, %lld steps %.1f h", seconds,
                (long long)d->options->max_train_steps,
                seconds * (double)d->options->max_train_steps / 3600);
    return SP_OK;
}

static sp_status train(distillation *d)
{
    const sp_distill_options *o = d->options;
    const sp_trainer_settings settings = {
        .name = o->objective.objective == SP_OBJECTIVE_LCM ? "distill lcm" : "distill splam",
        .output = o->output,
        .max_steps = o->max_train_steps,
        .accumulation = o->accumulation,
        .learning_rate = o->learning_rate,
        .ema_decay = o->ema_decay,
        .max_grad_norm = o->max_grad_norm,
        .checkpointing_steps = o->checkpointing_steps,
        .checkpoints_total_limit = o->checkpoints_total_limit,
        .validation_steps = o->validation_steps,
        .resume = o->resume,
        .settings = d->settings,
    };
    const sp_training_task task = {
        .context = d, .feed = feed, .observe = observe, .measured = measured, .validate = validate};
    SP_TRY(start_trace(d));
    SP_TRY(sp_train(d->run, &settings, &task, &d->state, d->callbacks));
    SP_TRY(sp_student_save(o, &d->student, d->state.online, d->state.ema, d->settings));
    return write_trace(d);
}

static sp_status distill(distillation *d)
{
    const sp_distill_options *o = d->options;
    const sp_pipeline_options parts = {.parts = SP_PART_UNET, .storage = o->storage};
    SP_TRY(sp_pipeline_open(o->teacher, &parts, &d->teacher));
    SP_TRY(check_options(o, &d->teacher->scheduler.schedule));
    SP_TRY(configure_student(d));
    if (!o->dry_run) SP_TRY(sp_make_folders(o->output)); /* before the long work on the data */
    SP_TRY(run_settings(o, d->teacher->scheduler.schedule.prediction, &d->settings));
    sp_step_shape shape = {0};
    SP_TRY(make_feed(d, &shape));
    SP_TRY(make_plan(d, &shape));
    SP_TRY(make_state(d));
    SP_TRY(make_run(d));
    SP_TRY(o->dry_run ? time_one_step(d) : train(d));
    sp_log_info("peak memory %s, planned %s", sp_bytes_text((size_t)sp_peak_rss()),
                sp_bytes_text(sp_step_memory_total(&d->memory)));
    return SP_OK;
}

sp_status sp_distill(const sp_distill_options *options, const sp_callbacks *callbacks)
{
    distillation d = {.options = options, .callbacks = callbacks};
    sp_status status = distill(&d);
    sp_run_destroy(d.run);
    sp_plan_destroy(d.plan);
    sp_distill_feed_free(&d.feed);
    sp_training_state_free(&d.state);
    sp_pipeline_close(d.teacher);
    sp_weights_destroy(d.trace);
    sp_tensor_free(&d.losses);
    sp_tensor_free(&d.norms);
    json_decref(d.settings);
    return status;
}
