/* Measuring models on one set of prompts: choosing the prompts, knowing the real pictures, drawing
 * and judging. Every row of a table is made from the same prompts and the same noise. */
#ifndef SP_EVAL_EVALUATION_H
#define SP_EVAL_EVALUATION_H
#include "data/dataset.h"
#include "eval/hit_rate.h"
#include "eval/metric.h"
#include "pipeline/model_errors.h"

typedef struct {
    int64_t count; /* prompts */
    uint64_t seed; /* of their choice */
    sp_metric_set metrics;
    /* Captions that come first if the data set has them, for a sheet. */
    const char *const *wanted;
    int64_t wanted_count;
} sp_evaluation_options;

/* The prompts are the wanted ones, then training captions, then unseen ones, of which there is one in four if there are
 * that many; drawn by the seed. Unseen is a held-out sample's caption that no training sample has. Read freely. */
struct sp_evaluation {
    const sp_component *vae; /* the evaluator's; both outlive the evaluation */
    sp_dataset *dataset;
    sp_device *device;
    sp_metric_set metrics;
    int64_t count, held_out_count;
    int64_t *sample;        /* [count] of the data set */
    const char **prompt;    /* [count] its first caption */
    bool *held_out;         /* [count] the prompt is unseen */
    int64_t real_count;     /* pictures that a hit is looked for among: all, if a metric looks
                               among them */
    int64_t *place;         /* [count] where the prompt's own picture is among them */
    sp_real_picture *real;  /* [real_count] for metrics of pictures that look among them */
    sp_tensor reference[SP_METRICS_MAX]; /* features by metric: see sp_measured; the teacher's once they are kept */
    sp_scores real_scores;          /* of the real pictures, after one way through the autoencoder */
};

/* Encodes the real pictures. SP_ARGUMENT if there are fewer samples than prompts. */
sp_status sp_evaluation_create(sp_dataset *dataset, const sp_component *vae, sp_device *device,
                               const sp_evaluation_options *options, const sp_callbacks *callbacks,
                               sp_evaluation **out);
void sp_evaluation_destroy(sp_evaluation *evaluation); /* NULL is legal */

/* True if a metric of pictures is asked for, so that pictures are scored. */
bool sp_evaluation_has_image_metric(const sp_evaluation *evaluation);

/* Keeps the teacher's pictures of the prompts, [count,3,H,W] as sp_evaluation_score_images leaves them, for metrics
 * that compare with these; before it they are not measured. */
sp_status sp_evaluation_keep_teacher(sp_evaluation *evaluation, const sp_tensor *images,
                                     const sp_callbacks *callbacks);

/* Scores pictures [count,3,H,W], one per prompt, which are rounded to 8 bits first, in place: the columns of metrics
 * of pictures in `scores`, of which the others stay. */
sp_status sp_evaluation_score_images(const sp_evaluation *evaluation, sp_tensor *images,
                                     const sp_callbacks *callbacks, sp_scores *scores);
/* The columns of metrics of maps likewise: the model's curve, and the mean of its errors at the timesteps of a
 * sampler. */
sp_status sp_evaluation_score_map(const sp_evaluation *evaluation, const sp_error_curve *curve, double own,
                                  sp_scores *scores);

/* The rgb [H,W,3] of prompt i's own picture. */
sp_status sp_evaluation_real(const sp_evaluation *evaluation, int64_t i, uint8_t *rgb);

/* ---- one row ---- */

/* A model with its prompts encoded, drawn with one guidance; `pipeline` outlives it. */
typedef struct {
    sp_pipeline *pipeline;
    sp_conditioning conditioning, negative; /* of `count` rows, of one */
    int64_t height, width;                  /* of the latent */
    double guidance;                        /* CFG scale; 1 of students, and at first */
    sp_model_errors errors;                 /* sp_compared_model_measure; no trajectory: maps are not measured */
    sp_error_curve curve;                   /* along it */
} sp_compared_model;
/* SP_SHAPE if the model draws pictures of another size than the data set's. */
sp_status sp_compared_model_create(const sp_evaluation *evaluation, sp_pipeline *pipeline,
                                   sp_compared_model *out);
void sp_compared_model_free(sp_compared_model *compared); /* zeroed is legal */

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
    double seconds_per_image; /* drawing and decoding, in batches */
} sp_row;

typedef struct {
    const char *model; /* the row's label */
    const char *task;  /* the progress bar's */
    sp_sampler_options sampler;
    const sp_scheduler_config *scheduler; /* NULL: the model's own */
    uint64_t seed; /* prompt i has the Philox noise of seed + i */
} sp_row_request;

/* Draws one picture per prompt and scores them: *row, and *images (may be NULL) new [count,3,H,W]. A model
 * that is measured along a trajectory is scored at the timesteps that the sampler tells the network, be they whole or
 * not, each counted once; a student of phases that DDIM asks for another number of steps, as one of so many phases. */
sp_status sp_evaluation_row(const sp_evaluation *evaluation, sp_compared_model *compared,
                            const sp_row_request *request, const sp_callbacks *callbacks,
                            sp_row *row, sp_tensor *images);

/* The pictures of latents that are there already, `seconds` having gone into them: scored into row->scores, in which
 * the other columns stay. */
sp_status sp_evaluation_row_of(const sp_evaluation *evaluation, const sp_compared_model *compared,
                               const sp_tensor *latents, double seconds,
                               const sp_callbacks *callbacks, sp_row *row, sp_tensor *images);

#endif
