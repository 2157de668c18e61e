/* Addresses, sockets of Unix and systemd's. */
#include "listen.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "guard.h"
#include "sentence.h"

/* Where a bound socket is; false: it is of another kind. */
static bool describe(sv_listener *l)
{
    sv_address bound = {.length = sizeof bound.storage};
    if (getsockname(l->socket, (struct sockaddr *)&bound.storage, &bound.length) != 0) return false;
    l->is_unix = bound.storage.ss_family == AF_UNIX;
    if (l->is_unix) {
        const struct sockaddr_un *at = (const struct sockaddr_un *)&bound.storage;
        snprintf(l->where, sizeof l->where, "unix:%s", bound.length > sizeof at->sun_family ? at->sun_path : "");
        l->local = true;
        return true;
    }
    if (bound.storage.ss_family != AF_INET && bound.storage.ss_family != AF_INET6) return false;
    sv_address_write(&bound, l->where, sizeof l->where);
    l->local = sv_address_is_loopback(&bound);
    return true;
}

/* ---- an address ---- */

/* Nobody is let in yet: that is listen(2)'s. */
static splam_status open_address(const char *text, sv_listener *l, char *error, size_t size)
{
    int on = 1;
    sv_address address;
    if (!sv_address_read(text, &address))
        return sv_fail(error, size, SPLAM_ARGUMENT,
                       "`listen` is \"%s\", ADDRESS:PORT in numbers is expected, such as 127.0.0.1:7860 or [::1]:7860",
                       text);
    l->local = sv_address_is_loopback(&address);
    l->socket = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->socket < 0) return sv_fail(error, size, SPLAM_IO, "%s: no socket: %s", text, strerror(errno));
    setsockopt(l->socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(l->socket, (const struct sockaddr *)&address.storage, address.length) != 0 || !describe(l))
        return sv_fail(error, size, SPLAM_IO, "%s: cannot listen there: %s", text, strerror(errno));
    return SPLAM_OK;
}

/* ---- a socket of Unix ---- */

/* Whether a socket's file is what a server left behind: nobody listens there. */
static bool is_stale(const struct sockaddr_un *at)
{
    struct stat s;
    if (lstat(at->sun_path, &s) != 0 || !S_ISSOCK(s.st_mode)) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return stale;
}

static splam_status open_unix(const char *path, sv_listener *l, char *error, size_t size)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof at.sun_path)
        return sv_fail(error, size, SPLAM_ARGUMENT, "`unix` has %zu bytes, 1 to %zu are expected", strlen(path),
                       sizeof at.sun_path - 1);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    l->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->socket < 0) return sv_fail(error, size, SPLAM_IO, "%s: no socket: %s", path, strerror(errno));
    if (is_stale(&at)) unlink(path);
    if (bind(l->socket, (const struct sockaddr *)&at, sizeof at) != 0)
        return sv_fail(error, size, SPLAM_IO, "%s: cannot listen there: %s", path, strerror(errno));
    snprintf(l->remove, sizeof l->remove, "%s", path);
    if (chmod(path, 0660) != 0 || !describe(l))
        return sv_fail(error, size, SPLAM_IO, "%s: cannot listen there: %s", path, strerror(errno));
    return SPLAM_OK;
}

/* ---- systemd's ---- */

/* How many sockets were handed over, from number 3 on. */
static long handed_over(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    return pid && count && strtol(pid, NULL, 10) == (long)getpid() ? strtol(count, NULL, 10) : 0;
}

static splam_status take_handed_over(long count, sv_listener *l, char *error, size_t size)
{
    enum { FIRST = 3 };
    int accepts = 0;
    socklen_t length = sizeof accepts;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count != 1)
        return sv_fail(error, size, SPLAM_ARGUMENT, "systemd hands over %ld sockets, one is expected", count);
    l->socket = FIRST;
    int flags = fcntl(FIRST, F_GETFL);
    if (flags < 0 || fcntl(FIRST, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(FIRST, F_SETFD, FD_CLOEXEC) != 0 ||
        getsockopt(FIRST, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) != 0 || !accepts || !describe(l))
        return sv_fail(error, size, SPLAM_IO, "systemd hands over no socket that listens for connections");
    return SPLAM_OK;
}

splam_status sv_listener_open(const sv_settings *s, sv_listener *l, char *error, size_t size)
{
    long handed = handed_over();
    *l = (sv_listener){.socket = -1};
    if (s->listen && s->unix_path)
        return sv_fail(error, size, SPLAM_ARGUMENT, "`listen` and `unix` exclude each other");
    if (handed && (s->listen || s->unix_path))
        return sv_fail(error, size, SPLAM_ARGUMENT, "`%s` is given, and systemd hands over a socket",
                       s->listen ? "listen" : "unix");
    if (handed) return take_handed_over(handed, l, error, size);
    if (s->unix_path) return open_unix(s->unix_path, l, error, size);
    return open_address(s->listen ? s->listen : "127.0.0.1:7860", l, error, size);
}

void sv_listener_close(sv_listener *l)
{
    if (l->socket >= 0) close(l->socket);
    l->socket = -1;
    if (*l->remove) unlink(l->remove);
    *l->remove = 0;
}

/* ---- messages ---- */

bool sv_notify(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof to.sun_path) return false;
    size_t length = strlen(path);
    memcpy(to.sun_path, path, length);
    if (*path == '@') to.sun_path[0] = 0; /* Linux's names that are no files */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    bool sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to, size) >= 0;
    close(fd);
    return sent;
}
