/* A run: one execution state of a bound plan (its activations, inputs and outputs). One thread at a time. */
#ifndef SP_GRAPH_RUN_H
#define SP_GRAPH_RUN_H
#include "graph/bound.h"

typedef struct sp_run sp_run;

/* The bound plan lives longer. SP_INTERNAL for a second run of a plan with inputs or outputs that only change with
 * weights. */
sp_status sp_run_create_of(sp_bound *bound, sp_run **out);
/* The only run of a plan, with a bound plan of its own. */
sp_status sp_run_create(const sp_plan *plan, sp_run **out);
sp_bound *sp_run_bound(const sp_run *run); /* to bind its weights */
const sp_plan *sp_run_plan(const sp_run *run);
void sp_run_destroy(sp_run *run); /* prints the profile, if there is one (profile.h) */
/* For who times runs after a first one, which packs weights and touches fresh memory: the profile
 * begins anew. */
void sp_run_forget_profile(sp_run *run);
/* Copies; float data is converted to the input's dtype. The shape must agree. */
sp_status sp_run_set_input(sp_run *run, const char *name, const sp_tensor *tensor);
sp_status sp_run_clear_input(sp_run *run, const char *name); /* zeros */
/* callbacks (may be NULL) are asked between any two steps: SP_CANCELLED, after which the run can be
 * executed again; what was packed is packed again. The device may still be at work afterwards: who reads an output
 * waits, and is told what failed; who only measures asks the device to finish. */
sp_status sp_run_execute(sp_run *run, const sp_callbacks *callbacks);
/* The first part of it: what is made of weights alone, if it is not there. */
sp_status sp_run_make_weights(sp_run *run, const sp_callbacks *callbacks);
/* Calls `ready` during sp_run_execute right after the step that completed an output was asked for: no later step
 * of that execution writes or reads it, so what lies at its address may be used and changed, by calls of the device,
 * while the rest runs. Called in the order of steps, on the thread that executes; what it returns, if not
 * SP_OK, ends the execution and is returned by it. An output that only steps of a slower rate touch
 * is reported when these run. NULL: nobody watches. */
void sp_run_set_output_observer(sp_run *run, sp_status (*ready)(void *context, int output_index),
                                void *context);
/* Calls `poll` after each step of sp_run_execute was asked for, with the step's number in the plan, so every few
 * milliseconds; what it returns, if not SP_OK, ends the execution and is returned by it. NULL: nobody. */
void sp_run_set_poll(sp_run *run, sp_status (*poll)(void *context, int step), void *context);
/* Stage i (sp_stage_enter) of the plan, and the seconds that this run has spent in it since it was
 * made; NULL past the last one. Nodes outside all stages count as "". Waits for the device. */
const char *sp_run_stage(sp_run *run, int i, double *seconds);
/* Copies an output into a new owned tensor (dtype of the graph's output). */
sp_status sp_run_get_output(sp_run *run, const char *name, sp_tensor *out);
/* Where an output lies: an address of the device's, for its calls alone, e.g. gradients for the optimizer. The place is
 * the same for the run's life; the caller may have what is there changed until the next execute. NULL: there is no such
 * output. */
void *sp_run_output_address(const sp_run *run, const char *name);

#endif
