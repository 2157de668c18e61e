/* Jobs from being asked for to being forgotten: which there are, and whose turn it is. */
#include "queue.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "limits.h"
#include "line.h"

double sv_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

sv_queue *sv_queue_create(int64_t most_waiting, int64_t most_of_client)
{
    sv_queue *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->arrived, NULL);
    q->most_waiting = most_waiting;
    q->most_of_client = most_of_client;
    return q;
}

void sv_queue_destroy(sv_queue *q)
{
    if (!q) return;
    sv_lock(q);
    sv_unlock(q, &(sv_aftermath){.freed = q->first});
    pthread_cond_destroy(&q->arrived);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

void sv_line_remove(sv_queue *q, sv_job *job, sv_aftermath *after)
{
    sv_job **at = &q->first;
    while (*at && *at != job)
        at = &(*at)->next;
    if (!*at) return;
    *at = job->next;
    job->next = NULL;
    if (--job->references) return;
    job->next = after->freed;
    after->freed = job;
}

int64_t sv_line_count(const sv_queue *q, sv_job_state state)
{
    int64_t count = 0;
    for (const sv_job *job = q->first; job; job = job->next)
        count += job->state == state;
    return count;
}

void sv_queue_forget(sv_queue *q, sv_job *job)
{
    sv_aftermath after = {0};
    sv_lock(q);
    if (sv_job_has_ended(job->state)) sv_line_remove(q, job, &after);
    sv_unlock(q, &after);
}

/* ---- tending ---- */

/* Under the lock. */
static void sweep(sv_queue *q, sv_aftermath *after)
{
    double now = sv_now();
    for (sv_job *job = q->first, *next; job; job = next) {
        next = job->next;
        bool late = job->deadline > 0 && now > job->deadline && !job->cancelled && !sv_job_has_ended(job->state);
        if (late) {
            job->late = true;
            sv_job_cancel(q, job, NULL, after);
        } else {
            sv_job_look_for_client(q, job, after);
        }
    }
}

static size_t bytes_of(const sv_job *job)
{
    size_t bytes = 0;
    for (size_t i = 0; i < job->picture_count; i++)
        bytes += job->pictures[i].size;
    return bytes;
}

/* Under the lock: results that are too old, and the oldest of too many. */
static void forget_old(sv_queue *q, sv_aftermath *after)
{
    size_t count = 0, bytes = 0;
    double now = sv_now();
    for (const sv_job *job = q->first; job; job = job->next)
        if (sv_job_has_ended(job->state)) {
            count++;
            bytes += bytes_of(job);
        }
    for (sv_job *job = q->first, *next; job; job = next) {
        next = job->next;
        if (!sv_job_has_ended(job->state)) continue;
        if (now - job->ended <= SV_KEPT_SECONDS && count <= SV_KEPT_JOBS && bytes <= SV_KEPT_BYTES) continue;
        count--;
        bytes -= bytes_of(job);
        sv_line_remove(q, job, after);
    }
}

void sv_queue_tend(sv_queue *q)
{
    sv_aftermath after = {0};
    sv_lock(q);
    sweep(q, &after);
    forget_old(q, &after);
    sv_unlock(q, &after);
}

void sv_queue_close(sv_queue *q)
{
    sv_aftermath after = {0};
    sv_lock(q);
    q->closed = true;
    for (sv_job *job = q->first, *next; job; job = next) {
        next = job->next;
        if (job->state == SV_JOB_QUEUED) sv_job_cancel(q, job, "the server is stopping", &after);
    }
    pthread_cond_broadcast(&q->arrived);
    sv_unlock(q, &after);
}

/* ---- clients ---- */

static bool make_id(char out[33])
{
    uint8_t bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static int64_t count_of_client(const sv_queue *q, uint64_t client)
{
    int64_t count = 0;
    for (const sv_job *job = q->first; job; job = job->next)
        count += job->state == SV_JOB_QUEUED && job->client == client;
    return count;
}

/* Under the lock. */
static sv_added append(sv_queue *q, sv_job *job)
{
    if (q->closed) return SV_QUEUE_CLOSED;
    if (sv_line_count(q, SV_JOB_QUEUED) >= q->most_waiting) return SV_QUEUE_FULL;
    if (count_of_client(q, job->client) >= q->most_of_client) return SV_SHARE_FULL;
    sv_job **at = &q->first;
    while (*at)
        at = &(*at)->next;
    *at = job;
    pthread_cond_signal(&q->arrived);
    return SV_ADDED;
}

sv_added sv_queue_add(sv_queue *q, sv_request *request, bool kept, uint64_t client, sv_job **out)
{
    sv_aftermath after = {0};
    sv_job *job = calloc(1, sizeof *job);
    *out = NULL;
    if (!job || !make_id(job->id)) {
        free(job);
        return SV_NO_MEMORY;
    }
    job->kept = kept;
    job->client = client;
    job->references = 2;
    job->added = sv_now();
    if (request->deadline > 0) job->deadline = job->added + request->deadline;
    sv_lock(q);
    sweep(q, &after); /* whoever has left takes no place */
    sv_added added = append(q, job);
    if (added == SV_ADDED) job->request = request;
    sv_unlock(q, &after);
    if (added == SV_ADDED)
        *out = job;
    else
        free(job);
    return added;
}

sv_job *sv_queue_find(sv_queue *q, const char *id)
{
    sv_lock(q);
    sv_job *job = q->first;
    while (job && !(job->kept && strcmp(job->id, id) == 0))
        job = job->next;
    if (job) job->references++;
    sv_unlock(q, &(sv_aftermath){0});
    return job;
}

size_t sv_queue_running(sv_queue *q, uint64_t client, sv_job *out[SV_BATCH])
{
    size_t count = 0, own = 0;
    sv_lock(q);
    for (const sv_job *job = q->first; job; job = job->next)
        own += job->state == SV_JOB_RUNNING && job->client == client;
    for (sv_job *job = q->first; job && count < SV_BATCH; job = job->next)
        if (job->state == SV_JOB_RUNNING && (!own || job->client == client)) {
            job->references++;
            out[count++] = job;
        }
    sv_unlock(q, &(sv_aftermath){0});
    return count;
}

void sv_queue_count(sv_queue *q, sv_queue_counts *out)
{
    sv_lock(q);
    *out = q->counts;
    for (const sv_job *job = q->first; job; job = job->next) {
        out->waiting += job->state == SV_JOB_QUEUED;
        out->running += job->state == SV_JOB_RUNNING;
        out->kept += sv_job_has_ended(job->state);
        for (const sv_watcher *w = job->watchers; w; w = w->next)
            out->watchers++;
    }
    sv_unlock(q, &(sv_aftermath){0});
}

int64_t sv_queue_retry_after(sv_queue *q)
{
    sv_queue_counts c;
    int64_t drawn = 0;
    sv_queue_count(q, &c);
    for (int i = SV_JOB_DONE; i < SV_JOB_STATES; i++)
        drawn += c.ended[i];
    double each = drawn ? c.drawing_seconds / (double)drawn : 1;
    int64_t seconds = (int64_t)(each + 1);
    return seconds < 3600 ? seconds : 3600;
}

/* ---- whoever draws ---- */

/* 0: it had none, or others have had so many that it is forgotten. */
static uint64_t turn_of(const sv_queue *q, uint64_t client)
{
    for (int i = 0; i < SV_TURNS; i++)
        if (q->served[i].turn && q->served[i].client == client) return q->served[i].turn;
    return 0;
}

/* `like`: of those that go into a batch with it; NULL: any. */
static sv_job *next_waiting(const sv_queue *q, const sv_job *like)
{
    sv_job *next = NULL;
    uint64_t least = 0;
    for (sv_job *job = q->first; job; job = job->next) {
        if (job->state != SV_JOB_QUEUED || (like && !sv_request_may_batch(like->request, job->request))) continue;
        uint64_t turn = turn_of(q, job->client);
        if (next && turn >= least) continue;
        next = job;
        least = turn;
    }
    return next;
}

/* In its own place, or in that of the one whose turn was longest ago. */
static void note_turn(sv_queue *q, uint64_t client)
{
    int place = 0;
    for (int i = 0; i < SV_TURNS; i++) {
        if (q->served[i].turn && q->served[i].client == client) {
            place = i;
            break;
        }
        if (q->served[i].turn < q->served[place].turn) place = i;
    }
    q->served[place] = (sv_turn){client, ++q->turns};
}

static void begin(sv_queue *q, sv_job *job, sv_aftermath *after)
{
    job->references++;
    job->state = SV_JOB_RUNNING;
    note_turn(q, job->client);
    job->began = sv_now();
    sv_job_changed(job, after);
}

/* As many as `first` may have, itself included: a power of two, so that few sizes of batches are planned for. */
static size_t batch_size(const sv_queue *q, const sv_job *first)
{
    size_t waiting = 0, size = 1;
    for (const sv_job *job = q->first; job; job = job->next)
        waiting += job->state == SV_JOB_QUEUED && (job == first || sv_request_may_batch(first->request, job->request));
    while (2 * size <= waiting && 2 * size <= first->request->batch)
        size *= 2;
    return size;
}

size_t sv_queue_take(sv_queue *q, sv_job *out[SV_BATCH])
{
    sv_aftermath after = {0};
    sv_job *first;
    size_t count = 0;
    sv_lock(q);
    while (!(first = next_waiting(q, NULL)) && !q->closed)
        pthread_cond_wait(&q->arrived, &q->lock);
    size_t size = first ? batch_size(q, first) : 0;
    for (sv_job *job = first; count < size && job; job = next_waiting(q, first)) {
        begin(q, job, &after);
        out[count++] = job;
    }
    if (count > 1) q->counts.batched += (int64_t)count;
    sv_unlock(q, &after);
    return count;
}
