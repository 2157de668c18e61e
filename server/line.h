/* The line as its files see it: queue.c, which jobs there are and whose turn it is, and job.c, what becomes of one.
 * What is said to be under the lock is called by whoever has it. */
#ifndef SERVER_LINE_H
#define SERVER_LINE_H
#include <pthread.h>
#include "queue.h"

/* When clients had their last turn, of the latest ones. */
enum { SV_TURNS = 64 };
typedef struct {
    uint64_t client, turn;
} sv_turn;

struct sv_queue {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    int64_t most_waiting, most_of_client;
    bool closed;
    sv_job *first; /* all that are known, the oldest first */
    uint64_t turns;
    sv_turn served[SV_TURNS];
    sv_queue_counts counts; /* those that only grow */
};

/* What a change leaves to be done without the lock. */
typedef struct {
    sv_watcher *woken;
    sv_job *freed; /* a list, too */
} sv_aftermath;

static inline void sv_lock(sv_queue *q)
{
    pthread_mutex_lock(&q->lock);
}

/* And does what is left to be done. A watcher may be gone once it is woken. */
void sv_unlock(sv_queue *queue, sv_aftermath *aftermath);

/* ---- under the lock ---- */

int64_t sv_line_count(const sv_queue *queue, sv_job_state state);
/* Takes a job that the line knows out of it. */
void sv_line_remove(sv_queue *queue, sv_job *job, sv_aftermath *aftermath);

void sv_job_changed(sv_job *job, sv_aftermath *aftermath);
void sv_job_end(sv_queue *queue, sv_job *job, splam_status status, const char *message, sv_aftermath *aftermath);
/* A job that waits ends at once, one that is drawn at its next step. */
void sv_job_cancel(sv_queue *queue, sv_job *job, const char *message, sv_aftermath *aftermath);
/* Its client has gone. Of one that is kept watchers are woken, of whom only a stream is lost. */
void sv_job_look_for_client(sv_queue *queue, sv_job *job, sv_aftermath *aftermath);

#endif
