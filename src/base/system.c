/* What the system tells: memory, processor, host. */
#include "base/system.h"

#include <malloc.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* The number on the line that begins with KEY and a space or colon; a line of a number alone has
 * the key "". -1: there is no such line. */
static int64_t number_in(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    char line[256];
    long long value, found = -1;
    size_t length = strlen(key);
    if (!file) return -1;
    while (found < 0 && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) != 0) continue;
        const char *rest = line + length;
        if (length && *rest != ':' && *rest != ' ') continue;
        if (sscanf(rest + (*rest == ':'), "%lld", &value) == 1 && value >= 0) found = value;
    }
    fclose(file);
    return found;
}

int64_t sp_proc_bytes(const char *path, const char *key)
{
    int64_t kilobytes = number_in(path, key);
    return kilobytes >= 0 && kilobytes < INT64_MAX / 1024 ? kilobytes * 1024 : -1;
}

/* What is left of the control group's limit, not counting cached files; -1: there is no limit. */
static int64_t left_of_group(void)
{
    int64_t most = number_in("/sys/fs/cgroup/memory.max", ""),
            taken = number_in("/sys/fs/cgroup/memory.current", ""),
            cached = number_in("/sys/fs/cgroup/memory.stat", "inactive_file");
    if (most < 0 || taken < 0) return -1;
    taken -= cached > 0 ? cached : 0;
    return taken < most ? most - taken : 0;
}

int64_t sp_available_memory(void)
{
    int64_t machine = sp_proc_bytes("/proc/meminfo", "MemAvailable"), group = left_of_group();
    return group >= 0 && (machine < 0 || group < machine) ? group : machine;
}

int64_t sp_resident_memory(void)
{
    return sp_proc_bytes("/proc/self/status", "VmRSS");
}

void sp_return_freed_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static bool can_map(size_t bytes, int protection)
{
    void *space = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) return false;
    munmap(space, bytes);
    return true;
}

/* OpenMP's places are those that were allowed when it began. */
static void add_places(cpu_set_t *out)
{
    int ids[CPU_SETSIZE];
    for (int place = 0; place < omp_get_num_places(); place++) {
        int count = omp_get_place_num_procs(place);
        if (count > CPU_SETSIZE) continue;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE) CPU_SET(ids[i], out);
    }
}

bool sp_processors(cpu_set_t *out)
{
    CPU_ZERO(out);
    if (sched_getaffinity(0, sizeof *out, out) != 0) return false;
    if (omp_get_proc_bind() != omp_proc_bind_false) add_places(out);
    return true;
}

bool sp_has_addresses(size_t bytes)
{
    return can_map(bytes, PROT_NONE);
}

bool sp_has_memory(size_t bytes)
{
    return can_map(bytes, PROT_READ | PROT_WRITE);
}

const char *sp_bytes_text(size_t bytes)
{
    static _Thread_local char buffers[8][32];
    static _Thread_local unsigned next;
    char *text = buffers[next++ % 8];
    double n = (double)bytes;
    if (n >= 1e9)
        snprintf(text, sizeof buffers[0], "%.2f GB", n / 1e9);
    else if (n >= 1e6)
        snprintf(text, sizeof buffers[0], "%.1f MB", n / 1e6);
    else
        snprintf(text, sizeof buffers[0], "%.1f kB", n / 1e3);
    return text;
}
