/* EXIF: where files of pictures have it, and the entries of its directories. Every byte is hostile. */
#ifndef SP_IMAGE_EXIF_H
#define SP_IMAGE_EXIF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The TIFF structure that EXIF is. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
} sp_tiff;

/* A JPEG's segment APP1, which begins with "Exif\0\0"; false: it is something else. */
bool sp_exif_segment(const uint8_t *segment, size_t size, sp_tiff *out);
/* The same of whole files: a JPEG's first APP1 with EXIF, a PNG's chunk eXIf, a WebP's EXIF. False: there is none. */
bool sp_exif_of_jpeg(const uint8_t *file, size_t size, sp_tiff *out);
bool sp_exif_of_png(const uint8_t *file, size_t size, sp_tiff *out);
bool sp_exif_of_webp(const uint8_t *file, size_t size, sp_tiff *out);

enum { SP_TIFF_SHORT = 3, SP_TIFF_LONG = 4, SP_TIFF_UNDEFINED = 7 };
typedef struct {
    unsigned type;
    size_t count;         /* of values */
    uint32_t value;       /* of a SHORT or a LONG, the first; of others where they lie */
} sp_tiff_value;
/* The place of the first directory. */
size_t sp_tiff_first(const sp_tiff *tiff);
/* An entry of the directory at `directory`; false: it has none, or there is no directory. */
bool sp_tiff_find(const sp_tiff *tiff, size_t directory, unsigned tag, sp_tiff_value *out);
/* The bytes of an UNDEFINED value of more than four; false: they are not there. */
bool sp_tiff_bytes(const sp_tiff *tiff, const sp_tiff_value *value, const uint8_t **out);

#endif
