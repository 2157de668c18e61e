/* The training loop. */
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "backend/optimizer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "train/metrics.h"

typedef struct {
    sp_run *run;
    const sp_trainer_settings *settings;
    const sp_training_task *task;
    sp_training_state *state;
    const sp_callbacks *callbacks;
    const float **gradient; /* where the run leaves each weight's gradient; NULL: the loss does not
                               depend on it */
    float **sum;            /* sums over micro-batches, when there are several */
    FILE *metrics;
    double started;
} trainer;

static void release_gradients(trainer *t)
{
    for (size_t i = 0; t->sum && i < sp_weights_count(t->state->online); i++)
        sp_free(t->sum[i]);
    sp_free(t->sum);
    sp_free(t->gradient);
    t->sum = NULL;
    t->gradient = NULL;
}

static void release(trainer *t)
{
    release_gradients(t);
    if (t->metrics) fclose(t->metrics);
}

static sp_status find_gradients(trainer *t)
{
    sp_weights *online = t->state->online;
    size_t count = sp_weights_count(online);
    t->gradient = sp_alloc_zero((count + 1) * sizeof *t->gradient);
    t->sum = sp_alloc_zero((count + 1) * sizeof *t->sum);
    if (!t->gradient || !t->sum) return SP_MEMORY;
    for (size_t i = 0; i < count; i++) {
        char *name = sp_format("gradient.%s", sp_weights_name(online, i));
        if (!name) return SP_MEMORY;
        t->gradient[i] = sp_run_output_address(t->run, name);
        sp_free(name);
        if (!t->gradient[i] || t->settings->accumulation == 1) continue;
        t->sum[i] = sp_alloc(sp_tensor_bytes(sp_weights_at(online, i)));
        if (!t->sum[i]) return SP_MEMORY;
    }
    return SP_OK;
}

/* The task may go on with another run. */
static sp_status prepare(trainer *t)
{
    sp_run *run = NULL;
    if (t->task->prepare) SP_TRY(t->task->prepare(t->task->context, t->state, &run));
    if (!run) return SP_OK;
    t->run = run;
    release_gradients(t);
    SP_TRY(sp_run_bind(t->run, "online", t->state->online));
    return find_gradients(t);
}

static void add_up(trainer *t, bool first)
{
    for (size_t i = 0; i < sp_weights_count(t->state->online); i++) {
        if (!t->sum[i]) continue;
        int64_t count = sp_tensor_count(sp_weights_at(t->state->online, i));
        for (int64_t k = 0; k < count; k++)
            t->sum[i][k] = (first ? 0 : t->sum[i][k]) + t->gradient[i][k];
    }
}

/* The mean loss of one optimiser step's micro-batches; gradients are left summed. */
static sp_status run_micro_batches(trainer *t, double *loss)
{
    *loss = 0;
    for (int64_t k = 0; k < t->settings->accumulation; k++) {
        int64_t micro = t->state->step * t->settings->accumulation + k;
        SP_TRY(t->task->feed(t->task->context, t->run, micro));
        SP_TRY(sp_run_execute(t->run));
        sp_tensor value = {0};
        SP_TRY(sp_run_get_output(t->run, "loss", &value));
        *loss += *(float *)value.data / (double)t->settings->accumulation;
        sp_tensor_free(&value);
        if (t->settings->accumulation > 1) add_up(t, k == 0);
        if (t->task->observe) SP_TRY(t->task->observe(t->task->context, t->run, micro));
    }
    return SP_OK;
}

static double learning_rate_at(const sp_trainer_settings *s, int64_t step)
{
    double rate = s->learning_rate;
    if (step < s->warmup_steps) return rate * (double)(step + 1) / (double)s->warmup_steps;
    if (!s->cosine || s->max_steps <= s->warmup_steps) return rate;
    double done = (double)(step - s->warmup_steps) / (double)(s->max_steps - s->warmup_steps);
    return rate * 0.5 * (1 + cos(acos(-1.0) * done));
}

static double ema_decay_at(const sp_trainer_settings *s, int64_t step)
{
    double warm = (double)(1 + step) / (double)(10 + step);
    return s->ema_warmup && warm < s->ema_decay ? warm : s->ema_decay;
}

static const float *gradient_of(const trainer *t, size_t i)
{
    return t->sum[i] ? t->sum[i] : t->gradient[i];
}

static double gradient_norm(const trainer *t)
{
    const sp_optimizer_kernels *kernels = sp_cpu_optimizer();
    double sum = 0;
    for (size_t i = 0; i < sp_weights_count(t->state->online); i++)
        if (t->gradient[i])
            sum += kernels->sum_of_squares(gradient_of(t, i),
                                           sp_tensor_count(sp_weights_at(t->state->online, i)));
    return sqrt(sum) / (double)t->settings->accumulation;
}

static void optimize(trainer *t, double norm, double rate)
{
    const sp_trainer_settings *s = t->settings;
    sp_training_state *state = t->state;
    /* The small term is PyTorch's, so that traces agree. */
    double clip = s->max_grad_norm > 0 ? s->max_grad_norm / (norm + 1e-6) : 1;
    const sp_adamw_options options = {
        .learning_rate = rate,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .weight_decay = s->weight_decay,
        .gradient_scale = (clip < 1 ? clip : 1) / (double)s->accumulation,
        .ema_decay = ema_decay_at(s, state->step),
        .step = state->step + 1,
    };
    for (size_t i = 0; i < sp_weights_count(state->online); i++) {
        if (!t->gradient[i]) continue;
        const sp_adamw_tensor tensor = {
            .count = sp_tensor_count(sp_weights_at(state->online, i)),
            .weight = sp_weights_at(state->online, i)->data,
            .first_moment = sp_weights_at(state->first_moment, i)->data,
            .second_moment = sp_weights_at(state->second_moment, i)->data,
            .gradient = gradient_of(t, i),
            .ema = sp_weights_at(state->ema, i)->data,
        };
        sp_cpu_optimizer()->adamw(&options, &tensor);
    }
}

static sp_status one_step(trainer *t)
{
    double loss, began = sp_now();
    SP_TRY(run_micro_batches(t, &loss));
    double norm = gradient_norm(t), rate = learning_rate_at(t->settings, t->state->step);
    if (!isfinite(loss) || !isfinite(norm))
        return sp_fail(
            SP_NUMERIC,
            "step %lld: the loss is %g and the gradient's norm %g; training stops, and what "
            "was saved in %s before is still good",
            (long long)t->state->step + 1, loss, norm, t->settings->output);
    optimize(t, norm, rate);
    t->state->step++;
    if (t->task->measured) SP_TRY(t->task->measured(t->task->context, t->state->step, loss, norm));
    SP_TRY(sp_metrics_write(t->metrics,
                            json_pack("{s:I, s:f, s:f, s:f, s:f}", "step",
                                      (json_int_t)t->state->step, "loss", loss, "grad_norm", norm,
                                      "learning_rate", rate, "seconds", sp_now() - began)));
    char detail[96];
    snprintf(detail, sizeof detail, "loss %.5f  grad %.3f", loss, norm);
    sp_report(t->callbacks, t->settings->name, t->state->step, t->settings->max_steps, detail);
    return SP_OK;
}

static sp_status save(trainer *t)
{
    return sp_checkpoint_save(t->settings->output, t->state, t->settings->settings,
                              t->settings->checkpoints_total_limit);
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

static sp_status loop(trainer *t)
{
    const sp_trainer_settings *s = t->settings;
    while (t->state->step < s->max_steps) {
        SP_TRY(prepare(t));
        SP_TRY(one_step(t));
        bool last = t->state->step >= s->max_steps,
             stopped = sp_check_cancelled(t->callbacks) != SP_OK;
        if (last || stopped || due(t->state->step, s->checkpointing_steps)) SP_TRY(save(t));
        if (t->task->validate && !stopped &&
            (due(t->state->step, s->validation_steps) || (last && s->validation_steps > 0)))
            SP_TRY(t->task->validate(t->task->context, t->state));
        if (stopped && !last)
            return sp_fail(
                SP_CANCELLED,
                "interrupted after step %lld of %lld; %s/checkpoint-%lld is saved, go on with --resume latest",
                (long long)t->state->step, (long long)s->max_steps, s->output,
                (long long)t->state->step);
    }
    return SP_OK;
}

static sp_status start(trainer *t)
{
    const sp_trainer_settings *s = t->settings;
    bool found = false;
    int64_t newest;
    SP_TRY(sp_make_folders(s->output));
    SP_TRY(sp_checkpoint_tidy(s->output, &newest));
    if (!s->resume && newest >= 0)
        sp_log_warn(
            "%s has checkpoint-%lld of an earlier run, and this one starts at step 0; --resume latest goes on with it",
            s->output, (long long)newest);
    if (s->resume) {
        SP_TRY(sp_checkpoint_load(s->output, s->resume, s->settings, t->state, &found));
        if (found)
            sp_log_info("%s: resuming after step %lld", s->output, (long long)t->state->step);
        else
            sp_log_info("%s: no checkpoint to resume from, starting at step 0", s->output);
    }
    SP_TRY(sp_metrics_open(s->output, t->state->step, &t->metrics));
    SP_TRY(sp_run_bind(t->run, "online", t->state->online));
    return find_gradients(t);
}

sp_status sp_train(sp_run *run, const sp_trainer_settings *settings, const sp_training_task *task,
                   sp_training_state *state, const sp_callbacks *callbacks)
{
    trainer t = {
        .run = run, .settings = settings, .task = task, .state = state, .callbacks = callbacks};
    sp_status status = start(&t);
    if (!status) status = loop(&t);
    release(&t);
    return status;
}
