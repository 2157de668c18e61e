/* What the kinds of data sets that hold picture files share: captions, the filters on LAION's
 * fields, what is done with a picture's size, and the cut that training sees. */
#ifndef SP_DATA_PICTURE_H
#define SP_DATA_PICTURE_H
#include "base/json.h"
#include "data/source.h"

enum { SP_MAX_CAPTIONS = 64 }; /* of one picture; more are left out */

/* Zero-initialise; sp_captions_free. Every caption is trimmed, control characters in it become
 * spaces, and an empty one is none. */
typedef struct {
    char *text[SP_MAX_CAPTIONS];
    int count;
} sp_captions;
/* SP_FORMAT, naming `name`, if the bytes are not UTF-8. */
sp_status sp_captions_add(sp_captions *list, const char *text, size_t size, const char *name);
/* A string, or every string of a list; anything else, NULL too, adds nothing. */
sp_status sp_captions_add_json(sp_captions *list, const json_t *text);
/* The columns that captions are looked for in, in this order, where none is named: letters of either
 * case, a text or a list with texts. */
typedef enum {
    SP_METADATA_COLUMNS, /* metadata.jsonl, metadata.csv: text, caption, prompt, additional_feature */
    SP_SIDECAR_COLUMNS   /* a .json beside its picture: caption, text, prompt, additional_feature */
} sp_caption_columns;
bool sp_is_caption_column(const char *name); /* one of these */
/* The caption or captions in `fields`; NULL where there is none. `column` NULL: see above. */
const json_t *sp_find_caption(const json_t *fields, const char *column, sp_caption_columns columns);
void sp_captions_free(sp_captions *list);

/* A picture that may become a sample. */
typedef struct {
    const char *name;
    const json_t *fields; /* metadata, an object; NULL: there is none */
    int width, height;    /* 0: the fields' "width" and "height", or "original_width" and
                             "original_height", or else what the picture's header says */
    const void *picture;  /* the file's bytes, for its header */
    size_t size;
    const sp_captions *captions;
} sp_candidate;
/* Appends a sample, or counts why not: *out is NULL then. Opening thread alone. Filters look at the
 * first of their fields that is a number, whatever the case of its letters:
 *   min_aesthetic   aesthetic, aesthetic_score, aesthetic_score_laion_v2
 *   max_watermark   pwatermark, watermark, watermark_score
 *   min_similarity  similarity, clip_similarity_vitb32, clip_similarity_vitl14
 * and a picture without one is rejected for that. */
sp_status sp_picture_consider(sp_dataset *dataset, const sp_candidate *candidate, sp_sample **out);

/* Sets the defaults of options that these kinds share: 512 pixels, half of it at least. */
void sp_picture_defaults(sp_dataset_options *options);
/* Decodes a file and cuts it as training sees it: rgb [R,R,3]. SP_FORMAT, SP_UNSUPPORTED. */
sp_status sp_picture_square(const sp_dataset *dataset, int64_t sample, const void *file,
                            size_t size, const char *name, uint8_t *rgb);
/* The file that the sample's name is in `folder`, new. SP_IO. */
sp_status sp_picture_read(const sp_dataset *dataset, const char *folder, int64_t sample, char **bytes, size_t *size);
/* Its picture as sp_picture_square has it; also SP_IO. */
sp_status sp_picture_load(const sp_dataset *dataset, const char *folder, int64_t sample,
                          uint8_t *rgb);

/* .jpg, .jpeg, .jpe, .jfif, .png or .webp, in any case. */
bool sp_is_picture_name(const char *name);

#endif
