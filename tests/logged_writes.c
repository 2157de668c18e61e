/* Loaded before the C library (LD_PRELOAD): what a program does to the files of one folder is written down, or the disk
 * that they lie on is full. For tests/check_power.sh and tests/check_full.sh.
 *   LOGGED_FOLDER=PATH  the folder, as the program is told of it
 *   LOGGED_TO=FOLDER    a line for each change goes to FOLDER/log, what files hold to FOLDER/NUMBER:
 *                         file INODE PATH    a name of a file that is new, or empty again
 *                         data INODE NUMBER  what it holds, not on the disk yet
 *                         sync INODE NUMBER  what it holds, on the disk
 *                         folder INODE PATH  a new folder
 *                         names INODE        its names are on the disk
 *                         rename FROM TO     exchange FROM TO     remove PATH
 *   FULL_AFTER=N        so many bytes can be written below PATH, then there is no space; others are not counted
 *   FULL_COUNT=FILE     how many were asked for is written there at the end
 * Only what the program and its library call is seen, not what happens inside the C library. Paths have no blanks. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#pragma GCC visibility push(default)

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int log_fd = -1;
static long data_count;
static int64_t asked, left = INT64_MAX;

__attribute__((constructor)) static void begin(void)
{
    const char *full = getenv("FULL_AFTER"), *to = getenv("LOGGED_TO");
    char path[4096];
    if (full) left = atoll(full);
    if (!to) return;
    snprintf(path, sizeof path, "%s/log", to);
    log_fd = NEXT(open64)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FULL_COUNT");
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRId64 "\n", asked);
    int fd = path ? NEXT(open64)(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (fd >= 0 && NEXT(write)(fd, text, (size_t)length) != length) _exit(99);
}

static bool is_inside(const char *path)
{
    const char *folder = getenv("LOGGED_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    return length && strncmp(path, folder, length) == 0 && (!path[length] || path[length] == '/');
}

/* ---- the log ---- */

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...)
{
    char line[8192];
    va_list arguments;
    if (log_fd < 0) return;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (NEXT(write)(log_fd, line, (size_t)length) != length) _exit(99);
}

/* The path of an open file, "" if it is none of the folder's. */
static const char *path_of(int fd, char path[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = fd < 0 ? -1 : readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    if (!is_inside(path)) *path = 0;
    return path;
}

static uint64_t inode_of(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 ? (uint64_t)info.st_ino : 0;
}

static void copy_to(const char *from, const char *to)
{
    char piece[65536];
    int in = NEXT(open64)(from, O_RDONLY | O_CLOEXEC), out = NEXT(open64)(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    ssize_t got;
    if (in < 0 || out < 0) _exit(99);
    while ((got = read(in, piece, sizeof piece)) > 0)
        if (NEXT(write)(out, piece, (size_t)got) != got) _exit(99);
    NEXT(close)(in);
    NEXT(close)(out);
}

/* What an open file holds now. */
static void note_data(int fd, const char *what)
{
    char path[4096], copy[4096];
    struct stat info;
    if (log_fd < 0 || !*path_of(fd, path) || fstat(fd, &info) != 0) return;
    if (S_ISDIR(info.st_mode)) {
        if (strcmp(what, "sync") == 0) note("names %" PRIu64 "\n", (uint64_t)info.st_ino);
        return;
    }
    snprintf(copy, sizeof copy, "%s/%ld", getenv("LOGGED_TO"), ++data_count);
    copy_to(path, copy);
    note("%s %" PRIu64 " %ld\n", what, (uint64_t)info.st_ino, data_count);
}

/* ---- the disk ---- */

/* How many of `size` bytes for this file there is space for. */
static size_t take_space(int fd, size_t size)
{
    char path[4096];
    if (!*path_of(fd, path)) return size;
    asked += (int64_t)size;
    size_t taken = (int64_t)size < left ? size : (size_t)left;
    if (left != INT64_MAX) left -= (int64_t)taken;
    return taken;
}

/* What is written to the stream from here on fails as on a full disk, and stays failed for its owner. */
static void fill_disk(FILE *stream)
{
    int full = NEXT(open64)("/dev/full", O_WRONLY | O_CLOEXEC);
    NEXT(fflush)(stream);
    if (full < 0 || dup2(full, fileno(stream)) < 0) _exit(99);
    NEXT(close)(full);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream)
{
    size_t bytes = size * count, taken = take_space(fileno(stream), bytes);
    if (taken == bytes) return NEXT(fwrite)(data, size, count, stream);
    NEXT(fwrite)(data, 1, taken, stream);
    fill_disk(stream);
    NEXT(fwrite)((const char *)data + taken, 1, bytes - taken, stream);
    return NEXT(fflush)(stream) ? taken / size : count;
}

int fputs(const char *text, FILE *stream)
{
    return fwrite(text, 1, strlen(text), stream) == strlen(text) ? 1 : EOF;
}

int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
    char *text;
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) return -1;
    if (fwrite(text, 1, (size_t)length, stream) != (size_t)length) length = -1;
    free(text);
    return length;
}

ssize_t write(int fd, const void *data, size_t size)
{
    size_t taken = take_space(fd, size);
    if (size && !taken) return errno = ENOSPC, -1;
    ssize_t done = NEXT(write)(fd, data, taken);
    if (done > 0) note_data(fd, "data");
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    size_t taken = take_space(fd, size);
    if (size && !taken) return errno = ENOSPC, -1;
    ssize_t done = NEXT(pwrite64)(fd, data, taken, at);
    if (done > 0) note_data(fd, "data");
    return done;
}

/* ---- files ---- */

static void note_file(const char *path, bool is_new, bool emptied)
{
    if (is_inside(path) && (is_new || emptied)) note("file %" PRIu64 " %s\n", inode_of(path), path);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    bool is_new = flags & O_CREAT && is_inside(path) && !inode_of(path);
    int fd = NEXT(open64)(path, flags, mode);
    if (fd >= 0) note_file(path, is_new, flags & O_TRUNC);
    return fd;
}

FILE *fopen64(const char *path, const char *mode)
{
    bool is_new = *mode != 'r' && is_inside(path) && !inode_of(path);
    FILE *stream = NEXT(fopen64)(path, mode);
    if (stream) note_file(path, is_new, *mode == 'w');
    return stream;
}

int fflush(FILE *stream)
{
    int result = NEXT(fflush)(stream);
    if (stream) note_data(fileno(stream), "data");
    return result;
}

int fclose(FILE *stream)
{
    char path[4096];
    if (*path_of(fileno(stream), path)) fflush(stream);
    return NEXT(fclose)(stream);
}

int fsync(int fd)
{
    int result = NEXT(fsync)(fd);
    if (result == 0) note_data(fd, "sync");
    return result;
}

int fdatasync(int fd)
{
    int result = NEXT(fdatasync)(fd);
    if (result == 0) note_data(fd, "sync");
    return result;
}

/* ---- names ---- */

int mkdir(const char *path, mode_t mode)
{
    int result = NEXT(mkdir)(path, mode);
    if (result == 0 && is_inside(path)) note("folder %" PRIu64 " %s\n", inode_of(path), path);
    return result;
}

int unlink(const char *path)
{
    int result = NEXT(unlink)(path);
    if (result == 0 && is_inside(path)) note("remove %s\n", path);
    return result;
}

int rmdir(const char *path)
{
    int result = NEXT(rmdir)(path);
    if (result == 0 && is_inside(path)) note("remove %s\n", path);
    return result;
}

int rename(const char *from, const char *to)
{
    int result = NEXT(rename)(from, to);
    if (result == 0 && is_inside(to)) note("rename %s %s\n", from, to);
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    int result = NEXT(renameat2)(from_folder, from, to_folder, to, flags);
    if (result == 0 && is_inside(to)) note("%s %s %s\n", flags & RENAME_EXCHANGE ? "exchange" : "rename", from, to);
    return result;
}
