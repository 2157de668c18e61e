/* Pictures for CLIP's image tower and DINOv2. */
#include "image/tower_input.h"
#include "image/resize_float.h"

/* The largest square, or the square of `side`; its offset is half the surplus, rounded down. */
static sp_status middle(const sp_image *image, int side, sp_image *out)
{
    return sp_image_crop(image, (image->width - side) / 2, (image->height - side) / 2, side, side, out);
}

static sp_status middle_resized(const sp_image *image, int side, sp_image *out)
{
    sp_image square;
    SP_TRY(middle(image, image->width < image->height ? image->width : image->height, &square));
    sp_status status = sp_image_resize(&square, side, side, SP_FILTER_BICUBIC, out);
    sp_image_free(&square);
    return status;
}

static sp_status middle_of_resized(const sp_image *image, int side, sp_image *out)
{
    int width, height;
    sp_image resized;
    SP_TRY(sp_image_fit_size(image, side, &width, &height));
    SP_TRY(sp_image_resize(image, width, height, SP_FILTER_BICUBIC, &resized));
    sp_status status = middle(&resized, side, out);
    sp_image_free(&resized);
    return status;
}

static sp_status resize(const sp_image *image, sp_tower_input how, int side, sp_image *out)
{
    if (how == SP_TOWER_INPUT_CLIP) return sp_image_fit_square(image, side, SP_FILTER_BICUBIC, NULL, out);
    if (how == SP_TOWER_INPUT_CMMD) return middle_resized(image, side, out);
    if (how == SP_TOWER_INPUT_PICKSCORE) return middle_of_resized(image, side, out);
    return sp_image_resize(image, side, side, SP_FILTER_BICUBIC, out);
}

/* v of 0..255 of channel c. */
static float normalised(float v, int c, bool imagenet)
{
    static const float mean[2][3] = {{0.48145466f, 0.4578275f, 0.40821073f}, {0.485f, 0.456f, 0.406f}};
    static const float deviation[2][3] = {{0.26862954f, 0.26130258f, 0.27577711f}, {0.229f, 0.224f, 0.225f}};
    return (v / 255 - mean[imagenet][c]) / deviation[imagenet][c];
}

static sp_status of_floats(const sp_image *image, int side, float *nchw)
{
    int pixels = side * side;
    SP_TRY(sp_image_fit_float(image, side, SP_RESIZE_TORCH_BICUBIC, nchw));
    for (int i = 0; i < 3 * pixels; i++)
        nchw[i] = normalised(nchw[i], i / pixels, false);
    return SP_OK;
}

sp_status sp_image_to_tower(const sp_image *image, sp_tower_input how, int side, float *nchw)
{
    sp_image resized;
    size_t pixels = (size_t)side * (size_t)side;
    if (how == SP_TOWER_INPUT_HPS) return of_floats(image, side, nchw);
    SP_TRY(resize(image, how, side, &resized));
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++)
            nchw[c * pixels + i] = normalised(resized.pixels[3 * i + c], (int)c, how == SP_TOWER_INPUT_DINO);
    sp_image_free(&resized);
    return SP_OK;
}
