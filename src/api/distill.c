#include "api/convert.h"
#include "train/distill.h"

splam_distill_options splam_distill_defaults(void)
{
    const sp_distill_options d = sp_distill_defaults();
    return (splam_distill_options){
        .objective = sp_objective_name(d.objective.objective),
        .sigma = sp_sigma_name(d.objective.sigma),
        .gamma_conditioning = sp_gamma_conditioning_name(d.objective.conditioning),
        .gamma_one_probability = d.objective.gamma_one_probability,
        .gamma_power = d.objective.gamma_power,
        .guidance_scale_w = d.objective.guidance_w,
        .num_ddim_timesteps = d.objective.ddim_timesteps,
        .solver_steps = d.objective.solver_steps,
        .l2 = d.objective.loss.kind == SP_LOSS_L2,
        .huber_c = d.objective.loss.huber_c,
        .max_train_steps = d.max_train_steps,
        .train_batch_size = d.batch,
        .gradient_accumulation_steps = d.accumulation,
        .learning_rate = d.learning_rate,
        .ema_decay = d.ema_decay,
        .optimizer = sp_optimizer_name(d.optimizer),
        .lora_targets = sp_lora_targets_name(d.lora.targets),
        .checkpointing_steps = d.checkpointing_steps,
        .checkpoints_total_limit = d.checkpoints_total_limit,
    };
}

static sp_status own(const splam_distill_options *o, sp_distill_options *out)
{
    *out = (sp_distill_options){
        .teacher = o->teacher,
        .data = o->data,
        .output = o->output,
        .objective = {.gamma_one_probability = o->gamma_one_probability,
                      .gamma_power = o->gamma_power,
                      .guidance_w = o->guidance_scale_w,
                      .ddim_timesteps = (int)o->num_ddim_timesteps,
                      .skip = (int)o->skip,
                      .solver_steps = (int)o->solver_steps,
                      .loss = {.kind = o->l2 ? SP_LOSS_L2 : SP_LOSS_HUBER, .huber_c = o->huber_c}},
        .max_train_steps = o->max_train_steps,
        .batch = o->train_batch_size,
        .accumulation = o->gradient_accumulation_steps,
        .learning_rate = o->learning_rate,
        .ema_decay = o->ema_decay,
        .max_grad_norm = sp_distill_defaults().max_grad_norm,
        .pictures = sp_picture_options_of(&o->pictures, o->seed),
        .storage = sp_storage_of(o->precision),
        .gradient_checkpointing = o->gradient_checkpointing,
        .memory_limit = o->memory_limit,
        .random_cond_proj = o->random_cond_proj,
        .lora = {.rank = o->lora_rank,
                 .alpha = o->lora_alpha != 0 ? o->lora_alpha : (double)o->lora_rank},
        .lora_start = o->lora_start,
        .lora_merged = o->lora_merged,
        .checkpointing_steps = o->checkpointing_steps,
        .validation_steps = o->validation_steps,
        .checkpoints_total_limit = (int)o->checkpoints_total_limit,
        .resume = o->resume,
        .seed = o->seed,
        .draws = o->draws,
        .trace = o->trace,
        .dry_run = o->dry_run,
    };
    if (!o->teacher) return sp_fail(SP_ARGUMENT, "a teacher's folder is missing");
    if (o->memory_limit < 0)
        return sp_fail(SP_ARGUMENT, "a memory limit of %lld bytes is not possible",
                       (long long)o->memory_limit);
    if (!o->output && !o->dry_run)
        return sp_fail(SP_ARGUMENT, "a folder to write the student to is missing");
    if (!out->objective.skip && out->objective.ddim_timesteps > 0)
        out->objective.skip = 1000 / out->objective.ddim_timesteps;
    SP_TRY(sp_optimizer_of(o->optimizer, &out->optimizer));
    SP_TRY(sp_objective_of(o->objective, &out->objective.objective));
    SP_TRY(sp_lora_targets_of(o->lora_targets, &out->lora.targets));
    SP_TRY(sp_sigma_of(o->sigma, &out->objective.sigma));
    return sp_gamma_conditioning_of(o->gamma_conditioning, &out->objective.conditioning);
}

splam_status splam_distill(const splam_distill_options *options, const splam_callbacks *callbacks)
{
    sp_callbacks own_callbacks = sp_own_callbacks(callbacks);
    sp_distill_options o;
    sp_status status = own(options, &o);
    if (!status) status = sp_distill(&o, &own_callbacks);
    return sp_public_status(status);
}
