/* The one number of threads, loops over them, and the record of how loops are shared out. */
#include "base/parallel.h"
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/log.h"
#include "base/system.h"

static atomic_int chosen_threads; /* 0 until chosen */
static atomic_bool asked_for;

static _Thread_local sp_split_record *recording; /* NULL: threads are started */
static _Thread_local bool in_recorded_loop;

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
    if (!sp_processors(&available)) return omp_get_num_procs();
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
    if (recording) return recording->threads;
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
    if (recording) recording->library = true;
    int threads = recording ? 1 : team_threads();
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

/* ---- loops ---- */

typedef struct {
    int64_t begin, end;
} range;

/* What member `member` of a team gets of 0..count-1: as many whole grains as the others, or one more. */
static range share_of(int64_t count, int64_t grain, int64_t team, int64_t member)
{
    int64_t blocks = (count - 1) / grain + 1;
    int64_t share = blocks / team, more = blocks % team;
    int64_t first = member * share + (member < more ? member : more);
    int64_t last = first + share + (member < more);
    return (range){first * grain, last < blocks ? last * grain : count};
}

static void record_loop(int64_t count, int64_t grain, int64_t team, sp_range_function *body, void *context);

void sp_parallel_for(int64_t count, int64_t grain, sp_range_function *body, void *context)
{
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    int64_t blocks = (count - 1) / grain + 1;
    bool nested = omp_in_parallel() || in_recorded_loop;
    int64_t threads = nested ? 1 : recording ? recording->threads : blocks == 1 ? 1 : team_threads();
    if (threads > blocks) threads = blocks;
    if (recording && !nested) {
        record_loop(count, grain, threads, body, context);
        return;
    }
    if (threads <= 1) {
        body(context, 0, count);
        return;
    }
#pragma omp parallel num_threads((int)threads)
    {
        range mine = share_of(count, grain, omp_get_num_threads(), omp_get_thread_num());
        if (mine.begin < mine.end) body(context, mine.begin, mine.end);
    }
}

/* The next few items; none where there are no more. */
static range take(sp_slots *s)
{
    int64_t first = __atomic_fetch_add(&s->next, s->few, __ATOMIC_RELAXED), end = first + s->few;
    if (first >= s->items) return (range){0, 0};
    return (range){first, end < s->items ? end : s->items};
}

static void work_slots(void *context, int64_t begin, int64_t end)
{
    sp_slots *s = context;
    for (int64_t slot = begin; slot < end; slot++)
        for (range r = take(s); r.begin < r.end; r = take(s))
            s->work(s->context, r.begin, r.end, slot);
}

static void record_slots(sp_slots *slots);

void sp_slots_run(sp_slots *slots)
{
    slots->next = 0;
    slots->few = slots->slots > 1 ? (slots->items - 1) / (slots->slots * 16) + 1 : slots->items;
    if (recording && !in_recorded_loop && slots->items > 0)
        record_slots(slots);
    else
        sp_parallel_for(slots->slots, 1, work_slots, slots);
}

/* ---- the record ---- */

void sp_record_splits(sp_split_record *record)
{
    recording = record;
}

void sp_split_record_clear(sp_split_record *record)
{
    *record = (sp_split_record){.threads = record->threads};
}

double sp_thread_seconds(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) ? 0 : (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void add_to_record(int64_t items, int64_t largest, double seconds)
{
    sp_split_record *r = recording;
    double share = (double)largest / (double)items;
    if (!r->loops++ || seconds > r->longest) {
        r->longest = seconds;
        r->items = items;
        r->share = share;
    }
    r->seconds += seconds;
    r->critical += seconds * share;
}

static void record_loop(int64_t count, int64_t grain, int64_t team, sp_range_function *body, void *context)
{
    int64_t largest = 0;
    double began = sp_thread_seconds();
    in_recorded_loop = true;
    for (int64_t member = 0; member < team; member++) {
        range r = share_of(count, grain, team, member);
        if (r.begin < r.end) body(context, r.begin, r.end);
        if (r.end - r.begin > largest) largest = r.end - r.begin;
    }
    in_recorded_loop = false;
    add_to_record(count, largest, sp_thread_seconds() - began);
}

/* Workers of equal speed take turns: worker w has every so manieth few from the w-th on. */
static void record_slots(sp_slots *s)
{
    int64_t workers = s->slots < recording->threads ? s->slots : recording->threads, largest = 0;
    double began = sp_thread_seconds();
    in_recorded_loop = true;
    for (int64_t w = 0; w < workers; w++) {
        int64_t items = 0;
        for (s->next = w * s->few; s->next < s->items; s->next += (workers - 1) * s->few) {
            range r = take(s);
            s->work(s->context, r.begin, r.end, w);
            items += r.end - r.begin;
        }
        if (items > largest) largest = items;
    }
    in_recorded_loop = false;
    add_to_record(s->items, largest, sp_thread_seconds() - began);
}
