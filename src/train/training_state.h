/* What a training run is made of: online weights, their moving average, the optimiser's moments and
 * the number of steps done; the same of further networks that are trained in turn with the first. */
#ifndef SP_TRAIN_TRAINING_STATE_H
#define SP_TRAIN_TRAINING_STATE_H
#include "graph/optimizer.h"
#include "graph/run.h"
#include "graph/residence.h"
#include "formats/weights.h"
#include "options/choices.h"
#include "train/distributed.h"

#define X(name, text) SP_OPTIMIZER_##name,
typedef enum { SP_OPTIMIZER_LIST(X) SP_OPTIMIZER_COUNT } sp_optimizer;
#undef X
const char *sp_optimizer_name(sp_optimizer optimizer);
/* SP_ARGUMENT, naming the choices, for any other text. */
sp_status sp_optimizer_of(const char *name, sp_optimizer *out);

/* A validation of the first network: after which step, 0: none, and what it measured, NaN: nothing. */
typedef struct {
    int64_t step;
    double error;
} sp_validated;

/* Five sets of the same names and shapes, f32; ema, target NULL: none is kept. With adamw8bit the moments of
 * parameters of SP_LEAST_CODED elements or more are coded (graph/optimizer.h): NAME, and its scales beside it.
 * Smaller ones take no memory to speak of, and a block of a bias or a norm has little in common. */
enum { SP_LEAST_CODED = 4096, SP_TRAINING_PARTS = 5 };
typedef struct sp_training_state {
    const char *name; /* in metrics, and in files of those after the first; NULL: there is one network */
    sp_weights *online, *ema;
    sp_weights *first_moment, *second_moment; /* AdamW's m and v */
    sp_weights *target;                       /* another average of the online weights, which a target asks */
    int64_t step;                             /* of the first: optimiser steps done, of all networks together */
    sp_validated validated, best;             /* of the first: the last validation, that of the lowest error */
    sp_residence *resident[SP_TRAINING_PARTS];/* the sets on the device that trains; NULL: not placed yet */
    bool ahead;                               /* the device's are newer */
    struct sp_training_state *beside;         /* the next network; NULL: none. What is said of a state below goes for
                                                 all of its networks, of an update and of gradients for the one */
} sp_training_state;

/* The sets as a list: online, ema, first_moment, second_moment, target. */
sp_weights **sp_training_part(sp_training_state *state, int index);

/* Puts what the host has on the device that will train it. Once, when the host's sets are whole. */
sp_status sp_training_state_place(sp_training_state *state, sp_device *device);
/* Before the host reads the sets: brings down what the device has changed. Waits for it. */
sp_status sp_training_state_fetch(sp_training_state *state);

/* Takes `initial`, owned f32 tensors, as the online weights, in every case; the average is a copy,
 * and moments are zero. */
sp_status sp_training_state_create(sp_weights *initial, sp_optimizer optimizer,
                                   sp_training_state *out);
/* Keeps another average too, which begins as a copy of the online weights. */
sp_status sp_training_state_keep_target(sp_training_state *state);
/* Puts another network beside those that there are, without an average. Takes `initial` in every case; `name` must
 * outlive the state. */
sp_status sp_training_state_add(sp_training_state *state, const char *name, sp_weights *initial,
                                sp_optimizer optimizer);
void sp_training_state_free(sp_training_state *state);
/* Every rank's tensors, owned and of the same names and shapes, become rank 0's. */
sp_status sp_weights_share(sp_weights *weights, sp_ranks *ranks);
/* Every rank's state becomes rank 0's. */
sp_status sp_training_state_share(sp_training_state *state, sp_ranks *ranks);

/* Where a run leaves the gradient of each online weight, "gradient.NAME"; addresses are its device's. */
typedef struct {
    sp_device *device;
    float **at;      /* by weight; NULL: the loss does not depend on it */
    double *squares; /* room for a sum */
} sp_gradients;
sp_status sp_gradients_of(const sp_run *run, const sp_weights *online, sp_gradients *out);
void sp_gradients_free(sp_gradients *gradients);
/* The length of all of them together. Waits for the device. */
sp_status sp_gradients_norm(const sp_gradients *gradients, const sp_training_state *state, double *norm);
/* One AdamW step of all online weights, and of their average, where the state is placed. */
sp_status sp_training_update(sp_training_state *state, const sp_gradients *gradients,
                             const sp_adamw_options *options);
/* Then the target, which keeps `decay` of itself; nothing where there is none. */
sp_status sp_training_move_target(sp_training_state *state, const sp_gradients *gradients, double decay);
/* Bytes of both moments of a parameter of `count` elements, with their scales. */
size_t sp_moment_bytes(sp_optimizer optimizer, int64_t count);

#endif
