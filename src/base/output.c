/* Trying whether outputs can be written. */
#include "base/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
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
        rmdir(folder);
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

sp_status sp_check_output_file(const char *path)
{
    if (strcmp(path, "-") == 0)
        return sp_fail(SP_ARGUMENT,
                       "-: this is not written to standard output; ./- is a file of that name");
    if (!*sp_path_base(path)) return sp_fail(SP_IO, "\"%s\": a file's name is missing", path);
    char *folder = parent_of(path);
    if (!folder) return SP_MEMORY;
    size_t kept = existing_part(folder);
    sp_status status = *folder ? sp_make_folders(folder) : SP_OK;
    if (!status) status = try_file(path);
    remove_made(folder, kept);
    sp_free(folder);
    return status;
}

sp_status sp_check_output_in(const char *path, const char *name)
{
    if (strcmp(path, "-") == 0) return sp_check_output_file(path);
    char *inside = sp_path_join(path, name ? name : "splam");
    sp_status status = inside ? sp_check_output_file(inside) : SP_MEMORY;
    sp_free(inside);
    return status;
}

sp_status sp_check_stdout(void)
{
    /* A write of no bytes finds what is closed, read-only or always full, and changes nothing. */
    if (write(STDOUT_FILENO, "", 0) == 0) return SP_OK;
    return sp_fail(SP_IO, "standard output cannot be written: %s", strerror(errno));
}
