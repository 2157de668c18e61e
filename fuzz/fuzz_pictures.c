/* Pictures: PNG, JPEG and WebP, with their EXIF, XMP and text chunks. The input is a file's bytes. Small ones alone are
 * decoded: what a large one costs is a question of limits, not of memory errors. */
#include "base/memory.h"
#include "image/image.h"
#include "image/image_text.h"
#include "fuzz/fuzz.h"

enum { MOST_PIXELS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int width, height;
    char *text;
    if (sp_image_parameters(data, size, "input", &text) == SP_OK) sp_free(text);
    if (sp_image_probe(data, size, "input", &width, &height) != SP_OK) return 0;
    if (width < 1 || height < 1) __builtin_trap();
    if ((int64_t)width * height > MOST_PIXELS) return 0;
    sp_image image, square;
    if (sp_image_decode(data, size, "input", &image) != SP_OK) return 0;
    if (sp_image_fit_square(&image, 16, SP_FILTER_LANCZOS, NULL, &square) == SP_OK) sp_image_free(&square);
    sp_image_free(&image);
    return 0;
}
