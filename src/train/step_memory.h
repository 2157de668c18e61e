/* The memory of a training step, known before it: one table for `distill`, `inspect` and `bench`;
 * and how much of the forward pass is computed again to stay within a limit. */
#ifndef SP_TRAIN_STEP_MEMORY_H
#define SP_TRAIN_STEP_MEMORY_H
#include "base/text.h"
#include "graph/plan.h"
#include "train/training_state.h"

/* (field, words, where), bytes each. The plan tells those up to `inputs`. Where a device has memory of its own, a row
 * is in the DEVICE's, the HOST's or in BOTH. */
#define SP_STEP_MEMORY_LIST(X)                                                                     \
    X(teacher, "teacher, mapped", DEVICE)                                                          \
    X(packed, "packed weights, teacher", DEVICE)                                                   \
    X(online, "online weights", BOTH)                                                              \
    X(ema, "averaged weights", BOTH)                                                               \
    X(target_average, "averaged weights, target's", BOTH)                                          \
    X(fake_score, "fake score's weights", BOTH)                                                    \
    X(moments, "moments", BOTH)                                                                    \
    X(gradients, "gradients and their sums", DEVICE)                                               \
    X(arena, "activations, scratch", DEVICE)                                                       \
    X(inputs, "inputs", DEVICE)                                                                    \
    X(round_teacher, "teacher of later rounds", BOTH)                                              \
    X(simulation, "the student's own steps", DEVICE)                                               \
    X(subpaths, "the teacher's, apart", DEVICE)                                                    \
    X(data, "latents and conditioning", HOST)                                                      \
    X(validation, "validation", DEVICE)                                                            \
    X(trajectories, "trajectories for it", HOST)                                                   \
    X(program, "the program itself", HOST)

typedef struct {
#define X(field, words, where) size_t field;
    SP_STEP_MEMORY_LIST(X)
#undef X
    sp_optimizer optimizer;
    bool keeps_target;       /* sp_training_state_keep_target */
    bool apart;              /* the device has memory of its own */
    size_t arena_bound;      /* what no placement of the arena's values could pass below */
    int blocks, recomputed;  /* of gradient checkpointing */
    double recomputed_share; /* of the operations of all blocks */
} sp_step_memory;

/* Of steps that take turns, each with memory of its own while it runs: rows of `other` where they are larger, and the
 * packed weights of both. */
void sp_step_memory_join(sp_step_memory *memory, const sp_step_memory *other);
/* In the device's memory, which the limit is about, and in the host's; a device without its own: both are all. */
size_t sp_step_memory_total(const sp_step_memory *memory);
size_t sp_step_memory_on_host(const sp_step_memory *memory);
/* The table, one line a row that is not 0, and a second column for the host where memories are apart. limit, of the
 * device's, 0: there is none. */
void sp_step_memory_append(const sp_step_memory *memory, size_t limit, sp_string *out);

/* Builds the step's graph with these blocks recomputed (sp_block_options). */
typedef sp_status sp_step_builder(void *context, uint64_t recompute, sp_graph **out);

typedef struct {
    sp_step_builder *build;
    void *context;
    sp_device *device;
    sp_dtype precision;
    size_t limit;       /* of the device's memory; 0: none */
    bool recompute_all; /* else the fewest blocks that keep within the limit, none without one */
} sp_step_request;

/* Plans the step. memory->optimizer, keeps_target and the rows after `inputs` are the caller's, set before; the
 * rest is filled in. Blocks are taken in the order of bytes saved per operation. Where not even all
 * blocks are enough, *plan is NULL and the table is theirs: the caller refuses. */
sp_status sp_step_plan(const sp_step_request *request, sp_step_memory *memory, sp_plan **plan);

#endif
