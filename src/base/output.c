/* Outputs: trying whether they can be written, and locking them. */
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

/* The part of `path` before its last name, without slashes at its end; "" where there is none.
 * A new string. */
static char *parent_of(const char *path)
{
    size_t length = (size_t)(sp_path_base(path) - path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return sp_format("%.*s", (int)length, path);
}

sp_status sp_make_parent(const char *path)
{
    char *parent = parent_of(path);
    sp_status status = parent ? SP_OK : SP_MEMORY;
    if (!status && *parent) status = sp_make_folders(parent);
    sp_free(parent);
    return status;
}

/* How much of `folder` is there: the length of the longest beginning, up to a slash, that exists. */
static size_t existing_part(const char *folder)
{
    size_t length = strlen(folder);
    char *part = sp_strdup(folder);
    while (part && length > 0) {
        while (length > 1 && part[length - 1] == '/')
            length--;
        part[length] = '\0';
        if (sp_path_exists(part)) break;
        while (length > 0 && part[length - 1] != '/')
            length--;
    }
    sp_free(part);
    return length;
}

/* Removes the folders on the way to `folder` that are longer than `kept`, where they are empty. */
static void remove_made(char *folder, size_t kept)
{
    for (size_t length = strlen(folder); length > kept;) {
        folder[length] = '\0';
        if (folder[length - 1] != '/') rmdir(folder);
        while (--length > kept && folder[length] != '/')
            ;
    }
}

static sp_status try_file(const char *path)
{
    sp_atomic_file file;
    SP_TRY(sp_atomic_open(path, &file));
    sp_atomic_abandon(&file);
    return SP_OK;
}

static sp_status check_name(const char *path)
{
    if (strcmp(path, "-") == 0)
        return sp_fail(SP_ARGUMENT,
                       "-: this is not written to standard output; ./- is a file of that name");
    if (!*sp_path_base(path)) return sp_fail(SP_IO, "\"%s\": a file's name is missing", path);
    return sp_check_replaceable(path);
}

sp_status sp_check_output_file(const char *path)
{
    SP_TRY(check_name(path));
    char *folder = parent_of(path);
    if (!folder) return SP_MEMORY;
    size_t kept = existing_part(folder);
    sp_status status = *folder ? sp_make_folders(folder) : SP_OK;
    if (!status) status = try_file(path);
    remove_made(folder, kept);
    sp_free(folder);
    return status;
}

sp_status sp_check_output_folder(const char *path, const char *const *names)
{
    static const char *const any[] = {".splam-trial", NULL};
    if (strcmp(path, "-") == 0) return sp_check_output_file(path);
    for (const char *const *name = names ? names : any; *name; name++) {
        char *inside = sp_path_join(path, *name);
        sp_status status = inside ? sp_check_output_file(inside) : SP_MEMORY;
        sp_free(inside);
        SP_TRY(status);
    }
    return SP_OK;
}

sp_status sp_check_stdout(void)
{
    /* A write of no bytes finds what is closed, read-only or always full, and changes nothing. */
    if (write(STDOUT_FILENO, "", 0) == 0) return SP_OK;
    return sp_fail(SP_IO, "standard output cannot be written: %s", strerror(errno));
}

/* ---- claims ---- */

/* The process that holds a lock of flock's on the file; 0: not known. */
static long holder_of(int descriptor)
{
    struct stat info;
    FILE *locks = fstat(descriptor, &info) == 0 ? fopen("/proc/locks", "re") : NULL;
    long holder = 0, pid;
    unsigned major_number, minor_number;
    unsigned long long inode;
    char line[256];
    while (locks && !holder && fgets(line, sizeof line, locks))
        if (sscanf(line, "%*d: FLOCK %*s WRITE %ld %x:%x:%llu", &pid, &major_number, &minor_number,
                   &inode) == 4 &&
            major_number == major(info.st_dev) && minor_number == minor(info.st_dev) &&
            inode == info.st_ino)
            holder = pid;
    if (locks) fclose(locks);
    return holder;
}

static sp_status fail_held(const char *path, int descriptor)
{
    long holder = holder_of(descriptor);
    if (holder == (long)getpid()) return sp_fail(SP_ARGUMENT, "%s: is asked for twice", path);
    char process[48] = "";
    if (holder > 0) snprintf(process, sizeof process, ", process %ld,", holder);
    return sp_fail(SP_IO, "%s: another run%s is writing there; wait for it, or write elsewhere",
                   path, process);
}

/* Whether `path` is still the file that is open: its last holder may have removed it. */
static bool is_at(int descriptor, const char *path)
{
    struct stat opened, there;
    return fstat(descriptor, &opened) == 0 && stat(path, &there) == 0 &&
           opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
}

typedef enum {
    TAKEN,
    GONE, /* removed between opening and locking */
    HELD,
    FAILED
} attempt;

static sp_status lock_once(sp_claim *claim, attempt *result)
{
    const char *path = claim->lock ? claim->lock : claim->path;
    int flags = claim->lock ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int descriptor = open(path, flags, 0666);
    *result = descriptor < 0 && errno == ENOENT ? GONE : FAILED;
    if (*result == GONE) return SP_OK;
    if (descriptor < 0) return sp_fail(SP_IO, "%s: cannot open: %s", path, strerror(errno));
    sp_status status = SP_OK;
    if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
        *result = is_at(descriptor, path) ? TAKEN : GONE;
        claim->descriptor = descriptor;
        if (*result == TAKEN) return SP_OK;
    } else if (errno == EWOULDBLOCK) {
        *result = HELD;
        status = fail_held(claim->path, descriptor);
    } else {
        *result = is_at(descriptor, path) ? TAKEN : GONE;
        sp_log_warn(
            "%s: cannot be locked (%s), and a second run that writes there would go unnoticed",
            claim->path, strerror(errno));
    }
    close(descriptor);
    claim->descriptor = -1;
    return status;
}

/* Makes the folders and takes the lock. Another run may remove what it has made and not used at any
 * moment, so both are tried again. */
static sp_status take(sp_claim *claim)
{
    enum { TRIES = 1000 };
    attempt result = GONE;
    for (int i = 0; i < TRIES && result == GONE; i++) {
        SP_TRY(claim->lock ? sp_make_parent(claim->path) : sp_make_folders(claim->path));
        sp_status status = lock_once(claim, &result);
        if (result == HELD) claim->kept = strlen(claim->path); /* nothing is ours to remove */
        SP_TRY(status);
    }
    claim->held = result == TAKEN;
    if (claim->held) return SP_OK;
    return sp_fail(SP_IO, "%s: another process removes it again and again", claim->path);
}

static void forget(sp_claim *claim)
{
    if (claim->path) remove_made(claim->path, claim->kept);
    if (claim->descriptor >= 0) close(claim->descriptor);
    sp_free(claim->path);
    sp_free(claim->lock);
    *claim = (sp_claim){0};
}

void sp_claim_end(sp_claim *claim)
{
    if (!claim->held) return;
    if (claim->lock) unlink(claim->lock); /* while it is locked, so that nobody else has it */
    forget(claim);
}

sp_status sp_claim_folder(const char *path, const char *const *names, sp_claim *out)
{
    *out = (sp_claim){0};
    if (strcmp(path, "-") == 0) return sp_check_output_file(path);
    sp_claim claim = {.descriptor = -1, .path = sp_strdup(path), .kept = existing_part(path)};
    sp_status status = claim.path ? take(&claim) : SP_MEMORY;
    if (status) {
        forget(&claim);
        return status;
    }
    *out = claim;
    status = sp_check_output_folder(path, names);
    if (status) sp_claim_end(out);
    return status;
}

sp_status sp_claim_file(const char *path, sp_claim *out)
{
    *out = (sp_claim){0};
    SP_TRY(check_name(path));
    char *parent = parent_of(path);
    sp_claim claim = {.descriptor = -1,
                      .path = sp_strdup(path),
                      .lock = sp_format("%s.lock", path),
                      .kept = parent ? existing_part(parent) : 0};
    sp_status status = parent && claim.path && claim.lock ? take(&claim) : SP_MEMORY;
    sp_free(parent);
    if (status) {
        forget(&claim);
        return status;
    }
    *out = claim;
    status = sp_check_output_file(path);
    if (status) sp_claim_end(out);
    return status;
}

void sp_claim_leave(const sp_claim *claim)
{
    if (claim && claim->held && claim->descriptor >= 0) close(claim->descriptor);
}
