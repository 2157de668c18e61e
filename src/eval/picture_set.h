/* A set of pictures to be scored: the pictures with the features that networks gave for them, or what a .npz file holds
 * of one. */
#ifndef SP_EVAL_PICTURE_SET_H
#define SP_EVAL_PICTURE_SET_H
#include "eval/extract.h"
#include "eval/frechet.h"

typedef struct {
    const char *source;   /* the caller's */
    sp_pictures pictures; /* zeroed: it is a file */
    int64_t count;        /* pictures, once computed those that could be read; 0: a file does not say how many */
    bool computed;        /* features of a network */
    int64_t *place;       /* [count] once computed: which of `pictures` each was */
    sp_tensor features[SP_EXTRACTORS][SP_FEATURES_MOST]; /* of pictures, once computed: [count,width] */
    sp_tensor feats;     /* a file's "feats" [count,D] F32, of whichever network */
    bool statistics;     /* of a file: mean and covariance alone */
    sp_gaussian gaussian; /* a file's, or what sp_picture_set_fit made */
    char convention[16], transform[16], weights[SP_SHA256_TEXT]; /* what a file says of its features; "": nothing */
} sp_picture_set;

/* Pictures (sp_pictures_open), the first `most` of them (0: all). Or a file: .npz or .safetensors with "mu" [D] and
 * "sigma" [D,D], as pytorch-fid and clean-fid save them, or with "feats" or dgm-eval's "reps" [N,D]; .npy of [N,D], as
 * CMMD's are. SP_IO, SP_FORMAT, SP_SHAPE, SP_NUMERIC, SP_UNSUPPORTED, SP_ARGUMENT. */
sp_status sp_picture_set_open(const char *source, int64_t most, int resolution, const sp_callbacks *callbacks,
                              sp_picture_set *out);
/* The same of a file alone. */
sp_status sp_picture_set_of_file(const char *path, sp_picture_set *out);
void sp_picture_set_free(sp_picture_set *set); /* zeroed is legal */

/* SP_ARGUMENT for a file that says that its features came about otherwise; other weights are warned about. */
sp_status sp_picture_set_check(const sp_picture_set *set, const sp_feature_origin *origin);
/* The features of e's network that are wanted, by sp_extract. */
sp_status sp_picture_set_extract(sp_picture_set *set, sp_extraction *e, sp_feature_store *store,
                                 const bool wanted[SP_FEATURES_MOST]);
/* SP_FORMAT, saying how many, why and which for example, if more than one in a hundred of what should be scored is left
 * out, with `strict` if anything is. */
sp_status sp_picture_set_check_left_out(const sp_picture_set *set, bool strict);
/* The network's feature `feature` of each picture, or a file's "feats"; NULL: there are no rows. */
const sp_tensor *sp_picture_set_rows(const sp_picture_set *set, sp_extractor_index network, int feature);

/* Mean and covariance of the network's feature 0, if there are none. */
sp_status sp_picture_set_fit(sp_picture_set *set, sp_extractor_index network);
/* mu and sigma in F64, splam_count, and as letters splam_convention, splam_transform and splam_weights,
 * their SHA-256. */
sp_status sp_picture_set_save(const sp_picture_set *set, const sp_feature_origin *origin, const char *path);

#endif
