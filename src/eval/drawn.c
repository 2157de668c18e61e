/* Drawn pictures in memory and in folders, and the manifest of a folder. */
#include "eval/drawn.h"
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/image.h"

#define FORMAT "splam pictures 1"
enum { HEAD = 24, TAIL = 12 }; /* up to width and height; the chunk that ends a PNG */

/* ---- files ---- */

static char *path_of(const sp_drawn *d, int64_t index)
{
    return sp_format("%s/%06lld.png", d->folder, (long long)index);
}

/* From the beginning and the end of its file. */
static bool is_whole(const sp_drawn *d, const unsigned char *head, const unsigned char *tail)
{
    static const unsigned char begin[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", end[] = "\0\0\0\0IEND\xae\x42\x60\x82";
    unsigned char side[4] = {0, 0, (unsigned char)(d->size >> 8), (unsigned char)d->size};
    return memcmp(head, begin, 16) == 0 && memcmp(head + 16, side, 4) == 0 && memcmp(head + 20, side, 4) == 0 &&
           memcmp(tail, end, TAIL) == 0;
}

/* A path at which there is nothing, or no file, has no picture. */
static bool look(const sp_drawn *d, const char *path)
{
    unsigned char head[HEAD], tail[TAIL];
    int file;
    size_t size;
    if (!sp_path_exists(path) || sp_open_regular(path, false, &file, &size)) return false;
    bool read = size >= HEAD + TAIL && pread(file, head, HEAD, 0) == HEAD &&
                pread(file, tail, TAIL, (off_t)(size - TAIL)) == TAIL;
    close(file);
    return read && is_whole(d, head, tail);
}

static sp_status look_at_all(sp_drawn *d)
{
    for (int64_t i = 0; i < d->count; i++) {
        char *path = path_of(d, i);
        if (!path) return SP_MEMORY;
        d->there[i] = look(d, path);
        sp_free(path);
    }
    return SP_OK;
}

/* ---- pictures ---- */

static size_t bytes_of(const sp_drawn *d)
{
    return (size_t)d->size * (size_t)d->size * 3;
}

static sp_status open_folder(const char *folder, sp_drawn *d)
{
    d->folder = sp_strdup(folder);
    if (!d->folder) return SP_MEMORY;
    return sp_path_is_folder(folder) ? look_at_all(d) : SP_OK;
}

sp_status sp_drawn_open(const char *folder, int64_t count, int size, sp_drawn *out)
{
    *out = (sp_drawn){.count = count, .size = size};
    out->there = sp_alloc_zero((size_t)count * sizeof *out->there);
    if (out->there && !folder) out->pixels = sp_alloc((size_t)count * bytes_of(out));
    sp_status status = out->there && (folder || out->pixels) ? SP_OK : SP_MEMORY;
    if (!status && folder) status = open_folder(folder, out);
    if (status) sp_drawn_close(out);
    return status;
}

void sp_drawn_close(sp_drawn *d)
{
    sp_free(d->folder);
    sp_free(d->pixels);
    sp_free(d->there);
    *d = (sp_drawn){0};
}

int64_t sp_drawn_known(const sp_drawn *d)
{
    int64_t known = 0;
    for (int64_t i = 0; i < d->count; i++)
        known += d->there[i];
    return known;
}

static sp_status save(const sp_drawn *d, int64_t index, const uint8_t *rgb)
{
    const sp_image image = {d->size, d->size, (uint8_t *)(uintptr_t)rgb};
    char *path = path_of(d, index);
    sp_status status = path ? sp_make_folders(d->folder) : SP_MEMORY;
    if (!status) status = sp_image_save_png(&image, path, NULL, 0);
    sp_free(path);
    return status;
}

sp_status sp_drawn_put(sp_drawn *d, int64_t index, const uint8_t *rgb)
{
    if (d->folder)
        SP_TRY(save(d, index, rgb));
    else
        memcpy(d->pixels + (size_t)index * bytes_of(d), rgb, bytes_of(d));
    d->there[index] = true;
    return SP_OK;
}

static sp_status load(const sp_drawn *d, const char *path, uint8_t *rgb)
{
    sp_image image;
    sp_status status = sp_image_load(path, &image);
    if (status == SP_FORMAT || status == SP_IO)
        return sp_fail_within(status, "a picture that was kept; delete it and it will be drawn again");
    SP_TRY(status);
    if (image.width == d->size && image.height == d->size)
        memcpy(rgb, image.pixels, bytes_of(d));
    else
        status = sp_fail(SP_FORMAT, "%s: has %d x %d pixels, expected %d x %d", path, image.width, image.height,
                         d->size, d->size);
    sp_image_free(&image);
    return status;
}

sp_status sp_drawn_get(const sp_drawn *d, int64_t index, uint8_t *rgb)
{
    if (!d->folder) {
        memcpy(rgb, d->pixels + (size_t)index * bytes_of(d), bytes_of(d));
        return SP_OK;
    }
    char *path = path_of(d, index);
    sp_status status = path ? load(d, path, rgb) : SP_MEMORY;
    sp_free(path);
    return status;
}

/* ---- the manifest ---- */

/* Of the first captions, each with a newline behind it. */
static sp_status hash_captions(const sp_drawn_origin *origin, int64_t count, char sha256[SP_SHA256_TEXT])
{
    sp_piece *pieces = sp_alloc((size_t)(2 * count) * sizeof *pieces);
    if (!pieces) return SP_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        pieces[2 * i] = (sp_piece){origin->captions[i], strlen(origin->captions[i])};
        pieces[2 * i + 1] = (sp_piece){"\n", 1};
    }
    sp_sha256_pieces(pieces, (size_t)(2 * count), sha256);
    sp_free(pieces);
    return SP_OK;
}

static sp_status save_manifest(const char *path, json_t *manifest)
{
    sp_status status = manifest ? sp_json_save(path, manifest) : SP_MEMORY;
    json_decref(manifest);
    return status;
}

static sp_status write_manifest(const char *path, const sp_drawn_origin *origin)
{
    char sha256[SP_SHA256_TEXT];
    SP_TRY(hash_captions(origin, origin->count, sha256));
    SP_TRY(save_manifest(path, json_pack("{s:s, s:O, s:I, s:s}", "format", FORMAT, "settings", origin->settings,
                                         "count", (json_int_t)origin->count, "captions_sha256", sha256)));
    return SP_OK;
}

/* A number that is whole may be read as an integer. */
static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static sp_status compare_settings(const char *folder, const json_t *found, const json_t *wanted)
{
    const char *key;
    json_t *value, *all = (json_t *)(uintptr_t)wanted;
    json_object_foreach(all, key, value)
    {
        char was[80], is[80];
        const json_t *other = json_object_get(found, key);
        if (other && same_value(other, value)) continue;
        return sp_fail(SP_ARGUMENT, "%s: its pictures were drawn with the %s %s, and these would be with %s: give "
                       "another `output`, or remove that folder", folder, key,
                       other ? sp_json_brief(other, was, sizeof was) : "unknown",
                       sp_json_brief(value, is, sizeof is));
    }
    return SP_OK;
}

static sp_status compare_captions(const char *folder, int64_t count, const char *found, const sp_drawn_origin *origin)
{
    char sha256[SP_SHA256_TEXT];
    if (count > origin->known)
        return sp_fail(SP_ARGUMENT, "%s: has pictures of %lld captions, and there are %lld: give another `output`, or "
                       "remove that folder", folder, (long long)count, (long long)origin->known);
    SP_TRY(hash_captions(origin, count, sha256));
    if (strcmp(found, sha256) == 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: its %lld pictures are of other captions (sha256 %.64s) than these (%s): give "
                   "another `output`, or remove that folder", folder, (long long)count, found, sha256);
}

static sp_status check_manifest(const char *folder, const char *path, const json_t *manifest,
                                const sp_drawn_origin *origin)
{
    const char *format, *sha256;
    int64_t count;
    const json_t *settings = json_object_get(manifest, "settings");
    SP_TRY(sp_json_text(manifest, "format", "", path, &format));
    SP_TRY(sp_json_text(manifest, "captions_sha256", "", path, &sha256));
    SP_TRY(sp_json_int(manifest, "count", 0, path, &count));
    if (strcmp(format, FORMAT) != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: has the format \"%.32s\", expected \"" FORMAT "\"", path, format);
    if (!json_is_object(settings) || count < 1)
        return sp_fail(SP_FORMAT, "%s: must have an object \"settings\" and a \"count\" of 1 or more", path);
    SP_TRY(compare_settings(folder, settings, origin->settings));
    SP_TRY(compare_captions(folder, count, sha256, origin));
    return count < origin->count ? write_manifest(path, origin) : SP_OK;
}

/* Pictures of which nobody says what they are. */
static sp_status check_empty(const char *folder)
{
    char **names = NULL;
    size_t count = 0, pictures = 0;
    if (!sp_path_is_folder(folder)) return sp_make_folders(folder);
    SP_TRY(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        pictures += sp_ends_with(names[i], ".png");
        sp_free(names[i]);
    }
    sp_free(names);
    if (!pictures) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: holds %zu pictures and no manifest.json that says how they were drawn: give "
                   "another `output`, or remove that folder", folder, pictures);
}

static sp_status settle(const char *folder, const char *path, const sp_drawn_origin *origin)
{
    json_t *manifest;
    if (!sp_path_exists(path)) {
        SP_TRY(check_empty(folder));
        return write_manifest(path, origin);
    }
    SP_TRY(sp_json_load(path, &manifest));
    sp_status status = check_manifest(folder, path, manifest, origin);
    json_decref(manifest);
    return status;
}

sp_status sp_drawn_settle(const char *folder, const sp_drawn_origin *origin)
{
    char *path = sp_path_join(folder, "manifest.json");
    sp_status status = path ? settle(folder, path, origin) : SP_MEMORY;
    sp_free(path);
    return status;
}

sp_status sp_drawn_seconds(const char *folder, double *seconds)
{
    json_t *manifest = NULL;
    char *path = sp_path_join(folder, "manifest.json");
    *seconds = NAN;
    sp_status status = path ? sp_json_load(path, &manifest) : SP_MEMORY;
    if (!status) status = sp_json_double(manifest, "seconds_per_image", NAN, path, seconds);
    json_decref(manifest);
    sp_free(path);
    return status;
}

sp_status sp_drawn_keep_seconds(const char *folder, double seconds)
{
    json_t *manifest = NULL;
    char *path = sp_path_join(folder, "manifest.json");
    sp_status status = path ? sp_json_load(path, &manifest) : SP_MEMORY;
    if (!status && json_object_set_new(manifest, "seconds_per_image", json_real(seconds))) status = SP_MEMORY;
    if (!status) status = sp_json_save(path, manifest);
    json_decref(manifest);
    sp_free(path);
    return status;
}
