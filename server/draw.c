/* The thread that draws: one job after the other, with sessions that it alone has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

typedef struct {
    sv_server *server;
    sv_job *job;
    splam_session *session;
    bool lost;   /* a picture, for want of memory */
    bool failed; /* to open the model: why is in `message`, and more of it in the log */
    char message[512];
} drawing;

static void report(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    const drawing *d = context;
    (void)detail;
    sv_queue_report(d->server->queue, d->job, task, done, total);
}

static bool cancelled(void *context)
{
    const drawing *d = context;
    return d->job->cancelled || d->job->skipped || d->server->ending;
}

static void show(void *context, const splam_preview *preview)
{
    const drawing *d = context;
    sv_queue_show(d->server->queue, d->job, preview);
}

static bool make_room(void *context, int64_t bytes)
{
    const drawing *d = context;
    (void)bytes;
    return sv_models_drop(d->server->models);
}

static void save(drawing *d, const splam_drawn *drawn)
{
    const char *format = d->job->request->options.format;
    char error[512];
    if (!d->job->request->saves || sv_save(d->server, drawn, format ? format : "png", error, sizeof error)) return;
    sv_log(d->server, "%s", error);
    sv_queue_warn(d->server->queue, "the server could not save the picture");
}

static void receive(void *context, const splam_drawn *drawn)
{
    drawing *d = context;
    save(d, drawn);
    sv_picture p = {.file = malloc(drawn->file_size),
                    .size = drawn->file_size,
                    .seed = drawn->seed,
                    .parameters = strdup(drawn->parameters),
                    .json = strdup(drawn->json)};
    if (p.file) memcpy(p.file, drawn->file, p.size);
    if (p.file && p.parameters && p.json && sv_queue_give(d->server->queue, d->job, &p)) return;
    d->lost = true;
    free(p.file);
    free(p.parameters);
    free(p.json);
}

/* Picture j of all rounds has seed + j. A round that was skipped is not the job's end, unless nothing is left. */
static splam_status draw_rounds(drawing *d, splam_generate_options options)
{
    const splam_callbacks callbacks = {.context = d, .report = report, .cancelled = cancelled};
    int64_t rounds = d->job->request->rounds;
    splam_status status = SPLAM_OK;
    options.count /= rounds;
    for (int64_t i = 0; i < rounds && !status; i++) {
        sv_queue_begin_round(d->server->queue, d->job, i);
        status = splam_session_generate(d->session, &options, &callbacks, NULL);
        if (status == SPLAM_CANCELLED && d->job->skipped && !d->job->cancelled && !d->server->ending)
            status = SPLAM_OK;
        options.seed += (uint64_t)options.count;
    }
    bool nothing = !status && d->job->picture_count == 0;
    return nothing ? SPLAM_CANCELLED : status;
}

/* Sentences of the library name files, which clients are not told. */
static void explain(drawing *d, splam_status status)
{
    const sv_request *r = d->job->request;
    size_t used = (size_t)snprintf(d->message, sizeof d->message, "the model %s",
                                   sv_models_facts(d->server->models, r->model)->name);
    for (size_t i = 0; i < r->adapters.count && used < sizeof d->message; i++)
        used += (size_t)snprintf(d->message + used, sizeof d->message - used, "%s %s", i ? "," : " with the LoRA",
                                 r->adapters.item[i].name);
    if (used < sizeof d->message)
        snprintf(d->message + used, sizeof d->message - used, " cannot be opened: %s", splam_status_text(status));
    d->failed = true;
}

static splam_status open_model(drawing *d)
{
    const sv_request *r = d->job->request;
    const splam_callbacks callbacks = {.context = d, .cancelled = cancelled};
    sv_server *s = d->server;
    s->opening = true;
    splam_status status = sv_models_take(s->models, r->model, &r->adapters, &callbacks, &d->session);
    s->opening = false;
    if (!status || status == SPLAM_CANCELLED) return status;
    sv_log(s, "job %s: %s", d->job->id, splam_error_message());
    explain(d, status);
    return SPLAM_UNSUPPORTED;
}

static splam_status draw_job(drawing *d)
{
    const sv_request *r = d->job->request;
    splam_generate_options options = r->options;
    splam_pictures start = {0};
    splam_picture pixels;
    if (r->image) {
        splam_status status = splam_picture_decode(r->image, r->image_size, &start);
        if (status) return status;
        pixels = (splam_picture){start.width, start.height, start.rgb};
        options.init_pixels = &pixels;
    }
    options.receive = receive;
    options.receiver = d;
    options.watch = show;
    options.watcher = d;
    options.make_room = make_room;
    options.keeper = d;
    splam_status status = open_model(d);
    if (!status) status = draw_rounds(d, options);
    splam_pictures_free(&start);
    return !status && d->lost ? SPLAM_MEMORY : status;
}

static void log_job(const sv_server *s, const sv_job *job, splam_status status, const char *message)
{
    if (s->settings.log_prompts)
        sv_log(s, "job %s: \"%s\", without \"%s\"", job->id, job->request->options.prompt,
               job->request->options.negative ? job->request->options.negative : "");
    /* Other sentences may have what a client sent in them. */
    if (status == SPLAM_IO || status == SPLAM_INTERNAL || (status && s->settings.log_prompts))
        sv_log(s, "job %s: %s: %s", job->id, splam_status_text(status), message);
}

void *sv_draw(void *server)
{
    sv_server *s = server;
    for (sv_job *job; (job = sv_queue_take(s->queue));) {
        drawing d = {.server = s, .job = job};
        splam_status status = draw_job(&d);
        const char *message = !status    ? NULL
                              : d.failed ? d.message
                              : d.lost   ? "out of memory for a picture"
                                         : splam_error_message();
        log_job(s, job, status, message);
        sv_queue_end(s->queue, job, status, message);
        sv_job_release(s->queue, job);
    }
    return NULL;
}
