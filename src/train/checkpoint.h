/* Checkpoints of a training state. A run resumed from one is bit for bit the run not interrupted. */
#ifndef SP_TRAIN_CHECKPOINT_H
#define SP_TRAIN_CHECKPOINT_H
#include "base/json.h"
#include "base/progress.h"
#include "train/settings.h"
#include "train/training_state.h"

/* Before a run: whether it may write `names`, a list that NULL ends, into the folder, which is there. SP_ARGUMENT where
 * it has a checkpoint and is not resumed, or one of the names and no metrics.jsonl of an earlier run beside it. resume:
 * NULL, "latest" or a checkpoint. */
sp_status sp_checkpoint_check_output(const char *output, const char *resume, const char *const *names);
/* For the start of a run: waits for this program's processes that are still saving checkpoints
 * under output (SP_CANCELLED if asked to stop meanwhile), removes what killed ones left of
 * unfinished checkpoints. */
sp_status sp_checkpoint_tidy(const char *output, const sp_callbacks *callbacks);

/* Writes output/checkpoint-STEP: *.safetensors and state.json with their sizes and checksums and
 * `settings`, an object whose keys are the flags that determine the run. Written beside, forced to
 * the disk and renamed; only then are the oldest checkpoints beyond `limit` removed (0: keep all),
 * not counting later ones, which an earlier run left,
 * nor those that are the best so far of one that stays. If anything fails, a full disk say, the
 * unfinished folder is removed and what there was stays. Reports bytes done if it takes long. */
sp_status sp_checkpoint_save(const char *output, const sp_training_state *state,
                             const json_t *settings, int limit, const sp_callbacks *callbacks);

/* output/checkpoint-STEP, sp_free; NULL without memory. */
char *sp_checkpoint_path(const char *output, int64_t step);
/* Sees that output has the checkpoint of state->best, if there is one, after `which` was loaded: copies it from beside
 * that folder if this lies elsewhere. SP_IO if it is not to be found. */
sp_status sp_checkpoint_find_best(const char *output, const char *which, const sp_training_state *state);

/* What a checkpoint's state.json says. SP_FORMAT for steps that are missing, negative or no whole numbers. */
typedef struct {
    int64_t step;
    sp_validated validated; /* without the key, as older ones are, nothing is owed: this step, NaN */
    sp_validated best;      /* step 0: none */
    json_t *json;           /* step, validated, best, settings, files and their sums */
} sp_checkpoint_facts;
sp_status sp_checkpoint_facts_read(const char *folder, sp_checkpoint_facts *out);
void sp_checkpoint_facts_free(sp_checkpoint_facts *facts); /* zeroed is legal */
/* *out: whether the folder has one. */
sp_status sp_is_checkpoint(const char *folder, bool *out);

/* Loads `which`: "latest" (the newest checkpoint under output that is whole; damaged ones are
 * skipped with a warning that says why, and SP_IO if all are; *found is false, and *state untouched,
 * if there is none) or a checkpoint's folder. Every checksum is verified before anything is taken over. Settings that
 * differ from `settings` are SP_ARGUMENT, naming the flag and both values. */
sp_status sp_checkpoint_load(const char *output, const char *which, const json_t *settings,
                             sp_training_state *state, const sp_callbacks *callbacks, bool *found);

#endif
