/* Pictures that are kept on the server's side. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"

enum { PATH_BYTES = 4096 };

/* One beyond the largest that a file of the folder begins with. */
static int64_t next_number(const char *folder)
{
    int64_t next = 0;
    DIR *dir = opendir(folder);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        char *end;
        long long number = strtoll(d->d_name, &end, 10);
        if (*end == '-' && d->d_name[0] >= '0' && d->d_name[0] <= '9' && number >= next && number < 1000000000)
            next = number + 1;
    }
    if (dir) closedir(dir);
    return next;
}

static bool write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

/* Whole under its name or not at all. */
static bool write_file(const char *folder, const splam_drawn *p, char *temporary)
{
    snprintf(temporary, PATH_BYTES, "%s/.splam-XXXXXX", folder);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        *temporary = 0;
        return false;
    }
    bool good = write_all(fd, p->file, p->file_size) && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
    int failure = errno;
    if (close(fd) != 0 && good) return false;
    errno = failure;
    return good;
}

/* Nothing that is there is replaced. */
static bool name_file(sv_server *s, const char *folder, const char *temporary, uint64_t seed, const char *suffix)
{
    enum { TRIES = 1000 };
    for (int i = 0; i < TRIES; i++) {
        char path[PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s/%05" PRId64 "-%" PRIu64 ".%s", folder, s->saved_number++, seed, suffix);
        if (link(temporary, path) == 0) return true;
        if (errno != EEXIST) return false;
    }
    return false;
}

bool sv_save(sv_server *s, const splam_drawn *picture, const char *suffix, char *error, size_t size)
{
    char day[16], folder[PATH_BYTES - 64], temporary[PATH_BYTES] = "";
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(day, sizeof day, "%Y-%m-%d", &local);
    snprintf(folder, sizeof folder, "%s/%s", s->settings.output_folder, day);
    bool made = mkdir(folder, 0755) == 0 || errno == EEXIST;
    if (made && strcmp(day, s->saved_day)) {
        s->saved_number = next_number(folder);
        snprintf(s->saved_day, sizeof s->saved_day, "%s", day);
    }
    bool saved =
        made && write_file(folder, picture, temporary) && name_file(s, folder, temporary, picture->seed, suffix);
    if (!saved) snprintf(error, size, "%s: a picture cannot be saved: %s", folder, strerror(errno));
    if (*temporary) unlink(temporary);
    return saved;
}
