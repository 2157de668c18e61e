/* folder:DIR, pictures with captions beside them. */
#include "data/folder.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/text_file.h"
#include "image/image.h"
#include "data/metadata.h"
#include "data/picture.h"

#define MAX_DEPTH 64
#define HEADERS_PER_TASK 16
#define HEADERS_PER_REPORT 1024

typedef struct {
    char *path; /* sp_free */
    int width, height;
    sp_status status;
    char *problem; /* the header's error; sp_free; may be NULL */
} candidate;

typedef struct {
    sp_dataset *dataset;
    const sp_callbacks *callbacks;
    candidate *found;
    int64_t count, capacity;
    sp_metadata metadata;
    sp_dictionary *neighbours; /* path, its end in lower case -> path: .txt, .caption and .json */
    struct {
        dev_t device;
        ino_t inode;
    } ancestors[MAX_DEPTH];
} scan;

/* ---- finding files ---- */

static const char *const foreign_pictures[] = {"gif",  "bmp",  "tif", "tiff",
                                               "avif", "heic", "jxl", NULL};
static const char *const neighbours[] = {"txt", "caption", "json", NULL};

static bool ends_in(const char *name, const char *const *list)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *list; list++)
        if (!strcasecmp(dot + 1, *list)) return true;
    return false;
}

static sp_status add_candidate(scan *s, char *path)
{
    if (s->count == s->capacity) {
        int64_t capacity = s->capacity ? s->capacity * 2 : 256;
        candidate *found = sp_realloc(s->found, (size_t)s->capacity * sizeof *found,
                                      (size_t)capacity * sizeof *found);
        if (!found) {
            sp_free(path);
            return SP_MEMORY;
        }
        s->found = found;
        s->capacity = capacity;
    }
    s->found[s->count++] = (candidate){.path = path};
    return SP_OK;
}

/* Remembers a file beside pictures by its name with the end in lower case. Of NAME.txt and NAME.TXT
 * the first is taken, which comes later in the listing. */
static sp_status add_neighbour(scan *s, const char *path)
{
    char *key = sp_strdup(path), *copy = sp_arena_strdup(s->dataset->arena, path);
    for (char *c = key ? strrchr(key, '.') : NULL; c && *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
    sp_status status = key && copy ? sp_dictionary_put(s->neighbours, key, copy) : SP_MEMORY;
    sp_free(key);
    return status;
}

static sp_status scan_folder(scan *s, const char *folder, int depth);

static sp_status scan_entry(scan *s, const char *folder, const char *name, int depth)
{
    if (name[0] == '.') return SP_OK;
    char *path = sp_path_join(folder, name);
    if (!path) return SP_MEMORY;
    sp_status status = SP_OK;
    if (sp_path_is_folder(path))
        status = scan_folder(s, path, depth + 1);
    else if (sp_is_picture_name(name))
        return add_candidate(s, path);
    else if (ends_in(name, neighbours))
        status = add_neighbour(s, path);
    else if (ends_in(name, foreign_pictures))
        sp_dataset_reject(s->dataset, "neither JPEG, PNG nor WebP", path, NULL);
    sp_free(path);
    return status;
}

static sp_status reject_folder(const scan *s, const char *folder, const char *detail)
{
    if (s->dataset->options.all_pictures) return sp_fail(SP_IO, "%s: cannot be read: %s", folder, detail);
    sp_dataset_reject(s->dataset, "folder that cannot be read", folder, detail);
    return SP_OK;
}

static sp_status scan_folder(scan *s, const char *folder, int depth)
{
    struct stat info;
    if (depth >= MAX_DEPTH || stat(folder, &info))
        return reject_folder(s, folder, depth >= MAX_DEPTH ? "is too deep in others" : strerror(errno));
    for (int i = 0; i < depth; i++) /* a symbolic link back to where we come from */
        if (s->ancestors[i].device == info.st_dev && s->ancestors[i].inode == info.st_ino)
            return SP_OK;
    s->ancestors[depth].device = info.st_dev;
    s->ancestors[depth].inode = info.st_ino;
    char **names;
    size_t count;
    sp_status status = sp_list_folder(folder, &names, &count);
    if (status == SP_IO && depth > 0) return reject_folder(s, folder, sp_error_message());
    if (status != SP_OK) return status;
    status = sp_metadata_read(s->dataset, folder, &s->metadata);
    for (size_t i = 0; i < count; i++) {
        if (status == SP_OK) status = scan_entry(s, folder, names[i], depth);
        sp_free(names[i]);
    }
    sp_free(names);
    return status == SP_OK ? sp_check_cancelled(s->callbacks) : status;
}

/* ---- headers ---- */

static void read_headers(void *context, int64_t begin, int64_t end)
{
    candidate *found = context;
    for (int64_t i = begin; i < end; i++) {
        candidate *c = &found[i];
        sp_mapped_file file;
        c->status = sp_mapped_file_open(c->path, &file);
        if (c->status == SP_OK) {
            c->status =
                sp_image_probe(file.data, file.size, sp_path_base(c->path), &c->width, &c->height);
            sp_mapped_file_close(&file);
        }
        if (c->status != SP_OK) c->problem = sp_strdup(sp_error_message());
    }
}

static sp_status probe_all(scan *s)
{
    if (s->dataset->options.all_pictures) return SP_OK;
    for (int64_t done = 0; done < s->count; done += HEADERS_PER_REPORT) {
        int64_t left = s->count - done, now = left < HEADERS_PER_REPORT ? left : HEADERS_PER_REPORT;
        sp_parallel_for(now, HEADERS_PER_TASK, read_headers, s->found + done);
        sp_report(s->callbacks, "folder", done + now, s->count, NULL);
        SP_TRY(sp_check_cancelled(s->callbacks));
    }
    return SP_OK;
}

/* ---- captions and fields ---- */

/* NAME.jpg's neighbour NAME.txt, .caption or .json: its path and a new string; NULL with SP_OK:
 * there is none. */
static sp_status read_neighbour(const scan *s, const char *picture, const char *extension,
                                const char **path, char **text, size_t *size)
{
    size_t stem = (size_t)(strrchr(picture, '.') - picture);
    char *key = sp_format("%.*s.%s", (int)stem, picture, extension);
    *text = NULL;
    if (!key) return SP_MEMORY;
    *path = sp_dictionary_get(s->neighbours, key);
    sp_free(key);
    return *path ? sp_read_text(*path, text, size) : SP_OK;
}

/* Each line of NAME.txt, or else of NAME.caption, that is not empty is a caption. */
static sp_status read_text(const scan *s, const char *picture, sp_captions *list)
{
    const char *path;
    char *text;
    size_t size = 0;
    sp_status status = read_neighbour(s, picture, "txt", &path, &text, &size);
    if (!status && !text) status = read_neighbour(s, picture, "caption", &path, &text, &size);
    for (size_t at = 0; text && status == SP_OK && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        status = sp_captions_add(list, text + at, length, path);
        at += length + 1;
    }
    sp_free(text);
    return status;
}

static sp_status read_fields(const scan *s, const char *picture, json_t **fields)
{
    const char *path;
    char *text;
    size_t size = 0;
    *fields = NULL;
    sp_status status = read_neighbour(s, picture, "json", &path, &text, &size);
    if (status == SP_OK && text) status = sp_json_parse_lenient(text, size, path, fields);
    if (status == SP_OK && *fields && !json_is_object(*fields)) {
        json_decref(*fields);
        *fields = NULL;
        status = sp_fail(SP_FORMAT, "%s: expected an object", path);
    }
    sp_free(text);
    return status;
}

/* A picture without a line of metadata has its neighbours. */
static sp_status read_neighbours(const scan *s, const char *picture, sp_captions *list,
                                 json_t **fields)
{
    const char *column = s->dataset->options.caption_column;
    SP_TRY(read_fields(s, picture, fields));
    if (!column) SP_TRY(read_text(s, picture, list));
    if (list->count) return SP_OK;
    return sp_captions_add_json(list, sp_find_caption(*fields, column, SP_SIDECAR_COLUMNS));
}

/* ---- accepting ---- */

static sp_status consider(scan *s, const candidate *c, const char *name)
{
    json_t *line = sp_dictionary_get(s->metadata.lines, c->path), *fields = NULL;
    const char *column = s->dataset->options.caption_column;
    sp_captions captions = {0};
    sp_sample *sample;
    sp_status status = line ? sp_captions_add_json(&captions, sp_find_caption(line, column,
                                                                              SP_METADATA_COLUMNS))
                            : read_neighbours(s, c->path, &captions, &fields);
    bool words = status == SP_IO || status == SP_FORMAT; /* that cannot be read */
    if (words && !s->dataset->options.all_pictures) {
        sp_dataset_reject(s->dataset, "unreadable caption or .json", name, sp_error_message());
        status = SP_OK;
    } else if (words || status == SP_OK) {
        const sp_candidate picture = {.name = name,
                                      .fields = line ? line : fields,
                                      .width = c->width,
                                      .height = c->height,
                                      .captions = &captions};
        status = sp_picture_consider(s->dataset, &picture, &sample);
    }
    json_decref(fields);
    sp_captions_free(&captions);
    return status;
}

static sp_status accept_one(scan *s, const candidate *c, size_t root)
{
    if (c->status == SP_MEMORY) return sp_fail(SP_MEMORY, "out of memory for %s", c->path);
    if (c->status != SP_OK)
        sp_dataset_reject(s->dataset, "unreadable picture", c->path + root, c->problem);
    else
        SP_TRY(consider(s, c, c->path + root));
    /* What is left names no picture. */
    sp_dictionary *lines = s->metadata.lines;
    return sp_dictionary_get(lines, c->path) ? sp_dictionary_put(lines, c->path, NULL) : SP_OK;
}

/* ---- the data set ---- */

static sp_status folder_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    return sp_picture_load(dataset, dataset->source, sample, rgb);
}

static sp_status folder_bytes(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size)
{
    return sp_picture_read(dataset, dataset->source, sample, bytes, size);
}

static const sp_source_kind folder_kind = {folder_image, sp_free, folder_bytes};

static sp_status fill(scan *s, const char *path)
{
    s->neighbours = sp_dictionary_create();
    if (!s->neighbours) return SP_MEMORY;
    SP_TRY(scan_folder(s, path, 0));
    SP_TRY(probe_all(s));
    char *probe = sp_path_join(path, "x");
    if (!probe) return SP_MEMORY;
    size_t root = strlen(probe) - 1; /* names are the paths below the folder */
    sp_free(probe);
    for (int64_t i = 0; i < s->count; i++)
        SP_TRY(accept_one(s, &s->found[i], root));
    const char *name;
    void *line;
    for (size_t i = 0; sp_dictionary_next(s->metadata.lines, &i, &name, &line);)
        if (line)
            sp_dataset_reject(s->dataset, "absent picture named in the metadata", name, NULL);
    return SP_OK;
}

sp_status sp_folder_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    const char *path = context;
    sp_picture_defaults(&dataset->options);
    dataset->source = sp_strdup(path);
    if (!dataset->source) return SP_MEMORY;
    dataset->kind = &folder_kind;
    if (!sp_path_is_folder(path)) return sp_fail(SP_IO, "%s is not a folder", path);
    scan *s = sp_alloc_zero(sizeof *s);
    if (!s) return SP_MEMORY;
    s->dataset = dataset;
    s->callbacks = callbacks;
    sp_status status = fill(s, path);
    for (int64_t i = 0; i < s->count; i++) {
        sp_free(s->found[i].path);
        sp_free(s->found[i].problem);
    }
    sp_free(s->found);
    sp_metadata_free(&s->metadata);
    sp_dictionary_destroy(s->neighbours);
    sp_free(s);
    return status;
}
