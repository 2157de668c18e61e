/* coco:FILE.json,DIR, the captions of MS COCO. */
#include "data/coco.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "data/picture.h"

enum { IMAGES_PER_REPORT = 4096 };

typedef struct {
    int64_t id;
    size_t index;  /* in "images" */
    int64_t first; /* the number of its first annotation; -1: it has none */
} entry;

typedef struct {
    sp_dataset *dataset;
    const char *where; /* the annotations' path */
    json_t *images, *annotations;
    entry *entries; /* [count], by id */
    size_t count;
    int64_t *next; /* [annotations]: the next of the same picture; -1: none */
} coco;

static int by_id(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static sp_status list_images(coco *c)
{
    size_t i, all = json_array_size(c->images);
    json_t *image;
    c->entries = sp_alloc((all + 1) * sizeof *c->entries);
    if (!c->entries) return SP_MEMORY;
    json_array_foreach(c->images, i, image)
    {
        const json_t *id = json_object_get(image, "id");
        char number[40];
        snprintf(number, sizeof number, "image %zu", i);
        if (!json_is_integer(id) || !json_is_string(json_object_get(image, "file_name")))
            sp_dataset_reject(c->dataset, "image without \"id\" or \"file_name\"", number, NULL);
        else
            c->entries[c->count++] = (entry){json_integer_value(id), i, -1};
    }
    qsort(c->entries, c->count, sizeof *c->entries, by_id);
    return SP_OK;
}

/* The first entry with this id, by which they are sorted; NULL: there is none. */
static entry *find_entry(const coco *c, const json_t *id)
{
    size_t low = 0, high = c->count;
    while (json_is_integer(id) && low < high) {
        size_t middle = (low + high) / 2;
        if (c->entries[middle].id < json_integer_value(id))
            low = middle + 1;
        else
            high = middle;
    }
    bool found =
        json_is_integer(id) && low < c->count && c->entries[low].id == json_integer_value(id);
    return found ? &c->entries[low] : NULL;
}

/* What an annotation says; by default as COCO has it. */
static const json_t *caption_of(const coco *c, const json_t *annotation)
{
    const char *column = c->dataset->options.caption_column;
    return json_object_get(annotation, column ? column : "caption");
}

/* Chains the annotations of each picture, from the last to the first, so that chains run forwards. */
static sp_status chain_annotations(coco *c)
{
    size_t all = json_array_size(c->annotations);
    c->next = sp_alloc((all + 1) * sizeof *c->next);
    if (!c->next) return SP_MEMORY;
    for (size_t i = all; i-- > 0;) {
        const json_t *annotation = json_array_get(c->annotations, i);
        entry *picture = find_entry(c, json_object_get(annotation, "image_id"));
        c->next[i] = picture ? picture->first : -1;
        if (picture && json_is_string(caption_of(c, annotation))) {
            picture->first = (int64_t)i;
            continue;
        }
        char number[40];
        snprintf(number, sizeof number, "annotation %zu", i);
        sp_dataset_reject_words(c->dataset, "annotation without a picture or caption", number, NULL);
    }
    return SP_OK;
}

static int by_index(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* A path inside the folder: relative, and never up. */
static bool stays_inside(const char *name)
{
    if (*name == '/' || !*name) return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2])) return false;
    }
    return true;
}

static sp_status consider(coco *c, const entry *e, const json_t *image, const char *name)
{
    char *path = sp_path_join(c->dataset->source, name);
    if (!path) return SP_MEMORY;
    bool there = sp_path_exists(path) && !sp_path_is_folder(path);
    sp_captions captions = {0};
    sp_mapped_file file = {0};
    sp_sample *sample;
    sp_status status = SP_OK;
    if (!there)
        sp_dataset_reject(c->dataset, "absent picture named in the annotations", name, NULL);
    for (int64_t i = e->first; i >= 0 && there && !status; i = c->next[i])
        status = sp_captions_add_json(
            &captions, caption_of(c, json_array_get(c->annotations, (size_t)i)));
    if (there && !status) status = sp_mapped_file_open(path, &file); /* its header is seldom looked at */
    if (status == SP_IO) {
        sp_dataset_reject(c->dataset, "unreadable picture", name, sp_error_message());
        status = SP_OK;
    } else if (there && !status) {
        const sp_candidate picture = {.name = name,
                                      .fields = image,
                                      .picture = file.data,
                                      .size = file.size,
                                      .captions = &captions};
        status = sp_picture_consider(c->dataset, &picture, &sample);
    }
    sp_mapped_file_close(&file);
    sp_captions_free(&captions);
    sp_free(path);
    return status;
}

static sp_status consider_all(coco *c, const sp_callbacks *callbacks)
{
    qsort(c->entries, c->count, sizeof *c->entries, by_index);
    for (size_t i = 0; i < c->count; i++) {
        const json_t *image = json_array_get(c->images, c->entries[i].index);
        const char *name = json_string_value(json_object_get(image, "file_name"));
        if (stays_inside(name))
            SP_TRY(consider(c, &c->entries[i], image, name));
        else
            sp_dataset_reject(c->dataset, "file name that leaves the folder", name, NULL);
        if ((i + 1) % IMAGES_PER_REPORT && i + 1 < c->count) continue;
        sp_report(callbacks, "COCO", (int64_t)i + 1, (int64_t)c->count, NULL);
        SP_TRY(sp_check_cancelled(callbacks));
    }
    return SP_OK;
}

static sp_status load(const char *path, json_t **out)
{
    char *text;
    size_t size;
    SP_TRY(sp_read_text(path, &text, &size));
    sp_status status = sp_json_parse_lenient(text, size, path, out);
    sp_free(text);
    return status;
}

static sp_status read_annotations(coco *c, const sp_callbacks *callbacks)
{
    json_t *document;
    SP_TRY(load(c->where, &document));
    c->images = json_object_get(document, "images");
    c->annotations = json_object_get(document, "annotations");
    sp_status status =
        json_is_array(c->images) && json_is_array(c->annotations)
            ? SP_OK
            : sp_fail(SP_FORMAT, "%s: expected lists \"images\" and \"annotations\"", c->where);
    if (!status) status = list_images(c);
    if (!status) status = chain_annotations(c);
    if (!status) status = consider_all(c, callbacks);
    sp_free(c->entries);
    sp_free(c->next);
    json_decref(document);
    return status;
}

static sp_status coco_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    return sp_picture_load(dataset, dataset->source, sample, rgb);
}

static sp_status coco_bytes(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size)
{
    return sp_picture_read(dataset, dataset->source, sample, bytes, size);
}

static const sp_source_kind coco_kind = {coco_image, sp_free, coco_bytes};

sp_status sp_coco_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    const char *spec = context, *comma = strstr(spec, ".json,");
    if (!comma || !comma[6])
        return sp_fail(SP_ARGUMENT, "data \"%s\": expected coco:ANNOTATIONS.json,IMAGES",
                       dataset->spec);
    sp_picture_defaults(&dataset->options);
    dataset->source = sp_strdup(comma + 6);
    if (!dataset->source) return SP_MEMORY;
    dataset->kind = &coco_kind;
    if (!sp_path_is_folder(dataset->source))
        return sp_fail(SP_IO, "%s is not a folder", (const char *)dataset->source);
    char *where = sp_format("%.*s", (int)(comma + 5 - spec), spec);
    if (!where) return SP_MEMORY;
    coco c = {.dataset = dataset, .where = where};
    sp_status status = read_annotations(&c, callbacks);
    sp_free(where);
    return status;
}
