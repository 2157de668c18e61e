/* The insides of a plan. A slot is a piece of memory: a value's, a packed weight's, a kernel's
 * scratch. */
#ifndef SP_GRAPH_PLAN_INTERNAL_H
#define SP_GRAPH_PLAN_INTERNAL_H
#include "base/text.h"
#include "graph/plan.h"

typedef enum {
    SP_PLACE_NONE,
    SP_PLACE_ARENA,
    SP_PLACE_PERSISTENT, /* kept between steps; while a plan is made, of any rate */
    SP_PLACE_KEPT,       /* kept, and made of weights alone */
    SP_PLACE_PACK,       /* likewise, and a weight packed or cast that other plans may share; offset: index into the
                            plan's packs */
    SP_PLACE_BOUNDARY,
    SP_PLACE_PARAMETER
} sp_place;

typedef struct {
    sp_place place;
    size_t bytes,
        offset;      /* offset within its place; parameters: index into the plan's parameter list */
    int first, last; /* steps that touch it, the arena's are alive between them; -1: none */
    int merged_into; /* -1, or the slot whose memory it takes over (in place) */
} sp_slot;

typedef struct {
    const sp_node *node;
    sp_rate rate;
    int kernel;      /* index of the kernel */
    int packs_input; /* >= 0: this step packs that input of the kernel instead of running it */
    bool repacks;    /* from another pack of it, which is kept */
    int in[SP_MAX_INPUTS], out[SP_MAX_OUTPUTS], scratch; /* slots; -1: none */
    int stage;                                           /* index into the plan's stages */
} sp_step;

struct sp_plan {
    sp_graph *graph;
    sp_device *device;
    const char *precision; /* "f32", as in names of files */
    sp_kernel *kernels;
    int kernel_count;
    sp_step *steps; /* sorted by rate, then by order */
    int step_count, step_capacity;
    sp_slot *slots;
    int slot_count, slot_capacity;
    int *slot_of; /* by value id; -1 none */
    sp_value **parameters;
    int parameter_count;
    int *pack_step; /* by pack: the step that makes it */
    int pack_count;
    size_t kept_bytes, prompt_bytes; /* of memory.persistent: what is in a bound plan but for packs, and in a run */
    sp_dictionary *inputs, *outputs; /* name -> sp_value */
    int *output_step;         /* by output: the last step that touches it; -1: none */
    int *first_output;        /* by step: an output that it completes; -1: none */
    int *next_output;         /* by output: another one of the same step; -1: none */
    const char *stages[SP_MAX_STAGES];
    int stage_count;
    sp_plan_memory memory;
};

/* A parameter that no step reads after this one, until its weights change. */
static inline bool sp_parameter_done(const sp_plan *plan, int slot, int step)
{
    return plan->slots[slot].place == SP_PLACE_PARAMETER && plan->slots[slot].last == step &&
           plan->steps[step].rate == SP_RATE_RUN;
}

/* In what form a step makes a pack of its input: a packing, or a cast to another type. key 0: in none that another
 * plan could want. */
typedef struct {
    uint64_t key;
    size_t bytes;
} sp_pack_form;
sp_pack_form sp_pack_layout(const sp_plan *plan, const sp_step *step);

/* Gives every slot its offset; sets plan->memory. */
sp_status sp_plan_place(sp_plan *plan);

#endif
