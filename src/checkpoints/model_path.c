/* Folders of a Hugging Face cache. */
#include "checkpoints/model_path.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

static const char repository_prefix[] = "models--";

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
}

static bool has_inside(const char *folder, const char *name)
{
    char *path = sp_path_join(folder, name);
    bool has = path && sp_path_exists(path);
    sp_free(path);
    return has;
}

/* "FOLDER: holds several WHAT (a, b, ...), name one of them". Names that begin with `prefix` count. */
static sp_status fail_several(const char *folder, const char *what, const char *prefix, char *const *names,
                              size_t count)
{
    enum { SHOWN = 8 };
    sp_string list = {0};
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (sp_starts_with(names[i], prefix) && found++ < SHOWN)
            sp_string_append_format(&list, "%s%s", found > 1 ? ", " : "", names[i]);
    sp_status status = sp_fail(SP_ARGUMENT, "%s: holds %zu %s (%s%s): name one of them", folder, found, what,
                               sp_string_text(&list), found > SHOWN ? ", ..." : "");
    sp_string_free(&list);
    return status;
}

/* The only name in the folder that begins with `prefix`; NULL if there is none. */
static sp_status only_one(const char *folder, const char *what, const char *prefix, char **out)
{
    char **names;
    size_t count, found = 0, place = 0;
    *out = NULL;
    SP_TRY(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (!sp_starts_with(names[i], prefix)) continue;
        place = i;
        found++;
    }
    sp_status status = SP_OK;
    if (found > 1) {
        status = fail_several(folder, what, prefix, names, count);
    } else if (found == 1) {
        *out = sp_path_join(folder, names[place]);
        if (!*out) status = SP_MEMORY;
    }
    free_names(names, count);
    return status;
}

/* What refs/main says must be the name of a folder, not a way to another place. */
static sp_status read_reference(const char *path, char **out)
{
    SP_TRY(sp_read_file(path, out, NULL));
    char *end = *out + strcspn(*out, "\r\n \t");
    bool good = end > *out && strspn(end, "\r\n \t") == strlen(end);
    *end = '\0';
    for (const char *p = *out; *p; p++)
        good = good && ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'));
    if (good) return SP_OK;
    sp_free(*out);
    *out = NULL;
    return sp_fail(SP_FORMAT, "%s: does not hold the name of a snapshot", path);
}

static sp_status snapshot_of(const char *repository, char **out)
{
    char *snapshots = sp_path_join(repository, "snapshots"), *main = sp_path_join(repository, "refs/main"),
         *name = NULL;
    sp_status status = snapshots && main ? SP_OK : SP_MEMORY;
    if (!status && sp_path_exists(main)) {
        status = read_reference(main, &name);
        if (!status) *out = sp_path_join(snapshots, name);
        if (!status && !*out) status = SP_MEMORY;
        if (!status && !sp_path_is_folder(*out))
            status = sp_fail(SP_IO, "%s: there is no snapshot %s, which refs/main names: is the download complete?",
                             repository, name);
    } else if (!status) {
        status = only_one(snapshots, "snapshots", "", out);
        if (!status && !*out) status = sp_fail(SP_IO, "%s: has no snapshot: is the download complete?", repository);
    }
    sp_free(name);
    sp_free(main);
    sp_free(snapshots);
    if (status) {
        sp_free(*out);
        *out = NULL;
    }
    return status;
}

/* In a cache, or in the folder above it; NULL if it is none. */
static sp_status repository_in(const char *folder, char **out)
{
    char *hub = sp_path_join(folder, "hub");
    sp_status status = hub ? only_one(folder, "models", repository_prefix, out) : SP_MEMORY;
    if (!status && !*out && sp_path_is_folder(hub)) status = only_one(hub, "models", repository_prefix, out);
    sp_free(hub);
    return status;
}

sp_status sp_model_path(const char *path, char **out)
{
    char *repository = NULL;
    *out = NULL;
    if (sp_path_is_folder(path)) {
        if (has_inside(path, "snapshots") && (has_inside(path, "refs") || has_inside(path, "blobs")))
            return snapshot_of(path, out);
        SP_TRY(repository_in(path, &repository));
    }
    sp_status status = SP_OK;
    if (repository)
        status = snapshot_of(repository, out);
    else
        *out = sp_strdup(path);
    sp_free(repository);
    return status ? status : *out ? SP_OK : SP_MEMORY;
}

sp_status sp_model_file(const char *path, const char *name, char **out)
{
    char *model;
    *out = NULL;
    SP_TRY(sp_model_path(path, &model));
    *out = sp_path_join(model, name);
    sp_free(model);
    return *out ? SP_OK : SP_MEMORY;
}
