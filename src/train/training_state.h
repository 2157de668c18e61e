/* What a training run is made of, and its checkpoints: online weights, their moving average, the
 * optimiser's moments and the number of steps done. A run resumed from a checkpoint is bit for bit
 * the run not interrupted. */
#ifndef SP_TRAIN_TRAINING_STATE_H
#define SP_TRAIN_TRAINING_STATE_H
#include "base/json.h"
#include "base/progress.h"
#include "tensor/weights.h"
#include "train/distributed.h"

/* Four sets of the same names and shapes, f32. */
typedef struct {
    sp_weights *online, *ema;
    sp_weights *first_moment, *second_moment; /* AdamW's m and v */
    int64_t step;                             /* optimiser steps done */
} sp_training_state;

/* Copies `initial` (any float dtype) into online and ema; moments are zero. */
sp_status sp_training_state_create(const sp_weights *initial, sp_training_state *out);
void sp_training_state_free(sp_training_state *state);
/* Every rank's state becomes rank 0's. */
sp_status sp_training_state_share(sp_training_state *state, sp_ranks *ranks);

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
