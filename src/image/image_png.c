/* PNG writing through libspng. */
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "image/image.h"

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

static sp_status set_texts(spng_ctx *ctx, const sp_png_text *texts, size_t count)
{
    if (count == 0) return SP_OK;
    struct spng_text *chunks = sp_alloc_zero(count * sizeof *chunks);
    if (!chunks) return SP_MEMORY;
    static char none[] = ""; /* libspng wants non-const strings and does not write to them */
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        size_t key = strlen(texts[i].key);
        if (key < 1 || key > 79)
            status =
                sp_fail(SP_ARGUMENT, "a PNG text key has %zu characters, expected 1 to 79", key);
        else
            memcpy(chunks[i].keyword, texts[i].key, key);
        chunks[i].type = is_ascii(texts[i].value) ? SPNG_TEXT : SPNG_ITXT;
        chunks[i].text = (char *)(uintptr_t)texts[i].value;
        chunks[i].length = strlen(texts[i].value);
        chunks[i].language_tag = none;
        chunks[i].translated_keyword = none;
    }
    if (status == SP_OK) {
        int error = spng_set_text(ctx, chunks, (uint32_t)count);
        if (error) status = sp_fail(SP_ARGUMENT, "a PNG text is refused: %s", spng_strerror(error));
    }
    if (status == SP_OK) {
        /* Chunks are kept by reference, so they are written out before this frame ends. */
        int error = spng_encode_chunks(ctx);
        if (error) status = sp_fail(SP_INTERNAL, "PNG: %s", spng_strerror(error));
    }
    sp_free(chunks);
    return status;
}

static sp_status encode(spng_ctx *ctx, const sp_image *image, const sp_png_text *texts,
                        size_t text_count, uint8_t **out, size_t *size)
{
    struct spng_ihdr header = {.width = (uint32_t)image->width,
                               .height = (uint32_t)image->height,
                               .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    int error = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    if (!error) error = spng_set_ihdr(ctx, &header);
    if (error) return sp_fail(SP_INTERNAL, "PNG: %s", spng_strerror(error));
    SP_TRY(set_texts(ctx, texts, text_count));
    error = spng_encode_image(ctx, image->pixels, (size_t)image->width * (size_t)image->height * 3,
                              SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    void *bytes = error ? NULL : spng_get_png_buffer(ctx, size, &error);
    if (!bytes) return sp_fail(SP_INTERNAL, "PNG: %s", spng_strerror(error));
    *out = sp_alloc(*size);
    if (*out) memcpy(*out, bytes, *size);
    free(bytes);
    return *out ? SP_OK : SP_MEMORY;
}

sp_status sp_image_encode_png(const sp_image *image, const sp_png_text *texts, size_t text_count,
                              uint8_t **out, size_t *size)
{
    *out = NULL;
    *size = 0;
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!ctx) return sp_fail(SP_MEMORY, "out of memory for a PNG encoder");
    sp_status status = encode(ctx, image, texts, text_count, out, size);
    spng_ctx_free(ctx);
    return status;
}

sp_status sp_image_save_png(const sp_image *image, const char *path, const sp_png_text *texts,
                            size_t text_count)
{
    uint8_t *bytes;
    size_t size;
    sp_status status = sp_image_encode_png(image, texts, text_count, &bytes, &size);
    if (status != SP_OK) return sp_fail_within(status, "%s", path);
    status = sp_write_file(path, bytes, size);
    sp_free(bytes);
    return status;
}

static void append_base64(const uint8_t *bytes, size_t size, sp_string *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        char text[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        left > 1 ? digits[group >> 6 & 63] : '=',
                        left > 2 ? digits[group & 63] : '='};
        sp_string_append(out, text, sizeof text);
    }
}

sp_status sp_image_append_data_uri(const sp_image *image, sp_string *out)
{
    static const char head[] = "data:image/png;base64,";
    uint8_t *bytes;
    size_t size;
    SP_TRY(sp_image_encode_png(image, NULL, 0, &bytes, &size));
    sp_string_append(out, head, sizeof head - 1);
    append_base64(bytes, size, out);
    sp_free(bytes);
    return out->failed ? sp_fail(SP_MEMORY, "out of memory for a picture in base64") : SP_OK;
}
