/* The server's life: settings, model, socket, threads, and the end. */
#include "server.h"
#include <errno.h>
#include <gnutls/abstract.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"
#include "sentence.h"

sv_settings sv_settings_defaults(void)
{
    return (sv_settings){.model_options = splam_model_defaults(),
                         .queue = 16,
                         .queue_share = SPLAM_UNSET,
                         .memory_limit = SPLAM_UNSET,
                         .request_seconds = 60,
                         .answer_seconds = 300};
}

int64_t sv_queue_share(const sv_settings *s)
{
    int64_t rest = s->queue < 8 ? s->queue > 1 : s->queue / 4;
    return s->queue_share == SPLAM_UNSET ? s->queue - rest : s->queue_share;
}

void sv_log(const sv_server *s, const char *format, ...)
{
    char raw[4096], line[4096];
    va_list arguments;
    if (!s->settings.log) return;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    splam_visible_text(raw, line, sizeof line);
    s->settings.log(line);
}

/* What the library says of models, which may name files: it is no client's business. Warnings about requests go to
 * their jobs (draw.c). */
static void take_message(void *server, splam_log_level level, const char *text)
{
    sv_server *s = server;
    if (s->listing && level == SPLAM_LOG_INFO) return; /* the same of each model */
    if (s->settings.log && level != SPLAM_LOG_DEBUG) s->settings.log(text);
}

/* ---- the start ---- */

static splam_status read_certificate(sv_server *s, char *error)
{
    const sv_settings *o = &s->settings;
    if (!o->certificate && !o->certificate_key) return SPLAM_OK;
    if (!o->certificate || !o->certificate_key)
        return sv_fail(error, SV_ERROR, SPLAM_ARGUMENT, "`tls_cert` and `tls_key` are given together");
    if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES ||
        MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK2) != MHD_YES)
        return sv_fail(error, SV_ERROR, SPLAM_UNSUPPORTED, "the installed libmicrohttpd has no TLS");
    return sv_certificate_read(o->certificate, o->certificate_key, &s->certificate, error, SV_ERROR);
}

static splam_status read_settings(sv_server *s, char *error)
{
    const sv_settings *o = &s->settings;
    if (!o->model_count && !o->watched_count)
        return sv_fail(error, SV_ERROR, SPLAM_ARGUMENT, "serve needs `model` or `watch`");
    if (o->output_folder && access(o->output_folder, W_OK | X_OK) != 0)
        return sv_fail(error, SV_ERROR, SPLAM_IO, "%s: pictures cannot be written there: %s", o->output_folder,
                       strerror(errno));
    if (o->queue_share > o->queue)
        return sv_fail(error, SV_ERROR, SPLAM_ARGUMENT, "`queue_share` is %lld, more than `queue`, %lld",
                       (long long)o->queue_share, (long long)o->queue);
    if (o->key_file && o->no_key)
        return sv_fail(error, SV_ERROR, SPLAM_ARGUMENT, "`api_key_file` and `no_key` exclude each other");
    splam_status status = sv_listener_open(o, &s->listener, error, SV_ERROR);
    if (status) return status;
    if (!s->listener.local && !o->key_file && !o->no_key)
        return sv_fail(error, SV_ERROR, SPLAM_ARGUMENT,
                    "`listen` is %s, which others than this machine reach: give `api_key_file`, or `no_key` if anyone "
                       "may draw",
                       o->listen ? o->listen : s->listener.where);
    if (o->key_file && !sv_keys_read(o->key_file, NULL, &s->keys, error, SV_ERROR)) return SPLAM_IO;
    const char *scheme = s->listener.is_unix ? "" : o->certificate ? "https://" : "http://";
    snprintf(s->url, sizeof s->url, "%s%s", scheme, s->listener.where);
    return read_certificate(s, error);
}

static void log_models(const void *server, const char *text)
{
    sv_log(server, "%s", text);
}

static splam_status open_models(sv_server *s, char *error)
{
    const sv_settings *o = &s->settings;
    s->models_settings = (sv_models_settings){.models = o->models,
                                              .model_count = o->model_count,
                                              .options = &o->model_options,
                                              .lora_folder = o->lora_folder,
                                              .embedding_folder = o->embedding_folder,
                                              .opening = &o->opening,
                                              .log = log_models,
                                              .logger = s};
    splam_set_log(take_message, s);
    s->logs = true;
    s->listing = true;
    splam_status status = sv_models_create(&s->models_settings, &s->models, error, SV_ERROR);
    s->listing = false;
    return status;
}

/* False: they stay, as they do where the file is malformed. */
static bool reload_keys(sv_server *s)
{
    char error[SV_ERROR];
    sv_keys keys;
    bool read = sv_keys_read(s->settings.key_file, &s->keys, &keys, error, sizeof error);
    if (read) {
        pthread_mutex_lock(&s->keys_lock);
        const sv_keys old = s->keys;
        s->keys = keys;
        keys = old;
        pthread_mutex_unlock(&s->keys_lock);
        sv_log(s, "the keys were read anew");
    } else {
        sv_log(s, "the keys stay as they were: %s", error);
    }
    sv_keys_free(&keys);
    return read;
}

/* Connections that are open keep theirs. */
static bool reload_certificate(sv_server *s)
{
    char error[SV_ERROR];
    const sv_settings *o = &s->settings;
    sv_certificate *next;
    if (sv_certificate_read(o->certificate, o->certificate_key, &next, error, sizeof error)) {
        sv_log(s, "the certificate stays as it was: %s", error);
        return false;
    }
    pthread_mutex_lock(&s->certificate_lock);
    sv_certificate *old = s->certificate;
    s->certificate = next;
    pthread_mutex_unlock(&s->certificate_lock);
    sv_certificate_release(old);
    sv_log(s, "the certificate was read anew");
    return true;
}

static bool reload_lists(sv_server *s)
{
    char error[SV_ERROR];
    if (!s->settings.lora_folder && !s->settings.embedding_folder) return true;
    s->listing = true;
    bool read = sv_models_reload(s->models, error, sizeof error);
    s->listing = false;
    if (read) sv_log(s, "the lists of LoRAs and learned tokens were read anew");
    else sv_log(s, "the lists of LoRAs and learned tokens stay as they were: %s", error);
    return read;
}

bool sv_server_reload(sv_server *s)
{
    bool keys = !s->settings.key_file || reload_keys(s);
    bool certificate = !s->settings.certificate || reload_certificate(s);
    return reload_lists(s) && keys && certificate;
}

static void *tend(void *server)
{
    sv_server *s = server;
    const struct timespec pause = {.tv_nsec = 100000000};
    while (!s->ending) {
        sv_queue_tend(s->queue);
        sv_http_tend(s);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void *watch(void *server)
{
    sv_server *s = server;
    const struct timespec pause = {.tv_nsec = 100000000};
    for (int i = 0; !s->ending; i++) {
        if (i % 10 == 0) sv_runs_read(s->runs);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* libmicrohttpd wants a certificate for all connections, or who chooses one. Each gets its own when it begins (http.c),
 * and one that got none, for want of memory, ends here. */
static int refuse_handshake(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                            gnutls_pcert_st **certificates, unsigned *count, gnutls_ocsp_data_st **ocsp,
                            unsigned *ocsp_count, gnutls_privkey_t *key, unsigned *flags)
{
    (void)session, (void)info, (void)certificates, (void)count, (void)ocsp, (void)ocsp_count, (void)key, (void)flags;
    return -1;
}

struct MHD_Daemon *sv_daemon_start(sv_server *s, unsigned flags)
{
    enum { IDLE_SECONDS = 30 };
    const struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, (void *)refuse_handshake},
                                         {MHD_OPTION_END, 0, NULL}};
    if (s->certificate) flags |= MHD_USE_TLS;
    return MHD_start_daemon(
        flags | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL, sv_http_handle, s, MHD_OPTION_LISTEN_SOCKET,
        s->listener.socket, MHD_OPTION_CONNECTION_LIMIT, (unsigned)SV_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SV_HEADER_BYTES,
        MHD_OPTION_NOTIFY_COMPLETED, sv_http_completed, s, MHD_OPTION_NOTIFY_CONNECTION, sv_http_connection, s,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, sv_http_unescape, NULL, MHD_OPTION_ARRAY,
        s->certificate ? tls : tls + 1, MHD_OPTION_END);
}

static splam_status begin(sv_server *s, char *error)
{
    if (listen(s->listener.socket, SV_CONNECTIONS) != 0)
        return sv_fail(error, SV_ERROR, SPLAM_IO, "%s: cannot listen there: %s", s->listener.where, strerror(errno));
    s->daemon = sv_daemon_start(s, MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO);
    if (!s->daemon)
        return sv_fail(error, SV_ERROR, SPLAM_IO, "%s: the HTTP server cannot begin", s->listener.where);
    s->draws = pthread_create(&s->drawing, NULL, sv_draw, s) == 0;
    s->tends = pthread_create(&s->tending, NULL, tend, s) == 0;
    s->watches = s->runs && pthread_create(&s->watching, NULL, watch, s) == 0;
    bool began = s->draws && s->tends && s->watches == (s->runs != NULL);
    return began ? SPLAM_OK : sv_fail(error, SV_ERROR, SPLAM_MEMORY, "a thread cannot begin");
}

static splam_status start(sv_server *s, char *error)
{
    splam_status status = read_settings(s, error);
    if (!status) status = open_models(s, error);
    if (!status && !(s->queue = sv_queue_create(s->settings.queue, sv_queue_share(&s->settings))))
        status = sv_fail(error, SV_ERROR, SPLAM_MEMORY, "out of memory for the queue");
    const sv_settings *o = &s->settings;
    if (!status && o->watched_count && !(s->runs = sv_runs_create(o->watched, o->watched_count)))
        status = sv_fail(error, SV_ERROR, SPLAM_MEMORY, "out of memory for what is watched");
    if (!status && !(s->openapi = sv_openapi_make(o->key_file != NULL)))
        status = sv_fail(error, SV_ERROR, SPLAM_MEMORY, "out of memory for the interface's description");
    return status ? status : begin(s, error);
}

splam_status sv_server_start(const sv_settings *settings, sv_server **out, char error[SV_ERROR])
{
    sv_server *s = calloc(1, sizeof *s);
    *out = NULL;
    sv_json_watch();
    if (!s) return sv_fail(error, SV_ERROR, SPLAM_MEMORY, "out of memory for the server");
    s->settings = *settings;
    s->listener.socket = -1;
    s->created = (int64_t)time(NULL);
    s->started = sv_now();
    pthread_mutex_init(&s->keys_lock, NULL);
    pthread_mutex_init(&s->certificate_lock, NULL);
    pthread_mutex_init(&s->links_lock, NULL);
    splam_status status = start(s, error);
    if (status)
        sv_server_free(s);
    else
        *out = s;
    return status;
}

const char *sv_server_address(const sv_server *s)
{
    return s->listener.where;
}

const char *sv_server_url(const sv_server *s)
{
    return s->url;
}

/* ---- the end ---- */

void sv_server_close(sv_server *s)
{
    if (atomic_exchange(&s->closed, true)) return;
    if (s->daemon) MHD_quiesce_daemon(s->daemon);
    sv_listener_close(&s->listener);
    if (s->queue) sv_queue_close(s->queue);
}

bool sv_server_is_busy(sv_server *s)
{
    sv_queue_counts counts;
    sv_queue_count(s->queue, &counts);
    return counts.running > 0 || s->exchanges > 0;
}

/* Answers that are on their way get so long. */
static void drain(sv_server *s)
{
    enum { TRIES = 200 };
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; i < TRIES && s->exchanges > 0; i++)
        nanosleep(&pause, NULL);
}

void sv_server_free(sv_server *s)
{
    if (!s) return;
    sv_server_close(s);
    s->ending = true;
    if (s->draws) pthread_join(s->drawing, NULL); /* every job has ended then, and nobody waits */
    if (s->tends) pthread_join(s->tending, NULL);
    if (s->watches) pthread_join(s->watching, NULL);
    if (s->daemon) {
        drain(s);
        MHD_stop_daemon(s->daemon);
    }
    if (s->logs) splam_set_log(NULL, NULL);
    sv_queue_destroy(s->queue);
    sv_models_free(s->models);
    sv_runs_free(s->runs);
    sv_keys_free(&s->keys);
    sv_certificate_release(s->certificate);
    pthread_mutex_destroy(&s->keys_lock);
    pthread_mutex_destroy(&s->certificate_lock);
    pthread_mutex_destroy(&s->links_lock);
    free(s->openapi);
    free(s);
}
