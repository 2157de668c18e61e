/* The server: models that are held, drawn with over HTTP. A client of the public headers like any other.
 *
 * Three threads beside the caller's: libmicrohttpd's, which reads requests, answers them and never waits; one that
 * draws, a batch after the other, since a picture takes all processors; one that tends: closes connections that are
 * too slow, cancels jobs whose clients have left, forgets old results. What they share is the queue (queue.h), behind
 * its one lock. A fourth reads the files of distillations that are watched, where there are some (runs.h). */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H
#include <splam/splam.h>

typedef struct sv_server sv_server;

/* Begin with sv_settings_defaults(). Texts are needed until sv_server_free. */
typedef struct {
    const char *const *models; /* paths, see splam_model_open; requests name them by their last parts, and the first is
                                  drawn with where they name none */
    size_t model_count;
    splam_model_options model_options; /* of all of them */
    const char *const *watched; /* output folders of distillations, which /watch shows; without models nothing is
                                   drawn */
    size_t watched_count;
    const char *lora_folder;      /* with adapters, *.safetensors, that requests may name; NULL: none */
    const char *embedding_folder; /* with learned tokens that prompts may have; NULL: none */
    const char *output_folder;    /* where pictures go that sdapi's save_images asks for; NULL: it is refused */
    const char *listen;       /* "ADDRESS:PORT", "[ADDRESS]:PORT"; port 0: a free one [what systemd hands over, else
                                 "127.0.0.1:7860"] */
    const char *unix_path;    /* a socket of Unix instead; NULL: none */
    const char *certificate;  /* a file in PEM, with those that it is signed by: clients speak TLS; NULL: they do not */
    const char *certificate_key; /* its key, in PEM */
    const char *key_file;     /* keys, one a line, see sv_keys_read; NULL: none is asked for */
    bool no_key;              /* none is asked for though `listen` is no address of this machine alone */
    const char *const *hosts; /* names that it is called by, beside localhost and addresses */
    size_t host_count;
    int64_t queue;            /* jobs that may wait [16] */
    int64_t queue_share;      /* and so many of one client [three quarters of them, at least one] */
    double deadline_seconds;  /* that a request may take, waiting included, and may say fewer; 0: any [0] */
    int64_t memory_limit;     /* bytes that the process may take, see splam_generate_options; models that were used
                                 longest ago are closed to stay within; SPLAM_UNSET: any */
    bool log_prompts;         /* what clients ask for is logged too */
    double request_seconds;   /* a request has arrived whole after so many, or its connection is closed [60] */
    double answer_seconds;    /* and so long it may take to fetch an answer [300] */
    splam_callbacks opening; /* asked while the model is opened */
    void (*log)(const char *line); /* gets a line for each request and fault, on any thread; NULL: nothing does */
} sv_settings;
sv_settings sv_settings_defaults(void);

enum { SV_ERROR = 1024 };
/* Opens the model, listens and begins. Of a failure `error` has one sentence: SPLAM_ARGUMENT for settings, what
 * splam_model_open says, SPLAM_IO where it cannot listen. */
splam_status sv_server_start(const sv_settings *settings, sv_server **out, char error[SV_ERROR]);
const char *sv_server_address(const sv_server *server); /* "127.0.0.1:7860", with the port that it has, "unix:PATH" */
const char *sv_server_url(const sv_server *server);     /* with "http://" or "https://"; of a socket of Unix the same */
/* Tells systemd, as sd_notify(3): "READY=1". False: nobody wants to know, or it cannot be sent. */
bool sv_notify(const char *state);
/* Reads the keys, and the folders of adapters and learned tokens, anew: they hold for requests that begin afterwards;
 * and the certificate with its key, for connections that begin afterwards. What cannot be read or is malformed stays as
 * it was, each for itself, and the log says which. False: something has. One thread at a time. */
bool sv_server_reload(sv_server *server);
/* From here on nothing is accepted, and what waits is answered with 503; what is being drawn goes on. */
void sv_server_close(sv_server *server);
bool sv_server_is_busy(sv_server *server); /* a picture is being drawn or an answer is on its way */
/* Cancels what is being drawn and waits for all threads. NULL is legal. */
void sv_server_free(sv_server *server);

#endif
