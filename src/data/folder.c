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
#include "data/image.h"
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
    sp_map *metadata; /* path -> its line of metadata.jsonl, kept alive by `documents` */
    json_t *documents;
    struct {
        dev_t device;
        ino_t inode;
    } ancestors[MAX_DEPTH];
} scan;

/* ---- finding files ---- */

static bool is_foreign_picture(const char *name)
{
    static const char *const other[] = {"gif", "bmp", "tif", "tiff", "avif", "heic", "jxl"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof other / sizeof *other; i++)
        if (!strcasecmp(dot + 1, other[i])) return true;
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

/* One line of metadata.jsonl. A bad line is a rejection; only lack of memory is an error. */
static sp_status read_metadata_line(scan *s, const char *folder, const char *where,
                                    const char *line, size_t size)
{
    json_t *object;
    sp_status status = sp_json_parse(line, size, where, &object);
    if (status == SP_MEMORY) return status;
    if (status != SP_OK) {
        sp_dataset_reject(s->dataset, "malformed metadata.jsonl line", where, sp_error_message());
        return SP_OK;
    }
    const char *file = json_string_value(json_object_get(object, "file_name"));
    json_t *text = json_object_get(object, "text");
    if (!file || (!json_is_string(text) && !json_is_array(text))) {
        sp_dataset_reject(s->dataset, "malformed metadata.jsonl line", where,
                          "expected \"file_name\" and \"text\"");
        json_decref(object);
        return SP_OK;
    }
    while (sp_starts_with(file, "./"))
        file += 2;
    char *path = sp_path_join(folder, file);
    status = path ? sp_map_put(s->metadata, path, object) : SP_MEMORY;
    sp_free(path);
    if (json_array_append_new(s->documents, object)) /* takes the reference, also on failure */
        return sp_fail(SP_MEMORY, "out of memory for %s", where);
    return status;
}

static sp_status read_metadata(scan *s, const char *folder)
{
    char *path = sp_path_join(folder, "metadata.jsonl"), *text = NULL;
    size_t size = 0;
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (status == SP_OK && sp_path_exists(path)) status = sp_read_text(path, &text, &size);
    int64_t number = 1;
    for (size_t at = 0; status == SP_OK && at < size; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        char *where = sp_format("%s:%lld", path, (long long)number);
        if (!where)
            status = SP_MEMORY;
        else if (strspn(text + at, " \t\r") < length)
            status = read_metadata_line(s, folder, where, text + at, length);
        sp_free(where);
        at += length + 1;
    }
    sp_free(text);
    sp_free(path);
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
    else if (is_foreign_picture(name))
        sp_dataset_reject(s->dataset, "neither JPEG, PNG nor WebP", path, NULL);
    sp_free(path);
    return status;
}

static sp_status scan_folder(scan *s, const char *folder, int depth)
{
    struct stat info;
    if (depth >= MAX_DEPTH || stat(folder, &info)) {
        sp_dataset_reject(s->dataset, "folder that cannot be read", folder,
                          depth >= MAX_DEPTH ? "too deep" : strerror(errno));
        return SP_OK;
    }
    for (int i = 0; i < depth; i++) /* a symbolic link back to where we come from */
        if (s->ancestors[i].device == info.st_dev && s->ancestors[i].inode == info.st_ino)
            return SP_OK;
    s->ancestors[depth].device = info.st_dev;
    s->ancestors[depth].inode = info.st_ino;
    char **names;
    size_t count;
    sp_status status = sp_list_folder(folder, &names, &count);
    if (status == SP_IO && depth > 0) {
        sp_dataset_reject(s->dataset, "folder that cannot be read", folder, sp_error_message());
        return SP_OK;
    }
    if (status != SP_OK) return status;
    status = read_metadata(s, folder);
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
        c->status = sp_map_file(c->path, &file);
        if (c->status == SP_OK) {
            c->status =
                sp_image_probe(file.data, file.size, sp_path_base(c->path), &c->width, &c->height);
            sp_unmap_file(&file);
        }
        if (c->status != SP_OK) c->problem = sp_strdup(sp_error_message());
    }
}

static sp_status probe_all(scan *s)
{
    for (int64_t done = 0; done < s->count; done += HEADERS_PER_REPORT) {
        int64_t left = s->count - done, now = left < HEADERS_PER_REPORT ? left : HEADERS_PER_REPORT;
        sp_parallel_for(now, HEADERS_PER_TASK, read_headers, s->found + done);
        sp_report(s->callbacks, "folder", done + now, s->count, NULL);
        SP_TRY(sp_check_cancelled(s->callbacks));
    }
    return SP_OK;
}

/* ---- captions and fields ---- */

/* NAME.jpg's neighbour NAME.txt or NAME.json: a new string; NULL with SP_OK: there is none. */
static sp_status read_neighbour(const char *picture, const char *extension, char **path,
                                char **text, size_t *size)
{
    size_t stem = (size_t)(strrchr(picture, '.') - picture);
    *text = NULL;
    *path = sp_format("%.*s.%s", (int)stem, picture, extension);
    if (!*path) return SP_MEMORY;
    return sp_path_exists(*path) ? sp_read_text(*path, text, size) : SP_OK;
}

/* Each line of NAME.txt that is not empty is a caption. */
static sp_status read_text(const char *picture, sp_captions *list)
{
    char *path, *text;
    size_t size = 0;
    sp_status status = read_neighbour(picture, "txt", &path, &text, &size);
    for (size_t at = 0; text && status == SP_OK && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        status = sp_captions_add(list, text + at, length, path);
        at += length + 1;
    }
    sp_free(text);
    sp_free(path);
    return status;
}

static sp_status read_fields(const char *picture, json_t **fields)
{
    char *path, *text;
    size_t size = 0;
    *fields = NULL;
    sp_status status = read_neighbour(picture, "json", &path, &text, &size);
    if (status == SP_OK && text) status = sp_json_parse(text, size, path, fields);
    if (status == SP_OK && *fields && !json_is_object(*fields)) {
        json_decref(*fields);
        *fields = NULL;
        status = sp_fail(SP_FORMAT, "%s: expected an object", path);
    }
    sp_free(text);
    sp_free(path);
    return status;
}

/* A picture without a line of metadata.jsonl has its neighbours. */
static sp_status read_neighbours(const char *picture, sp_captions *list, json_t **fields)
{
    SP_TRY(read_fields(picture, fields));
    SP_TRY(read_text(picture, list));
    return list->count ? SP_OK : sp_captions_add_json(list, json_object_get(*fields, "caption"));
}

/* ---- accepting ---- */

static sp_status consider(scan *s, const candidate *c, const char *name)
{
    json_t *line = sp_map_get(s->metadata, c->path), *fields = NULL;
    sp_captions captions = {0};
    sp_sample *sample;
    sp_status status = line ? sp_captions_add_json(&captions, json_object_get(line, "text"))
                            : read_neighbours(c->path, &captions, &fields);
    if (status == SP_IO || status == SP_FORMAT) {
        sp_dataset_reject(s->dataset, "unreadable caption or .json", name, sp_error_message());
        status = SP_OK;
    } else if (status == SP_OK) {
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
    return sp_map_get(s->metadata, c->path) ? sp_map_put(s->metadata, c->path, NULL) : SP_OK;
}

/* ---- the data set ---- */

static sp_status folder_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    return sp_picture_load(dataset, dataset->source, sample, rgb);
}

static const sp_source_kind folder_kind = {folder_image, sp_free};

static sp_status fill(scan *s, const char *path)
{
    s->metadata = sp_map_create();
    s->documents = json_array();
    if (!s->metadata || !s->documents) return sp_fail(SP_MEMORY, "out of memory for %s", path);
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
    for (size_t i = 0; sp_map_next(s->metadata, &i, &name, &line);)
        if (line)
            sp_dataset_reject(s->dataset, "absent picture named in metadata.jsonl", name, NULL);
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
    sp_map_destroy(s->metadata);
    json_decref(s->documents);
    sp_free(s);
    return status;
}
