/* Ranks over Open MPI. */
#include "train/distributed.h"
#include <mpi.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/system.h"

struct sp_ranks {
    MPI_Comm all;
    int rank, count;
    sp_callbacks callbacks;
    MPI_Request sums[SP_RANKS_SLOTS]; /* MPI_REQUEST_NULL: not busy */
};

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

const char *sp_ranks_library(void)
{
    return "Open MPI " NUMBER(OMPI_MAJOR_VERSION) "." NUMBER(OMPI_MINOR_VERSION) "." NUMBER(
        OMPI_RELEASE_VERSION);
}

int sp_ranks_rank(const sp_ranks *ranks)
{
    return ranks ? ranks->rank : 0;
}

int sp_ranks_count(const sp_ranks *ranks)
{
    return ranks ? ranks->count : 1;
}

static sp_status check(int code, const char *what)
{
    if (code == MPI_SUCCESS) return SP_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(code, text, &length);
    return sp_fail(SP_IO, "MPI: %s: %s", what, text);
}

/* ---- waiting ---- */

sp_status sp_ranks_stopped(const sp_ranks *ranks)
{
    return sp_check_cancelled(&ranks->callbacks);
}

sp_status sp_ranks_pause(const sp_ranks *ranks, double began)
{
    SP_TRY(sp_ranks_stopped(ranks));
    const struct timespec moment = {.tv_nsec = 50000};
    if (sp_now() - began < 1e-3)
        sched_yield();
    else
        nanosleep(&moment, NULL);
    return SP_OK;
}

static sp_status wait_for(const sp_ranks *ranks, MPI_Request *request, const char *what)
{
    double began = sp_now();
    for (int done = 0;;) {
        SP_TRY(check(MPI_Test(request, &done, MPI_STATUS_IGNORE), what));
        if (done) return SP_OK;
        SP_TRY(sp_ranks_pause(ranks, began));
    }
}

/* ---- exchanges ---- */

sp_status sp_ranks_broadcast(sp_ranks *ranks, void *data, size_t bytes)
{
    const size_t most = (size_t)64 << 20;
    char *next = data;
    for (; ranks && bytes > 0;) {
        size_t piece = bytes < most ? bytes : most;
        MPI_Request request;
        SP_TRY(check(MPI_Ibcast(next, (int)piece, MPI_BYTE, 0, ranks->all, &request), "broadcast"));
        SP_TRY(wait_for(ranks, &request, "broadcast"));
        next += piece;
        bytes -= piece;
    }
    return SP_OK;
}

sp_status sp_ranks_gather(sp_ranks *ranks, const void *mine, size_t bytes, void *all)
{
    MPI_Request request;
    SP_TRY(check(
        MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, ranks->all, &request),
        "gather"));
    return wait_for(ranks, &request, "gather");
}

sp_status sp_ranks_sum_begin(sp_ranks *ranks, int slot, const float *mine, float *sum,
                             int64_t count)
{
    return check(
        MPI_Iallreduce(mine, sum, (int)count, MPI_FLOAT, MPI_SUM, ranks->all, &ranks->sums[slot]),
        "sum");
}

sp_status sp_ranks_sum_test(sp_ranks *ranks, bool busy[SP_RANKS_SLOTS])
{
    for (int i = 0; i < SP_RANKS_SLOTS; i++) {
        int done = 1;
        if (ranks->sums[i] != MPI_REQUEST_NULL)
            SP_TRY(check(MPI_Test(&ranks->sums[i], &done, MPI_STATUS_IGNORE), "sum"));
        busy[i] = !done;
    }
    return SP_OK;
}

/* ---- threads ---- */

/* The cores that this rank may run on, each divided by the ranks of this machine that may run there
 * too: right for every binding of mpirun and for none. */
static sp_status share_cores(sp_ranks *ranks)
{
    if (sp_threads_chosen()) return SP_OK;
    MPI_Comm machine;
    int neighbours;
    cpu_set_t mine;
    SP_TRY(check(MPI_Comm_split_type(ranks->all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine),
                 "ranks of this machine"));
    MPI_Comm_size(machine, &neighbours);
    cpu_set_t *sets = sp_alloc((size_t)neighbours * sizeof *sets);
    if (!sets) return SP_MEMORY;
    if (!sp_processors(&mine)) CPU_ZERO(&mine);
    sp_status status = check(
        MPI_Allgather(&mine, (int)sizeof mine, MPI_BYTE, sets, (int)sizeof mine, MPI_BYTE, machine),
        "ranks of this machine");
    double share = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && !status; cpu++) {
        int users = 0;
        for (int r = 0; r < neighbours; r++)
            users += CPU_ISSET(cpu, &sets[r]) != 0;
        if (CPU_ISSET(cpu, &mine)) share += 1.0 / users;
    }
    /* In the same proportion of physical cores as of hardware threads. */
    if (!status && CPU_COUNT(&mine) > 0) {
        int threads = (int)(sp_threads() * share / CPU_COUNT(&mine) + 1e-9);
        sp_set_threads(threads > 1 ? threads : 1);
    }
    sp_free(sets);
    MPI_Comm_free(&machine);
    return status;
}

/* ---- beginning and end ---- */

static sp_status start(sp_callbacks *callbacks, sp_ranks *ranks)
{
    int level;
    SP_TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "start"));
    SP_TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->all), "start"));
    MPI_Comm_set_errhandler(ranks->all, MPI_ERRORS_RETURN);
    MPI_Comm_rank(ranks->all, &ranks->rank);
    MPI_Comm_size(ranks->all, &ranks->count);
    for (int i = 0; i < SP_RANKS_SLOTS; i++)
        ranks->sums[i] = MPI_REQUEST_NULL;
    if (ranks->rank > 0) {
        callbacks->report = NULL;
        sp_log_set_level(SP_LOG_QUIET);
    }
    ranks->callbacks = *callbacks;
    SP_TRY(share_cores(ranks));
    sp_log_info("%d ranks, %d threads in each of this machine's", ranks->count, sp_threads());
    return SP_OK;
}

sp_status sp_ranks_start(sp_callbacks *callbacks, sp_ranks **out)
{
    *out = NULL;
    if (sp_ranks_launched() == 1) return SP_OK;
    if (!getenv("OMPI_COMM_WORLD_SIZE"))
        return sp_fail(
            SP_UNSUPPORTED,
            "started as %d processes by a launcher that is not Open MPI's, and this splam "
            "was built with %s",
            sp_ranks_launched(), sp_ranks_library());
    int before = 0;
    MPI_Initialized(&before);
    if (before) return sp_fail(SP_UNSUPPORTED, "MPI can be started once in a process");
    *out = sp_alloc_zero(sizeof **out);
    sp_status status = *out ? start(callbacks, *out) : SP_MEMORY;
    if (!status) return SP_OK;
    sp_free(*out);
    *out = NULL;
    return status;
}

static sp_status finish(sp_ranks *ranks)
{
    MPI_Request request;
    SP_TRY(check(MPI_Ibarrier(ranks->all, &request), "end"));
    SP_TRY(wait_for(ranks, &request, "end"));
    MPI_Comm_free(&ranks->all);
    return check(MPI_Finalize(), "end");
}

sp_status sp_ranks_end(sp_ranks *ranks, sp_status status)
{
    if (!ranks) return status;
    if (!status) status = finish(ranks);
    if (status && ranks->rank > 0) sp_fail_within(status, "rank %d", ranks->rank);
    sp_log_set_level(SP_LOG_INFO);
    sp_free(ranks);
    return status;
}
