/* What an evaluation leaves behind: report.json for programs, report.html for people, a table for
 * the terminal. */
#ifndef SP_REPORT_REPORT_H
#define SP_REPORT_REPORT_H
#include "base/json.h"
#include "image/image.h"
#include "eval/evaluation.h"

/* A training's loss by step, read from its metrics.jsonl. */
typedef struct {
    const char *name; /* not owned */
    int64_t count;
    double *step, *loss;
} sp_loss_curve;
sp_status sp_loss_curve_read(const char *training_folder, const char *name, sp_loss_curve *out);
void sp_loss_curve_free(sp_loss_curve *curve); /* zeroed is legal */

/* A model's trajectory error; `model` is its rows' label, not owned. */
typedef struct {
    const char *model;
    sp_error_curve curve;
} sp_model_curve;

/* Nothing is owned; pointers may be NULL where it is said. */
typedef struct {
    const char *title, *summary; /* summary: a sentence or two */
    const sp_evaluation *evaluation;
    const sp_row *rows;
    size_t row_count;
    const sp_model_curve *curves; /* of models that were measured along trajectories */
    size_t curve_count;
    const json_t *settings; /* {"lcm": {"learning-rate": ..}, ..}: how each model was made; NULL:
                               not said */
    const sp_loss_curve *losses;
    size_t loss_count;
    const sp_image *sheet; /* NULL: none */
    double guidance_scale_w; /* of the trajectories; NaN: nothing was measured along any */
    double seconds_total;
    int64_t peak_rss_bytes;
    uint64_t seed;
    const char *version;
} sp_evaluation_report;

/* FOLDER/report.json: "rows", an array of objects with model, sampler, steps, trajectory_error (at the sampler's
 * timesteps), trajectory_error_mean (over all 50), frechet, hit1, hit5, hit1_heldout, hit5_heldout, seconds_per_image
 * (null: not measured); "trajectory_error", an array of objects with model, t and error (50 numbers each), mean;
 * "ceiling" with the scores of the real pictures after the autoencoder; "features", what frechet and hits are
 * measured on; "data", "prompts", "prompts_heldout", "guidance_w", "settings", "seconds_total",
 * "peak_rss_bytes", "seed", "version". */
sp_status sp_report_save_json(const sp_evaluation_report *report, const char *folder);
/* FOLDER/report.html, which needs no other file. */
sp_status sp_report_save_html(const sp_evaluation_report *report, const char *folder);
/* The table as lines for a terminal. */
void sp_report_table(const sp_evaluation_report *report, sp_string *out);

#endif
