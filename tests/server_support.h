/* What tests of the server share: a server in this process, and a client of plain sockets that can misbehave. */
#ifndef SP_TESTS_SERVER_SUPPORT_H
#define SP_TESTS_SERVER_SUPPORT_H
#include <jansson.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include "generate_support.h"
#include "image/image.h"
#include "server/base64.h"
#include "server/guard.h"
#include "server/server.h"

/* ---- the server ---- */

static inline sv_settings settings_for(void **state)
{
    static const char *model;
    sv_settings settings = sv_settings_defaults();
    model = keep(state, "teacher");
    settings.models = &model;
    settings.model_count = 1;
    settings.model_options.precision = SPLAM_F32;
    settings.listen = "127.0.0.1:0";
    return settings;
}

static inline sv_server *start_with(const sv_settings *settings)
{
    char error[SV_ERROR] = "";
    sv_server *server;
    if (sv_server_start(settings, &server, error) != SPLAM_OK) fail_msg("%s", error);
    return server;
}

/* What the log was told by this thread. */
static _Thread_local char logged[4096];
static inline void keep_log(const char *line)
{
    size_t used = strlen(logged);
    snprintf(logged + used, sizeof logged - used, "%s\n", line);
}

/* Reads keys and lists anew, and tells of it in these words. */
static inline void reload(sv_server *server, bool read, const char *words)
{
    *logged = 0;
    assert_int_equal(sv_server_reload(server), read);
    if (!strstr(logged, words)) fail_msg("\"%s\" is not in \"%s\"", words, logged);
}

static inline sv_server *start(void **state)
{
    const sv_settings settings = settings_for(state);
    return start_with(&settings);
}

/* ---- a client ---- */

typedef struct {
    int code; /* 0: there was no answer */
    char *text, *body;
    size_t length; /* of the body */
} answer;

static inline void nap(double seconds)
{
    const struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

/* "127.0.0.1:7860", "unix:PATH" */
static inline int try_to_connect(const char *where)
{
    const struct timeval patience = {.tv_sec = 120};
    sv_address address = {.length = sizeof(struct sockaddr_un)};
    struct sockaddr_un *at = (struct sockaddr_un *)&address.storage;
    if (strncmp(where, "unix:", 5) == 0) {
        at->sun_family = AF_UNIX;
        snprintf(at->sun_path, sizeof at->sun_path, "%s", where + 5);
    } else {
        assert_true(sv_address_read(where, &address));
    }
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address.storage, address.length) == 0) return fd;
    close(fd);
    return -1;
}

static inline int connect_to(const sv_server *server)
{
    int fd = try_to_connect(sv_server_address(server));
    assert_true(fd >= 0);
    return fd;
}

/* False: the other side has closed. */
static inline bool send_bytes(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

static inline bool send_text(int fd, const char *text)
{
    return send_bytes(fd, text, strlen(text));
}

/* Until the other side closes. */
static inline answer receive_all(int fd)
{
    answer a = {.text = calloc(1, 1)};
    size_t size = 0, room = 1;
    for (ssize_t got = 1; got > 0;) {
        if (room - size < 65536) a.text = realloc(a.text, room = 2 * room + 65536);
        got = recv(fd, a.text + size, room - size - 1, 0);
        if (got > 0) size += (size_t)got;
    }
    a.text[size] = 0;
    close(fd);
    char *end = strstr(a.text, "\r\n\r\n");
    a.body = end ? end + 4 : a.text + size;
    a.length = size - (size_t)(a.body - a.text);
    if (sscanf(a.text, "HTTP/1.%*d %d", &a.code) != 1) a.code = 0;
    return a;
}

static inline void release(answer *a)
{
    free(a->text);
    *a = (answer){0};
}

/* Sends a whole request and does not wait. headers: more of them, each with its \r\n. */
static inline int begin_request(const sv_server *server, const char *method, const char *path, const char *headers,
                                const char *body)
{
    int fd = connect_to(server);
    char *head = NULL, *more = strdup(headers ? headers : "");
    const char *name = sv_server_address(server);
    if (strncmp(name, "unix:", 5) == 0) name = "localhost";
    bool host = strstr(more, "Host:") != NULL, type = strstr(more, "Content-Type:") != NULL;
    assert_true(asprintf(&head, "%s %s HTTP/1.1\r\n%s%s%sConnection: close\r\n%s", method, path, host ? "" : "Host: ",
                         host ? "" : name, host ? "" : "\r\n", more) > 0);
    send_text(fd, head);
    free(head);
    if (body) {
        assert_true(asprintf(&head, "%sContent-Length: %zu\r\n\r\n", type ? "" : "Content-Type: application/json\r\n",
                             strlen(body)) > 0);
        send_text(fd, head);
        free(head);
        send_text(fd, body);
    } else {
        send_text(fd, "\r\n");
    }
    free(more);
    return fd;
}

static inline answer ask_with(const sv_server *server, const char *method, const char *path, const char *headers,
                              const char *body)
{
    return receive_all(begin_request(server, method, path, headers, body));
}

static inline answer get(const sv_server *server, const char *path)
{
    return ask_with(server, "GET", path, NULL, NULL);
}

static inline answer post(const sv_server *server, const char *path, const char *body)
{
    return ask_with(server, "POST", path, NULL, body);
}

/* The answer's object, released; it has to have this code. */
static inline json_t *expect_json(answer a, int code)
{
    if (a.code != code) fail_msg("code %d, expected %d: %.2000s", a.code, code, a.text);
    json_t *json = json_loadb(a.body, a.length, 0, NULL);
    if (!json) fail_msg("no JSON: %.2000s", a.text);
    release(&a);
    return json;
}

/* A refusal with these words. */
static inline void expect_refusal(answer a, int code, const char *words)
{
    if (a.code != code || !strstr(a.body, words))
        fail_msg("code %d, expected %d and \"%s\": %.2000s", a.code, code, words, a.text);
    release(&a);
}

static inline double number_at(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    if (!json_is_number(value)) fail_msg("%s is no number", name);
    return json_number_value(value);
}

static inline const char *text_at(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    if (!text) fail_msg("%s is no text", name);
    return text ? text : "";
}

/* One line of /metrics. */
static inline double metric(const sv_server *server, const char *name)
{
    answer a = get(server, "/metrics");
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *found = strstr(a.body, line);
    double value = found ? strtod(found + strlen(line), NULL) : 0;
    assert_int_equal(a.code, 200);
    release(&a);
    return value;
}

/* Waits until a number is at least so large. */
static inline void wait_for(const sv_server *server, const char *name, double value)
{
    for (int i = 0; i < 6000; i++) {
        if (metric(server, name) >= value) return;
        nap(.01);
    }
    fail_msg("%s is %g, expected %g", name, metric(server, name), value);
}

/* Bytes of a picture in base64. */
static inline uint8_t *decode(const json_t *text, size_t *size)
{
    uint8_t *bytes;
    assert_true(json_is_string(text));
    assert_true(sv_base64_decode(json_string_value(text), json_string_length(text), &bytes, size));
    return bytes;
}

/* ---- what is drawn ---- */

/* The file that splam_generate writes. */
static inline char *drawn_file(void **state, splam_generate_options o, const char *name, size_t *size)
{
    char *bytes;
    o.output = keep(state, name);
    generate(&o);
    assert_ok(sp_read_file(o.output, &bytes, size));
    return bytes;
}

static inline void expect_file(const json_t *text, const char *expected, size_t expected_size)
{
    size_t size;
    uint8_t *bytes = decode(text, &size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}

/* A picture to start from, 40 x 36. */
static inline char *start_picture(void **state, const char *path)
{
    sp_image image;
    char *bytes;
    size_t size;
    assert_ok(sp_image_create(40, 36, &image));
    for (int i = 0; i < 40 * 36 * 3; i++)
        image.pixels[i] = (uint8_t)(i * 7);
    assert_ok(sp_image_save_png(&image, keep(state, path), NULL, 0));
    assert_ok(sp_read_file(keep(state, path), &bytes, &size));
    char *text = sv_base64_encode((uint8_t *)bytes, size);
    sp_free(bytes);
    sp_image_free(&image);
    return text;
}

static inline json_t *submit(const sv_server *server, const char *body, char path[64])
{
    json_t *json = expect_json(post(server, "/v1/jobs", body), 202);
    snprintf(path, 64, "/v1/jobs/%s", text_at(json, "id"));
    return json;
}

static inline json_t *wait_for_end(const sv_server *server, const char *path)
{
    for (;;) {
        json_t *json = expect_json(get(server, path), 200);
        const char *now = text_at(json, "state");
        if (strcmp(now, "queued") && strcmp(now, "running")) return json;
        json_decref(json);
        nap(.01);
    }
}

static inline char *repeated(const char *head, const char *part, size_t count, const char *tail)
{
    char *text = malloc(strlen(head) + count * strlen(part) + strlen(tail) + 1), *to = stpcpy(text, head);
    for (size_t i = 0; i < count; i++)
        to = stpcpy(to, part);
    strcpy(to, tail);
    return text;
}

/* ---- events ---- */

/* Over HTTP/1.0, which has no chunks: events until the connection is closed. */
static inline int begin_stream(const sv_server *server, const char *method, const char *path, const char *body)
{
    char *request = NULL;
    int fd = connect_to(server);
    assert_true(asprintf(&request,
                         "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         "Content-Length: %zu\r\n\r\n%s",
                         method, path, strlen(body), body) > 0);
    send_text(fd, request);
    free(request);
    return fd;
}

static inline int follow(const sv_server *server, const char *path)
{
    char events[128];
    snprintf(events, sizeof events, "%s/events", path);
    return begin_stream(server, "GET", events, "");
}

/* The data of the next event of a body that *at goes through; NULL: there are no more. */
static inline json_t *next_event(char **at, char name[64])
{
    if (sscanf(*at, "event: %63[^\n]", name) != 1) return NULL;
    char *data = strstr(*at, "\ndata: "), *end = data ? strstr(data, "\n\n") : NULL;
    if (!end) fail_msg("no whole event: %.200s", *at);
    json_t *json = json_loadb(data + 7, (size_t)(end - data - 7), 0, NULL);
    assert_non_null(json);
    *at = end + 2;
    return json;
}

/* A picture in base64 of these sides. */
static inline void expect_sides(const json_t *text, int64_t width, int64_t height)
{
    splam_pictures picture;
    size_t size;
    uint8_t *file = decode(text, &size);
    assert_ok(splam_picture_decode(file, size, &picture));
    assert_true(picture.width == width && picture.height == height);
    splam_pictures_free(&picture);
    free(file);
}

/* What takes long: it is stopped before it ends. */
#define LONG_JOB "{\"prompt\": \"red apple\", \"steps\": 900, \"batch_size\": 64, \"sampler_name\": \"DDIM\"}"

#endif
