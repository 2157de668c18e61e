/* A set of pictures to be scored: a folder, or what a .npz file holds of one. */
#ifndef SP_EVAL_PICTURE_SET_H
#define SP_EVAL_PICTURE_SET_H
#include "eval/frechet.h"
#include "eval/inception_features.h"

typedef struct {
    const char *source; /* the caller's */
    char **paths;       /* [count] pictures of a folder and those below it, by their paths in bytewise order */
    int64_t count;      /* pictures; 0: statistics that do not say of how many */
    bool statistics;    /* of a file: mean and covariance alone */
    char convention[16], transform[16], weights[SP_SHA256_TEXT]; /* what a file says of its features; "": nothing */
    sp_gaussian gaussian;
    sp_inception_features features; /* of a folder: once they were computed; of a file's "feats": without logits */
} sp_picture_set;

/* A folder with .png, .jpg, .jpeg and .webp, at most `most` of them (0: all); other pictures are an error naming one,
 * for they would be missing in every score. Or a file: "mu" [D] and "sigma" [D,D], as pytorch-fid and clean-fid save
 * them, or "feats" [N,D]. One that sp_picture_set_save wrote must be prepared like this; other weights than these
 * (NULL: any) are warned about. SP_IO, SP_FORMAT, SP_SHAPE, SP_NUMERIC, SP_UNSUPPORTED, SP_ARGUMENT. */
sp_status sp_picture_set_open(const char *source, int64_t most, const sp_preparation *preparation,
                              const char *sha256, sp_picture_set *out);
/* A file, however its pictures were prepared. */
sp_status sp_picture_set_of_file(const char *path, sp_picture_set *out);
void sp_picture_set_free(sp_picture_set *set); /* zeroed is legal */
/* Mean and covariance, if they are not there. */
sp_status sp_picture_set_fit(sp_picture_set *set);
/* mu and sigma in F64, splam_count, and as letters splam_convention, splam_transform and splam_weights,
 * their SHA-256. */
sp_status sp_picture_set_save(const sp_picture_set *set, const sp_preparation *preparation, const char *sha256,
                              const char *path);

#endif
