/* A distillation as it runs, and the graphs that its steps take: planned, bound to their weights, one of them with
 * memory for its run at a time. */
#ifndef SP_DISTILL_DISTILLATION_H
#define SP_DISTILL_DISTILLATION_H
#include "base/json.h"
#include "base/output.h"
#include "distill/distill_feed.h"
#include "distill/matching.h"
#include "distill/student_error.h"
#include "train/step_memory.h"
#include "train/trainer.h"

typedef struct {
    const sp_distill_options *options;
    const sp_callbacks *callbacks;
    sp_ranks *ranks; /* NULL: alone */
    sp_pipeline *teacher;
    sp_component_config student;
    sp_distill_feed feed;
    sp_step_shape shape;
    int round;                 /* that the student's graph is for */
    sp_weights *round_teacher; /* the previous round's student; NULL in the first */
    /* By what they train; all objectives but dmd have the student's alone. */
    sp_plan *plan[SP_STEP_PARTS];
    sp_bound *bound[SP_STEP_PARTS];
    uint64_t recompute;    /* blocks of the student's graph */
    sp_step_part part; /* whose `run` is */
    sp_run *run, *ahead;
    sp_training_state state;
    sp_student_error error; /* empty: not measured, or not by this rank */
    sp_step_memory memory;
    json_t *settings;
    sp_weights *trace;       /* what --trace writes; NULL: none */
    sp_tensor losses, norms; /* [steps] */
    sp_claim output_claim, trace_claim;
} sp_distillation;

/* Whether the target has an average of its own; the online weights are there already. */
bool sp_distillation_keeps_target(const sp_distill_options *options);
/* Plans the steps of the first round, and with them which blocks are recomputed in all, and says what memory they take.
 * SP_MEMORY if that is too much. The feed is there. */
sp_status sp_distillation_plan(sp_distillation *d);
/* Binds weights, the state being there, and makes the student's run. */
sp_status sp_distillation_make_runs(sp_distillation *d);
void sp_distillation_free_runs(sp_distillation *d); /* zeroed is legal */
size_t sp_distillation_f32_bytes(const sp_weights *weights);

/* An sp_training_task's prepare; context is the sp_distillation. */
sp_status sp_distillation_enter(void *context, sp_training_state *state, sp_update *update);

#endif
