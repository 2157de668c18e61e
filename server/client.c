/* A request of pictures: HTTP/1.1, a connection for each exchange, answers with their lengths. */
#include "client.h"
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base64.h"
#include "guard.h"
#include "json.h"
#include "limits.h"
#include "request.h"
#include "wire.h"

enum { MOST_ANSWER = 512 << 20 };

typedef struct {
    const sv_client_settings *settings;
    const splam_generate_options *options;
    const splam_callbacks *callbacks;
    sv_peer peer;
    sv_keys keys;
    char *error;
    char id[64]; /* of the job; "": none yet */
} client;

static splam_status fail(const client *c, splam_status status, const char *format, ...)
{
    char raw[SV_CLIENT_ERROR];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    splam_visible_text(raw, c->error, SV_CLIENT_ERROR); /* a server's words are anybody's */
    return status;
}

/* ---- an exchange ---- */

static bool send_request(const client *c, const sv_wire *wire, const char *method, const char *path, const char *body)
{
    char *head = NULL;
    const sv_peer *p = &c->peer;
    bool six = strchr(p->host, ':') != NULL, port = *p->port && strcmp(p->port, p->tls ? "443" : "80");
    const char *key = c->keys.count ? c->keys.key[0].text : NULL;
    int length =
        asprintf(&head,
                 "%s %s HTTP/1.1\r\nHost: %s%s%s%s%s\r\nConnection: close\r\n%s%s%s"
                 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                 method, path, six ? "[" : "", p->host, six ? "]" : "", port ? ":" : "", port ? p->port : "",
                 key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "", body ? strlen(body) : 0);
    bool sent = length > 0 && sv_wire_send(wire, head, (size_t)length) &&
                (!body || sv_wire_send(wire, body, strlen(body)));
    if (length > 0) free(head);
    return sent;
}

/* Whether the answer is whole: as long as it says. */
static bool is_whole(const char *text, const char *body, size_t length)
{
    const char *said = strcasestr(text, "\r\nContent-Length: ");
    return said && said < body && strtoull(said + 18, NULL, 10) == length;
}

/* All that is answered, new; NULL: not all of it came. */
static splam_status converse(const client *c, const char *method, const char *path, const char *body, char **text,
                             size_t *size)
{
    char error[SV_CLIENT_ERROR];
    sv_wire wire;
    splam_status status = SPLAM_OK;
    *text = NULL;
    if (sv_wire_open(&c->peer, &wire, error, sizeof error)) {
        /* A server that refuses a large body may answer before it has read it. */
        send_request(c, &wire, method, path, body);
        *text = sv_wire_receive(&wire, MOST_ANSWER, size);
    } else {
        status = fail(c, SPLAM_IO, "%s", error);
    }
    sv_wire_close(&wire);
    return status;
}

/* The object that is answered, new, and the code. */
static splam_status exchange(const client *c, const char *method, const char *path, const char *body, int *code,
                             json_t **out)
{
    size_t size = 0;
    char *text;
    *out = NULL;
    sv_json_begin();
    splam_status status = converse(c, method, path, body, &text, &size);
    if (status) return status;
    char *end = text ? strstr(text, "\r\n\r\n") : NULL;
    if (!end || sscanf(text, "HTTP/1.%*d %3d", code) != 1 || !is_whole(text, end, size - (size_t)(end + 4 - text)))
        status = fail(c, SPLAM_IO, "%s: the answer is none, or not whole", c->settings->server);
    else if (!(*out = json_loadb(end + 4, size - (size_t)(end + 4 - text), 0, NULL)))
        status = sv_json_failed() ? fail(c, SPLAM_MEMORY, "out of memory for the answer")
                                  : fail(c, SPLAM_IO, "%s: the answer is no JSON", c->settings->server);
    free(text);
    return status;
}

/* A refusal in the server's words. */
static splam_status refused(const client *c, int code, const json_t *json)
{
    const char *message = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    bool ours = code == 400 || code == 404 || code == 413;
    return fail(c, ours ? SPLAM_ARGUMENT : SPLAM_IO, "%s: %s (HTTP %d)", c->settings->server,
                message ? message : "refused", code);
}

/* ---- the request ---- */

/* Sent otherwise, or what the client does itself. */
static bool is_own(const char *name)
{
    static const char *const names[] = {"model", "output", "format", "init_image", "loras", "seed", "prompt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static const sv_field *find_field(const char *option)
{
    const sv_field *field;
    for (size_t i = 0; (field = sv_field_at(&sv_own_interface, i)); i++)
        if (field->option && strcmp(field->option, option) == 0) break;
    return field;
}

/* The value of an option that is not its default, new; NULL: it is. */
static json_t *value_of(const splam_option *o, const void *given, const void *standard)
{
    const char *text;
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        return *(const bool *)given != *(const bool *)standard ? json_boolean(*(const bool *)given) : NULL;
    case SPLAM_OPTION_TEXT:
    case SPLAM_OPTION_CHOICE:
        text = *(const char *const *)given;
        return text ? json_string(text) : NULL;
    case SPLAM_OPTION_ENUM:
        if (*(const int *)given == *(const int *)standard) return NULL;
        text = o->choices;
        for (int i = *(const int *)given; i > 0 && text; i--)
            if ((text = strchr(text, '|'))) text++;
        return text ? json_stringn(text, strcspn(text, "|")) : json_null();
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES:
        return *(const int64_t *)given != *(const int64_t *)standard ? json_integer(*(const int64_t *)given) : NULL;
    case SPLAM_OPTION_NUMBER:
        return *(const double *)given != *(const double *)standard ? json_real(*(const double *)given) : NULL;
    case SPLAM_OPTION_EMBEDDINGS:
        return *(const size_t *)(const void *)((const char *)given - o->offset + o->beside) ? json_true() : NULL;
    default:
        return NULL;
    }
}

static bool is_text(const splam_option *o)
{
    return o->kind == SPLAM_OPTION_TEXT || o->kind == SPLAM_OPTION_CHOICE;
}

static splam_status no_unicode(const client *c, const char *name)
{
    return sv_json_failed() ? fail(c, SPLAM_MEMORY, "out of memory for the request")
                            : fail(c, SPLAM_ARGUMENT, "`%s` is no UTF-8, and a server takes nothing else", name);
}

static splam_status add_text(const client *c, json_t *body, const char *name, const char *text)
{
    json_t *value = text ? json_string(text) : NULL;
    if (text && !value) return no_unicode(c, name);
    if (text) json_object_set_new(body, name, value);
    return SPLAM_OK;
}

static splam_status add_options(const client *c, json_t *body)
{
    const splam_generate_options standard = splam_generate_defaults();
    const splam_option *o;
    for (size_t i = 0; (o = splam_option_at("generate", i)); i++) {
        const void *given = (const char *)c->options + o->offset;
        json_t *value = is_own(o->name) ? NULL : value_of(o, given, (const char *)&standard + o->offset);
        if (!value && !is_own(o->name) && is_text(o) && *(const char *const *)given) return no_unicode(c, o->name);
        if (!value) continue;
        if (!find_field(o->name)) {
            json_decref(value);
            return fail(c, SPLAM_ARGUMENT, "`%s` is not for a server, which has its own", o->name);
        }
        json_object_set_new(body, find_field(o->name)->name, value);
    }
    return SPLAM_OK;
}

static splam_status add_image(const client *c, json_t *body)
{
    const char *path = c->options->init_image;
    if (!path) return SPLAM_OK;
    FILE *file = fopen(path, "re");
    uint8_t *bytes = file ? malloc(SV_PICTURE_BODY_BYTES) : NULL;
    size_t size = bytes ? fread(bytes, 1, SV_PICTURE_BODY_BYTES, file) : 0;
    splam_status status = SPLAM_OK;
    if (!file || (bytes && ferror(file)))
        status = fail(c, SPLAM_IO, "%s: cannot be read: %s", path, strerror(errno));
    else if (!bytes)
        status = fail(c, SPLAM_MEMORY, "%s: out of memory", path);
    else if (size >= SV_PICTURE_BODY_BYTES * 3 / 4 - SV_BODY_BYTES)
        status = fail(c, SPLAM_IO, "%s is too large: a picture of at most 23 MB is sent", path);
    else
        json_object_set_new(body, "init_image", sv_json_base64(bytes, size));
    free(bytes);
    if (file) fclose(file);
    return status;
}

static splam_status add_loras(const client *c, json_t *body)
{
    const splam_generate_options *o = c->options;
    if (!o->lora_count) return SPLAM_OK;
    json_t *loras = json_array();
    splam_status status = SPLAM_OK;
    for (size_t i = 0; i < o->lora_count && !status; i++) {
        json_t *lora = json_pack("{s:s, s:f}", "name", o->loras[i].path, "weight", o->loras[i].weight);
        if (!lora) status = no_unicode(c, "loras");
        json_array_append_new(loras, lora);
    }
    json_object_set_new(body, "loras", loras);
    return status;
}

static void add_seed(const splam_generate_options *o, json_t *body)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)o->seed);
    json_object_set_new(body, "seed", o->random_seed ? json_integer(-1) : json_string(digits));
}

static splam_status make_body(const client *c, const char *format, json_t *body)
{
    const splam_generate_options *o = c->options;
    if (!o->prompt) return fail(c, SPLAM_ARGUMENT, "`prompt` is missing: a server takes one");
    add_seed(o, body);
    splam_status status = add_text(c, body, "prompt", o->prompt);
    if (!status) status = add_text(c, body, "format", format);
    if (!status) status = add_text(c, body, "model", o->model);
    if (!status) status = add_loras(c, body);
    if (!status) status = add_options(c, body);
    return status ? status : add_image(c, body);
}

/* ---- the job ---- */

static bool is_cancelled(const client *c)
{
    return c->callbacks && c->callbacks->cancelled && c->callbacks->cancelled(c->callbacks->context);
}

static void report(const client *c, const json_t *job)
{
    const char *task = json_string_value(json_object_get(job, "task"));
    if (!c->callbacks || !c->callbacks->report || !task) return;
    c->callbacks->report(c->callbacks->context, task, json_integer_value(json_object_get(job, "step")),
                         json_integer_value(json_object_get(job, "steps")), NULL);
}

static splam_status submit(client *c, const char *format)
{
    int code = 0;
    json_t *job;
    sv_json_begin();
    json_t *body = json_object();
    splam_status status = make_body(c, format, body);
    if (status) {
        json_decref(body);
        return status;
    }
    char *text = sv_json_text(body);
    status = text ? exchange(c, "POST", "/v1/jobs", text, &code, &job)
                  : fail(c, SPLAM_MEMORY, "out of memory for the request");
    free(text);
    if (status) return status;
    const char *id = json_string_value(json_object_get(job, "id"));
    if (code != 202)
        status = refused(c, code, job);
    else if (!id || strlen(id) >= sizeof c->id || strspn(id, "0123456789abcdef") != strlen(id))
        status = fail(c, SPLAM_IO, "%s: the answer has no job", c->settings->server);
    else
        snprintf(c->id, sizeof c->id, "%s", id);
    json_decref(job);
    return status;
}

/* Asks until it has ended. */
static splam_status await(client *c, json_t **out)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    char path[96];
    snprintf(path, sizeof path, "/v1/jobs/%s", c->id);
    for (;;) {
        int code = 0;
        if (is_cancelled(c)) return fail(c, SPLAM_CANCELLED, "interrupted");
        splam_status status = exchange(c, "GET", path, NULL, &code, out);
        if (status) return status;
        const char *state = json_string_value(json_object_get(*out, "state"));
        if (code != 200 || !state) {
            status = refused(c, code, *out);
            json_decref(*out);
            return status;
        }
        if (strcmp(state, "queued") && strcmp(state, "running")) return SPLAM_OK;
        report(c, *out);
        json_decref(*out);
        nanosleep(&pause, NULL);
    }
}

/* Cancels it, or frees its result. */
static void forget(client *c)
{
    char path[96], own[SV_CLIENT_ERROR];
    json_t *answer;
    int code;
    client quiet = *c;
    if (!*c->id) return;
    quiet.error = own;
    snprintf(path, sizeof path, "/v1/jobs/%s", c->id);
    if (exchange(&quiet, "DELETE", path, NULL, &code, &answer) == SPLAM_OK) json_decref(answer);
}

static splam_status write_pictures(const client *c, const json_t *job, splam_picture_output *output)
{
    size_t i;
    const json_t *picture;
    const json_t *list = json_object_get(job, "pictures"), *warnings = json_object_get(job, "warnings");
    json_array_foreach(warnings, i, picture) if (c->settings->say && json_is_string(picture))
        c->settings->say(json_string_value(picture));
    json_array_foreach(list, i, picture)
    {
        const json_t *text = json_object_get(picture, "b64_json"),
                     *seed = json_object_get(json_object_get(picture, "info"), "seed");
        uint8_t *bytes = NULL;
        size_t size;
        if (!json_is_string(text) ||
            !sv_base64_decode(json_string_value(text), json_string_length(text), &bytes, &size))
            return fail(c, SPLAM_IO, "%s: picture %zu is no base64", c->settings->server, i);
        splam_status status = splam_picture_output_write(output, (int64_t)i, bytes, size);
        free(bytes);
        if (status) return fail(c, status, "%s", splam_error_message());
        if (i == 0 && c->options->seed_used && json_is_integer(seed))
            *c->options->seed_used = (uint64_t)json_integer_value(seed);
    }
    return SPLAM_OK;
}

static splam_status finish(const client *c, const json_t *job, int64_t count, splam_picture_output *output)
{
    const char *state = json_string_value(json_object_get(job, "state"));
    const char *why = json_string_value(json_object_get(job, "error"));
    if (strcmp(state, "done"))
        return fail(c, SPLAM_IO, "%s: the job is %s: %s", c->settings->server, state, why ? why : "nobody says why");
    if ((int64_t)json_array_size(json_object_get(job, "pictures")) != count)
        return fail(c, SPLAM_IO, "%s: %zu pictures came, and %lld were asked for", c->settings->server,
                    json_array_size(json_object_get(job, "pictures")), (long long)count);
    return write_pictures(c, job, output);
}

static splam_status draw(client *c, int64_t count, splam_picture_output *output)
{
    json_t *job = NULL;
    splam_status status = submit(c, splam_picture_output_format(output));
    if (!status) status = await(c, &job);
    if (!status) {
        status = finish(c, job, count, output);
        json_decref(job);
    }
    forget(c);
    return status;
}

splam_status sv_client_generate(const sv_client_settings *settings, const splam_generate_options *o,
                                const splam_callbacks *callbacks, char error[SV_CLIENT_ERROR])
{
    client c = {.settings = settings, .options = o, .callbacks = callbacks, .error = error};
    splam_picture_output *output = NULL;
    int64_t count = o->count == SPLAM_UNSET ? 1 : o->count;
    *error = 0;
    sv_json_watch();
    char reason[SV_CLIENT_ERROR];
    splam_status status = sv_peer_read(settings->server, settings->ca_file, &c.peer, reason, sizeof reason);
    if (status) fail(&c, status, "%s", reason);
    if (!status && settings->key_file && !sv_keys_read(settings->key_file, NULL, &c.keys, error, SV_CLIENT_ERROR))
        status = SPLAM_IO;
    if (!status) {
        status = splam_picture_output_open(o->output, o->format, count, &output);
        if (status) fail(&c, status, "%s", splam_error_message());
    }
    if (!status) status = draw(&c, count, output);
    splam_picture_output_close(output);
    sv_keys_free(&c.keys);
    sv_peer_free(&c.peer);
    return status;
}
