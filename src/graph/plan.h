/* A plan: a graph with a kernel for every node and a place in memory for every value. Immutable;
 * shared by bound plans (bound.h), each of which has weights and is shared by runs (run.h). */
#ifndef SP_GRAPH_PLAN_H
#define SP_GRAPH_PLAN_H
#include "base/progress.h"
#include "graph/device.h"
#include "formats/weights.h"

typedef struct sp_plan sp_plan;
enum { SP_MAX_STAGES = 16 }; /* of a plan, see sp_stage_enter */

/* Bytes, known before anything runs. */
typedef struct {
    size_t arena_bound; /* the most that is alive at once in the arena: none is smaller */
    size_t arena;       /* activations and kernels' scratch, lifetimes overlapped */
    size_t persistent;  /* values kept between steps: packed and cast weights, what depends on the
                           prompt alone */
    size_t shared;      /* the part of these that is made of weights alone: once for all runs, and packed weights once
                           for all plans that want them alike */
    size_t boundary;    /* inputs and outputs */
    size_t parameters;  /* as bound, not allocated by the run, without those that are dropped
                           (sp_bind) */
} sp_plan_memory;

/* Prunes, lowers to `precision` (SP_F32, SP_BF16), prepares kernels, plans memory. Takes the graph in
 * every case. */
sp_status sp_plan_create(sp_graph *graph, sp_device *device, sp_dtype precision, sp_plan **out);
const char *sp_precision_name(sp_dtype precision); /* "f32" or "bf16", as flags and names of files have it */
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
/* Steps are numbered from 0, those of slower rates first. */
typedef struct {
    const sp_node *node;
    const char *kernel; /* its name */
    int packs_input;    /* >= 0: the kernel's weight that this step packs; -1: the step runs the kernel */
    sp_rate rate;
} sp_plan_step;
int sp_plan_step_count(const sp_plan *plan);
sp_plan_step sp_plan_step_at(const sp_plan *plan, int step);
/* "[1,64,64,320] [320,320,3,3] -> [1,64,64,320]": what the step's work depends on, cut to `size`. */
void sp_plan_step_shapes(const sp_plan *plan, int step, char *text, size_t size);
/* NULL when there is no such input or output. */
const sp_value *sp_plan_input(const sp_plan *plan, const char *name);
const sp_value *sp_plan_output(const sp_plan *plan, const char *name);
/* The number of an output, from 0 in the order in which the graph named them; -1 if there is none. */
int sp_plan_output_index(const sp_plan *plan, const char *name);
/* The last step that writes or reads an output; those of lower steps are complete before it. -1: no
 * step does (an input or a parameter that is an output as it is). */
int sp_plan_output_step(const sp_plan *plan, int output_index);

#endif
