/* The pictures of a set, as bytes: what is scored is decoded plainly, as the tools of the field do it. */
#ifndef SP_EVAL_PICTURES_H
#define SP_EVAL_PICTURES_H
#include "data/dataset.h"

typedef struct {
    const char *source; /* the caller's */
    int64_t count;
    char **paths;           /* [count] of a folder and those below it, in the bytewise order of their paths */
    sp_dataset *dataset;    /* or its first `count` samples */
    sp_rejections *left_out; /* what cannot be scored: so far, of a data set, what it holds beside its samples */
} sp_pictures;

/* The first `most` (0: all) pictures of a folder, which are .png, .jpg, .jpeg and .webp; others are an error naming
 * one, for they would be missing in every score. Or of a data set (data/dataset.h), whatever its captions: its files,
 * or of one without files what it draws with sides of `resolution` pixels (0: its own). SP_IO for fewer than two,
 * SP_ARGUMENT for fewer than `most`, and what opening a data set says. */
sp_status sp_pictures_open(const char *source, int64_t most, int resolution, const sp_callbacks *callbacks,
                           sp_pictures *out);
void sp_pictures_close(sp_pictures *pictures); /* zeroed is legal; leaves it zeroed */
/* Its path, or the data set's name for it. */
const char *sp_pictures_name(const sp_pictures *pictures, int64_t index);
/* The file's bytes, new; any thread. SP_IO. */
sp_status sp_pictures_read(const sp_pictures *pictures, int64_t index, char **bytes, size_t *size);

#endif
