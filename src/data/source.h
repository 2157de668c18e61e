/* What a kind of data set fills in; data/dataset.c does the rest. */
#ifndef SP_DATA_SOURCE_H
#define SP_DATA_SOURCE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/memory.h"
#include "data/dataset.h"

typedef struct {
    const char *name;
    const char **captions;
    int caption_count;
    int width, height;                   /* of the file's picture; 0: nobody knows before it is read */
    int original_width, original_height; /* before somebody scaled the file */
    bool held_out;
    bool damaged; /* its rejection has been counted; guarded by a lock */
} sp_sample;

typedef struct {
    /* Writes the picture of `sample`; any thread. SP_FORMAT or SP_IO: this picture is damaged. */
    sp_status (*image)(const sp_dataset *dataset, int64_t sample, uint8_t *rgb);
    void (*close)(void *source);
    /* The file of `sample` as it is, new; any thread. NULL: there are no files, see sp_dataset_bytes. */
    sp_status (*bytes)(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size);
} sp_source_kind;

struct sp_dataset {
    sp_dataset_options options; /* resolution and min_size resolved by the kind */
    char *spec;
    const sp_source_kind *kind;
    void *source;    /* the kind's own */
    sp_arena *arena; /* names and captions; used only while opening */
    sp_sample *samples;
    int64_t count, capacity;
    int64_t *training, *held_out;
    int64_t training_count, held_out_count;
    sp_rejections *rejections;
};

/* Opens a data set of a given kind: `fill` receives it empty, with options as given and `context`. */
typedef sp_status sp_dataset_filler(sp_dataset *dataset, const void *context,
                                    const sp_callbacks *callbacks);
sp_status sp_dataset_open_kind(const char *spec, const sp_dataset_options *options,
                               sp_dataset_filler *fill, const void *context,
                               const sp_callbacks *callbacks, sp_dataset **out);

/* The next two are for the opening thread alone. Appends a sample with room for `caption_capacity`
 * captions; name is copied. */
sp_status sp_dataset_append(sp_dataset *dataset, const char *name, int caption_capacity,
                            sp_sample **out);
sp_status sp_sample_add_caption(sp_dataset *dataset, sp_sample *sample, const char *caption);
/* Counts one rejection; any thread. `detail` may be NULL. Both texts may be any bytes. */
void sp_dataset_reject(const sp_dataset *dataset, const char *reason, const char *name,
                       const char *detail);
/* The same of what is said of pictures, as a caption: no rejection to whoever takes all of them. */
void sp_dataset_reject_words(const sp_dataset *dataset, const char *reason, const char *name, const char *detail);

#endif
