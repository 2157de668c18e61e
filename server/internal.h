/* What the parts of the server share. */
#ifndef SERVER_INTERNAL_H
#define SERVER_INTERNAL_H
#include <pthread.h>
#include "certificate.h"
#include "guard.h"
#include "http.h"
#include "limits.h"
#include "listen.h"
#include "models.h"
#include "runs.h"
#include "server.h"

/* A connection, and until when its client has to have done something. */
typedef struct sv_link sv_link;
struct sv_link {
    int socket;
    double deadline; /* 0: none */
    sv_certificate *certificate; /* a holder; NULL: it has no TLS */
    sv_link *next;
};

struct sv_server {
    sv_settings settings;
    pthread_mutex_t keys_lock;
    sv_keys keys; /* guarded; of settings.key_file, without which none is asked for */
    sv_listener listener;
    pthread_mutex_t certificate_lock;
    sv_certificate *certificate; /* guarded, of connections that begin; NULL: clients speak no TLS */
    char url[300];
    sv_models_settings models_settings;
    sv_models *models;
    atomic_bool listing; /* models are tried with learned tokens */
    char saved_day[16];  /* that thread's: when a picture was saved last, and the number of the next one */
    int64_t saved_number;
    int64_t created; /* seconds since 1970 */
    double started;
    char *openapi; /* the answer of that route */
    sv_queue *queue;
    sv_runs *runs; /* that are watched; NULL: none are */
    struct MHD_Daemon *daemon;
    pthread_t drawing, tending, watching;
    bool draws, tends, watches; /* the threads are there */
    bool logs;         /* the library's messages are this server's */
    atomic_bool closed, ending;
    atomic_long exchanges;    /* requests that have no answer yet, or not all of it */
    atomic_long bodies;       /* bytes of bodies that are held */
    atomic_ulong answers[600]; /* by code */
    pthread_mutex_t links_lock;
    sv_link *links;
};

/* Jobs of one client that may wait. */
int64_t sv_queue_share(const sv_settings *settings);
/* A line for the log, without what clients sent. */
void sv_log(const sv_server *server, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes a picture's file to the output folder, as FOLDER/YYYY-MM-DD/NNNNN-SEED.SUFFIX, the number being beyond all
 * that are there, as A1111 does. False after a sentence. The drawing thread's. */
bool sv_save(sv_server *server, const splam_drawn *picture, const char *suffix, char *error, size_t size);
/* libmicrohttpd with all that the server has set of it, and these flags more; NULL: it cannot begin. */
struct MHD_Daemon *sv_daemon_start(sv_server *server, unsigned flags);
/* Thread: draws jobs until the queue is closed. */
void *sv_draw(void *server);
/* Draws jobs of sv_queue_take, as one batch. */
void sv_draw_jobs(sv_server *server, sv_job *const *jobs, size_t count);

/* Of this process. */
int64_t sv_resident_bytes(void);

/* A list of the warnings. */
json_t *sv_job_warnings(const sv_job *job);
/* A small picture as a file ("png", "jpg", "webp") in base64, a value; NULL: there is none, or no memory. */
json_t *sv_small_json(const sv_small *small, const char *format);
/* State, progress and error of a job as an object; its pictures where it has ended and they are wanted. */
json_t *sv_job_json(sv_server *server, const sv_job *job, bool pictures);

/* What /openapi.json says, new (free); NULL: out of memory. has_key: requests need one. */
char *sv_openapi_make(bool has_key);
/* The routes. */
void sv_answer_page(sv_exchange *x);
void sv_answer_watch_page(sv_exchange *x);
void sv_answer_runs(sv_exchange *x);
void sv_answer_run(sv_exchange *x);
void sv_answer_sheet(sv_exchange *x);
void sv_answer_health(sv_exchange *x);
void sv_answer_openapi(sv_exchange *x);
void sv_answer_metrics(sv_exchange *x);
void sv_answer_models(sv_exchange *x);
void sv_answer_generations(sv_exchange *x);
void sv_answer_edits(sv_exchange *x);
void sv_answer_submit(sv_exchange *x);
void sv_answer_job(sv_exchange *x);
void sv_answer_delete(sv_exchange *x);
void sv_answer_events(sv_exchange *x);
void sv_answer_txt2img(sv_exchange *x);
void sv_answer_img2img(sv_exchange *x);
void sv_answer_progress(sv_exchange *x);
void sv_answer_interrupt(sv_exchange *x);
void sv_answer_skip(sv_exchange *x);
void sv_answer_memory(sv_exchange *x);
void sv_answer_options(sv_exchange *x);
void sv_answer_set_options(sv_exchange *x);
void sv_answer_loras(sv_exchange *x);
void sv_answer_embeddings(sv_exchange *x);
void sv_answer_sd_models(sv_exchange *x);
void sv_answer_samplers(sv_exchange *x);
void sv_answer_schedulers(sv_exchange *x);
void sv_answer_png_info(sv_exchange *x);

#endif
