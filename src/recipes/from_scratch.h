/* What trainings of models, from random weights or from a model's, share. */
#ifndef SP_RECIPES_FROM_SCRATCH_H
#define SP_RECIPES_FROM_SCRATCH_H
#include "backend/precision.h"
#include "data/dataset.h"
#include "models/initialize.h"
#include "recipes/train.h"
#include "train/trainer.h"

/* Fuses, adds the gradients of weight set "online" as outputs, finishes; destroys b in every case. */
sp_status sp_finish_training_graph(sp_builder *b, sp_value *loss, sp_graph **out);

typedef struct {
    sp_device *device; /* to train on */
    const char *name;  /* the bar's label */
    const char *const *zero; /* SP_INITIALIZE_ZEROS of them, see sp_initialize_options; NULL: none */
    const sp_weights *start; /* copied as F32, where the graph has it: what does not begin at random; NULL: everything
                                does */
    sp_lr_schedule lr_schedule;
    sp_average average;
} sp_from_scratch_options;

/* Reads lr_schedule and average of the options: what is asked for, checked, or a warm-up of so many steps, which moves
 * at once, and a cosine; a rate rises. */
sp_status sp_from_scratch_read(const splam_train_options *options, int64_t warmup_steps, sp_from_scratch_options *how);
/* The pictures that are asked for. SP_ARGUMENT, naming `resolution`, unless their side is a multiple of `factor`. */
sp_status sp_from_scratch_dataset(const splam_train_options *options, int64_t factor, const sp_callbacks *callbacks,
                                  sp_dataset **out);
/* The flags that determine a run, for its checkpoints (json_decref). SP_ARGUMENT if a text among
 * them is not UTF-8. */
sp_status sp_train_settings(const splam_train_options *options, const sp_from_scratch_options *how, json_t **out);

/* Initialises set "online" of the graph, trains it and leaves the result in *state
 * (sp_training_state_free). Takes the graph in every case. */
sp_status sp_train_from_scratch(sp_graph *graph, const splam_train_options *options,
                                const sp_from_scratch_options *how, json_t *settings,
                                const sp_training_task *task, const sp_callbacks *callbacks,
                                sp_training_state *state);

#endif
