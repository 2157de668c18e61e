/* Files: mapped reading; writing beside and renaming, so that nothing saved is ever half
 * overwritten. */
#ifndef SP_BASE_FILE_H
#define SP_BASE_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "base/status.h"

typedef struct {
    const unsigned char *data; /* read-only mapping; NULL when size is 0 */
    size_t size;
    char *path;
} sp_mapped_file;
sp_status sp_map_file(const char *path, sp_mapped_file *out);
void sp_unmap_file(sp_mapped_file *file); /* zeroed file is legal */
/* Tells the kernel that the pages of [begin, begin+size) may go; they come back from disk when
 * touched. */
void sp_mapped_file_drop(const sp_mapped_file *file, size_t begin, size_t size);

/* Whole text file into a new NUL-terminated string (sp_free). *size (may be NULL) excludes the NUL.
 */
sp_status sp_read_file(const char *path, char **out, size_t *size);

/* Atomic writing: opens path.tmp-PID for writing; commit flushes, fsyncs, renames over path;
 * abandon removes it. Both close. A failed write (full disk) is reported by commit, and path keeps
 * what it had. Only a file is replaced: a folder, a device or a pipe at path is SP_IO. */
typedef struct {
    FILE *stream;
    char *path, *temporary;
} sp_atomic_file;
sp_status sp_atomic_open(const char *path, sp_atomic_file *out);
sp_status sp_atomic_commit(sp_atomic_file *file);
void sp_atomic_abandon(sp_atomic_file *file);
sp_status sp_write_file(const char *path, const void *data, size_t size); /* atomic */

char *sp_path_join(const char *folder, const char *name); /* new string; NULL when out of memory */
const char *sp_path_base(const char *path);               /* text after the last '/' */
bool sp_path_exists(const char *path);
bool sp_path_is_folder(const char *path);
sp_status sp_make_folders(const char *path);              /* mkdir -p */
sp_status sp_remove_tree(const char *path);               /* rm -rf; absent is fine */
sp_status sp_copy_file(const char *from, const char *to); /* atomic at the target */
sp_status sp_copy_tree(const char *from, const char *to);
/* Names in a folder (without "." and ".."), sorted bytewise, in *out (sp_free each and the array).
 */
sp_status sp_list_folder(const char *path, char ***out, size_t *count);

#endif
