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

/* Files of pictures that come from elsewhere, written where and as splam_generate writes its own. One thread at a
 * time. */
typedef struct splam_picture_output splam_picture_output;
/* output, format: as of splam_generate_options; count: of all pictures. Claims the files: errors are those of
 * splam_generate, before anything is written; *out is NULL then. */
SPLAM_API splam_status splam_picture_output_open(const char *output, const char *format, int64_t count,
                                                 splam_picture_output **out);
/* "png", "jpg" or "webp": what the files have to be; a constant. */
SPLAM_API const char *splam_picture_output_format(const splam_picture_output *output);
/* Picture `number`, from 0. SPLAM_IO. */
SPLAM_API splam_status splam_picture_output_write(splam_picture_output *output, int64_t number, const void *file,
                                                  size_t bytes);
SPLAM_API void splam_picture_output_close(splam_picture_output *output); /* NULL is legal */

#ifdef __cplusplus
}
#endif
#endif
