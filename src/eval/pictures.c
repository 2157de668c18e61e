/* Folders of pictures, and data sets as such. */
#include "eval/pictures.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

/* ---- folders ---- */

enum { MOST_DEPTH = 16 };
static const char *const pictures[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
static const char *const foreign[] = {".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".avif", ".heic", ".jxl", NULL};

static bool ends_in(const char *name, const char *const *list)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *list; list++)
        if (strcasecmp(dot, *list) == 0) return true;
    return false;
}

static sp_status add_path(sp_pictures *p, int64_t *capacity, char *path)
{
    if (p->count == *capacity) {
        int64_t wanted = *capacity ? 2 * *capacity : 256;
        char **grown = sp_realloc(p->paths, (size_t)*capacity * sizeof *grown, (size_t)wanted * sizeof *grown);
        if (!grown) {
            sp_free(path);
            return SP_MEMORY;
        }
        p->paths = grown;
        *capacity = wanted;
    }
    p->paths[p->count++] = path;
    return SP_OK;
}

static sp_status scan(sp_pictures *p, int64_t *capacity, const char *folder, int depth);

static sp_status scan_name(sp_pictures *p, int64_t *capacity, const char *folder, const char *name, int depth)
{
    char *path = sp_path_join(folder, name);
    if (!path) return SP_MEMORY;
    sp_status status = SP_OK;
    if (sp_path_is_folder(path))
        status = scan(p, capacity, path, depth + 1);
    else if (ends_in(name, foreign))
        status = sp_fail(SP_UNSUPPORTED, "%s: pictures are read from .png, .jpg, .jpeg and .webp, and one left out "
                         "would be missing in the score", path);
    else if (ends_in(name, pictures))
        return add_path(p, capacity, path);
    sp_free(path);
    return status;
}

static sp_status scan(sp_pictures *p, int64_t *capacity, const char *folder, int depth)
{
    char **names;
    size_t count;
    if (depth > MOST_DEPTH) return sp_fail(SP_IO, "%s: is more than %d folders deep", folder, MOST_DEPTH);
    SP_TRY(sp_list_folder(folder, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count; i++) {
        if (!status) status = scan_name(p, capacity, folder, names[i], depth);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sp_status open_folder(sp_pictures *p)
{
    int64_t capacity = 0;
    SP_TRY(scan(p, &capacity, p->source, 0));
    if (p->count) qsort(p->paths, (size_t)p->count, sizeof *p->paths, by_bytes);
    return SP_OK;
}

/* ---- data sets ---- */

static sp_status open_dataset(sp_pictures *p, int64_t most, int resolution, const sp_callbacks *callbacks)
{
    const sp_dataset_options options = {.all_pictures = true, .resolution = resolution};
    SP_TRY(sp_dataset_open(p->source, &options, callbacks, &p->dataset));
    sp_rejection list[SP_MAX_REASONS];
    size_t reasons = sp_dataset_rejections(p->dataset, list, SP_MAX_REASONS);
    if (!most) /* else so many are asked for as there then are */
        sp_rejections_add_list(p->left_out, list, reasons);
    for (size_t i = 0; i < reasons; i++)
        sp_log_warn("%s: %lld %s (%s)", p->source, (long long)list[i].count, list[i].reason, list[i].example);
    p->count = sp_dataset_count(p->dataset);
    return SP_OK;
}

/* ---- both ---- */

static sp_status take_first(sp_pictures *p, int64_t most)
{
    if (p->count < 2)
        return sp_fail(SP_IO, "%s: holds %lld pictures, and a score is of two at least", p->source,
                       (long long)p->count);
    if (most > p->count)
        return sp_fail(SP_ARGUMENT, "%s: holds %lld pictures, and %lld are asked for", p->source,
                       (long long)p->count, (long long)most);
    for (; most && p->count > most; p->count--)
        if (p->paths) sp_free(p->paths[p->count - 1]);
    return SP_OK;
}

static sp_status open_any(sp_pictures *p, int64_t most, int resolution, const sp_callbacks *callbacks)
{
    p->left_out = sp_rejections_create();
    if (!p->left_out) return SP_MEMORY;
    SP_TRY(sp_path_is_folder(p->source) ? open_folder(p) : open_dataset(p, most, resolution, callbacks));
    return take_first(p, most);
}

sp_status sp_pictures_open(const char *source, int64_t most, int resolution, const sp_callbacks *callbacks,
                           sp_pictures *out)
{
    *out = (sp_pictures){.source = source};
    sp_status status = open_any(out, most, resolution, callbacks);
    if (status) sp_pictures_close(out);
    return status;
}

void sp_pictures_close(sp_pictures *p)
{
    for (int64_t i = 0; i < p->count && p->paths; i++)
        sp_free(p->paths[i]);
    sp_free(p->paths);
    sp_dataset_close(p->dataset);
    sp_rejections_destroy(p->left_out);
    *p = (sp_pictures){0};
}

const char *sp_pictures_name(const sp_pictures *p, int64_t index)
{
    return p->dataset ? sp_dataset_name(p->dataset, index) : p->paths[index];
}

sp_status sp_pictures_read(const sp_pictures *p, int64_t index, char **bytes, size_t *size)
{
    if (p->dataset) return sp_dataset_bytes(p->dataset, index, bytes, size);
    return sp_read_file(p->paths[index], bytes, size);
}
