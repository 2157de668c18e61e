/* Clients of the server that are slow, leave, are too many or many at once, and its end. */
#include <pthread.h>
#include "server_support.h"
#include "server/internal.h"

static void slow_clients_are_closed(void **state)
{
    sv_settings settings = settings_for(state);
    settings.request_seconds = .5;
    sv_server *server = start_with(&settings);
    static const char *const parts[] = {
        "GET /hea",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        "",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int fd = connect_to(server);
        send_text(fd, parts[i]);
        bool open = true;
        /* A byte now and then does not keep it open. */
        for (int k = 0; k < 100 && open; k++) {
            nap(.1);
            open = i == 3 ? recv(fd, (char[1]){0}, 1, MSG_DONTWAIT) != 0 : send_text(fd, "x");
        }
        assert_false(open);
        close(fd);
    }
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

/* Whoever asks for much and reads nothing is closed, too, and what it asked for is freed. */
static void slow_readers_are_closed(void **state)
{
    sv_settings settings = settings_for(state);
    settings.answer_seconds = .5;
    sv_server *server = start_with(&settings);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL,
                           "{\"steps\": 1, \"width\": 512, \"height\": 512, \"n_iter\": 8}");
    wait_for(server, "splam_jobs_total{state=\"done\"}", 1);
    for (int i = 0; i < 100; i++) {
        nap(.1);
        if (metric(server, "splam_http_requests_total{code=\"200\"}") > 0 && !sv_server_is_busy(server)) break;
    }
    answer a = receive_all(fd);
    const char *said = strstr(a.text, "Content-Length: ");
    assert_true(said && a.length < strtoull(said + 16, NULL, 10));
    release(&a);
    sv_server_free(server);
}

static void leaving_cancels(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_steps_total", 2);
    int second = begin_request(server, "POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"steps\": 1}");
    wait_for(server, "splam_jobs_waiting", 1);
    close(second); /* while it waits */
    wait_for(server, "splam_jobs_total{state=\"cancelled\"}", 1);
    assert_true(metric(server, "splam_jobs_running") == 1);
    close(fd); /* while it is drawn */
    wait_for(server, "splam_jobs_total{state=\"cancelled\"}", 2);
    assert_true(metric(server, "splam_steps_total") < 900);
    json_decref(expect_json(post(server, "/v1/images/generations", "{\"prompt\": \"x\", \"steps\": 1}"), 200));
    sv_server_free(server);
}

static void too_many_are_told_when(void **state)
{
    sv_settings settings = settings_for(state);
    settings.queue = settings.queue_share = 2;
    sv_server *server = start_with(&settings);
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
        wait_for(server, i ? "splam_jobs_waiting" : "splam_jobs_running", i ? i : 1);
    }
    answer a = post(server, "/v1/images/generations", "{\"prompt\": \"x\"}");
    assert_int_equal(a.code, 429);
    assert_non_null(strstr(a.text, "Retry-After: "));
    assert_non_null(strstr(a.body, "rate_limit_error"));
    release(&a);
    close(fd[2]); /* whose place is free now */
    nap(.05);
    char path[64];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 1}", path));
    close(fd[1]);
    close(fd[0]);
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "done");
    json_decref(json);
    sv_server_free(server);
}

/* Connections that stay open take request after request. */
static void connections_are_kept(void **state)
{
    sv_server *server = start(state);
    int fd = connect_to(server);
    for (int i = 0; i < 3; i++) {
        static const char body[] = "{\"prompt\": \"x\", \"steps\": 1}";
        char request[512], got[4096] = "";
        snprintf(request, sizeof request,
                 "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
        assert_true(send_text(fd, request));
        size_t length = 0, whole = 1;
        while (length < whole) {
            ssize_t more = recv(fd, got + length, sizeof got - 1 - length, 0);
            assert_true(more > 0);
            length += (size_t)more;
            got[length] = 0;
            char *end = strstr(got, "\r\n\r\n"), *said = strstr(got, "Content-Length: ");
            if (end && said) whole = (size_t)(end + 4 - got) + strtoull(said + 16, NULL, 10);
            if (whole > sizeof got - 1) { /* the picture is longer than what is looked at */
                while (length < whole) {
                    char rest[4096];
                    more = recv(fd, rest, whole - length < sizeof rest ? whole - length : sizeof rest, 0);
                    assert_true(more > 0);
                    length += (size_t)more;
                }
            }
        }
        assert_int_equal(strncmp(got, "HTTP/1.1 200", 12), 0);
    }
    close(fd);
    sv_server_free(server);
}

static sv_added try_to_add(sv_queue *queue, uint64_t client, sv_job **job)
{
    sv_request *r = calloc(1, sizeof *r);
    r->options = splam_generate_defaults();
    r->options.count = r->rounds = 1;
    sv_added added = sv_queue_add(queue, r, false, client, job);
    if (added != SV_ADDED) sv_request_free(r);
    return added;
}

static sv_job *add_job(sv_queue *queue, uint64_t client)
{
    sv_job *job;
    assert_int_equal(try_to_add(queue, client, &job), SV_ADDED);
    return job;
}

/* Who ends its half of the connection counts as gone: it gets no answer of no pictures. */
static void half_a_connection_is_no_client(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_steps_total", 2);
    shutdown(fd, SHUT_WR);
    answer a = receive_all(fd);
    if (a.code != 0 && a.code < 400) fail_msg("code %d: %.200s", a.code, a.text);
    release(&a);
    sv_server_free(server);
}

/* One client cannot fill the line. */
static void clients_have_a_share(void **state)
{
    enum { ROOM = 4 };
    sv_settings settings = sv_settings_defaults();
    sv_job *jobs[ROOM], *more;
    (void)state;
    static const int64_t shares[][2] = {{1, 1}, {2, 1}, {4, 3}, {7, 6}, {8, 6}, {16, 12}};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        settings.queue = shares[i][0];
        assert_int_equal(sv_queue_share(&settings), shares[i][1]);
    }
    sv_queue *queue = sv_queue_create(ROOM, ROOM - 1);
    for (int i = 0; i < ROOM - 1; i++)
        jobs[i] = add_job(queue, 1);
    assert_int_equal(try_to_add(queue, 1, &more), SV_SHARE_FULL);
    assert_null(more);
    jobs[ROOM - 1] = add_job(queue, 2);
    assert_int_equal(try_to_add(queue, 2, &more), SV_QUEUE_FULL);
    sv_queue_close(queue);
    for (int i = 0; i < ROOM; i++)
        sv_job_release(queue, jobs[i]);
    sv_queue_destroy(queue);
}


/* Who asks for much does not keep others waiting for all of it. */
static void clients_take_turns(void **state)
{
    (void)state;
    enum { JOBS = 8 };
    static const uint64_t clients[JOBS] = {1, 1, 1, 1, 2, 2, 3, 1};
    static const int order[JOBS] = {0, 4, 6, 1, 5, 2, 3, 7};
    sv_queue *queue = sv_queue_create(JOBS, JOBS);
    sv_job *jobs[JOBS];
    for (int i = 0; i < JOBS; i++)
        jobs[i] = add_job(queue, clients[i]);
    for (int i = 0; i < JOBS; i++) {
        sv_job *taken[SV_BATCH];
        assert_int_equal(sv_queue_take(queue, taken), 1);
        assert_ptr_equal(taken[0], jobs[order[i]]);
        sv_queue_end(queue, taken[0], SPLAM_OK, NULL);
        sv_job_release(queue, taken[0]);
    }
    for (int i = 0; i < JOBS; i++)
        sv_job_release(queue, jobs[i]);
    /* More clients than are remembered. */
    for (uint64_t client = 10; client < 200; client++) {
        sv_job *job = add_job(queue, client), *taken[SV_BATCH];
        assert_int_equal(sv_queue_take(queue, taken), 1);
        assert_ptr_equal(taken[0], job);
        sv_queue_end(queue, taken[0], SPLAM_OK, NULL);
        sv_job_release(queue, taken[0]);
        sv_job_release(queue, job);
    }
    sv_queue_destroy(queue);
}

/* A request that would take too long is ended where it is: while it is drawn, and while it waits. */
static void deadlines_are_kept(void **state)
{
    sv_settings settings = settings_for(state);
    static const char slow[] = "{\"prompt\": \"x\", \"steps\": 900, \"sampler\": \"ddim\", \"deadline\": 0.3%s}";
    char body[256], path[64];
    sv_server *server = start_with(&settings);
    snprintf(body, sizeof body, slow, ", \"n\": 10");
    expect_refusal(post(server, "/v1/images/generations", body), 504, "deadline of 0.3 s");
    snprintf(body, sizeof body, slow, ", \"count\": 10");
    json_decref(submit(server, body, path));
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "failed");
    assert_non_null(strstr(text_at(json, "error"), "deadline of 0.3 s"));
    json_decref(json);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_jobs_running", 1);
    expect_refusal(post(server, "/sdapi/v1/txt2img", "{\"deadline\": 0.2}"), 504, "deadline of 0.2 s");
    assert_true(metric(server, "splam_jobs_running") == 1 && metric(server, "splam_jobs_late_total") == 3);
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"deadline\": 0}"), 400, "seconds");
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"deadline\": 1e9}"), 400, "seconds");
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"deadline\": \"1\"}"), 400, "seconds");
    close(fd);
    sv_server_free(server);
    settings.deadline_seconds = 2; /* what nobody may exceed, and what a short request keeps */
    server = start_with(&settings);
    expect_refusal(post(server, "/sdapi/v1/txt2img", LONG_JOB), 504, "deadline of 2 s");
    snprintf(body, sizeof body, "{\"prompt\": \"x\", \"steps\": 900, \"n\": 60, \"deadline\": 50}");
    expect_refusal(post(server, "/v1/images/generations", body), 504, "deadline of 2 s");
    json_decref(expect_json(post(server, "/v1/images/generations", "{\"prompt\": \"x\", \"steps\": 1}"), 200));
    sv_server_free(server);
}

typedef struct {
    const sv_server *server;
    int seed;
    char *text;
} client;

static void *ask_for_a_picture(void *context)
{
    client *c = context;
    char body[128];
    snprintf(body, sizeof body, "{\"prompt\": \"red apple\", \"steps\": 2, \"seed\": %d}", c->seed);
    answer a = post(c->server, "/v1/images/generations", body);
    json_t *json = a.code == 200 ? json_loadb(a.body, a.length, 0, NULL) : NULL;
    json_t *picture = json_array_get(json_object_get(json, "data"), 0);
    c->text = strdup(json ? json_string_value(json_object_get(picture, "b64_json")) : "");
    json_decref(json);
    release(&a);
    return NULL;
}

static void clients_at_once_get_their_own(void **state)
{
    enum { CLIENTS = 8 };
    sv_server *server = start(state);
    pthread_t thread[CLIENTS];
    client alone[CLIENTS], together[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        alone[i] = together[i] = (client){.server = server, .seed = i};
        ask_for_a_picture(&alone[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask_for_a_picture, &together[i]), 0);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(strlen(alone[i].text) > 100);
        assert_string_equal(alone[i].text, together[i].text);
        free(alone[i].text);
        free(together[i].text);
    }
    sv_server_free(server);
}

static void the_end_finishes_what_is_drawn(void **state)
{
    sv_server *server = start(state);
    char address[64];
    snprintf(address, sizeof address, "%s", sv_server_address(server));
    int drawn = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL,
                              "{\"prompt\": \"x\", \"steps\": 300, \"sampler_name\": \"DDIM\"}");
    wait_for(server, "splam_steps_total", 1);
    int waits = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, "{\"prompt\": \"x\"}");
    wait_for(server, "splam_jobs_waiting", 1);
    sv_server_close(server);
    expect_refusal(receive_all(waits), 503, "the server is stopping");
    assert_int_equal(try_to_connect(address), -1);
    json_t *json = expect_json(receive_all(drawn), 200);
    assert_int_equal(json_array_size(json_object_get(json, "images")), 1);
    json_decref(json);
    for (int i = 0; i < 1000 && sv_server_is_busy(server); i++)
        nap(.01);
    assert_false(sv_server_is_busy(server));
    sv_server_free(server);
}

static void the_end_need_not_wait(void **state)
{
    sv_server *server = start(state);
    char path[64];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 900, \"count\": 64, \"sampler\": \"ddim\"}", path));
    wait_for(server, "splam_steps_total", 1);
    int follows = follow(server, path), idle = connect_to(server),
        drawn = begin_request(server, "POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\"}");
    nap(.1);
    sv_server_free(server);
    answer a = receive_all(follows);
    assert_non_null(strstr(a.body, "\"state\":\"cancelled\""));
    release(&a);
    a = receive_all(drawn);
    assert_int_equal(a.code, 503);
    release(&a);
    close(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_clients_are_closed),
        cmocka_unit_test(slow_readers_are_closed),
        cmocka_unit_test(leaving_cancels),
        cmocka_unit_test(half_a_connection_is_no_client),
        cmocka_unit_test(too_many_are_told_when),
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(clients_have_a_share),
        cmocka_unit_test(deadlines_are_kept),
        cmocka_unit_test(clients_at_once_get_their_own),
        cmocka_unit_test(the_end_finishes_what_is_drawn),
        cmocka_unit_test(the_end_need_not_wait),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
