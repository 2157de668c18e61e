/* A part of a model at its own size, ready to be run again and again: what `bench` times and models. */
#ifndef SP_BENCH_MODEL_RUN_H
#define SP_BENCH_MODEL_RUN_H
#include <splam/eval.h>
#include "bench/workload.h"
#include "graph/run.h"
#include "train/training_state.h"

typedef struct {
    const char *name; /* in reports */
    sp_work work;
    bool train; /* its batch is options->train_batch_size, else 1 */
} sp_model_part;
extern const sp_model_part sp_model_parts[];
extern const int sp_model_part_count;
/* Whether the part is of a kind of denoiser that the model has not, and has another. */
bool sp_model_part_is_other(const sp_work_model *model, const sp_model_part *part);
/* NULL, or why the model has no such part. */
const char *sp_model_part_absent(const sp_work_model *model, const sp_model_part *part);

/* Whole steps and gradients have weights that change, and whole steps an update that follows the plan: the norm of the
 * gradient, AdamW and the average. Latents and conditioning are there. */
typedef struct {
    sp_plan *plan;
    sp_run *run; /* inputs are set, weights bound */
    sp_training_state state;
    sp_gradients gradients;
    bool updates;
} sp_model_run;

/* The model outlives it. SP_MEMORY where the machine would begin to swap. On failure *out is to be freed too. */
sp_status sp_model_run_create(const sp_work_model *model, const sp_model_part *part, const splam_bench_options *options,
                              sp_model_run *out);
void sp_model_run_free(sp_model_run *run); /* zeroed is legal */
/* Both wait. */
sp_status sp_model_run_execute(sp_model_run *run, const sp_callbacks *callbacks);
sp_status sp_model_run_norm(sp_model_run *run, double *norm);
sp_status sp_model_run_update(sp_model_run *run, double norm);

#endif
