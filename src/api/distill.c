/* splam_distill: a few-step student of a teacher. */
#include <limits.h>
#include <string.h>
#include "api/convert.h"
#include "distill/distill.h"

splam_distill_options splam_distill_defaults(void)
{
    const sp_distill_options d = sp_distill_defaults();
    return (splam_distill_options){
        .objective = sp_objective_name(d.objective.objective),
        .guidance_scale_w = d.objective.guidance_w,
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

/* Whatever is given and only one objective looks at. */
static sp_status check_given(const splam_distill_options *o, sp_objective objective)
{
    const struct {
        const char *flag;
        bool given;
        sp_objective of;
    } flags[] = {
        {"sigma", o->sigma, SP_OBJECTIVE_SPLAM},
        {"gamma-conditioning", o->gamma_conditioning, SP_OBJECTIVE_SPLAM},
        {"gamma-one-probability", o->gamma_one_probability != 0, SP_OBJECTIVE_SPLAM},
        {"gamma-power", o->gamma_power != 0, SP_OBJECTIVE_SPLAM},
        {"gamma-grid", o->gamma_grid != 0, SP_OBJECTIVE_SPLAM},
        {"cond-proj-init", o->cond_proj_init, SP_OBJECTIVE_SPLAM},
        {"phases", o->phases != 0, SP_OBJECTIVE_PCM},
        {"rounds", o->rounds != 0, SP_OBJECTIVE_PROGRESSIVE},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].given && objective != flags[i].of)
            return sp_objective_useless(objective, flags[i].flag, sp_objective_name(flags[i].of));
    return SP_OK;
}

static sp_status read_loss(const splam_distill_options *o, sp_loss_options *loss)
{
    loss->huber_c = o->huber_c;
    if (!o->loss_type) return SP_OK;
    bool l2 = strcmp(o->loss_type, "l2") == 0;
    if (!l2 && strcmp(o->loss_type, "huber") != 0)
        return sp_fail(SP_ARGUMENT, "loss type \"%.64s\" is not known, expected huber or l2",
                       o->loss_type);
    loss->kind = l2 ? SP_LOSS_L2 : SP_LOSS_HUBER;
    return SP_OK;
}

/* What is out of int's range is out of every setting's. */
static int whole(int64_t value)
{
    return value > INT_MAX ? INT_MAX : value < INT_MIN ? INT_MIN : (int)value;
}

static sp_status read_gamma(const splam_distill_options *o, sp_objective_settings *s)
{
    if (o->sigma) SP_TRY(sp_sigma_of(o->sigma, &s->sigma));
    if (o->gamma_conditioning)
        SP_TRY(sp_gamma_conditioning_of(o->gamma_conditioning, &s->conditioning));
    if (o->gamma_one_probability != 0) s->gamma.one_probability = o->gamma_one_probability;
    if (o->gamma_power != 0) s->gamma.power = o->gamma_power;
    if (o->gamma_grid) s->gamma.grid = whole(o->gamma_grid);
    return SP_OK;
}

/* The objective's defaults, and what is given in their place. */
static sp_status read_objective(const splam_distill_options *o, sp_objective_settings *s)
{
    sp_objective objective;
    SP_TRY(sp_objective_of(o->objective, &objective));
    SP_TRY(check_given(o, objective));
    *s = sp_objective_defaults(objective);
    SP_TRY(read_gamma(o, s));
    s->guidance_w = o->guidance_scale_w;
    if (o->num_ddim_timesteps) s->ddim_timesteps = whole(o->num_ddim_timesteps);
    if (o->solver_steps) s->solver_steps = whole(o->solver_steps);
    if (o->phases) s->phases = whole(o->phases);
    if (o->rounds) s->rounds = whole(o->rounds);
    if (o->skip)
        s->skip = whole(o->skip);
    else if (objective != SP_OBJECTIVE_PROGRESSIVE && s->ddim_timesteps > 0)
        s->skip = 1000 / s->ddim_timesteps;
    return read_loss(o, &s->loss);
}

static sp_status read_init(const splam_distill_options *o, sp_distill_options *out)
{
    const char *init = o->cond_proj_init;
    if (!init) return SP_OK;
    if (out->objective.conditioning != SP_GAMMA_EMBEDDING)
        return sp_fail(SP_ARGUMENT,
                       "--cond-proj-init is for --gamma-conditioning embedding: a student "
                       "told by time has no cond_proj");
    out->random_cond_proj = strcmp(init, "random") == 0;
    if (out->random_cond_proj || strcmp(init, "zero") == 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "cond-proj-init \"%.64s\" is not known, expected zero or random",
                   init);
}

static sp_status own(const splam_distill_options *o, sp_distill_options *out)
{
    *out = (sp_distill_options){
        .teacher = o->teacher,
        .prediction = o->prediction,
        .data = o->data,
        .output = o->output,
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
        .lora = {.rank = o->lora_rank,
                 .alpha = o->lora_alpha != 0 ? o->lora_alpha : (double)o->lora_rank},
        .lora_start = o->lora_start,
        .lora_merged = o->lora_merged,
        .checkpointing_steps = o->checkpointing_steps,
        .validation_steps = o->validation_steps,
        .checkpoints_total_limit = whole(o->checkpoints_total_limit),
        .resume = o->resume,
        .seed = o->seed,
        .draws = o->draws,
        .trace = o->trace,
        .dry_run = o->dry_run,
    };
    if (!o->objective || !o->optimizer || !o->lora_targets)
        return sp_fail(SP_ARGUMENT, "%s is missing: begin with splam_distill_defaults()",
                       !o->objective   ? "an objective"
                       : !o->optimizer ? "an optimizer"
                                       : "lora_targets");
    if (!o->teacher) return sp_fail(SP_ARGUMENT, "a teacher's folder is missing");
    if (o->memory_limit < 0)
        return sp_fail(SP_ARGUMENT, "a memory limit of %lld bytes is not possible",
                       (long long)o->memory_limit);
    if (!o->output && !o->dry_run)
        return sp_fail(SP_ARGUMENT, "a folder to write the student to is missing");
    SP_TRY(sp_optimizer_of(o->optimizer, &out->optimizer));
    SP_TRY(sp_lora_targets_of(o->lora_targets, &out->lora.targets));
    SP_TRY(read_objective(o, &out->objective));
    return read_init(o, out);
}

splam_status splam_distill(const splam_distill_options *options, const splam_callbacks *callbacks)
{
    sp_callbacks own_callbacks = sp_own_callbacks(callbacks);
    sp_distill_options o;
    sp_status status = own(options, &o);
    if (!status) status = sp_distill(&o, &own_callbacks);
    return status;
}
