/* Files of pictures in memory. */
#include "splam/splam.h"
#include "image/image.h"
#include "image/image_text.h"

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

splam_status splam_picture_parameters(const void *file, size_t bytes, char **text)
{
    return sp_image_parameters(file, bytes, name, text);
}
