/* Jobs from being asked for to being forgotten. */
#include "queue.h"
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "limits.h"

/* When clients had their last turn, of the latest ones. */
enum { CLIENTS = 64 };
typedef struct {
    uint64_t client, turn;
} last_turn;

struct sv_queue {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    int64_t most_waiting, most_of_client;
    bool closed;
    sv_job *first; /* all that are known, the oldest first */
    sv_job *running;
    uint64_t turns;
    last_turn served[CLIENTS];
    sv_queue_counts counts; /* those that only grow */
};

double sv_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

const char *sv_job_state_text(sv_job_state state)
{
    static const char *const texts[] = {
#define X(name, text) text,
        SV_JOB_STATE_LIST(X)
#undef X
    };
    return texts[state];
}

static void lock(sv_queue *q)
{
    pthread_mutex_lock(&q->lock);
}

static void unlock(sv_queue *q)
{
    pthread_mutex_unlock(&q->lock);
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

/* ---- jobs ---- */

static void free_job(sv_job *job)
{
    for (size_t i = 0; i < job->picture_count; i++) {
        free(job->pictures[i].file);
        free(job->pictures[i].parameters);
        free(job->pictures[i].json);
    }
    for (size_t i = 0; i < job->warning_count; i++)
        free(job->warnings[i]);
    free(job->pictures);
    free(job->small.rgb);
    free(job->warnings);
    free(job->message);
    sv_request_free((sv_request *)(uintptr_t)job->request);
    free(job);
}

/* Under the lock. The job is freed by whoever is told so, without it. */
static sv_job *let_go(sv_job *job)
{
    return job && --job->references == 0 ? job : NULL;
}

/* Under the lock: takes a job that the line knows out of it; what is to be freed. */
static sv_job *remove_job(sv_queue *q, sv_job *job)
{
    for (sv_job **at = &q->first; *at; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            job->next = NULL;
            return let_go(job);
        }
    return NULL;
}

static void free_list(sv_job *list)
{
    for (sv_job *next; list; list = next) {
        next = list->next;
        free_job(list);
    }
}

void sv_queue_destroy(sv_queue *q)
{
    if (!q) return;
    free_list(q->first);
    pthread_cond_destroy(&q->arrived);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

void sv_job_release(sv_queue *q, sv_job *job)
{
    lock(q);
    sv_job *last = let_go(job);
    unlock(q);
    if (last) free_job(last);
}

/* ---- watchers ---- */

/* Under the lock: takes out those whom a change wakes, or all of an ended job, into the list *out. */
static void take_watchers(sv_job *job, sv_watcher **out)
{
    bool ended = sv_job_has_ended(job->state);
    for (sv_watcher **at = &job->watchers; *at;) {
        sv_watcher *watcher = *at;
        if (watcher->until_end && !ended) {
            at = &watcher->next;
            continue;
        }
        *at = watcher->next;
        watcher->next = *out;
        *out = watcher;
    }
}

/* Without the lock. A watcher may be gone once it is woken. */
static void wake(sv_watcher *list)
{
    for (sv_watcher *next; list; list = next) {
        next = list->next;
        list->next = NULL;
        list->wake(list);
    }
}

static void change(sv_job *job, sv_watcher **woken)
{
    job->version++;
    take_watchers(job, woken);
}

bool sv_queue_watch(sv_queue *q, sv_job *job, sv_watcher *watcher, unsigned seen)
{
    lock(q);
    bool watches = !sv_job_has_ended(job->state) && (watcher->until_end || job->version == seen);
    if (watches) {
        watcher->next = job->watchers;
        job->watchers = watcher;
    }
    unlock(q);
    return watches;
}

/* ---- the end of a job ---- */

static char *late_message(const sv_job *job)
{
    char *text;
    return asprintf(&text, "its deadline of %g s has passed", job->request->deadline) < 0 ? NULL : text;
}

/* Under the lock. `freed` is a list, too. */
static void end_job(sv_queue *q, sv_job *job, splam_status status, const char *message, sv_watcher **woken,
                    sv_job **freed)
{
    double now = sv_now();
    if (job->state == SV_JOB_RUNNING) q->counts.drawing_seconds += now - job->began;
    if (q->running == job) q->running = NULL;
    bool cancelled = status == SPLAM_CANCELLED;
    job->late &= cancelled; /* it may have been done all the same, or failed by itself */
    job->state = status == SPLAM_OK ? SV_JOB_DONE : cancelled && !job->late ? SV_JOB_CANCELLED : SV_JOB_FAILED;
    job->status = status;
    job->ended = now;
    free(job->small.rgb);
    job->small = (sv_small){0};
    if (job->state == SV_JOB_DONE) job->progress = 1;
    job->message = job->late ? late_message(job) : message ? strdup(message) : NULL;
    q->counts.late += job->late;
    q->counts.ended[job->state]++;
    change(job, woken);
    sv_job *last = job->kept ? NULL : remove_job(q, job);
    if (!last) return;
    last->next = *freed;
    *freed = last;
}

void sv_queue_end(sv_queue *q, sv_job *job, splam_status status, const char *message)
{
    sv_watcher *woken = NULL;
    sv_job *freed = NULL;
    lock(q);
    end_job(q, job, status, message, &woken, &freed);
    unlock(q);
    wake(woken);
    free_list(freed);
}

/* Under the lock. */
static void cancel(sv_queue *q, sv_job *job, const char *message, sv_watcher **woken, sv_job **freed)
{
    job->cancelled = true;
    if (job->state == SV_JOB_QUEUED) end_job(q, job, SPLAM_CANCELLED, message, woken, freed);
}

void sv_queue_cancel(sv_queue *q, sv_job *job)
{
    sv_watcher *woken = NULL;
    sv_job *freed = NULL;
    lock(q);
    cancel(q, job, "cancelled before it began", &woken, &freed);
    unlock(q);
    wake(woken);
    free_list(freed);
}

void sv_queue_skip(sv_queue *q, sv_job *job)
{
    lock(q);
    job->skipped = job->state == SV_JOB_RUNNING;
    unlock(q);
}

void sv_queue_forget(sv_queue *q, sv_job *job)
{
    lock(q);
    sv_job *last = sv_job_has_ended(job->state) ? remove_job(q, job) : NULL;
    unlock(q);
    if (last) free_job(last);
}

/* ---- tending ---- */

static bool has_left(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
}

/* Under the lock: watchers of whom only a stream is lost. */
static void take_left(sv_job *job, sv_watcher **woken)
{
    for (sv_watcher **at = &job->watchers; *at;) {
        sv_watcher *watcher = *at;
        if (!has_left(watcher->socket)) {
            at = &watcher->next;
            continue;
        }
        *at = watcher->next;
        watcher->next = *woken;
        *woken = watcher;
    }
}

/* Under the lock. */
static void sweep(sv_queue *q, sv_watcher **woken, sv_job **freed)
{
    double now = sv_now();
    for (sv_job *job = q->first, *next; job; job = next) {
        next = job->next;
        bool late = job->deadline > 0 && now > job->deadline && !job->cancelled && !sv_job_has_ended(job->state);
        if (late) {
            job->late = true;
            cancel(q, job, NULL, woken, freed);
        } else if (job->kept)
            take_left(job, woken);
        else if (job->watchers && has_left(job->watchers->socket))
            cancel(q, job, "its client has left", woken, freed);
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
static void forget_old(sv_queue *q, sv_job **freed)
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
        sv_job *last = remove_job(q, job);
        if (!last) continue;
        last->next = *freed;
        *freed = last;
    }
}

void sv_queue_tend(sv_queue *q)
{
    sv_watcher *woken = NULL;
    sv_job *freed = NULL;
    lock(q);
    sweep(q, &woken, &freed);
    forget_old(q, &freed);
    unlock(q);
    wake(woken);
    free_list(freed);
}

void sv_queue_close(sv_queue *q)
{
    sv_watcher *woken = NULL;
    sv_job *freed = NULL;
    lock(q);
    q->closed = true;
    for (sv_job *job = q->first, *next; job; job = next) {
        next = job->next;
        if (job->state == SV_JOB_QUEUED) cancel(q, job, "the server is stopping", &woken, &freed);
    }
    pthread_cond_broadcast(&q->arrived);
    unlock(q);
    wake(woken);
    free_list(freed);
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

static int64_t count_waiting(const sv_queue *q, const sv_job *before)
{
    int64_t count = 0;
    for (const sv_job *job = q->first; job && job != before; job = job->next)
        count += job->state == SV_JOB_QUEUED;
    return count;
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
    if (count_waiting(q, NULL) >= q->most_waiting) return SV_QUEUE_FULL;
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
    sv_watcher *woken = NULL;
    sv_job *freed = NULL, *job = calloc(1, sizeof *job);
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
    lock(q);
    sweep(q, &woken, &freed); /* whoever has left takes no place */
    sv_added added = append(q, job);
    if (added == SV_ADDED) job->request = request;
    unlock(q);
    wake(woken);
    free_list(freed);
    if (added == SV_ADDED)
        *out = job;
    else
        free(job);
    return added;
}

sv_job *sv_queue_find(sv_queue *q, const char *id)
{
    lock(q);
    sv_job *job = q->first;
    while (job && !(job->kept && strcmp(job->id, id) == 0))
        job = job->next;
    if (job) job->references++;
    unlock(q);
    return job;
}

sv_job *sv_queue_running(sv_queue *q)
{
    lock(q);
    sv_job *job = q->running;
    if (job) job->references++;
    unlock(q);
    return job;
}

void sv_queue_look(sv_queue *q, const sv_job *job, sv_job_view *out)
{
    double now = sv_now();
    lock(q);
    *out = (sv_job_view){.state = job->state,
                         .version = job->version,
                         .done = job->done,
                         .total = job->total,
                         .pictures = job->picture_count,
                         .round = job->round,
                         .skipped = job->skipped,
                         .small = job->small.rgb ? job->small.done : 0,
                         .progress = job->progress,
                         .seconds_left = -1};
    snprintf(out->task, sizeof out->task, "%s", job->task);
    if (job->state == SV_JOB_QUEUED) out->waiting = count_waiting(q, job) + (q->running != NULL);
    if (job->began > 0) out->seconds = (sv_job_has_ended(job->state) ? job->ended : now) - job->began;
    if (job->state == SV_JOB_RUNNING && out->progress > 0)
        out->seconds_left = out->seconds * (1 - out->progress) / out->progress;
    unlock(q);
}

sv_small sv_queue_small(sv_queue *q, const sv_job *job)
{
    lock(q);
    sv_small small = job->small;
    size_t size = (size_t)(3 * small.width * small.height);
    if (small.rgb) small.rgb = malloc(size);
    if (small.rgb) memcpy(small.rgb, job->small.rgb, size);
    unlock(q);
    return small;
}

void sv_queue_count(sv_queue *q, sv_queue_counts *out)
{
    lock(q);
    *out = q->counts;
    out->running = q->running != NULL;
    for (const sv_job *job = q->first; job; job = job->next) {
        out->waiting += job->state == SV_JOB_QUEUED;
        out->kept += sv_job_has_ended(job->state);
        for (const sv_watcher *w = job->watchers; w; w = w->next)
            out->watchers++;
    }
    unlock(q);
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
    for (int i = 0; i < CLIENTS; i++)
        if (q->served[i].turn && q->served[i].client == client) return q->served[i].turn;
    return 0;
}

static sv_job *next_waiting(const sv_queue *q)
{
    sv_job *next = NULL;
    uint64_t least = 0;
    for (sv_job *job = q->first; job; job = job->next) {
        uint64_t turn = job->state == SV_JOB_QUEUED ? turn_of(q, job->client) : 0;
        if (job->state != SV_JOB_QUEUED || (next && turn >= least)) continue;
        next = job;
        least = turn;
    }
    return next;
}

/* In its own place, or in that of the one whose turn was longest ago. */
static void note_turn(sv_queue *q, uint64_t client)
{
    int place = 0;
    for (int i = 0; i < CLIENTS; i++) {
        if (q->served[i].turn && q->served[i].client == client) {
            place = i;
            break;
        }
        if (q->served[i].turn < q->served[place].turn) place = i;
    }
    q->served[place] = (last_turn){client, ++q->turns};
}

sv_job *sv_queue_take(sv_queue *q)
{
    sv_watcher *woken = NULL;
    sv_job *job;
    lock(q);
    while (!(job = next_waiting(q)) && !q->closed)
        pthread_cond_wait(&q->arrived, &q->lock);
    if (job) {
        job->references++;
        job->state = SV_JOB_RUNNING;
        note_turn(q, job->client);
        job->began = sv_now();
        q->running = job;
        change(job, &woken);
    }
    unlock(q);
    wake(woken);
    return job;
}

/* Under the lock: earlier rounds, the pictures of this one, and of its others the steps of those that are at hand. */
static void advance(sv_job *job, double part)
{
    const sv_request *r = job->request;
    double rounds = (double)r->rounds, each = (double)r->options.count / rounds,
           made = (double)((int64_t)job->picture_count - job->round_began);
    double progress = ((double)job->round + (made + (each - made) * part) / each) / rounds;
    if (progress > job->progress) job->progress = progress;
}

void sv_queue_begin_round(sv_queue *q, sv_job *job, int64_t round)
{
    lock(q);
    job->skipped = false;
    job->round = round;
    job->round_began = (int64_t)job->picture_count;
    advance(job, 0);
    unlock(q);
}

/* Several pictures are told of after each evaluation of theirs: the first one is taken. */
void sv_queue_show(sv_queue *q, sv_job *job, const splam_preview *p)
{
    size_t size = (size_t)(3 * p->picture.width * p->picture.height);
    sv_watcher *woken = NULL;
    lock(q);
    sv_small *small = &job->small;
    if (!small->rgb) small->rgb = malloc(size); /* of all pictures of a job the sides are the same */
    if (small->rgb && (p->done != small->done || p->total == 1)) {
        memcpy(small->rgb, p->picture.rgb, size);
        small->width = p->picture.width;
        small->height = p->picture.height;
        small->done = p->done;
        small->total = p->total;
        change(job, &woken);
    }
    unlock(q);
    wake(woken);
}

void sv_queue_report(sv_queue *q, sv_job *job, const char *task, int64_t done, int64_t total)
{
    sv_watcher *woken = NULL;
    lock(q);
    if (strcmp(task, "denoising") == 0 && done > 0) {
        q->counts.steps++;
        advance(job, total ? (double)done / (double)total : 0);
    }
    snprintf(job->task, sizeof job->task, "%s", task);
    job->done = done;
    job->total = total;
    change(job, &woken);
    unlock(q);
    wake(woken);
}

bool sv_queue_give(sv_queue *q, sv_job *job, const sv_picture *picture)
{
    sv_watcher *woken = NULL;
    lock(q);
    sv_picture *more = realloc(job->pictures, (job->picture_count + 1) * sizeof *more);
    if (more) {
        job->pictures = more;
        more[job->picture_count++] = *picture;
        q->counts.pictures++;
        advance(job, 0);
        change(job, &woken);
    }
    unlock(q);
    wake(woken);
    return more != NULL;
}

bool sv_queue_warn(sv_queue *q, const char *text)
{
    lock(q);
    sv_job *job = q->running;
    char **more = job ? realloc(job->warnings, (job->warning_count + 1) * sizeof *more) : NULL;
    if (more) {
        job->warnings = more;
        char *copy = strdup(text);
        if (copy) more[job->warning_count++] = copy;
    }
    unlock(q);
    return job != NULL;
}
