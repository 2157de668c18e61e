/* Whole requests through libmicrohttpd to the server's handlers and back, on one thread: what arrives on a socket, what
 * is drawn of it by a model that is none (stub_model.c), and the answer.
 *
 * An input that begins with a method and has no "HTTP/" in its first line is a request in short: METHOD PATH, headers
 * and a body behind an empty line; Host, Content-Type and Content-Length are put to it where they are missing. Any
 * other input is sent as it is. A line "----" begins another request, on a connection and of a client of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/internal.h"

enum { MOST_REQUESTS = 4, MOST_BYTES = 1 << 16, TURNS = 400 };

static sv_server *server;

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_http: %s\n", what);
    exit(1);
}

/* A folder with a run that is watched, and one for pictures. */
static void fill_settings(sv_settings *s)
{
    static const char *const models[] = {"teacher"}, *const watched[] = {"/tmp/splam-fuzz-run"};
    *s = sv_settings_defaults();
    s->models = models;
    s->model_count = 1;
    s->watched = watched;
    s->watched_count = 1;
    s->queue = 8;
    s->log_prompts = true;
}

/* libmicrohttpd wants a socket to listen at, under a name that nobody knows. */
static bool listen_nowhere(void)
{
    const struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = server->listener.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address.sun_family) == 0 && listen(fd, 1) == 0;
}

static void begin(void)
{
    static sv_models_settings models;
    char error[SV_ERROR];
    server = calloc(1, sizeof *server);
    if (!server) fail("out of memory");
    fill_settings(&server->settings);
    if (!listen_nowhere()) fail("no socket");
    pthread_mutex_init(&server->links_lock, NULL);
    models = (sv_models_settings){.models = server->settings.models, .model_count = 1,
                                  .options = &server->settings.model_options, .opening = &server->settings.opening};
    if (sv_models_create(&models, &server->models, error, sizeof error)) fail(error);
    server->openapi = sv_openapi_make(false);
    server->queue = sv_queue_create(server->settings.queue, sv_queue_share(&server->settings));
    server->runs = sv_runs_create(server->settings.watched, 1);
    server->daemon = sv_daemon_start(server, MHD_USE_EPOLL);
    if (!server->openapi || !server->queue || !server->runs || !server->daemon) fail("the server cannot begin");
}

/* ---- requests ---- */

typedef struct {
    char bytes[MOST_BYTES + 512];
    size_t size;
    int socket; /* -1: it has been answered, or left */
} request;

static bool has_header(const char *head, size_t length, const char *name)
{
    for (size_t i = 0; i + strlen(name) < length; i++)
        if (strncasecmp(head + i, name, strlen(name)) == 0) return true;
    return false;
}

static void put(request *r, const void *bytes, size_t size)
{
    if (size > sizeof r->bytes - r->size) size = sizeof r->bytes - r->size;
    memcpy(r->bytes + r->size, bytes, size);
    r->size += size;
}

static void put_text(request *r, const char *text)
{
    put(r, text, strlen(text));
}

static void compose(request *r, const char *text, size_t size)
{
    const char *line = memchr(text, '\n', size), *end = memmem(text, size, "\n\n", 2);
    size_t first = line ? (size_t)(line - text) : size, head = end ? (size_t)(end - text) : size;
    const char *body = end ? end + 2 : text + size;
    size_t length = (size_t)(text + size - body);
    char said[64];
    put(r, text, first);
    put_text(r, " HTTP/1.1\r\n");
    for (size_t at = first + 1; at < head;) {
        const char *stop = memchr(text + at, '\n', head - at);
        size_t part = stop ? (size_t)(stop - text) - at : head - at;
        put(r, text + at, part);
        put_text(r, "\r\n");
        at += part + 1;
    }
    if (!has_header(text, head, "Host:")) put_text(r, "Host: localhost\r\n");
    if (!has_header(text, head, "Content-Type:")) put_text(r, "Content-Type: application/json\r\n");
    snprintf(said, sizeof said, "Content-Length: %zu\r\n", length);
    if (length && !has_header(text, head, "Content-Length:")) put_text(r, said);
    put_text(r, "\r\n");
    put(r, body, length);
}

static void read_request(request *r, const char *text, size_t size)
{
    const char *line = memchr(text, '\n', size);
    size_t first = line ? (size_t)(line - text) : size;
    bool raw = memmem(text, first, "HTTP/", 5) || size < 4;
    r->size = 0;
    r->socket = -1;
    if (raw)
        put(r, text, size);
    else
        compose(r, text, size);
}

static size_t read_requests(request *all, const char *text, size_t size)
{
    static const char between[] = "\n----\n";
    size_t count = 0;
    while (count < MOST_REQUESTS) {
        const char *end = memmem(text, size, between, sizeof between - 1);
        size_t length = end ? (size_t)(end - text) : size;
        read_request(&all[count++], text, length);
        if (!end) break;
        size -= length + sizeof between - 1;
        text = end + sizeof between - 1;
    }
    return count;
}

/* ---- connections ---- */

/* Of a client of its own. */
static void connect_request(request *r, size_t number)
{
    const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001 + (unsigned)number)};
    int pair[2], room = 1 << 18;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) fail("no sockets");
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (send(pair[0], r->bytes, r->size, MSG_NOSIGNAL) < 0) fail("a request is too large for a socket");
    r->socket = pair[0];
    if (MHD_add_connection(server->daemon, pair[1], (const struct sockaddr *)&from, sizeof from) != MHD_YES) {
        close(r->socket);
        r->socket = -1;
    }
}

static void leave(request *r)
{
    if (r->socket >= 0) close(r->socket);
    r->socket = -1;
}

/* True: something came. The other side has closed: it leaves too. */
static bool receive(request *r)
{
    static char bytes[1 << 16];
    ssize_t got = r->socket >= 0 ? recv(r->socket, bytes, sizeof bytes, 0) : -1;
    if (got == 0) leave(r);
    return got > 0;
}

static void draw_waiting(void)
{
    sv_job *jobs[SV_BATCH];
    sv_queue_counts counts;
    sv_queue_count(server->queue, &counts);
    if (counts.waiting) sv_draw_jobs(server, jobs, sv_queue_take(server->queue, jobs));
}

static unsigned connections(void)
{
    return MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/* Until nothing happens any more: whoever waits then leaves. */
static void serve(request *all, size_t count)
{
    enum { PATIENCE = 3 };
    for (int turn = 0, idle = 0; turn < TURNS && idle < PATIENCE; turn++) {
        bool came = false;
        MHD_run(server->daemon);
        draw_waiting();
        for (size_t i = 0; i < count; i++)
            came |= receive(&all[i]);
        idle = came ? 0 : idle + 1;
    }
    for (size_t i = 0; i < count; i++)
        leave(&all[i]);
    for (int turn = 0; turn < TURNS && connections(); turn++) {
        MHD_run(server->daemon);
        sv_queue_tend(server->queue);
        draw_waiting();
    }
    if (connections()) abort(); /* one that nobody ends */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static request requests[MOST_REQUESTS];
    static unsigned long runs;
    if (!server) begin();
    if (size > MOST_BYTES) return 0;
    size_t count = read_requests(requests, (const char *)data, size);
    for (size_t i = 0; i < count; i++)
        connect_request(&requests[i], i);
    serve(requests, count);
    if (runs++ % 256 == 0) sv_runs_read(server->runs);
    return 0;
}
