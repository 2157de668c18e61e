/* The thread that draws: one job after the other, or several as one batch, with sessions that it alone has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

/* A job that is drawn. */
typedef struct {
    sv_server *server;
    sv_job *job;
    splam_generate_options options;
    splam_pictures start; /* to start from */
    splam_picture pixels; /* the same; without any: there is none */
    bool last;   /* the round that is drawn */
    bool lost;   /* a picture, for want of memory */
    bool ended;  /* of the line, and not ours any more */
    splam_status status; /* of its last round */
} drawing;

/* Jobs that are drawn at once, and the model that all of them ask for. */
typedef struct {
    sv_server *server;
    drawing each[SV_BATCH];
    size_t count;
    splam_session *session;
} batch;

/* ---- what the library asks and tells of a job ---- */

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

/* It may quote a prompt. */
static void warn(void *context, const char *text)
{
    const drawing *d = context;
    sv_queue_warn(d->server->queue, d->job, text);
    if (d->server->settings.log_prompts) sv_log(d->server, "job %s: %s", d->job->id, text);
}

static bool make_room(void *context, int64_t bytes)
{
    sv_server *s = context;
    (void)bytes;
    return sv_models_drop(s->models);
}

static void save(drawing *d, const splam_drawn *drawn)
{
    const char *format = d->job->request->options.format;
    char error[512];
    if (!d->job->request->saves || sv_save(d->server, drawn, format ? format : "png", error, sizeof error)) return;
    sv_log(d->server, "%s", error);
    sv_queue_warn(d->server->queue, d->job, "the server could not save the picture");
}

static void receive(void *context, const splam_drawn *drawn)
{
    drawing *d = context;
    save(d, drawn);
    sv_picture p = {.file = malloc(drawn->file_size),
                    .size = drawn->file_size,
                    .seed = drawn->seed,
                    .parameters = strdup(drawn->parameters),
                    .info = json_loads(drawn->json, 0, NULL)};
    if (p.file) memcpy(p.file, drawn->file, p.size);
    if (p.file && p.parameters && p.info && sv_queue_give(d->server->queue, d->job, &p)) return;
    d->lost = true;
    free(p.file);
    free(p.parameters);
    json_decref(p.info);
}

/* ---- the end of a job ---- */

static void log_job(const sv_server *s, const sv_job *job, splam_status status, const char *message)
{
    if (s->settings.log_prompts)
        sv_log(s, "job %s: \"%s\", without \"%s\"", job->id, job->request->options.prompt,
               job->request->options.negative ? job->request->options.negative : "");
    /* Other sentences may have what a client sent in them. */
    if (status == SPLAM_IO || status == SPLAM_INTERNAL || (status && s->settings.log_prompts))
        sv_log(s, "job %s: %s: %s", job->id, splam_status_text(status), message);
}

static void end(drawing *d, splam_status status, const char *message)
{
    d->ended = true;
    splam_pictures_free(&d->start);
    log_job(d->server, d->job, status, message);
    sv_queue_end(d->server->queue, d->job, status, message);
    sv_job_release(d->server->queue, d->job);
}

/* A round that was skipped is not the job's end, unless nothing is left. */
static void round_ended(void *context, splam_status status, const char *message)
{
    drawing *d = context;
    const sv_job *job = d->job;
    bool skipped = status == SPLAM_CANCELLED && job->skipped && !job->cancelled && !d->server->ending;
    d->status = skipped ? SPLAM_OK : status;
    if (d->status)
        end(d, d->status, message);
    else if (d->last && d->lost)
        end(d, SPLAM_MEMORY, "out of memory for a picture");
    else if (d->last)
        end(d, job->picture_count ? SPLAM_OK : SPLAM_CANCELLED, job->picture_count ? NULL : "interrupted");
}

static void end_all(batch *b, splam_status status, const char *message)
{
    for (size_t i = 0; i < b->count; i++)
        if (!b->each[i].ended) end(&b->each[i], status, message);
}

/* ---- drawing ---- */

static void ask_for(drawing *d)
{
    splam_generate_options *o = &d->options;
    o->receive = receive;
    o->receiver = d;
    o->watch = show;
    o->watcher = d;
    o->make_room = make_room;
    o->keeper = d->server;
    o->init_pixels = d->pixels.rgb ? &d->pixels : NULL;
}

/* Where several are drawn, each has one round. Picture j of all rounds has seed + j. */
static void draw_round(batch *b, int64_t round)
{
    splam_session_request requests[SV_BATCH];
    for (size_t i = 0; i < b->count; i++) {
        drawing *d = &b->each[i];
        d->last = round + 1 == d->job->request->rounds;
        sv_queue_begin_round(b->server->queue, d->job, round);
        ask_for(d);
        requests[i] = (splam_session_request){.options = &d->options,
                                              .callbacks = {.context = d, .report = report, .cancelled = cancelled},
                                              .warn = warn,
                                              .ended = round_ended};
    }
    splam_status status = splam_session_generate_batch(b->session, requests, b->count);
    if (status) end_all(b, status, splam_error_message());
    for (size_t i = 0; i < b->count; i++)
        b->each[i].options.seed += (uint64_t)b->each[i].options.count;
}

/* Sentences of the library name files, which clients are not told. */
static void explain(const sv_server *s, const sv_request *r, splam_status status, char *message, size_t size)
{
    size_t used = (size_t)snprintf(message, size, "the model %s", sv_models_facts(s->models, r->model)->name);
    for (size_t i = 0; i < r->adapters.count && used < size; i++)
        used += (size_t)snprintf(message + used, size - used, "%s %s", i ? "," : " with the LoRA",
                                 r->adapters.item[i].name);
    if (used < size)
        snprintf(message + used, size - used, " cannot be opened: %s", splam_status_text(status));
}

/* Those who do not want it any more have ended. */
static bool nobody_waits(void *context)
{
    batch *b = context;
    bool waited = false;
    for (size_t i = 0; i < b->count; i++) {
        drawing *d = &b->each[i];
        if (!d->ended && cancelled(d)) end(d, SPLAM_CANCELLED, "interrupted");
        waited |= !d->ended;
    }
    return !waited;
}

static void drop_ended(batch *b)
{
    size_t left = 0;
    for (size_t i = 0; i < b->count; i++)
        if (!b->each[i].ended) b->each[left++] = b->each[i];
    b->count = left;
}

static void open_model(batch *b)
{
    const sv_request *r = b->each->job->request;
    const splam_callbacks callbacks = {.context = b, .cancelled = nobody_waits};
    sv_server *s = b->server;
    char message[512];
    splam_status status = sv_models_take(s->models, r->model, &r->adapters, &callbacks, &b->session);
    if (status && status != SPLAM_CANCELLED) {
        sv_log(s, "job %s: %s", b->each->job->id, splam_error_message());
        explain(s, r, status, message, sizeof message);
        end_all(b, status == SPLAM_MEMORY ? status : SPLAM_UNSUPPORTED, message);
    }
    drop_ended(b);
}

static void begin(sv_server *s, sv_job *job, drawing *d)
{
    const sv_request *r = job->request;
    *d = (drawing){.server = s, .job = job, .options = r->options};
    d->options.count /= r->rounds;
    if (!r->image) return;
    splam_status status = splam_picture_decode(r->image, r->image_size, &d->start);
    if (status) end(d, status, splam_error_message());
    d->pixels = (splam_picture){d->start.width, d->start.height, d->start.rgb};
}

void sv_draw_jobs(sv_server *s, sv_job *const *jobs, size_t count)
{
    batch b = {.server = s, .count = count};
    for (size_t i = 0; i < count; i++)
        begin(s, jobs[i], &b.each[i]);
    drop_ended(&b);
    if (b.count) open_model(&b);
    for (int64_t round = 0; b.count; round++) {
        draw_round(&b, round);
        drop_ended(&b);
    }
}

void *sv_draw(void *server)
{
    sv_server *s = server;
    sv_job *jobs[SV_BATCH];
    for (size_t count; (count = sv_queue_take(s->queue, jobs));)
        sv_draw_jobs(s, jobs, count);
    return NULL;
}
