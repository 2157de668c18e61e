/* Certificates and their keys, of files in PEM, and who holds them. */
#include "certificate.h"
#include "sentence.h"
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sv_certificate {
    atomic_long holders;
    gnutls_certificate_credentials_t credentials;
};

/* ---- files ---- */

static void forget_text(gnutls_datum_t *text)
{
    if (text->data) explicit_bzero(text->data, text->size);
    free(text->data);
    *text = (gnutls_datum_t){0};
}

/* All of a file, a zero behind it. forget_text in every case. */
static splam_status read_text(const char *path, gnutls_datum_t *out, char *error, size_t size)
{
    enum { MOST = 1 << 20 };
    FILE *file = fopen(path, "re");
    *out = (gnutls_datum_t){.data = file ? calloc(1, MOST + 1) : NULL};
    if (file && out->data) {
        setvbuf(file, NULL, _IONBF, 0); /* no copy of a key is left behind */
        out->size = (unsigned)fread(out->data, 1, MOST + 1, file);
    }
    bool failed = !file || !out->data || ferror(file);
    int number = errno;
    if (file) fclose(file);
    if (failed) return sv_fail(error, size, SPLAM_IO, "%s: cannot be read: %s", path, strerror(number));
    if (out->size <= MOST) return SPLAM_OK;
    return sv_fail(error, size, SPLAM_IO, "%s: has more than %d bytes, and certificates and keys have fewer", path,
                   MOST);
}

/* ---- certificate and key ---- */

typedef struct {
    gnutls_x509_crt_t *chain;
    unsigned count;
    gnutls_x509_privkey_t key;
} parsed;

static void free_parsed(parsed *p)
{
    for (unsigned i = 0; i < p->count; i++)
        gnutls_x509_crt_deinit(p->chain[i]);
    gnutls_free(p->chain);
    if (p->key) gnutls_x509_privkey_deinit(p->key);
}

static splam_status parse_chain(const char *path, parsed *p, char *error, size_t size)
{
    gnutls_datum_t text;
    splam_status status = read_text(path, &text, error, size);
    if (!status && gnutls_x509_crt_list_import2(&p->chain, &p->count, &text, GNUTLS_X509_FMT_PEM,
                                                GNUTLS_X509_CRT_LIST_SORT) < 0) {
        p->chain = NULL;
        p->count = 0;
        status = sv_fail(error, size, SPLAM_IO, "%s: has no certificate in PEM that can be read", path);
    }
    forget_text(&text);
    return status;
}

static splam_status parse_key(const char *path, parsed *p, char *error, size_t size)
{
    gnutls_datum_t text;
    splam_status status = read_text(path, &text, error, size);
    if (!status && gnutls_x509_privkey_init(&p->key) < 0)
        status = sv_fail(error, size, SPLAM_MEMORY, "%s: out of memory", path);
    if (!status && gnutls_x509_privkey_import2(p->key, &text, GNUTLS_X509_FMT_PEM, NULL, 0) < 0)
        status = sv_fail(error, size, SPLAM_IO, "%s: has no key in PEM, without a password, that can be read", path);
    forget_text(&text);
    return status;
}

static splam_status create(const parsed *p, sv_certificate **out)
{
    sv_certificate *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return SPLAM_MEMORY;
    atomic_init(&c->holders, 1);
    splam_status status = gnutls_certificate_allocate_credentials(&c->credentials) < 0 ? SPLAM_MEMORY : SPLAM_OK;
    if (!status && gnutls_certificate_set_x509_key(c->credentials, p->chain, (int)p->count, p->key) < 0)
        status = SPLAM_IO;
    if (status)
        sv_certificate_release(c);
    else
        *out = c;
    return status;
}

splam_status sv_certificate_read(const char *path, const char *key_path, sv_certificate **out, char *error,
                                 size_t size)
{
    parsed p = {0};
    *out = NULL;
    splam_status status = parse_chain(path, &p, error, size);
    if (!status) status = parse_key(key_path, &p, error, size);
    if (!status && (status = create(&p, out)))
        sv_fail(error, size, status, status == SPLAM_MEMORY ? "%s: out of memory" : "%s: is not the key of %s",
                key_path, path);
    free_parsed(&p);
    return status;
}

/* ---- holders ---- */

gnutls_certificate_credentials_t sv_certificate_credentials(const sv_certificate *c)
{
    return c->credentials;
}

sv_certificate *sv_certificate_hold(sv_certificate *c)
{
    if (c) atomic_fetch_add(&c->holders, 1);
    return c;
}

void sv_certificate_release(sv_certificate *c)
{
    if (!c || atomic_fetch_sub(&c->holders, 1) > 1) return;
    if (c->credentials) gnutls_certificate_free_credentials(c->credentials);
    free(c);
}
