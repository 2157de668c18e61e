/* Transforms of pictures before a network's own resize, and the names of what there is. */
#include "eval/preparation.h"

const char *sp_convention_name(sp_convention convention)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_CONVENTION_LIST(X)
#undef X
    };
    return names[convention];
}

const char *sp_transform_name(sp_transform transform)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_TRANSFORM_LIST(X)
#undef X
    };
    return names[transform];
}

sp_status sp_transform_apply(sp_transform transform, sp_image *image)
{
    int wanted = transform == SP_TRANSFORM_CENTER_CROP_256 ? 256 : 512;
    int side = image->width < image->height ? image->width : image->height;
    sp_image square, small;
    if (transform == SP_TRANSFORM_NONE) return SP_OK;
    SP_TRY(sp_image_center_crop(image, side, side, &square));
    sp_status status = sp_image_resize(&square, wanted, wanted, SP_FILTER_LANCZOS, &small);
    sp_image_free(&square);
    SP_TRY(status);
    sp_image_free(image);
    *image = small;
    return SP_OK;
}
