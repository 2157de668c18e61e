/* Data sets. */
#ifndef SPLAM_DATA_H
#define SPLAM_DATA_H
#include <splam/base.h>
#include <splam/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A data set is named by a text: "emoji:", "emoji:kinds", "folder:DIR", "wds:SHARDS.tar" (a shell's wildcards and
 * braces) or "coco:ANNOTATIONS.json,IMAGES".
 *
 * Which of its pictures are taken and how they are cut. Filters look at fields that LAION's metadata have, in a
 * picture's json, in letters of either case; a picture without the field is rejected. In brackets: where it is
 * SPLAM_UNSET or NULL, as by default. Its layout stays: what comes later becomes a member of the structs that it is
 * in. */
typedef struct {
    int64_t resolution;    /* side of the pictures in pixels [emoji 64, else 512] */
    int64_t min_size;      /* pixels; shorter sides below are rejected: width and height, or original_width and
                              original_height, or the picture's own [half the resolution] */
    double min_aesthetic;  /* aesthetic, aesthetic_score, aesthetic_score_laion_v2 [not asked] */
    double max_watermark;  /* pwatermark, watermark, watermark_score [not asked] */
    double min_similarity; /* similarity, clip_similarity_vitb32, clip_similarity_vitl14 [not asked] */
    /* The key of captions in a picture's json, in metadata.jsonl or in COCO's annotations, or the column in
     * metadata.csv; captions from elsewhere are not taken then [the .txt or .caption beside the picture; else text,
     * caption, prompt or additional_feature] */
    const char *caption_column;
    bool random_crop;      /* at a place drawn from (seed, picture); else the centre */
    bool random_flip;      /* mirrored or not, drawn from (seed, epoch, picture) */
} splam_picture_options;

typedef struct {
    size_t size;      /* set by splam_data_defaults() */
    const char *spec; /* a data set, or "latents:DIR": see cache; required */
    splam_picture_options pictures;
    const char *sheet;   /* a picture of samples with their captions to write, .png, .jpg, .jpeg or .webp; NULL: none */
    int64_t count;       /* pictures on it [48] */
    uint64_t seed;       /* of their choice, of crops and flips, 0 */
    const char *cache;   /* a folder to write what training needs of the pictures: moments of the VAE's posterior and
                            contexts of the captions; distill takes it as "latents:DIR". A run that was stopped goes on.
                            NULL: none */
    const char *teacher; /* a model whose VAE and text encoder make them; required with cache */
    const char *cache_dtype; /* "f16", "f32" ["f16"] */
    splam_precision precision;
    const char *device; /* to compute with, "cpu" [cpu] */
    const char *t5_absent; /* see splam_generate_options [what a student's splam.json says, or "256"] */
    const char *t5; /* see splam_generate_options [none] */
} splam_data_options;
SPLAM_DEFAULTS(data)

/* Opens a data set and decodes the pictures of the sheet; *summary, which is the caller's (splam_free): what was
 * accepted and rejected, and why, in lines for people; NULL on failure. Of latents every checksum is read. Errors:
 * SPLAM_ARGUMENT for a data set or options that make no sense, SPLAM_IO for what cannot be read or written,
 * SPLAM_FORMAT where nothing is accepted or a checksum is wrong, SPLAM_CANCELLED. */
SPLAM_API splam_status splam_data(const splam_data_options *options, const splam_callbacks *callbacks, char **summary);

#ifdef __cplusplus
}
#endif
#endif
