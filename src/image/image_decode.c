/* Reading JPEG (libjpeg-turbo), PNG (libspng) and WebP (libwebp). Every byte is hostile. */
#include <limits.h>
#include <setjmp.h>
#include <spng.h>
#include <stdio.h>
#include <string.h>
#include <webp/decode.h>
#include <jpeglib.h>
#include <jerror.h>
#include "base/file.h"
#include "base/memory.h"
#include "image/image.h"
#include "image/image_orientation.h"

/* A progressive JPEG may say any number of scans of the whole picture in a few bytes each. */
#define JPEG_MAX_SCANS 500
#define PNG_MAX_CHUNK (64u << 20) /* bytes of one ancillary chunk, and of all that are kept */

/* What is wanted of a file: its size alone, or the picture as it is for people, or plainly (sp_image_decode_plain). */
typedef enum { SIZE, PICTURE, PLAIN } wish;

static sp_status check_size(const char *name, int64_t width, int64_t height)
{
    if (width < 1 || height < 1) return sp_fail(SP_FORMAT, "%s: the picture has no pixels", name);
    if (width > SP_IMAGE_MAX_SIDE || height > SP_IMAGE_MAX_SIDE ||
        width * height > SP_IMAGE_MAX_PIXELS)
        return sp_fail(SP_FORMAT, "%s: a picture of %lldx%lld pixels is too large", name,
                       (long long)width, (long long)height);
    return SP_OK;
}

/* ---- JPEG ---- */

typedef struct {
    struct jpeg_error_mgr manager; /* first, so that libjpeg's pointer is ours */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct info;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    uint8_t *cmyk_row;
} jpeg_reader;

static void jpeg_stop(j_common_ptr info)
{
    jpeg_reader *reader = (jpeg_reader *)info->err;
    info->err->format_message(info, reader->message);
    longjmp(reader->jump, 1);
}

/* libjpeg patches damaged data and warns; a patched picture is not the picture, so damage is an
 * error. */
static void jpeg_warn(j_common_ptr info, int level)
{
    if (level >= 0) return;
    switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_NOT_SEQUENTIAL:
        jpeg_stop(info);
        break;
    default:
        break;
    }
}

static void jpeg_watch(j_common_ptr info)
{
    if (((j_decompress_ptr)info)->input_scan_number <= JPEG_MAX_SCANS) return;
    jpeg_reader *reader = (jpeg_reader *)info->err;
    snprintf(reader->message, sizeof reader->message, "more than %d scans", JPEG_MAX_SCANS);
    longjmp(reader->jump, 1);
}

static int jpeg_orientation(const struct jpeg_decompress_struct *info)
{
    for (jpeg_saved_marker_ptr marker = info->marker_list; marker; marker = marker->next)
        if (marker->marker == JPEG_APP0 + 1) {
            int orientation = sp_exif_orientation(marker->data, marker->data_length);
            if (orientation) return orientation;
        }
    return 1;
}

static void cmyk_to_rgb(const uint8_t *cmyk, int width, bool inverted, uint8_t *rgb)
{
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) {
            unsigned ink = cmyk[x * 4 + c], black = cmyk[x * 4 + 3];
            unsigned light = inverted ? ink * black : (255 - ink) * (255 - black);
            rgb[x * 3 + c] = (uint8_t)((light + 127) / 255);
        }
}

/* As Pillow's convert("RGB"): the light that black leaves, less the ink's share of it. */
static void cmyk_to_rgb_plain(const uint8_t *cmyk, int width, bool inverted, uint8_t *rgb)
{
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) {
            unsigned ink = cmyk[x * 4 + c], left = cmyk[x * 4 + 3];
            if (inverted) ink = 255 - ink;
            if (!inverted) left = 255 - left;
            unsigned share = ink * left + 128;
            share = ((share >> 8) + share) >> 8;
            rgb[x * 3 + c] = (uint8_t)(left > share ? left - share : 0);
        }
}

/* Everything that may longjmp; `image` is the caller's, so that it can be freed after a jump. */
static sp_status jpeg_read(jpeg_reader *reader, const void *data, size_t size, const char *name,
                           sp_image *image, wish wanted, int *orientation)
{
    struct jpeg_decompress_struct *info = &reader->info;
    jpeg_mem_src(info, data, (unsigned long)size);
    jpeg_save_markers(info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(info, TRUE);
    *orientation = jpeg_orientation(info);
    SP_TRY(check_size(name, info->image_width, info->image_height));
    if (wanted == SIZE) {
        image->width = (int)info->image_width;
        image->height = (int)info->image_height;
        return SP_OK;
    }
    bool cmyk = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(info);
    SP_TRY(sp_image_create((int)info->output_width, (int)info->output_height, image));
    if (cmyk && !(reader->cmyk_row = sp_alloc((size_t)info->output_width * 4))) return SP_MEMORY;
    while (info->output_scanline < info->output_height) {
        uint8_t *to = image->pixels + (size_t)info->output_scanline * info->output_width * 3;
        JSAMPROW row = cmyk ? reader->cmyk_row : to;
        if (jpeg_read_scanlines(info, &row, 1) == 1 && cmyk)
            (wanted == PLAIN ? cmyk_to_rgb_plain : cmyk_to_rgb)(row, image->width, info->saw_Adobe_marker, to);
    }
    jpeg_finish_decompress(info);
    return SP_OK;
}

static sp_status jpeg_guarded(jpeg_reader *reader, const void *data, size_t size, const char *name,
                              sp_image *image, wish wanted, int *orientation)
{
    reader->info.err = jpeg_std_error(&reader->manager);
    reader->manager.error_exit = jpeg_stop;
    reader->manager.emit_message = jpeg_warn;
    reader->progress.progress_monitor = jpeg_watch;
    if (setjmp(reader->jump))
        return sp_fail(SP_FORMAT, "%s: damaged JPEG: %s", name, reader->message);
    jpeg_create_decompress(&reader->info);
    reader->info.progress = &reader->progress;
    return jpeg_read(reader, data, size, name, image, wanted, orientation);
}

static sp_status jpeg_decode(const void *data, size_t size, const char *name, sp_image *image,
                             wish wanted, int *orientation)
{
    jpeg_reader *reader = sp_alloc_zero(sizeof *reader);
    if (!reader) return SP_MEMORY;
    sp_status status = jpeg_guarded(reader, data, size, name, image, wanted, orientation);
    jpeg_destroy_decompress(&reader->info);
    sp_free(reader->cmyk_row);
    sp_free(reader);
    return status;
}

/* ---- PNG and WebP: RGBA, composited on white ---- */

static void over_white(const uint8_t *rgba, size_t count, uint8_t *rgb)
{
    for (size_t i = 0; i < count; i++, rgba += 4, rgb += 3)
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)((rgba[c] * rgba[3] + 255 * (255 - rgba[3]) + 127) / 255);
}

/* The colours as they are stored beside the transparency. */
static void drop_alpha(const uint8_t *rgba, size_t count, uint8_t *rgb)
{
    for (size_t i = 0; i < count; i++, rgba += 4, rgb += 3)
        memcpy(rgb, rgba, 3);
}

static sp_status png_fail(const char *name, int error)
{
    if (error == SPNG_EMEM) return sp_fail(SP_MEMORY, "%s: out of memory for a PNG", name);
    return sp_fail(SP_FORMAT, "%s: damaged PNG: %s", name, spng_strerror(error));
}

/* Grey of 16 bits as Pillow makes RGB of it: the number itself, at most 255. */
static sp_status png_grey16(spng_ctx *png, const char *name, sp_image *image)
{
    size_t size, count = (size_t)image->width * (size_t)image->height;
    int error = spng_decoded_image_size(png, SPNG_FMT_PNG, &size);
    if (error) return png_fail(name, error);
    SP_TRY(sp_image_create(image->width, image->height, image));
    uint16_t *grey = sp_alloc(size);
    if (!grey) return SP_MEMORY;
    error = spng_decode_image(png, grey, size, SPNG_FMT_PNG, 0);
    if (!error) error = spng_decode_chunks(png);
    for (size_t i = 0; i < count && !error; i++)
        memset(image->pixels + 3 * i, grey[i] < 255 ? grey[i] : 255, 3);
    sp_free(grey);
    return error ? png_fail(name, error) : SP_OK;
}

static sp_status png_pixels(spng_ctx *png, const char *name, sp_image *image, wish wanted)
{
    size_t size;
    int error = spng_decoded_image_size(png, SPNG_FMT_RGBA8, &size);
    if (error) return png_fail(name, error);
    SP_TRY(sp_image_create(image->width, image->height, image));
    uint8_t *rgba = sp_alloc(size);
    if (!rgba) return SP_MEMORY;
    error = spng_decode_image(png, rgba, size, SPNG_FMT_RGBA8, wanted == PLAIN ? 0 : SPNG_DECODE_TRNS);
    if (!error)
        error = spng_decode_chunks(png); /* up to IEND: a file cut short there is damaged too */
    if (!error)
        (wanted == PLAIN ? drop_alpha : over_white)(rgba, (size_t)image->width * (size_t)image->height, image->pixels);
    sp_free(rgba);
    return error ? png_fail(name, error) : SP_OK;
}

static sp_status png_decode(const void *data, size_t size, const char *name, sp_image *image,
                            wish wanted)
{
    spng_ctx *png = spng_ctx_new(0);
    if (!png) return sp_fail(SP_MEMORY, "%s: out of memory for a PNG", name);
    struct spng_ihdr header = {0};
    int error = spng_set_image_limits(png, SP_IMAGE_MAX_SIDE, SP_IMAGE_MAX_SIDE);
    if (!error) error = spng_set_chunk_limits(png, PNG_MAX_CHUNK, PNG_MAX_CHUNK);
    if (!error) error = spng_set_crc_action(png, SPNG_CRC_ERROR, SPNG_CRC_DISCARD);
    if (!error) error = spng_set_png_buffer(png, data, size);
    if (!error) error = spng_get_ihdr(png, &header);
    sp_status status =
        error ? png_fail(name, error) : check_size(name, header.width, header.height);
    if (status == SP_OK) {
        image->width = (int)header.width;
        image->height = (int)header.height;
        bool grey16 = wanted == PLAIN && header.color_type == SPNG_COLOR_TYPE_GRAYSCALE && header.bit_depth == 16;
        if (wanted != SIZE) status = grey16 ? png_grey16(png, name, image) : png_pixels(png, name, image, wanted);
    }
    spng_ctx_free(png);
    return status;
}

static sp_status webp_decode(const void *data, size_t size, const char *name, sp_image *image,
                             wish wanted)
{
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK)
        return sp_fail(SP_FORMAT, "%s: damaged WebP header", name);
    if (features.has_animation)
        return sp_fail(SP_UNSUPPORTED, "%s: an animated WebP is not supported", name);
    SP_TRY(check_size(name, features.width, features.height));
    image->width = features.width;
    image->height = features.height;
    if (wanted == SIZE) return SP_OK;
    SP_TRY(sp_image_create(features.width, features.height, image));
    size_t count = (size_t)features.width * (size_t)features.height;
    uint8_t *rgba = sp_alloc(count * 4);
    if (!rgba) return SP_MEMORY;
    bool decoded = WebPDecodeRGBAInto(data, size, rgba, count * 4, features.width * 4) != NULL;
    if (decoded) (wanted == PLAIN ? drop_alpha : over_white)(rgba, count, image->pixels);
    sp_free(rgba);
    return decoded ? SP_OK : sp_fail(SP_FORMAT, "%s: damaged WebP", name);
}

/* The picture as it is stored; *orientation: how it wants to stand, 0 or 1 where nothing is said. */
static sp_status decode_stored(const void *data, size_t size, const char *name, sp_image *image,
                               wish wanted, int *orientation)
{
    const uint8_t *bytes = data;
    if (size >= 3 && !memcmp(bytes, "\xFF\xD8\xFF", 3))
        return jpeg_decode(data, size, name, image, wanted, orientation);
    if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1A\n", 8)) {
        *orientation = sp_png_orientation(data, size);
        return png_decode(data, size, name, image, wanted);
    }
    if (size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4)) {
        *orientation = sp_webp_orientation(data, size);
        return webp_decode(data, size, name, image, wanted);
    }
    return sp_fail(SP_FORMAT, "%s: neither JPEG, PNG nor WebP", name);
}

static sp_status decode(const void *data, size_t size, const char *name, sp_image *image,
                        wish wanted)
{
    int orientation = 0;
    SP_TRY(decode_stored(data, size, name, image, wanted, &orientation));
    if (orientation <= 1 || wanted == PLAIN) return SP_OK;
    if (wanted == PICTURE) return sp_image_orient(image, orientation);
    if (orientation >= 5) {
        int width = image->width;
        image->width = image->height;
        image->height = width;
    }
    return SP_OK;
}

static sp_status decode_whole(const void *data, size_t size, const char *name, sp_image *out, wish wanted)
{
    *out = (sp_image){0};
    sp_status status = decode(data, size, name, out, wanted), whole = sp_mapped_check(data);
    if (whole) status = whole; /* zeros may have looked like damage */
    if (status != SP_OK) sp_image_free(out);
    return status;
}

sp_status sp_image_decode(const void *data, size_t size, const char *name, sp_image *out)
{
    return decode_whole(data, size, name, out, PICTURE);
}

sp_status sp_image_decode_plain(const void *data, size_t size, const char *name, sp_image *out)
{
    return decode_whole(data, size, name, out, PLAIN);
}

sp_status sp_image_probe(const void *data, size_t size, const char *name, int *width, int *height)
{
    sp_image image = {0};
    sp_status status = decode(data, size, name, &image, SIZE);
    SP_TRY(sp_mapped_check(data));
    SP_TRY(status);
    *width = image.width;
    *height = image.height;
    return SP_OK;
}

sp_status sp_image_load(const char *path, sp_image *out)
{
    *out = (sp_image){0};
    char *bytes;
    size_t size;
    SP_TRY(sp_read_file(path, &bytes, &size));
    sp_status status = sp_image_decode(bytes, size, path, out);
    sp_free(bytes);
    return status;
}
