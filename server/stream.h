/* Server-sent events of a job, from now to its end. */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H
#include "http.h"

typedef struct sv_stream sv_stream;
/* The next event of a job that looks like this, new (free), with *last set behind which there are none; NULL: there is
 * nothing to say, or, of the last one, no memory. Asked whenever the job has changed. */
typedef char *sv_event_function(sv_stream *stream, const sv_job_view *view);

struct sv_stream {
    struct sv_server *server;
    struct MHD_Connection *connection;
    sv_watcher watcher;
    sv_job *job;   /* a reference */
    sv_event_function *event;
    void *context; /* the function's (free) */
    unsigned seen; /* the version of the job that the last event was of */
    char *text;    /* that is being sent */
    size_t length, sent;
    bool last;
};

/* Answers with a stream, which takes the reference to the job and `context` (NULL: out of memory is answered); with 503
 * if there are too many. Where the job is its one client's, it is cancelled when the stream ends before it. */
void sv_exchange_stream(sv_exchange *x, sv_job *job, sv_event_function *event, void *context);

#endif
