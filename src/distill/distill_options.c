/* What is read of the public options, and what of them goes together. */
#include <string.h>
#include "distill/distill.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "models/guidance.h"

/* What all have a use for but dmd. */
static sp_status check_given_matching(const splam_distill_options *o)
{
    const struct {
        const char *member;
        bool given;
    } members[] = {
        {"num_ddim_timesteps", splam_is_given((double)o->num_ddim_timesteps)},
        {"skip", splam_is_given((double)o->skip)},
        {"solver_steps", splam_is_given((double)o->solver_steps)},
        {"loss_type", o->loss_type},
        {"huber_c", splam_is_given(o->huber_c)},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].given)
            return sp_objective_useless(SP_OBJECTIVE_DMD, members[i].member, "objectives with sub-paths");
    return SP_OK;
}

/* Whatever is given and only one objective looks at. */
static sp_status check_given(const splam_distill_options *o, sp_objective objective)
{
    const struct {
        const char *member;
        bool given;
        sp_objective of;
    } members[] = {
        {"sigma", o->sigma, SP_OBJECTIVE_SPLAM},
        {"gamma_conditioning", o->gamma_conditioning, SP_OBJECTIVE_SPLAM},
        {"gamma_one_probability", splam_is_given(o->gamma_one_probability), SP_OBJECTIVE_SPLAM},
        {"gamma_power", splam_is_given(o->gamma_power), SP_OBJECTIVE_SPLAM},
        {"gamma_grid", splam_is_given((double)o->gamma_grid), SP_OBJECTIVE_SPLAM},
        {"phases", splam_is_given((double)o->phases), SP_OBJECTIVE_PCM},
        {"rounds", splam_is_given((double)o->rounds), SP_OBJECTIVE_PROGRESSIVE},
        {"student_steps", splam_is_given((double)o->student_steps), SP_OBJECTIVE_DMD},
        {"fake_score_steps", splam_is_given((double)o->fake_score_steps), SP_OBJECTIVE_DMD},
        {"gan_weight", splam_is_given(o->gan_weight), SP_OBJECTIVE_DMD},
        {"gan_fake_score_weight", splam_is_given(o->gan_fake_score_weight), SP_OBJECTIVE_DMD},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].given && objective != members[i].of)
            return sp_objective_useless(objective, members[i].member, sp_objective_name(members[i].of));
    if (o->sub_paths && (objective == SP_OBJECTIVE_DMD || objective == SP_OBJECTIVE_PROGRESSIVE))
        return sp_objective_useless(objective, "sub_paths", "objectives with sub-paths of one teacher");
    return objective == SP_OBJECTIVE_DMD ? check_given_matching(o) : SP_OK;
}

static void set_whole(int64_t value, int *out)
{
    if (value != SPLAM_UNSET) *out = (int)value; /* the tables' ranges are within int's */
}

static sp_status read_gamma(const splam_distill_options *o, sp_objective_settings *s)
{
    if (o->sigma) SP_TRY(sp_sigma_of(o->sigma, &s->sigma));
    if (o->gamma_conditioning) SP_TRY(sp_gamma_conditioning_of(o->gamma_conditioning, &s->conditioning));
    if (splam_is_given(o->gamma_one_probability)) s->gamma.one_probability = o->gamma_one_probability;
    if (splam_is_given(o->gamma_power)) s->gamma.power = o->gamma_power;
    set_whole(o->gamma_grid, &s->gamma.grid);
    return SP_OK;
}

static sp_status read_discriminator(const splam_distill_options *o, sp_objective_settings *s)
{
    bool given = splam_is_given(o->gan_fake_score_weight);
    if (splam_is_given(o->gan_weight)) s->gan_weight = o->gan_weight;
    if (s->gan_weight != 0) s->gan_fake_score_weight = given ? o->gan_fake_score_weight : 0.01;
    if (s->gan_weight != 0 || !given) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`gan_fake_score_weight` needs a `gan_weight` of more than 0: without one there is no "
                                "discriminator");
}

static sp_status read_loss(const splam_distill_options *o, sp_objective_settings *s)
{
    if (o->loss_type) SP_TRY(sp_loss_type_of(o->loss_type, &s->loss.kind));
    if (splam_is_given(o->huber_c)) {
        s->loss.huber_c = o->huber_c;
        if (s->loss.kind != SP_LOSS_HUBER)
            return sp_fail(SP_ARGUMENT, "`huber_c` says nothing to `loss_type` %s", sp_loss_type_name(s->loss.kind));
    }
    SP_TRY(sp_loss_weighting_of(o->loss_weighting, &s->weighting));
    if (!splam_is_given(o->snr_gamma)) return SP_OK;
    s->snr_gamma = o->snr_gamma;
    if (s->weighting == SP_WEIGHTING_MIN_SNR) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`snr_gamma` says nothing to `loss_weighting` %s; it is for min-snr",
                   o->loss_weighting);
}

static sp_status read_guidance(const splam_distill_options *o, sp_objective_settings *s)
{
    bool given = splam_is_given(o->guidance_scale_w);
    if (given) s->guidance_scale_w = o->guidance_scale_w;
    if (!o->guidance_range) return SP_OK;
    if (given)
        return sp_fail(SP_ARGUMENT, "`guidance_scale_w` is one guidance for all, and `guidance_range` draws one for "
                                    "each sample: give one of the two");
    SP_TRY(sp_guidance_range_of("guidance_range", o->guidance_range, &s->guidance));
    s->guidance_scale_w = sp_usual_guidance(&s->guidance) - 1;
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
    SP_TRY(read_discriminator(o, s));
    SP_TRY(read_guidance(o, s));
    set_whole(o->num_ddim_timesteps, &s->ddim_timesteps);
    set_whole(o->student_steps, &s->ddim_timesteps);
    set_whole(o->fake_score_steps, &s->fake_score_steps);
    set_whole(o->solver_steps, &s->solver_steps);
    set_whole(o->phases, &s->phases);
    set_whole(o->rounds, &s->rounds);
    if (s->skip) s->skip = 1000 / s->ddim_timesteps;
    set_whole(o->skip, &s->skip);
    s->skip_to = s->skip;
    set_whole(o->skip_to, &s->skip_to);
    SP_TRY(read_loss(o, s));
    return sp_start_of(o->timestep_sampling, &s->starts);
}

static sp_status read_init(const splam_distill_options *o, sp_distill_options *out)
{
    if (!o->cond_proj_init) return SP_OK;
    out->random_cond_proj = strcmp(o->cond_proj_init, "random") == 0;
    if (sp_objective_has_cond_proj(&out->objective)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`cond_proj_init` is for splam with `gamma_conditioning` embedding, and for a "
                                "`guidance_range`: this student has no cond_proj");
}

/* The same average needs no set of its own. */
static sp_status read_target(const splam_distill_options *o, sp_distill_options *out)
{
    if (!o->target_ema_decay) return SP_OK;
    SP_TRY(sp_average_of("target_ema_decay", o->target_ema_decay, &out->target_average));
    out->target_apart = !sp_average_equal(&out->target_average, &out->average);
    return SP_OK;
}

void sp_distill_fit_teacher(sp_distill_options *o, const sp_path *path)
{
    sp_objective_settings *s = &o->objective;
    if (path->kind != SP_PATH_FLOW || s->objective != SP_OBJECTIVE_SPLAM) return;
    if (!o->given.sigma) s->sigma = SP_SIGMA_CHORD;
    if (!o->given.gamma_conditioning) s->conditioning = SP_GAMMA_TIME;
}

sp_distill_options sp_distill_defaults(void)
{
    return (sp_distill_options){.given = splam_distill_defaults(),
                                .objective = sp_objective_defaults(SP_OBJECTIVE_SPLAM),
                                .average = {.value = 0.95},
                                .max_grad_norm = 1};
}

sp_status sp_distill_options_of(const splam_distill_options *o, sp_distill_options *out)
{
    *out = sp_distill_defaults();
    out->given = *o;
    SP_TRY(sp_device_of(o->device, &out->device));
    out->precision = sp_precision_dtype(out->device, o->precision);
    out->lora.rank = o->lora_rank;
    out->lora.alpha = splam_is_given(o->lora_alpha) ? o->lora_alpha : (double)o->lora_rank;
    if (!o->output && !o->dry_run) return sp_fail(SP_ARGUMENT, "`output` is missing: a folder to write the student to");
    SP_TRY(sp_optimizer_of(o->optimizer, &out->optimizer));
    SP_TRY(sp_average_of("ema_decay", o->ema_decay, &out->average));
    SP_TRY(read_target(o, out));
    SP_TRY(sp_lr_schedule_of(o->lr_scheduler, o->lr_warmup_steps, &out->lr_schedule));
    if (o->lora_targets) SP_TRY(sp_lora_targets_of(o->lora_targets, &out->lora.targets));
    SP_TRY(read_objective(o, &out->objective));
    if (o->target_ema_decay && !sp_objective_asks_average(&out->objective))
        return sp_objective_useless(out->objective.objective, "target_ema_decay", "splam, lcm, pcm and tcd");
    out->measures_error = o->validation_metrics != NULL;
    out->keeps_best = strcmp(o->keep, "best") == 0;
    return read_init(o, out);
}
