/* What pictures are compared with by scores of picture and text: a text file, a line a picture, in their order. */
#ifndef SP_EVAL_CAPTION_LINES_H
#define SP_EVAL_CAPTION_LINES_H
#include <stdint.h>
#include "base/hash.h"
#include "base/status.h"

typedef struct {
    const char *path;  /* the caller's */
    char *text;        /* the file, its lines cut apart */
    const char **line; /* [count] */
    int64_t count;
    char sha256[SP_SHA256_TEXT];
} sp_caption_lines;

/* UTF-8. SP_FORMAT naming the line for one that is blank, which would put all behind it beside other pictures, or that
 * is no UTF-8; SP_IO, SP_MEMORY. */
sp_status sp_caption_lines_load(const char *path, sp_caption_lines *out);
void sp_caption_lines_free(sp_caption_lines *lines); /* zeroed is legal */

#endif
