/* Starting from a picture. */
#include <string.h>
#include "pipeline/request.h"

bool sp_starts_from_image(const splam_generate_options *o)
{
    return o->init_image || o->init_pixels;
}

const char *sp_start_image_name(const splam_generate_options *o)
{
    return o->init_image ? o->init_image : "the picture to start from";
}

sp_status sp_start_image_read(const splam_generate_options *o, sp_image *out)
{
    const splam_picture *given = o->init_pixels;
    *out = (sp_image){0};
    if (o->init_image && given) return sp_fail(SP_ARGUMENT, "two pictures to start from are given: a file and pixels");
    if (o->init_image) return sp_image_load(o->init_image, out);
    if (!given) return SP_OK;
    if (!given->rgb || given->width < 1 || given->height < 1 || given->width > SP_IMAGE_MAX_SIDE ||
        given->height > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "the picture to start from has %lld x %lld pixels%s", (long long)given->width,
                       (long long)given->height, given->rgb ? "" : ", and they are missing");
    SP_TRY(sp_image_create((int)given->width, (int)given->height, out));
    memcpy(out->pixels, given->rgb, (size_t)given->width * (size_t)given->height * 3);
    return SP_OK;
}

sp_status sp_start_image_fit(const sp_image *from, const char *name, int64_t to_width, int64_t to_height,
                             sp_tensor *out)
{
    int width = (int)to_width, height = (int)to_height;
    double across = (double)width / from->width, down = (double)height / from->height;
    double scale = across > down ? across : down;
    int64_t wide = across >= down ? width : (int64_t)(from->width * scale + 0.5),
            high = down >= across ? height : (int64_t)(from->height * scale + 0.5);
    if (wide > SP_IMAGE_MAX_SIDE || high > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "%s: %d x %d pixels cannot be made to cover %d x %d",
                       name, from->width, from->height, width, height);
    sp_image scaled = {0}, cut = {0};
    sp_status status =
        sp_image_resize(from, (int)(wide > width ? wide : width),
                        (int)(high > height ? high : height), SP_FILTER_LANCZOS, &scaled);
    if (!status) status = sp_image_center_crop(&scaled, width, height, &cut);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(1, 3, height, width), out);
    if (!status) sp_rgb_to_float(cut.pixels, width, height, out->data);
    sp_image_free(&scaled);
    sp_image_free(&cut);
    return status;
}
