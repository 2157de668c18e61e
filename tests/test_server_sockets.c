/* Where the server listens: sockets of Unix, TLS, and what systemd hands over and is told. */
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

/* The code of an answer over TLS; 0: there was none. */
static int ask_over_tls(const sv_server *server, const char *request)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char text[4096] = "";
    int fd = connect_to(server), code = 0;
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_init(&session, GNUTLS_CLIENT);
    gnutls_set_default_priority(session);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, fd);
    if (gnutls_handshake(session) == 0) {
        gnutls_record_send(session, request, strlen(request));
        gnutls_record_recv(session, text, sizeof text - 1);
        gnutls_bye(session, GNUTLS_SHUT_WR);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(fd);
    return sscanf(text, "HTTP/1.%*d %d", &code) == 1 ? code : 0;
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
    expect_no_start(&settings, SP_IO, "belong together");
    settings.certificate_key = keep(state, "absent.pem");
    expect_no_start(&settings, SP_IO, "absent.pem: cannot be read");
    settings.certificate_key = NULL;
    expect_no_start(&settings, SP_ARGUMENT, "given together");
    write_text(keep(state, "none.pem"), "no certificate");
    settings.certificate = settings.certificate_key = keep(state, "none.pem");
    expect_no_start(&settings, SP_IO, "in PEM");
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
        cmocka_unit_test(sockets_are_handed_over),
        cmocka_unit_test(systemd_is_told),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
