/* Distillation: teacher, student, graph, loop, results. */
#include "train/distill.h"
#include <sys/stat.h>
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/initialize.h"
#include "train/distill_feed.h"
#include "train/rounds.h"
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
    sp_step_shape shape;
    int round;                 /* that `run` is for */
    sp_weights *round_teacher; /* the previous round's student; NULL in the first */
    sp_plan *plan;
    sp_run *run;
    sp_training_state state;
    json_t *settings;
    sp_weights *trace;       /* what --trace writes; NULL: none */
    sp_tensor losses, norms; /* [steps] */
} distillation;

sp_distill_options sp_distill_defaults(void)
{
    return (sp_distill_options){
        .objective = sp_objective_defaults(SP_OBJECTIVE_SPLAM),
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

/* What only one objective looks at. */
static json_t *objective_settings(const sp_distill_options *o)
{
    const sp_objective_settings *s = &o->objective;
    switch (s->objective) {
    case SP_OBJECTIVE_SPLAM:
        return json_pack("{s:s, s:s, s:f, s:f, s:i, s:s}", "sigma", sp_sigma_name(s->sigma),
                         "gamma-conditioning", sp_gamma_conditioning_name(s->conditioning),
                         "gamma-one-probability", s->gamma.one_probability, "gamma-power",
                         s->gamma.power, "gamma-grid", s->gamma.grid, "cond-proj-init",
                         o->random_cond_proj ? "random" : "zero");
    case SP_OBJECTIVE_PCM:
        return json_pack("{s:i}", "phases", s->phases);
    case SP_OBJECTIVE_PROGRESSIVE: /* where rounds begin depends on the number of steps */
        return json_pack("{s:i, s:I}", "rounds", s->rounds, "max-train-steps",
                         (json_int_t)o->max_train_steps);
    default:
        return json_object();
    }
}

static sp_status run_settings(const sp_distill_options *o, sp_prediction prediction, json_t **out)
{
    const sp_objective_settings *s = &o->objective;
    json_t *own = objective_settings(o);
    json_t *json = json_pack(
        "{s:s, s:f, s:i, s:i, s:i, s:s, s:f}", "objective", sp_objective_name(s->objective),
        "guidance-scale-w", s->guidance_w, "num-ddim-timesteps", s->ddim_timesteps, "skip", s->skip,
        "solver-steps", s->solver_steps, "loss-type", s->loss.kind == SP_LOSS_L2 ? "l2" : "huber",
        "huber-c", s->loss.huber_c);
    json_t *rest =
        json_pack("{s:I, s:I, s:f, s:f, s:I, s:s, s:s}", "train-batch-size", (json_int_t)o->batch,
                  "gradient-accumulation-steps", (json_int_t)o->accumulation, "learning-rate",
                  o->learning_rate, "ema-decay", o->ema_decay, "seed", (json_int_t)o->seed,
                  "mixed-precision", o->storage == SP_BF16 ? "bf16" : "no", "prediction-type",
                  prediction == SP_PREDICTION_V ? "v_prediction" : "epsilon");
    bool merged = own && json && rest && json_object_update(json, own) == 0 &&
                  json_object_update(json, rest) == 0;
    sp_status status = merged ? set_sources(json, o) : SP_MEMORY;
    json_decref(own);
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
    if (s->rounds > o->max_train_steps)
        return sp_fail(SP_ARGUMENT, "--rounds is %d, and --max-train-steps %lld are fewer",
                       s->rounds, (long long)o->max_train_steps);
    return sp_objective_check(s, schedule->timesteps);
}

/* ---- making ready ---- */

/* The teacher's weights in fp32, and a cond_proj of zeros where gamma is told by an embedding: at
 * step 0 the student is the teacher. */
static sp_status make_student(distillation *d, sp_weights **out)
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

static void free_run(distillation *d)
{
    sp_run_destroy(d->run);
    sp_plan_destroy(d->plan);
    d->run = NULL;
    d->plan = NULL;
}

/* The run of round d->round. */
static sp_status make_run(distillation *d)
{
    sp_graph *graph;
    const sp_objective_settings now = sp_round_settings(&d->options->objective, d->round);
    d->shape.teacher = &d->teacher->unet->config.unet;
    d->shape.teacher_weights = d->round_teacher ? d->round_teacher : d->teacher->unet->weights;
    d->shape.student = &d->student;
    d->shape.trace = d->options->trace != NULL;
    d->shape.gradient_checkpointing = d->options->gradient_checkpointing;
    SP_TRY(sp_objective_graph(&now, &d->shape, &graph));
    SP_TRY(sp_plan_create(graph, d->teacher->backend, d->options->storage, &d->plan));
    SP_TRY(sp_run_create(d->plan, &d->run));
    SP_TRY(sp_run_bind(d->run, "teacher", d->shape.teacher_weights));
    return sp_objective_asks_average(&now) ? sp_run_bind(d->run, "ema", d->state.ema) : SP_OK;
}

/* When a step is another round's: its teacher and its run. */
static sp_status enter_round(void *context, const sp_training_state *state, sp_run **run)
{
    distillation *d = context;
    const sp_distill_options *o = d->options;
    int round = sp_round_of_step(&o->objective, state->step, o->max_train_steps);
    if (round == d->round) return SP_OK;
    free_run(d);
    sp_weights_destroy(d->round_teacher);
    d->round_teacher = NULL;
    SP_TRY(sp_round_teacher(o, d->settings, state, round, &d->round_teacher));
    d->round = round;
    SP_TRY(make_run(d));
    sp_log_info("round %d of %d: a student of %d steps", round + 1, o->objective.rounds,
                sp_round_settings(&o->objective, round).ddim_timesteps);
    *run = d->run;
    return SP_OK;
}

static void report_memory(const distillation *d)
{
    sp_plan_memory m = sp_plan_get_memory(d->plan);
    size_t weights = sp_weights_bytes(d->state.online);
    const double mb = 1e6;
    sp_log_info(
        "memory in MB: activations and scratch %.0f, packed weights %.0f, inputs and gradients %.0f, teacher %.0f, online %.0f, "
        "average %.0f, moments %.0f",
        (double)m.arena / mb, (double)m.persistent / mb, (double)m.boundary / mb,
        (double)sp_weights_bytes(d->teacher->unet->weights) / mb, (double)weights / mb,
        (double)weights / mb, 2 * (double)weights / mb);
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
    return sp_validation_sheet(d->options, d->teacher, &d->feed, &d->student, state);
}

/* What --dry-run is for: does it fit, and how long will it take. */
static sp_status time_one_step(distillation *d)
{
    SP_TRY(sp_run_bind(d->run, "online", d->state.online));
    SP_TRY(feed(d, d->run, 0));
    SP_TRY(sp_run_execute(d->run)); /* packs weights, touches memory */
    double began = sp_now();
    SP_TRY(sp_run_execute(d->run));
    double seconds = (sp_now() - began) * (double)d->options->accumulation;
    sp_log_info("one step takes about %.2f s, %lld steps %.1f h; peak memory so far %.0f MB",
                seconds, (long long)d->options->max_train_steps,
                seconds * (double)d->options->max_train_steps / 3600, (double)sp_peak_rss() / 1e6);
    return SP_OK;
}

static sp_status train(distillation *d)
{
    const sp_distill_options *o = d->options;
    char name[32];
    snprintf(name, sizeof name, "distill %s", sp_objective_name(o->objective.objective));
    const sp_trainer_settings settings = {
        .name = name,
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
    const sp_training_task task = {.context = d,
                                   .prepare = enter_round,
                                   .feed = feed,
                                   .observe = observe,
                                   .measured = measured,
                                   .validate = validate};
    SP_TRY(start_trace(d));
    SP_TRY(sp_train(d->run, &settings, &task, &d->state, d->callbacks));
    SP_TRY(sp_student_save(o, &d->student, d->state.online, d->state.ema, d->settings));
    return write_trace(d);
}

static sp_status distill(distillation *d)
{
    const sp_distill_options *o = d->options;
    /* Recorded draws bring latents and contexts along. */
    const sp_pipeline_options parts = {.parts = o->draws ? SP_PART_UNET : SP_PART_ALL,
                                       .storage = o->storage};
    SP_TRY(sp_pipeline_open(o->teacher, &parts, &d->teacher));
    SP_TRY(check_options(o, &d->teacher->scheduler.schedule));
    if (!o->dry_run) SP_TRY(sp_make_folders(o->output)); /* before the long work on the data */
    SP_TRY(run_settings(o, d->teacher->scheduler.schedule.prediction, &d->settings));
    sp_weights *initial = NULL;
    sp_status status = make_student(d, &initial);
    if (!status) status = sp_training_state_create(initial, &d->state);
    sp_weights_destroy(initial);
    SP_TRY(status);
    SP_TRY(sp_distill_feed_create(o, d->teacher, &d->student, d->callbacks, &d->feed, &d->shape));
    SP_TRY(make_run(d));
    report_memory(d);
    return o->dry_run ? time_one_step(d) : train(d);
}

sp_status sp_distill(const sp_distill_options *options, const sp_callbacks *callbacks)
{
    distillation d = {.options = options, .callbacks = callbacks};
    sp_status status = distill(&d);
    free_run(&d);
    sp_weights_destroy(d.round_teacher);
    sp_distill_feed_free(&d.feed);
    sp_training_state_free(&d.state);
    sp_pipeline_close(d.teacher);
    sp_weights_destroy(d.trace);
    sp_tensor_free(&d.losses);
    sp_tensor_free(&d.norms);
    json_decref(d.settings);
    return status;
}
