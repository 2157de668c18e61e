/* The client of `splam generate --server`: the files that generate writes, refusals, and servers that are none. */
#include <pthread.h>
#include "server_support.h"
#include "server/client.h"
#include "tls_support.h"

static char words[SV_CLIENT_ERROR];

static splam_status ask_server(const char *url, const char *keys, const splam_generate_options *o,
                               const splam_callbacks *callbacks)
{
    const sv_client_settings settings = {.server = url, .key_file = keys};
    return sv_client_generate(&settings, o, callbacks, words);
}

static void expect_refused(const char *url, const splam_generate_options *o, splam_status status,
                           const char *expected)
{
    assert_status(ask_server(url, NULL, o, NULL), status);
    if (!strstr(words, expected)) fail_msg("\"%s\" is not in \"%s\"", expected, words);
}

static splam_generate_options wanted(void **state, const char *output)
{
    splam_generate_options o = splam_generate_defaults();
    o.prompt = "red apple";
    o.steps = 2;
    o.output = keep(state, output);
    return o;
}

static void expect_same_files(const char *a, const char *b)
{
    char *first, *second;
    size_t size, other;
    assert_ok(sp_read_file(a, &first, &size));
    assert_ok(sp_read_file(b, &second, &other));
    assert_int_equal(size, other);
    assert_memory_equal(first, second, size);
    sp_free(first);
    sp_free(second);
}

static void files_are_those_of_generate(void **state)
{
    sv_server *server = start(state);
    const char *url = sv_server_url(server);
    splam_generate_options o = wanted(state, "one.webp"), own;
    uint64_t seed = 0;
    o.seed = UINT64_MAX - 1, o.guidance = 3, o.sampler = "ddim", o.negative = "blue", o.width = 40, o.height = 32;
    o.prompt_syntax = SPLAM_PROMPT_WEIGHTED, o.rng = SPLAM_RNG_TORCH, o.quality = 80, o.count = 2,
    o.model = "teacher";
    assert_ok(ask_server(url, NULL, &o, NULL));
    own = o;
    own.model = keep(state, "teacher"), own.output = keep(state, "own.webp"), own.precision = SPLAM_F32;
    generate(&own);
    expect_same_files(keep(state, "one-0.webp"), keep(state, "own-0.webp"));
    expect_same_files(keep(state, "one-1.webp"), keep(state, "own-1.webp"));
    o = wanted(state, "from.png");
    o.init_image = keep(state, "own-0.webp"), o.strength = .5, o.steps = 4;
    assert_ok(ask_server(url, NULL, &o, NULL));
    o = wanted(state, "drawn.png");
    o.random_seed = true, o.seed_used = &seed;
    assert_ok(ask_server(url, NULL, &o, NULL));
    own = wanted(state, "again.png");
    own.seed = seed, own.model = keep(state, "teacher"), own.precision = SPLAM_F32;
    generate(&own);
    expect_same_files(keep(state, "drawn.png"), keep(state, "again.png"));
    assert_true(metric(server, "splam_jobs_kept") == 0); /* nothing is left there */
    sv_server_free(server);
}

static bool at_once(void *context)
{
    return ++*(int *)context > 3;
}

static void servers_refuse(void **state)
{
    sv_settings settings = settings_for(state);
    settings.key_file = keep(state, "keys");
    write_text(settings.key_file, "abcdefghijklmnop\n");
    sv_server *server = start_with(&settings);
    const char *url = sv_server_url(server);
    splam_generate_options o = wanted(state, "refused.png");
    expect_refused(url, &o, SP_IO, "a key is missing or wrong");
    assert_ok(ask_server(url, settings.key_file, &o, NULL));
    assert_status(ask_server(url, keep(state, "absent"), &o, NULL), SP_IO);
    o.model = "other";
    assert_status(ask_server(url, settings.key_file, &o, NULL), SP_ARGUMENT);
    assert_non_null(strstr(words, "no such model"));
    o = wanted(state, "refused.png");
    o.sampler = "tcd", o.steps = 3000;
    assert_status(ask_server(url, settings.key_file, &o, NULL), SP_IO);
    assert_non_null(strstr(words, "the job is failed: 3000 steps"));
    int asked = 0;
    const splam_callbacks callbacks = {.context = &asked, .cancelled = at_once};
    o = wanted(state, "refused.png");
    o.sampler = "ddim", o.steps = 900, o.count = 60;
    assert_status(ask_server(url, settings.key_file, &o, &callbacks), SP_CANCELLED);
    for (int i = 0; i < 500 && sv_server_is_busy(server); i++)
        nap(.01);
    assert_false(sv_server_is_busy(server)); /* cancelled there too */
    sv_server_free(server);
}

static void requests_of_a_machine_are_refused(void **state)
{
    static const splam_embedding token = {"x", NULL};
    splam_generate_options o = wanted(state, "x.png");
    o.vae = "x";
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "`vae` is not for a server");
    o = wanted(state, "x.png"), o.precision = SPLAM_F32;
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "`precision`");
    o = wanted(state, "x.png"), o.embeddings = &token, o.embedding_count = 1;
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "`embeddings`");
    o = wanted(state, "x.png"), o.memory_limit = 5;
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "`memory_limit`");
    o = wanted(state, "x.png"), o.prompt = NULL, o.prompts_file = "-";
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "`prompt` is missing");
    o = wanted(state, "x.png"), o.init_image = keep(state, "absent.png");
    expect_refused("http://localhost:1", &o, SP_IO, "absent.png");
    o = wanted(state, "x.gif");
    expect_refused("http://localhost:1", &o, SP_ARGUMENT, "x.gif");
    o = wanted(state, "x.png");
    expect_refused("http://127.0.0.1:1", &o, SP_IO, "no server answers");
    expect_refused("unix:/nowhere/at/all", &o, SP_IO, "no server answers");
    static const char *const wrong[] = {"",          "localhost",   "http://",    "http://:80",         "http://a:b",
                                        "http://a:", "http://[::1", "http://a/b", "http://a:123456789",
                                        "http://a:65536", "ftp://a",
                                        "https://",  "https://a:b", "unix:"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_refused(wrong[i], &o, SP_ARGUMENT, "https://HOST:PORT or unix:PATH is expected");
}

/* ---- TLS ---- */

static splam_status ask_trusting(const char *url, const char *ca_file, const splam_generate_options *o)
{
    const sv_client_settings settings = {.server = url, .ca_file = ca_file};
    return sv_client_generate(&settings, o, NULL, words);
}

static void expect_untrusted(const char *url, const char *ca_file, const splam_generate_options *o,
                             splam_status status, const char *expected)
{
    assert_status(ask_trusting(url, ca_file, o), status);
    if (!strstr(words, expected)) fail_msg("\"%s\" is not in \"%s\"", expected, words);
    assert_int_equal(access(o->output, F_OK), -1);
}

static sv_server *start_with_tls(void **state, const char *name)
{
    sv_settings settings = settings_for(state);
    settings.certificate = keep(state, "certificate.pem");
    settings.certificate_key = keep(state, "key.pem");
    assert_true(make_certificate(name, settings.certificate, settings.certificate_key));
    return start_with(&settings);
}

/* Only a server that is who it is called is told the key and the prompt. */
static void certificates_are_checked(void **state)
{
    sv_server *server = start_with_tls(state, "localhost"), *plain = start(state);
    const char *own = keep(state, "certificate.pem"), *other = keep(state, "other.pem"), *url = sv_server_url(server);
    char named[64];
    splam_generate_options o = wanted(state, "tls.png"), alone = wanted(state, "plain.png");
    assert_true(make_certificate("localhost", other, keep(state, "other-key.pem")));
    expect_untrusted(url, NULL, &o, SP_IO, "its certificate is not trusted: The certificate is NOT trusted");
    expect_untrusted(url, other, &o, SP_IO, "its certificate is not trusted: The certificate is NOT trusted");
    expect_untrusted(url, keep(state, "absent.pem"), &o, SP_IO, "absent.pem: no certificate could be read");
    expect_untrusted(url, keep(state, "key.pem"), &o, SP_IO, "key.pem: no certificate could be read");
    expect_untrusted(sv_server_url(plain), own, &o, SP_ARGUMENT, "`server_ca` is for https");
    snprintf(named, sizeof named, "https://%s", sv_server_address(plain));
    expect_untrusted(named, own, &o, SP_IO, "no TLS");
    snprintf(named, sizeof named, "http://%s", sv_server_address(server));
    expect_untrusted(named, NULL, &o, SP_IO, "the answer is none, or not whole");
    assert_ok(ask_trusting(url, own, &o));
    assert_ok(ask_trusting(sv_server_url(plain), NULL, &alone));
    expect_same_files(o.output, alone.output);
    snprintf(named, sizeof named, "https://localhost%s", strrchr(url, ':'));
    assert_ok(ask_trusting(named, own, &o));
    sv_server_free(plain);
    sv_server_free(server);
}

static void certificates_of_others_are_refused(void **state)
{
    sv_server *server = start_with_tls(state, "pictures.example");
    const splam_generate_options o = wanted(state, "other.png");
    expect_untrusted(sv_server_url(server), keep(state, "certificate.pem"), &o, SP_IO,
                     "The name in the certificate does not match");
    sv_server_free(server);
}

/* ---- servers that are none ---- */

typedef struct {
    int socket;
    const char *text;
} stranger;

static void *answer_once(void *context)
{
    const stranger *s = context;
    char request[4096];
    int fd = accept(s->socket, NULL, NULL);
    recv(fd, request, sizeof request, 0);
    send_text(fd, s->text);
    shutdown(fd, SHUT_WR);
    while (recv(fd, request, sizeof request, 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void strangers_are_told_apart(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "the answer is none, or not whole"},
        {"220 ready\r\n", "the answer is none, or not whole"},
        {"HTTP/1.1 200 OK\r\n\r\n", "the answer is none, or not whole"},
        {"HTTP/1.1 202 OK\r\nContent-Length: 99\r\n\r\n{\"id\": \"ab\"}", "not whole"},
        {"HTTP/1.1 202 OK\r\nContent-Length: 2\r\n\r\nno", "no JSON"},
        {"HTTP/1.1 202 OK\r\nContent-Length: 2\r\n\r\n{}", "no job"},
        {"HTTP/1.1 202 OK\r\nContent-Length: 18\r\n\r\n{\"id\": \"../../abc\"}", "not whole"},
        {"HTTP/1.1 202 OK\r\nContent-Length: 19\r\n\r\n{\"id\": \"../../abc\"}", "no job"},
        {"HTTP/1.1 500 OK\r\nContent-Length: 41\r\n\r\n{\"error\": {\"message\": \"\\u001b[31m red\"}} ",
         "\\x1b[31m red (HTTP 500)"},
    };
    splam_generate_options o = wanted(state, "x.png");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stranger s = {.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .text = cases[i].text};
        sv_address address;
        char url[64], where[48];
        pthread_t thread;
        assert_true(sv_address_read("127.0.0.1:0", &address));
        assert_int_equal(bind(s.socket, (struct sockaddr *)&address.storage, address.length), 0);
        assert_int_equal(listen(s.socket, 1), 0);
        assert_int_equal(getsockname(s.socket, (struct sockaddr *)&address.storage, &address.length), 0);
        sv_address_write(&address, where, sizeof where);
        snprintf(url, sizeof url, "http://%s", where);
        assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
        expect_refused(url, &o, SP_IO, cases[i].words);
        pthread_join(thread, NULL);
        close(s.socket);
    }
    assert_int_equal(access(keep(state, "x.png"), F_OK), -1);
}

/* A name that no JSON can carry is never left out: another model's picture would come. */
static void texts_are_utf8(void **state)
{
    const splam_lora lora = {.path = "style\xff", .weight = 1};
    sv_server *server = start(state);
    const char *url = sv_server_url(server);
    splam_generate_options o = wanted(state, "bytes.png");
    o.model = "teacher\xff";
    expect_refused(url, &o, SP_ARGUMENT, "`model` is no UTF-8");
    o = wanted(state, "bytes.png"), o.negative = "\xc3(";
    expect_refused(url, &o, SP_ARGUMENT, "`negative` is no UTF-8");
    o = wanted(state, "bytes.png"), o.prompt = "\xed\xa0\x80";
    expect_refused(url, &o, SP_ARGUMENT, "`prompt` is no UTF-8");
    o = wanted(state, "bytes.png"), o.loras = &lora, o.lora_count = 1;
    expect_refused(url, &o, SP_ARGUMENT, "`loras` is no UTF-8");
    assert_int_equal(access(keep(state, "bytes.png"), F_OK), -1);
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_those_of_generate),
        cmocka_unit_test(servers_refuse),
        cmocka_unit_test(requests_of_a_machine_are_refused),
        cmocka_unit_test(certificates_are_checked),
        cmocka_unit_test(certificates_of_others_are_refused),
        cmocka_unit_test(strangers_are_told_apart),
        cmocka_unit_test(texts_are_utf8),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
