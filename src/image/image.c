/* Pictures in memory, and which codec a file is for. */
#include "image/image.h"
#include <math.h>
#include <string.h>
#include "base/memory.h"

sp_status sp_image_create(int width, int height, sp_image *out)
{
    *out = (sp_image){0};
    if (width < 1 || height < 1 || width > SP_IMAGE_MAX_SIDE || height > SP_IMAGE_MAX_SIDE ||
        (int64_t)width * height > SP_IMAGE_MAX_PIXELS)
        return sp_fail(
            SP_ARGUMENT,
            "a picture of %dx%d pixels is not possible (sides 1..%d, at most %lld pixels)", width,
            height, SP_IMAGE_MAX_SIDE, (long long)SP_IMAGE_MAX_PIXELS);
    uint8_t *pixels = sp_alloc_zero((size_t)width * (size_t)height * 3);
    if (!pixels) return SP_MEMORY;
    *out = (sp_image){width, height, pixels};
    return SP_OK;
}

void sp_image_free(sp_image *image)
{
    sp_free(image->pixels);
    *image = (sp_image){0};
}

sp_status sp_image_crop(const sp_image *image, int left, int top, int width, int height,
                        sp_image *out)
{
    *out = (sp_image){0};
    if (left < 0 || top < 0 || width < 1 || height < 1 || left > image->width - width ||
        top > image->height - height)
        return sp_fail(SP_ARGUMENT, "a crop of %dx%d at (%d,%d) leaves the picture of %dx%d", width,
                       height, left, top, image->width, image->height);
    SP_TRY(sp_image_create(width, height, out));
    for (int y = 0; y < height; y++)
        memcpy(out->pixels + (size_t)y * width * 3,
               image->pixels + ((size_t)(top + y) * image->width + left) * 3, (size_t)width * 3);
    return SP_OK;
}

int sp_image_center_offset(int surplus)
{
    return (int)rint(surplus / 2.0);
}

sp_status sp_image_center_crop(const sp_image *image, int width, int height, sp_image *out)
{
    return sp_image_crop(image, sp_image_center_offset(image->width - width),
                         sp_image_center_offset(image->height - height), width, height, out);
}

void sp_image_shortest_size(int width, int height, int side, int64_t *new_width,
                            int64_t *new_height)
{
    int shorter = width < height ? width : height, longer = width < height ? height : width;
    int64_t long_side = (int64_t)((double)side * longer / shorter);
    *new_width = width <= height ? side : long_side;
    *new_height = width <= height ? long_side : side;
}

sp_status sp_image_fit_size(const sp_image *image, int side, int *width, int *height)
{
    int64_t w, h;
    sp_image_shortest_size(image->width, image->height, side, &w, &h);
    *width = (int)w, *height = (int)h;
    if (w > SP_IMAGE_MAX_SIDE || h > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "a picture of %dx%d is too long to be scaled to %d pixels",
                       image->width, image->height, side);
    return SP_OK;
}

sp_status sp_image_square_cut(int width, int height, int side, const sp_random_key *place, sp_square_cut *out)
{
    const sp_image image = {.width = width, .height = height};
    *out = (sp_square_cut){0};
    SP_TRY(sp_image_fit_size(&image, side, &out->width, &out->height));
    if (!place) {
        out->left = sp_image_center_offset(out->width - side);
        out->top = sp_image_center_offset(out->height - side);
        return SP_OK;
    }
    /* one side is exact, so one offset is 0 */
    int offset = (int)sp_random_below(*place, (uint64_t)(out->width + out->height - 2 * side + 1));
    out->left = out->width > side ? offset : 0;
    out->top = out->height > side ? offset : 0;
    return SP_OK;
}

sp_status sp_image_fit_square(const sp_image *image, int side, sp_filter filter, const sp_random_key *place,
                              sp_image *out)
{
    *out = (sp_image){0};
    sp_square_cut cut;
    sp_image scaled;
    SP_TRY(sp_image_square_cut(image->width, image->height, side, place, &cut));
    SP_TRY(sp_image_resize(image, cut.width, cut.height, filter, &scaled));
    sp_status status = sp_image_crop(&scaled, cut.left, cut.top, side, side, out);
    sp_image_free(&scaled);
    return status;
}

void sp_rgb_mirror(uint8_t *rgb, int width, int height)
{
    for (int y = 0; y < height; y++) {
        uint8_t *row = rgb + (size_t)y * (size_t)width * 3;
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < 3; c++) {
                uint8_t *left = row + x * 3 + c, *right = row + (width - 1 - x) * 3 + c;
                uint8_t kept = *left;
                *left = *right;
                *right = kept;
            }
    }
}

void sp_rgb_to_float(const uint8_t *rgb, int width, int height, float *nchw)
{
    size_t count = (size_t)width * (size_t)height;
    for (size_t channel = 0; channel < 3; channel++)
        for (size_t i = 0; i < count; i++)
            nchw[channel * count + i] = ((float)rgb[i * 3 + channel] / 255.0f - 0.5f) / 0.5f;
}

void sp_rgb_from_float(const float *nchw, int width, int height, uint8_t *rgb)
{
    size_t count = (size_t)width * (size_t)height;
    for (size_t channel = 0; channel < 3; channel++)
        for (size_t i = 0; i < count; i++) {
            float value = nchw[channel * count + i] / 2.0f + 0.5f;
            value = value > 0.0f ? value : 0.0f; /* also turns NaN into 0 */
            value = value < 1.0f ? value : 1.0f;
            rgb[i * 3 + channel] = (uint8_t)rintf(value * 255.0f);
        }
}
