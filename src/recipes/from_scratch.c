/* Training from random weights, or a model's. */
#include "recipes/from_scratch.h"
#include "ops/autodiff.h"
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

static sp_status read_schedule(const splam_train_options *o, int64_t warmup_steps, sp_lr_schedule *out)
{
    *out = (sp_lr_schedule){.kind = SP_LR_COSINE, .warmup_steps = warmup_steps, .moves_at_once = true};
    if (!o->lr_scheduler && o->lr_warmup_steps != SPLAM_UNSET)
        return sp_fail(SP_ARGUMENT, "`lr_warmup_steps` needs `lr_scheduler`: constant_with_warmup, linear or cosine");
    if (!o->lr_scheduler) return SP_OK;
    SP_TRY(sp_lr_schedule_of(o->lr_scheduler, o->lr_warmup_steps, out));
    return sp_lr_schedule_check(out, o->max_train_steps);
}

sp_status sp_from_scratch_read(const splam_train_options *o, int64_t warmup_steps, sp_from_scratch_options *how)
{
    SP_TRY(read_schedule(o, warmup_steps, &how->lr_schedule));
    SP_TRY(sp_average_of("ema_decay", o->ema_decay, &how->average));
    how->average.rises = true;
    return SP_OK;
}

sp_status sp_from_scratch_dataset(const splam_train_options *o, int64_t factor, const sp_callbacks *callbacks,
                                  sp_dataset **out)
{
    const sp_dataset_options data = {.caption_column = o->caption_column,
                                     .resolution = o->resolution == SPLAM_UNSET ? 0 : (int)o->resolution};
    if (data.resolution % factor)
        return sp_fail(SP_ARGUMENT,
                       "`resolution` is %d, and must be a multiple of %lld, the pixels that a latent's side stands for",
                       data.resolution, (long long)factor);
    return sp_dataset_open(o->data, &data, callbacks, out);
}

static sp_status record(const splam_train_options *o, const sp_from_scratch_options *how, json_t *out)
{
    char average[SP_AVERAGE_TEXT];
    SP_TRY(SP_SETTINGS_ADD(
        out, sp_setting_whole("train-batch-size", o->train_batch_size),
        sp_setting_number("learning-rate", o->learning_rate),
        sp_average_setting("ema-decay", &how->average, average), sp_setting_seed("seed", o->seed),
        sp_setting_text("mixed-precision", sp_dtype_name(sp_precision_dtype(how->device, o->precision))),
        sp_setting_text("data", o->data), sp_setting_text("caption-column", o->caption_column)));
    if (o->resolution != SPLAM_UNSET) SP_TRY(SP_SETTINGS_ADD(out, sp_setting_whole("resolution", o->resolution)));
    if (o->lr_scheduler) return sp_lr_schedule_record(&how->lr_schedule, o->max_train_steps, out);
    return SP_SETTINGS_ADD(out, sp_setting_whole("max-train-steps", o->max_train_steps));
}

sp_status sp_train_settings(const splam_train_options *o, const sp_from_scratch_options *how, json_t **out)
{
    *out = json_object();
    sp_status status = *out ? record(o, how, *out) : SP_MEMORY;
    if (!status) return SP_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

/* What the graph has of `from`, as F32. */
static sp_status copy_used(const sp_graph *graph, const sp_weights *from, sp_weights **out)
{
    sp_weights *used = NULL;
    sp_status status = sp_weights_create(&used);
    for (int i = 0; i < graph->value_count && !status; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind == SP_VALUE_PARAMETER && sp_weights_find(from, value->name))
            status = sp_weights_add_view(used, value->name, from, value->name);
    }
    if (!status) status = sp_weights_copy(used, SP_F32, out);
    sp_weights_destroy(used);
    return status;
}

static sp_status prepare(sp_graph *graph, const splam_train_options *o, const sp_from_scratch_options *how,
                         sp_plan **plan, sp_run **run, sp_training_state *state)
{
    sp_initialize_options initialize = {.seed = o->seed};
    if (how->zero) memcpy(initialize.zero, how->zero, sizeof initialize.zero);
    sp_weights *initial = NULL;
    sp_status status = how->start ? copy_used(graph, how->start, &initial) : sp_weights_create(&initial);
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
        .lr_schedule = how->lr_schedule,
        .average = how->average,
        .samples = o->train_batch_size,
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
