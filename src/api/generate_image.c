/* Starting from a picture. */
#include "api/generation.h"

/* Scales the picture to cover width x height and cuts the centre out, [1,3,height,width]. */
static sp_status fit(const sp_generation *g, sp_tensor *out)
{
    const sp_image *from = &g->image;
    int width = (int)g->width, height = (int)g->height;
    double across = (double)width / from->width, down = (double)height / from->height;
    double scale = across > down ? across : down;
    int64_t wide = across >= down ? width : (int64_t)(from->width * scale + 0.5),
            high = down >= across ? height : (int64_t)(from->height * scale + 0.5);
    if (wide > SP_IMAGE_MAX_SIDE || high > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "%s: %d x %d pixels cannot be made to cover %d x %d",
                       g->o->init_image, from->width, from->height, width, height);
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

sp_status sp_generation_encode_image(sp_generation *g)
{
    sp_tensor picture = {0};
    if (!g->image.pixels) return SP_OK;
    SP_TRY(fit(g, &picture));
    sp_image_free(&g->image);
    sp_status status =
        sp_pipeline_encode_pictures(g->pipeline, &picture, &g->callbacks, &g->posterior);
    sp_tensor_free(&picture);
    return status;
}

sp_status sp_generation_start(sp_generation *g, int64_t first, int64_t count, sp_tensor *out)
{
    *out = (sp_tensor){0};
    if (!g->posterior.data) return SP_OK;
    bool mean = g->noise_file && !g->given_posterior.data;
    return sp_pipeline_draw_latents(g->pipeline, &g->posterior, mean ? NULL : &g->noise, first,
                                    count, out);
}
