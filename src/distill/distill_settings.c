/* The settings of a distillation: checked, and as JSON in checkpoints. */
#include "distill/distill_settings.h"
#include <math.h>
#include <sys/stat.h>
#include "base/memory.h"
#include "train/checkpoint.h"

/* Where the pictures come from and which are taken: what is not given is not among the settings. */
static sp_status set_sources(json_t *settings, const sp_distill_options *o)
{
    SP_TRY(sp_settings_set_text(settings, "teacher", o->given.teacher));
    if (o->given.draws) return sp_settings_set_text(settings, "draws", o->given.draws);
    SP_TRY(sp_settings_set_text(settings, "data", o->given.data));
    const sp_dataset_options pictures = sp_dataset_options_of(&o->given.pictures, o->given.seed), *p = &pictures;
    const struct {
        const char *flag;
        double value;
    } numbers[] = {{"resolution", p->resolution},         {"min-size", p->min_size},
                   {"min-aesthetic", p->min_aesthetic},   {"max-watermark", p->max_watermark},
                   {"min-similarity", p->min_similarity}, {"random-crop", p->random_crop},
                   {"random-flip", p->random_flip}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value = numbers[i].value;
        json_t *json = value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
        if (value == 0)
            json_decref(json);
        else if (json_object_set_new(settings, numbers[i].flag, json))
            return SP_MEMORY;
    }
    if (!p->caption_column) return SP_OK;
    return sp_settings_set_text(settings, "caption-column", p->caption_column);
}

static sp_status set_lora(json_t *settings, const sp_distill_options *o)
{
    json_t *lora = json_pack("{s:I, s:f, s:s}", "lora-rank", (json_int_t)o->lora.rank, "lora-alpha",
                             o->lora.alpha, "lora-targets", sp_lora_targets_name(o->lora.targets));
    sp_status status = lora && json_object_update(settings, lora) == 0 ? SP_OK : SP_MEMORY;
    json_decref(lora);
    if (status || !o->given.lora_start) return status;
    return sp_settings_set_text(settings, "lora-start", o->given.lora_start);
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
                         (json_int_t)o->given.max_train_steps);
    default:
        return json_object();
    }
}

sp_status sp_distill_settings(const sp_distill_options *o, sp_prediction prediction, json_t **out)
{
    const sp_objective_settings *s = &o->objective;
    json_t *own = objective_settings(o);
    json_t *json = json_pack(
        "{s:s, s:f, s:i, s:i, s:i, s:s, s:f}", "objective", sp_objective_name(s->objective),
        "guidance-scale-w", s->guidance_scale_w, "num-ddim-timesteps", s->ddim_timesteps, "skip", s->skip,
        "solver-steps", s->solver_steps, "loss-type", sp_loss_type_name(s->loss.kind),
        "huber-c", s->loss.huber_c);
    json_t *rest = json_pack(
        "{s:I, s:I, s:I, s:f, s:f, s:o, s:s, s:s, s:s}", "ranks", (json_int_t)o->ranks,
        "train-batch-size", (json_int_t)o->given.train_batch_size, "gradient-accumulation-steps",
        (json_int_t)o->given.gradient_accumulation_steps, "learning-rate", o->given.learning_rate, "ema-decay",
        o->given.ema_decay,
        "seed", sp_json_seed(o->given.seed), "optimizer", sp_optimizer_name(o->optimizer),
        "mixed-precision", o->precision == SP_BF16 ? "bf16" : "no", "prediction-type",
        sp_prediction_name(prediction));
    bool merged = own && json && rest && json_object_update(json, own) == 0 &&
                  json_object_update(json, rest) == 0;
    sp_status status = merged ? set_sources(json, o) : SP_MEMORY;
    json_decref(own);
    json_decref(rest);
    if (!status && o->lora.rank) status = set_lora(json, o);
    if (!status && o->given.student_start)
        status = sp_settings_set_text(json, "student-start", o->given.student_start);
    *out = json;
    return status;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
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
    if (o->lora.rank && s->rounds > 1)
        return sp_fail(SP_UNSUPPORTED,
                       "`lora_rank` trains adapters over one teacher, and each of `rounds` %d has "
                       "another one; take `rounds` 1",
                       s->rounds);
    if (s->rounds > o->given.max_train_steps)
        return sp_fail(SP_ARGUMENT, "`rounds` is %d, and `max_train_steps` %lld are fewer",
                       s->rounds, (long long)o->given.max_train_steps);
    return sp_objective_check(s, path);
}
