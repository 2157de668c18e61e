/* The training loop, the same for autoencoders, teachers and students: feed, run, clip, step,
 * average, measure, save. */
#ifndef SP_TRAIN_TRAINER_H
#define SP_TRAIN_TRAINER_H
#include "base/output.h"
#include "base/progress.h"
#include "graph/run.h"
#include "train/average.h"
#include "train/checkpoint.h"
#include "train/lr_schedule.h"

/* One optimiser step of one network. */
typedef struct {
    sp_run *run;                /* that takes the place of the one in use, which may be destroyed; NULL: that one. Its
                                   plan is of the same device and has the gradients of `trained`, "gradient.NAME", and
                                   all weight sets but "online", the first network's, are bound */
    sp_training_state *trained; /* the first network or one beside it; where it changes there is a run */
    int64_t updates;            /* optimiser steps that it has had before */
} sp_update;

/* What a validation found. */
typedef struct {
    double error;    /* of the averaged weights; NaN, as it comes: none is measured */
    json_t *metrics; /* what of it goes into metrics.jsonl, new; NULL: nothing */
} sp_validation_result;

/* What differs between trainings. */
typedef struct {
    void *context;
    /* Before every step: what it is. *update comes as the next step with the run in use of the first network, which
     * every step so far has trained. The state is the device's: who reads it fetches it. NULL: it is that. */
    sp_status (*prepare)(void *context, sp_training_state *state, sp_update *update);
    /* Sets the run's inputs for one micro-batch, counted from 0 over the whole run. */
    sp_status (*feed)(void *context, sp_run *run, int64_t micro);
    /* After a micro-batch ran; NULL: nothing. */
    sp_status (*observe)(void *context, sp_run *run, int64_t micro);
    /* After an optimiser step; grad_norm before clipping; NULL: nothing. */
    sp_status (*measured)(void *context, int64_t step, double loss, double grad_norm);
    /* At validation steps, e.g. a sheet of samples; the state is fetched. SP_CANCELLED: stopped on the way. NULL:
     * nothing. */
    sp_status (*validate)(void *context, const sp_training_state *state, sp_validation_result *result);
} sp_training_task;

typedef struct {
    const char *name;   /* the bar's label */
    const char *output; /* folder of checkpoints and metrics.jsonl */
    int64_t max_steps;
    int64_t accumulation; /* micro-batches per optimiser step */
    double learning_rate;
    sp_lr_schedule lr_schedule;
    double weight_decay;
    sp_average average, target_average; /* the latter where the state has a target */
    int64_t samples; /* of a step, on all ranks */
    double max_grad_norm;
    int64_t checkpointing_steps; /* 0: only at the end and when interrupted */
    int checkpoints_total_limit; /* 0: all */
    int64_t validation_steps;    /* 0: never */
    bool keep_best;              /* the state is at the end that of the validation of the lowest error */
    const char *resume;          /* NULL, "latest", or a checkpoint's folder */
    json_t *settings;            /* the flags that determine the run, for state.json */
    sp_ranks *ranks;             /* those that train together; NULL: this process alone */
    const sp_claim *claim;       /* of the output, for ranks; NULL: none */
} sp_trainer_settings;

/* Trains state->online until max_steps, on the device of the run, where the state is placed; at the end it is fetched.
 * The plan has a scalar output "loss" and "gradient.NAME" for weights of set "online"; `run` has every other weight set
 * bound. SP_NUMERIC when a loss is not finite (the last checkpoint stays), SP_CANCELLED after saving when asked to
 * stop. With several micro-batches a step the plan adds gradients to inputs of their names (sp_output_gradient_sums).
 *
 * metrics.jsonl has one object per step: step, with several networks "network" (its name), loss and what else the plan
 * has of scalar outputs "loss_NAME", parts of it (three at most), grad_norm, learning_rate, seconds, stage_seconds and
 * peak_rss_bytes (of the process so far). stage_seconds splits the step: "data"; the stages of the run's graph, of a
 * distillation "teacher", "target", "forward", "recomputation" (what gradient checkpointing runs again) and "backward",
 * of other trainings "run" and "backward";
 * with ranks "reduce", waiting for their gradients after the backward pass; "optimizer", which is
 * clipping, AdamW and the average. What is left of `seconds` is observing and the loss. With ranks
 * also reduced_bytes, those of the gradients, and reduce_seconds_in_backward, what summing them
 * took from the backward pass.
 *
 * A validation, at each step that validation_steps divides and at the last one, comes before the step's checkpoint,
 * which knows of it; a run that was stopped at such a step validates first when it goes on. One that measures has an
 * object of its own in metrics.jsonl: step, validation_seconds and the task's.
 *
 * With keep_best each validation of a lower error than all before saves a checkpoint, due or not, which stays while one
 * that knows it as its best does; at the end the state becomes the best one, `step` and all.
 *
 * With ranks, loss and gradient are means over all of them, so all do the same; rank 0 alone reads
 * and writes files and validates. One that is asked to stop leaves the step it is in, for its
 * partners may be gone, and rank 0 saves the state before it. */
sp_status sp_train(sp_run *run, const sp_trainer_settings *settings, const sp_training_task *task,
                   sp_training_state *state, const sp_callbacks *callbacks);

/* Sets the inputs that a plan of gradient sums adds to to 0. */
sp_status sp_clear_gradient_sums(sp_run *run, const sp_weights *online);

#endif
