/* Files of pictures in memory: JPEG, PNG and WebP, told apart by their bytes. Any thread. */
#ifndef SPLAM_PICTURE_H
#define SPLAM_PICTURE_H
#include <splam/base.h>
#include <splam/generate.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The sides in pixels, as its orientation has it, of the header alone: what decoding it would make is known before any
 * memory is taken. SPLAM_FORMAT: none of the three, damaged, or larger than 2^27 pixels or 32768 a side;
 * SPLAM_UNSUPPORTED: an animated WebP. */
SPLAM_API splam_status splam_picture_size(const void *file, size_t bytes, int64_t *width, int64_t *height);

/* Its pixels, as init_image reads a file: transparency on white, turned as its orientation says. *picture receives one
 * picture of seed 0 (splam_pictures_free). Errors as above, and SPLAM_MEMORY. */
SPLAM_API splam_status splam_picture_decode(const void *file, size_t bytes, splam_pictures *picture);

/* A new file of it (splam_free). format: "png", "jpg" or "webp"; quality 1..100 as of splam_generate_options, or
 * SPLAM_UNSET. SPLAM_ARGUMENT for another format, a quality that the format does not have, sides that it cannot hold,
 * and no pixels. */
SPLAM_API splam_status splam_picture_encode(const splam_picture *picture, const char *format, int64_t quality,
                                            void **file, size_t *bytes);

/* What the file says of how it was made, in A1111's words: PNG's chunk "parameters", UserComment of JPEG and WebP.
 * *text (splam_free) is UTF-8, and NULL where it says nothing. SPLAM_FORMAT: none of the three, or damaged. */
SPLAM_API splam_status splam_picture_parameters(const void *file, size_t bytes, char **text);

#ifdef __cplusplus
}
#endif
#endif
