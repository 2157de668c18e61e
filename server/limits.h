/* What one request may take. Checked before the memory is taken. */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

enum {
    SV_CONNECTIONS = 128,
    SV_HEADER_BYTES = 32 << 10,     /* of the request's line and headers */
    SV_BODY_BYTES = 1 << 20,        /* of a request without pictures */
    SV_PICTURE_BODY_BYTES = 32 << 20, /* of one with a picture, in base64 */
    SV_BODIES_BYTES = 128 << 20,    /* of all that arrive at once */
    SV_JSON_PARTS = 20000,          /* values in one body */
    SV_PROMPT_BYTES = 16 << 10,
    SV_BATCH = 8,                   /* requests that are drawn at once, a power of two */
    SV_COUNT = 64,                  /* pictures of one request */
    SV_PIXELS = 4 << 20,            /* of one picture, 2048 x 2048 */
    SV_ALL_PIXELS = 16 << 20,       /* of all pictures of a request */
    SV_START_PIXELS = 32 << 20,     /* of a picture to start from */
    SV_DEADLINE_SECONDS = 86400,    /* that a request may name */
    SV_KEPT_JOBS = 64,              /* results that nobody has deleted */
    SV_KEPT_BYTES = 256 << 20,
    SV_KEPT_SECONDS = 900,
    SV_WATCHERS = 64,               /* streams of events at once */
};

#endif
