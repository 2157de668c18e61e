/* The results of an evaluation, row by row, and what is written of them. */
#include "report/results.h"
#include "base/file.h"
#include "image/sheet.h"

static sp_status add_real(sp_results *r)
{
    size_t bytes = (size_t)r->size * (size_t)r->size * 3;
    r->label[0] = "the real picture";
    for (int i = 0; i < r->columns; i++) {
        uint8_t *rgb = sp_arena_alloc(r->arena, bytes);
        if (!rgb) return SP_MEMORY;
        SP_TRY(sp_evaluation_real(r->evaluation, i, rgb));
        r->picture[i] = rgb;
    }
    return SP_OK;
}

sp_status sp_results_create(sp_evaluation *evaluation, sp_results **out)
{
    *out = NULL;
    sp_results *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    r->evaluation = evaluation;
    r->columns =
        evaluation->count < SP_RESULTS_COLUMNS ? (int)evaluation->count : SP_RESULTS_COLUMNS;
    r->size = sp_dataset_resolution(evaluation->dataset);
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
    sp_arena_destroy(r->arena);
    sp_free(r);
}

static sp_status add(sp_results *r, const char *label, const sp_row *row, const sp_tensor *images)
{
    size_t bytes = (size_t)r->size * (size_t)r->size * 3;
    sp_row copy = *row;
    copy.model = sp_arena_strdup(r->arena, row->model);
    const char *name = sp_arena_strdup(r->arena, label);
    if (!copy.model || !name) return SP_MEMORY;
    for (int i = 0; i < r->columns; i++) {
        uint8_t *rgb = sp_arena_alloc(r->arena, bytes);
        if (!rgb) return SP_MEMORY;
        sp_rgb_from_float((const float *)images->data + (size_t)i * bytes, r->size, r->size, rgb);
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

sp_status sp_results_add(sp_results *r, sp_compared_model *compared,
                         const sp_row_request *request, const sp_callbacks *callbacks)
{
    sp_row row;
    sp_tensor images = {0};
    SP_TRY(check_room(r));
    sp_status status =
        sp_evaluation_row(r->evaluation, compared, request, callbacks, &row, &images);
    if (!status) status = add(r, request->task, &row, &images);
    sp_tensor_free(&images);
    return status;
}

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

sp_status sp_results_add_teacher(sp_results *r, sp_compared_model *teacher, const sp_teacher_request *request,
                                 const sp_callbacks *callbacks, sp_trajectory *trajectory)
{
    static const char name[] = "teacher", label[] = "teacher, 50 steps";
    sp_row row = {.model = name, .sampler = "ddim", .steps = SP_TRAJECTORY_STEPS, .scores = sp_scores_none()};
    sp_tensor images = {0};
    *trajectory = (sp_trajectory){0};
    SP_TRY(check_room(r));
    teacher->guidance = request->guidance_scale_w + 1;
    const sp_trajectory_request wanted = {.conditioning = &teacher->conditioning,
                                          .negative = &teacher->negative,
                                          .height = teacher->height,
                                          .width = teacher->width,
                                          .seed = request->seed,
                                          .guidance_scale_w = request->guidance_scale_w,
                                          .cache = request->cache,
                                          .task = label};
    SP_TRY(sp_trajectory_create(teacher->pipeline, &wanted, callbacks, trajectory));
    const sp_tensor end = sp_trajectory_end(trajectory);
    const sp_error_curve *curve = &teacher->curve;
    sp_status status = measure(r, teacher, name, label, trajectory, true, callbacks);
    if (!status)
        status = sp_evaluation_score_map(r->evaluation, curve, sp_error_curve_mean(curve), &row.scores);
    if (!status)
        status = sp_evaluation_row_of(r->evaluation, teacher, &end, trajectory->seconds, callbacks, &row, &images);
    if (!status) status = sp_evaluation_keep_teacher(r->evaluation, &images, callbacks);
    if (!status) status = add(r, label, &row, &images);
    sp_tensor_free(&images);
    if (status) sp_trajectory_free(trajectory);
    return status;
}

static sp_status draw_sheet(const sp_results *r, const char *title, sp_image *out)
{
    const sp_evaluation *e = r->evaluation;
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
                            .rows = (int)r->count + 1,
                            .columns = r->columns,
                            .picture_width = r->size,
                            .picture_height = r->size,
                            .pictures = r->picture,
                            .row_labels = r->label,
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
    static const char *const names[] = {"sheet.png", "report.json", "report.html", NULL};
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
    report.seconds_total = sp_now() - began;
    report.peak_rss_bytes = sp_peak_rss();
    sp_status status = save_sheet(folder, &sheet);
    if (!status) status = sp_report_save_json(&report, folder);
    if (!status) status = sp_report_save_html(&report, folder);
    if (!status) sp_report_table(&report, &text);
    if (!status && !text.failed) *table = sp_strdup(sp_string_text(&text));
    if (!status && !*table) status = SP_MEMORY;
    sp_string_free(&text);
    sp_image_free(&sheet);
    return status;
}
