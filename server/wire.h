/* Connections of the client: TCP, with TLS or without, and sockets of Unix. */
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H
#include <gnutls/gnutls.h>
#include <splam/splam.h>
#include <stdbool.h>
#include <stddef.h>

/* A server, and whom its certificate has to be signed by. */
typedef struct {
    const char *url;
    bool tls;
    char host[256], port[8]; /* of a socket of Unix "localhost" and "" */
    gnutls_certificate_credentials_t credentials; /* with TLS */
} sv_peer;
/* "http://HOST", "https://HOST:PORT", "unix:PATH"; the text is needed until the end. ca_file: certificates in PEM, one
 * of which signs the server's or is the server's; NULL: those that the system trusts. Of a failure `error` has one
 * sentence: SPLAM_ARGUMENT for another URL and a ca_file without https, SPLAM_IO for a file without certificates.
 * sv_peer_free in every case. */
splam_status sv_peer_read(const char *url, const char *ca_file, sv_peer *out, char *error, size_t size);
void sv_peer_free(sv_peer *peer);

typedef struct {
    int socket;
    gnutls_session_t session; /* NULL: without TLS */
} sv_wire;
/* With TLS (1.2 and above) the certificate has to be valid, of this host and signed by who is trusted. False after a
 * sentence. sv_wire_close in every case. */
bool sv_wire_open(const sv_peer *peer, sv_wire *out, char *error, size_t size);
bool sv_wire_send(const sv_wire *wire, const char *bytes, size_t size);
/* What comes until the other side closes, new, with a zero byte behind it; NULL: more than `most`, or too slow, or no
 * memory. */
char *sv_wire_receive(const sv_wire *wire, size_t most, size_t *size);
void sv_wire_close(sv_wire *wire);

#endif
