/* EXIF orientation: where files state it, and what it asks for. */
#include "image/image_orientation.h"
#include <stdbool.h>
#include <string.h>
#include "base/memory.h"
#include "image/exif.h"

enum { TAG_ORIENTATION = 0x0112 };

static int orientation_of(const sp_tiff *tiff)
{
    sp_tiff_value v;
    if (!sp_tiff_find(tiff, sp_tiff_first(tiff), TAG_ORIENTATION, &v) || v.type != SP_TIFF_SHORT) return 0;
    return v.value >= 1 && v.value <= 8 ? (int)v.value : 0;
}

int sp_exif_orientation(const uint8_t *segment, size_t size)
{
    sp_tiff tiff;
    return sp_exif_segment(segment, size, &tiff) ? orientation_of(&tiff) : 0;
}

int sp_png_orientation(const uint8_t *file, size_t size)
{
    sp_tiff tiff;
    return sp_exif_of_png(file, size, &tiff) ? orientation_of(&tiff) : 0;
}

int sp_webp_orientation(const uint8_t *file, size_t size)
{
    sp_tiff tiff;
    return sp_exif_of_webp(file, size, &tiff) ? orientation_of(&tiff) : 0;
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
