/* Pictures to files by format: JPEG (libjpeg-turbo) and WebP (libwebp) with what made them; PNG is
 * image_png.c's. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <webp/encode.h>
#include <webp/mux.h>
#include <jpeglib.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "image/image.h"
#include "image/image_metadata.h"

/* Most formats have 16 or more bits for a side; these are the limits below SP_IMAGE_MAX_SIDE. */
static const struct {
    const char *name;
    int default_quality; /* 0: has none */
    int max_side;
} formats[] = {
    [SP_IMAGE_PNG] = {"PNG", 0, SP_IMAGE_MAX_SIDE},
    [SP_IMAGE_JPEG] = {"JPEG", 95, SP_IMAGE_MAX_SIDE},
    [SP_IMAGE_WEBP] = {"WebP", 90, WEBP_MAX_DIMENSION},
};

bool sp_image_format_of(const char *path, sp_image_format *out)
{
    static const struct {
        const char *suffix;
        sp_image_format format;
    } suffixes[] = {{".png", SP_IMAGE_PNG},
                    {".jpg", SP_IMAGE_JPEG},
                    {".jpeg", SP_IMAGE_JPEG},
                    {".webp", SP_IMAGE_WEBP}};
    const char *name = sp_path_base(path), *dot = strrchr(name, '.');
    if (!dot || dot == name) return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (strcasecmp(dot, suffixes[i].suffix) == 0) {
            *out = suffixes[i].format;
            return true;
        }
    return false;
}

sp_status sp_image_format_by_name(const char *path, sp_image_format *out)
{
    if (sp_image_format_of(path, out)) return SP_OK;
    const char *name = sp_path_base(path), *dot = strrchr(name, '.');
    bool has = dot && dot != name;
    return sp_fail(SP_ARGUMENT,
                   "%s: pictures are written as .png, .jpg, .jpeg or .webp, not %s%s%s", path,
                   has ? "as \"" : "without a suffix", has ? dot : "", has ? "\"" : "");
}

sp_status sp_image_check_encoding(const sp_image_encoding *encoding, int64_t width, int64_t height)
{
    const char *name = formats[encoding->format].name;
    int quality = encoding->quality, most = formats[encoding->format].max_side;
    if (quality != 0 && formats[encoding->format].default_quality == 0)
        return sp_fail(SP_ARGUMENT, "a quality of %d is given, and %s has none: it is lossless",
                       quality, name);
    if (quality < 0 || quality > 100)
        return sp_fail(SP_ARGUMENT, "a quality of %d is not possible: it is 1 to 100", quality);
    if (width > most || height > most)
        return sp_fail(SP_ARGUMENT,
                       "%lld x %lld pixels do not fit into a %s, whose sides have %d at most",
                       (long long)width, (long long)height, name, most);
    return SP_OK;
}

/* ---- JPEG ---- */

/* The most that a segment holds beside its two bytes of length. */
enum { JPEG_SEGMENT_MAX = 65533 };

typedef struct {
    struct jpeg_error_mgr manager; /* first, so that libjpeg's pointer is ours */
    struct jpeg_compress_struct info;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    unsigned char *bytes; /* malloc's */
    unsigned long size;
} jpeg_writer;

static void jpeg_stop(j_common_ptr info)
{
    jpeg_writer *writer = (jpeg_writer *)info->err;
    info->err->format_message(info, writer->message);
    longjmp(writer->jump, 1);
}

/* Everything that may longjmp. */
static void jpeg_write(jpeg_writer *writer, const sp_image *image, int quality,
                       const sp_string *segments, size_t segment_count)
{
    struct jpeg_compress_struct *info = &writer->info;
    jpeg_mem_dest(info, &writer->bytes, &writer->size);
    info->image_width = (JDIMENSION)image->width;
    info->image_height = (JDIMENSION)image->height;
    info->input_components = 3;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    info->optimize_coding = TRUE;
    if (quality >= 90) info->comp_info[0].h_samp_factor = info->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(info, TRUE);
    for (size_t i = 0; i < segment_count; i++)
        if (segments[i].length)
            jpeg_write_marker(info, JPEG_APP0 + 1, (const JOCTET *)segments[i].data,
                              (unsigned)segments[i].length);
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = image->pixels + (size_t)info->next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
}

static sp_status jpeg_guarded(jpeg_writer *writer, const sp_image *image, int quality,
                              const sp_string *segments, size_t segment_count)
{
    writer->info.err = jpeg_std_error(&writer->manager);
    writer->manager.error_exit = jpeg_stop;
    if (setjmp(writer->jump)) return sp_fail(SP_MEMORY, "JPEG: %s", writer->message);
    jpeg_create_compress(&writer->info);
    jpeg_write(writer, image, quality, segments, segment_count);
    return SP_OK;
}

static void leave_out_if_too_long(sp_string *segment, const char *what)
{
    if (segment->length <= JPEG_SEGMENT_MAX) return;
    sp_log_warn("%s has %zu bytes, a JPEG has room for %d: it is left out", what, segment->length,
                JPEG_SEGMENT_MAX);
    sp_string_free(segment);
}

static sp_status encode_jpeg(const sp_image *image, int quality, const sp_image_texts *texts,
                             uint8_t **out, size_t *size)
{
    static const char exif_name[] = "Exif\0", xmp_name[] = "http://ns.adobe.com/xap/1.0/";
    sp_string segments[2] = {{0}};
    if (texts && texts->parameters) {
        sp_string_append(&segments[0], exif_name, sizeof exif_name);
        sp_exif_append(&segments[0], texts->parameters);
        leave_out_if_too_long(&segments[0], "the picture's text as EXIF");
    }
    if (texts && texts->json) {
        sp_string_append(&segments[1], xmp_name, sizeof xmp_name);
        sp_xmp_append(&segments[1], texts->json);
        leave_out_if_too_long(&segments[1], "the picture's text as XMP");
    }
    jpeg_writer *writer = sp_alloc_zero(sizeof *writer); /* on the heap: outlives a longjmp */
    sp_status status = writer && !segments[0].failed && !segments[1].failed ? SP_OK : SP_MEMORY;
    if (!status) status = jpeg_guarded(writer, image, quality, segments, 2);
    if (!status && !(*out = sp_alloc(writer->size))) status = SP_MEMORY;
    if (!status) memcpy(*out, writer->bytes, *size = writer->size);
    if (writer) {
        jpeg_destroy_compress(&writer->info);
        free(writer->bytes);
    }
    sp_free(writer);
    sp_string_free(&segments[0]);
    sp_string_free(&segments[1]);
    return status;
}

/* ---- WebP ---- */

static sp_status encode_webp_pixels(const sp_image *image, int quality, WebPMemoryWriter *writer)
{
    WebPConfig config;
    WebPPicture picture;
    if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, (float)quality) ||
        !WebPPictureInit(&picture))
        return sp_fail(SP_INTERNAL, "WebP: the library has another version than its header");
    if (quality == 100) WebPConfigLosslessPreset(&config, 6);
    picture.use_argb = config.lossless;
    picture.width = image->width;
    picture.height = image->height;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = writer;
    bool done = WebPPictureImportRGB(&picture, image->pixels, image->width * 3) &&
                WebPEncode(&config, &picture);
    WebPEncodingError error = picture.error_code;
    WebPPictureFree(&picture);
    if (done) return SP_OK;
    bool memory =
        error == VP8_ENC_ERROR_OUT_OF_MEMORY || error == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY;
    return sp_fail(memory || error == VP8_ENC_OK ? SP_MEMORY : SP_INTERNAL,
                   "a WebP of %d x %d pixels could not be made (libwebp's error %d)", image->width,
                   image->height, (int)error);
}

static bool add_chunk(WebPMux *mux, const char *name, const sp_string *text)
{
    const WebPData data = {(const uint8_t *)text->data, text->length};
    return text->length == 0 || WebPMuxSetChunk(mux, name, &data, 0) == WEBP_MUX_OK;
}

/* pixels: a file of the bitstream alone. */
static sp_status assemble_webp(const WebPMemoryWriter *pixels, const sp_image_texts *texts,
                               uint8_t **out, size_t *size)
{
    const WebPData image = {pixels->mem, pixels->size};
    WebPData file = {0};
    sp_string exif = {0}, xmp = {0};
    if (texts && texts->parameters) sp_exif_append(&exif, texts->parameters);
    if (texts && texts->json) sp_xmp_append(&xmp, texts->json);
    WebPMux *mux = WebPMuxNew();
    sp_status status = SP_OK;
    if (exif.failed || xmp.failed || !mux || WebPMuxSetImage(mux, &image, 0) != WEBP_MUX_OK ||
        !add_chunk(mux, "EXIF", &exif) || !add_chunk(mux, "XMP ", &xmp) ||
        WebPMuxAssemble(mux, &file) != WEBP_MUX_OK || !(*out = sp_alloc(file.size)))
        status = sp_fail(SP_MEMORY, "out of memory for a WebP");
    if (!status) memcpy(*out, file.bytes, *size = file.size);
    WebPDataClear(&file);
    WebPMuxDelete(mux);
    sp_string_free(&exif);
    sp_string_free(&xmp);
    return status;
}

static sp_status encode_webp(const sp_image *image, int quality, const sp_image_texts *texts,
                             uint8_t **out, size_t *size)
{
    WebPMemoryWriter pixels;
    WebPMemoryWriterInit(&pixels);
    sp_status status = encode_webp_pixels(image, quality, &pixels);
    if (!status) status = assemble_webp(&pixels, texts, out, size);
    WebPMemoryWriterClear(&pixels);
    return status;
}

/* ---- any ---- */

sp_status sp_image_encode(const sp_image *image, const sp_image_encoding *encoding,
                          const sp_image_texts *texts, uint8_t **out, size_t *size)
{
    *out = NULL;
    *size = 0;
    SP_TRY(sp_image_check_encoding(encoding, image->width, image->height));
    int quality = encoding->quality ? encoding->quality : formats[encoding->format].default_quality;
    if (encoding->format == SP_IMAGE_JPEG) return encode_jpeg(image, quality, texts, out, size);
    if (encoding->format == SP_IMAGE_WEBP) return encode_webp(image, quality, texts, out, size);
    sp_png_text chunks[2];
    size_t count = 0;
    if (texts && texts->parameters)
        chunks[count++] = (sp_png_text){"parameters", texts->parameters};
    if (texts && texts->json) chunks[count++] = (sp_png_text){"splam", texts->json};
    return sp_image_encode_png(image, chunks, count, out, size);
}

sp_status sp_image_save(const sp_image *image, const char *path, const sp_image_texts *texts)
{
    sp_image_encoding encoding = {.quality = 0};
    uint8_t *bytes;
    size_t size;
    SP_TRY(sp_image_format_by_name(path, &encoding.format));
    sp_status status = sp_image_encode(image, &encoding, texts, &bytes, &size);
    if (status) return sp_fail_within(status, "%s", path);
    status = sp_write_file(path, bytes, size);
    sp_free(bytes);
    return status;
}
