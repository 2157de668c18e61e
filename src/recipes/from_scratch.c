/* Training from random weights. */
#include "recipes/from_scratch.h"
#include "ops/autodiff.h"
#include "models/initialize.h"
#include "ops/ops.h"

sp_status sp_finish_training_graph(sp_builder *b, sp_value *loss, sp_graph **out)
{
    sp_status status = SP_OK;
    if (!sp_builder_failed(b)) status = sp_pass_fuse(sp_builder_graph(b));
    if (!status && !sp_builder_failed(b)) status = sp_output_gradients(b, loss, "online");
    if (!status || sp_builder_failed(b)) status = sp_builder_finish(b, out);
    sp_builder_destroy(b);
    return status;
}

sp_status sp_train_settings(const splam_train_options *o, const sp_device *device, json_t **out)
{
    *out = json_pack("{s:I, s:I, s:f, s:f, s:o, s:s}", "max-train-steps", (json_int_t)o->max_train_steps,
                     "train-batch-size", (json_int_t)o->train_batch_size, "learning-rate", o->learning_rate,
                     "ema-decay", o->ema_decay, "seed", sp_json_seed(o->seed), "mixed-precision",
                     sp_dtype_name(sp_precision_dtype(device, o->precision)));
    sp_status status = *out ? sp_settings_set_text(*out, "data", o->data) : SP_MEMORY;
    if (!status && o->caption_column)
        status = sp_settings_set_text(*out, "caption-column", o->caption_column);
    if (!status) return SP_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

static sp_status prepare(sp_graph *graph, const splam_train_options *o, const sp_from_scratch_options *how,
                         sp_plan **plan, sp_run **run, sp_training_state *state)
{
    const sp_initialize_options initialize = {.seed = o->seed, .zero = {how->zero}};
    sp_weights *initial = NULL;
    sp_status status = sp_weights_create(&initial);
    if (!status) status = sp_initialize(graph, "online", &initialize, initial);
    if (!status)
        status = sp_plan_create(graph, how->device, sp_precision_dtype(how->device, o->precision), plan);
    else
        sp_graph_destroy(graph);
    if (!status) status = sp_run_create(*plan, run);
    if (status) {
        sp_weights_destroy(initial);
        return status;
    }
    return sp_training_state_create(initial, SP_OPTIMIZER_ADAMW, state);
}

sp_status sp_train_from_scratch(sp_graph *graph, const splam_train_options *o,
                                const sp_from_scratch_options *how, json_t *settings,
                                const sp_training_task *task, const sp_callbacks *callbacks,
                                sp_training_state *state)
{
    sp_plan *plan = NULL;
    sp_run *run = NULL;
    sp_status status = prepare(graph, o, how, &plan, &run, state);
    const sp_trainer_settings trainer = {
        .name = how->name,
        .output = o->output,
        .max_steps = o->max_train_steps,
        .accumulation = 1,
        .learning_rate = o->learning_rate,
        .warmup_steps = how->warmup_steps,
        .cosine = true,
        .ema_decay = o->ema_decay,
        .ema_warmup = true,
        .max_grad_norm = 1,
        .checkpointing_steps = o->checkpointing_steps,
        .checkpoints_total_limit = 2,
        .validation_steps = o->validation_steps,
        .resume = o->resume,
        .settings = settings,
    };
    if (!status) status = sp_train(run, &trainer, task, state, callbacks);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    return status;
}
