/* The settings of a distillation: checked, and as JSON in checkpoints. */
#include "distill/distill_settings.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include "distill/matching.h"
#include "distill/student_error.h"
#include "models/guidance.h"
#include "train/settings.h"

/* Where the pictures come from and which are taken: what is not given is not among the settings. */
static sp_status record_sources(json_t *settings, const sp_distill_options *o)
{
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("teacher", o->given.teacher),
                           sp_setting_text("student-start", o->given.student_start)));
    if (o->given.draws) return SP_SETTINGS_ADD(settings, sp_setting_text("draws", o->given.draws));
    const sp_dataset_options pictures = sp_dataset_options_of(&o->given.pictures, o->given.seed), *p = &pictures;
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("data", o->given.data),
                           sp_setting_text("caption-column", p->caption_column)));
    const struct {
        const char *flag;
        double value;
    } numbers[] = {{"resolution", p->resolution},         {"min-size", p->min_size},
                   {"min-aesthetic", p->min_aesthetic},   {"max-watermark", p->max_watermark},
                   {"min-similarity", p->min_similarity}, {"random-crop", p->random_crop},
                   {"random-flip", p->random_flip}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value = numbers[i].value;
        const sp_setting setting = value == floor(value) ? sp_setting_whole(numbers[i].flag, (int64_t)value)
                                                         : sp_setting_number(numbers[i].flag, value);
        if (value != 0) SP_TRY(sp_settings_add(settings, &setting, 1));
    }
    return SP_OK;
}

static sp_status record_lora(json_t *settings, const sp_distill_options *o)
{
    if (!o->lora.rank) return SP_OK;
    return SP_SETTINGS_ADD(settings, sp_setting_whole("lora-rank", o->lora.rank),
                           sp_setting_number("lora-alpha", o->lora.alpha),
                           sp_setting_text("lora-targets", sp_lora_targets_name(o->lora.targets)),
                           sp_setting_text("lora-start", o->given.lora_start));
}

/* What only one objective looks at. */
static sp_status record_own(json_t *settings, const sp_distill_options *o)
{
    const sp_objective_settings *s = &o->objective;
    switch (s->objective) {
    case SP_OBJECTIVE_SPLAM:
        return SP_SETTINGS_ADD(
            settings, sp_setting_text("sigma", sp_sigma_name(s->sigma)),
            sp_setting_text("gamma-conditioning", sp_gamma_conditioning_name(s->conditioning)),
            sp_setting_number("gamma-one-probability", s->gamma.one_probability),
            sp_setting_number("gamma-power", s->gamma.power), sp_setting_whole("gamma-grid", s->gamma.grid),
            sp_setting_text("cond-proj-init", o->random_cond_proj ? "random" : "zero"));
    case SP_OBJECTIVE_LCM:
        if (!sp_objective_has_cond_proj(s)) return SP_OK;
        return SP_SETTINGS_ADD(settings, sp_setting_text("cond-proj-init", o->random_cond_proj ? "random" : "zero"));
    case SP_OBJECTIVE_PCM:
        return SP_SETTINGS_ADD(settings, sp_setting_whole("phases", s->phases));
    case SP_OBJECTIVE_PROGRESSIVE: /* where rounds begin depends on the number of steps */
        return SP_SETTINGS_ADD(settings, sp_setting_whole("rounds", s->rounds),
                               sp_setting_whole("max-train-steps", o->given.max_train_steps));
    case SP_OBJECTIVE_DMD:
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_whole("student-steps", s->ddim_timesteps),
                               sp_setting_whole("fake-score-steps", s->fake_score_steps)));
        if (!sp_matching_has_discriminator(s)) return SP_OK;
        return SP_SETTINGS_ADD(settings, sp_setting_number("gan-weight", s->gan_weight),
                               sp_setting_number("gan-fake-score-weight", s->gan_fake_score_weight));
    default:
        return SP_OK;
    }
}

static sp_status record_subpaths(json_t *settings, const sp_distill_options *o)
{
    const sp_objective_settings *s = &o->objective;
    char span[32];
    snprintf(span, sizeof span, "%d:%d", s->skip, s->skip_to);
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_whole("num-ddim-timesteps", s->ddim_timesteps),
                           s->skip_to == s->skip ? sp_setting_whole("skip", s->skip) : sp_setting_text("skip", span),
                           sp_setting_whole("solver-steps", s->solver_steps),
                           sp_setting_text("loss-type", sp_loss_type_name(s->loss.kind)),
                           sp_setting_number("huber-c", s->loss.huber_c)));
    if (s->weighting != SP_WEIGHTING_NONE)
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("loss-weighting", sp_loss_weighting_name(s->weighting))));
    if (s->weighting == SP_WEIGHTING_MIN_SNR)
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_number("snr-gamma", s->snr_gamma)));
    if (s->starts != SP_START_GRID)
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("timestep-sampling", sp_start_name(s->starts))));
    if (s->skip_to == s->skip) return SP_OK;
    /* what a step's is depends on the number of steps */
    return SP_SETTINGS_ADD(settings, sp_setting_whole("max-train-steps", o->given.max_train_steps));
}

static sp_status record_objective(json_t *settings, const sp_distill_options *o)
{
    const sp_objective_settings *s = &o->objective;
    char range[SP_GUIDANCE_RANGE_TEXT];
    bool ranged = s->guidance.high > 0;
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("objective", sp_objective_name(s->objective)),
                           ranged ? sp_setting_text("guidance-range", sp_guidance_range_text(&s->guidance, range))
                                  : sp_setting_number("guidance-scale-w", s->guidance_scale_w)));
    if (s->objective != SP_OBJECTIVE_DMD) SP_TRY(record_subpaths(settings, o));
    return record_own(settings, o);
}

static sp_status record_training(json_t *settings, const sp_distill_options *o)
{
    const splam_distill_options *g = &o->given;
    char average[SP_AVERAGE_TEXT];
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_whole("ranks", o->ranks),
                           sp_setting_whole("train-batch-size", g->train_batch_size),
                           sp_setting_whole("gradient-accumulation-steps", g->gradient_accumulation_steps),
                           sp_setting_number("learning-rate", g->learning_rate),
                           sp_average_setting("ema-decay", &o->average, average), sp_setting_seed("seed", g->seed),
                           sp_setting_text("optimizer", sp_optimizer_name(o->optimizer)),
                           sp_setting_text("mixed-precision", o->precision == SP_BF16 ? "bf16" : "no")));
    if (o->keeps_best)
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("keep", "best"),
                               sp_setting_whole("validation-steps", g->validation_steps),
                               sp_setting_whole("validation-prompts", g->validation_prompts == SPLAM_UNSET
                                                                          ? SP_STUDENT_ERROR_PROMPTS
                                                                          : g->validation_prompts)));
    if (o->target_apart)
        SP_TRY(SP_SETTINGS_ADD(settings, sp_average_setting("target-ema-decay", &o->target_average, average)));
    return sp_lr_schedule_record(&o->lr_schedule, g->max_train_steps, settings);
}

sp_status sp_distill_settings(const sp_distill_options *o, sp_prediction prediction, json_t **out)
{
    json_t *settings = *out = json_object();
    if (!settings) return SP_MEMORY;
    SP_TRY(record_objective(settings, o));
    SP_TRY(record_training(settings, o));
    if (prediction != SP_PREDICTION_FLOW) /* of which there is no other */
        SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("prediction-type", sp_prediction_name(prediction))));
    SP_TRY(record_sources(settings, o));
    return record_lora(settings, o);
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What a transformer has no place for. */
static sp_status check_flow(const sp_distill_options *o)
{
    if (sp_matching_has_discriminator(&o->objective))
        return sp_fail(SP_UNSUPPORTED,
                       "`gan_weight` is of a discriminator on the features of a UNet's middle block, and %s has a "
                       "transformer", o->given.teacher);
    if (o->objective.conditioning == SP_GAMMA_EMBEDDING)
        return sp_fail(SP_UNSUPPORTED, "`gamma_conditioning` embedding needs a cond_proj, and %s has a transformer, "
                                       "which has no place for one; take time", o->given.teacher);
    if (o->objective.guidance.high > 0)
        return sp_fail(SP_UNSUPPORTED, "`guidance_range` tells the student its guidance by cond_proj, and %s has a "
                                       "transformer, which has no place for one; take `guidance_scale_w`",
                       o->given.teacher);
    return SP_OK;
}

sp_status sp_distill_check(const sp_distill_options *o, const sp_path *path)
{
    const sp_objective_settings *s = &o->objective;
    if (!o->given.data && !o->given.draws)
        return sp_fail(SP_ARGUMENT, "`data` is missing: a data set (or `draws`, to replay a run)");
    if (o->given.max_train_steps < 1 || o->given.train_batch_size < 1 || o->given.gradient_accumulation_steps < 1)
        return sp_fail(
            SP_ARGUMENT,
            "`max_train_steps`, `train_batch_size` and `gradient_accumulation_steps` are %lld, %lld and %lld, "
            "expected at least 1 each",
            (long long)o->given.max_train_steps, (long long)o->given.train_batch_size,
            (long long)o->given.gradient_accumulation_steps);
    if (o->given.output && same_folder(o->given.teacher, o->given.output))
        return sp_fail(
            SP_ARGUMENT,
            "`output` is the teacher's folder %s, whose UNet the student's would overwrite",
            o->given.teacher);
    if (!o->lora.rank && (o->given.lora_start || o->given.lora_merged))
        return sp_fail(SP_ARGUMENT, "`lora_start` and `lora_merged` need `lora_rank`");
    if (o->lora.rank && o->given.student_start)
        return sp_fail(SP_ARGUMENT, "`student_start` is a whole student, and `lora_rank` trains adapters over the "
                                    "teacher, which `lora_start` is for");
    if (o->lora.rank && s->guidance.high > 0)
        return sp_fail(SP_UNSUPPORTED, "`guidance_range` tells the student its guidance by cond_proj, which adapters "
                                       "of `lora_rank` over a teacher without one cannot; take `guidance_scale_w`");
    if (o->lora.rank && s->rounds > 1)
        return sp_fail(SP_UNSUPPORTED,
                       "`lora_rank` trains adapters over one teacher, and each of `rounds` %d has "
                       "another one; take `rounds` 1",
                       s->rounds);
    if (s->rounds > o->given.max_train_steps)
        return sp_fail(SP_ARGUMENT, "`rounds` is %d, and `max_train_steps` %lld are fewer",
                       s->rounds, (long long)o->given.max_train_steps);
    if (o->given.sub_paths && o->ranks > 1)
        return sp_fail(SP_UNSUPPORTED, "`sub_paths` is a file of one process, and %d train together", o->ranks);
    if (o->measures_error && o->given.draws)
        return sp_fail(SP_ARGUMENT, "`validation_metrics` needs `data`: recorded `draws` have no captions");
    SP_TRY(sp_lr_schedule_check(&o->lr_schedule, o->given.max_train_steps));
    if (path->kind == SP_PATH_FLOW) SP_TRY(check_flow(o));
    return sp_objective_check(s, path);
}
