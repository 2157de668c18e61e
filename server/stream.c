/* Server-sent events, handed to libmicrohttpd piece by piece. */
#include "stream.h"
#include <stdlib.h>
#include <string.h>
#include "internal.h"

static void wake_stream(sv_watcher *watcher)
{
    sv_stream *s = (sv_stream *)(void *)((char *)watcher - offsetof(sv_stream, watcher));
    MHD_resume_connection(s->connection);
}

/* False: nothing has happened since, or nothing that is told. */
static bool next_event(sv_stream *s)
{
    sv_job_view view;
    sv_queue_look(s->server->queue, s->job, &view);
    if (view.version == s->seen) return false;
    free(s->text);
    sv_json_begin();
    s->text = s->event(s, &view);
    s->length = s->text ? strlen(s->text) : 0;
    s->sent = 0;
    s->seen = view.version;
    return s->text || s->last;
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t room)
{
    sv_stream *s = context;
    (void)position;
    if (s->sent == s->length && s->last)
        return s->text ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    if (s->sent == s->length && !next_event(s)) {
        MHD_suspend_connection(s->connection);
        if (!sv_queue_watch(s->server->queue, s->job, &s->watcher, s->seen)) MHD_resume_connection(s->connection);
        return 0;
    }
    if (!s->text) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t left = s->length - s->sent, size = left < room ? left : room;
    memcpy(out, s->text + s->sent, size);
    s->sent += size;
    return (ssize_t)size;
}

/* A job that has ended does not mind. */
static void free_stream(void *context)
{
    sv_stream *s = context;
    if (!s->job->kept) sv_queue_cancel(s->server->queue, s->job);
    sv_job_release(s->server->queue, s->job);
    free(s->context);
    free(s->text);
    free(s);
}

static void refuse(sv_exchange *x, sv_job *job, void *context, const char *why)
{
    free(context);
    if (!job->kept) sv_queue_cancel(x->server->queue, job);
    sv_job_release(x->server->queue, job);
    sv_reply_error(x, 503, NULL, "%s", why);
}

void sv_exchange_stream(sv_exchange *x, sv_job *job, sv_event_function *event, void *context)
{
    enum { BLOCK = 16384 };
    sv_queue_counts counts;
    sv_queue_count(x->server->queue, &counts);
    if (counts.watchers >= SV_WATCHERS) {
        refuse(x, job, context, "too many streams of events are followed already");
        return;
    }
    sv_stream *s = context ? calloc(1, sizeof *s) : NULL;
    struct MHD_Response *response = NULL;
    if (s) {
        *s = (sv_stream){.server = x->server,
                         .connection = x->connection,
                         .job = job,
                         .event = event,
                         .context = context,
                         .seen = UINT32_MAX};
        s->watcher = (sv_watcher){.wake = wake_stream, .socket = sv_exchange_socket(x)};
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, s, free_stream);
    }
    if (!response) {
        free(s);
        refuse(x, job, context, "out of memory");
        return;
    }
    x->streams = true;
    sv_reply(x, 200, "text/event-stream", response);
    sv_reply_header(x, "X-Accel-Buffering", "no");
}
