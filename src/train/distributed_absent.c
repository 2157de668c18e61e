/* A build without MPI: every process is alone. */
#include "train/distributed.h"

const char *sp_ranks_library(void)
{
    return NULL;
}

sp_status sp_ranks_start(sp_callbacks *callbacks, sp_ranks **out)
{
    (void)callbacks;
    *out = NULL;
    if (sp_ranks_launched() == 1) return SP_OK;
    return sp_fail(
        SP_UNSUPPORTED,
        "started as %d processes by mpirun, and this splam was built without MPI: install "
        "libopenmpi-dev and build again",
        sp_ranks_launched());
}

sp_status sp_ranks_end(sp_ranks *ranks, sp_status status)
{
    (void)ranks;
    return status;
}

int sp_ranks_rank(const sp_ranks *ranks)
{
    (void)ranks;
    return 0;
}

int sp_ranks_count(const sp_ranks *ranks)
{
    (void)ranks;
    return 1;
}

sp_status sp_ranks_broadcast(sp_ranks *ranks, void *data, size_t bytes)
{
    (void)ranks, (void)data, (void)bytes;
    return SP_OK;
}

/* What is left is called for several ranks only, and there are none. */

static sp_status alone(void)
{
    return sp_fail(SP_INTERNAL, "an exchange between ranks in a build without MPI");
}

sp_status sp_ranks_gather(sp_ranks *ranks, const void *mine, size_t bytes, void *all)
{
    (void)ranks, (void)mine, (void)bytes, (void)all;
    return alone();
}

sp_status sp_ranks_sum_begin(sp_ranks *ranks, int slot, const float *mine, float *sum,
                             int64_t count)
{
    (void)ranks, (void)slot, (void)mine, (void)sum, (void)count;
    return alone();
}

sp_status sp_ranks_sum_test(sp_ranks *ranks, bool busy[SP_RANKS_SLOTS])
{
    (void)ranks, (void)busy;
    return alone();
}

sp_status sp_ranks_stopped(const sp_ranks *ranks)
{
    (void)ranks;
    return alone();
}

sp_status sp_ranks_pause(const sp_ranks *ranks, double began)
{
    (void)ranks, (void)began;
    return alone();
}
