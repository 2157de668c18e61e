/* What is measured of a model. A metric is a file, src/eval/NAME_metric.c (two of one measure share it), and a line in
 * the list below: the choice by name, report.json, the page, its charts and the terminal's table all walk this list. */
#ifndef SP_EVAL_METRIC_H
#define SP_EVAL_METRIC_H
#include "base/text.h"
#include "pipeline/trajectory.h"

typedef struct sp_evaluation sp_evaluation;

/* A model's trajectory error (pipeline/trajectory.h) at the points of the chain but its end. */
typedef struct {
    double t[SP_TRAJECTORY_STEPS], error[SP_TRAJECTORY_STEPS];
} sp_error_curve;
double sp_error_curve_mean(const sp_error_curve *curve);

/* One number of a metric, as it is shown. */
typedef struct {
    const char *key;       /* in report.json: "hit1" */
    const char *label;     /* over the column: "hit@1" */
    const char *chart;     /* title of its chart over steps; NULL: none */
    int digits;            /* behind the point */
    bool share;            /* 0..1, shown in percent with one digit */
    bool higher_is_better;
    bool log_chart;
    bool page_only;        /* not in the terminal's table, where there is room for few */
    bool interval;         /* half the width of the 95 % interval of the column before, shown in its cell of the page */
} sp_metric_column;

/* What a metric is given of one row of the table. */
typedef struct {
    const sp_evaluation *evaluation;
    const sp_tensor *features, *reference; /* [count,D] of the drawn pictures, [M,D] of what they are compared to; f32.
                                              M is the evaluation's real_count if that is all pictures, else count */
    const sp_error_curve *curve;           /* the trajectory error of its model */
    double own;                            /* the mean of it at the timesteps that the row's sampler asks at */
} sp_measured;

/* What a metric compares a model with. */
typedef enum {
    SP_REFERENCE_NAMED,     /* the real pictures that the prompts name */
    SP_REFERENCE_ALL,       /* every real picture of the data set */
    SP_REFERENCE_TEACHER,   /* the teacher's pictures of the prompts, in 50 steps from the same noise */
    SP_REFERENCE_TRAJECTORY /* the teacher's trajectories: a metric of maps, which needs no pictures */
} sp_metric_reference;

typedef struct {
    const char *name; /* "frechet", as it is asked for */
    const sp_metric_column *columns;
    int column_count;
    sp_metric_reference reference;
    /* The features of pictures by their latents [N,C,h,w] in the evaluator's autoencoder: *out new [N,D] f32. NULL of a
     * metric of maps. */
    sp_status (*features)(const sp_tensor *latents, sp_tensor *out);
    sp_status (*score)(const sp_measured *measured, double *out); /* [column_count], NaN before */
    /* Appends paragraphs of HTML on how it is measured. */
    void (*explain)(const sp_evaluation *evaluation, double guidance_scale_w, sp_string *out);
} sp_metric;

#define SP_METRIC_LIST(X) X(trajectory_error) X(frechet) X(frechet_teacher) X(kernel) X(precision_recall) X(hit)
#define X(name) extern const sp_metric sp_##name##_metric;
SP_METRIC_LIST(X)
#undef X

enum { SP_METRICS_MAX = 16, SP_COLUMNS_MAX = 32 };
/* The metrics in the order of the list; NULL past the last one. */
const sp_metric *sp_metric_at(int index);

/* A set of metrics, bit i for number i. */
typedef unsigned sp_metric_set;
/* "trajectory-error,frechet,fid" to a set, and to those of the scores of sets of pictures (eval/picture_score.h),
 * scores[SP_PICTURE_SCORES], that it names. SP_ARGUMENT, naming those there are, for other words and for none. */
sp_status sp_metrics_parse(const char *text, sp_metric_set *out, bool *scores);
/* All metrics; all that can do without a teacher, comparing with real pictures; those of one reference. */
sp_metric_set sp_metrics_all(void);
sp_metric_set sp_metrics_of_real_pictures(void);
sp_metric_set sp_metrics_of(sp_metric_reference reference);

/* One number per column of all metrics, in order; NaN: not measured. */
typedef struct {
    double value[SP_COLUMNS_MAX];
} sp_scores;
sp_scores sp_scores_none(void);
/* Column `index` of all, and whose it is (metric may be NULL); NULL past the last one. */
const sp_metric_column *sp_column_at(int index, const sp_metric **metric);
/* The number under `key`; NaN if there is no such column. */
double sp_score(const sp_scores *scores, const char *key);

#endif
