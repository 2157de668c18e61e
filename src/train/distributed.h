/* Several processes that train one model together, data parallel: every one has the whole model,
 * feeds its own share of a step's samples, and all add up their gradients (reducer.h). The
 * processes are Open MPI's ranks, started by mpirun. A program that was not started so, or as the
 * only process, never calls MPI; there `sp_ranks *` is NULL, which every function takes.
 *
 * Calls that exchange are collective: every rank makes them in the same order. None blocks inside
 * MPI: waiting is a loop that also asks whether to stop, so that a rank whose partner has died
 * still hears the signal with which mpirun ends the others; SP_CANCELLED then. */
#ifndef SP_TRAIN_DISTRIBUTED_H
#define SP_TRAIN_DISTRIBUTED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/progress.h"

typedef struct sp_ranks sp_ranks;

/* The library that this program was built with, such as "Open MPI 4.1.4"; NULL: none. */
const char *sp_ranks_library(void);

/* How many processes a launcher (mpirun of Open MPI or MPICH) says that it started; 1: no launcher. */
static inline int sp_ranks_launched(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size) size = getenv("PMI_SIZE");
    return size && atoi(size) > 1 ? atoi(size) : 1;
}

/* SP_UNSUPPORTED for work that only one process can do, if a launcher started several. */
static inline sp_status sp_ranks_must_be_alone(const char *work)
{
    if (sp_ranks_launched() == 1) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s runs in one process, and mpirun started %d", work,
                   sp_ranks_launched());
}

/* *out is NULL for a process alone. Ranks other than 0 are quiet from here on: no log, and
 * `callbacks` loses its report. Threads, unless their number was asked for, become this rank's
 * share of the cores that it may run on. Once in a process. SP_UNSUPPORTED if there are several
 * processes and the program was built without MPI, or for another one. */
sp_status sp_ranks_start(sp_callbacks *callbacks, sp_ranks **out);
/* After SP_OK waits for all ranks and ends MPI. After a failure it puts "rank R: " before the
 * message and leaves MPI open: the process has to exit with a code other than 0, and mpirun ends
 * the others. Returns `status`, or what went wrong here. */
sp_status sp_ranks_end(sp_ranks *ranks, sp_status status);

int sp_ranks_rank(const sp_ranks *ranks);  /* 0 alone */
int sp_ranks_count(const sp_ranks *ranks); /* 1 alone */

/* data becomes rank 0's. */
sp_status sp_ranks_broadcast(sp_ranks *ranks, void *data, size_t bytes);
/* all[r] becomes rank r's `mine`; bytes each. */
sp_status sp_ranks_gather(sp_ranks *ranks, const void *mine, size_t bytes, void *all);

/* Sums in the background, in slots of their own: begin gives sum[i] = mine[i] of rank 0 + ... for
 * count values, in an order that depends on the number of ranks and the count alone, the same bits
 * on every rank; test says which slots are busy (and is what moves the work on). Until a slot is no
 * longer busy both arrays belong to it. */
enum { SP_RANKS_SLOTS = 4 };
sp_status sp_ranks_sum_begin(sp_ranks *ranks, int slot, const float *mine, float *sum,
                             int64_t count);
sp_status sp_ranks_sum_test(sp_ranks *ranks, bool busy[SP_RANKS_SLOTS]);
/* SP_CANCELLED if this process was asked to stop. */
sp_status sp_ranks_stopped(const sp_ranks *ranks);
/* One turn of a waiting loop that began at `began` (sp_now()): lets others have the core;
 * SP_CANCELLED if asked to stop. */
sp_status sp_ranks_pause(const sp_ranks *ranks, double began);

#endif
