/* Files: mapped reading; writing beside and renaming, so that nothing saved is ever half
 * overwritten. */
#ifndef SP_BASE_FILE_H
#define SP_BASE_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/progress.h"
#include "base/status.h"

typedef struct {
    const unsigned char *data; /* read-only mapping; NULL when size is 0 */
    size_t size;
    int64_t modified; /* when it was last changed, of the moment it was mapped: nanoseconds since 1970 */
    char *path;
    struct sp_mapping *mapping; /* its place among all of them */
} sp_mapped_file;
sp_status sp_mapped_file_open(const char *path, sp_mapped_file *out);
void sp_mapped_file_close(sp_mapped_file *file); /* zeroed file is legal */
/* A file may become shorter while it is mapped (somebody writes it anew), or a part of it unreadable: it then
 * reads as zeros from there on. So whoever has computed something from it asks here before the result is kept or
 * saved: SP_IO, naming the file, once that has happened. What was checked when it was read may say something
 * else when it is read again: copy offsets and lengths before checking them.
 * Mapping a file installs a handler of SIGBUS, for the whole process, if it is not there, and it passes on what
 * is not about these mappings to the handler that was there before. A program's own handler that is set later
 * should do the same: without ours the process ends there. A child after fork has all of it too. */
sp_status sp_mapped_file_check(const sp_mapped_file *file);
/* The same of whatever mapping holds the address; SP_OK if none does. */
sp_status sp_mapped_check(const void *data);
/* Tells the kernel that the pages of [begin, begin+size) may go; they come back from disk when
 * touched. */
void sp_mapped_file_drop(const sp_mapped_file *file, size_t begin, size_t size);

/* What a failure of the system is to those who would do without the file: SP_MEMORY where memory or descriptors ran
 * out, which is no fault of the file's, else SP_IO. */
sp_status sp_system_status(int error);

/* A descriptor, which the caller closes, for reading a regular file, and its size. Anything else is SP_IO and
 * never waited for: a pipe, a device, and without `follow` a symbolic link. */
sp_status sp_open_regular(const char *path, bool follow, int *descriptor, size_t *size);

/* Whole text file into a new NUL-terminated string (sp_free). *size (may be NULL) excludes the NUL. */
sp_status sp_read_file(const char *path, char **out, size_t *size);

/* SP_IO if there is something at `path` that a file would not replace: a folder, a device, a pipe. */
sp_status sp_check_replaceable(const char *path);

/* Atomic writing: opens path.tmp-PID for writing; commit flushes, fsyncs, renames over path;
 * abandon removes it. Both close. A failed write (full disk) is reported by commit, and path keeps
 * what it had. Only a file is replaced: a folder, a device or a pipe at path is SP_IO. */
typedef struct {
    /* Sees what goes into a file, piece by piece in order; what is not SP_OK ends the writing. */
    sp_status (*wrote)(void *context, const void *data, size_t size);
    void *context;
} sp_write_watch;
typedef struct {
    FILE *stream;
    char *path, *temporary;
    const sp_write_watch *watch; /* of sp_atomic_write; NULL: nobody */
    sp_status ended;             /* what the watch said; commit returns it, and path keeps what it had */
    size_t unsynced;             /* bytes */
} sp_atomic_file;
sp_status sp_atomic_open(const char *path, sp_atomic_file *out);
/* In pieces of a few megabytes. What goes wrong stays set on the stream, and commit reports it. */
void sp_atomic_write(sp_atomic_file *file, const void *data, size_t size);
sp_status sp_atomic_commit(sp_atomic_file *file);
void sp_atomic_abandon(sp_atomic_file *file);
sp_status sp_write_file(const char *path, const void *data, size_t size); /* atomic */

char *sp_path_join(const char *folder, const char *name); /* new string; NULL when out of memory */
char *sp_path_beside(const char *path, const char *name); /* in the folder of `path`; new, or NULL likewise */
const char *sp_path_base(const char *path);               /* text after the last '/' */
/* Whether something has this name: also a link that leads nowhere, and what may not be looked at, so that opening it
 * says what is wrong instead of taking it for absent. */
bool sp_path_exists(const char *path);
bool sp_path_is_folder(const char *path);
sp_status sp_make_folders(const char *path); /* mkdir -p */
sp_status sp_remove_tree(const char *path);  /* rm -rf; absent is fine */
/* Puts the folder `beside` in the place of `path`, a folder or nothing: durable when it returns,
 * and at no moment is there neither or half of one (but where a file system cannot exchange names,
 * as NFS: there the old one goes first). On failure `beside` is removed, with the first error kept. */
sp_status sp_replace_folder(const char *beside, const char *path);
/* For a folder written beside that is not wanted after `status`: removes it and returns `status`
 * with its message. */
sp_status sp_give_up_folder(const char *beside, sp_status status);
/* Removes a folder that others may look for: it is first renamed, so that it is never half there. */
sp_status sp_remove_folder(const char *path);
/* Atomic at the target; of a tree each file is. callbacks (may be NULL) are asked between pieces. */
sp_status sp_copy_file(const char *from, const char *to, const sp_callbacks *callbacks);
sp_status sp_copy_tree(const char *from, const char *to, const sp_callbacks *callbacks);
/* A watch that asks callbacks between the pieces of a file. */
sp_write_watch sp_watch_callbacks(const sp_callbacks *callbacks);
/* Names in a folder (without "." and ".."), sorted bytewise, in *out (sp_free each and the array). */
sp_status sp_list_folder(const char *path, char ***out, size_t *count);

#endif
