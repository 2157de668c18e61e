/* 8-bit RGB pictures: reading and writing JPEG, PNG and WebP, Pillow's resizing, crops, and floats
 * for networks. */
#ifndef SP_IMAGE_IMAGE_H
#define SP_IMAGE_IMAGE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/random.h"
#include "base/status.h"
#include "base/text.h"

#define SP_IMAGE_MAX_SIDE 32768                /* pixels */
#define SP_IMAGE_MAX_PIXELS (INT64_C(1) << 27) /* 402 MB of RGB; larger pictures are refused */

typedef struct {
    int width, height;
    uint8_t *pixels; /* [height, width, 3] RGB, no padding; owned */
} sp_image;

/* Pixels are zeroed (black). SP_ARGUMENT when a side is < 1 or the limits above are passed. */
sp_status sp_image_create(int width, int height, sp_image *out);
void sp_image_free(sp_image *image); /* a zeroed image is legal; leaves it zeroed */

/* Decoding looks at the bytes, never at the file's name. Transparency is composited on white,
 * palettes and grey become RGB, 16-bit samples keep their high byte, EXIF's orientation is
 * applied. `name` is for messages. SP_FORMAT: no JPEG, PNG or WebP, damaged or truncated, or too
 * large. SP_UNSUPPORTED: animated WebP. */
sp_status sp_image_decode(const void *data, size_t size, const char *name, sp_image *out);
sp_status sp_image_load(const char *path, sp_image *out); /* also SP_IO */
/* The same as Pillow's open and convert("RGB") give it, which measuring tools use: the colours under transparency as
 * they are stored, no orientation applied, ink by Pillow's rule, grey of 16 bits cut off at 255. */
sp_status sp_image_decode_plain(const void *data, size_t size, const char *name, sp_image *out);
/* The size after orientation, from the header alone; the rest of the file may still be damaged. */
sp_status sp_image_probe(const void *data, size_t size, const char *name, int *width, int *height);

/* One text chunk: key of 1..79 Latin-1 characters; value UTF-8. Written as tEXt when ASCII, as iTXt
 * otherwise. */
typedef struct {
    const char *key, *value;
} sp_png_text;
/* *out (sp_free) receives the whole file. */
sp_status sp_image_encode_png(const sp_image *image, const sp_png_text *texts, size_t text_count,
                              uint8_t **out, size_t *size);
sp_status sp_image_save_png(const sp_image *image, const char *path, const sp_png_text *texts,
                            size_t text_count); /* atomic */

typedef enum { SP_IMAGE_PNG, SP_IMAGE_JPEG, SP_IMAGE_WEBP } sp_image_format;
/* quality, 1 to 100:
 *   JPEG  libjpeg's scale; from 90 on with colours in full resolution; 0: 95
 *   WebP  libwebp's scale; 100 is lossless; 0: 90
 *   PNG   has none: 0 */
typedef struct {
    sp_image_format format;
    int quality;
} sp_image_encoding;
/* What a path's suffix says, in letters of either case: .png, .jpg or .jpeg, .webp. False: another
 * or none. */
bool sp_image_format_of(const char *path, sp_image_format *out);
/* The same; SP_ARGUMENT, naming those that there are, where it is false. */
sp_status sp_image_format_by_name(const char *path, sp_image_format *out);
/* SP_ARGUMENT: a quality that the format does not have, or a size that it cannot hold (WebP: 16383
 * pixels a side). */
sp_status sp_image_check_encoding(const sp_image_encoding *encoding, int64_t width, int64_t height);
/* What made a picture, UTF-8. A1111's text goes where A1111 writes it; the JSON object stands
 * beside:
 *               parameters                                  json
 *   PNG         text chunk "parameters"                     text chunk "splam"
 *   JPEG, WebP  EXIF UserComment, "UNICODE\0" and UTF-16BE  XMP property json of urn:splam:1.0:
 * What a JPEG has no room for (64 kB each) is left out with a warning. */
typedef struct {
    const char *parameters, *json;
} sp_image_texts;
/* *out (sp_free) receives the whole file. SP_ARGUMENT as sp_image_check_encoding. */
sp_status sp_image_encode(const sp_image *image, const sp_image_encoding *encoding,
                          const sp_image_texts *texts, uint8_t **out, size_t *size);

/* In the format that the path's suffix says, with its usual quality; atomic. */
sp_status sp_image_save(const sp_image *image, const char *path, const sp_image_texts *texts);

/* Appends "data:image/png;base64,..." for an HTML page. */
sp_status sp_image_append_data_uri(const sp_image *image, sp_string *out);

typedef enum {
    SP_FILTER_BILINEAR, /* support 1 */
    SP_FILTER_LANCZOS,  /* sinc windowed by sinc, support 3 */
    SP_FILTER_BICUBIC,  /* Keys' kernel with a = -1/2, support 2 */
} sp_filter;
double sp_filter_value(sp_filter filter, double x); /* 0 beyond the support */
double sp_filter_support(sp_filter filter);
/* Antialiased resizing as Pillow's Image.resize does it: the kernel is stretched by the reduction
 * factor, rows first, then columns, each pass rounded to 8 bits; results are equal to Pillow's.
 * *out is new. */
sp_status sp_image_resize(const sp_image *image, int width, int height, sp_filter filter,
                          sp_image *out);
/* The size after scaling the shorter side to `side`, as torchvision's Resize: the longer one is
 * rounded down. */
void sp_image_shortest_size(int width, int height, int side, int64_t *new_width,
                            int64_t *new_height);
/* The same for a picture; SP_ARGUMENT if the longer side would be more than SP_IMAGE_MAX_SIDE. */
sp_status sp_image_fit_size(const sp_image *image, int side, int *width, int *height);
/* The rectangle must lie inside: SP_ARGUMENT otherwise. */
sp_status sp_image_crop(const sp_image *image, int left, int top, int width, int height,
                        sp_image *out);
/* torchvision's CenterCrop: the offset is half the surplus, halves to even. */
int sp_image_center_offset(int surplus);
sp_status sp_image_center_crop(const sp_image *image, int width, int height, sp_image *out);
/* Where a square comes from: the picture scaled until its shorter side is that of the square, and the square's offset
 * in it: the middle, or a place drawn from the key. SP_ARGUMENT for a picture too long and narrow. */
typedef struct {
    int width, height, left, top;
} sp_square_cut;
sp_status sp_image_square_cut(int width, int height, int side, const sp_random_key *place, sp_square_cut *out);
/* Torchvision's Resize(side), antialiased, then side x side from the centre, or with `place` as RandomCrop does, at an
 * offset that is drawn from it. Diffusers' training transform is bilinear, CLIP's bicubic. */
sp_status sp_image_fit_square(const sp_image *image, int side, sp_filter filter, const sp_random_key *place,
                              sp_image *out);
/* rgb [height,width,3], left and right exchanged in place. */
void sp_rgb_mirror(uint8_t *rgb, int width, int height);

/* rgb [height,width,3] -> nchw [3,height,width] = (x / 255 - 0.5) / 0.5, and back: round(255
 * clip(y/2 + 0.5)), halves to even, NaN to 0. */
void sp_rgb_to_float(const uint8_t *rgb, int width, int height, float *nchw);
void sp_rgb_from_float(const float *nchw, int width, int height, uint8_t *rgb);

#endif
