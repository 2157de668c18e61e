/* The certificate that clients are shown. It may be read anew while they are connected: connections keep the one that
 * they began with, whose last holder frees it. */
#ifndef SERVER_CERTIFICATE_H
#define SERVER_CERTIFICATE_H
#include <splam/splam.h>
#include <stddef.h>

struct gnutls_certificate_credentials_st;
typedef struct sv_certificate sv_certificate;

/* A certificate with those that it is signed by, and its key without a password, both in PEM; *out has one holder, the
 * caller. Of a failure `error` has one sentence that begins with the file: SPLAM_IO for one that cannot be read, has
 * nothing of the kind or more than 1 MiB, and for a key of another certificate. */
splam_status sv_certificate_read(const char *path, const char *key_path, sv_certificate **out, char *error,
                                 size_t size);
/* As gnutls_credentials_set takes it, for as long as it is held. */
struct gnutls_certificate_credentials_st *sv_certificate_credentials(const sv_certificate *certificate);
/* Any thread. NULL is legal. */
sv_certificate *sv_certificate_hold(sv_certificate *certificate);
void sv_certificate_release(sv_certificate *certificate);

#endif
