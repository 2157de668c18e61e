/* The training loop. */
#include "train/trainer.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "train/metrics.h"
#include "train/reducer.h"

/* The outputs of a run that are losses, the whole one first, and of a step their means over its micro-batches. */
enum { MOST_LOSSES = 4 };
typedef struct {
    int count;
    const char *name[MOST_LOSSES]; /* the plan's */
    double value[MOST_LOSSES];
} loss_outputs;

typedef struct {
    sp_run *run;
    const sp_trainer_settings *settings;
    const sp_training_task *task;
    sp_training_state *state;
    sp_training_state *trained; /* the network that `run` has the gradients of */
    int64_t updates;            /* optimiser steps that it has had */
    const sp_callbacks *callbacks;
    sp_gradients gradients;
    loss_outputs losses;
    FILE *metrics;    /* NULL: not this rank's */
    sp_reducer *reducer;                 /* NULL: alone */
    bool improved;                       /* the last validation was the best */
    int64_t on_disk;                     /* step of the newest checkpoint of this run; -1: none */
    double data_seconds;                 /* of the step that runs */
    double stage_seconds[SP_MAX_STAGES]; /* of the run, when the step began */
} trainer;

/* What belongs to the run. */
static void leave_run(trainer *t)
{
    if (t->run) {
        sp_run_set_output_observer(t->run, NULL, NULL);
        sp_run_set_poll(t->run, NULL, NULL);
    }
    sp_reducer_destroy(t->reducer);
    sp_gradients_free(&t->gradients);
    t->reducer = NULL;
}

static void release(trainer *t)
{
    leave_run(t);
    if (t->metrics) fclose(t->metrics);
}

/* Gradients of the run that weights have, for summing over ranks. */
static sp_status make_reducer(trainer *t)
{
    const sp_weights *online = t->trained->online;
    const sp_plan *plan = sp_run_plan(t->run);
    size_t count = 0;
    if (!t->settings->ranks) return SP_OK;
    sp_reduced *list = sp_alloc((sp_weights_count(online) + 1) * sizeof *list);
    char *settings = json_dumps(t->settings->settings, JSON_COMPACT | JSON_SORT_KEYS);
    sp_status status = list && settings ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < sp_weights_count(online) && !status; i++) {
        if (!t->gradients.at[i]) continue;
        char *name = sp_format("gradient.%s", sp_weights_name(online, i));
        if (!name) status = SP_MEMORY;
        list[count++] = (sp_reduced){.gradient = t->gradients.at[i],
                                     .count = sp_tensor_count(sp_weights_at(online, i)),
                                     .output = name ? sp_plan_output_index(plan, name) : -1};
        sp_free(name);
    }
    if (!status)
        status = sp_reducer_create(t->settings->ranks, plan, list, count, settings, &t->reducer);
    if (!status) {
        sp_run_set_output_observer(t->run, sp_reducer_ready, t->reducer);
        sp_run_set_poll(t->run, sp_reducer_poll, t->reducer);
    }
    sp_json_text_free(settings);
    sp_free(list);
    return status;
}

static void find_losses(trainer *t)
{
    const sp_graph *graph = sp_plan_graph(sp_run_plan(t->run));
    loss_outputs *l = &t->losses;
    *l = (loss_outputs){.count = 1, .name = {"loss"}};
    for (int i = 0; i < graph->output_count && l->count < MOST_LOSSES; i++)
        if (sp_starts_with(graph->outputs[i].name, "loss_")) l->name[l->count++] = graph->outputs[i].name;
}

static sp_status enter_run(trainer *t)
{
    memset(t->stage_seconds, 0, sizeof t->stage_seconds);
    find_losses(t);
    SP_TRY(sp_bind(sp_run_bound(t->run), "online", t->state->online));
    SP_TRY(sp_gradients_of(t->run, t->trained->online, &t->gradients));
    return make_reducer(t);
}

/* The task may go on with another run, and another network. */
static sp_status prepare(trainer *t)
{
    sp_update update = {.trained = t->state, .updates = t->state->step};
    sp_status status = t->task->prepare ? t->task->prepare(t->task->context, t->state, &update) : SP_OK;
    t->updates = update.updates;
    if (!status && !update.run) return SP_OK;
    t->run = update.run; /* the one before may be no more */
    leave_run(t);
    t->trained = update.trained;
    return status ? status : enter_run(t);
}

sp_status sp_clear_gradient_sums(sp_run *run, const sp_weights *online)
{
    for (size_t i = 0; i < sp_weights_count(online); i++) {
        char *name = sp_format("gradient.%s", sp_weights_name(online, i));
        if (!name) return SP_MEMORY;
        sp_status status =
            sp_plan_output(sp_run_plan(run), name) ? sp_run_clear_input(run, name) : SP_OK;
        sp_free(name);
        SP_TRY(status);
    }
    return SP_OK;
}

/* Time since *clock, which begins anew. */
static double lap(double *clock)
{
    double now = sp_now(), seconds = now - *clock;
    *clock = now;
    return seconds;
}

static sp_status add_losses(trainer *t)
{
    loss_outputs *l = &t->losses;
    for (int i = 0; i < l->count; i++) {
        sp_tensor value = {0};
        SP_TRY(sp_run_get_output(t->run, l->name[i], &value));
        l->value[i] += *(float *)value.data / (double)t->settings->accumulation;
        sp_tensor_free(&value);
    }
    return SP_OK;
}

/* The mean losses of one optimiser step's micro-batches; gradients are left summed. */
static sp_status run_micro_batches(trainer *t)
{
    memset(t->losses.value, 0, sizeof t->losses.value);
    if (t->settings->accumulation > 1) SP_TRY(sp_clear_gradient_sums(t->run, t->trained->online));
    for (int64_t k = 0; k < t->settings->accumulation; k++) {
        int64_t micro = t->state->step * t->settings->accumulation + k;
        double clock = sp_now();
        SP_TRY(t->task->feed(t->task->context, t->run, micro));
        bool last = k + 1 == t->settings->accumulation;
        if (t->reducer && last) sp_reducer_begin(t->reducer);
        t->data_seconds += lap(&clock);
        SP_TRY(sp_run_execute(t->run, t->reducer ? NULL : t->callbacks));
        SP_TRY(add_losses(t));
        if (t->reducer && last) SP_TRY(sp_reducer_finish(t->reducer));
        if (t->task->observe) SP_TRY(t->task->observe(t->task->context, t->run, micro));
    }
    return SP_OK;
}

/* How many means a gradient is the sum of: over micro-batches and ranks. */
static double summands(const trainer *t)
{
    return (double)(t->settings->accumulation * sp_ranks_count(t->settings->ranks));
}

static sp_status optimize(trainer *t, double norm, double rate)
{
    const sp_trainer_settings *s = t->settings;
    /* The small term is PyTorch's, so that traces agree. */
    double clip = s->max_grad_norm > 0 ? s->max_grad_norm / (norm + 1e-6) : 1;
    const sp_adamw_options options = {
        .learning_rate = rate,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .weight_decay = s->weight_decay,
        .gradient_scale = (clip < 1 ? clip : 1) / summands(t),
        .ema_decay = sp_average_rate(&s->average, t->updates, s->samples),
        .step = t->updates + 1,
    };
    SP_TRY(sp_training_update(t->trained, &t->gradients, &options));
    return sp_training_move_target(t->trained, &t->gradients,
                                   sp_average_rate(&s->target_average, t->updates, s->samples));
}

/* The mean of the ranks' losses; their gradients, being the same sums, have the same norm. */
static sp_status agree(trainer *t, double norm)
{
    typedef struct {
        double loss[MOST_LOSSES], norm;
    } measured;
    sp_ranks *ranks = t->settings->ranks;
    int count = sp_ranks_count(ranks);
    measured mine = {.norm = norm};
    memcpy(mine.loss, t->losses.value, sizeof mine.loss);
    if (!ranks) return SP_OK;
    measured *all = sp_alloc((size_t)count * sizeof *all);
    if (!all) return SP_MEMORY;
    sp_status status = sp_ranks_gather(ranks, &mine, sizeof mine, all);
    memset(t->losses.value, 0, sizeof t->losses.value);
    for (int r = 0; r < count && !status; r++) {
        for (int i = 0; i < t->losses.count; i++)
            t->losses.value[i] += all[r].loss[i] / count;
        if (all[r].norm != all[0].norm && !(isnan(all[r].norm) && isnan(all[0].norm)))
            status = sp_fail(SP_INTERNAL,
                             "step %lld: rank %d has a gradient of norm %.9g and rank 0 of %.9g, "
                             "after they were added up",
                             (long long)t->state->step + 1, r, all[r].norm, all[0].norm);
    }
    sp_free(all);
    return status;
}

static bool set_seconds(json_t *stages, const char *name, double seconds)
{
    return json_object_set_new(stages, name, json_real(seconds)) == 0;
}

/* {"data": seconds, the run's stages by their names, "reduce" with ranks, "optimizer"}; a run
 * without stages is "run". */
static json_t *stage_seconds(trainer *t, double optimizer)
{
    json_t *stages = json_pack("{s:f}", "data", t->data_seconds);
    const char *name;
    double seconds;
    bool set = stages != NULL;
    for (int i = 0; (name = sp_run_stage(t->run, i, &seconds)); i++) {
        set &= set_seconds(stages, *name ? name : "run", seconds - t->stage_seconds[i]);
        t->stage_seconds[i] = seconds;
    }
    if (t->reducer) set &= set_seconds(stages, "reduce", sp_reducer_get_times(t->reducer).after);
    set &= set_seconds(stages, "optimizer", optimizer);
    if (set) return stages;
    json_decref(stages);
    return NULL;
}

/* The parts of a loss, and of several networks which it is of. */
static bool add_parts(const trainer *t, json_t *line)
{
    const loss_outputs *l = &t->losses;
    bool set = true;
    for (int i = 1; i < l->count; i++)
        set &= json_object_set_new(line, l->name[i], json_real(l->value[i])) == 0;
    if (t->trained->name) set &= json_object_set_new(line, "network", json_string(t->trained->name)) == 0;
    return set;
}

static sp_status write_metrics(trainer *t, double norm, double rate, double seconds,
                               double optimizer)
{
    json_t *stages = stage_seconds(t, optimizer);
    if (!t->metrics) {
        json_decref(stages);
        return SP_OK;
    }
    json_t *line = stages ? json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:I}", "step",
                                      (json_int_t)t->state->step, "max_train_steps",
                                      (json_int_t)t->settings->max_steps, "loss", t->losses.value[0], "grad_norm", norm,
                                      "learning_rate", rate, "seconds", seconds, "stage_seconds",
                                      stages, "peak_rss_bytes", (json_int_t)sp_peak_rss())
                          : NULL;
    if (line && t->reducer) {
        sp_reducer_times times = sp_reducer_get_times(t->reducer);
        json_t *more = json_pack("{s:I, s:f}", "reduced_bytes", (json_int_t)times.bytes,
                                 "reduce_seconds_in_backward", times.during);
        if (!more || json_object_update(line, more)) {
            json_decref(line);
            line = NULL;
        }
        json_decref(more);
    }
    if (line && !add_parts(t, line)) {
        json_decref(line);
        line = NULL;
    }
    return sp_metrics_write(t->metrics, line);
}

static sp_status one_step(trainer *t)
{
    double began = sp_now();
    t->data_seconds = 0;
    SP_TRY(run_micro_batches(t));
    double clock = sp_now();
    const sp_trainer_settings *s = t->settings;
    double norm, rate = s->learning_rate * sp_lr_factor(&s->lr_schedule, t->state->step, s->max_steps);
    SP_TRY(sp_gradients_norm(&t->gradients, t->trained, &norm));
    norm /= summands(t);
    SP_TRY(agree(t, norm));
    double loss = t->losses.value[0];
    if (!isfinite(loss) || !isfinite(norm))
        return sp_fail(
            SP_NUMERIC,
            "step %lld: the loss is %g and the gradient's norm %g; training stops, and what "
            "was saved in %s before is still good",
            (long long)t->state->step + 1, loss, norm, t->settings->output);
    SP_TRY(optimize(t, norm, rate));
    double optimizer = lap(&clock);
    t->state->step++;
    if (t->task->measured) SP_TRY(t->task->measured(t->task->context, t->state->step, loss, norm));
    SP_TRY(write_metrics(t, norm, rate, sp_now() - began, optimizer));
    char detail[160], error[40] = "";
    const char *network = t->trained->name;
    if (isfinite(t->state->validated.error))
        snprintf(error, sizeof error, "  error %.4f", t->state->validated.error);
    snprintf(detail, sizeof detail, "loss %.5f  grad %.3f%s%s%s", loss, norm, error, network ? "  " : "",
             network ? network : "");
    sp_report(t->callbacks, t->settings->name, t->state->step, t->settings->max_steps, detail);
    return SP_OK;
}

static bool writes(const trainer *t)
{
    return sp_ranks_rank(t->settings->ranks) == 0;
}

static sp_status save(trainer *t)
{
    if (!writes(t) || t->on_disk == t->state->step) return SP_OK;
    SP_TRY(sp_training_state_fetch(t->state));
    SP_TRY(sp_metrics_force(t->metrics));
    SP_TRY(sp_checkpoint_save(t->settings->output, t->state, t->settings->settings,
                              t->settings->checkpoints_total_limit, t->callbacks));
    t->on_disk = t->state->step;
    return SP_OK;
}

/* When mpirun ends its ranks it kills them a second after it asks them to stop, which is too soon
 * for a large model. So the state is saved by a copy of this process, in a session of its own,
 * which goes on if this one is killed; a run that is resumed meanwhile waits for it
 * (sp_checkpoint_tidy). */
static sp_status save_apart(trainer *t)
{
    if (!writes(t) || t->on_disk == t->state->step) return SP_OK;
    SP_TRY(sp_training_state_fetch(t->state)); /* the copy of this process leaves the device alone */
    pid_t child = fork();
    if (child < 0) return save(t);
    if (child == 0) {
        setsid();
        sp_claim_leave(
            t->settings->claim);  /* a run that is resumed waits for this copy by itself */
        signal(SIGPIPE, SIG_IGN); /* mpirun no longer listens */
        t->callbacks = NULL;
        sp_status status = save(t);
        if (status) sp_log_warn("no checkpoint: %s", sp_error_message());
        _exit(status != SP_OK);
    }
    sp_log_info("saving checkpoint-%lld in process %ld, which goes on when mpirun ends this one",
                (long long)t->state->step, (long)child);
    int code = 0;
    while (waitpid(child, &code, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(code) || WEXITSTATUS(code))
        return sp_fail(SP_IO, "checkpoint-%lld could not be saved", (long long)t->state->step);
    t->on_disk = t->state->step;
    return SP_OK;
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

static sp_status interrupted(const trainer *t)
{
    const sp_trainer_settings *s = t->settings;
    if (t->state->step == 0) return sp_fail(SP_CANCELLED, "interrupted before the first step");
    if (!writes(t))
        return sp_fail(SP_CANCELLED, "interrupted after step %lld of %lld",
                       (long long)t->state->step, (long long)s->max_steps);
    return sp_fail(
        SP_CANCELLED,
        "interrupted after step %lld of %lld; %s/checkpoint-%lld is saved, go on with `resume` latest",
        (long long)t->state->step, (long long)s->max_steps, s->output, (long long)t->state->step);
}

/* ---- validation ---- */

/* The step asks for one that has not been done. */
static bool owes_validation(const trainer *t)
{
    int64_t step = t->state->step, every = t->settings->validation_steps;
    return t->task->validate && writes(t) && step > 0 && step != t->state->validated.step &&
           (due(step, every) || (every > 0 && step >= t->settings->max_steps));
}

/* Takes the metrics, NULL too. */
static sp_status write_validation(trainer *t, json_t *metrics, double seconds)
{
    if (!metrics) return SP_OK;
    json_t *line = json_pack("{s:I, s:f}", "step", (json_int_t)t->state->step, "validation_seconds", seconds);
    bool whole = line && json_object_update(line, metrics) == 0;
    json_decref(metrics);
    if (whole) return sp_metrics_write(t->metrics, line);
    json_decref(line);
    return SP_MEMORY;
}

static sp_status validate(trainer *t)
{
    sp_validation_result found = {.error = NAN};
    double clock = sp_now();
    SP_TRY(sp_training_state_fetch(t->state));
    sp_status status = t->task->validate(t->task->context, t->state, &found);
    if (status) {
        json_decref(found.metrics);
        return status;
    }
    SP_TRY(write_validation(t, found.metrics, lap(&clock)));
    t->state->validated = (sp_validated){t->state->step, found.error};
    const sp_validated *best = &t->state->best;
    t->improved = t->settings->keep_best && isfinite(found.error) && (best->step == 0 || found.error < best->error);
    if (t->improved) t->state->best = t->state->validated;
    return SP_OK;
}

/* ---- the loop ---- */

/* What follows a step, or a checkpoint that owes its validation (`again`). left: the step was, and the state is that
 * before it. */
static sp_status conclude(trainer *t, bool left, bool again)
{
    const sp_trainer_settings *s = t->settings;
    t->improved = false;
    bool last = t->state->step >= s->max_steps, stopped = left || sp_check_cancelled(t->callbacks) != SP_OK;
    if (!stopped && owes_validation(t)) {
        sp_status status = validate(t);
        stopped = status == SP_CANCELLED;
        if (!stopped) SP_TRY(status);
    }
    if (stopped && s->ranks && t->state->step > 0)
        SP_TRY(save_apart(t));
    else if (t->state->step > 0 && (last || stopped || again || t->improved ||
                                     due(t->state->step, s->checkpointing_steps)))
        SP_TRY(save(t));
    return stopped && (!last || owes_validation(t)) ? interrupted(t) : SP_OK;
}

static sp_status loop(trainer *t)
{
    if (owes_validation(t)) SP_TRY(conclude(t, false, true));
    while (t->state->step < t->settings->max_steps) {
        SP_TRY(prepare(t));
        sp_status done = one_step(t);
        if (done && done != SP_CANCELLED) return done;
        SP_TRY(conclude(t, done == SP_CANCELLED, false));
    }
    return SP_OK;
}

/* What keep_best asks for at the end. */
static sp_status take_best(trainer *t)
{
    const sp_validated best = t->state->best;
    bool found;
    if (!t->settings->keep_best || !writes(t) || best.step == 0) return SP_OK;
    sp_log_info("of step %lld: error %.4f, the lowest of all validations", (long long)best.step, best.error);
    if (best.step == t->state->step) return SP_OK;
    char *path = sp_checkpoint_path(t->settings->output, best.step);
    sp_status status = path ? sp_checkpoint_load(t->settings->output, path, t->settings->settings, t->state,
                                                 t->callbacks, &found)
                            : SP_MEMORY;
    sp_free(path);
    return status;
}

/* What concerns files. */
static sp_status start_output(trainer *t)
{
    const sp_trainer_settings *s = t->settings;
    bool found = false;
    SP_TRY(sp_make_folders(s->output));
    SP_TRY(sp_checkpoint_tidy(s->output, t->callbacks));
    if (s->resume) {
        SP_TRY(
            sp_checkpoint_load(s->output, s->resume, s->settings, t->state, t->callbacks, &found));
        if (found && s->keep_best) SP_TRY(sp_checkpoint_find_best(s->output, s->resume, t->state));
        if (found)
            sp_log_info("%s: resuming after step %lld", s->output, (long long)t->state->step);
        else
            sp_log_info("%s: no checkpoint to resume from, starting at step 0", s->output);
    }
    if (!s->validation_steps) t->state->validated.error = NAN; /* of another run's validations */
    return sp_metrics_open(s->output, t->state->step, &t->metrics);
}

static sp_status start(trainer *t)
{
    if (writes(t)) SP_TRY(start_output(t));
    SP_TRY(sp_training_state_share(t->state, t->settings->ranks));
    SP_TRY(sp_training_state_place(t->state, sp_plan_device(sp_run_plan(t->run))));
    return enter_run(t);
}

sp_status sp_train(sp_run *run, const sp_trainer_settings *settings, const sp_training_task *task,
                   sp_training_state *state, const sp_callbacks *callbacks)
{
    trainer t = {.run = run,
                 .settings = settings,
                 .task = task,
                 .state = state,
                 .trained = state,
                 .callbacks = callbacks,
                 .on_disk = -1};
    sp_status status = start(&t);
    if (!status) status = loop(&t);
    if (!status) status = sp_training_state_fetch(state);
    if (!status) status = take_best(&t);
    release(&t);
    return status;
}
