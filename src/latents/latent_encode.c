/* Pictures and captions through VAE and text encoder, for caches and for training. */
#include "latents/latent_encode.h"
#include <string.h>
#include "base/memory.h"
#include "image/image.h"

/* Of no caption, whose shape is every caption's. */
static sp_status encode_negative(sp_latent_encoder *e, int64_t side)
{
    const sp_framing framing = sp_framing_whole(side, side);
    sp_conditioning whole;
    SP_TRY(sp_pipeline_encode_negative(e->pipeline, NULL, &whole));
    sp_status status = sp_pipeline_frame(e->pipeline, &framing, 1, &whole);
    if (!status) status = sp_pipeline_trim(e->pipeline, &whole, &e->negative);
    e->shape = sp_conditioning_shape(&whole, 1);
    sp_conditioning_free(&whole);
    return status;
}

sp_status sp_latent_encoder_open(sp_dataset *dataset, sp_pipeline *pipeline, sp_dtype dtype,
                                 bool flips, sp_latent_encoder *out)
{
    int64_t side = sp_dataset_resolution(dataset), batch = sp_vae_batch(side, side);
    int64_t factor = pipeline->vae->config.vae.factor;
    *out = (sp_latent_encoder){
        .dataset = dataset, .pipeline = pipeline, .dtype = dtype, .flips = flips, .batch = batch};
    if (side % factor)
        return sp_fail(SP_ARGUMENT,
                       "`resolution` is %lld, expected a multiple of %lld, the pixels that a latent's side stands for",
                       (long long)side, (long long)factor);
    out->rgb = sp_alloc((size_t)(batch * side * side * 3));
    sp_status status = out->rgb ? SP_OK : SP_MEMORY;
    if (!status)
        status = sp_tensor_create(SP_F32, sp_shape_of(batch, 3, side, side), &out->pictures);
    if (!status)
        status = sp_vae_runner_create(pipeline->vae, SP_VAE_POSTERIOR, out->pictures.shape,
                                      pipeline->device, pipeline->precision, &out->vae);
    if (!status) status = encode_negative(out, side);
    if (status) sp_latent_encoder_close(out);
    return status;
}

void sp_latent_encoder_close(sp_latent_encoder *e)
{
    sp_runner_free(&e->vae);
    sp_tensor_free(&e->pictures);
    sp_conditioning_free(&e->negative);
    sp_free(e->rgb);
    *e = (sp_latent_encoder){0};
}

/* ---- pictures ---- */

/* `n` results of the VAE into rows of the block, which is made when their shape is known. */
static sp_status store_rows(const sp_latent_encoder *e, const sp_tensor *result, int64_t n,
                            sp_latent_block *block, sp_tensor *to)
{
    sp_tensor rows = *result;
    if (!to->data) {
        sp_shape shape = result->shape;
        shape.dim[0] = block->rows;
        SP_TRY(sp_tensor_create(e->dtype, shape, to));
    }
    size_t one = sp_tensor_bytes(to) / (size_t)block->rows;
    char *at = (char *)to->data + (size_t)block->filled * one;
    rows.shape.dim[0] = n;
    sp_convert_elements(at, e->dtype, rows.data, SP_F32, sp_tensor_count(&rows));
    const sp_tensor stored = {.dtype = e->dtype, .shape = rows.shape, .data = at};
    return sp_tensor_check_finite(&stored, "a picture's latent");
}

static sp_status encode_batch(sp_latent_encoder *e, int64_t n, sp_latent_block *block, bool flipped,
                              const sp_callbacks *callbacks)
{
    int size = sp_dataset_resolution(e->dataset);
    int64_t one = 3 * (int64_t)size * size;
    for (int64_t i = 0; i < n; i++) {
        uint8_t *rgb = e->rgb + i * one;
        if (flipped) sp_rgb_mirror(rgb, size, size);
        sp_rgb_to_float(rgb, size, size, (float *)e->pictures.data + i * one);
    }
    sp_tensor result = {0};
    SP_TRY(sp_vae_run(e->vae.run, &e->pictures, callbacks, &result));
    sp_status status = store_rows(e, &result, n, block, &block->moments[flipped]);
    sp_tensor_free(&result);
    return status;
}

sp_status sp_latent_encode_pictures(sp_latent_encoder *e, int64_t first, sp_latent_block *block,
                                    const sp_callbacks *callbacks)
{
    int64_t size = sp_dataset_resolution(e->dataset), one = 3 * size * size;
    if (!block->sample.data)
        SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(block->rows), &block->sample));
    while (block->filled < block->rows) {
        int64_t left = block->rows - block->filled, n = left < e->batch ? left : e->batch;
        SP_TRY(sp_check_cancelled(callbacks));
        for (int64_t i = 0; i < n; i++) {
            int64_t row = block->filled + i;
            SP_TRY(sp_dataset_image(e->dataset, sp_dataset_training_sample(e->dataset, first + row),
                                    e->rgb + i * one, (int64_t *)block->sample.data + row));
        }
        SP_TRY(encode_batch(e, n, block, false, callbacks));
        if (e->flips) SP_TRY(encode_batch(e, n, block, true, callbacks));
        block->filled += n;
        sp_report(callbacks, "encoding pictures", first + block->filled,
                  sp_dataset_training_count(e->dataset), NULL);
    }
    return SP_OK;
}

/* ---- text ---- */

static sp_status store_text(const sp_latent_encoder *e, const char *const *captions,
                            sp_latent_block *block)
{
    sp_string text = {0};
    SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(block->rows, 2), &block->text_ends));
    for (int64_t i = 0; i < block->rows; i++) {
        int64_t *ends = (int64_t *)block->text_ends.data + 2 * i;
        const char *name = sp_dataset_name(e->dataset, ((int64_t *)block->sample.data)[i]);
        sp_string_append(&text, name, strlen(name) + 1);
        ends[0] = (int64_t)text.length;
        sp_string_append(&text, captions[i], strlen(captions[i]) + 1);
        ends[1] = (int64_t)text.length;
    }
    sp_status status =
        text.failed ? SP_MEMORY
                    : sp_tensor_create(SP_U8, sp_shape_of((int64_t)text.length), &block->text);
    if (!status) memcpy(block->text.data, text.data, text.length);
    sp_string_free(&text);
    return status;
}

/* In the block's type, but for rows of a few numbers: they cost nothing, and f16 has no odd numbers above 2048, as
 * sizes of pictures are. */
static sp_status store_conditioning(const sp_latent_encoder *e, const sp_conditioning *from, sp_conditioning *to)
{
    enum { FEW = 64 };
    int64_t rows = sp_conditioning_rows(from);
    for (int k = 0; k < from->count; k++) {
        const sp_tensor *tensor = &from->item[k].tensor;
        sp_tensor stored;
        SP_TRY(sp_tensor_convert(tensor, sp_tensor_count(tensor) / rows < FEW ? SP_F32 : e->dtype, &stored));
        SP_TRY(sp_conditioning_add(to, from->item[k].name, stored));
    }
    return SP_OK;
}

/* What was cut from where, where the model asks. */
static sp_status frame(const sp_latent_encoder *e, const sp_latent_block *block, sp_conditioning *set)
{
    int side = sp_dataset_resolution(e->dataset);
    sp_framing *framing = sp_alloc((size_t)block->rows * sizeof *framing);
    if (!framing) return SP_MEMORY;
    for (int64_t i = 0; i < block->rows; i++) {
        sp_dataset_cut_place cut;
        sp_dataset_cut(e->dataset, ((int64_t *)block->sample.data)[i], &cut);
        framing[i] = (sp_framing){cut.original_height, cut.original_width, cut.top, cut.left, side, side};
    }
    sp_status status = sp_pipeline_frame(e->pipeline, framing, block->rows, set);
    sp_free(framing);
    return status;
}

sp_status sp_latent_encode_text(sp_latent_encoder *e, sp_latent_block *block)
{
    const char **captions = sp_alloc((size_t)block->rows * sizeof *captions);
    sp_conditioning whole = {0}, conditioning = {0};
    if (!captions) return SP_MEMORY;
    for (int64_t i = 0; i < block->rows; i++)
        captions[i] = sp_dataset_caption(e->dataset, ((int64_t *)block->sample.data)[i], 0);
    sp_status status = store_text(e, captions, block);
    if (!status) status = sp_pipeline_encode(e->pipeline, captions, block->rows, &whole);
    if (!status) status = sp_pipeline_trim(e->pipeline, &whole, &conditioning);
    sp_conditioning_free(&whole);
    if (!status) status = frame(e, block, &conditioning);
    if (!status) status = store_conditioning(e, &conditioning, &block->conditioning);
    if (!status) status = store_conditioning(e, &e->negative, &block->negative);
    if (!status) status = sp_conditioning_check_finite(&block->conditioning, "a caption");
    sp_conditioning_free(&conditioning);
    sp_free(captions);
    return status;
}
