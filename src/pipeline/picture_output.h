/* The pictures' files, or standard output. */
#ifndef SP_PIPELINE_PICTURE_OUTPUT_H
#define SP_PIPELINE_PICTURE_OUTPUT_H
#include <splam/generate.h>
#include "base/output.h"
#include "image/image.h"

typedef struct {
    char *path; /* with a suffix; NULL: none, or standard output */
    bool to_stdout;
    sp_image_encoding encoding;
    sp_claim claim;
    int64_t total, written; /* pictures */
} sp_picture_output;

/* "png", "jpg", "webp", NULL: "png"; quality SPLAM_UNSET: the usual one. SP_ARGUMENT. */
sp_status sp_picture_encoding_choose(const char *format, int64_t quality, sp_image_encoding *out);
const char *sp_picture_encoding_name(const sp_image_encoding *encoding); /* "png" */
/* Where and in what format, as the options alone say: SP_ARGUMENT. sp_picture_output_free in every case. */
sp_status sp_picture_output_choose(const splam_generate_options *options, sp_picture_output *out);
/* Claims the files of so many pictures of this size. */
sp_status sp_picture_output_claim(sp_picture_output *output, int64_t total, int64_t width, int64_t height);
/* Writes the bytes of an encoded picture. */
sp_status sp_picture_output_write(sp_picture_output *output, int64_t number, const uint8_t *file, size_t size);
void sp_picture_output_free(sp_picture_output *output);
static inline bool sp_picture_output_is_wanted(const sp_picture_output *output)
{
    return output->path || output->to_stdout;
}

#endif
