/* A certificate that is signed by itself. */
#ifndef SP_TESTS_TLS_SUPPORT_H
#define SP_TESTS_TLS_SUPPORT_H
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static inline bool save_datum(const char *path, gnutls_datum_t *datum)
{
    FILE *file = fopen(path, "we");
    bool good = file && fwrite(datum->data, 1, datum->size, file) == datum->size;
    gnutls_free(datum->data);
    return file && fclose(file) == 0 && good;
}

/* Both files in PEM; it is good for an hour, for this name and, of localhost, 127.0.0.1. */
static inline bool make_certificate(const char *name, const char *certificate_path, const char *key_path)
{
    static const unsigned char address[] = {127, 0, 0, 1};
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
    gnutls_datum_t out;
    time_t now = time(NULL);
    if (gnutls_x509_privkey_init(&key) != 0 || gnutls_x509_crt_init(&certificate) != 0) return false;
    gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    gnutls_x509_crt_set_version(certificate, 3);
    gnutls_x509_crt_set_serial(certificate, "\1", 1);
    gnutls_x509_crt_set_activation_time(certificate, now - 60);
    gnutls_x509_crt_set_expiration_time(certificate, now + 3600);
    gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
                                         GNUTLS_FSAN_SET);
    if (strcmp(name, "localhost") == 0)
        gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, address, sizeof address,
                                             GNUTLS_FSAN_APPEND);
    gnutls_x509_crt_set_key(certificate, key);
    bool good = gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0) == 0 &&
                gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &out) == 0 &&
                save_datum(certificate_path, &out) &&
                gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out) == 0 && save_datum(key_path, &out);
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
    return good;
}

#endif
