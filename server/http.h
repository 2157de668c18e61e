/* One request and its answer, over libmicrohttpd: the table of routes, what is checked before anything is read, errors
 * as JSON, waiting and streaming. All of it runs in libmicrohttpd's thread, and nothing in it waits. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H
#include <microhttpd.h>
#include "json.h"
#include "queue.h"

/* What the parts of the server share. */
typedef struct sv_links sv_links;
struct sv_server;

/* How an error is written: {"error": {"message", "type", "param", "code"}} as OpenAI's, {"error", "detail"} as
 * A1111's. */
typedef enum { SV_OPENAI, SV_SDAPI } sv_style;

/* Who gets an answer, and from which server. */
typedef enum {
    SV_OPEN, /* anyone */
    SV_KEY,  /* whoever has a key, where one is asked for */
    SV_DRAWS /* likewise, of a server that has models */
} sv_access;

typedef struct sv_exchange sv_exchange;
/* What /openapi.json says of a route. */
typedef struct {
    const char *summary;
    const sv_interface *body; /* whose fields its body has; NULL: none, or an object */
    const char *query;        /* a parameter that is true or false; NULL: none */
    const char *type;         /* of the answer, one or several, "a/b|c/d"; NULL: application/json */
} sv_description;
typedef struct {
    const char *method, *path; /* a part "*" stands for any word */
    sv_style style;
    sv_access access;
    size_t body;               /* most bytes of its JSON; 0: a body means nothing */
    void (*answer)(sv_exchange *x); /* calls one of the functions below, once */
    sv_description about;
} sv_route;
extern const sv_route sv_routes[]; /* an empty one is the last */

struct sv_exchange {
    struct sv_server *server;
    struct MHD_Connection *connection;
    const sv_route *route;
    bool sdapi;           /* errors are told in A1111's form */
    char word[64];        /* what "*" stands for */
    uint64_t client;      /* the key's number, or where no key is asked for the address or user */
    char *body;
    size_t length, room;
    struct sv_link *link;
    double began;
    int code;             /* of the answer; 0: there is none yet */
    struct MHD_Response *response;
    bool streams;
    /* Waiting for a job. */
    sv_watcher watcher;
    sv_job *job;          /* a reference */
    void (*finish)(sv_exchange *x);
};

/* Answers with an object or list, which is freed; with 503 where memory did not suffice for all of it since
 * sv_json_begin, which has been called ahead of the route's function. */
void sv_reply_json(sv_exchange *x, int code, json_t *json);
/* With a text (free), which becomes the answer's. */
void sv_reply_text(sv_exchange *x, int code, const char *type, char *text);
/* With what libmicrohttpd made, which becomes the answer's; NULL: out of memory. */
void sv_reply(sv_exchange *x, int code, const char *type, struct MHD_Response *response);
/* What OpenAI's interface has as `error`. */
json_t *sv_error_json(int code, const char *field, const char *message);
/* With an error as the route's style has it. field: may be NULL. */
void sv_reply_error(sv_exchange *x, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A header more, after one of these. */
void sv_reply_header(sv_exchange *x, const char *name, const char *value);

/* The body, an object or something else; NULL: it has been answered that it is no JSON. */
json_t *sv_exchange_json(sv_exchange *x);
/* The body as a job of this interface, added to the line; NULL: it has been answered why not. A reference. */
sv_job *sv_exchange_job(sv_exchange *x, const sv_interface *interface, bool kept);
/* Answers with `finish` when the job, whose reference it takes, has ended. */
void sv_exchange_wait(sv_exchange *x, sv_job *job, void (*finish)(sv_exchange *x));
/* The socket of its client. */
int sv_exchange_socket(const sv_exchange *x);
/* Why a job ended before it was done, in the interface's words, and the HTTP status of that. */
int sv_job_failure(const sv_job *job, const sv_interface *interface, char *message, size_t size);
/* Answers for a job that ended before it was done, in the interface's words. */
void sv_reply_unfinished(sv_exchange *x, const sv_job *job, const sv_interface *interface);

/* ---- for the server ---- */

enum MHD_Result sv_http_handle(void *server, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *size, void **state);
/* Of a path or argument; one with a zero byte, behind which nothing would be read, becomes empty. */
size_t sv_http_unescape(void *server, struct MHD_Connection *connection, char *text);
void sv_http_completed(void *server, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code);
void sv_http_connection(void *server, struct MHD_Connection *connection, void **link,
                        enum MHD_ConnectionNotificationCode code);
/* Closes connections whose time is over. */
void sv_http_tend(struct sv_server *server);

#endif
