#include "data/folder.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <utf8proc.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/image.h"

#define DEFAULT_RESOLUTION 512
#define MAX_DEPTH 64
#define HEADERS_PER_TASK 16
#define HEADERS_PER_REPORT 1024
#define MAX_CAPTIONS 64 /* of one picture */

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
    sp_map *captions; /* path -> json text or list from metadata.jsonl, kept alive by `documents` */
    json_t *documents;
    struct {
        dev_t device;
        ino_t inode;
    } ancestors[MAX_DEPTH];
} scan;

/* ---- finding files ---- */

static bool has_extension(const char *name, const char *const *extensions)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *extensions; extensions++)
        if (!strcasecmp(dot + 1, *extensions)) return true;
    return false;
}

static bool is_picture(const char *name)
{
    static const char *const read[] = {"jpg", "jpeg", "png", "webp", NULL};
    return has_extension(name, read);
}

static bool is_foreign_picture(const char *name)
{
    static const char *const other[] = {"gif", "bmp", "tif", "tiff", "avif", "heic", "jxl", NULL};
    return has_extension(name, other);
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
    status = path ? sp_map_put(s->captions, path, text) : SP_MEMORY;
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
    if (status == SP_OK && sp_path_exists(path)) status = sp_read_file(path, &text, &size);
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
    else if (is_picture(name))
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

/* ---- captions ---- */

static bool is_utf8(const char *text, size_t size)
{
    while (size > 0) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &c);
        if (used <= 0 || c == 0) return false;
        text += used;
        size -= (size_t)used;
    }
    return true;
}

typedef struct {
    char *text[MAX_CAPTIONS];
    int count;
} caption_list;

static sp_status add_caption(caption_list *list, const char *text, size_t size)
{
    while (size > 0 && strchr(" \t\r\n", *text))
        text++, size--;
    while (size > 0 && strchr(" \t\r\n", text[size - 1]))
        size--;
    if (size == 0 || list->count == MAX_CAPTIONS) return SP_OK;
    char *copy = sp_alloc(size + 1);
    if (!copy) return SP_MEMORY;
    memcpy(copy, text, size);
    copy[size] = 0;
    list->text[list->count++] = copy;
    return SP_OK;
}

/* NAME.txt beside NAME.jpg; each line that is not empty is a caption. */
static sp_status captions_from_file(const char *picture, caption_list *list)
{
    size_t stem = (size_t)(strrchr(picture, '.') - picture), size = 0;
    char *path = sp_format("%.*s.txt", (int)stem, picture), *text = NULL;
    if (!path) return SP_MEMORY;
    sp_status status = sp_path_exists(path) ? sp_read_file(path, &text, &size) : SP_OK;
    if (status == SP_OK && !is_utf8(text, size)) status = sp_fail(SP_FORMAT, "%s: not UTF-8", path);
    for (size_t at = 0; status == SP_OK && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        status = add_caption(list, text + at, length);
        at += length + 1;
    }
    sp_free(text);
    sp_free(path);
    return status;
}

/* A string or a list of strings; Jansson has checked that they are UTF-8. */
static sp_status captions_from_metadata(const json_t *text, caption_list *list)
{
    if (json_is_string(text))
        return add_caption(list, json_string_value(text), strlen(json_string_value(text)));
    size_t i;
    json_t *one;
    json_array_foreach(text, i, one) if (json_is_string(one))
        SP_TRY(add_caption(list, json_string_value(one), strlen(json_string_value(one))));
    return SP_OK;
}

static sp_status read_captions(const json_t *text, const char *picture, caption_list *list)
{
    return text ? captions_from_metadata(text, list) : captions_from_file(picture, list);
}

/* ---- accepting ---- */

/* The reason to refuse the picture by its header; NULL when it is fine. */
static const char *size_problem(const sp_dataset *dataset, const candidate *c)
{
    if (c->width < dataset->options.min_size || c->height < dataset->options.min_size)
        return "too small";
    int64_t width, height;
    sp_image_shortest_size(c->width, c->height, dataset->options.resolution, &width, &height);
    return width > SP_IMAGE_MAX_SIDE || height > SP_IMAGE_MAX_SIDE ||
                   width * height > SP_IMAGE_MAX_PIXELS
               ? "too long and narrow"
               : NULL;
}

static sp_status accept_one(scan *s, const candidate *c, size_t root)
{
    if (c->status == SP_MEMORY) return sp_fail(SP_MEMORY, "out of memory for %s", c->path);
    const char *name = c->path + root;
    const json_t *text = sp_map_get(s->captions, c->path);
    if (text) SP_TRY(sp_map_put(s->captions, c->path, NULL)); /* what is left names no picture */
    if (c->status != SP_OK) {
        sp_dataset_reject(s->dataset, "unreadable picture", name, c->problem);
        return SP_OK;
    }
    const char *problem = size_problem(s->dataset, c);
    if (problem) {
        char size[48];
        snprintf(size, sizeof size, "%dx%d", c->width, c->height);
        sp_dataset_reject(s->dataset, problem, name, size);
        return SP_OK;
    }
    caption_list list = {0};
    sp_sample *sample;
    sp_status status = read_captions(text, c->path, &list);
    if (status == SP_IO || status == SP_FORMAT) {
        sp_dataset_reject(s->dataset, "unreadable caption", name, sp_error_message());
        status = SP_OK;
    } else if (status == SP_OK && !list.count) {
        sp_dataset_reject(s->dataset, "no caption", name, NULL);
    } else if (status == SP_OK) {
        status = sp_dataset_append(s->dataset, name, list.count, &sample);
        for (int i = 0; i < list.count && status == SP_OK; i++)
            status = sp_sample_add_caption(s->dataset, sample, list.text[i]);
    }
    for (int i = 0; i < list.count; i++)
        sp_free(list.text[i]);
    return status;
}

/* ---- the data set ---- */

static sp_status cut_square(const sp_dataset *dataset, int64_t sample, const sp_image *image,
                            sp_image *out)
{
    const sp_dataset_options *options = &dataset->options;
    int side = options->resolution;
    if (!options->random_crop) return sp_image_fit_square(image, side, SP_FILTER_LANCZOS, out);
    int64_t width, height;
    sp_image scaled;
    sp_image_shortest_size(image->width, image->height, side, &width, &height);
    SP_TRY(sp_image_resize(image, (int)width, (int)height, SP_FILTER_LANCZOS, &scaled));
    sp_random_key key = {
        .seed = options->seed, .stream = SP_STREAM_AUGMENT, .sample = (uint64_t)sample};
    int place = (int)sp_random_below(key, (uint64_t)(width + height - 2 * side + 1));
    sp_status status = sp_image_crop(&scaled, width > side ? place : 0, height > side ? place : 0,
                                     side, side, out);
    sp_image_free(&scaled);
    return status;
}

static sp_status folder_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    char *path = sp_path_join(dataset->source, dataset->samples[sample].name);
    if (!path) return SP_MEMORY;
    sp_image image, square = {0};
    sp_status status = sp_image_load(path, &image);
    sp_free(path);
    if (status != SP_OK) return status;
    status = cut_square(dataset, sample, &image, &square);
    if (status == SP_OK)
        memcpy(rgb, square.pixels, (size_t)square.width * (size_t)square.height * 3);
    sp_image_free(&image);
    sp_image_free(&square);
    /* A file that was replaced since its header was read may have grown out of proportion. */
    return status == SP_ARGUMENT ? SP_FORMAT : status;
}

static const sp_source_kind folder_kind = {folder_image, sp_free};

static sp_status fill(scan *s, const char *path)
{
    s->captions = sp_map_create();
    s->documents = json_array();
    if (!s->captions || !s->documents) return sp_fail(SP_MEMORY, "out of memory for %s", path);
    SP_TRY(scan_folder(s, path, 0));
    SP_TRY(probe_all(s));
    char *probe = sp_path_join(path, "x");
    if (!probe) return SP_MEMORY;
    size_t root = strlen(probe) - 1; /* names are the paths below the folder */
    sp_free(probe);
    for (int64_t i = 0; i < s->count; i++)
        SP_TRY(accept_one(s, &s->found[i], root));
    const char *name;
    void *text;
    for (size_t i = 0; sp_map_next(s->captions, &i, &name, &text);)
        if (text)
            sp_dataset_reject(s->dataset, "absent picture named in metadata.jsonl", name, NULL);
    return SP_OK;
}

sp_status sp_folder_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    const char *path = context;
    sp_dataset_options *options = &dataset->options;
    if (!options->resolution) options->resolution = DEFAULT_RESOLUTION;
    if (!options->min_size) options->min_size = options->resolution / 2;
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
    sp_map_destroy(s->captions);
    json_decref(s->documents);
    sp_free(s);
    return status;
}
