/* Features of pictures: what the VAE's encoder makes of them. */
#include "eval/vae_features.h"
#include "image/image.h"

static double mean_of(const float *plane, int64_t width, const int64_t rows[2],
                      const int64_t columns[2])
{
    double sum = 0;
    for (int64_t y = rows[0]; y < rows[1]; y++)
        for (int64_t x = columns[0]; x < columns[1]; x++)
            sum += (double)plane[y * width + x];
    return sum / (double)((rows[1] - rows[0]) * (columns[1] - columns[0]));
}

sp_status sp_features_pool(const sp_tensor *latents, int64_t grid, sp_tensor *out)
{
    const sp_shape *s = &latents->shape;
    *out = (sp_tensor){0};
    if (latents->dtype != SP_F32 || s->rank != 4 || s->dim[2] < 1 || s->dim[3] < 1)
        return sp_fail(SP_SHAPE, "latents %s to pool must be F32 [N,C,h,w]", sp_shape_text(*s));
    int64_t count = s->dim[0], channels = s->dim[1], height = s->dim[2], width = s->dim[3];
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(count, channels * grid * grid), out));
    const float *from = latents->data;
    float *to = out->data;
    for (int64_t plane = 0; plane < count * channels; plane++, from += height * width)
        for (int64_t y = 0; y < grid; y++)
            for (int64_t x = 0; x < grid; x++) {
                int64_t rows[] = {y * height / grid, ((y + 1) * height + grid - 1) / grid};
                int64_t columns[] = {x * width / grid, ((x + 1) * width + grid - 1) / grid};
                *to++ = (float)mean_of(from, width, rows, columns);
            }
    return SP_OK;
}

sp_status sp_features_of_sets(const sp_tensor *latents, sp_tensor *out)
{
    return sp_features_pool(latents, SP_FRECHET_GRID, out);
}

void sp_features_quantise(sp_tensor *images)
{
    float *x = images->data;
    for (int64_t i = 0, count = sp_tensor_count(images); i < count; i += 3) {
        uint8_t rgb[3]; /* any three numbers: each is rounded by itself */
        sp_rgb_from_float(x + i, 1, 1, rgb);
        sp_rgb_to_float(rgb, 1, 1, x + i);
    }
}
