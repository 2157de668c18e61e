/* Where the server listens: sockets of Unix, TLS, and what systemd hands over and is told. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "server_support.h"
#include "tls_support.h"

static void expect_no_start(const sv_settings *settings, splam_status status, const char *words)
{
    char error[SV_ERROR] = "";
    sv_server *server;
    assert_status(sv_server_start(settings, &server, error), status);
    assert_null(server);
    if (!strstr(error, words)) fail_msg("\"%s\" is not in \"%s\"", words, error);
}

/* ---- sockets of Unix ---- */

static int bound_socket(const char *path, int type)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void sockets_of_unix(void **state)
{
    sv_settings settings = settings_for(state), second = settings;
    const char *path = keep(state, "socket");
    struct stat s;
    settings.listen = NULL;
    settings.unix_path = path;
    close(bound_socket(path, SOCK_STREAM)); /* left behind */
    sv_server *server = start_with(&settings);
    assert_true(stat(path, &s) == 0 && S_ISSOCK(s.st_mode) && (s.st_mode & 0777) == 0660);
    assert_int_equal(strncmp(sv_server_url(server), "unix:/", 6), 0);
    json_decref(expect_json(get(server, "/v1/models"), 200));
    json_decref(expect_json(post(server, "/v1/images/generations", "{\"prompt\": \"x\", \"steps\": 1}"), 200));
    expect_refusal(ask_with(server, "GET", "/health", "Host: evil.example\r\n", NULL), 403, "--host");
    expect_no_start(&settings, SP_IO, "cannot listen there"); /* somebody listens */
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
    assert_int_equal(stat(path, &s), -1);
    write_text(path, "no socket");
    expect_no_start(&settings, SP_IO, "cannot listen there");
    assert_int_equal(stat(path, &s), 0);
    unlink(path);
    second.unix_path = path;
    expect_no_start(&second, SP_ARGUMENT, "exclude each other");
    char *large = repeated("/", "x", 200, "");
    settings.unix_path = large;
    expect_no_start(&settings, SP_ARGUMENT, "1 to 107");
    free(large);
}

/* ---- TLS ---- */

/* A client's end. */
typedef struct {
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    int fd;
} tls_client;

static tls_client connect_with_tls(const sv_server *server)
{
    tls_client c = {.fd = connect_to(server)};
    gnutls_certificate_allocate_credentials(&c.credentials);
    gnutls_init(&c.session, GNUTLS_CLIENT);
    gnutls_set_default_priority(c.session);
    gnutls_credentials_set(c.session, GNUTLS_CRD_CERTIFICATE, c.credentials);
    gnutls_transport_set_int(c.session, c.fd);
    return c;
}

static void leave(tls_client *c)
{
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->credentials);
    close(c->fd);
}

/* The code of an answer, of which what arrives at once is read: another one may follow where it has no body. */
static int ask_again(const tls_client *c, const char *request)
{
    char text[4096] = "";
    int code;
    gnutls_record_send(c->session, request, strlen(request));
    gnutls_record_recv(c->session, text, sizeof text - 1);
    return sscanf(text, "HTTP/1.%*d %d", &code) == 1 ? code : 0;
}

/* The code of an answer over TLS; 0: there was none. */
static int ask_over_tls(const sv_server *server, const char *request)
{
    tls_client c = connect_with_tls(server);
    int code = 0;
    if (gnutls_handshake(c.session) == 0) {
        code = ask_again(&c, request);
        gnutls_bye(c.session, GNUTLS_SHUT_WR);
    }
    leave(&c);
    return code;
}

/* Whether the certificate that was shown is of this name. */
static bool is_called(const tls_client *c, const char *name)
{
    unsigned count = 0;
    gnutls_x509_crt_t certificate;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(c->session, &count);
    if (!shown || gnutls_x509_crt_init(&certificate) != 0) return false;
    bool called = gnutls_x509_crt_import(certificate, shown, GNUTLS_X509_FMT_DER) == 0 &&
                  gnutls_x509_crt_check_hostname(certificate, name);
    gnutls_x509_crt_deinit(certificate);
    return called;
}

/* A new client sees the certificate of this name, and is answered. */
static void expect_certificate(const sv_server *server, const char *name)
{
    tls_client c = connect_with_tls(server);
    assert_int_equal(gnutls_handshake(c.session), 0);
    assert_true(is_called(&c, name));
    assert_int_equal(ask_again(&c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
    leave(&c);
}

static void connections_with_tls(void **state)
{
    sv_settings settings = settings_for(state);
    settings.certificate = keep(state, "certificate.pem");
    settings.certificate_key = keep(state, "key.pem");
    assert_true(make_certificate("localhost", settings.certificate, settings.certificate_key));
    sv_server *server = start_with(&settings);
    assert_int_equal(strncmp(sv_server_url(server), "https://127.0.0.1:", 18), 0);
    assert_int_equal(ask_over_tls(server, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                     200);
    static const char body[] = "{\"prompt\": \"x\", \"steps\": 2}";
    char request[256];
    snprintf(request, sizeof request,
             "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
             "application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
             strlen(body), body);
    assert_int_equal(ask_over_tls(server, request), 200); /* which waits for a picture */
    answer a = get(server, "/health");                    /* plain */
    assert_int_equal(a.code, 0);
    release(&a);
    sv_server_free(server);
    assert_true(make_certificate("localhost", keep(state, "other.pem"), keep(state, "other-key.pem")));
    settings.certificate_key = keep(state, "other-key.pem");
    expect_no_start(&settings, SP_IO, "other-key.pem: is not the key of ");
    settings.certificate_key = keep(state, "absent.pem");
    expect_no_start(&settings, SP_IO, "absent.pem: cannot be read");
    settings.certificate_key = NULL;
    expect_no_start(&settings, SP_ARGUMENT, "given together");
    write_text(keep(state, "none.pem"), "no certificate");
    settings.certificate = settings.certificate_key = keep(state, "none.pem");
    expect_no_start(&settings, SP_IO, "none.pem: has no certificate in PEM");
    char *large = repeated("", "x", (1 << 20) + 1, "");
    write_text(keep(state, "none.pem"), large);
    expect_no_start(&settings, SP_IO, "none.pem: has more than 1048576 bytes");
    free(large);
}

static void certificates_are_renewed(void **state)
{
    static const char request[] = "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    sv_settings settings = settings_for(state);
    const char *certificate = settings.certificate = keep(state, "renewed.pem");
    const char *key = settings.certificate_key = keep(state, "renewed-key.pem");
    settings.log = keep_log;
    assert_true(make_certificate("first.example", certificate, key));
    sv_server *server = start_with(&settings);
    tls_client old = connect_with_tls(server), slow = connect_with_tls(server);
    assert_int_equal(gnutls_handshake(old.session), 0);
    assert_true(is_called(&old, "first.example"));
    assert_int_equal(ask_again(&old, request), 200); /* so that the server has taken the connection before, too */
    assert_true(make_certificate("second.example", certificate, key));
    reload(server, true, "the certificate was read anew");
    expect_certificate(server, "second.example");
    assert_int_equal(ask_again(&old, request), 200);
    assert_int_equal(gnutls_handshake(slow.session), 0); /* with what is nobody else's any more */
    assert_true(is_called(&slow, "first.example"));
    assert_int_equal(ask_again(&slow, request), 200);
    leave(&slow);

    assert_true(make_certificate("third.example", certificate, keep(state, "third-key.pem")));
    reload(server, false, "the certificate stays as it was: ");
    assert_non_null(strstr(logged, "renewed-key.pem: is not the key of "));
    expect_certificate(server, "second.example");
    write_text(certificate, "-----BEGIN CERTIFICATE-----\n");
    reload(server, false, "renewed.pem: has no certificate in PEM");
    unlink(certificate);
    reload(server, false, "renewed.pem: cannot be read: No such file");
    assert_true(make_certificate("third.example", certificate, key));
    write_text(key, "no key");
    reload(server, false, "renewed-key.pem: has no key in PEM");
    expect_certificate(server, "second.example");
    assert_true(make_certificate("third.example", certificate, key));
    reload(server, true, "the certificate was read anew");
    expect_certificate(server, "third.example");
    assert_int_equal(ask_again(&old, request), 200);
    sv_server_free(server); /* with a client that is still there */
    leave(&old);
}

/* Handshakes until `handshakes_end`; how many there were. */
static atomic_bool handshakes_end;
static void *shake_hands(void *server)
{
    intptr_t count = 0;
    for (; !handshakes_end; count++) {
        tls_client c = connect_with_tls(server);
        if (gnutls_handshake(c.session) != 0) count = -1000000;
        leave(&c);
    }
    return (void *)count;
}

static void certificates_are_renewed_amid_handshakes(void **state)
{
    enum { CLIENTS = 3, RENEWALS = 30 };
    pthread_t clients[CLIENTS];
    void *count;
    sv_settings settings = settings_for(state);
    settings.certificate = keep(state, "renewed.pem");
    settings.certificate_key = keep(state, "renewed-key.pem");
    assert_true(make_certificate("localhost", settings.certificate, settings.certificate_key));
    sv_server *server = start_with(&settings);
    handshakes_end = false;
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&clients[i], NULL, shake_hands, server), 0);
    for (int i = 0; i < RENEWALS; i++) {
        assert_true(make_certificate("localhost", settings.certificate, settings.certificate_key));
        assert_true(sv_server_reload(server));
        nap(.01);
    }
    handshakes_end = true;
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i], &count);
        assert_true((intptr_t)count > 0);
    }
    sv_server_free(server);
}

/* ---- systemd ---- */

static void hand_over(int fd, const char *count)
{
    char pid[32];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    if (fd >= 0) assert_int_equal(dup2(fd, 3), 3);
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", count, 1);
}

static void sockets_are_handed_over(void **state)
{
    sv_settings settings = settings_for(state);
    int before = fcntl(3, F_DUPFD_CLOEXEC, 100);
    const char *path = keep(state, "handed");
    int low = bound_socket(path, SOCK_STREAM), fd = fcntl(low, F_DUPFD_CLOEXEC, 100);
    close(low);
    settings.listen = NULL;
    hand_over(fd, "1");
    expect_no_start(&settings, SP_IO, "no socket that listens"); /* not yet */
    assert_int_equal(listen(fd, 8), 0);
    hand_over(fd, "2");
    expect_no_start(&settings, SP_ARGUMENT, "hands over 2 sockets");
    hand_over(fd, "1");
    settings.listen = "127.0.0.1:0";
    expect_no_start(&settings, SP_ARGUMENT, "`listen` is given, and systemd");
    settings.listen = NULL;
    hand_over(fd, "1");
    sv_server *server = start_with(&settings);
    assert_null(getenv("LISTEN_FDS"));
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
    assert_int_equal(access(path, F_OK), 0); /* systemd's */
    setenv("LISTEN_PID", "1", 1);            /* another process's */
    setenv("LISTEN_FDS", "1", 1);
    settings.listen = "127.0.0.1:0";
    server = start_with(&settings);
    sv_server_free(server);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    close(fd);
    if (before >= 0) {
        dup2(before, 3);
        close(before);
    }
}

static void systemd_is_told(void **state)
{
    char text[64] = "";
    const char *path = keep(state, "notify");
    int fd = bound_socket(path, SOCK_DGRAM);
    assert_false(sv_notify("READY=1"));
    setenv("NOTIFY_SOCKET", path, 1);
    assert_true(sv_notify("READY=1"));
    assert_int_equal(recv(fd, text, sizeof text - 1, MSG_DONTWAIT), 7);
    assert_string_equal(text, "READY=1");
    close(fd);
    assert_false(sv_notify("READY=1")); /* nobody listens */
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_false(sv_notify("READY=1"));
    unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_of_unix),
        cmocka_unit_test(connections_with_tls),
        cmocka_unit_test(certificates_are_renewed),
        cmocka_unit_test(certificates_are_renewed_amid_handshakes),
        cmocka_unit_test(sockets_are_handed_over),
        cmocka_unit_test(systemd_is_told),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
