/* Measuring models on one set of prompts: choosing the prompts, knowing the real pictures, drawing
 * and judging. Every row of a table is made from the same prompts and the same noise. */
#ifndef SP_EVAL_EVALUATION_H
#define SP_EVAL_EVALUATION_H
#include "data/dataset.h"
#include "eval/drawn.h"
#include "eval/hit_rate.h"
#include "eval/metric.h"
#include "eval/picture_score.h"
#include "image/image.h"
#include "pipeline/model_errors.h"
#include "train/distributed.h"

typedef struct {
    int64_t count; /* prompts */
    uint64_t seed; /* of their choice */
    sp_metric_set metrics;
    /* Captions that come first if the data set has them, for a sheet. */
    const char *const *wanted;
    int64_t wanted_count;
    /* Without a data set: prompts in their order, of which there are `known`, with the name of what they are from, and
     * the pixels of a picture's side. The caller's, and needed to the end. */
    const char *const *prompts, *source;
    int64_t known;
    int size;
} sp_evaluation_options;

/* The prompts are the wanted ones, then training captions, then unseen ones, of which there is one in four if there are
 * that many; drawn by the seed. Unseen is a held-out sample's caption that no training sample has. Read freely. */
struct sp_evaluation {
    const sp_component *vae; /* the evaluator's; both outlive the evaluation */
    sp_dataset *dataset;     /* NULL: there are prompts alone */
    const char *source;      /* of the prompts: the data set's spec, or what the options say */
    sp_device *device;
    sp_metric_set metrics;
    int size;               /* pixels of a picture's side */
    int64_t count, held_out_count;
    int64_t known;          /* captions that are known, count or more */
    int64_t *sample;        /* [count] of the data set */
    const char **prompt;    /* [known] its first caption */
    bool *held_out;         /* [count] the prompt is unseen */
    int64_t real_count;     /* pictures that a hit is looked for among: all, if a metric looks
                               among them */
    int64_t *place;         /* [count] where the prompt's own picture is among them */
    sp_real_picture *real;  /* [real_count] for metrics of pictures that look among them */
    sp_tensor reference[SP_METRICS_MAX]; /* features by metric: see sp_measured; the teacher's once they are kept */
    sp_scores real_scores;          /* of the real pictures, after one way through the autoencoder */
};

/* Encodes the real pictures. SP_ARGUMENT if there are fewer samples than prompts, and without a data set (NULL) for
 * metrics that compare with its pictures. */
sp_status sp_evaluation_create(sp_dataset *dataset, const sp_component *vae, sp_device *device,
                               const sp_evaluation_options *options, const sp_callbacks *callbacks,
                               sp_evaluation **out);
void sp_evaluation_destroy(sp_evaluation *evaluation); /* NULL is legal */

/* True if a metric of pictures is asked for, so that pictures are scored. */
bool sp_evaluation_has_image_metric(const sp_evaluation *evaluation);

/* Keeps what metrics compare with of the teacher's pictures of the prompts; before it these are not measured. */
sp_status sp_evaluation_keep_teacher(sp_evaluation *evaluation, const sp_drawn *drawn, const sp_callbacks *callbacks);

/* Scores pictures, one per prompt: the columns of metrics of pictures in `scores`, of which the others stay. So many
 * are in memory at once as fit. */
sp_status sp_evaluation_score_drawn(const sp_evaluation *evaluation, const sp_drawn *drawn,
                                    const sp_callbacks *callbacks, sp_scores *scores);
/* The columns of metrics of maps likewise: the model's curve, and the mean of its errors at the timesteps of a
 * sampler. */
sp_status sp_evaluation_score_map(const sp_evaluation *evaluation, const sp_error_curve *curve, double own,
                                  sp_scores *scores);

/* The rgb [H,W,3] of prompt i's own picture. */
sp_status sp_evaluation_real(const sp_evaluation *evaluation, int64_t i, uint8_t *rgb);

/* ---- one row ---- */

/* A model that draws the prompts, with one guidance; `evaluation` and `pipeline` outlive it. */
typedef struct {
    const sp_evaluation *evaluation;
    sp_pipeline *pipeline;
    sp_conditioning conditioning; /* of all prompts: sp_compared_model_encode, else empty */
    sp_conditioning negative;     /* of one row */
    sp_conditioning near;         /* of the prompts from near_first on, encoded last */
    int64_t near_first;
    int64_t height, width; /* of the latent */
    int64_t batch;         /* pictures that are drawn at once, count or fewer */
    double guidance;       /* CFG scale; 1 of students that are told none, and at first */
    sp_model_errors errors; /* sp_compared_model_measure; no trajectory: maps are not measured */
    sp_error_curve curve;   /* along it */
} sp_compared_model;
/* SP_SHAPE if the model draws pictures of another size than the data set's. */
sp_status sp_compared_model_create(const sp_evaluation *evaluation, sp_pipeline *pipeline,
                                   sp_compared_model *out);
void sp_compared_model_free(sp_compared_model *compared); /* zeroed is legal */

/* Encodes all prompts at once, as measuring along trajectories needs them; what is only drawn is encoded on the way. */
sp_status sp_compared_model_encode(sp_compared_model *compared);
/* Measures the model along the trajectory of the same prompts, which outlives it: its curve, and from here on its rows.
 * is_teacher: the trajectory is this model's own at this guidance, so that its curve follows from it. Reports as
 * `task`. */
sp_status sp_compared_model_measure(sp_compared_model *compared, const sp_trajectory *trajectory, bool is_teacher,
                                    const char *task, const sp_callbacks *callbacks);

typedef struct {
    const char *model;   /* "teacher", "lcm", "splam", ...; a label, not owned */
    const char *sampler; /* "ddim" */
    int steps;
    sp_scores scores;
    const sp_score_result *pictures; /* [SP_PICTURE_SCORES], of scores of sets of pictures; NULL: none */
    const json_t *report;            /* what `splam score` prints of these; NULL likewise */
    const sp_image *extremes;        /* a sheet of the best and the worst pictures by clip; NULL: none */
    double seconds_per_image; /* drawing and decoding, in batches; NaN: nobody knows */
} sp_row;

typedef struct {
    const char *model; /* the row's label */
    const char *task;  /* the progress bar's */
    sp_sampler_options sampler;
    const sp_scheduler_config *scheduler; /* NULL: the model's own */
    uint64_t seed;          /* prompt i has the Philox noise of seed + i */
    const sp_tensor *latents; /* of all prompts, drawn before; NULL: there are none */
    double seconds;         /* that went into them */
} sp_row_request;

/* *out, new: all that decides which pixels are drawn, but for the prompts, for their manifest (eval/drawn.h). */
sp_status sp_compared_model_settings(sp_compared_model *compared, const sp_row_request *request, json_t **out);
/* Draws what `drawn` lacks, one picture per prompt: a batch after the other, picture i the same whatever else is
 * lacking and in however many ranks (NULL: alone), each of which calls this; rank 0 alone has the pictures, and puts
 * them into `drawn`; what the others give is not looked at. *seconds: of a picture; NaN if none was lacking. */
sp_status sp_compared_model_draw(sp_compared_model *compared, const sp_row_request *request, sp_ranks *ranks,
                                 const sp_callbacks *callbacks, sp_drawn *drawn, double *seconds);
/* *row: the columns of all metrics, of these pictures and, of a model that is measured along a trajectory, at the
 * timesteps that the sampler tells the network, be they whole or not, each counted once; a student of phases that DDIM
 * asks for another number of steps, as one of so many phases. */
sp_status sp_compared_model_score(sp_compared_model *compared, const sp_row_request *request, const sp_drawn *drawn,
                                  const sp_callbacks *callbacks, sp_row *row);

#endif
