/* The one number of threads, and loops over them. */
#include "base/parallel.h"
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "base/system.h"

static atomic_int chosen_threads; /* 0 until chosen */
static atomic_bool asked_for;

/* One number of /sys/devices/system/cpu/cpuN/topology, or -1. */
static int topology(int cpu, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    FILE *file = fopen(path, "re");
    if (!file) return -1;
    int value = -1;
    if (fscanf(file, "%d", &value) != 1) value = -1;
    fclose(file);
    return value;
}

/* Two hardware threads of one core share its vector units, so the second adds nothing here. */
static int physical_cores(void)
{
    cpu_set_t available;
    if (sched_getaffinity(0, sizeof available, &available) != 0) return omp_get_num_procs();
    int package[CPU_SETSIZE], core[CPU_SETSIZE], count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &available)) continue;
        int this_package = topology(cpu, "physical_package_id"),
            this_core = topology(cpu, "core_id");
        bool seen = false;
        for (int i = 0; i < count && this_core >= 0 && !seen; i++)
            seen = package[i] == this_package && core[i] == this_core;
        if (seen) continue;
        package[count] = this_package;
        core[count++] = this_core;
    }
    return count > 0 ? count : 1;
}

/* A C library keeps so many addresses for what a thread allocates, and while it takes them twice as many. */
#define HEAP_ADDRESSES ((size_t)64 << 20)

/* OpenMP ends the process where it cannot start a thread: so many, up to `count`, have room for stack and heap. */
static int startable(int count)
{
    pthread_attr_t usual;
    size_t stack = (size_t)8 << 20;
    int wanted = count;
    if (pthread_getattr_default_np(&usual) == 0) {
        pthread_attr_getstacksize(&usual, &stack);
        pthread_attr_destroy(&usual);
    }
    while (count > 1 && !sp_has_addresses((size_t)(count - 1) * (stack + HEAP_ADDRESSES) +
                                           HEAP_ADDRESSES + SP_RESERVE_BYTES))
        count--;
    if (count < wanted) sp_log_warn("there are no addresses for %d threads, so %d work", wanted, count);
    return count;
}

void sp_set_threads(int count)
{
    atomic_store(&asked_for, count > 0);
    if (count <= 0) count = physical_cores();
    atomic_store(&chosen_threads, count);
}

bool sp_threads_chosen(void)
{
    return atomic_load(&asked_for);
}

int sp_threads(void)
{
    int count = atomic_load(&chosen_threads);
    if (count > 0) return count;
    int cores = physical_cores();
    /* Another thread may have set a number meanwhile: that one counts, and `count` has it then. */
    return atomic_compare_exchange_strong(&chosen_threads, &count, cores) ? cores : count;
}

/* The threads that work for the calling one. */
static int team_threads(void)
{
    static _Thread_local int wanted, team;
    int count = sp_threads();
    if (count == wanted) return team;
    wanted = count;
    team = startable(count);
    /* Now, while there is room: OpenMP keeps them for this thread. */
#pragma omp parallel num_threads(team)
    {
    }
    return team;
}

void sp_library_threads(void)
{
    int threads = team_threads();
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

void sp_parallel_for(int64_t count, int64_t grain, sp_range_function *body, void *context)
{
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    int64_t blocks = (count - 1) / grain + 1;
    int64_t threads = blocks == 1 || omp_in_parallel() ? 1 : team_threads();
    if (threads > blocks) threads = blocks;
    if (threads <= 1) {
        body(context, 0, count);
        return;
    }
#pragma omp parallel num_threads((int)threads)
    {
        int64_t team = omp_get_num_threads(), member = omp_get_thread_num();
        int64_t share = blocks / team, more = blocks % team;
        int64_t first = member * share + (member < more ? member : more);
        int64_t last = first + share + (member < more);
        int64_t begin = first * grain, end = last < blocks ? last * grain : count;
        if (begin < end) body(context, begin, end);
    }
}
