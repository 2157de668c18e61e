/* A plan: a graph with a kernel for every node and a place in memory for every value. Immutable;
 * shared by runs. A run: one execution state of a plan (its memory, bound weights, inputs). */
#ifndef SP_GRAPH_PLAN_H
#define SP_GRAPH_PLAN_H
#include "base/progress.h"
#include "graph/device.h"
#include "formats/weights.h"

typedef struct sp_plan sp_plan;
typedef struct sp_run sp_run;

/* Bytes, known before anything runs. */
typedef struct {
    size_t arena_bound; /* the most that is alive at once in the arena: none is smaller */
    size_t arena;       /* activations and kernels' scratch, lifetimes overlapped */
    size_t persistent;  /* values kept between steps: packed and cast weights, what depends on the
                           prompt alone */
    size_t boundary;    /* inputs and outputs */
    size_t parameters;  /* as bound, not allocated by the run, without those that it drops
                           (sp_run_bind) */
} sp_plan_memory;

/* Prunes, lowers to `storage` (SP_F32, SP_BF16), prepares kernels, plans memory. Takes the graph in
 * every case. */
sp_status sp_plan_create(sp_graph *graph, sp_device *device, sp_dtype storage, sp_plan **out);
void sp_plan_destroy(sp_plan *plan);
sp_device *sp_plan_device(const sp_plan *plan);
sp_plan_memory sp_plan_get_memory(const sp_plan *plan);
/* The part of `parameters` that belongs to a weight set, and of `boundary` to outputs whose names
 * begin with `prefix`. */
size_t sp_plan_set_bytes(const sp_plan *plan, const char *set);
size_t sp_plan_output_bytes(const sp_plan *plan, const char *prefix);
/* What gradient checkpointing would save and cost by computing block 1..count again: bytes that
 * only the backward pass needs of it, and operations. *out: sp_free; *count 0: the graph has no
 * blocks. */
typedef struct {
    size_t bytes;
    double flops;
} sp_block_cost;
sp_status sp_plan_block_costs(const sp_plan *plan, sp_block_cost **out, int *count);
const sp_graph *sp_plan_graph(const sp_plan *plan);
/* NULL when there is no such input or output. */
const sp_value *sp_plan_input(const sp_plan *plan, const char *name);
const sp_value *sp_plan_output(const sp_plan *plan, const char *name);
/* The number of an output, from 0 in the order in which the graph named them; -1 if there is none. */
int sp_plan_output_index(const sp_plan *plan, const char *name);
/* The last step that writes or reads an output; those of lower steps are complete before it. -1: no
 * step does (an input or a parameter that is an output as it is). */
int sp_plan_output_step(const sp_plan *plan, int output_index);

sp_status sp_run_create(const sp_plan *plan, sp_run **out);
const sp_plan *sp_run_plan(const sp_run *run);
void sp_run_destroy(sp_run *run); /* prints the profile, if there is one (profile.h) */
/* For who times runs after a first one, which packs weights and touches fresh memory: the profile
 * begins anew. */
void sp_run_forget_profile(sp_run *run);
/* Binds every parameter of `set` from `weights` (must outlive the run). A missing name, wrong shape
 * or dtype is an error naming it. A device with memory of its own has one copy for all runs (residence.h), and of a
 * parameter that only steps of RUN rate read (packing, casts) none but while these run; its mapped pages are dropped after
 * the last of them. Rebinding or sp_run_weights_changed (of the host's tensors) makes
 * what was computed from RUN-rate weights stale. */
sp_status sp_run_bind(sp_run *run, const char *set, const sp_weights *weights);
void sp_run_weights_changed(sp_run *run);
/* Copies; float data is converted to the input's dtype. The shape must agree. */
sp_status sp_run_set_input(sp_run *run, const char *name, const sp_tensor *tensor);
sp_status sp_run_clear_input(sp_run *run, const char *name); /* zeros */
/* callbacks (may be NULL) are asked between any two steps: SP_CANCELLED, after which the run can be
 * executed again; what was packed is packed again. The device may still be at work afterwards: who reads an output waits,
 * and is told what failed; who only measures asks the device to finish. */
sp_status sp_run_execute(sp_run *run, const sp_callbacks *callbacks);
/* Calls `ready` during sp_run_execute right after the step that completed an output was asked for: no later step
 * of that execution writes or reads it, so what lies at its address may be used and changed, by calls of the device, while
 * the rest runs. Called in the order of steps, on the thread that executes; what it returns, if not
 * SP_OK, ends the execution and is returned by it. An output that only steps of a slower rate touch
 * is reported when these run. NULL: nobody watches. */
void sp_run_set_output_observer(sp_run *run, sp_status (*ready)(void *context, int output_index),
                                void *context);
/* Calls `poll` between the steps of sp_run_execute, so every few milliseconds; what it returns, if
 * not SP_OK, ends the execution and is returned by it. NULL: nobody. */
void sp_run_set_poll(sp_run *run, sp_status (*poll)(void *context), void *context);
/* Stage i (sp_stage_enter) of the plan, and the seconds that this run has spent in it since it was
 * made; NULL past the last one. Nodes outside all stages count as "". Waits for the device. */
enum { SP_MAX_STAGES = 16 };
const char *sp_run_stage(sp_run *run, int i, double *seconds);
/* Copies an output into a new owned tensor (dtype of the graph's output). */
sp_status sp_run_get_output(sp_run *run, const char *name, sp_tensor *out);
/* Where an output lies: an address of the device's, for its calls alone, e.g. gradients for the optimizer. The place is
 * the same for the run's life; the caller may have what is there changed until the next execute. NULL: there is no such
 * output. */
void *sp_run_output_address(const sp_run *run, const char *name);

#endif
