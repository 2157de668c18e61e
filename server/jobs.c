/* The server's own interface: jobs that are submitted, looked at, followed and deleted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"
#include "stream.h"

json_t *sv_job_warnings(const sv_job *job)
{
    json_t *list = json_array();
    for (size_t i = 0; i < job->warning_count; i++)
        json_array_append_new(list, json_string(job->warnings[i]));
    return list;
}

static json_t *picture_list(const sv_job *job)
{
    json_t *list = json_array();
    for (size_t i = 0; i < job->picture_count; i++) {
        const sv_picture *p = &job->pictures[i];
        json_array_append_new(list, json_pack("{s:o, s:s, s:O}", "b64_json", sv_json_base64(p->file, p->size),
                                              "parameters", p->parameters, "info", p->info));
    }
    return list;
}

static void add_error(const sv_job *job, json_t *json)
{
    char message[1024];
    bool told = job->status != SPLAM_IO && job->status != SPLAM_INTERNAL;
    sv_translate(&sv_own_interface, told && job->message ? job->message : splam_status_text(job->status), message,
                 sizeof message);
    json_object_set_new(json, "error", json_string(message));
}

json_t *sv_job_json(sv_server *s, const sv_job *job, bool pictures)
{
    sv_job_view v;
    sv_queue_look(s->queue, job, &v);
    json_t *json = json_pack("{s:s, s:s, s:f, s:f}", "id", job->id, "state", sv_job_state_text(v.state), "progress",
                             v.progress, "seconds", v.seconds);
    if (v.state == SV_JOB_QUEUED) json_object_set_new(json, "waiting", json_integer(v.waiting));
    if (v.state == SV_JOB_RUNNING && v.total > 0) {
        json_object_set_new(json, "task", json_string(v.task));
        json_object_set_new(json, "step", json_integer(v.done));
        json_object_set_new(json, "steps", json_integer(v.total));
    }
    if (v.seconds_left >= 0) json_object_set_new(json, "seconds_left", json_real(v.seconds_left));
    if (!sv_job_has_ended(v.state)) return json;
    if (job->status) add_error(job, json);
    json_object_set_new(json, "warnings", sv_job_warnings(job));
    json_object_set_new(json, "pictures", pictures ? picture_list(job) : json_integer((json_int_t)v.pictures));
    return json;
}

json_t *sv_small_json(const sv_small *small, const char *format)
{
    const splam_picture picture = {small->width, small->height, small->rgb};
    void *file = NULL;
    size_t size;
    if (!small->rgb || splam_picture_encode(&picture, format, SPLAM_UNSET, &file, &size) != SPLAM_OK) return NULL;
    json_t *value = sv_json_base64(file, size);
    splam_free(file);
    return value;
}

/* ---- events: the job as it is, whenever it has changed, with a small picture where there is a new one ---- */

typedef struct {
    bool small;    /* is wanted */
    int64_t shown; /* evaluations that the last one was of */
} following;

static void add_small(sv_stream *s, const sv_job_view *view, json_t *json)
{
    following *f = s->context;
    if (!f->small || !view->small || view->small == f->shown) return;
    sv_small small = sv_queue_small(s->server->queue, s->job);
    json_t *value = sv_small_json(&small, "png");
    if (value) json_object_set_new(json, "preview", value);
    f->shown = small.done;
    free(small.rgb);
}

static char *next_event(sv_stream *s, const sv_job_view *view)
{
    json_t *json = sv_job_json(s->server, s->job, false);
    add_small(s, view, json);
    char *data = sv_json_text(json), *text = NULL;
    s->last = sv_job_has_ended(view->state);
    if (data && asprintf(&text, "event: %s\nid: %u\ndata: %s\n\n", s->last ? "end" : "step", view->version, data) < 0)
        text = NULL;
    free(data);
    return text;
}

/* ---- routes ---- */

void sv_answer_submit(sv_exchange *x)
{
    char place[64];
    sv_job *job = sv_exchange_job(x, &sv_own_interface, true);
    if (!job) return;
    snprintf(place, sizeof place, "/v1/jobs/%s", job->id);
    sv_reply_json(x, 202, sv_job_json(x->server, job, false));
    sv_reply_header(x, MHD_HTTP_HEADER_LOCATION, place);
    sv_job_release(x->server->queue, job);
}

/* A reference; NULL: it has been answered that there is none. */
static sv_job *find(sv_exchange *x)
{
    sv_job *job = sv_queue_find(x->server->queue, x->word);
    if (!job) sv_reply_error(x, 404, NULL, "there is no such job, or its result is no longer kept");
    return job;
}

void sv_answer_job(sv_exchange *x)
{
    sv_job *job = find(x);
    if (!job) return;
    sv_reply_json(x, 200, sv_job_json(x->server, job, true));
    sv_job_release(x->server->queue, job);
}

/* Cancels it, or forgets its result. */
void sv_answer_delete(sv_exchange *x)
{
    sv_queue *queue = x->server->queue;
    sv_job_view before;
    sv_job *job = find(x);
    if (!job) return;
    sv_queue_look(queue, job, &before);
    if (sv_job_has_ended(before.state))
        sv_queue_forget(queue, job);
    else
        sv_queue_cancel(queue, job);
    sv_reply_json(x, 200, sv_job_json(x->server, job, false));
    sv_job_release(queue, job);
}

/* ?preview=false leaves small pictures out. */
void sv_answer_events(sv_exchange *x)
{
    sv_job *job = find(x);
    following *f = job ? calloc(1, sizeof *f) : NULL;
    if (!job) return;
    const char *preview = MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, "preview");
    if (f) f->small = !preview || strcmp(preview, "false") != 0;
    sv_exchange_stream(x, job, next_event, f);
}
