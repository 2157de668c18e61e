/* Rows as they are drawn and measured, with the pictures of the first prompts for a sheet. */
#ifndef SP_REPORT_RESULTS_H
#define SP_REPORT_RESULTS_H
#include "base/memory.h"
#include "base/output.h"
#include "report/report.h"
#include "report/score.h"

enum { SP_RESULTS_COLUMNS = 10, SP_RESULTS_ROWS = 64 };

/* Where pictures are drawn to, and what is asked of them beside the evaluation's metrics; nothing is owned. */
typedef struct {
    const char *folder; /* each row's pictures are kept in FOLDER/MODEL-SAMPLER-STEPS; NULL: they are in memory */
    sp_scorer *scorer;  /* for scores of these folders; NULL: none */
    sp_ranks *ranks;    /* that draw together; NULL: alone. Rank 0 has pictures and rows, the others have none */
} sp_results_place;

typedef struct {
    sp_evaluation *evaluation; /* not owned */
    sp_results_place place;
    sp_score_result *score[SP_RESULTS_ROWS]; /* the rows' own */
    json_t *score_report[SP_RESULTS_ROWS];
    sp_image extremes[SP_RESULTS_ROWS];
    sp_row row[SP_RESULTS_ROWS];
    size_t count;
    sp_model_curve curve[SP_RESULTS_ROWS];
    size_t curve_count;
    sp_arena *arena; /* what follows, and the names of rows and curves */
    int columns, size;
    const char *label[SP_RESULTS_ROWS + 1]; /* the real pictures come first */
    const uint8_t *picture[(SP_RESULTS_ROWS + 1) * SP_RESULTS_COLUMNS];
} sp_results;

/* A new object with the row of real pictures; sp_results_destroy. place may be NULL. */
sp_status sp_results_create(sp_evaluation *evaluation, const sp_results_place *place, sp_results **out);
void sp_results_destroy(sp_results *results); /* NULL is legal */

/* Draws and measures a row and adds it; its task, which is copied, is its name on the sheet too. */
sp_status sp_results_add(sp_results *results, sp_compared_model *compared,
                         const sp_row_request *request, const sp_callbacks *callbacks);

/* Measures a model along the teacher's trajectory (sp_compared_model_measure) and adds its curve under the label that
 * its rows have. */
sp_status sp_results_measure(sp_results *results, sp_compared_model *compared, const char *model,
                             const sp_trajectory *trajectory, const sp_callbacks *callbacks);

/* Adds the teacher's row, DDIM at 50 steps, which is its trajectory's end, and its curve; its pictures are kept for
 * what is compared with them (sp_evaluation_keep_teacher). *trajectory is new, and
 * outlives `teacher`, whose guidance is set. */
typedef struct {
    uint64_t seed;
    double guidance_scale_w;
    const char *cache; /* see sp_trajectory_request */
} sp_teacher_request;
sp_status sp_results_add_teacher(sp_results *results, sp_compared_model *teacher, const sp_teacher_request *request,
                                 const sp_callbacks *callbacks, sp_trajectory *trajectory);

/* Claims FOLDER, before the work, for what sp_results_save writes. */
sp_status sp_results_claim(const char *folder, sp_claim *out);

/* Writes FOLDER/sheet.png (one line a row, one column a prompt; captions that were held out say
 * so), report.json, times.json and report.html. Of `report` the caller fills in title, summary, settings,
 * losses, guidance_scale_w, seed and version; `began` is when the work did (sp_now). *table: the rows for
 * a terminal, a new string (sp_free). */
sp_status sp_results_save(const sp_results *results, const char *folder,
                          sp_evaluation_report report, double began, char **table);

#endif
