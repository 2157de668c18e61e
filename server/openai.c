/* OpenAI's interface of pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "internal.h"
#include "stream.h"

/* As they call it. */
static const char *output_format(const sv_job *job)
{
    const char *format = job->request->options.format;
    return !format ? "png" : format[0] == 'j' ? "jpeg" : format;
}

/* What clients of OpenAI's know, and `info`: what made each picture. */
static void finish(sv_exchange *x)
{
    const sv_job *job = x->job;
    if (job->status) {
        sv_reply_unfinished(x, job, &sv_openai_interface);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < job->picture_count; i++) {
        const sv_picture *p = &job->pictures[i];
        json_array_append_new(data, json_pack("{s:o, s:O}", "b64_json", sv_json_base64(p->file, p->size), "info",
                                              p->info));
    }
    sv_reply_json(x, 200,
                  json_pack("{s:I, s:o, s:s, s:o}", "created", (json_int_t)time(NULL), "data", data, "output_format",
                            output_format(job), "warnings", sv_job_warnings(job)));
}

/* ---- stream: partial images, and the picture ---- */

static char *make_event(const char *name, json_t *json)
{
    char *data = sv_json_text(json), *text = NULL;
    if (data && asprintf(&text, "event: %s\ndata: %s\n\n", name, data) < 0) text = NULL;
    free(data);
    return text;
}

/* What both events have; `picture` is base64, a value that it takes. */
static json_t *event_object(const char *type, const sv_job *job, json_t *picture)
{
    return json_pack("{s:s, s:o, s:I, s:s, s:s, s:s}", "type", type, "b64_json", picture, "created_at",
                     (json_int_t)time(NULL), "output_format", output_format(job), "quality", "auto", "background",
                     "opaque");
}

static void add_size(json_t *event, int64_t width, int64_t height)
{
    char size[64];
    snprintf(size, sizeof size, "%lldx%lld", (long long)width, (long long)height);
    if (event) json_object_set_new(event, "size", json_string(size));
}

static char *completed_event(sv_stream *s)
{
    static const char type[] = "image_generation.completed";
    const sv_job *job = s->job;
    const sv_picture *p = job->pictures;
    int64_t width = 0, height = 0;
    json_t *event = event_object(type, job, sv_json_base64(p->file, p->size));
    if (splam_picture_size(p->file, p->size, &width, &height) == SPLAM_OK) add_size(event, width, height);
    if (event) {
        json_object_set(event, "info", p->info);
        json_object_set_new(event, "warnings", sv_job_warnings(job));
    }
    return make_event(type, event);
}

static char *error_event(const sv_stream *s)
{
    char message[1024];
    int code = sv_job_failure(s->job, &sv_openai_interface, message, sizeof message);
    return make_event("error", json_pack("{s:s, s:o}", "type", "error", "error", sv_error_json(code, NULL, message)));
}

typedef struct {
    int64_t sent, of; /* partial images, and the evaluation that the last one was of */
} streaming;

/* Partial image i of n is of the first evaluation from (i + 1) / (n + 1) of all on; the last is the picture itself. */
static char *partial_event(sv_stream *s)
{
    static const char type[] = "image_generation.partial_image";
    streaming *c = s->context;
    int64_t wanted = s->job->request->partial_images;
    char *text = NULL;
    json_t *picture = NULL;
    sv_small small = sv_queue_small(s->server->queue, s->job);
    bool due = small.rgb && c->sent < wanted && small.done < small.total && small.done != c->of &&
               small.done * (wanted + 1) >= (c->sent + 1) * small.total;
    if (due) picture = sv_small_json(&small, s->job->request->options.format);
    if (picture) {
        json_t *event = event_object(type, s->job, picture);
        add_size(event, small.width, small.height);
        if (event) json_object_set_new(event, "partial_image_index", json_integer(c->sent++));
        c->of = small.done;
        text = make_event(type, event);
    }
    free(small.rgb);
    return text;
}

static char *next_event(sv_stream *s, const sv_job_view *view)
{
    s->last = sv_job_has_ended(view->state);
    if (!s->last) return view->small ? partial_event(s) : NULL;
    return s->job->status || !s->job->picture_count ? error_event(s) : completed_event(s);
}

/* ---- routes ---- */

void sv_answer_generations(sv_exchange *x)
{
    sv_job *job = sv_exchange_job(x, &sv_openai_interface, false);
    if (!job) return;
    if (job->request->streams)
        sv_exchange_stream(x, job, next_event, calloc(1, sizeof(streaming)));
    else
        sv_exchange_wait(x, job, finish);
}

void sv_answer_edits(sv_exchange *x)
{
    sv_reply_error(x, 501, NULL,
                   "edits of pictures (inpainting) are not supported; /sdapi/v1/img2img and init_image of /v1/jobs "
                   "begin with a picture");
}
