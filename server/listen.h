/* Where the server listens: an address, a socket of Unix, or a socket that systemd holds. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H
#include <splam/splam.h>
#include <stddef.h>
#include "server.h"

typedef struct {
    int socket; /* bound and not listening yet, unless systemd's; -1: none */
    bool local; /* only this machine, or whom the file's permissions let, reaches it */
    bool is_unix;
    char where[256];  /* "127.0.0.1:7860", "unix:/run/splam/socket" */
    char remove[128]; /* a path to unlink at the end; "": none */
} sv_listener;

/* As `listen` and `unix_path` say, or without both systemd's one socket (LISTEN_PID, LISTEN_FDS), which then is the
 * environment's no more. Of a failure `error` has one sentence: SPLAM_ARGUMENT for what is no place, or for more than
 * one, SPLAM_IO where it cannot be. sv_listener_close in every case. A socket's file that nobody listens at is
 * replaced; one that is made has mode 0660. */
splam_status sv_listener_open(const sv_settings *settings, sv_listener *out, char *error, size_t size);
void sv_listener_close(sv_listener *listener);

#endif
