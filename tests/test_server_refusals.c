/* What the server refuses: requests, sizes, bytes that are no HTTP, keys, settings. */
#include "server_support.h"

static void requests_are_refused(void **state)
{
    static const struct {
        const char *method, *path, *headers, *body;
        int code;
        const char *words;
    } cases[] = {
        {"GET", "/nothing", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/sdapi/v1/nothing", NULL, NULL, 404, "\"detail\":\"there is nothing at this path\""},
        {"GET", "http://localhost/nothing", NULL, NULL, 404, "nothing at this path"},
        {"GET", "http://evil.example/health", NULL, NULL, 403, "evil.example"},
        {"GET", "http:///health", NULL, NULL, 403, "this server is not called"},
        {"GET", "/%00", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/health%00x", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/0/../../x", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/0123456789abcdef0123456789abcdef", NULL, NULL, 404, "no such job"},
        {"GET", "/v1/images/generations", NULL, NULL, 405, "GET is not"},
        {"PUT", "/v1/jobs", NULL, "{}", 405, "PUT is not"},
        {"POST", "/v1/images/edits", NULL, "{}", 501, "not supported"},
        {"POST", "/v1/jobs", NULL, "", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\"", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "[]", 400, "no object"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"a\", \"prompt\": \"b\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"\xff\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"a\\u0000b\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{}", 400, "a prompt is missing"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": 5}", 400, "prompt is no text"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"output\": \"/etc/passwd\"}", 400, "no field \\\"output\\\""},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"noise\": \"/etc/passwd\"}", 400, "no field \\\"noise\\\""},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"model\": \"../teacher\"}", 404, "no such model"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": 0}", 400, "steps is 0"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": 2.5}", 400, "whole number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": \"2\"}", 400, "steps is no number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"seed\": -2}", 400, "seed is no whole number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"sampler\": \"magic\"}", 400, "one of lcm|"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"guidance\": 1e9}", 400, "a number from 0 to 1000"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 33}", 400, "a multiple of 4"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 16384, \"height\": 16384}", 400, "are the most"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"count\": 65}", 400, "64 are the most"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 1024, \"height\": 1024, \"count\": 17}", 400,
         "pixels are the most"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"size\": \"32\"}", 400, "WIDTHxHEIGHT"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"size\": \"32x32x32\"}", 400, "WIDTHxHEIGHT"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"response_format\": \"url\"}", 400, "b64_json"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"stream\": 1}", 400, "stream is no"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"stream\": true, \"n\": 2}", 400,
         "stream has one"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"partial_images\": 2}", 400, "for stream"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"stream\": true, \"partial_images\": 4}", 400,
         "from 0 to 3"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"quality\": \"hd\"}", 400,
         "quality is not supported: "},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"quality\": \"auto|standard\"}", 400,
         "quality is not supported: "},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"magic\": 1}", 400, "no field"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"enable_hr\": true}", 422, "enable_hr is not supported: false is all"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"alwayson_scripts\": {\"x\": 1}}", 422, "alwayson_scripts is not"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"save_images\": true}", 422, "has no folder for pictures"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"sampler_name\": \"Magic\"}", 404, "Sampler not found"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"sampler_name\": \"DDIM\", \"eta\": 1.5}", 422, "from 0 to 1"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"sampler_name\": \"Euler a\", \"eta\": 0}", 422,
         "eta is supported as 1 alone"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"prompt\": \"<lora:x:1>\"}", 404, "no LoRA"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"override_settings\": {\"eta_ddim\": 1}}", 422, "eta_ddim is not"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"override_settings\": {\"sd_model_checkpoint\": \"x\"}}", 404,
         "no such model"},
        {"POST", "/sdapi/v1/img2img", NULL, "{\"mask\": \"AAAA\"}", 422, "mask is not supported"},
        {"POST", "/v1/jobs", "Content-Type: text/plain\r\n", "{}", 415, "application/json"},
        {"POST", "/v1/jobs", "Content-Type: application/jsonp\r\n", "{}", 415, "application/json"},
        {"POST", "/v1/jobs", "Transfer-Encoding: chunked\r\n", NULL, 411, "length has to be said"},
        {"GET", "/health", "Host: evil.example\r\n", NULL, 403, "evil.example"},
        {"GET", "/health", "Host: evil.example:7860\r\n", NULL, 403, "--host"},
        {"GET", "/health", "Host: localhost.evil.example\r\n", NULL, 403, "--host"},
        {"POST", "/v1/jobs", "Origin: http://evil.example\r\n", "{}", 403, "other sites"},
        {"POST", "/sdapi/v1/interrupt", "Origin: null\r\n", "", 403, "other sites"},
    };
    sv_server *server = start(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = ask_with(server, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
        if (a.code != cases[i].code || !strstr(a.body, cases[i].words))
            fail_msg("case %zu, %s %s %s: code %d, expected %d and \"%s\": %.1000s", i, cases[i].method, cases[i].path,
                     cases[i].body, a.code, cases[i].code, cases[i].words, a.text);
        json_t *json = json_loadb(a.body, a.length, 0, NULL);
        assert_non_null(json);
        json_decref(json);
        release(&a);
    }
    expect_refusal(ask_with(server, "GET", "/health", "Host: localhost:1\r\nOrigin: http://localhost:1\r\n", NULL), 200,
                   "ok");
    expect_refusal(ask_with(server, "GET", "HTTP://127.0.0.1:99/health", "Host: elsewhere.example\r\n", NULL), 200,
                   "ok");
    assert_true(metric(server, "splam_jobs_total{state=\"done\"}") == 0);
    sv_server_free(server);
}

static void large_requests_are_refused(void **state)
{
    sv_server *server = start(state);
    char *body = repeated("{\"prompt\": \"", "x", 17000, "\"}");
    expect_refusal(post(server, "/v1/jobs", body), 400, "16384 are the most");
    free(body);
    body = repeated("{\"prompt\": \"", "x", 1 << 20, "\"}");
    expect_refusal(post(server, "/sdapi/v1/txt2img", body), 413, "1048576 are the most");
    free(body);
    body = repeated("[", "[],", 30000, "[]]");
    expect_refusal(post(server, "/v1/jobs", body), 413, "more than 20000 values");
    free(body);
    body = repeated("{\"prompt\": \"[[[,,,\\\"", ",", 16000, "\", \"steps\": 0}"); /* signs in a text are no values */
    expect_refusal(post(server, "/v1/jobs", body), 400, "steps is 0");
    free(body);
    body = repeated("", "[", 15000, "");
    expect_refusal(post(server, "/v1/jobs", body), 400, "no JSON");
    free(body);
    /* Only said, and never sent. */
    int fd = connect_to(server);
    send_text(fd, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  "Content-Length: 99999999999\r\nConnection: close\r\n\r\n");
    expect_refusal(receive_all(fd), 413, "are the most");
    body = repeated("GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", "x", 40000, "\r\nConnection: close\r\n\r\n");
    fd = connect_to(server);
    send_text(fd, body);
    answer a = receive_all(fd);
    assert_true(a.code == 0 || a.code == 431 || a.code == 413);
    release(&a);
    free(body);
    body = repeated("GET /", "x", 40000, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    fd = connect_to(server);
    send_text(fd, body);
    a = receive_all(fd);
    assert_true(a.code == 0 || a.code == 414 || a.code == 431);
    release(&a);
    free(body);
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

static void no_http_at_all(void **state)
{
    static const char *const texts[] = {
        "\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "GET /health HTTP/1.1\r\n\r\n",
        "A B C D E\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 25\r\n\r\n",
        "GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", "GET /%00%ff%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    sv_settings settings = settings_for(state);
    settings.request_seconds = 1; /* of what is waited for to the end */
    sv_server *server = start_with(&settings);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = connect_to(server);
        send_text(fd, texts[i]);
        shutdown(fd, SHUT_WR);
        answer a = receive_all(fd);
        assert_true(a.code == 0 || a.code >= 400);
        release(&a);
    }
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

static void keys_are_asked_for(void **state)
{
    sv_settings settings = settings_for(state);
    settings.key_file = keep(state, "keys");
    write_text(settings.key_file, "# ours\nabcdefghijklmnop\n\nqrstuvwxyz012345\r\n");
    sv_server *server = start_with(&settings);
    static const char *const wrong[] = {
        NULL,
        "Authorization: Bearer abcdefghijklmno\r\n",
        "Authorization: Bearer abcdefghijklmnopq\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: abcdefghijklmnop\r\n",
        "Authorization: Bearer # ours\r\n",
        "Authorization: Basic eDp5\r\n",
        "Authorization: Basic !\r\n",
    };
    static const char *const right[] = {
        "Authorization: Bearer abcdefghijklmnop\r\n",
        "Authorization: bearer qrstuvwxyz012345\r\n",
        "Authorization: Basic dXNlcjphYmNkZWZnaGlqa2xtbm9w\r\n", /* user:abcdefghijklmnop */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_refusal(ask_with(server, "GET", "/v1/models", wrong[i], NULL), 401, "key");
        expect_refusal(ask_with(server, "POST", "/v1/jobs", wrong[i], "{\"prompt\": \"x\"}"), 401, "key");
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        json_decref(expect_json(ask_with(server, "GET", "/v1/models", right[i], NULL), 200));
    expect_refusal(ask_with(server, "GET", "/metrics", NULL, NULL), 401, "key");
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

static void expect_models(const sv_server *server, const char *key, int code)
{
    char headers[128];
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", key);
    json_decref(expect_json(ask_with(server, "GET", "/v1/models", headers, NULL), code));
}

/* The number of lines of a text. */
static int lines_of(const char *text)
{
    int count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* Whoever is refused once the file has changed is refused on a connection that was open before, too. */
static void keys_are_read_anew(void **state)
{
    static const char head[] = "%s /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n"
                               "Authorization: Bearer abcdefghijklmnop\r\n\r\n";
    sv_settings settings = settings_for(state);
    const char *path = settings.key_file = keep(state, "changing-keys");
    char request[256], got[4096] = "";
    settings.log = keep_log;
    write_text(path, "abcdefghijklmnop\n");
    sv_server *server = start_with(&settings);
    int fd = connect_to(server);
    snprintf(request, sizeof request, head, "HEAD", "keep-alive");
    send_text(fd, request);
    assert_true(recv(fd, got, sizeof got - 1, 0) > 0 && strncmp(got, "HTTP/1.1 200", 12) == 0);
    write_text(path, "qrstuvwxyz012345\n");
    expect_models(server, "abcdefghijklmnop", 200); /* not yet */
    reload(server, true, "the keys were read anew\n");
    expect_models(server, "abcdefghijklmnop", 401);
    expect_models(server, "qrstuvwxyz012345", 200);
    snprintf(request, sizeof request, head, "GET", "close");
    send_text(fd, request);
    expect_refusal(receive_all(fd), 401, "key");
    static const char *const malformed[] = {"", "# nothing\n", "abcdefghijklmnop\nshort\n", "abcdefgh ijklmnop\n"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        write_text(path, malformed[i]);
        reload(server, false, "the keys stay as they were: ");
        assert_int_equal(lines_of(logged), 1);
        expect_models(server, "qrstuvwxyz012345", 200);
        expect_models(server, "abcdefghijklmnop", 401);
    }
    assert_int_equal(unlink(path), 0);
    reload(server, false, "changing-keys: cannot be opened");
    expect_models(server, "qrstuvwxyz012345", 200);
    expect_models(server, "", 401);
    sv_server_free(server);
}

static void expect_no_start(const sv_settings *settings, splam_status status, const char *words)
{
    char error[SV_ERROR] = "";
    sv_server *server;
    assert_status(sv_server_start(settings, &server, error), status);
    assert_null(server);
    if (!strstr(error, words)) fail_msg("\"%s\" is not in \"%s\"", words, error);
}

static void settings_are_refused(void **state)
{
    sv_settings s = settings_for(state);
    static const char *const addresses[] = {"", "7860", "localhost:7860", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                            "127.0.0.1:1x", "[::1]7860", "::1:7860", "[::1", "127.0.0.1:-1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        s.listen = addresses[i];
        expect_no_start(&s, SP_ARGUMENT, "`listen` is");
    }
    s.listen = "0.0.0.0:0";
    expect_no_start(&s, SP_ARGUMENT, "give `api_key_file`, or `no_key`");
    s.listen = "[::]:0";
    expect_no_start(&s, SP_ARGUMENT, "give `api_key_file`, or `no_key`");
    s.listen = "127.0.0.1:0";
    s.key_file = keep(state, "absent");
    expect_no_start(&s, SP_IO, "absent: cannot be opened");
    s.key_file = keep(state, "bad-keys");
    write_text(s.key_file, "# nothing\n");
    expect_no_start(&s, SP_IO, "has no key");
    write_text(s.key_file, "abcdefghijklmnop\nshort\n");
    expect_no_start(&s, SP_IO, "line 2: a key has 16");
    write_text(s.key_file, "abcdefghijkl mnop\n");
    expect_no_start(&s, SP_IO, "line 1: a key is of visible");
    char *large = repeated("# ", "x", 1200, "abcdefghijklmnop\n"); /* whose end is no key */
    write_text(s.key_file, large);
    expect_no_start(&s, SP_IO, "line 1: it has a zero byte, or more than 1000");
    free(large);
    FILE *file = fopen(s.key_file, "we");
    assert_int_equal(fwrite("abcdefghijklmnop\0more\n", 1, 22, file), 22);
    assert_int_equal(fclose(file), 0);
    expect_no_start(&s, SP_IO, "line 1: it has a zero byte");
    s.no_key = true;
    expect_no_start(&s, SP_ARGUMENT, "exclude each other");
    s = settings_for(state);
    const char *absent = keep(state, "nothing-here");
    s.models = &absent;
    expect_no_start(&s, SP_IO, "nothing-here");
    sv_server *server = start(state);
    s = settings_for(state);
    s.listen = sv_server_address(server);
    expect_no_start(&s, SP_IO, "cannot listen there");
    sv_server_free(server);
    s = settings_for(state);
    s.listen = "0.0.0.0:0", s.no_key = true;
    server = start_with(&s);
    sv_server_free(server);
}

static void clients_are_told_apart(void **state)
{
    sv_keys keys, changed;
    char error[256];
    sv_address a, b, c;
    write_text(keep(state, "two-keys"), "abcdefghijklmnop\nqrstuvwxyz012345\n");
    assert_true(sv_keys_read(keep(state, "two-keys"), NULL, &keys, error, sizeof error));
    assert_int_equal(sv_keys_find(&keys, "abcdefghijklmnop"), 1);
    assert_int_equal(sv_keys_find(&keys, "qrstuvwxyz012345"), 2);
    assert_int_equal(sv_keys_find(&keys, "qrstuvwxyz01234"), 0);
    /* A key that stays is the same client's, and a new one nobody else's. */
    write_text(keep(state, "two-keys"), "0123456789abcdef\nqrstuvwxyz012345\nqrstuvwxyz012345\n");
    assert_true(sv_keys_read(keep(state, "two-keys"), &keys, &changed, error, sizeof error));
    assert_int_equal(sv_keys_find(&changed, "0123456789abcdef"), 3);
    assert_int_equal(sv_keys_find(&changed, "qrstuvwxyz012345"), 2);
    assert_int_equal(sv_keys_find(&changed, "abcdefghijklmnop"), 0);
    sv_keys_free(&changed);
    sv_keys_free(&keys);
    assert_true(sv_address_read("[2001:db8:0:1::1]:1", &a) && sv_address_read("[2001:db8:0:1::2]:2", &b) &&
                sv_address_read("[2001:db8:0:2::1]:1", &c));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) == sv_address_number((struct sockaddr *)&b.storage));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) != sv_address_number((struct sockaddr *)&c.storage));
    assert_true(sv_address_read("10.0.0.1:1", &a) && sv_address_read("10.0.0.2:1", &b));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) != sv_address_number((struct sockaddr *)&b.storage));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_refused),
        cmocka_unit_test(large_requests_are_refused),
        cmocka_unit_test(no_http_at_all),
        cmocka_unit_test(keys_are_asked_for),
        cmocka_unit_test(keys_are_read_anew),
        cmocka_unit_test(settings_are_refused),
        cmocka_unit_test(clients_are_told_apart),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
