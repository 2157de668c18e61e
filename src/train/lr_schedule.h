/* How the learning rate moves over a run: diffusers' schedules (diffusers.optimization.get_scheduler), a step of theirs
 * an optimiser step. */
#ifndef SP_TRAIN_LR_SCHEDULE_H
#define SP_TRAIN_LR_SCHEDULE_H
#include <splam/options.h>
#include "base/json.h"
#include "options/choices.h"

#define X(name, text) SP_LR_##name,
typedef enum { SP_LR_SCHEDULER_LIST(X) SP_LR_SCHEDULER_COUNT } sp_lr_scheduler;
#undef X
const char *sp_lr_scheduler_name(sp_lr_scheduler kind);

/* With W steps of warm-up in a run of T, the learning rate of step t = 0, 1, ..., T - 1 is that given times
 *   constant              1; it knows no warm-up
 *   constant_with_warmup  t/W below W, then 1
 *   linear                t/W below W, then (T - t)/(T - W)
 *   cosine                t/W below W, then (1 + cos(pi (t - W)/(T - W)))/2: half a cycle, which would be 0 at T
 * So with a warm-up the first step moves nothing. */
typedef struct {
    sp_lr_scheduler kind;
    int64_t warmup_steps; /* W */
    bool moves_at_once;   /* warm-up is (t + 1)/W, as `splam train` has it where no schedule is asked for */
} sp_lr_schedule;
double sp_lr_factor(const sp_lr_schedule *schedule, int64_t step, int64_t max_steps);

/* Of the options lr_scheduler, whose choices their table has checked, and lr_warmup_steps (SPLAM_UNSET: not given, 0).
 * SP_ARGUMENT for a warm-up of a schedule that has none, and for none of one that is for it. */
sp_status sp_lr_schedule_of(const char *scheduler, int64_t warmup_steps, sp_lr_schedule *out);
/* SP_ARGUMENT where a schedule that ends with the run would not begin before. */
sp_status sp_lr_schedule_check(const sp_lr_schedule *schedule, int64_t max_steps);
/* Whether the rates depend on the length of the run, so that a longer run is another one. */
bool sp_lr_schedule_ends(const sp_lr_schedule *schedule);
/* Records what the rates depend on besides the one given; of a constant one nothing. */
sp_status sp_lr_schedule_record(const sp_lr_schedule *schedule, int64_t max_steps, json_t *settings);
/* "constant", "cosine after 500 steps of warm-up"; for people, until the next call in this thread. */
const char *sp_lr_schedule_text(const sp_lr_schedule *schedule);

#endif
