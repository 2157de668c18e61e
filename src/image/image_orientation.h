/* EXIF orientation. */
#ifndef SP_IMAGE_IMAGE_ORIENTATION_H
#define SP_IMAGE_IMAGE_ORIENTATION_H
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "image/image.h"

/* The orientation 1..8 that an APP1 segment states; 0 when it states none. */
int sp_exif_orientation(const uint8_t *segment, size_t size);
/* The same of a whole PNG, in its chunk eXIf, and of a WebP, in EXIF. Any bytes. */
int sp_png_orientation(const uint8_t *file, size_t size);
int sp_webp_orientation(const uint8_t *file, size_t size);
/* Turns and flips the picture so that it stands as orientation 2..8 asks. */
sp_status sp_image_orient(sp_image *image, int orientation);

#endif
