/* EXIF, found and read. */
#include "image/exif.h"
#include <string.h>

static uint32_t number(const uint8_t *bytes, int count, bool big_endian)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint32_t)bytes[i] << 8 * (big_endian ? count - 1 - i : i);
    return value;
}

/* ---- TIFF: byte order, 42, the first directory's offset; a directory is a count and entries of 12 bytes: tag, type,
 * count, value ---- */

static bool tiff_open(const uint8_t *bytes, size_t size, sp_tiff *out)
{
    if (size < 8) return false;
    *out = (sp_tiff){bytes, size, bytes[0] == 'M'};
    return !memcmp(bytes, out->big_endian ? "MM" : "II", 2) && number(bytes + 2, 2, out->big_endian) == 42;
}

size_t sp_tiff_first(const sp_tiff *tiff)
{
    return number(tiff->bytes + 4, 4, tiff->big_endian);
}

bool sp_tiff_find(const sp_tiff *tiff, size_t directory, unsigned tag, sp_tiff_value *out)
{
    if (directory > tiff->size - 2) return false;
    size_t entries = number(tiff->bytes + directory, 2, tiff->big_endian), at = directory + 2;
    for (size_t i = 0; i < entries && tiff->size - at >= 12; i++, at += 12) {
        const uint8_t *entry = tiff->bytes + at;
        if (number(entry, 2, tiff->big_endian) != tag) continue;
        *out = (sp_tiff_value){.type = number(entry + 2, 2, tiff->big_endian),
                               .count = number(entry + 4, 4, tiff->big_endian)};
        out->value = number(entry + 8, out->type == SP_TIFF_SHORT ? 2 : 4, tiff->big_endian);
        return true;
    }
    return false;
}

bool sp_tiff_bytes(const sp_tiff *tiff, const sp_tiff_value *value, const uint8_t **out)
{
    if (value->type != SP_TIFF_UNDEFINED || value->count <= 4 || value->value > tiff->size ||
        value->count > tiff->size - value->value)
        return false;
    *out = tiff->bytes + value->value;
    return true;
}

/* ---- files ---- */

static bool has_prefix(const uint8_t *bytes, size_t size)
{
    return size >= 6 && !memcmp(bytes, "Exif\0\0", 6);
}

bool sp_exif_segment(const uint8_t *segment, size_t size, sp_tiff *out)
{
    return has_prefix(segment, size) && tiff_open(segment + 6, size - 6, out);
}

/* Chunks have it bare, and of some writers as JPEG does. */
static bool chunk_open(const uint8_t *data, size_t size, sp_tiff *out)
{
    size_t prefix = has_prefix(data, size) ? 6 : 0;
    return tiff_open(data + prefix, size - prefix, out);
}

/* Behind two bytes of signature, segments of FF, marker, length (its own two bytes counted), data, until the picture
 * begins at SOS. */
bool sp_exif_of_jpeg(const uint8_t *file, size_t size, sp_tiff *out)
{
    enum { SOS = 0xDA, APP1 = 0xE1 };
    for (size_t at = 2; at <= size && size - at >= 4;) {
        if (file[at] != 0xFF) return false;
        unsigned marker = file[at + 1];
        if (marker == 0xFF) { /* padding */
            at++;
            continue;
        }
        size_t length = number(file + at + 2, 2, true);
        if (marker == SOS || length < 2 || length > size - at - 2) return false;
        if (marker == APP1 && sp_exif_segment(file + at + 4, length - 2, out)) return true;
        at += 2 + length;
    }
    return false;
}

/* Behind 8 bytes of signature, chunks of length, type, data, checksum. Walked here because a
 * probe reads no pixels and eXIf may stand behind them. */
bool sp_exif_of_png(const uint8_t *file, size_t size, sp_tiff *out)
{
    for (size_t at = 8; at <= size && size - at >= 12;) {
        size_t length = number(file + at, 4, true);
        if (length > size - at - 12) return false;
        if (!memcmp(file + at + 4, "eXIf", 4)) return chunk_open(file + at + 8, length, out);
        at += length + 12;
    }
    return false;
}

/* Behind 12 bytes of RIFF's header, chunks of type, length, data, padded to an even length. */
bool sp_exif_of_webp(const uint8_t *file, size_t size, sp_tiff *out)
{
    for (size_t at = 12; at <= size && size - at >= 8;) {
        size_t length = number(file + at + 4, 4, false);
        if (length > size - at - 8) return false;
        if (!memcmp(file + at, "EXIF", 4)) return chunk_open(file + at + 8, length, out);
        at += length + 8 + length % 2;
    }
    return false;
}
