/* The pictures that a model drew for a row of a table, 8 bits of RGB each: in memory, or as PNG files in a folder of
 * their own, 000000.png and on, so that none is drawn twice and any tool can look at them. What they were drawn with
 * stands beside them, in manifest.json (docs/formats.md). */
#ifndef SP_EVAL_DRAWN_H
#define SP_EVAL_DRAWN_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"

typedef struct {
    int64_t count;   /* pictures */
    int size;        /* pixels of a side */
    char *folder;    /* NULL: in memory */
    uint8_t *pixels; /* [count,size,size,3] in memory */
    bool *there;     /* [count] */
} sp_drawn;

/* Room for so many pictures. folder (NULL: memory) need not be there; a picture in it counts as there if its file is
 * whole: begins as a PNG of this size and ends as one. So a cut off file is drawn again; one that is damaged in between
 * is found when it is read. */
sp_status sp_drawn_open(const char *folder, int64_t count, int size, sp_drawn *out);
void sp_drawn_close(sp_drawn *drawn); /* keeps the files; zeroed is legal */
int64_t sp_drawn_known(const sp_drawn *drawn); /* how many are there */
/* rgb [size,size,3]. The folder is made. */
sp_status sp_drawn_put(sp_drawn *drawn, int64_t index, const uint8_t *rgb);
/* SP_FORMAT, naming the file and what to do, for one that is damaged. */
sp_status sp_drawn_get(const sp_drawn *drawn, int64_t index, uint8_t *rgb);

/* ---- what they were drawn with ---- */

typedef struct {
    const json_t *settings;       /* an object of numbers and texts */
    const char *const *captions;  /* of pictures 0, 1, ... */
    int64_t count;                /* pictures that are asked for */
    int64_t known;                /* captions that are known, count or more */
} sp_drawn_origin;
/* Compares with FOLDER/manifest.json, which is written if the folder is new, and written again if more pictures are
 * asked for than it knows of. SP_ARGUMENT, with what was found and expected, where a setting or a caption differs, and
 * for pictures without a manifest; SP_FORMAT for a manifest that is none; SP_IO. */
sp_status sp_drawn_settle(const char *folder, const sp_drawn_origin *origin);
/* What drawing took of a picture, which the first run that drew all it lacked writes down; NaN: nobody has. */
sp_status sp_drawn_seconds(const char *folder, double *seconds);
sp_status sp_drawn_keep_seconds(const char *folder, double seconds);

#endif
