/* Files and folders. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

sp_status sp_system_status(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE ? SP_MEMORY : SP_IO;
}

static sp_status fail_errno(const char *what, const char *path)
{
    return sp_fail(sp_system_status(errno), "%s: %s: %s", path, what, strerror(errno));
}

sp_status sp_open_regular(const char *path, bool follow, int *descriptor, size_t *size)
{
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
    if (fd < 0 && errno == ELOOP && !follow)
        return sp_fail(SP_IO, "%s: expected a file, found a symbolic link", path);
    if (fd < 0) return fail_errno("cannot open", path);
    struct stat info;
    sp_status status = SP_OK;
    if (fstat(fd, &info) != 0)
        status = fail_errno("cannot read its size", path);
    else if (!S_ISREG(info.st_mode))
        status = sp_fail(SP_IO, "%s: expected a file, found %s", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "something else");
    if (status != SP_OK) {
        close(fd);
        return status;
    }
    *descriptor = fd;
    *size = (size_t)info.st_size;
    return SP_OK;
}

sp_status sp_read_file(const char *path, char **out, size_t *size)
{
    *out = NULL;
    int fd;
    size_t expected;
    SP_TRY(sp_open_regular(path, true, &fd, &expected));
    char *text = sp_alloc(expected + 1);
    if (!text) {
        close(fd);
        return SP_MEMORY;
    }
    size_t length = 0;
    sp_status status = SP_OK;
    while (length < expected) {
        ssize_t got = read(fd, text + length, expected - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = fail_errno("cannot read", path);
        if (got == 0) status = sp_fail(SP_IO, "%s: became shorter while it was read", path);
        if (got <= 0) break;
        length += (size_t)got;
    }
    close(fd);
    if (status != SP_OK) {
        sp_free(text);
        return status;
    }
    text[length] = '\0';
    *out = text;
    if (size) *size = length;
    return SP_OK;
}

static void release_atomic(sp_atomic_file *file)
{
    sp_free(file->path);
    sp_free(file->temporary);
    *file = (sp_atomic_file){0};
}

/* What is renamed over a device, such as /dev/null, takes its place for every other program. */
sp_status sp_check_replaceable(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) return SP_OK;
    return sp_fail(SP_IO, "%s: cannot be replaced by a file: it is %s", path,
                   S_ISDIR(info.st_mode) ? "a folder" : "a device or a pipe");
}

sp_status sp_atomic_open(const char *path, sp_atomic_file *out)
{
    *out = (sp_atomic_file){0};
    SP_TRY(sp_check_replaceable(path));
    sp_atomic_file file = {.path = sp_strdup(path)};
    if (file.path) file.temporary = sp_format("%s.tmp-%ld", path, (long)getpid());
    if (!file.temporary) {
        release_atomic(&file);
        return SP_MEMORY;
    }
    file.stream = fopen(file.temporary, "wbe");
    if (!file.stream) {
        sp_status status = fail_errno("cannot create", file.temporary);
        release_atomic(&file);
        return status;
    }
    *out = file;
    return SP_OK;
}

/* A rename is only durable once its folder is on disk; a file system that cannot do that is no
 * failure, a disk that fails is. */
static sp_status sync_folder_of(const char *path)
{
    const char *base = sp_path_base(path);
    char folder[4096] = ".";
    size_t length = (size_t)(base - path);
    if (length >= sizeof folder) return SP_OK;
    if (length) {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return SP_OK;
    bool failed = fsync(fd) != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT);
    sp_status status = failed ? fail_errno("it is written, but not to last", path) : SP_OK;
    close(fd);
    return status;
}

/* So that the last wait, which nothing can interrupt, is not for gigabytes. What fails is found then. */
static void sync_in_between(sp_atomic_file *file, size_t piece)
{
    file->unsynced += piece;
    if (file->unsynced < (size_t)64 << 20) return;
    file->unsynced = 0;
    if (fflush(file->stream) == 0) fdatasync(fileno(file->stream));
}

void sp_atomic_write(sp_atomic_file *file, const void *data, size_t size)
{
    const size_t most = (size_t)4 << 20;
    for (const char *next = data; size > 0 && !file->ended;) {
        size_t piece = size < most ? size : most;
        if (fwrite(next, 1, piece, file->stream) != piece) return;
        if (file->watch) file->ended = file->watch->wrote(file->watch->context, next, piece);
        if (file->ended) return;
        sync_in_between(file, piece);
        next += piece;
        size -= piece;
    }
}

sp_status sp_atomic_commit(sp_atomic_file *file)
{
    sp_status status = file->ended;
    if (!status && (fflush(file->stream) != 0 || ferror(file->stream) || fsync(fileno(file->stream)) != 0))
        status = fail_errno("cannot write", file->temporary);
    if (fclose(file->stream) != 0 && status == SP_OK)
        status = fail_errno("cannot write", file->temporary);
    file->stream = NULL;
    if (status == SP_OK && rename(file->temporary, file->path) != 0)
        status = fail_errno("cannot put the new file in place", file->path);
    if (status) unlink(file->temporary);
    if (!status) status = sync_folder_of(file->path);
    release_atomic(file);
    return status;
}

void sp_atomic_abandon(sp_atomic_file *file)
{
    if (file->stream) fclose(file->stream);
    if (file->temporary) unlink(file->temporary);
    release_atomic(file);
}

sp_status sp_write_file(const char *path, const void *data, size_t size)
{
    sp_atomic_file file;
    SP_TRY(sp_atomic_open(path, &file));
    sp_atomic_write(&file, data, size);
    return sp_atomic_commit(&file);
}

char *sp_path_join(const char *folder, const char *name)
{
    if (!*folder) return sp_strdup(name);
    return sp_format(folder[strlen(folder) - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
}

char *sp_path_beside(const char *path, const char *name)
{
    return sp_format("%.*s%s", (int)(sp_path_base(path) - path), path, name);
}

const char *sp_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool sp_path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 || (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG);
}

bool sp_path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static sp_status make_one(const char *path)
{
    if (mkdir(path, 0777) == 0) return sync_folder_of(path);
    int error = errno;
    if (sp_path_is_folder(path)) return SP_OK;
    errno = error;
    return fail_errno("cannot create the folder", path);
}

sp_status sp_make_folders(const char *path)
{
    char *copy = sp_strdup(path);
    if (!copy) return SP_MEMORY;
    sp_status status = SP_OK;
    for (char *slash = strchr(copy + 1, '/'); *copy && slash && status == SP_OK;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        status = make_one(copy);
        *slash = '/';
    }
    if (status == SP_OK) status = make_one(copy);
    sp_free(copy);
    return status;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
}

sp_status sp_remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? SP_OK : fail_errno("cannot look at", path);
    if (!S_ISDIR(info.st_mode))
        return unlink(path) == 0 ? SP_OK : fail_errno("cannot remove", path);
    if (rmdir(path) == 0) return SP_OK; /* one that is empty, also where no descriptor is left to look into it */
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(path, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        char *child = sp_path_join(path, names[i]);
        status = child ? sp_remove_tree(child) : SP_MEMORY;
        sp_free(child);
    }
    free_names(names, count);
    if (status == SP_OK && rmdir(path) != 0) status = fail_errno("cannot remove", path);
    return status;
}

sp_status sp_give_up_folder(const char *beside, sp_status status)
{
    char *message = sp_strdup(sp_error_message());
    sp_remove_tree(beside);
    status = sp_fail(status, "%s", message ? message : "out of memory");
    sp_free(message);
    return status;
}

sp_status sp_replace_folder(const char *beside, const char *path)
{
    sp_status status = SP_OK;
    bool exchanged = renameat2(AT_FDCWD, beside, AT_FDCWD, path, RENAME_EXCHANGE) == 0;
    if (!exchanged && errno != ENOENT) status = sp_remove_tree(path);
    if (!status && !exchanged && rename(beside, path) != 0)
        status = sp_fail(SP_IO, "%s could not be renamed to %s: %s", beside, path, strerror(errno));
    if (status) return sp_give_up_folder(beside, status);
    status = sync_folder_of(path);
    if (!exchanged) return status;
    return status ? sp_give_up_folder(beside, status) : sp_remove_tree(beside);
}

sp_status sp_remove_folder(const char *path)
{
    char *beside = sp_format("%s.tmp-%ld", path, (long)getpid());
    if (!beside) return SP_MEMORY;
    sp_status status = SP_OK;
    if (rename(path, beside) != 0 && errno != ENOENT) status = fail_errno("cannot rename", path);
    if (!status) status = sp_remove_tree(beside);
    sp_free(beside);
    return status;
}

static sp_status ask(void *callbacks, const void *data, size_t size)
{
    (void)data;
    (void)size;
    return sp_check_cancelled(callbacks);
}

sp_write_watch sp_watch_callbacks(const sp_callbacks *callbacks)
{
    return (sp_write_watch){.wrote = ask, .context = (void *)(uintptr_t)callbacks};
}

sp_status sp_copy_file(const char *from, const char *to, const sp_callbacks *callbacks)
{
    const sp_write_watch watch = sp_watch_callbacks(callbacks);
    sp_mapped_file source;
    sp_atomic_file target;
    SP_TRY(sp_mapped_file_open(from, &source));
    sp_status status = sp_atomic_open(to, &target);
    if (!status) {
        target.watch = &watch;
        sp_atomic_write(&target, source.data, source.size);
        status = sp_mapped_file_check(&source);
        if (status)
            sp_atomic_abandon(&target);
        else
            status = sp_atomic_commit(&target);
    }
    sp_mapped_file_close(&source);
    return status;
}

sp_status sp_copy_tree(const char *from, const char *to, const sp_callbacks *callbacks)
{
    if (!sp_path_is_folder(from)) return sp_copy_file(from, to, callbacks);
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(from, &names,
                          &count)); /* before `to` is made, which may lie inside `from` */
    sp_status status = sp_make_folders(to);
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        char *source = sp_path_join(from, names[i]);
        char *target = source ? sp_path_join(to, names[i]) : NULL;
        status = target ? sp_copy_tree(source, target, callbacks) : SP_MEMORY;
        sp_free(source);
        sp_free(target);
    }
    free_names(names, count);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Appends a copy of `name`; the array doubles. */
static sp_status add_name(char ***names, size_t *count, size_t *capacity, const char *name)
{
    if (*count == *capacity) {
        size_t larger = *capacity ? *capacity * 2 : 32;
        char **grown = sp_realloc(*names, *count * sizeof **names, larger * sizeof **names);
        if (!grown) return SP_MEMORY;
        *names = grown;
        *capacity = larger;
    }
    (*names)[*count] = sp_strdup(name);
    if (!(*names)[*count]) return SP_MEMORY;
    ++*count;
    return SP_OK;
}

sp_status sp_list_folder(const char *path, char ***out, size_t *count)
{
    *out = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return fail_errno("cannot open the folder", path);
    char **names = NULL;
    size_t found = 0, capacity = 0;
    sp_status status = SP_OK;
    while (status == SP_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) status = fail_errno("cannot read the folder", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        status = add_name(&names, &found, &capacity, entry->d_name);
    }
    closedir(folder);
    if (status != SP_OK) {
        free_names(names, found);
        return status;
    }
    if (found) qsort(names, found, sizeof *names, compare_names);
    *out = names;
    *count = found;
    return SP_OK;
}
