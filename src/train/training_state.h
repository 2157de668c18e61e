/* What a training run is made of, and its checkpoints: online weights, their moving average, the
 * optimiser's moments and the number of steps done. A run resumed from a checkpoint is bit for bit
 * the run not interrupted. */
#ifndef SP_TRAIN_TRAINING_STATE_H
#define SP_TRAIN_TRAINING_STATE_H
#include "backend/optimizer.h"
#include "base/json.h"
#include "base/progress.h"
#include "tensor/weights.h"
#include "train/distributed.h"

#define SP_OPTIMIZER_LIST(X) X(OPTIMIZER_ADAMW, "adamw") X(OPTIMIZER_ADAMW8BIT, "adamw8bit")
#define X(name, text) SP_##name,
typedef enum { SP_OPTIMIZER_LIST(X) SP_OPTIMIZER_COUNT } sp_optimizer;
#undef X
const char *sp_optimizer_name(sp_optimizer optimizer);
/* SP_ARGUMENT, naming the choices, for any other text. */
sp_status sp_optimizer_of(const char *name, sp_optimizer *out);

/* Four sets of the same names and shapes, f32. With adamw8bit the moments of parameters of
 * SP_LEAST_CODED elements or more are codes: U8 NAME, and F32 NAME.scales, one per block. Smaller
 * ones take no memory to speak of, and a block of a bias or a norm has little in common. */
enum { SP_LEAST_CODED = 4096 };
typedef struct {
    sp_weights *online, *ema;
    sp_weights *first_moment, *second_moment; /* AdamW's m and v */
    int64_t step;                             /* optimiser steps done */
} sp_training_state;

/* Takes `initial`, owned f32 tensors, as the online weights, in every case; the average is a copy,
 * and moments are zero. */
sp_status sp_training_state_create(sp_weights *initial, sp_optimizer optimizer,
                                   sp_training_state *out);
void sp_training_state_free(sp_training_state *state);
/* Every rank's tensors, owned and of the same names and shapes, become rank 0's. */
sp_status sp_weights_share(sp_weights *weights, sp_ranks *ranks);
/* Every rank's state becomes rank 0's. */
sp_status sp_training_state_share(sp_training_state *state, sp_ranks *ranks);
/* What the optimiser works on for online weight `index`; the gradient is the caller's to add. */
sp_adamw_tensor sp_training_tensor(const sp_training_state *state, size_t index);
/* Bytes of both moments of a parameter of `count` elements. */
size_t sp_moment_bytes(sp_optimizer optimizer, int64_t count);

/* Adds a text to the flags that determine a run; SP_ARGUMENT, naming the flag, if it is not UTF-8.
 */
sp_status sp_settings_set_text(json_t *settings, const char *flag, const char *text);

/* For the start of a run: waits for this program's processes that are still saving checkpoints
 * under output (SP_CANCELLED if asked to stop meanwhile), removes what killed ones left of
 * unfinished checkpoints; *newest is the step of the newest one, -1 if there is none. */
sp_status sp_checkpoint_tidy(const char *output, const sp_callbacks *callbacks, int64_t *newest);

/* Writes output/checkpoint-STEP: *.safetensors and state.json with their sizes and checksums and
 * `settings`, an object whose keys are the flags that determine the run. Written beside, forced to
 * the disk and renamed; only then are the oldest checkpoints beyond `limit` removed (0: keep all),
 * not counting later ones, which an earlier run left. If anything fails, a full disk say, the
 * unfinished folder is removed and what there was stays. Reports bytes done if it takes long. */
sp_status sp_checkpoint_save(const char *output, const sp_training_state *state,
                             const json_t *settings, int limit, const sp_callbacks *callbacks);

/* Loads `which`: "latest" (the newest checkpoint under output that is whole; damaged ones are
 * skipped with a warning that says why; *found is false, and *state untouched, if there is none) or
 * a checkpoint's folder. Every checksum is verified before anything is taken over. Settings that
 * differ from `settings` are SP_ARGUMENT, naming the flag and both values. */
sp_status sp_checkpoint_load(const char *output, const char *which, const json_t *settings,
                             sp_training_state *state, const sp_callbacks *callbacks, bool *found);

#endif
