/* A graph made ready: its plan, and one run of it. */
#ifndef SP_MODELS_RUNNER_H
#define SP_MODELS_RUNNER_H
#include "graph/run.h"

typedef struct {
    sp_plan *plan;
    sp_run *run;
} sp_runner;

/* Finishes and destroys `b` in every case, fuses, plans for `precision` (SP_F32 or SP_BF16). */
sp_status sp_runner_plan(sp_builder *b, sp_device *device, sp_dtype precision, sp_plan **out);
/* The same, and a run of the plan. */
sp_status sp_runner_create(sp_builder *b, sp_device *device, sp_dtype precision, sp_runner *out);
/* A run of the plan, which has none yet. */
sp_status sp_runner_begin(sp_runner *runner);
/* How many plans and runs were made in this process: planning and packing are worth counting, and tests do. */
unsigned long sp_plans_made(void);
unsigned long sp_runners_made(void);
void sp_runner_free(sp_runner *runner); /* zeroed is legal; leaves it zeroed */

#endif
