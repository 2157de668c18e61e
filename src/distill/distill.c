/* Distillation: teacher, student, loop, results. */
#include "distill/distillation.h"
#include <math.h>
#include "backend/registry.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/system.h"
#include "distill/distill_settings.h"
#include "distill/student_folder.h"
#include "distill/student_start.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "distill/validation.h"

enum { COND_PROJ_DIM = 256 };

/* ---- making ready ---- */

static sp_status configure_student(sp_distillation *d)
{
    const sp_distill_options *o = d->options;
    d->student = d->teacher->denoiser->config;
    if (d->student.kind != SP_COMPONENT_UNET) return SP_OK;
    sp_unet_config *unet = &d->student.unet;
    if (unet->time_cond_dim)
        return sp_fail(
            SP_UNSUPPORTED,
            "%s: the teacher's UNet has time_cond_proj_dim %lld, so it is a student already",
            o->given.teacher, (long long)unet->time_cond_dim);
    if (sp_objective_has_cond_proj(&o->objective)) unet->time_cond_dim = COND_PROJ_DIM;
    unet->guidance = o->objective.guidance;
    return SP_OK;
}

static sp_status make_student(sp_distillation *d)
{
    sp_weights *initial = NULL;
    sp_status status = sp_student_start(d->options, d->teacher, &d->student, &initial);
    if (!status) return sp_training_state_create(initial, d->options->optimizer, &d->state);
    sp_weights_destroy(initial);
    return status;
}

static sp_status make_fake_score(sp_distillation *d)
{
    sp_weights *initial = NULL;
    sp_status status = sp_fake_score_start(d->options, d->teacher, &initial);
    if (!status && sp_matching_has_discriminator(&d->options->objective)) {
        status = sp_matching_discriminator_start(&d->options->objective, &d->shape, d->options->given.seed, initial);
        if (!status) status = sp_matching_recorded_discriminator(&d->feed, initial);
    }
    d->state.name = "student";
    if (!status) return sp_training_state_add(&d->state, SP_FAKE_SCORE, initial, d->options->optimizer);
    sp_weights_destroy(initial);
    return status;
}

static sp_status make_state(sp_distillation *d)
{
    SP_TRY(make_student(d));
    if (d->options->objective.objective == SP_OBJECTIVE_DMD) SP_TRY(make_fake_score(d));
    return sp_distillation_keeps_target(d->options) ? sp_training_state_keep_target(&d->state) : SP_OK;
}

/* The denoiser of a sheet, or of trajectories and errors along them, and the VAE follow each other. `pipeline` has UNet
 * and VAE. */
static sp_status plan_validation(sp_distillation *d, sp_pipeline *pipeline)
{
    const sp_distill_options *o = d->options;
    const sp_latent_facts *facts = sp_latent_cache_facts(d->feed.cache);
    const sp_conditioning *conditioning = sp_latent_cache_conditioning(d->feed.cache);
    int64_t pictures = facts->count < SP_VALIDATION_COLUMNS ? facts->count : SP_VALIDATION_COLUMNS, prompts = 0;
    if (o->measures_error) SP_TRY(sp_student_error_prompts(o, facts->count, &prompts));
    if (o->measures_error) d->memory.trajectories = sp_student_error_bytes(facts, conditioning, prompts);
    const sp_denoise_shape shape = {
        .batch = sp_denoise_batch(prompts > pictures ? prompts : pictures, facts->height, facts->width, 0),
        .height = facts->height,
        .width = facts->width,
        .conditioning = conditioning,
        .guided = o->measures_error && o->objective.guidance_scale_w != 0};
    sp_plan_memory denoise, decode;
    SP_TRY(sp_pipeline_plan_denoise(pipeline, &shape, &denoise));
    SP_TRY(sp_pipeline_plan_vae(pipeline, SP_VAE_DECODE,
                                sp_shape_of(pictures, facts->channels, facts->height, facts->width),
                                &decode));
    size_t a = denoise.arena + denoise.persistent + denoise.boundary,
           b = decode.arena + decode.persistent + decode.boundary;
    size_t merged = o->lora.rank ? sp_distillation_f32_bytes(d->teacher->denoiser->weights) : 0;
    size_t vae = sp_distillation_f32_bytes(pipeline->vae->weights);
    int64_t factor = pipeline->vae->config.vae.factor;
    d->memory.validation = (a > b ? a : b) + merged + vae +
                           sp_validation_sheet_bytes(pictures, factor * facts->width, factor * facts->height);
    return SP_OK;
}

/* Latents and conditioning; the text encoder and the VAE that make them are open no longer than that. */
static sp_status make_feed(sp_distillation *d)
{
    const sp_distill_options *o = d->options;
    bool sheets = o->given.validation_steps && !o->given.draws; /* recorded draws have no captions */
    const sp_model_options parts = {
        .parts = sp_distill_feed_parts(o) | (sheets ? SP_PART_VAE : 0),
        .prediction = o->given.prediction_type,
        .t5_absent = o->given.t5_absent,
        .t5 = o->given.t5,
        .device = o->device,
        .precision = o->precision};
    sp_pipeline *pipeline;
    SP_TRY(sp_pipeline_open(o->given.teacher, &parts, &pipeline));
    sp_status status =
        sp_distill_feed_create(o, pipeline, &d->student, d->callbacks, &d->feed, &d->shape);
    d->feed.path = &d->teacher->scheduler.path;
    if (!status && sheets) status = plan_validation(d, pipeline);
    sp_pipeline_close(pipeline);
    return status;
}

/* ---- tracing ---- */

static sp_status trace_output(sp_distillation *d, const char *name, int64_t micro)
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
    sp_distillation *d = context;
    if (!d->trace) return SP_OK;
    SP_TRY(trace_output(d, "prediction", micro));
    return trace_output(d, "target", micro);
}

static sp_status measured(void *context, int64_t step, double loss, double grad_norm)
{
    sp_distillation *d = context;
    if (!d->trace) return SP_OK;
    ((float *)d->losses.data)[step - 1] = (float)loss;
    ((float *)d->norms.data)[step - 1] = (float)grad_norm;
    return SP_OK;
}

static sp_status start_trace(sp_distillation *d)
{
    if (!d->options->given.trace) return SP_OK;
    SP_TRY(sp_weights_create(&d->trace));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(d->options->given.max_train_steps), &d->losses));
    return sp_tensor_create(SP_F32, sp_shape_of(d->options->given.max_train_steps), &d->norms);
}

static sp_status write_trace(sp_distillation *d)
{
    if (!d->trace) return SP_OK;
    sp_tensor losses = d->losses, norms = d->norms;
    losses.owned = norms.owned = false;
    SP_TRY(sp_weights_add(d->trace, "loss", losses));
    SP_TRY(sp_weights_add(d->trace, "grad_norm", norms));
    return sp_weights_save(d->trace, d->options->given.trace, SP_F32, NULL, 0, NULL);
}

/* ---- running ---- */

static sp_status feed(void *context, sp_run *run, int64_t micro)
{
    sp_distillation *d = context;
    return sp_distill_feed_run(&d->feed, run, micro);
}

static sp_status say_error(const sp_training_state *state, const sp_student_errors *errors)
{
    sp_string text = {0};
    for (int i = 0; i < SP_STUDENT_ERROR_COUNTS; i++)
        if (isfinite(errors->at[i]))
            sp_string_append_format(&text, "%s %.4f in %d", text.length ? "," : ";", errors->at[i],
                                    sp_student_error_steps[i]);
    if (!text.failed)
        sp_log_info("step %lld: trajectory error %.4f%s", (long long)state->step, errors->mean, sp_string_text(&text));
    bool failed = text.failed;
    sp_string_free(&text);
    return failed ? SP_MEMORY : SP_OK;
}

/* Of students of the last round alone: those before are made for shorter hops. */
static sp_status measure_error(sp_distillation *d, const sp_training_state *state, sp_validation_result *result)
{
    const sp_distill_options *o = d->options;
    sp_student_errors errors;
    if (!o->measures_error) return SP_OK;
    if (sp_round_of_step(&o->objective, state->step - 1, o->given.max_train_steps) + 1 < o->objective.rounds)
        return SP_OK;
    SP_TRY(sp_student_error_measure(&d->error, &d->student, state->ema, d->callbacks, &errors));
    result->error = errors.mean;
    result->metrics = sp_student_errors_json(&errors);
    return result->metrics ? say_error(state, &errors) : SP_MEMORY;
}

static sp_status validate(void *context, const sp_training_state *state, sp_validation_result *result)
{
    sp_distillation *d = context;
    if (d->options->given.draws) return SP_OK; /* a replayed run has no prompts */
    SP_TRY(measure_error(d, state, result));
    return sp_validation_sheet(d->options, &d->feed, &d->student, state);
}

/* What the step of this number takes, its feed included, as the student's own steps are a part of that. */
static sp_status time_step(sp_distillation *d, int64_t step, double *seconds)
{
    sp_device *device = d->teacher->device;
    int64_t accumulation = d->options->given.gradient_accumulation_steps;
    sp_update update = {.trained = &d->state};
    double began = 0;
    d->state.step = step;
    SP_TRY(sp_distillation_enter(d, &d->state, &update));
    SP_TRY(sp_bind(sp_run_bound(d->run), "online", d->state.online));
    if (accumulation > 1) SP_TRY(sp_clear_gradient_sums(d->run, update.trained->online));
    for (int i = 0; i < 2; i++) { /* the first packs weights, touches memory */
        began = sp_now();
        SP_TRY(feed(d, d->run, step * accumulation));
        SP_TRY(sp_run_execute(d->run, d->callbacks));
        SP_TRY(device->finish(device));
    }
    *seconds = (sp_now() - began) * (double)accumulation;
    return SP_OK;
}

/* What --dry-run is for: does it fit, and how long will it take. */
static sp_status time_one_step(sp_distillation *d)
{
    int64_t others = d->options->objective.fake_score_steps;
    double seconds, other = 0;
    char all[32];
    if (others) SP_TRY(time_step(d, 0, &other));
    SP_TRY(time_step(d, others, &seconds));
    seconds = (seconds + (double)others * other) / (double)(1 + others);
    sp_duration_text(seconds * (double)d->options->given.max_train_steps, all, sizeof all);
    sp_log_info("one step takes about %.2f s, %lld steps %s", seconds,
                (long long)d->options->given.max_train_steps, all);
    return SP_OK;
}

/* What is written, beside the flags. */
static sp_status record_result(const sp_distillation *d)
{
    if (!d->options->measures_error) return SP_OK;
    SP_TRY(SP_SETTINGS_ADD(d->settings, sp_setting_number("trajectory-error", d->state.validated.error)));
    if (!d->options->keeps_best) return SP_OK;
    return SP_SETTINGS_ADD(d->settings, sp_setting_whole("kept-step", d->state.step));
}

static sp_status save_results(const sp_distillation *d)
{
    const sp_distill_options *o = d->options;
    SP_TRY(record_result(d));
    if (!o->lora.rank)
        return sp_student_save(o, &d->student, d->state.online, d->state.ema, d->settings);
    return sp_adapters_save(o, &d->student, d->teacher->denoiser->weights, d->state.online,
                            d->state.ema, d->settings);
}

static sp_status train(sp_distillation *d)
{
    const sp_distill_options *o = d->options;
    char name[32];
    snprintf(name, sizeof name, "distill %s", sp_objective_name(o->objective.objective));
    const sp_trainer_settings settings = {
        .name = name,
        .output = o->given.output,
        .max_steps = o->given.max_train_steps,
        .accumulation = o->given.gradient_accumulation_steps,
        .learning_rate = o->given.learning_rate,
        .lr_schedule = o->lr_schedule,
        .average = o->average,
        .target_average = o->target_average,
        .samples = o->ranks * o->given.train_batch_size * o->given.gradient_accumulation_steps,
        .max_grad_norm = o->max_grad_norm,
        .checkpointing_steps = o->given.checkpointing_steps,
        .checkpoints_total_limit = (int)o->given.checkpoints_total_limit,
        .validation_steps = o->given.validation_steps,
        .keep_best = o->keeps_best,
        .resume = o->given.resume,
        .settings = d->settings,
        .ranks = d->ranks,
        .claim = &d->output_claim,
    };
    const sp_training_task task = {.context = d,
                                   .prepare = sp_distillation_enter,
                                   .feed = feed,
                                   .observe = observe,
                                   .measured = measured,
                                   .validate = validate};
    if (o->objective.skip_to != o->objective.skip)
        sp_log_info("sub-paths of %d timesteps in the first step, %d in the last", o->objective.skip,
                    o->objective.skip_to);
    SP_TRY(start_trace(d));
    if (o->measures_error && o->rank == 0)
        SP_TRY(sp_student_error_create(o, &d->feed, d->teacher, d->callbacks, &d->error));
    SP_TRY(sp_train(d->run, &settings, &task, &d->state, d->callbacks));
    if (o->rank > 0) return SP_OK;
    SP_TRY(save_results(d));
    return write_trace(d);
}

static sp_status claim_outputs(sp_distillation *d)
{
    static const char *const unet[] = {"metrics.jsonl",
                                       "splam.json",
                                       "README.md",
                                       "model_index.json",
                                       "scheduler/scheduler_config.json",
                                       "unet/config.json",
                                       "unet_ema/config.json",
                                       NULL};
    static const char *const transformer[] = {"metrics.jsonl",
                                              "splam.json",
                                              "README.md",
                                              "model_index.json",
                                              "scheduler/scheduler_config.json",
                                              "transformer/config.json",
                                              "transformer_ema/config.json",
                                              NULL};
    static const char *const adapters[] = {"metrics.jsonl",
                                           "splam.json",
                                           "pytorch_lora_weights.safetensors",
                                           "kohya.safetensors",
                                           "ema/kohya.safetensors",
                                           NULL};
    const sp_distill_options *o = d->options;
    const char *const *student = d->student.kind == SP_COMPONENT_TRANSFORMER ? transformer : unet;
    const char *const *names = o->lora.rank ? adapters : student;
    SP_TRY(sp_claim_folder(o->given.output, names, &d->output_claim));
    SP_TRY(sp_checkpoint_check_output(o->given.output, o->given.resume, names));
    return o->given.trace ? sp_claim_file(o->given.trace, &d->trace_claim) : SP_OK;
}

/* The prompt's length, where it is not the usual one; recorded draws have it in their own shapes. */
static sp_status record_text(sp_distillation *d)
{
    const splam_distill_options *o = &d->options->given;
    int64_t behind = d->teacher->model->tokens_behind;
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)behind);
    if (o->draws && (o->t5_absent || o->t5))
        return sp_fail(SP_ARGUMENT, "`%s` has no use beside `draws`, whose conditioning is whole",
                       o->t5 ? "t5" : "t5_absent");
    if (o->t5) return SP_SETTINGS_ADD(d->settings, sp_setting_text("t5", o->t5));
    if (o->draws || !behind || behind == SP_MMDIT_TOKENS_BEHIND) return SP_OK;
    return SP_SETTINGS_ADD(d->settings, sp_setting_text("t5-absent", text));
}

static sp_status distill(sp_distillation *d, sp_distill_options *o)
{
    const sp_model_options parts = {.parts = SP_PART_UNET,
                                    .prediction = o->given.prediction_type,
                                    .t5_absent = o->given.t5_absent,
                                    .t5 = o->given.t5,
                                    .device = o->device,
                                    .precision = o->precision};
    SP_TRY(sp_pipeline_open(o->given.teacher, &parts, &d->teacher));
    const sp_sampler_options solver = {.kind = SP_SAMPLER_DDIM}; /* on the teacher's paths */
    SP_TRY(sp_sampler_check(&d->teacher->scheduler, &solver));
    sp_distill_fit_teacher(o, &d->teacher->scheduler.path);
    SP_TRY(sp_distill_check(o, &d->teacher->scheduler.path));
    sp_trajectory trajectory;
    if (o->measures_error) SP_TRY(sp_trajectory_grid(&d->teacher->scheduler, &trajectory));
    SP_TRY(configure_student(d));
    SP_TRY(sp_student_start_check(o, d->teacher, &d->student));
    if (!o->given.dry_run && o->rank == 0)
        SP_TRY(claim_outputs(d)); /* before the long work on the data */
    SP_TRY(sp_distill_settings(o, d->teacher->scheduler.path.prediction, &d->settings));
    SP_TRY(record_text(d));
    SP_TRY(make_feed(d));
    if (d->feed.cache && *sp_latent_cache_key(d->feed.cache)) /* not the cache it was before */
        SP_TRY(SP_SETTINGS_ADD(d->settings, sp_setting_text("data-key", sp_latent_cache_key(d->feed.cache))));
    SP_TRY(sp_distillation_plan(d));
    SP_TRY(make_state(d));
    SP_TRY(sp_distillation_make_runs(d));
    SP_TRY(o->given.dry_run ? time_one_step(d) : train(d));
    sp_log_info("peak memory %s, planned %s", sp_bytes_text((size_t)sp_peak_rss()),
                sp_bytes_text(sp_step_memory_total(&d->memory)));
    return SP_OK;
}

sp_status sp_distill(const sp_distill_options *options, const sp_callbacks *callbacks)
{
    sp_callbacks own_callbacks = callbacks ? *callbacks : (sp_callbacks){0};
    sp_distill_options settings = *options;
    if (!settings.device) settings.device = sp_default_device();
    sp_distillation d = {.options = &settings, .callbacks = &own_callbacks};
    SP_TRY(sp_ranks_start(&own_callbacks, &d.ranks));
    settings.rank = sp_ranks_rank(d.ranks);
    settings.ranks = sp_ranks_count(d.ranks);
    sp_status status = distill(&d, &settings);
    sp_distillation_free_runs(&d);
    sp_weights_destroy(d.round_teacher);
    sp_student_error_free(&d.error);
    sp_distill_feed_free(&d.feed);
    sp_training_state_free(&d.state);
    sp_pipeline_close(d.teacher);
    sp_weights_destroy(d.trace);
    sp_tensor_free(&d.losses);
    sp_tensor_free(&d.norms);
    json_decref(d.settings);
    sp_claim_end(&d.output_claim);
    sp_claim_end(&d.trace_claim);
    return sp_ranks_end(d.ranks, status);
}

sp_status sp_distill_given(const splam_distill_options *options, const sp_callbacks *callbacks)
{
    sp_distill_options own;
    SP_TRY(sp_distill_options_of(options, &own));
    return sp_distill(&own, callbacks);
}
