/* The networks that pictures are scored by. One is a file, src/eval/NAME_extractor.c, with an sp_extractor_kind, and a
 * line in the list below: what opens weights, runs pictures, keeps features and reports walks this list. Which scores
 * are measured of its features is said in eval/picture_score.h. */
#ifndef SP_EVAL_EXTRACTOR_H
#define SP_EVAL_EXTRACTOR_H
#include <splam/eval.h>
#include "base/hash.h"
#include "eval/preparation.h"
#include "image/tower_input.h"
#include "models/network.h"
#include "models/runner.h"

/* (NAME, record) */
#define SP_EXTRACTOR_LIST(X)                                                                                          \
    X(INCEPTION, inception) X(CLIP, clip) X(CMMD, cmmd) X(PICKSCORE, pickscore) X(HPS, hps) X(DINO, dino)
typedef enum {
#define X(name, record) SP_EXTRACTOR_##name,
    SP_EXTRACTOR_LIST(X)
#undef X
        SP_EXTRACTORS
} sp_extractor_index;

/* One thing that a network says of a picture: `width` numbers. */
typedef struct {
    const char *name; /* of the graph's output, which is [batch,width], and in files of features */
    int64_t width;
} sp_feature;
enum { SP_FEATURES_MOST = 4 }; /* of one network */

typedef struct sp_extractor_kind sp_extractor_kind;

/* A network with its weights. */
typedef struct {
    const sp_extractor_kind *kind;
    void *model;                 /* the kind's own */
    bool borrowed;               /* the model is that of one that was opened before */
    char name[48];               /* of the architecture, where it has several: "ViT-B/32" */
    char sha256[SP_SHA256_TEXT]; /* of the file of weights */
    int64_t side, batch;         /* the graph's input is "image", F32 [batch,3,side,side] */
    int feature_count;           /* feature 0 is what mean and covariance are of */
    sp_feature feature[SP_FEATURES_MOST];
} sp_extractor;

struct sp_extractor_kind {
    const char *name;    /* "inception": in reports and files of features */
    const char *title;   /* "Inception": in sentences */
    const char *missing; /* one that says which weights are wanted, where pictures need them and there are none */
    const char *usual;   /* the name of what others' figures are of, another being warned about; NULL: any */
    sp_tower_input input; /* of `sp_extractor_prepare_tower` */
    /* The option that names the weights; NULL: it is not given. */
    const char *(*weights)(const splam_score_options *options);
    const char *options; /* all that it reads of a verb that scores, with commas */
    /* Fills all of *out but kind, which is set, and borrowed. options: what else they say of the weights; may be NULL.
     * Kinds of the same function have the same model of a file. */
    sp_status (*open)(const char *path, const splam_score_options *options, sp_extractor *out);
    void (*close)(sp_extractor *extractor); /* also of one that was not opened */
    /* The name of all that `prepare` does: features of one name can be compared. NULL: the kind's name. */
    const char *(*convention)(const sp_preparation *preparation);
    /* A picture, the transform behind it, as the network's input [3,side,side]; any thread. */
    sp_status (*prepare)(const sp_extractor *extractor, const sp_preparation *preparation, const sp_image *image,
                         float *nchw);
    sp_status (*make_runner)(const sp_extractor *extractor, sp_device *device, sp_runner *out);
};
#define X(name, record) extern const sp_extractor_kind sp_##record##_extractor;
SP_EXTRACTOR_LIST(X)
#undef X

const sp_extractor_kind *sp_extractor_kind_at(sp_extractor_index index);
/* What `open` says, naming the file. */
sp_status sp_extractor_open(sp_extractor_index index, const char *path, const splam_score_options *options,
                            sp_extractor *out);
void sp_extractor_close(sp_extractor *extractor); /* zeroed is legal; leaves it zeroed */
/* Those that are wanted and whose weights the options name; a file that two of them read alike is read once. out is
 * zeroed, and to be closed after a failure too. */
sp_status sp_extractors_open(const bool wanted[SP_EXTRACTORS], const splam_score_options *options,
                             sp_extractor out[SP_EXTRACTORS]);
void sp_extractors_close(sp_extractor extractors[SP_EXTRACTORS]);
/* Transform and `prepare`; *image is changed. */
sp_status sp_extractor_prepare(const sp_extractor *extractor, const sp_preparation *preparation, sp_image *image,
                               float *nchw);
/* `prepare` of image towers. */
sp_status sp_extractor_prepare_tower(const sp_extractor *extractor, const sp_preparation *preparation,
                                     const sp_image *image, float *nchw);
/* What make_runner is for one network of one set of weights: its graph for `batch` pictures, f32, weights bound. */
sp_status sp_extractor_run_network(const sp_extractor *extractor, const sp_network *network, const void *config,
                                   const sp_weights *weights, sp_device *device, sp_runner *out);

/* How features came about: what has to be equal where they are compared, in the words of files. */
typedef struct {
    const char *network, *convention, *transform;
    const char *weights; /* SHA-256; NULL: they were not opened */
} sp_feature_origin;
sp_feature_origin sp_feature_origin_of(sp_extractor_index index, const sp_extractor *extractor,
                                       const sp_preparation *preparation);

#endif
