/* What a picture's file says of how it was made. */
#ifndef SP_IMAGE_IMAGE_TEXT_H
#define SP_IMAGE_IMAGE_TEXT_H
#include <stddef.h>
#include "base/status.h"

/* A1111's text: PNG's chunk "parameters" (tEXt, zTXt or iTXt, before the pixels), EXIF's UserComment in JPEG and WebP.
 * *out (sp_free) is UTF-8, and NULL where the file has none. `name` is for messages. SP_FORMAT: no JPEG, PNG or WebP,
 * or a damaged PNG. */
sp_status sp_image_parameters(const void *data, size_t size, const char *name, char **out);

#endif
