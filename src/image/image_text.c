/* The text about a picture in its file, read: PNG's chunks and EXIF's UserComment. Every byte is hostile. */
#include "image/image_text.h"
#include <spng.h>
#include <string.h>
#include "base/memory.h"
#include "image/exif.h"
#include "image/image.h"
#include "text/unicode.h"

enum { TAG_EXIF_DIRECTORY = 0x8769, TAG_USER_COMMENT = 0x9286 };
enum { TEXT_MAX = 1 << 22 }; /* bytes of one text, unpacked, and of all that a PNG has */

static sp_status from_points(const int32_t *points, size_t count, char **out)
{
    *out = sp_alloc(4 * count + 1);
    if (!*out) return SP_MEMORY;
    (*out)[sp_utf8_encode(points, count, *out)] = 0;
    return SP_OK;
}

/* ---- PNG ---- */

/* tEXt and zTXt are Latin-1, though many writers put UTF-8 there: what is well-formed UTF-8 is taken for that. */
static sp_status from_latin1(const char *bytes, size_t length, char **out)
{
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    if (!points) return SP_MEMORY;
    size_t count = sp_utf8_decode(bytes, length, points);
    bool utf8 = true;
    for (size_t i = 0; i < count; i++)
        utf8 &= points[i] != 0xFFFD;
    if (!utf8) {
        count = length;
        for (size_t i = 0; i < length; i++)
            points[i] = (unsigned char)bytes[i];
    }
    sp_status status = from_points(points, count, out);
    sp_free(points);
    return status;
}

static sp_status from_utf8(const char *bytes, size_t length, char **out)
{
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    if (!points) return SP_MEMORY;
    sp_status status = from_points(points, sp_utf8_decode(bytes, length, points), out);
    sp_free(points);
    return status;
}

static sp_status find_text(spng_ctx *png, const char *name, char **out)
{
    uint32_t count = 0;
    int error = spng_get_text(png, NULL, &count);
    if (error == SPNG_ECHUNKAVAIL || (!error && !count)) return SP_OK;
    struct spng_text *texts = error ? NULL : sp_alloc_zero(count * sizeof *texts);
    if (!error && !texts) return SP_MEMORY;
    if (!error) error = spng_get_text(png, texts, &count);
    sp_status status = error ? sp_fail(SP_FORMAT, "%s: damaged PNG: %s", name, spng_strerror(error)) : SP_OK;
    for (uint32_t i = 0; i < count && !status && !*out; i++) {
        if (strcmp(texts[i].keyword, "parameters")) continue;
        bool utf8 = texts[i].type == SPNG_ITXT;
        status = (utf8 ? from_utf8 : from_latin1)(texts[i].text, strnlen(texts[i].text, texts[i].length), out);
    }
    sp_free(texts);
    return status;
}

static sp_status png_text(const void *data, size_t size, const char *name, char **out)
{
    struct spng_ihdr header;
    spng_ctx *png = spng_ctx_new(0);
    if (!png) return sp_fail(SP_MEMORY, "%s: out of memory for a PNG", name);
    int error = spng_set_image_limits(png, SP_IMAGE_MAX_SIDE, SP_IMAGE_MAX_SIDE);
    if (!error) error = spng_set_chunk_limits(png, TEXT_MAX, TEXT_MAX);
    if (!error) error = spng_set_crc_action(png, SPNG_CRC_ERROR, SPNG_CRC_DISCARD);
    if (!error) error = spng_set_png_buffer(png, data, size);
    if (!error) error = spng_get_ihdr(png, &header);
    sp_status status = error ? sp_fail(SP_FORMAT, "%s: damaged PNG: %s", name, spng_strerror(error))
                             : find_text(png, name, out);
    spng_ctx_free(png);
    return status;
}

/* ---- EXIF ---- */

/* UTF-16 in one order of bytes; what is no pair becomes U+FFFD. */
static sp_status from_utf16(const uint8_t *bytes, size_t size, bool big_endian, char **out)
{
    int32_t *points = sp_alloc((size / 2 + 1) * sizeof *points);
    if (!points) return SP_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i + 1 < size; i += 2) {
        int32_t unit = big_endian ? bytes[i] << 8 | bytes[i + 1] : bytes[i + 1] << 8 | bytes[i];
        if (!unit) break;
        bool low = unit >= 0xDC00 && unit < 0xE000;
        if (low && count && points[count - 1] >= 0xD800 && points[count - 1] < 0xDC00)
            points[count - 1] = 0x10000 + ((points[count - 1] - 0xD800) << 10) + (unit - 0xDC00);
        else
            points[count++] = low ? 0xFFFD : unit;
    }
    for (size_t i = 0; i < count; i++)
        if (points[i] >= 0xD800 && points[i] < 0xE000) points[i] = 0xFFFD;
    sp_status status = from_points(points, count, out);
    sp_free(points);
    return status;
}

/* Eight bytes name the characters. "UNICODE" is in the order of bytes that shows: A1111 writes big-endian whatever the
 * rest is in, others the file's. A text's first unit is a Latin letter or a bracket, so that half of it is 0. */
static sp_status comment_text(const uint8_t *bytes, size_t size, bool big_endian, char **out)
{
    if (size >= 10 && !memcmp(bytes, "UNICODE\0", 8)) {
        if (!bytes[8] != !bytes[9]) big_endian = !bytes[8];
        return from_utf16(bytes + 8, size - 8, big_endian, out);
    }
    if (size > 8 && !memcmp(bytes, "ASCII\0\0\0", 8))
        return from_utf8((const char *)bytes + 8, strnlen((const char *)bytes + 8, size - 8), out);
    return SP_OK;
}

static sp_status exif_text(const sp_tiff *tiff, char **out)
{
    sp_tiff_value directory, comment;
    const uint8_t *bytes;
    if (!sp_tiff_find(tiff, sp_tiff_first(tiff), TAG_EXIF_DIRECTORY, &directory) ||
        directory.type != SP_TIFF_LONG || !sp_tiff_find(tiff, directory.value, TAG_USER_COMMENT, &comment) ||
        !sp_tiff_bytes(tiff, &comment, &bytes))
        return SP_OK;
    return comment_text(bytes, comment.count, tiff->big_endian, out);
}

sp_status sp_image_parameters(const void *data, size_t size, const char *name, char **out)
{
    const uint8_t *bytes = data;
    sp_tiff tiff;
    *out = NULL;
    if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1A\n", 8)) return png_text(data, size, name, out);
    if (size >= 3 && !memcmp(bytes, "\xFF\xD8\xFF", 3))
        return sp_exif_of_jpeg(bytes, size, &tiff) ? exif_text(&tiff, out) : SP_OK;
    if (size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4))
        return sp_exif_of_webp(bytes, size, &tiff) ? exif_text(&tiff, out) : SP_OK;
    return sp_fail(SP_FORMAT, "%s: neither JPEG, PNG nor WebP", name);
}
