/* Adds up gradients over ranks while the backward pass runs. They are cut into buckets, which are
 * summed as soon as the last gradient in them is complete, in the order in which the plan completes
 * them, so in the same order on every rank. */
#ifndef SP_TRAIN_REDUCER_H
#define SP_TRAIN_REDUCER_H
#include "graph/plan.h"
#include "train/distributed.h"

typedef struct sp_reducer sp_reducer;

/* One gradient of this rank. Memory is the run's, so neighbours are mostly summed in one piece. Where the host cannot
 * see it, a bucket is brought down, which waits for the device, summed and brought up. */
typedef struct {
    float *gradient; /* an address of the plan's device; becomes the sum over all ranks */
    int64_t count;
    int output; /* the plan's output that it is */
} sp_reduced;

/* Where the time of one step's sums went. */
typedef struct {
    int64_t bytes; /* summed, of this rank */
    int buckets;
    double during; /* seconds inside calls while the backward pass ran */
    double after;  /* seconds of waiting when it was done */
} sp_reducer_times;

/* SP_ARGUMENT, naming the rank, if `settings` (a text that must be the same on all ranks) or the
 * buckets differ between ranks. */
sp_status sp_reducer_create(sp_ranks *ranks, const sp_plan *plan, const sp_reduced *tensors,
                            size_t count, const char *settings, sp_reducer **out);
void sp_reducer_destroy(sp_reducer *reducer);

/* Before the execution whose gradients are to be summed. */
void sp_reducer_begin(sp_reducer *reducer);
/* The run's output observer and its poll (context: the reducer). Between begin and finish they
 * start what is complete and move on what is started; the poll also asks whether to stop. */
sp_status sp_reducer_ready(void *reducer, int output_index);
sp_status sp_reducer_poll(void *reducer, int step);
/* After that execution: waits for the rest. On SP_CANCELLED gradients are half summed. */
sp_status sp_reducer_finish(sp_reducer *reducer);
sp_reducer_times sp_reducer_get_times(const sp_reducer *reducer); /* of the last step */

#endif
