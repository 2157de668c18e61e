/* Connections of the client. */
#include "wire.h"
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "queue.h"

enum { PATIENCE_SECONDS = 60 };

typedef struct {
    char *text;
    size_t size;
} sentence;

static splam_status fail(sentence to, splam_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(to.text, to.size, format, arguments);
    va_end(arguments);
    return status;
}

/* ---- where the server is ---- */

static bool is_local(const sv_peer *peer)
{
    return strncmp(peer->url, "unix:", 5) == 0;
}

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT", with a / behind it or without. */
static bool read_host(const char *text, sv_peer *peer)
{
    const char *end = text + strcspn(text, "/"), *close = *text == '[' ? strchr(text, ']') : NULL,
               *from = close ? close : text, *colon = memchr(from, ':', (size_t)(end - from)),
               *host_end = close ? close : colon ? colon : end;
    bool six = *text == '[';
    size_t length = (size_t)(host_end - text - six), port = colon ? (size_t)(end - colon - 1) : 0;
    if ((six && !close) || length == 0 || length >= sizeof peer->host || port >= sizeof peer->port ||
        (*end && end[1]) ||
        (colon && (port == 0 || strspn(colon + 1, "0123456789") < port || strtol(colon + 1, NULL, 10) > 65535)))
        return false;
    snprintf(peer->host, sizeof peer->host, "%.*s", (int)length, text + six);
    if (colon) snprintf(peer->port, sizeof peer->port, "%.*s", (int)port, colon + 1);
    return true;
}

static bool read_url(const char *url, sv_peer *peer)
{
    static const struct {
        const char *scheme, *port;
        bool tls;
    } schemes[] = {{"http://", "80", false}, {"https://", "443", true}};
    *peer = (sv_peer){.url = url, .host = "localhost"};
    if (is_local(peer)) return url[5];
    for (size_t i = 0; i < SV_COUNT_OF(schemes); i++) {
        size_t length = strlen(schemes[i].scheme);
        if (strncmp(url, schemes[i].scheme, length)) continue;
        peer->tls = schemes[i].tls;
        snprintf(peer->port, sizeof peer->port, "%s", schemes[i].port);
        return read_host(url + length, peer);
    }
    return false;
}

/* Whom to trust. */
static splam_status read_roots(sv_peer *peer, const char *ca_file, sentence error)
{
    if (gnutls_certificate_allocate_credentials(&peer->credentials) != 0)
        return fail(error, SPLAM_MEMORY, "out of memory for certificates");
    int count = ca_file ? gnutls_certificate_set_x509_trust_file(peer->credentials, ca_file, GNUTLS_X509_FMT_PEM)
                        : gnutls_certificate_set_x509_system_trust(peer->credentials);
    if (count > 0) return SPLAM_OK;
    return fail(error, SPLAM_IO, "%s: no certificate could be read%s%s",
                ca_file ? ca_file : "the system's certificates", count < 0 ? ": " : "",
                count < 0 ? gnutls_strerror(count) : "");
}

splam_status sv_peer_read(const char *url, const char *ca_file, sv_peer *out, char *error, size_t size)
{
    const sentence to = {error, size};
    if (!read_url(url, out))
        return fail(to, SPLAM_ARGUMENT,
                    "`server` is \"%s\", http://HOST:PORT, https://HOST:PORT or unix:PATH is expected", url);
    if (out->tls) return read_roots(out, ca_file, to);
    return ca_file ? fail(to, SPLAM_ARGUMENT, "`server_ca` is for https, and `server` is \"%s\"", url) : SPLAM_OK;
}

void sv_peer_free(sv_peer *peer)
{
    if (peer->credentials) gnutls_certificate_free_credentials(peer->credentials);
    peer->credentials = NULL;
}

/* ---- connecting ---- */

/* -1, and errno says why. */
static int connect_unix(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* -1, with the reason as a text. */
static int connect_host(const sv_peer *peer, const char **why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(peer->host, peer->port, &hints, &list), fd = -1;
    *why = code ? gai_strerror(code) : "no address";
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
        *why = strerror(errno);
        if (fd >= 0) close(fd);
        fd = -1;
    }
    if (list) freeaddrinfo(list);
    return fd;
}

/* ---- TLS ---- */

/* Names are sent to servers that have several; addresses are none. */
static bool is_name(const char *host)
{
    return !strchr(host, ':') && host[strspn(host, "0123456789.")];
}

static void explain(const sv_peer *peer, gnutls_session_t session, int code, sentence error)
{
    gnutls_datum_t text = {0};
    unsigned status = gnutls_session_get_verify_cert_status(session);
    bool untrusted = code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
                     gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0;
    if (untrusted)
        fail(error, SPLAM_IO, "%s: its certificate is not trusted: %s", peer->url, (const char *)text.data);
    else
        fail(error, SPLAM_IO, "%s: no TLS: %s", peer->url, gnutls_strerror(code));
    gnutls_free(text.data);
}

static int shake_hands(gnutls_session_t session)
{
    int code;
    gnutls_handshake_set_timeout(session, PATIENCE_SECONDS * 1000);
    do
        code = gnutls_handshake(session);
    while (code < 0 && !gnutls_error_is_fatal(code));
    return code;
}

static bool begin_tls(const sv_peer *peer, sv_wire *wire, sentence error)
{
    int code = gnutls_init(&wire->session, GNUTLS_CLIENT);
    if (code) {
        wire->session = NULL;
        fail(error, SPLAM_MEMORY, "out of memory for TLS");
        return false;
    }
    code = gnutls_set_default_priority_append(wire->session, "-VERS-TLS1.0:-VERS-TLS1.1", NULL, 0);
    if (!code) code = gnutls_credentials_set(wire->session, GNUTLS_CRD_CERTIFICATE, peer->credentials);
    if (!code && is_name(peer->host))
        code = gnutls_server_name_set(wire->session, GNUTLS_NAME_DNS, peer->host, strlen(peer->host));
    gnutls_session_set_verify_cert(wire->session, peer->host, 0);
    gnutls_transport_set_int(wire->session, wire->socket);
    if (!code) code = shake_hands(wire->session);
    if (code) explain(peer, wire->session, code, error);
    return code == 0;
}

bool sv_wire_open(const sv_peer *peer, sv_wire *out, char *error, size_t size)
{
    const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    const sentence to = {error, size};
    const char *why = NULL;
    *out = (sv_wire){.socket = is_local(peer) ? connect_unix(peer->url + 5) : connect_host(peer, &why)};
    if (out->socket < 0) {
        fail(to, SPLAM_IO, "%s: no server answers: %s", peer->url, why ? why : strerror(errno));
        return false;
    }
    setsockopt(out->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(out->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return !peer->tls || begin_tls(peer, out, to);
}

void sv_wire_close(sv_wire *wire)
{
    if (wire->session) gnutls_deinit(wire->session);
    if (wire->socket >= 0) close(wire->socket);
    *wire = (sv_wire){.socket = -1};
}

/* ---- bytes ---- */

/* Whether to try again: interrupted, or busy with TLS's own messages, and not out of time. */
static bool goes_on(const sv_wire *wire, ssize_t code, double began)
{
    if (!wire->session) return code < 0 && errno == EINTR;
    return (code == GNUTLS_E_INTERRUPTED || code == GNUTLS_E_AGAIN) && sv_now() - began < PATIENCE_SECONDS;
}

bool sv_wire_send(const sv_wire *wire, const char *bytes, size_t size)
{
    while (size) {
        double began = sv_now();
        ssize_t sent;
        do
            sent = wire->session ? gnutls_record_send(wire->session, bytes, size)
                                 : send(wire->socket, bytes, size, MSG_NOSIGNAL);
        while (goes_on(wire, sent, began));
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* 0: the other side has closed, which it need not say in TLS: whoever reads knows how much there is to be. */
static ssize_t receive(const sv_wire *wire, char *to, size_t room)
{
    double began = sv_now();
    ssize_t got;
    do
        got = wire->session ? gnutls_record_recv(wire->session, to, room) : recv(wire->socket, to, room, 0);
    while (goes_on(wire, got, began));
    return wire->session && got == GNUTLS_E_PREMATURE_TERMINATION ? 0 : got;
}

char *sv_wire_receive(const sv_wire *wire, size_t most, size_t *size)
{
    size_t room = 0;
    char *text = NULL;
    *size = 0;
    for (;;) {
        if (room - *size < 65536) {
            char *more = room < most ? realloc(text, room = 2 * room + 65537) : NULL;
            if (!more) break;
            text = more;
        }
        ssize_t got = receive(wire, text + *size, room - *size - 1);
        if (got < 0) break;
        *size += (size_t)got;
        text[*size] = 0;
        if (got == 0) return text;
    }
    free(text);
    return NULL;
}
