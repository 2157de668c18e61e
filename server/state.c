/* Routes that tell how the server is: health, models, numbers for Prometheus. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "internal.h"

void sv_answer_health(sv_exchange *x)
{
    if (x->server->closed)
        sv_reply_json(x, 503, json_pack("{s:s}", "status", "stopping"));
    else
        sv_reply_json(x, 200, json_pack("{s:s}", "status", "ok"));
}

/* Beyond OpenAI's: what a picture is drawn with where the request does not say. */
static json_t *usual(const splam_model_facts *f)
{
    return json_pack("{s:s, s:I, s:f, s:I, s:I}", "sampler", f->sampler, "steps", (json_int_t)f->steps, "guidance",
                     f->guidance, "width", (json_int_t)f->width, "height", (json_int_t)f->height);
}

void sv_answer_models(sv_exchange *x)
{
    const sv_server *s = x->server;
    json_t *list = json_array();
    for (size_t i = 0; i < sv_models_count(s->models); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", sv_models_facts(s->models, i)->name,
                                        "object", "model", "created", (json_int_t)s->created, "owned_by", "splam",
                                        "defaults", usual(sv_models_facts(s->models, i))));
    sv_reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

int64_t sv_resident_bytes(void)
{
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0;
    if (fscanf(file, "%*d %lld", &pages) != 1) pages = 0;
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void metric(FILE *out, const char *name, const char *type, const char *help, double value)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, value);
}

static void write_metrics(FILE *out, sv_server *s)
{
    sv_queue_counts c;
    sv_queue_count(s->queue, &c);
    metric(out, "splam_jobs_waiting", "gauge", "Jobs in the line.", (double)c.waiting);
    metric(out, "splam_jobs_running", "gauge", "Jobs that are drawn.", (double)c.running);
    metric(out, "splam_jobs_kept", "gauge", "Ended jobs whose results are kept.", (double)c.kept);
    metric(out, "splam_models_open", "gauge", "Models that are open, with or without LoRAs.",
           (double)sv_models_open_count(s->models));
    fprintf(out, "# HELP splam_jobs_total Ended jobs.\n# TYPE splam_jobs_total counter\n");
    for (int i = SV_JOB_DONE; i < SV_JOB_STATES; i++)
        fprintf(out, "splam_jobs_total{state=\"%s\"} %" PRId64 "\n", sv_job_state_text((sv_job_state)i), c.ended[i]);
    metric(out, "splam_jobs_late_total", "counter", "Failed jobs whose deadline had passed.", (double)c.late);
    metric(out, "splam_jobs_batched_total", "counter", "Jobs that were drawn with others in one batch.",
           (double)c.batched);
    metric(out, "splam_pictures_total", "counter", "Pictures drawn.", (double)c.pictures);
    metric(out, "splam_steps_total", "counter", "Evaluations of the network for a job, of all its pictures in a batch.",
           (double)c.steps);
    metric(out, "splam_drawing_seconds_total", "counter", "Seconds that ended jobs were drawn for.", c.drawing_seconds);
    fprintf(out, "# HELP splam_http_requests_total Requests.\n# TYPE splam_http_requests_total counter\n");
    for (int code = 0; code < 600; code++)
        if (s->answers[code])
            fprintf(out, "splam_http_requests_total{code=\"%d\"} %lu\n", code, (unsigned long)s->answers[code]);
    metric(out, "splam_uptime_seconds", "gauge", "Seconds since the start.", sv_now() - s->started);
    metric(out, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)sv_resident_bytes());
}

void sv_answer_metrics(sv_exchange *x)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) write_metrics(out, x->server);
    if (out && fclose(out) != 0) {
        free(text);
        text = NULL;
    }
    sv_reply_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", text);
}
