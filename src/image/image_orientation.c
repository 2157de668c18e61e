/* EXIF orientation: where files state it, and what it asks for. */
#include "image/image_orientation.h"
#include <stdbool.h>
#include <string.h>
#include "base/memory.h"

static uint32_t number(const uint8_t *bytes, int count, bool big_endian)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint32_t)bytes[i] << 8 * (big_endian ? count - 1 - i : i);
    return value;
}

/* A TIFF file: byte order, 42, the first directory's offset; a directory is a count and entries of
 * 12 bytes: tag, type, count, value. Orientation is tag 0x0112, one SHORT. */
static int tiff_orientation(const uint8_t *tiff, size_t size)
{
    if (size < 8) return 0;
    bool big_endian = tiff[0] == 'M';
    if (memcmp(tiff, big_endian ? "MM" : "II", 2) || number(tiff + 2, 2, big_endian) != 42)
        return 0;
    size_t offset = number(tiff + 4, 4, big_endian);
    if (offset > size - 2) return 0;
    size_t entries = number(tiff + offset, 2, big_endian);
    offset += 2;
    for (size_t i = 0; i < entries && size - offset >= 12; i++, offset += 12) {
        const uint8_t *entry = tiff + offset;
        if (number(entry, 2, big_endian) != 0x0112 || number(entry + 2, 2, big_endian) != 3)
            continue;
        uint32_t value = number(entry + 8, 2, big_endian);
        return value >= 1 && value <= 8 ? (int)value : 0;
    }
    return 0;
}

static bool has_prefix(const uint8_t *bytes, size_t size)
{
    return size >= 6 && !memcmp(bytes, "Exif\0\0", 6);
}

int sp_exif_orientation(const uint8_t *segment, size_t size)
{
    return has_prefix(segment, size) ? tiff_orientation(segment + 6, size - 6) : 0;
}

/* Chunks have it bare, and of some writers as JPEG does. */
static int chunk_orientation(const uint8_t *data, size_t size)
{
    int prefix = has_prefix(data, size) ? 6 : 0;
    return tiff_orientation(data + prefix, size - (size_t)prefix);
}

/* Behind 8 bytes of signature, chunks of length, type, data, checksum. Walked here because a
 * probe reads no pixels and eXIf may stand behind them. */
int sp_png_orientation(const uint8_t *file, size_t size)
{
    for (size_t at = 8; at <= size && size - at >= 12;) {
        size_t length = number(file + at, 4, true);
        if (length > size - at - 12) return 0;
        if (!memcmp(file + at + 4, "eXIf", 4)) return chunk_orientation(file + at + 8, length);
        at += length + 12;
    }
    return 0;
}

/* Behind 12 bytes of RIFF's header, chunks of type, length, data, padded to an even length. */
int sp_webp_orientation(const uint8_t *file, size_t size)
{
    for (size_t at = 12; at <= size && size - at >= 8;) {
        size_t length = number(file + at + 4, 4, false);
        if (length > size - at - 8) return 0;
        if (!memcmp(file + at, "EXIF", 4)) return chunk_orientation(file + at + 8, length);
        at += length + 8 + length % 2;
    }
    return 0;
}

sp_status sp_image_orient(sp_image *image, int orientation)
{
    bool transpose = orientation >= 5;
    int width = image->width, height = image->height;
    sp_image turned;
    SP_TRY(sp_image_create(transpose ? height : width, transpose ? width : height, &turned));
    bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    uint8_t *to = turned.pixels;
    for (int y = 0; y < turned.height; y++)
        for (int x = 0; x < turned.width; x++, to += 3) {
            int from_x = transpose ? y : x, from_y = transpose ? x : y;
            if (flip_x) from_x = width - 1 - from_x;
            if (flip_y) from_y = height - 1 - from_y;
            memcpy(to, image->pixels + ((size_t)from_y * width + from_x) * 3, 3);
        }
    sp_image_free(image);
    *image = turned;
    return SP_OK;
}
