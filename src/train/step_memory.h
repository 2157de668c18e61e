/* The memory of a training step, known before it: one table for `distill`, `inspect` and `bench`;
 * and how much of the forward pass is computed again to stay within a limit. */
#ifndef SP_TRAIN_STEP_MEMORY_H
#define SP_TRAIN_STEP_MEMORY_H
#include "base/text.h"
#include "graph/plan.h"
#include "train/training_state.h"

/* (field, words), bytes each. The plan tells those up to `inputs`. */
#define SP_STEP_MEMORY_LIST(X)                                                                     \
    X(teacher, "teacher, mapped")                                                                  \
    X(packed, "packed weights, teacher")                                                           \
    X(online, "online weights")                                                                    \
    X(ema, "averaged weights")                                                                     \
    X(moments, "moments")                                                                          \
    X(gradients, "gradients and their sums")                                                       \
    X(arena, "activations, scratch")                                                               \
    X(inputs, "inputs")                                                                            \
    X(round_teacher, "teacher of later rounds")                                                    \
    X(data, "latents and contexts")                                                                \
    X(validation, "validation sheets")                                                             \
    X(program, "the program itself")

typedef struct {
#define X(field, words) size_t field;
    SP_STEP_MEMORY_LIST(X)
#undef X
    sp_optimizer optimizer;
    size_t arena_bound;      /* what no placement of the arena's values could pass below */
    int blocks, recomputed;  /* of gradient checkpointing */
    double recomputed_share; /* of the operations of all blocks */
} sp_step_memory;

size_t sp_step_memory_total(const sp_step_memory *memory);
/* The table, one line a row that is not 0. limit 0: there is none. */
void sp_step_memory_append(const sp_step_memory *memory, size_t limit, sp_string *out);

/* Builds the step's graph with these blocks recomputed (sp_unet_options). */
typedef sp_status sp_step_builder(void *context, uint64_t recompute, sp_graph **out);

typedef struct {
    sp_step_builder *build;
    void *context;
    sp_device *device;
    sp_dtype storage;
    size_t limit;       /* 0: none */
    bool recompute_all; /* else the fewest blocks that keep within the limit, none without one */
} sp_step_request;

/* Plans the step. memory->optimizer and the rows after `inputs` are the caller's, set before; the
 * rest is filled in. Blocks are taken in the order of bytes saved per operation. Where not even all
 * blocks are enough, *plan is NULL and the table is theirs: the caller refuses. */
sp_status sp_step_plan(const sp_step_request *request, sp_step_memory *memory, sp_plan **plan);

#endif
