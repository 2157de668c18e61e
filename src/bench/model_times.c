/* A model's own work: evaluations, decoding, gradients, whole steps, prompt to picture. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/workload.h"
#include "graph/optimizer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/system.h"
#include "base/random.h"
#include "base/text.h"
#include "graph/run.h"
#include "models/initialize.h"
#include "checkpoints/model_folder.h"
#include "pipeline/session.h"
#include "train/training_state.h"

static bool wants(const splam_bench_options *o, const char *name)
{
    return !o->part || strstr(name, o->part);
}

/* ---- memory ---- */

/* Lets the peak begin anew; false where the kernel does not offer that. */
static bool reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return false;
    bool written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

/* ---- results ---- */

static sp_status leave_out(json_t *out, const char *name, const char *why)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %s", name, why);
    json_t *list = json_object_get(out, "left_out");
    return json_array_append_new(list, json_string(text)) ? SP_MEMORY : SP_OK;
}

static sp_status store(json_t *out, const char *name, const sp_bench_times *times, bool has_peak)
{
    char key[64];
    json_t *runs = json_array();
    snprintf(key, sizeof key, "%s_seconds", name);
    for (int i = 0; i < times->count; i++)
        if (json_array_append_new(runs, json_real(times->run[i]))) {
            json_decref(runs);
            return SP_MEMORY;
        }
    if (json_object_set_new(json_object_get(out, "runs"), name, runs) ||
        json_object_set_new(out, key, json_real(sp_bench_median(times))))
        return SP_MEMORY;
    int64_t peak = has_peak ? sp_proc_bytes("/proc/self/status", "VmHWM") : -1;
    if (peak < 0) return SP_OK;
    return json_object_set_new(json_object_get(out, "peak_rss_bytes"), name, json_integer(peak))
               ? SP_MEMORY
               : SP_OK;
}

/* Memory that the work takes beyond the plan must be free too, or the machine would begin to swap. */
static sp_status check_free(const sp_plan *plan, size_t more)
{
    sp_plan_memory m = sp_plan_get_memory(plan);
    sp_device_memory memory;
    sp_plan_device(plan)->memory(sp_plan_device(plan), &memory);
    size_t needed = m.arena + m.persistent + m.boundary + more;
    if (!memory.available || needed <= memory.available) return SP_OK;
    return sp_fail(SP_MEMORY, "takes %.1f GB, and %.1f GB are free", (double)needed * 1e-9,
                   (double)memory.available * 1e-9);
}

/* ---- inputs ---- */

/* Unit normal numbers, and ids and timesteps that any model takes. */
static sp_status fill_input(sp_run *run, const sp_value *value)
{
    sp_tensor tensor;
    SP_TRY(sp_tensor_create(value->dtype, value->shape, &tensor));
    if (value->dtype == SP_F32) {
        sp_random_key key = {.seed = 1, .sample = (uint64_t)value->id};
        sp_random_normal(key, tensor.data, (size_t)sp_tensor_count(&tensor));
    }
    sp_status status = sp_run_set_input(run, value->name, &tensor);
    sp_tensor_free(&tensor);
    return status;
}

static sp_status fill_inputs(sp_run *run, const sp_plan *plan)
{
    const sp_graph *graph = sp_plan_graph(plan);
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind == SP_VALUE_INPUT && sp_plan_input(plan, value->name))
            SP_TRY(fill_input(run, value));
    }
    return SP_OK;
}

/* ---- one plan run again and again ---- */

typedef struct {
    sp_plan *plan;
    sp_run *run;
    sp_training_state state; /* whole steps and gradients: weights that change */
    sp_gradients gradients;  /* whole steps */
    bool warm;               /* it ran once, which is not timed */
    const sp_callbacks *callbacks;
} timed_run;

static void release(timed_run *t)
{
    sp_run_destroy(t->run);
    sp_plan_destroy(t->plan);
    sp_training_state_free(&t->state);
    sp_gradients_free(&t->gradients);
    *t = (timed_run){0};
}

static sp_status create(const sp_work_model *model, sp_work work, int64_t batch, sp_dtype precision,
                        size_t more, timed_run *t)
{
    sp_graph *graph;
    SP_TRY(sp_work_graph(model, work, batch, &graph));
    SP_TRY(sp_plan_create(graph, model->device, precision, &t->plan));
    SP_TRY(check_free(t->plan, more));
    SP_TRY(sp_run_create(t->plan, &t->run));
    return fill_inputs(t->run, t->plan);
}

static sp_status execute(void *context)
{
    timed_run *t = context;
    sp_device *device = sp_plan_device(t->plan);
    SP_TRY(sp_run_execute(t->run, t->callbacks));
    SP_TRY(device->finish(device));
    if (!t->warm) sp_run_forget_profile(t->run);
    t->warm = true;
    return SP_OK;
}

typedef struct {
    const char *name;
    sp_work work;
    const char *set;
    const sp_component *component;
} evaluation;

static sp_status time_evaluation(const sp_work_model *model, const evaluation *e, sp_dtype precision,
                                 const sp_callbacks *callbacks, json_t *out)
{
    timed_run t = {.callbacks = callbacks};
    sp_bench_times times;
    if (!e->component) return leave_out(out, e->name, "the model has no such part");
    bool has_peak = reset_peak();
    sp_status status =
        create(model, e->work, 1, precision, sp_weights_bytes(e->component->weights), &t);
    if (!status) status = sp_bind(sp_run_bound(t.run), e->set, e->component->weights);
    if (!status) status = sp_bench_repeat(execute, &t, 2, callbacks, &times);
    if (!status) status = store(out, e->name, &times, has_peak);
    release(&t);
    sp_report(callbacks, e->name, 1, 1, NULL);
    return status == SP_MEMORY ? leave_out(out, e->name, sp_error_message()) : status;
}

/* ---- prompt to picture ---- */

#define STAGES(X) X(load) X(text) X(denoise) X(decode) X(write)

typedef struct {
    splam_generate_options options;
    sp_callbacks callbacks; /* to be stopped by, not to report to */
    splam_generate_seconds last;
    int count;
#define X(stage) sp_bench_times stage;
    STAGES(X)
#undef X
} generation;

/* The first of SP_BENCH_MOST_RUNS + 1 runs is the warm-up and not kept. */
static sp_status generate(void *context)
{
    generation *g = context;
    SP_TRY(sp_generate_once(&g->options, &g->callbacks));
    if (g->count++ == 0) return SP_OK;
#define X(stage) g->stage.run[g->stage.count++] = g->last.stage;
    STAGES(X)
#undef X
    return SP_OK;
}

static sp_status store_stages(json_t *out, const generation *g)
{
    json_t *stages = json_object();
    bool failed = false;
#define X(stage)                                                                                   \
    failed |= json_object_set_new(stages, #stage, json_real(sp_bench_median(&g->stage))) != 0;
    STAGES(X)
#undef X
    failed |= json_object_set_new(out, "generate_stage_seconds", stages) != 0;
    return failed ? SP_MEMORY : SP_OK;
}

static bool is_whole(const char *model)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"};
    sp_model_folder folder;
    if (sp_model_folder_open(model, &folder)) return false;
    bool whole = true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        whole = whole && sp_model_folder_has(&folder, parts[i]);
    sp_model_folder_close(&folder);
    return whole;
}

/* Weights are loaded every time; the picture goes to a folder that is removed again. */
static sp_status time_generate(const splam_bench_options *o, const sp_callbacks *callbacks,
                               json_t *out)
{
    if (!is_whole(o->model)) return leave_out(out, "generate", "the model has not all parts");
    char folder[] = "/tmp/splam-bench-XXXXXX";
    if (!mkdtemp(folder)) return sp_fail(SP_IO, "/tmp: a folder could not be made");
    char *path = sp_path_join(folder, "out.png");
    generation g = {.options = splam_generate_defaults(),
                    .callbacks = {callbacks->context, NULL, callbacks->cancelled}};
    g.options.model = o->model;
    g.options.prompt = "a lighthouse in a storm";
    g.options.steps = 4;
    g.options.guidance = 1;
    g.options.precision = o->precision;
    g.options.device = o->device;
    g.options.output = path;
    g.options.seconds = &g.last;
    sp_bench_times times;
    bool has_peak = reset_peak();
    sp_status status = path ? sp_bench_repeat(generate, &g, 2, callbacks, &times) : SP_MEMORY;
    if (!status) status = store(out, "generate", &times, has_peak);
    if (!status) status = store_stages(out, &g);
    sp_free(path);
    sp_remove_tree(folder);
    sp_report(callbacks, "generate", 1, 1, NULL);
    return status;
}

sp_status sp_bench_generate(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks,
                            json_t *out)
{
    sp_work_model model;
    sp_dtype precision = sp_precision_dtype(device, o->precision);
    SP_TRY(sp_work_model_open(o->model, NULL, device, &model));
    const evaluation evaluations[] = {{"text_encoder", SP_WORK_TEXT, "text", model.text},
                                      {"unet_forward", SP_WORK_UNET, "online", model.unet},
                                      {"vae_decode", SP_WORK_DECODE, "vae", model.vae}};
    sp_status status = SP_OK;
    for (size_t i = 0; i < sizeof evaluations / sizeof *evaluations && !status; i++)
        if (wants(o, evaluations[i].name))
            status = time_evaluation(&model, &evaluations[i], precision, callbacks, out);
    sp_work_model_close(&model);
    return status || !wants(o, "generate") ? status : time_generate(o, callbacks, out);
}

/* ---- training ---- */

/* Teacher, average and student, gradients, their norm, AdamW and the average: what one optimiser
 * step takes once latents and conditioning are there. */
static sp_status step(void *context)
{
    timed_run *t = context;
    SP_TRY(execute(t));
    double norm;
    SP_TRY(sp_gradients_norm(&t->gradients, &t->state, &norm));
    const sp_adamw_options options = {.learning_rate = 8e-6,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .epsilon = 1e-8,
                                      .gradient_scale = 1 / (1 + norm),
                                      .ema_decay = 0.95,
                                      .step = ++t->state.step};
    sp_device *device = sp_plan_device(t->plan);
    SP_TRY(sp_training_update(&t->state, &t->gradients, &options));
    return device->finish(device);
}

static sp_status time_backward(const sp_work_model *model, const splam_bench_options *o,
                               const sp_callbacks *callbacks, json_t *out)
{
    static const char name[] = "unet_forward_backward";
    timed_run t = {.callbacks = callbacks};
    sp_bench_times times;
    bool has_peak = reset_peak();
    size_t weights = 0;
    for (size_t i = 0; i < sp_weights_count(model->unet->weights); i++)
        weights += sizeof(float) * (size_t)sp_tensor_count(sp_weights_at(model->unet->weights, i));
    sp_status status =
        create(model, SP_WORK_UNET_BACKWARD, o->train_batch_size, sp_precision_dtype(model->device, o->precision),
               weights, &t);
    if (!status) status = sp_weights_copy(model->unet->weights, SP_F32, &t.state.online);
    if (!status) status = sp_bind(sp_run_bound(t.run), "online", t.state.online);
    if (!status) status = sp_bench_repeat(execute, &t, 2, callbacks, &times);
    if (!status) status = store(out, name, &times, has_peak);
    release(&t);
    sp_report(callbacks, name, 1, 1, NULL);
    return status == SP_MEMORY ? leave_out(out, name, sp_error_message()) : status;
}

/* Online weights, average and moments of a student that is the teacher with a cond_proj of zeros. */
static sp_status make_state(const sp_work_model *model, sp_optimizer optimizer,
                            sp_training_state *out)
{
    sp_component_config config = {.kind = SP_COMPONENT_UNET, .unet = sp_work_student(model)};
    sp_weights *initial = NULL;
    sp_graph *graph = NULL;
    sp_status status = sp_weights_copy(model->unet->weights, SP_F32, &initial);
    if (!status) status = sp_component_graph(&config, &graph);
    if (!status)
        status = sp_initialize(graph, "", &(sp_initialize_options){.zero = {"cond_proj"}}, initial);
    sp_graph_destroy(graph);
    if (status) {
        sp_weights_destroy(initial);
        return status;
    }
    return sp_training_state_create(initial, optimizer, out);
}

static sp_status prepare_step(const sp_work_model *model, const splam_bench_options *o,
                              timed_run *t)
{
    sp_step_memory memory;
    sp_optimizer optimizer;
    size_t allowed = sp_device_allowed(model->device);
    SP_TRY(sp_optimizer_of(o->optimizer, &optimizer));
    SP_TRY(sp_work_step_plan(model, o->train_batch_size,
                             sp_precision_dtype(model->device, o->precision), optimizer, allowed,
                             &memory, &t->plan));
    if (!t->plan)
        return sp_fail(SP_MEMORY, "takes %s, and %s are free",
                       sp_bytes_text(sp_step_memory_total(&memory)), sp_bytes_text(allowed));
    sp_string table = {0};
    sp_step_memory_append(&memory, allowed, &table);
    sp_log_info("memory of a step");
    sp_log_lines(sp_string_text(&table));
    sp_string_free(&table);
    SP_TRY(make_state(model, optimizer, &t->state));
    SP_TRY(sp_run_create(t->plan, &t->run));
    SP_TRY(fill_inputs(t->run, t->plan));
    SP_TRY(sp_bind(sp_run_bound(t->run), "teacher", model->unet->weights));
    SP_TRY(sp_bind(sp_run_bound(t->run), "ema", t->state.ema));
    SP_TRY(sp_bind(sp_run_bound(t->run), "online", t->state.online));
    SP_TRY(sp_training_state_place(&t->state, sp_plan_device(t->plan)));
    return sp_gradients_of(t->run, t->state.online, &t->gradients);
}

static sp_status time_step(const sp_work_model *model, const splam_bench_options *o,
                           const sp_callbacks *callbacks, json_t *out)
{
    static const char name[] = "distill_step";
    timed_run t = {.callbacks = callbacks};
    sp_bench_times times;
    if (!sp_work_possible(model, SP_WORK_STEP))
        return leave_out(out, name, "the model is a student already");
    bool has_peak = reset_peak();
    sp_status status = prepare_step(model, o, &t);
    if (!status) status = sp_bench_repeat(step, &t, 2, callbacks, &times);
    if (!status) status = store(out, name, &times, has_peak);
    release(&t);
    sp_report(callbacks, name, 1, 1, NULL);
    return status == SP_MEMORY ? leave_out(out, name, sp_error_message()) : status;
}

sp_status sp_bench_train(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks, json_t *out)
{
    sp_work_model model;
    SP_TRY(sp_work_model_open(o->model, NULL, device, &model));
    sp_status status = SP_OK;
    if (!model.unet)
        status = leave_out(out, "train", "the model has no UNet");
    else if (wants(o, "unet_forward_backward"))
        status = time_backward(&model, o, callbacks, out);
    if (!status && model.unet && wants(o, "distill_step"))
        status = time_step(&model, o, callbacks, out);
    sp_work_model_close(&model);
    return status;
}
