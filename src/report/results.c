/* The results of an evaluation, row by row, and what is written of them. */
#include "report/results.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "image/sheet.h"
#include "report/extremes.h"

static sp_status add_real(sp_results *r)
{
    size_t bytes = (size_t)r->size * (size_t)r->size * 3;
    if (!r->evaluation->dataset) return SP_OK;
    r->label[0] = "the real picture";
    for (int i = 0; i < r->columns; i++) {
        uint8_t *rgb = sp_arena_alloc(r->arena, bytes);
        if (!rgb) return SP_MEMORY;
        SP_TRY(sp_evaluation_real(r->evaluation, i, rgb));
        r->picture[i] = rgb;
    }
    return SP_OK;
}

sp_status sp_results_create(sp_evaluation *evaluation, const sp_results_place *place, sp_results **out)
{
    *out = NULL;
    sp_results *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    r->evaluation = evaluation;
    if (place) r->place = *place;
    r->columns =
        evaluation->count < SP_RESULTS_COLUMNS ? (int)evaluation->count : SP_RESULTS_COLUMNS;
    r->size = evaluation->size;
    r->arena = sp_arena_create();
    sp_status status = r->arena ? add_real(r) : SP_MEMORY;
    if (status) {
        sp_results_destroy(r);
        return status;
    }
    *out = r;
    return SP_OK;
}

void sp_results_destroy(sp_results *r)
{
    if (!r) return;
    for (size_t i = 0; i < SP_RESULTS_ROWS; i++) {
        if (r->score[i]) sp_score_results_free(r->score[i]);
        sp_free(r->score[i]);
        json_decref(r->score_report[i]);
        sp_image_free(&r->extremes[i]);
    }
    sp_arena_destroy(r->arena);
    sp_free(r);
}

static sp_status add(sp_results *r, const char *label, const sp_row *row, const sp_drawn *drawn)
{
    size_t bytes = (size_t)r->size * (size_t)r->size * 3;
    sp_row copy = *row;
    copy.model = sp_arena_strdup(r->arena, row->model);
    const char *name = sp_arena_strdup(r->arena, label);
    if (!copy.model || !name) return SP_MEMORY;
    for (int i = 0; i < r->columns; i++) {
        uint8_t *rgb = sp_arena_alloc(r->arena, bytes);
        if (!rgb) return SP_MEMORY;
        SP_TRY(sp_drawn_get(drawn, i, rgb));
        r->picture[(r->count + 1) * (size_t)r->columns + (size_t)i] = rgb;
    }
    r->label[r->count + 1] = name;
    r->row[r->count++] = copy;
    return SP_OK;
}

static sp_status check_room(const sp_results *r)
{
    if (r->count < SP_RESULTS_ROWS) return SP_OK;
    return sp_fail(SP_ARGUMENT, "more than %d rows cannot be reported", SP_RESULTS_ROWS);
}

/* ---- pictures ---- */

static sp_status settle(const sp_results *r, sp_compared_model *compared, const sp_row_request *request,
                        const char *folder)
{
    const sp_evaluation *e = r->evaluation;
    json_t *settings;
    SP_TRY(sp_compared_model_settings(compared, request, &settings));
    const sp_drawn_origin origin = {
        .settings = settings, .captions = e->prompt, .count = e->count, .known = e->known};
    sp_status status = sp_drawn_settle(folder, &origin);
    json_decref(settings);
    return status;
}

/* Seconds of a picture, as the run has it that drew the first ones. */
static sp_status note_seconds(const char *folder, double *seconds)
{
    double noted = NAN;
    SP_TRY(sp_drawn_seconds(folder, &noted));
    if (isfinite(noted)) {
        *seconds = noted;
        return SP_OK;
    }
    return isfinite(*seconds) ? sp_drawn_keep_seconds(folder, *seconds) : SP_OK;
}

/* folder: NULL, or where they are kept. */
static sp_status draw(const sp_results *r, sp_compared_model *compared, const sp_row_request *request,
                      const char *folder, const sp_callbacks *callbacks, sp_drawn *drawn, double *seconds)
{
    sp_ranks *ranks = request->latents ? NULL : r->place.ranks; /* which rank 0 alone has */
    if (folder) SP_TRY(settle(r, compared, request, folder));
    SP_TRY(sp_drawn_open(folder, r->evaluation->count, r->size, drawn));
    SP_TRY(sp_compared_model_draw(compared, request, ranks, callbacks, drawn, seconds));
    return folder ? note_seconds(folder, seconds) : SP_OK;
}

/* Where the score clip says something of each picture. */
static sp_status draw_extremes(sp_results *r, const sp_drawn *drawn, sp_row *row)
{
    sp_image *sheet = &r->extremes[r->count];
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        if (strcmp(sp_picture_score_at(i)->name, "clip") != 0 || !row->pictures[i].terms) continue;
        SP_TRY(sp_extremes_draw(r->evaluation, drawn, row->pictures[i].terms, sheet));
        row->extremes = sheet;
    }
    return SP_OK;
}

static sp_status score(sp_results *r, const char *folder, const sp_drawn *drawn, sp_row *row)
{
    if (!r->place.scorer) return SP_OK;
    char *features = sp_path_join(folder, "features");
    sp_score_result *result = sp_alloc_zero(SP_PICTURE_SCORES * sizeof *result);
    row->pictures = r->score[r->count] = result;
    sp_status status = features && result ? SP_OK : SP_MEMORY;
    if (!status) status = sp_scorer_score(r->place.scorer, folder, features, result, &r->score_report[r->count]);
    row->report = r->score_report[r->count];
    sp_free(features);
    return status ? status : draw_extremes(r, drawn, row);
}

static bool is_first(const sp_results *r)
{
    return sp_ranks_rank(r->place.ranks) == 0;
}

/* Draws and scores a row, whose pictures are in *drawn. */
static sp_status make_row(sp_results *r, sp_compared_model *compared, const sp_row_request *request,
                          const sp_callbacks *callbacks, sp_drawn *drawn, sp_row *row)
{
    double seconds = NAN;
    bool kept = r->place.folder && is_first(r);
    char *folder = kept ? sp_format("%s/%s-%s-%d", r->place.folder, request->model,
                                    sp_sampler_name(request->sampler.kind), request->sampler.steps)
                        : NULL;
    sp_status status = kept && !folder ? SP_MEMORY : SP_OK;
    if (!status) status = draw(r, compared, request, folder, callbacks, drawn, &seconds);
    if (!status && is_first(r)) {
        status = sp_compared_model_score(compared, request, drawn, callbacks, row);
        row->seconds_per_image = seconds;
        if (!status && folder) status = score(r, folder, drawn, row);
    } else if (!status && r->place.scorer) {
        status = sp_scorer_help(r->place.scorer);
    }
    sp_free(folder);
    return status;
}

sp_status sp_results_add(sp_results *r, sp_compared_model *compared,
                         const sp_row_request *request, const sp_callbacks *callbacks)
{
    sp_row row;
    sp_drawn drawn = {0};
    SP_TRY(check_room(r));
    sp_status status = make_row(r, compared, request, callbacks, &drawn, &row);
    if (!status && is_first(r)) status = add(r, request->task, &row, &drawn);
    sp_drawn_close(&drawn);
    return status;
}

/* ---- curves, and the teacher ---- */

static sp_status measure(sp_results *r, sp_compared_model *compared, const char *model, const char *task,
                         const sp_trajectory *trajectory, bool is_teacher, const sp_callbacks *callbacks)
{
    if (r->curve_count == SP_RESULTS_ROWS)
        return sp_fail(SP_ARGUMENT, "more than %d models cannot be reported", SP_RESULTS_ROWS);
    SP_TRY(sp_compared_model_measure(compared, trajectory, is_teacher, task, callbacks));
    sp_model_curve *curve = &r->curve[r->curve_count];
    *curve = (sp_model_curve){.model = sp_arena_strdup(r->arena, model), .curve = compared->curve};
    if (!curve->model) return SP_MEMORY;
    r->curve_count++;
    return SP_OK;
}

sp_status sp_results_measure(sp_results *r, sp_compared_model *compared, const char *model,
                             const sp_trajectory *trajectory, const sp_callbacks *callbacks)
{
    char *task = sp_format("%s, trajectory error", model);
    if (!task) return SP_MEMORY;
    sp_status status = measure(r, compared, model, task, trajectory, false, callbacks);
    sp_free(task);
    return status;
}

/* The end of the trajectory, whose timesteps are all of the curve's. */
static sp_status teacher_row(sp_results *r, sp_compared_model *teacher, const sp_teacher_request *asked,
                             const char *label, const sp_callbacks *callbacks, const sp_trajectory *trajectory)
{
    const sp_tensor end = sp_trajectory_end(trajectory);
    const sp_scheduler_config scheduler = sp_trajectory_scheduler(&teacher->pipeline->scheduler);
    const sp_row_request request = {.model = "teacher",
                                    .task = label,
                                    .sampler = {.kind = SP_SAMPLER_DDIM, .steps = SP_TRAJECTORY_STEPS},
                                    .scheduler = &scheduler,
                                    .seed = asked->seed,
                                    .latents = &end,
                                    .seconds = trajectory->seconds};
    sp_row row;
    sp_drawn drawn = {0};
    sp_status status = make_row(r, teacher, &request, callbacks, &drawn, &row);
    if (!status) status = sp_evaluation_keep_teacher(r->evaluation, &drawn, callbacks);
    if (!status) status = add(r, label, &row, &drawn);
    sp_drawn_close(&drawn);
    return status;
}

sp_status sp_results_add_teacher(sp_results *r, sp_compared_model *teacher, const sp_teacher_request *request,
                                 const sp_callbacks *callbacks, sp_trajectory *trajectory)
{
    static const char name[] = "teacher", label[] = "teacher, 50 steps";
    *trajectory = (sp_trajectory){0};
    SP_TRY(check_room(r));
    teacher->guidance = request->guidance_scale_w + 1;
    SP_TRY(sp_compared_model_encode(teacher));
    const sp_trajectory_request wanted = {.conditioning = &teacher->conditioning,
                                          .negative = &teacher->negative,
                                          .height = teacher->height,
                                          .width = teacher->width,
                                          .seed = request->seed,
                                          .guidance_scale_w = request->guidance_scale_w,
                                          .cache = request->cache,
                                          .task = label};
    SP_TRY(sp_trajectory_create(teacher->pipeline, &wanted, callbacks, trajectory));
    sp_status status = measure(r, teacher, name, label, trajectory, true, callbacks);
    if (!status) status = teacher_row(r, teacher, request, label, callbacks, trajectory);
    if (status) sp_trajectory_free(trajectory);
    return status;
}

static sp_status draw_sheet(const sp_results *r, const char *title, sp_image *out)
{
    const sp_evaluation *e = r->evaluation;
    int first = e->dataset ? 0 : 1; /* there are no real pictures */
    sp_arena *arena = sp_arena_create();
    if (!arena) return SP_MEMORY;
    const char *caption[SP_RESULTS_COLUMNS] = {0};
    sp_status status = SP_OK;
    for (int i = 0; i < r->columns && !status; i++) {
        caption[i] =
            e->held_out[i] ? sp_arena_format(arena, "%s (unseen)", e->prompt[i]) : e->prompt[i];
        if (!caption[i]) status = SP_MEMORY;
    }
    const sp_sheet sheet = {.title = title,
                            .subtitle = e->held_out_count
                                            ? "The same captions from the same noise. Unseen: that "
                                              "combination was left out of all training."
                                            : "The same captions from the same noise.",
                            .rows = (int)r->count + 1 - first,
                            .columns = r->columns,
                            .picture_width = r->size,
                            .picture_height = r->size,
                            .pictures = r->picture + first * r->columns,
                            .row_labels = r->label + first,
                            .column_captions = caption};
    if (!status) status = sp_sheet_draw(&sheet, out);
    sp_arena_destroy(arena);
    return status;
}

static sp_status save_sheet(const char *folder, const sp_image *sheet)
{
    char *path = sp_path_join(folder, "sheet.png");
    sp_status status = path ? sp_image_save(sheet, path, NULL) : SP_MEMORY;
    sp_free(path);
    return status;
}

sp_status sp_results_claim(const char *folder, sp_claim *out)
{
    static const char *const names[] = {"sheet.png", "report.json", "times.json", "report.html", NULL};
    return sp_claim_folder(folder, names, out);
}

sp_status sp_results_save(const sp_results *r, const char *folder, sp_evaluation_report report,
                          double began, char **table)
{
    sp_image sheet = {0};
    sp_string text = {0};
    *table = NULL;
    SP_TRY(sp_make_folders(folder));
    SP_TRY(draw_sheet(r, report.title, &sheet));
    report.evaluation = r->evaluation;
    report.rows = r->row;
    report.row_count = r->count;
    report.curves = r->curve;
    report.curve_count = r->curve_count;
    report.sheet = &sheet;
    report.scorer = r->place.scorer;
    report.seconds_total = sp_now() - began;
    report.peak_rss_bytes = sp_peak_rss();
    sp_status status = save_sheet(folder, &sheet);
    if (!status) status = sp_report_save_json(&report, folder);
    if (!status) status = sp_report_save_times(&report, folder);
    if (!status) status = sp_report_save_html(&report, folder);
    if (!status) sp_report_table(&report, &text);
    if (!status && !text.failed) *table = sp_strdup(sp_string_text(&text));
    if (!status && !*table) status = SP_MEMORY;
    sp_string_free(&text);
    sp_image_free(&sheet);
    return status;
}
