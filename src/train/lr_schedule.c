/* Schedules of the learning rate. */
#include "train/lr_schedule.h"
#include <math.h>
#include <stdio.h>
#include "base/text.h"
#include "train/settings.h"

#define X(name, text) text,
static const char *const names[] = {SP_LR_SCHEDULER_LIST(X)};
#undef X

const char *sp_lr_scheduler_name(sp_lr_scheduler kind)
{
    return names[kind];
}

bool sp_lr_schedule_ends(const sp_lr_schedule *schedule)
{
    return schedule->kind == SP_LR_LINEAR || schedule->kind == SP_LR_COSINE;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

double sp_lr_factor(const sp_lr_schedule *s, int64_t step, int64_t max_steps)
{
    double warmup = (double)s->warmup_steps, rest = larger(1, (double)(max_steps - s->warmup_steps));
    if (s->kind == SP_LR_CONSTANT) return 1;
    if (step < s->warmup_steps) return (double)(s->moves_at_once ? step + 1 : step) / warmup;
    if (s->kind == SP_LR_LINEAR) return larger(0, (double)(max_steps - step) / rest);
    double done = ((double)step - warmup) / rest;
    return s->kind == SP_LR_COSINE ? larger(0, 0.5 * (1 + cos(acos(-1.0) * done))) : 1;
}

sp_status sp_lr_schedule_of(const char *scheduler, int64_t warmup_steps, sp_lr_schedule *out)
{
    int index;
    bool given = warmup_steps != SPLAM_UNSET;
    SP_TRY(sp_name_index("learning rate scheduler", scheduler, names, SP_LR_SCHEDULER_COUNT, &index));
    *out = (sp_lr_schedule){.kind = (sp_lr_scheduler)index, .warmup_steps = given ? warmup_steps : 0};
    if (out->kind == SP_LR_CONSTANT && given)
        return sp_fail(SP_ARGUMENT, "`lr_warmup_steps` says nothing to `lr_scheduler` constant; it is for "
                                    "constant_with_warmup, linear and cosine");
    if (out->kind == SP_LR_CONSTANT_WITH_WARMUP && !given)
        return sp_fail(SP_ARGUMENT, "`lr_scheduler` constant_with_warmup needs `lr_warmup_steps`");
    return SP_OK;
}

sp_status sp_lr_schedule_check(const sp_lr_schedule *s, int64_t max_steps)
{
    if (!sp_lr_schedule_ends(s) || s->warmup_steps < max_steps) return SP_OK;
    return sp_fail(SP_ARGUMENT,
                   "`lr_warmup_steps` is %lld, and `lr_scheduler` %s has to fall within `max_train_steps` %lld",
                   (long long)s->warmup_steps, names[s->kind], (long long)max_steps);
}

sp_status sp_lr_schedule_record(const sp_lr_schedule *s, int64_t max_steps, json_t *settings)
{
    if (s->kind == SP_LR_CONSTANT) return SP_OK;
    SP_TRY(SP_SETTINGS_ADD(settings, sp_setting_text("lr-scheduler", names[s->kind]),
                           sp_setting_whole("lr-warmup-steps", s->warmup_steps)));
    if (!sp_lr_schedule_ends(s)) return SP_OK;
    return SP_SETTINGS_ADD(settings, sp_setting_whole("max-train-steps", max_steps));
}

const char *sp_lr_schedule_text(const sp_lr_schedule *s)
{
    static _Thread_local char text[96];
    const char *kind = s->kind == SP_LR_CONSTANT_WITH_WARMUP ? "constant" : names[s->kind];
    if (s->warmup_steps)
        snprintf(text, sizeof text, "%s after %lld step%s of warm-up", kind, (long long)s->warmup_steps,
                 s->warmup_steps == 1 ? "" : "s");
    else
        snprintf(text, sizeof text, "%s", kind);
    return text;
}
