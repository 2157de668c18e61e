/* Files of pictures in memory. */
#include "splam/splam.h"
#include "base/memory.h"
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

struct splam_picture_output {
    sp_picture_output files;
    int64_t count;
};

splam_status splam_picture_output_open(const char *output, const char *format, int64_t count,
                                       splam_picture_output **out)
{
    splam_generate_options o = splam_generate_defaults();
    *out = NULL;
    if (!output || count < 1)
        return sp_fail(SP_ARGUMENT, "there are no pictures to write, or nowhere to write them to");
    splam_picture_output *made = sp_alloc_zero(sizeof *made);
    if (!made) return SP_MEMORY;
    made->count = count;
    o.output = output;
    o.format = format;
    sp_status status = sp_picture_output_choose(&o, &made->files);
    if (!status) status = sp_picture_output_claim(&made->files, count, 1, 1);
    if (status)
        splam_picture_output_close(made);
    else
        *out = made;
    return status;
}

const char *splam_picture_output_format(const splam_picture_output *output)
{
    return sp_picture_encoding_name(&output->files.encoding);
}

splam_status splam_picture_output_write(splam_picture_output *output, int64_t number, const void *file, size_t bytes)
{
    if (number < 0 || number >= output->count)
        return sp_fail(SP_ARGUMENT, "picture %lld is none of %lld", (long long)number, (long long)output->count);
    return sp_picture_output_write(&output->files, number, file, bytes);
}

void splam_picture_output_close(splam_picture_output *output)
{
    if (!output) return;
    sp_picture_output_free(&output->files);
    sp_free(output);
}
