/* Parts of a model as plans with runs: memory looked at, inputs filled, weights bound. */
#include "bench/model_run.h"
#include "backend/precision.h"
#include "base/log.h"
#include "base/random.h"
#include "base/system.h"
#include "graph/optimizer.h"
#include "models/initialize.h"

const sp_model_part sp_model_parts[] = {
    {"text_encoder", SP_WORK_TEXT, false},
    {"text_encoder_2", SP_WORK_TEXT_2, false},
    {"unet_forward", SP_WORK_UNET, false},
    {"transformer_forward", SP_WORK_TRANSFORMER, false},
    {"vae_decode", SP_WORK_DECODE, false},
    {"unet_forward_backward", SP_WORK_UNET_BACKWARD, true},
    {"distill_step", SP_WORK_STEP, true},
};
const int sp_model_part_count = sizeof sp_model_parts / sizeof *sp_model_parts;

bool sp_model_part_is_other(const sp_work_model *model, const sp_model_part *part)
{
    bool of_transformer = part->work == SP_WORK_TRANSFORMER,
         of_unet = part->work == SP_WORK_UNET || part->work == SP_WORK_UNET_BACKWARD || part->work == SP_WORK_STEP;
    return (of_transformer && !model->transformer) || (of_unet && !model->unet && model->transformer);
}

const char *sp_model_part_absent(const sp_work_model *model, const sp_model_part *part)
{
    if (sp_work_possible(model, part->work)) return NULL;
    if (part->work == SP_WORK_STEP && model->unet) return "the model is a student already";
    return part->train ? "the model has no UNet" : "the model has no such part";
}

/* ---- memory and inputs ---- */

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

static sp_status fill_inputs(sp_run *run)
{
    const sp_plan *plan = sp_run_plan(run);
    const sp_graph *graph = sp_plan_graph(plan);
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind == SP_VALUE_INPUT && sp_plan_input(plan, value->name))
            SP_TRY(fill_input(run, value));
    }
    return SP_OK;
}

/* ---- evaluations and gradients ---- */

static sp_status create_evaluation(const sp_work_model *model, const sp_model_part *part, const splam_bench_options *o,
                                   sp_model_run *out)
{
    const bool trains = part->work == SP_WORK_UNET_BACKWARD;
    const sp_component *component = sp_work_component(model, part->work);
    size_t weights = trains ? 0 : sp_weights_bytes(component->weights);
    for (size_t i = 0; trains && i < sp_weights_count(component->weights); i++)
        weights += sizeof(float) * (size_t)sp_tensor_count(sp_weights_at(component->weights, i));
    sp_graph *graph;
    SP_TRY(sp_work_graph(model, part->work, part->train ? o->train_batch_size : 1, &graph));
    SP_TRY(sp_plan_create(graph, model->device, sp_precision_dtype(model->device, o->precision), &out->plan));
    SP_TRY(check_free(out->plan, weights));
    if (trains) SP_TRY(sp_weights_copy(component->weights, SP_F32, &out->state.online));
    SP_TRY(sp_run_create(out->plan, &out->run));
    SP_TRY(fill_inputs(out->run));
    return sp_bind(sp_run_bound(out->run), sp_work_set(part->work), trains ? out->state.online : component->weights);
}

/* ---- whole steps ---- */

/* Online weights, average and moments of a student that is the teacher with a cond_proj of zeros. */
static sp_status make_state(const sp_work_model *model, sp_optimizer optimizer,
                            sp_training_state *out)
{
    const sp_component_config config = sp_work_student(model);
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

static void say_memory(const sp_step_memory *memory, size_t allowed)
{
    sp_string table = {0};
    sp_step_memory_append(memory, allowed, &table);
    sp_log_info("memory of a step");
    sp_log_lines(sp_string_text(&table));
    sp_string_free(&table);
}

static sp_status create_step(const sp_work_model *model, const splam_bench_options *o, sp_model_run *out)
{
    sp_step_memory memory;
    sp_optimizer optimizer;
    size_t allowed = sp_device_allowed(model->device);
    SP_TRY(sp_optimizer_of(o->optimizer, &optimizer));
    SP_TRY(sp_work_step_plan(model, o->train_batch_size,
                             sp_precision_dtype(model->device, o->precision), optimizer, allowed,
                             &memory, &out->plan));
    if (!out->plan)
        return sp_fail(SP_MEMORY, "takes %s, and %s are free",
                       sp_bytes_text(sp_step_memory_total(&memory)), sp_bytes_text(allowed));
    say_memory(&memory, allowed);
    SP_TRY(make_state(model, optimizer, &out->state));
    SP_TRY(sp_run_create(out->plan, &out->run));
    SP_TRY(fill_inputs(out->run));
    SP_TRY(sp_bind(sp_run_bound(out->run), "teacher", model->unet->weights));
    SP_TRY(sp_bind(sp_run_bound(out->run), "ema", out->state.ema));
    SP_TRY(sp_bind(sp_run_bound(out->run), "online", out->state.online));
    SP_TRY(sp_training_state_place(&out->state, sp_plan_device(out->plan)));
    out->updates = true;
    return sp_gradients_of(out->run, out->state.online, &out->gradients);
}

/* ---- running ---- */

sp_status sp_model_run_create(const sp_work_model *model, const sp_model_part *part, const splam_bench_options *options,
                              sp_model_run *out)
{
    *out = (sp_model_run){0};
    return part->work == SP_WORK_STEP ? create_step(model, options, out)
                                      : create_evaluation(model, part, options, out);
}

void sp_model_run_free(sp_model_run *run)
{
    sp_run_destroy(run->run);
    sp_plan_destroy(run->plan);
    sp_training_state_free(&run->state);
    sp_gradients_free(&run->gradients);
    *run = (sp_model_run){0};
}

sp_status sp_model_run_execute(sp_model_run *run, const sp_callbacks *callbacks)
{
    sp_device *device = sp_plan_device(run->plan);
    SP_TRY(sp_run_execute(run->run, callbacks));
    return device->finish(device);
}

sp_status sp_model_run_norm(sp_model_run *run, double *norm)
{
    return sp_gradients_norm(&run->gradients, &run->state, norm);
}

sp_status sp_model_run_update(sp_model_run *run, double norm)
{
    sp_device *device = sp_plan_device(run->plan);
    const sp_adamw_options options = {.learning_rate = 8e-6,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .epsilon = 1e-8,
                                      .gradient_scale = 1 / (1 + norm),
                                      .ema_decay = 0.95,
                                      .step = ++run->state.step};
    SP_TRY(sp_training_update(&run->state, &run->gradients, &options));
    return device->finish(device);
}
