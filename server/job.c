/* What becomes of a job: who watches it, how far it is, its end. */
#include "line.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sv_job_state_text(sv_job_state state)
{
    static const char *const texts[] = {
#define X(name, text) text,
        SV_JOB_STATE_LIST(X)
#undef X
    };
    return texts[state];
}

/* ---- references ---- */

static void free_job(sv_job *job)
{
    for (size_t i = 0; i < job->picture_count; i++) {
        free(job->pictures[i].file);
        free(job->pictures[i].parameters);
        json_decref(job->pictures[i].info);
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

void sv_job_release(sv_queue *q, sv_job *job)
{
    sv_aftermath after = {0};
    sv_lock(q);
    if (job && --job->references == 0) after.freed = job;
    sv_unlock(q, &after);
}

void sv_unlock(sv_queue *q, sv_aftermath *after)
{
    pthread_mutex_unlock(&q->lock);
    for (sv_watcher *w = after->woken, *next; w; w = next) {
        next = w->next;
        w->next = NULL;
        w->wake(w);
    }
    for (sv_job *job = after->freed, *next; job; job = next) {
        next = job->next;
        free_job(job);
    }
    *after = (sv_aftermath){0};
}

/* ---- watchers ---- */

static void wake_later(sv_watcher **at, sv_aftermath *after)
{
    sv_watcher *watcher = *at;
    *at = watcher->next;
    watcher->next = after->woken;
    after->woken = watcher;
}

/* Wakes those whom a change wakes, or all of an ended job. */
void sv_job_changed(sv_job *job, sv_aftermath *after)
{
    bool ended = sv_job_has_ended(job->state);
    job->version++;
    for (sv_watcher **at = &job->watchers; *at;)
        if ((*at)->until_end && !ended)
            at = &(*at)->next;
        else
            wake_later(at, after);
}

bool sv_queue_watch(sv_queue *q, sv_job *job, sv_watcher *watcher, unsigned seen)
{
    sv_lock(q);
    bool watches = !sv_job_has_ended(job->state) && (watcher->until_end || job->version == seen);
    if (watches) {
        watcher->next = job->watchers;
        job->watchers = watcher;
    }
    sv_unlock(q, &(sv_aftermath){0});
    return watches;
}

static bool has_left(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
}

void sv_job_look_for_client(sv_queue *q, sv_job *job, sv_aftermath *after)
{
    if (!job->kept) {
        if (!job->watchers || !has_left(job->watchers->socket)) return;
        job->left = true;
        sv_job_cancel(q, job, "its client has left", after);
        return;
    }
    for (sv_watcher **at = &job->watchers; *at;)
        if (has_left((*at)->socket))
            wake_later(at, after);
        else
            at = &(*at)->next;
}

/* ---- the end ---- */

static char *late_message(const sv_job *job)
{
    char *text;
    return asprintf(&text, "its deadline of %g s has passed", job->request->deadline) < 0 ? NULL : text;
}

void sv_job_end(sv_queue *q, sv_job *job, splam_status status, const char *message, sv_aftermath *after)
{
    double now = sv_now();
    if (job->state == SV_JOB_RUNNING) q->counts.drawing_seconds += now - job->began;
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
    sv_job_changed(job, after);
    if (!job->kept) sv_line_remove(q, job, after);
}

void sv_queue_end(sv_queue *q, sv_job *job, splam_status status, const char *message)
{
    sv_aftermath after = {0};
    sv_lock(q);
    sv_job_end(q, job, status, message, &after);
    sv_unlock(q, &after);
}

void sv_job_cancel(sv_queue *q, sv_job *job, const char *message, sv_aftermath *after)
{
    job->cancelled = true;
    if (job->state == SV_JOB_QUEUED) sv_job_end(q, job, SPLAM_CANCELLED, message, after);
}

void sv_queue_cancel(sv_queue *q, sv_job *job)
{
    sv_aftermath after = {0};
    sv_lock(q);
    sv_job_cancel(q, job, "cancelled before it began", &after);
    sv_unlock(q, &after);
}

void sv_queue_skip(sv_queue *q, sv_job *job)
{
    sv_lock(q);
    job->skipped = job->state == SV_JOB_RUNNING;
    sv_unlock(q, &(sv_aftermath){0});
}

/* ---- how far it is ---- */

/* Those that are drawn, and those that wait for longer. */
static int64_t count_before(const sv_queue *q, const sv_job *before)
{
    int64_t count = sv_line_count(q, SV_JOB_RUNNING);
    for (const sv_job *job = q->first; job && job != before; job = job->next)
        count += job->state == SV_JOB_QUEUED;
    return count;
}

void sv_queue_look(sv_queue *q, const sv_job *job, sv_job_view *out)
{
    double now = sv_now();
    sv_lock(q);
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
    if (job->state == SV_JOB_QUEUED) out->waiting = count_before(q, job);
    if (job->began > 0) out->seconds = (sv_job_has_ended(job->state) ? job->ended : now) - job->began;
    if (job->state == SV_JOB_RUNNING && out->progress > 0)
        out->seconds_left = out->seconds * (1 - out->progress) / out->progress;
    sv_unlock(q, &(sv_aftermath){0});
}

sv_small sv_queue_small(sv_queue *q, const sv_job *job)
{
    sv_lock(q);
    sv_small small = job->small;
    size_t size = (size_t)(3 * small.width * small.height);
    if (small.rgb) small.rgb = malloc(size);
    if (small.rgb) memcpy(small.rgb, job->small.rgb, size);
    sv_unlock(q, &(sv_aftermath){0});
    return small;
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
    sv_lock(q);
    job->skipped = false;
    job->round = round;
    job->round_began = (int64_t)job->picture_count;
    advance(job, 0);
    sv_unlock(q, &(sv_aftermath){0});
}

/* Several pictures are told of after each evaluation of theirs: the first one is taken. */
void sv_queue_show(sv_queue *q, sv_job *job, const splam_preview *p)
{
    size_t size = (size_t)(3 * p->picture.width * p->picture.height);
    sv_aftermath after = {0};
    sv_lock(q);
    sv_small *small = &job->small;
    if (!small->rgb) small->rgb = malloc(size); /* of all pictures of a job the sides are the same */
    if (small->rgb && (p->done != small->done || p->total == 1)) {
        memcpy(small->rgb, p->picture.rgb, size);
        small->width = p->picture.width;
        small->height = p->picture.height;
        small->done = p->done;
        small->total = p->total;
        sv_job_changed(job, &after);
    }
    sv_unlock(q, &after);
}

void sv_queue_report(sv_queue *q, sv_job *job, const char *task, int64_t done, int64_t total)
{
    sv_aftermath after = {0};
    sv_lock(q);
    if (strcmp(task, "denoising") == 0 && done > 0) {
        q->counts.steps++;
        advance(job, total ? (double)done / (double)total : 0);
    }
    snprintf(job->task, sizeof job->task, "%s", task);
    job->done = done;
    job->total = total;
    sv_job_changed(job, &after);
    sv_unlock(q, &after);
}

bool sv_queue_give(sv_queue *q, sv_job *job, const sv_picture *picture)
{
    sv_aftermath after = {0};
    sv_lock(q);
    sv_picture *more = realloc(job->pictures, (job->picture_count + 1) * sizeof *more);
    if (more) {
        job->pictures = more;
        more[job->picture_count++] = *picture;
        q->counts.pictures++;
        advance(job, 0);
        sv_job_changed(job, &after);
    }
    sv_unlock(q, &after);
    return more != NULL;
}

void sv_queue_warn(sv_queue *q, sv_job *job, const char *text)
{
    sv_lock(q);
    char **more = realloc(job->warnings, (job->warning_count + 1) * sizeof *more);
    if (more) job->warnings = more;
    char *copy = more ? strdup(text) : NULL;
    if (copy) job->warnings[job->warning_count++] = copy;
    sv_unlock(q, &(sv_aftermath){0});
}
