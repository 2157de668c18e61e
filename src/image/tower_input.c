/* Pictures for CLIP's image tower and DINOv2. */
#include "image/tower_input.h"

static sp_status middle_resized(const sp_image *image, int side, sp_image *out)
{
    int least = image->width < image->height ? image->width : image->height;
    sp_image square;
    SP_TRY(sp_image_crop(image, (image->width - least) / 2, (image->height - least) / 2, least, least, &square));
    sp_status status = sp_image_resize(&square, side, side, SP_FILTER_BICUBIC, out);
    sp_image_free(&square);
    return status;
}

static sp_status resize(const sp_image *image, sp_tower_input how, int side, sp_image *out)
{
    if (how == SP_TOWER_INPUT_CLIP) return sp_image_fit_square(image, side, SP_FILTER_BICUBIC, NULL, out);
    if (how == SP_TOWER_INPUT_CMMD) return middle_resized(image, side, out);
    return sp_image_resize(image, side, side, SP_FILTER_BICUBIC, out);
}

static void normalise(const sp_image *image, bool imagenet, float *nchw)
{
    static const float mean[2][3] = {{0.48145466f, 0.4578275f, 0.40821073f}, {0.485f, 0.456f, 0.406f}};
    static const float deviation[2][3] = {{0.26862954f, 0.26130258f, 0.27577711f}, {0.229f, 0.224f, 0.225f}};
    size_t pixels = (size_t)image->width * (size_t)image->height;
    for (int c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++) {
            float v = (float)image->pixels[3 * i + (size_t)c] / 255;
            nchw[(size_t)c * pixels + i] = (v - mean[imagenet][c]) / deviation[imagenet][c];
        }
}

sp_status sp_image_to_tower(const sp_image *image, sp_tower_input how, int side, float *nchw)
{
    sp_image resized;
    SP_TRY(resize(image, how, side, &resized));
    normalise(&resized, how == SP_TOWER_INPUT_DINO, nchw);
    sp_image_free(&resized);
    return SP_OK;
}
