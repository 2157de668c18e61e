/* The teachers of a distillation in rounds (progressive): each round's student teaches the next. */
#ifndef SP_DISTILL_ROUNDS_H
#define SP_DISTILL_ROUNDS_H
#include "distill/distill.h"
#include "train/training_state.h"

/* The teacher of `round`, counted from 0 and at least 1, new weights. At the round's first step it
 * is the online weights, which are kept as output/round-R.safetensors, R = `round`, with
 * `settings`, the flags that determine the run. Later, in a run that was resumed, it is that file,
 * or the one beside the checkpoint that was resumed from; one of another run is SP_ARGUMENT. A run
 * is a function of its settings, so resuming gives the same bits. */
sp_status sp_round_teacher(const sp_distill_options *options, const json_t *settings,
                           const sp_training_state *state, int round, sp_weights **out);

#endif
