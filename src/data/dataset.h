/* Sets of captioned pictures behind one interface. */
#ifndef SP_DATA_DATASET_H
#define SP_DATA_DATASET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/progress.h"
#include "base/status.h"
#include "base/text.h"
#include "data/rejections.h"
#include <splam/data.h>

typedef struct {
    int resolution; /* side of every picture in pixels; 0: 64 for emoji, 512 otherwise */
    int min_size;   /* a picture whose shorter side has fewer pixels is rejected; 0: half the
                       resolution */
    double min_aesthetic, max_watermark, min_similarity; /* filters, see data/picture.h; 0: none */
    const char *caption_column; /* the key of captions in JSON, or the column in metadata.csv, and
                                   nowhere else; NULL: see sp_caption_columns in data/picture.h */
    bool random_crop; /* the square is cut at a place drawn from (seed, sample) instead of the
                         centre */
    bool random_flip; /* for sp_dataset_flips */
    bool all_pictures; /* of files, as they are, for sp_dataset_bytes: whatever their size, with or without a caption,
                          and not looked at before; a folder or shard that cannot be read is an error */
    uint64_t seed;    /* of both */
} sp_dataset_options;

/* What the public options say, with this seed. */
sp_dataset_options sp_dataset_options_of(const splam_picture_options *options, uint64_t seed);

/* The flag of the first option set of those that choose and cut picture files, all but resolution
 * and random_flip: for whoever has no use for them. NULL: none is. */
const char *sp_dataset_flag_set(const sp_dataset_options *options);
/* True if a picture is to be mirrored: a draw from (seed, epoch, sample); never without
 * random_flip. */
bool sp_dataset_flips(const sp_dataset_options *options, uint64_t epoch, int64_t sample);

/* Immutable once open, but for the count of rejections; safe to share between threads. */
typedef struct sp_dataset sp_dataset;

/* spec: one of
 *   emoji:                       Noto Color Emoji with Unicode's names; data/emoji.h
 *   emoji:kinds                  the same with what Unicode sorts them into, "animal bird"
 *   folder:DIR                   picture files; data/folder.h
 *   wds:SHARDS                   tar files of pictures; data/wds.h
 *   coco:ANNOTATIONS.json,IMAGES COCO's captions and the folder of its pictures; data/coco.h
 *   source:NAME                  what the program around the library has; data/given.h
 * options may be NULL (all zero), callbacks too. SP_UNSUPPORTED for latents:, which holds no
 * pictures (latents/latent_cache.h), SP_ARGUMENT for anything else and for options that the kind has
 * no use for, SP_IO when files are absent, SP_FORMAT when no sample is accepted (the message says
 * why). */
/* Whether the text begins as one of these does. */
bool sp_dataset_is_spec(const char *text);
/* Whether it is one without files, whose pictures are drawn with sides of any size. */
bool sp_dataset_is_drawn(const char *spec);
sp_status sp_dataset_open(const char *spec, const sp_dataset_options *options,
                          const sp_callbacks *callbacks, sp_dataset **out);
void sp_dataset_close(sp_dataset *dataset); /* NULL is legal */

int64_t
sp_dataset_count(const sp_dataset *dataset); /* accepted samples, held-out ones included; > 0 */
int sp_dataset_resolution(const sp_dataset *dataset);
const char *sp_dataset_spec(const sp_dataset *dataset);
const sp_dataset_options *sp_dataset_get_options(const sp_dataset *dataset); /* resolved */

/* Writes picture `sample` to rgb [R,R,3], R the resolution. A file that turns out to be damaged is
 * counted as rejected and the next good sample of the same kind (held out or not) stands in for it,
 * always the same one. *used (may be NULL) receives the sample written: take the caption of that
 * one. SP_FORMAT when none is left. */
sp_status sp_dataset_image(sp_dataset *dataset, int64_t sample, uint8_t *rgb, int64_t *used);

/* What the square was cut from: the size that the picture had before anybody scaled it, and the square's place in the
 * picture scaled to the resolution; not mirrored. Of a picture that is a square of the resolution already, or whose
 * size is not known before it is read (source:), that itself. */
typedef struct {
    int original_width, original_height, left, top;
} sp_dataset_cut_place;
void sp_dataset_cut(const sp_dataset *dataset, int64_t sample, sp_dataset_cut_place *out);

/* The bytes of the sample's file, new; any thread. Of a kind without files: of a PNG file of its picture. SP_IO, and
 * what a kind says of a picture that it cannot give. */
sp_status sp_dataset_bytes(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size);

/* Variant 0 is the official name or first caption; others describe the same picture in more or
 * other words. Strings are UTF-8 and live as long as the data set. */
int sp_dataset_caption_count(const sp_dataset *dataset, int64_t sample); /* >= 1 */
const char *sp_dataset_caption(const sp_dataset *dataset, int64_t sample, int variant);
const char *sp_dataset_name(const sp_dataset *dataset,
                            int64_t sample); /* unique: code points, or a path */

/* Held-out samples are never trained on; they test composition. */
bool sp_dataset_is_held_out(const sp_dataset *dataset, int64_t sample);
int64_t sp_dataset_training_count(const sp_dataset *dataset);
int64_t sp_dataset_training_sample(const sp_dataset *dataset,
                                   int64_t k); /* k-th sample not held out */
int64_t sp_dataset_held_out_count(const sp_dataset *dataset);
int64_t sp_dataset_held_out_sample(const sp_dataset *dataset, int64_t k);

/* Copies the reasons so far, up to `capacity`, in the order met; returns how many there are. */
size_t sp_dataset_rejections(sp_dataset *dataset, sp_rejection *out, size_t capacity);
int64_t sp_dataset_rejected(sp_dataset *dataset); /* so far, for any reason */
/* Appends lines for people: counts of accepted, held-out and rejected samples, the latter by
 * reason. */
void sp_dataset_summary(sp_dataset *dataset, sp_string *out);
void sp_dataset_log(sp_dataset *dataset); /* the same in the log */

/* The order of samples: position p of a whole run is element p % count of the permutation for
 * (seed, p / count). It depends on nothing else. Keeps the permutation of the epoch last asked for;
 * one per thread. */
typedef struct sp_dataset_order sp_dataset_order;
sp_status sp_dataset_order_create(uint64_t seed, int64_t count,
                                  sp_dataset_order **out); /* 0 < count < 2^32 */
void sp_dataset_order_destroy(sp_dataset_order *order);
/* In 0..count-1. With count = sp_dataset_training_count this is the k of
 * sp_dataset_training_sample. */
int64_t sp_dataset_order_at(sp_dataset_order *order, uint64_t position);

#endif
