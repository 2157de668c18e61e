/* A sample's picture, filtered, cut and scaled. */
#include "data/picture.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>
#include "base/file.h"
#include "base/memory.h"
#include "image/image.h"

enum { DEFAULT_RESOLUTION = 512 };

bool sp_is_picture_name(const char *name)
{
    static const char *const read[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof read / sizeof *read; i++)
        if (!strcasecmp(dot + 1, read[i])) return true;
    return false;
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

static bool is_blank(char c)
{
    return (unsigned char)c <= ' ' || c == 127;
}

sp_status sp_captions_add(sp_captions *list, const char *text, size_t size, const char *name)
{
    while (size > 0 && is_blank(*text))
        text++, size--;
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    if (!is_utf8(text, size)) return sp_fail(SP_FORMAT, "%s: the caption is not UTF-8", name);
    if (size == 0 || list->count == SP_MAX_CAPTIONS) return SP_OK;
    char *copy = sp_alloc(size + 1);
    if (!copy) return SP_MEMORY;
    for (size_t i = 0; i < size; i++)
        copy[i] = is_blank(text[i]) ? ' ' : text[i];
    copy[size] = 0;
    list->text[list->count++] = copy;
    return SP_OK;
}

sp_status sp_captions_add_json(sp_captions *list, const json_t *text)
{
    if (json_is_string(text))
        return sp_captions_add(list, json_string_value(text), json_string_length(text), "JSON");
    size_t i;
    json_t *one;
    json_array_foreach(text, i, one) if (json_is_string(one))
        SP_TRY(sp_captions_add(list, json_string_value(one), json_string_length(one), "JSON"));
    return SP_OK;
}

enum { COLUMNS = 4 };
static const char *const columns[2][COLUMNS] = {
    [SP_METADATA_COLUMNS] = {"text", "caption", "prompt", "additional_feature"},
    [SP_SIDECAR_COLUMNS] = {"caption", "text", "prompt", "additional_feature"},
};

bool sp_is_caption_column(const char *name)
{
    for (int i = 0; i < COLUMNS; i++)
        if (!strcasecmp(name, columns[0][i])) return true;
    return false;
}

/* The value of a key in letters of either case, as it is written first. */
static const json_t *find_field(const json_t *fields, const char *name)
{
    const json_t *exact = json_object_get(fields, name);
    const char *key;
    json_t *value;
    if (exact) return exact;
    json_object_foreach((json_t *)(uintptr_t)fields, key, value)
    {
        if (!strcasecmp(key, name)) return value;
    }
    return NULL;
}

const json_t *sp_find_caption(const json_t *fields, const char *column, sp_caption_columns kind)
{
    for (int i = 0; i < (column ? 1 : COLUMNS); i++) {
        const json_t *value = find_field(fields, column ? column : columns[kind][i]);
        if (json_is_string(value) || json_is_array(value)) return value;
    }
    return NULL;
}

void sp_captions_free(sp_captions *list)
{
    for (int i = 0; i < list->count; i++)
        sp_free(list->text[i]);
    list->count = 0;
}

/* ---- filters ---- */

/* The first of `keys` that is a number in `fields`. Letters of either case are meant: LAION's own
 * files have both. */
static bool find_number(const json_t *fields, const char *const *keys, double *out)
{
    const char *key;
    json_t *value;
    for (; *keys; keys++)
        json_object_foreach((json_t *)fields, key,
                            value) if (json_is_number(value) && !strcasecmp(key, *keys))
        {
            *out = json_number_value(value);
            return true;
        }
    return false;
}

typedef struct {
    const char *absent, *refused;
    const char *keys[4];
} filter;

static const filter aesthetic = {
    "no aesthetic score",
    "aesthetic score too low",
    {"aesthetic", "aesthetic_score", "aesthetic_score_laion_v2", NULL}};
static const filter watermark = {"no watermark probability",
                                 "watermark probability too high",
                                 {"pwatermark", "watermark", "watermark_score", NULL}};
static const filter similarity = {
    "no similarity",
    "similarity too low",
    {"similarity", "clip_similarity_vitb32", "clip_similarity_vitl14", NULL}};

/* Counts a rejection and returns true if the value is not least..most; a limit of 0 asks nothing. */
static bool filtered_out(const sp_dataset *dataset, const sp_candidate *c, const filter *f,
                         double least, double most)
{
    double value;
    char detail[SP_NUMBER_TEXT];
    if (least <= 0 && most <= 0) return false;
    if (!find_number(c->fields, f->keys, &value)) {
        sp_dataset_reject(dataset, f->absent, c->name, NULL);
        return true;
    }
    if (least > 0 ? value >= least : value <= most) return false;
    sp_dataset_reject(dataset, f->refused, c->name, sp_number_text(value, detail));
    return true;
}

/* ---- sizes ---- */

static bool size_field(const json_t *fields, const char *width, const char *height, int64_t *w,
                       int64_t *h)
{
    const char *const width_keys[] = {width, NULL}, *const height_keys[] = {height, NULL};
    double x, y;
    if (!find_number(fields, width_keys, &x) || !find_number(fields, height_keys, &y)) return false;
    if (!(x >= 1 && y >= 1 && x <= INT32_MAX && y <= INT32_MAX)) return false;
    *w = (int64_t)x;
    *h = (int64_t)y;
    return true;
}

static sp_status find_size(const sp_candidate *c, int64_t *width, int64_t *height)
{
    int w, h;
    *width = c->width;
    *height = c->height;
    if (*width > 0 || size_field(c->fields, "width", "height", width, height) ||
        size_field(c->fields, "original_width", "original_height", width, height))
        return SP_OK;
    SP_TRY(sp_image_probe(c->picture, c->size, sp_path_base(c->name), &w, &h));
    *width = w;
    *height = h;
    return SP_OK;
}

/* The reason to refuse a picture by its size; NULL when it is fine. */
static const char *size_problem(const sp_dataset *dataset, int64_t w, int64_t h)
{
    if (w < dataset->options.min_size || h < dataset->options.min_size) return "too small";
    if (w > SP_IMAGE_MAX_SIDE || h > SP_IMAGE_MAX_SIDE) return "too large";
    int64_t width, height;
    sp_image_shortest_size((int)w, (int)h, dataset->options.resolution, &width, &height);
    return width > SP_IMAGE_MAX_SIDE || height > SP_IMAGE_MAX_SIDE ||
                   width * height > SP_IMAGE_MAX_PIXELS
               ? "too long and narrow"
               : NULL;
}

/* ---- accepting ---- */

/* As the metadata of LAION's shards has it, whose pictures were scaled on the way. */
static void note_size(const sp_candidate *c, int64_t width, int64_t height, sp_sample *sample)
{
    int64_t w = width, h = height;
    sample->width = (int)width;
    sample->height = (int)height;
    size_field(c->fields, "original_width", "original_height", &w, &h);
    sample->original_width = (int)w;
    sample->original_height = (int)h;
}

static sp_status accept(sp_dataset *dataset, const sp_candidate *c, sp_sample **out)
{
    SP_TRY(sp_dataset_append(dataset, c->name, c->captions->count, out));
    for (int i = 0; i < c->captions->count; i++)
        SP_TRY(sp_sample_add_caption(dataset, *out, c->captions->text[i]));
    return SP_OK;
}

sp_status sp_picture_consider(sp_dataset *dataset, const sp_candidate *c, sp_sample **out)
{
    const sp_dataset_options *o = &dataset->options;
    int64_t width, height;
    *out = NULL;
    if (o->all_pictures) return accept(dataset, c, out);
    sp_status status = find_size(c, &width, &height);
    if (status == SP_MEMORY) return status;
    if (status) {
        sp_dataset_reject(dataset, "unreadable picture", c->name, sp_error_message());
        return SP_OK;
    }
    const char *problem = size_problem(dataset, width, height);
    if (problem) {
        char size[64];
        snprintf(size, sizeof size, "%lldx%lld", (long long)width, (long long)height);
        sp_dataset_reject(dataset, problem, c->name, size);
        return SP_OK;
    }
    if (filtered_out(dataset, c, &aesthetic, o->min_aesthetic, 0) ||
        filtered_out(dataset, c, &watermark, 0, o->max_watermark) ||
        filtered_out(dataset, c, &similarity, o->min_similarity, 0))
        return SP_OK;
    if (!c->captions->count) {
        sp_dataset_reject(dataset, "no caption", c->name, NULL);
        return SP_OK;
    }
    SP_TRY(accept(dataset, c, out));
    note_size(c, width, height, *out);
    return SP_OK;
}

void sp_picture_defaults(sp_dataset_options *options)
{
    if (!options->resolution) options->resolution = DEFAULT_RESOLUTION;
    if (!options->min_size) options->min_size = options->resolution / 2;
}

/* ---- pixels ---- */

static sp_random_key place_of(const sp_dataset_options *o, int64_t sample)
{
    return (sp_random_key){.seed = o->seed, .stream = SP_STREAM_AUGMENT, .sample = (uint64_t)sample};
}

void sp_dataset_cut(const sp_dataset *dataset, int64_t sample, sp_dataset_cut_place *out)
{
    const sp_dataset_options *o = &dataset->options;
    const sp_sample *s = &dataset->samples[sample];
    const sp_random_key place = place_of(o, sample);
    sp_square_cut cut = {0};
    *out = (sp_dataset_cut_place){o->resolution, o->resolution, 0, 0};
    if (!s->width || sp_image_square_cut(s->width, s->height, o->resolution, o->random_crop ? &place : NULL, &cut))
        return;
    *out = (sp_dataset_cut_place){s->original_width, s->original_height, cut.left, cut.top};
}

sp_status sp_picture_square(const sp_dataset *dataset, int64_t sample, const void *file,
                            size_t size, const char *name, uint8_t *rgb)
{
    const sp_dataset_options *o = &dataset->options;
    const sp_random_key place = place_of(o, sample);
    sp_image image, square = {0};
    SP_TRY(sp_image_decode(file, size, name, &image));
    sp_status status =
        sp_image_fit_square(&image, o->resolution, SP_FILTER_BILINEAR, o->random_crop ? &place : NULL, &square);
    if (status == SP_OK)
        memcpy(rgb, square.pixels, (size_t)square.width * (size_t)square.height * 3);
    sp_image_free(&image);
    sp_image_free(&square);
    /* The file may have grown out of proportion since it was looked at. */
    return status == SP_ARGUMENT ? SP_FORMAT : status;
}

sp_status sp_picture_read(const sp_dataset *dataset, const char *folder, int64_t sample, char **bytes, size_t *size)
{
    char *path = sp_path_join(folder, dataset->samples[sample].name);
    sp_status status = path ? sp_read_file(path, bytes, size) : SP_MEMORY;
    sp_free(path);
    return status;
}

sp_status sp_picture_load(const sp_dataset *dataset, const char *folder, int64_t sample,
                          uint8_t *rgb)
{
    char *path = sp_path_join(folder, dataset->samples[sample].name), *file = NULL;
    size_t size;
    sp_status status = path ? sp_read_file(path, &file, &size) : SP_MEMORY;
    if (status == SP_OK) status = sp_picture_square(dataset, sample, file, size, path, rgb);
    sp_free(file);
    sp_free(path);
    return status;
}
