/* Files of pictures in memory. */
#include "splam/splam.h"
#include "image/image.h"
#include "image/image_text.h"
#include "pipeline/picture_output.h"

static const char name[] = "the picture";

splam_status splam_picture_size(const void *file, size_t bytes, int64_t *width, int64_t *height)
{
    int wide, high;
    SP_TRY(sp_image_probe(file, bytes, name, &wide, &high));
    *width = wide;
    *height = high;
    return SP_OK;
}

splam_status splam_picture_decode(const void *file, size_t bytes, splam_pictures *picture)
{
    sp_image image;
    *picture = (splam_pictures){0};
    SP_TRY(sp_image_decode(file, bytes, name, &image));
    *picture = (splam_pictures){.count = 1, .width = image.width, .height = image.height, .rgb = image.pixels};
    return SP_OK;
}

splam_status splam_picture_encode(const splam_picture *picture, const char *format, int64_t quality, void **file,
                                  size_t *bytes)
{
    sp_image_encoding encoding;
    uint8_t *out;
    *file = NULL;
    *bytes = 0;
    if (!picture->rgb || picture->width < 1 || picture->height < 1 || picture->width > SP_IMAGE_MAX_SIDE ||
        picture->height > SP_IMAGE_MAX_SIDE || picture->width * picture->height > SP_IMAGE_MAX_PIXELS)
        return sp_fail(SP_ARGUMENT, "a picture of %lld x %lld pixels%s cannot be encoded", (long long)picture->width,
                       (long long)picture->height, picture->rgb ? "" : ", which are missing,");
    SP_TRY(sp_picture_encoding_choose(format, quality, &encoding));
    const sp_image image = {(int)picture->width, (int)picture->height, (uint8_t *)(uintptr_t)picture->rgb};
    SP_TRY(sp_image_encode(&image, &encoding, &(sp_image_texts){0}, &out, bytes));
    *file = out;
    return SP_OK;
}

splam_status splam_picture_parameters(const void *file, size_t bytes, char **text)
{
    return sp_image_parameters(file, bytes, name, text);
}
