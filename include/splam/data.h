/* Data sets. */
#ifndef SPLAM_DATA_H
#define SPLAM_DATA_H
#include <splam/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A data set is named by a text: "emoji:", "folder:DIR", "wds:SHARDS.tar" (a shell's wildcards and
 * braces) or "coco:ANNOTATIONS.json,IMAGES".
 *
 * Which of its pictures are taken and how they are cut; 0 takes the default in brackets, or asks
 * nothing. Filters look at fields that LAION's metadata have, in a picture's json, in letters of
 * either case; a picture without the field is rejected. */
typedef struct {
    int64_t resolution;    /* side of the pictures [emoji 64, else 512] */
    int64_t min_size;      /* shorter sides below are rejected: width and height, or original_width
                              and original_height, or the picture's own [half the resolution] */
    double min_aesthetic;  /* aesthetic, aesthetic_score, aesthetic_score_laion_v2 */
    double max_watermark;  /* pwatermark, watermark, watermark_score */
    double min_similarity; /* similarity, clip_similarity_vitb32, clip_similarity_vitl14 */
    const char *caption_column; /* the key of captions in a picture's json, in metadata.jsonl or in
                                   COCO's annotations, or the column in metadata.csv; captions from
                                   elsewhere are not taken then [the .txt or .caption beside the
                                   picture; else text, caption, prompt or additional_feature] */
    bool random_crop;      /* at a place drawn from (seed, picture); else the centre */
    bool random_flip;      /* mirrored or not, drawn from (seed, epoch, picture) */
} splam_picture_options;

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *spec; /* a data set, or "latents:DIR": see cache */
    splam_picture_options pictures;
    const char *sheet;   /* a picture of samples with their captions to write,
                            .png, .jpg, .jpeg or .webp; NULL: none */
    int64_t count;       /* pictures on it [48] */
    uint64_t seed;       /* of their choice, of crops and flips */
    const char *cache;   /* a folder to write what training needs of the pictures: moments of the
                            VAE's posterior and contexts of the captions; distill takes it as
                            "latents:DIR". A run that was stopped goes on. NULL: none */
    const char *teacher; /* a model whose VAE and text encoder make them */
    const char *cache_dtype; /* "F16", "F32" ["F16"] */
    splam_precision precision;
} splam_data_options;
/* Opens a data set and decodes the pictures of the sheet; *summary: what was accepted and rejected,
 * and why, in lines for people (splam_free). Of latents every checksum is read. */
SPLAM_API splam_status splam_data(const splam_data_options *options,
                                  const splam_callbacks *callbacks, char **summary);

#ifdef __cplusplus
}
#endif
#endif
