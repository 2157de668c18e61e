/* Requests, from their first byte to the last of the answer. */
#include "http.h"
#include <gnutls/gnutls.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "internal.h"

/* ---- connections ---- */

static void set_deadline(sv_exchange *x, double seconds)
{
    sv_server *s = x->server;
    if (!x->link) return;
    pthread_mutex_lock(&s->links_lock);
    x->link->deadline = seconds > 0 ? sv_now() + seconds : 0;
    pthread_mutex_unlock(&s->links_lock);
}

/* Before its handshake: what it shows its client for as long as it lasts. */
static void give_certificate(sv_server *s, struct MHD_Connection *connection, sv_link *link)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (!info || !info->tls_session) return;
    pthread_mutex_lock(&s->certificate_lock);
    link->certificate = sv_certificate_hold(s->certificate);
    pthread_mutex_unlock(&s->certificate_lock);
    gnutls_credentials_set(info->tls_session, GNUTLS_CRD_CERTIFICATE, sv_certificate_credentials(link->certificate));
}

static void add_link(sv_server *s, struct MHD_Connection *connection, void **out)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    sv_link *link = info ? calloc(1, sizeof *link) : NULL;
    *out = link;
    if (!link) return;
    link->socket = info->connect_fd;
    link->deadline = sv_now() + s->settings.request_seconds;
    if (s->settings.certificate) give_certificate(s, connection, link);
    pthread_mutex_lock(&s->links_lock);
    link->next = s->links;
    s->links = link;
    pthread_mutex_unlock(&s->links_lock);
}

static void remove_link(sv_server *s, sv_link *link)
{
    pthread_mutex_lock(&s->links_lock);
    sv_link **at = &s->links;
    while (*at && *at != link)
        at = &(*at)->next;
    if (*at) *at = link->next;
    pthread_mutex_unlock(&s->links_lock);
    sv_certificate_release(link->certificate);
    free(link);
}

/* The socket is open from the first call to the last. */
void sv_http_connection(void *server, struct MHD_Connection *connection, void **link,
                        enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        add_link(server, connection, link);
    else if (*link)
        remove_link(server, *link);
}

void sv_http_tend(sv_server *s)
{
    double now = sv_now();
    pthread_mutex_lock(&s->links_lock);
    for (sv_link *link = s->links; link; link = link->next)
        if (link->deadline > 0 && now > link->deadline) {
            shutdown(link->socket, SHUT_RDWR);
            link->deadline = 0;
        }
    pthread_mutex_unlock(&s->links_lock);
}

/* ---- answers ---- */

void sv_reply(sv_exchange *x, int code, const char *type, struct MHD_Response *response)
{
    if (x->response) MHD_destroy_response(x->response);
    x->code = code;
    x->response = response;
    if (!response) return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
}

void sv_reply_header(sv_exchange *x, const char *name, const char *value)
{
    if (x->response) MHD_add_response_header(x->response, name, value);
}

void sv_reply_text(sv_exchange *x, int code, const char *type, char *text)
{
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) free(text);
    sv_reply(x, code, type, response);
}

void sv_reply_json(sv_exchange *x, int code, json_t *json)
{
    sv_reply_text(x, code, "application/json", sv_json_text(json));
    if (!x->response && code != 503) sv_reply_error(x, 503, NULL, "out of memory");
}

static const char *type_of(int code)
{
    return code == 401   ? "authentication_error"
           : code == 429 ? "rate_limit_error"
           : code >= 500 ? "server_error"
                         : "invalid_request_error";
}

json_t *sv_error_json(int code, const char *field, const char *message)
{
    return json_pack("{s:s, s:s, s:s?, s:n}", "message", message, "type", type_of(code), "param", field, "code");
}

void sv_reply_error(sv_exchange *x, int code, const char *field, const char *format, ...)
{
    char raw[2048], message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    splam_visible_text(raw, message, sizeof message); /* what clients sent may be no UTF-8 */
    sv_json_begin();
    if (x->sdapi)
        sv_reply_json(x, code, json_pack("{s:s, s:s}", "error", type_of(code), "detail", message));
    else
        sv_reply_json(x, code, json_pack("{s:o}", "error", sv_error_json(code, field, message)));
}

/* ---- the body ---- */

/* Whether it has few enough values that they may be held: a value takes some hundred bytes, and as text two. */
static bool is_modest(const char *body, size_t length)
{
    size_t parts = 0;
    bool text = false;
    for (size_t i = 0; i < length; i++) {
        if (text && body[i] == '\\')
            i++;
        else if (body[i] == '"')
            text = !text;
        else if (!text)
            parts += body[i] == '[' || body[i] == '{' || body[i] == ',';
    }
    return parts <= SV_JSON_PARTS;
}

json_t *sv_exchange_json(sv_exchange *x)
{
    json_error_t error;
    if (!is_modest(x->body ? x->body : "", x->length)) {
        sv_reply_error(x, 413, NULL, "the body has more than %d values", SV_JSON_PARTS);
        return NULL;
    }
    json_t *json = json_loadb(x->body ? x->body : "", x->length, JSON_REJECT_DUPLICATES, &error);
    if (!json && sv_json_failed())
        sv_reply_error(x, 503, NULL, "out of memory");
    else if (!json)
        sv_reply_error(x, 400, NULL, "the body is no JSON: line %d: %s", error.line, error.text);
    return json;
}

static void reply_not_added(sv_exchange *x, sv_added added)
{
    char seconds[32];
    if (added == SV_QUEUE_FULL || added == SV_SHARE_FULL) {
        snprintf(seconds, sizeof seconds, "%lld", (long long)sv_queue_retry_after(x->server->queue));
        if (added == SV_QUEUE_FULL)
            sv_reply_error(x, 429, NULL, "%lld requests are waiting, and no more may; try again in %s s",
                           (long long)x->server->settings.queue, seconds);
        else
            sv_reply_error(x, 429, NULL, "%lld requests of this client are waiting, and no more may; try again in %s s",
                           (long long)sv_queue_share(&x->server->settings), seconds);
        sv_reply_header(x, "Retry-After", seconds);
    } else {
        sv_reply_error(x, 503, NULL, added == SV_QUEUE_CLOSED ? "the server is stopping" : "out of memory");
    }
}

sv_job *sv_exchange_job(sv_exchange *x, const sv_interface *interface, bool kept)
{
    sv_reading reading = {.interface = interface,
                          .models = x->server->models,
                          .may_save = x->server->settings.output_folder != NULL};
    json_t *body = sv_exchange_json(x);
    sv_request *request = body ? sv_request_read(&reading, body) : NULL;
    if (body && !request) sv_reply_error(x, reading.code, reading.field, "%s", reading.message);
    if (!request) return NULL;
    sv_job *job;
    double deadline = x->server->settings.deadline_seconds;
    request->options.memory_limit = x->server->settings.memory_limit;
    if (deadline > 0 && (request->deadline <= 0 || request->deadline > deadline)) request->deadline = deadline;
    sv_added added = sv_queue_add(x->server->queue, request, kept, x->client, &job);
    if (added == SV_ADDED) return job;
    sv_request_free(request);
    reply_not_added(x, added);
    return NULL;
}

/* ---- waiting ---- */

static void wake_exchange(sv_watcher *watcher)
{
    sv_exchange *x = (sv_exchange *)(void *)((char *)watcher - offsetof(sv_exchange, watcher));
    MHD_resume_connection(x->connection);
}

int sv_exchange_socket(const sv_exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

void sv_exchange_wait(sv_exchange *x, sv_job *job, void (*finish)(sv_exchange *x))
{
    x->job = job;
    x->finish = finish;
    x->watcher = (sv_watcher){.wake = wake_exchange, .socket = sv_exchange_socket(x), .until_end = true};
    MHD_suspend_connection(x->connection);
    if (!sv_queue_watch(x->server->queue, job, &x->watcher, 0)) MHD_resume_connection(x->connection);
}

int sv_job_failure(const sv_job *job, const sv_interface *interface, char *message, size_t size)
{
    bool told = job->status != SPLAM_IO && job->status != SPLAM_INTERNAL;
    bool theirs = job->status == SPLAM_ARGUMENT || job->status == SPLAM_SHAPE || job->status == SPLAM_UNSUPPORTED ||
                  job->status == SPLAM_FORMAT;
    sv_translate(interface, told && job->message ? job->message : splam_status_text(job->status), message, size);
    if (job->late) return 504;
    return job->status == SPLAM_CANCELLED || job->status == SPLAM_MEMORY ? 503 : theirs ? interface->refusal : 500;
}

void sv_reply_unfinished(sv_exchange *x, const sv_job *job, const sv_interface *interface)
{
    char message[1024];
    int code = sv_job_failure(job, interface, message, sizeof message);
    sv_reply_error(x, code, NULL, "%s", message);
}

/* ---- what is checked before anything is read ---- */

/* Whether a path is a route's; what its "*" stands for. */
static bool matches(const char *pattern, const char *url, char *word, size_t size)
{
    const char *star = strchr(pattern, '*');
    if (!star) return strcmp(pattern, url) == 0;
    size_t head = (size_t)(star - pattern);
    if (strncmp(pattern, url, head)) return false;
    size_t length = strcspn(url + head, "/");
    if (length == 0 || length >= size || strcmp(url + head + length, star + 1)) return false;
    snprintf(word, size, "%.*s", (int)length, url + head);
    return true;
}

enum { ALLOWED = 64, HOST = 256 };
/* 0: found; 405: `allowed` has the methods there are, "GET, POST". A HEAD is a GET whose body is not sent. */
static int find_route(sv_exchange *x, const char *url, const char *method, char allowed[ALLOWED])
{
    const char *wanted = strcmp(method, MHD_HTTP_METHOD_HEAD) ? method : MHD_HTTP_METHOD_GET;
    int code = 404;
    for (const sv_route *route = sv_routes; route->path; route++) {
        if (!matches(route->path, url, x->word, sizeof x->word)) continue;
        x->route = route;
        if (strcmp(route->method, wanted) == 0) return 0;
        snprintf(allowed + strlen(allowed), ALLOWED - strlen(allowed), "%s%s", *allowed ? ", " : "", route->method);
        code = 405;
    }
    return code;
}

static const char *header(const sv_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* The number of a key that holds now; 0: it is none. */
static uint64_t number_of_key(sv_server *s, const char *text)
{
    pthread_mutex_lock(&s->keys_lock);
    uint64_t number = sv_keys_find(&s->keys, text);
    pthread_mutex_unlock(&s->keys_lock);
    return number;
}

/* "Authorization: Bearer KEY", or Basic with the key as password, as A1111's clients have it. 0: it is none. */
static uint64_t find_key(sv_exchange *x)
{
    const char *given = header(x, MHD_HTTP_HEADER_AUTHORIZATION);
    if (given && strncasecmp(given, "Bearer ", 7) == 0) return number_of_key(x->server, given + 7);
    char *password = NULL, *user = MHD_basic_auth_get_username_password(x->connection, &password);
    uint64_t key = password ? number_of_key(x->server, password) : 0;
    MHD_free(user);
    MHD_free(password);
    return key;
}

/* Whether it may go on; x->client. */
static bool is_known(sv_exchange *x)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (x->server->settings.key_file)
        x->client = find_key(x);
    else if (x->server->listener.is_unix)
        x->client = sv_user_number(sv_exchange_socket(x));
    else
        x->client = info && info->client_addr ? sv_address_number(info->client_addr) : 0;
    return !x->server->settings.key_file || x->client;
}

static bool is_json(const char *type)
{
    static const char json[] = "application/json";
    size_t length = sizeof json - 1;
    return type && strncasecmp(type, json, length) == 0 && (!type[length] || strchr("; \t", type[length]));
}

static enum MHD_Result count_length(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    int *count = context;
    (void)kind, (void)value;
    *count += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    return MHD_YES;
}

/* The length that a body says, SIZE_MAX if none; false after an answer. */
static bool check_body(sv_exchange *x, size_t *length)
{
    const char *said = header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    size_t most = x->route->body ? x->route->body : SV_BODY_BYTES;
    *length = said ? strtoull(said, NULL, 10) : 0;
    bool chunked = header(x, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    int lengths = 0;
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, count_length, &lengths);
    if (chunked) *length = SIZE_MAX;
    if (lengths > 1) {
        sv_reply_error(x, 400, NULL, "%d lengths of the body are said, and one is expected", lengths);
        sv_reply_header(x, MHD_HTTP_HEADER_CONNECTION, "close");
    } else if (chunked)
        sv_reply_error(x, 411, NULL, "a body's length has to be said before it");
    else if (*length > most)
        sv_reply_error(x, 413, NULL, "the body has %zu bytes, and %zu are the most", *length, most);
    else if (x->route->body && *length && !is_json(header(x, MHD_HTTP_HEADER_CONTENT_TYPE)))
        sv_reply_error(x, 415, NULL, "the body has to be application/json");
    return !x->response;
}

static void take_room(sv_exchange *x, size_t length)
{
    sv_server *s = x->server;
    if (!x->route->body || !length) return;
    if (atomic_fetch_add(&s->bodies, (long)length) + (long)length > SV_BODIES_BYTES) {
        atomic_fetch_sub(&s->bodies, (long)length);
        sv_reply_error(x, 503, NULL, "too many large requests arrive at once");
        sv_reply_header(x, "Retry-After", "5");
        return;
    }
    x->room = length;
    x->body = malloc(length);
    if (!x->body) sv_reply_error(x, 503, NULL, "out of memory");
}

/* The path of a request whose target may be a whole URL, as one sent by way of a proxy: then `host` is whom that names,
 * which counts instead of the header (RFC 9112, 3.2.2); else "". */
static const char *path_of(const char *url, char host[HOST])
{
    *host = 0;
    const char *name = strncasecmp(url, "http://", 7) == 0    ? url + 7
                       : strncasecmp(url, "https://", 8) == 0 ? url + 8
                                                              : NULL;
    if (!name) return url;
    size_t length = strcspn(name, "/");
    snprintf(host, HOST, "%.*s", (int)(length < HOST ? length : HOST), name);
    return name[length] ? name + length : "/";
}

/* Answers what must not go on. */
static void check(sv_exchange *x, const char *url, const char *method, size_t *length)
{
    const sv_settings *settings = &x->server->settings;
    const char *host = header(x, MHD_HTTP_HEADER_HOST), *origin = header(x, MHD_HTTP_HEADER_ORIGIN);
    char allowed[ALLOWED] = "", named[HOST];
    const char *path = path_of(url, named);
    if (path != url) host = named;
    int code = find_route(x, path, method, allowed);
    x->sdapi = x->route ? x->route->style == SV_SDAPI : strncmp(path, "/sdapi/", 7) == 0;
    if (!sv_host_is_ours(host, settings->hosts, settings->host_count))
        sv_reply_error(x, 403, NULL, "this server is not called \"%.128s\"; --host names what it is called",
                       host ? host : "");
    else if (origin && !sv_origin_is_ours(origin, host))
        sv_reply_error(x, 403, NULL, "pages of other sites are not answered");
    else if (code == 404)
        sv_reply_error(x, 404, NULL, "there is nothing at this path");
    else if (code) {
        sv_reply_error(x, 405, NULL, "%.16s is not what this path takes", method);
        sv_reply_header(x, MHD_HTTP_HEADER_ALLOW, allowed);
    } else if (x->route->access != SV_OPEN && !is_known(x)) {
        sv_reply_error(x, 401, NULL, "a key is missing or wrong: Authorization: Bearer KEY");
        sv_reply_header(x, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    } else if (x->route->access == SV_DRAWS && !settings->model_count)
        sv_reply_error(x, 404, NULL, "this server draws nothing: it was begun without a model");
    if (!x->response && check_body(x, length)) take_room(x, *length);
}

/* ---- from libmicrohttpd ---- */

static enum MHD_Result queue_response(sv_exchange *x)
{
    if (!x->response) return MHD_NO; /* out of memory: the connection is closed */
    set_deadline(x, x->streams ? 0 : x->server->settings.answer_seconds);
    return MHD_queue_response(x->connection, (unsigned)x->code, x->response);
}

static enum MHD_Result begin(sv_server *s, struct MHD_Connection *connection, const char *url, const char *method,
                             void **state)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    sv_exchange *x = calloc(1, sizeof *x);
    size_t length = 0;
    if (!x) return MHD_NO;
    *state = x;
    x->server = s;
    x->connection = connection;
    x->link = info ? info->socket_context : NULL;
    x->began = sv_now();
    atomic_fetch_add(&s->exchanges, 1);
    check(x, url, method, &length);
    /* A refusal goes out behind a body that is small, for a client that is still sending may not read; ahead of one
     * that is large or of any length. */
    return x->response && length > SV_BODY_BYTES ? queue_response(x) : MHD_YES;
}

enum MHD_Result sv_http_handle(void *server, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *size, void **state)
{
    sv_exchange *x = *state;
    (void)version;
    if (!x) return begin(server, connection, url, method, state);
    if (*size) {
        size_t room = x->room - x->length, taken = *size < room ? *size : room;
        if (x->body && !x->response) {
            memcpy(x->body + x->length, data, taken);
            x->length += taken;
        }
        *size = 0;
        return MHD_YES;
    }
    set_deadline(x, 0);
    if (!x->response) {
        sv_json_begin();
        if (x->finish)
            x->finish(x);
        else
            x->route->answer(x);
        if (x->finish && !x->code) return MHD_YES; /* it waits */
    }
    return queue_response(x);
}

size_t sv_http_unescape(void *server, struct MHD_Connection *connection, char *text)
{
    (void)server, (void)connection;
    size_t length = MHD_http_unescape(text);
    if (strlen(text) == length) return length;
    *text = 0;
    return 0;
}

void sv_http_completed(void *server, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code)
{
    sv_server *s = server;
    sv_exchange *x = *state;
    (void)connection;
    if (!x) return;
    set_deadline(x, s->settings.request_seconds); /* for the next one */
    if (x->code > 0 && x->code < 600) atomic_fetch_add(&s->answers[x->code], 1);
    sv_log(s, "%s %s %d %.3f s%s", x->route ? x->route->method : "-", x->route ? x->route->path : "-", x->code,
           sv_now() - x->began, code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : ", its client has left");
    if (x->response) MHD_destroy_response(x->response);
    if (x->job) sv_job_release(s->queue, x->job);
    atomic_fetch_sub(&s->bodies, (long)x->room);
    free(x->body);
    free(x);
    *state = NULL;
    atomic_fetch_sub(&s->exchanges, 1);
}
