/* What a network gave for pictures, by the pictures' bytes: in memory, and where it is named in a file, so that a run
 * that was stopped goes on where it was and another score costs no network. Copies of a picture, in one set or in both,
 * are one row. The file (docs/formats.md) may hold rows of several networks; one at a time is worked with. */
#ifndef SP_EVAL_FEATURE_STORE_H
#define SP_EVAL_FEATURE_STORE_H
#include "eval/extractor.h"

typedef struct {
    unsigned char bytes[16]; /* XXH3, 128 bits, in canonical order */
} sp_picture_key;
sp_picture_key sp_picture_key_of(const void *bytes, size_t size);

typedef struct {
    const char *path;     /* the caller's; NULL: memory alone */
    sp_tensor_file *file; /* as it was when last opened; NULL: there is none */
    sp_extractor_index network; /* the one that is worked with, from begin to end */
    const sp_extractor *extractor;
    sp_feature_origin origin;
    int64_t count;    /* rows claimed: all but the last ones are filled */
    int64_t filled, saved;
    int64_t capacity;
    sp_picture_key *keys;             /* [capacity] */
    float *values[SP_FEATURES_MOST];  /* [capacity,width] */
    int64_t *slots, slot_count;       /* places of keys: number + 1; 0: free */
    bool stale;                       /* the file was written since it was opened */
    double next_save;                 /* when sp_feature_store_keep saves again: sp_now() */
} sp_feature_store;

/* A file that is there must be one of features, of networks that are known. SP_IO, SP_FORMAT, SP_UNSUPPORTED. */
sp_status sp_feature_store_open(const char *path, sp_feature_store *out);
void sp_feature_store_close(sp_feature_store *store); /* saves nothing; zeroed is legal */

/* Takes the network's rows from the file. SP_ARGUMENT if they came about otherwise, with what was found and expected;
 * SP_FORMAT, SP_SHAPE, SP_NUMERIC for rows that are damaged or impossible. */
sp_status sp_feature_store_begin(sp_feature_store *store, sp_extractor_index network, const sp_extractor *extractor,
                                 const sp_preparation *preparation);
/* Saves what is not saved yet and lets go of the rows. `status` is how the work went: what it says, and its message,
 * stay; of one that went well, what saving says. */
sp_status sp_feature_store_end(sp_feature_store *store, sp_status status);

/* Room for so many rows more. */
sp_status sp_feature_store_reserve(sp_feature_store *store, int64_t rows);
/* -1: there is none. Any thread, while nobody claims. */
int64_t sp_feature_store_find(const sp_feature_store *store, const sp_picture_key *key);
/* A new row, for which there is room. All claimed rows are filled in one go: their values first, then this. */
int64_t sp_feature_store_claim(sp_feature_store *store, const sp_picture_key *key);
float *sp_feature_store_values(const sp_feature_store *store, int feature, int64_t row);
void sp_feature_store_fill(sp_feature_store *store);
/* Saves if the file has not been for a while: at once, then each minute, or less often where that takes long. */
sp_status sp_feature_store_keep(sp_feature_store *store);

/* What a file of features says of a network's; false: it is none, or has none of it. For people: nothing is checked. */
typedef struct {
    sp_feature_origin origin;
    int64_t rows;
} sp_feature_facts;
bool sp_feature_file_facts(const sp_tensor_file *file, sp_extractor_index network, sp_feature_facts *out);

/* *out new: feature `feature` of the rows row[0..count-1] that are not negative, in their order. */
sp_status sp_feature_store_gather(const sp_feature_store *store, int feature, const int64_t *row, int64_t count,
                                  sp_tensor *out);

#endif
