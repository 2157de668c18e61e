/* Texts in pictures that have no text chunks: EXIF and XMP, as JPEG and WebP carry them. */
#ifndef SP_IMAGE_IMAGE_METADATA_H
#define SP_IMAGE_IMAGE_METADATA_H
#include "base/text.h"

/* Appends a TIFF structure, big-endian, whose EXIF directory holds ExifVersion and UserComment
 * (tag 0x9286): the eight bytes "UNICODE\0" and `comment` (UTF-8) in UTF-16BE.
 * (CIPA DC-008-2019, 4.6.2 and 4.6.5) */
void sp_exif_append(sp_string *out, const char *comment);

/* Appends an XMP packet with the property json in the namespace urn:splam:1.0: (prefix splam).
 * json: a text in JSON, UTF-8. (ISO 16684-1) */
void sp_xmp_append(sp_string *out, const char *json);

#endif
