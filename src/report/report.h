/* What an evaluation leaves behind: report.json for programs, report.html for people, a table for
 * the terminal. */
#ifndef SP_REPORT_REPORT_H
#define SP_REPORT_REPORT_H
#include "base/json.h"
#include "image/image.h"
#include "eval/evaluation.h"
#include "report/protocol.h"
#include "report/score.h"

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
    const sp_scorer *scorer; /* of the rows' scores of sets of pictures; NULL: there are none */
    const sp_protocol *protocol; /* that was followed; NULL: none */
    const json_t *pictures;  /* how pictures and captions came about, with "notes", sentences; NULL: not said */
    double guidance_scale_w; /* of the trajectories; NaN: nothing was measured along any */
    double seconds_total;
    int64_t peak_rss_bytes;
    uint64_t seed;
    const char *version;
} sp_evaluation_report;

/* FOLDER/report.json, the same bytes whenever the same is measured: "rows", an array of objects with model, sampler,
 * steps, trajectory_error (at the sampler's timesteps), trajectory_error_mean (over all 50), frechet, frechet_teacher,
 * hit1, hit5, hit1_heldout, hit5_heldout (null: not measured) and, of scores of sets of pictures, "scores", which is
 * what `splam score --json` prints of the row's folder; "trajectory_error", an array of objects with model, t and error
 * (50 numbers each), mean; "ceiling" with the scores of the real pictures after the autoencoder; "features", what
 * frechet and hits are measured on; "data", "prompts", "prompts_heldout", "guidance_w", "settings", "seed",
 * "version"; "pictures", how they came about, of scores of sets of pictures. */
sp_status sp_report_save_json(const sp_evaluation_report *report, const char *folder);
/* FOLDER/times.json, what it took: "rows" with model, sampler, steps and seconds_per_image (null: not known);
 * "seconds_total", "peak_rss_bytes". */
sp_status sp_report_save_times(const sp_evaluation_report *report, const char *folder);
/* Whether tables have the column of that number: that any row has a number in it. An interval has none of its own. */
bool sp_report_shows(const sp_evaluation_report *report, int column);
/* Number `index` of a row's scores of sets of pictures, as tables have them; NULL: there are no more. The same place is
 * the same score in every row. */
const sp_score_value *sp_report_value(const sp_row *row, int index);
/* FOLDER/report.html, which needs no other file. */
sp_status sp_report_save_html(const sp_evaluation_report *report, const char *folder);
/* The table as lines for a terminal. */
void sp_report_table(const sp_evaluation_report *report, sp_string *out);

#endif
