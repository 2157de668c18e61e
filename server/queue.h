/* Jobs, and the line that they wait in. Everything here may be called by any thread; what is guarded is behind the
 * queue's one lock, which is never held while something is called that may wait. */
#ifndef SERVER_QUEUE_H
#define SERVER_QUEUE_H
#include <stdatomic.h>
#include "limits.h"
#include "request.h"

#define SV_JOB_STATE_LIST(X)                                                                                     \
    X(QUEUED, "queued")                                                                                          \
    X(RUNNING, "running")                                                                                        \
    X(DONE, "done")                                                                                              \
    X(CANCELLED, "cancelled")                                                                                    \
    X(FAILED, "failed")
#define SV_JOB_STATE(name, text) SV_JOB_##name,
typedef enum { SV_JOB_STATE_LIST(SV_JOB_STATE) SV_JOB_STATES } sv_job_state;
#undef SV_JOB_STATE
const char *sv_job_state_text(sv_job_state state);
static inline bool sv_job_has_ended(sv_job_state state)
{
    return state >= SV_JOB_DONE;
}

/* A picture as a file, and what made it: A1111's text, and an object of which answers have more references. */
typedef struct {
    uint8_t *file;
    size_t size;
    uint64_t seed;
    char *parameters;
    json_t *info;
} sv_picture;

/* What a picture is about to become (splam_preview), of the first picture of those that are drawn at once. */
typedef struct {
    int64_t done, total;   /* evaluations of the network for it */
    int64_t width, height;
    uint8_t *rgb;          /* [height,width,3]; NULL: there is none */
} sv_small;

/* Somebody who is woken by what happens to a job: once, and is to watch anew then. `wake` is called on any thread,
 * without the lock. */
typedef struct sv_watcher sv_watcher;
struct sv_watcher {
    void (*wake)(sv_watcher *watcher);
    int socket;     /* of its client, open while it watches */
    bool until_end; /* only the job's end wakes it */
    sv_watcher *next;
};

/* Counted references; the line has one while it knows the job. Pictures, warnings, status and message do not change
 * after the end. */
typedef struct sv_job sv_job;
struct sv_job {
    char id[33];          /* 128 random bits */
    const sv_request *request;
    uint64_t client;      /* who asked; those of several take turns */
    bool kept;            /* is known after its end, until it is deleted or forgotten; else it is its one client's, and
                             cancelled when that leaves */
    atomic_bool cancelled; /* is to end */
    atomic_bool skipped;   /* its round is, and the next one is to begin */
    /* guarded */
    unsigned references;
    sv_job_state state;
    unsigned version;     /* another one whenever something has changed */
    char task[32];        /* "denoising" */
    int64_t done, total;  /* of the task */
    double progress;      /* 0 to 1, never less than before */
    int64_t round, round_began; /* the one that is drawn, and the pictures there were before it */
    sv_small small;
    double added, began, ended; /* seconds */
    double deadline;      /* when it is ended, of sv_now; 0: none */
    bool late;            /* it was */
    bool left;            /* cancelled, as its client has gone: nobody reads the answer */
    sv_picture *pictures;
    size_t picture_count;
    char **warnings;
    size_t warning_count;
    splam_status status;
    char *message;        /* why it ended before it was done */
    sv_watcher *watchers;
    sv_job *next;
};

typedef struct sv_queue sv_queue;
/* So many jobs may wait, and of one client so many of them. NULL: out of memory. */
sv_queue *sv_queue_create(int64_t most_waiting, int64_t most_of_client);
void sv_queue_destroy(sv_queue *queue);          /* after all threads; every job has ended. NULL is legal */

/* ---- clients ---- */

typedef enum { SV_ADDED, SV_QUEUE_FULL, SV_SHARE_FULL, SV_QUEUE_CLOSED, SV_NO_MEMORY } sv_added;
/* The request becomes the job's if it is added. *out: a reference (sv_job_release). */
sv_added sv_queue_add(sv_queue *queue, sv_request *request, bool kept, uint64_t client, sv_job **out);
sv_job *sv_queue_find(sv_queue *queue, const char *id); /* of those that are kept, a reference; NULL: none */
/* References of those that are drawn: the client's own, or all where none is its own. Returns how many. */
size_t sv_queue_running(sv_queue *queue, uint64_t client, sv_job *out[SV_BATCH]);
void sv_job_release(sv_queue *queue, sv_job *job);      /* NULL is legal */
/* A job that waits ends at once, one that is drawn at its next step. */
void sv_queue_cancel(sv_queue *queue, sv_job *job);
/* The round that is drawn ends at its next step, without the pictures that it has not made. */
void sv_queue_skip(sv_queue *queue, sv_job *job);
/* An ended job is known no more. */
void sv_queue_forget(sv_queue *queue, sv_job *job);
/* False, and nothing is registered: the job has ended or, but for those until_end, has another version than `seen`. */
bool sv_queue_watch(sv_queue *queue, sv_job *job, sv_watcher *watcher, unsigned seen);

/* A job as it is at the moment. */
typedef struct {
    sv_job_state state;
    unsigned version;
    int64_t waiting;      /* jobs that came before it */
    char task[32];
    int64_t done, total;
    size_t pictures;
    int64_t round;        /* from 0 */
    bool skipped;         /* the round is about to end */
    int64_t small;        /* evaluations that the small picture is of; 0: there is none */
    double progress;      /* 0 to 1 */
    double seconds;       /* since it began, or in all */
    double seconds_left;  /* below 0: not known */
} sv_job_view;
void sv_queue_look(sv_queue *queue, const sv_job *job, sv_job_view *out);

/* A copy of the small picture (free its pixels); without pixels: there is none, or no memory. */
sv_small sv_queue_small(sv_queue *queue, const sv_job *job);

typedef struct {
    int64_t waiting, running, kept, watchers;
    int64_t ended[SV_JOB_STATES]; /* since the start, by state */
    int64_t late;                 /* of those that failed */
    int64_t batched;              /* jobs that were drawn with others in one batch */
    int64_t pictures, steps;
    double drawing_seconds;       /* of all ended jobs */
} sv_queue_counts;
void sv_queue_count(sv_queue *queue, sv_queue_counts *out);
/* Seconds after which somebody who found the line full may try again, 1 and more. */
int64_t sv_queue_retry_after(sv_queue *queue);

/* ---- whoever draws ---- */

/* Waits for a job and begins it: the first of the client whose turn was longest ago, and with it those that wait and
 * may be drawn in one batch, by turns as well, as many as its request says and a power of two. References; 0: the queue
 * is closed. */
size_t sv_queue_take(sv_queue *queue, sv_job *out[SV_BATCH]);
/* Round `round` of the job's begins, from 0. */
void sv_queue_begin_round(sv_queue *queue, sv_job *job, int64_t round);
void sv_queue_show(sv_queue *queue, sv_job *job, const splam_preview *preview);
void sv_queue_report(sv_queue *queue, sv_job *job, const char *task, int64_t done, int64_t total);
/* The picture becomes the job's. False: out of memory, and it does not. */
bool sv_queue_give(sv_queue *queue, sv_job *job, const sv_picture *picture);
void sv_queue_warn(sv_queue *queue, sv_job *job, const char *text);
/* SPLAM_OK, SPLAM_CANCELLED or a failure with its sentence. */
void sv_queue_end(sv_queue *queue, sv_job *job, splam_status status, const char *message);

/* ---- whoever tends ---- */

/* Cancels jobs whose one client has left and ends those whose deadline has passed, at their next step; wakes watchers
 * that have left, and forgets results that are old or too many. */
void sv_queue_tend(sv_queue *queue);
/* Nothing is added any more, what waits is cancelled, and who draws goes home. */
void sv_queue_close(sv_queue *queue);

double sv_now(void); /* seconds, monotonic */

#endif
