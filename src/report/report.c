/* The report as data and as a table. */
#include "report/report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text_file.h"

/* ---- loss curves ---- */

static sp_status append_point(sp_loss_curve *c, int64_t *capacity, double step, double loss)
{
    if (c->count == *capacity) {
        int64_t more = *capacity ? 2 * *capacity : 256;
        size_t old = (size_t)*capacity * sizeof(double), size = (size_t)more * sizeof(double);
        double *steps = sp_realloc(c->step, old, size);
        if (!steps) return SP_MEMORY;
        c->step = steps;
        double *losses = sp_realloc(c->loss, old, size);
        if (!losses) return SP_MEMORY;
        c->loss = losses;
        *capacity = more;
    }
    c->step[c->count] = step;
    c->loss[c->count++] = loss;
    return SP_OK;
}

static sp_status read_lines(char *text, sp_loss_curve *out)
{
    int64_t capacity = 0;
    sp_status status = SP_OK;
    for (char *line = text, *end; !status && (end = strchr(line, '\n')); line = end + 1) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
        const json_t *step = json_object_get(object, "step"),
                     *loss = json_object_get(object, "loss");
        if (json_is_number(step) && json_is_number(loss))
            status = append_point(out, &capacity, json_number_value(step), json_number_value(loss));
        json_decref(object);
    }
    return status;
}

sp_status sp_loss_curve_read(const char *training_folder, const char *name, sp_loss_curve *out)
{
    *out = (sp_loss_curve){.name = name};
    char *path = sp_path_join(training_folder, "metrics.jsonl"), *text = NULL;
    sp_status status = path ? sp_read_text(path, &text, NULL) : SP_MEMORY;
    if (!status) status = read_lines(text, out);
    sp_free(text);
    sp_free(path);
    if (status) sp_loss_curve_free(out);
    return status;
}

void sp_loss_curve_free(sp_loss_curve *curve)
{
    sp_free(curve->step);
    sp_free(curve->loss);
    *curve = (sp_loss_curve){0};
}

/* ---- JSON ---- */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Adds the columns of all metrics, or of those that real pictures are scored by too. */
static bool add_scores(json_t *object, const sp_scores *scores, bool all)
{
    const sp_metric_column *column;
    const sp_metric *metric;
    for (int i = 0; (column = sp_column_at(i, &metric)); i++)
        if ((all || metric->reference == SP_REFERENCE_NAMED || metric->reference == SP_REFERENCE_ALL) &&
            json_object_set_new(object, column->key, number(scores->value[i])))
            return false;
    return object != NULL;
}

static json_t *row_object(const sp_row *row)
{
    json_t *object = json_pack("{s:s, s:s, s:i}", "model", row->model, "sampler", row->sampler, "steps", row->steps);
    bool complete = add_scores(object, &row->scores, true);
    if (complete && row->report)
        complete = json_object_set_new(object, "scores", json_deep_copy(row->report)) == 0;
    if (complete) return object;
    json_decref(object);
    return NULL;
}

static json_t *scores_object(const sp_scores *scores)
{
    json_t *object = json_object();
    if (add_scores(object, scores, false)) return object;
    json_decref(object);
    return NULL;
}

static json_t *numbers(const double *value, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        if (!array || json_array_append_new(array, number(value[i]))) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *curve_object(const sp_model_curve *c)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "model", c->model, "t", numbers(c->curve.t, SP_TRAJECTORY_STEPS), "error",
                     numbers(c->curve.error, SP_TRAJECTORY_STEPS), "mean", number(sp_error_curve_mean(&c->curve)));
}

static json_t *all_rows(const sp_evaluation_report *r)
{
    json_t *array = json_array();
    bool complete = array != NULL;
    for (size_t i = 0; i < r->row_count && complete; i++)
        complete = json_array_append_new(array, row_object(&r->rows[i])) == 0;
    if (complete) return array;
    json_decref(array);
    return NULL;
}

static json_t *all_curves(const sp_evaluation_report *r)
{
    json_t *array = json_array();
    bool complete = array != NULL;
    for (size_t i = 0; i < r->curve_count && complete; i++)
        complete = json_array_append_new(array, curve_object(&r->curves[i])) == 0;
    if (complete) return array;
    json_decref(array);
    return NULL;
}

static const char features[] =
    "frechet_vae, not FID: Frechet distance of the autoencoder's latents of the 8-bit pictures, "
    "average-pooled to 4x4, between the drawn pictures and those that the prompts name; hits: nearest "
    "real picture by the same latents pooled to 8x8, pictures drawn alike counting as one";

/* Consumes the object; NULL: there was no memory for it. */
static sp_status save(json_t *object, const char *folder, const char *name)
{
    char *path = sp_path_join(folder, name);
    sp_status status = object && path ? sp_json_save(path, object) : SP_MEMORY;
    json_decref(object);
    sp_free(path);
    return status;
}

sp_status sp_report_save_json(const sp_evaluation_report *r, const char *folder)
{
    const sp_evaluation *e = r->evaluation;
    json_t *report = json_pack(
        "{s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:o, s:o, s:s}", "rows", all_rows(r), "trajectory_error",
        all_curves(r), "ceiling", scores_object(&e->real_scores), "features", features, "data",
        e->source, "prompts", (json_int_t)e->count, "prompts_heldout", (json_int_t)e->held_out_count,
        "guidance_w", number(r->guidance_scale_w), "seed", sp_json_seed(r->seed), "version", r->version);
    bool complete = report != NULL;
    if (complete && r->settings)
        complete = json_object_set_new(report, "settings", json_deep_copy(r->settings)) == 0;
    if (complete && r->pictures)
        complete = json_object_set_new(report, "pictures", json_deep_copy(r->pictures)) == 0;
    if (complete) return save(report, folder, "report.json");
    json_decref(report);
    return SP_MEMORY;
}

sp_status sp_report_save_times(const sp_evaluation_report *r, const char *folder)
{
    sp_json_made rows = sp_json_make_list();
    for (size_t i = 0; i < r->row_count; i++) {
        const sp_row *row = &r->rows[i];
        sp_json_add(&rows, json_pack("{s:s, s:s, s:i, s:o}", "model", row->model, "sampler", row->sampler, "steps",
                                     row->steps, "seconds_per_image", number(row->seconds_per_image)));
    }
    json_t *times = json_pack("{s:o, s:f, s:I}", "rows", sp_json_done(&rows), "seconds_total", r->seconds_total,
                              "peak_rss_bytes", (json_int_t)r->peak_rss_bytes);
    return times ? save(times, folder, "times.json") : SP_MEMORY;
}

/* ---- the table ---- */

static void append_cell(sp_string *out, int width, int digits, double value)
{
    if (isfinite(value))
        sp_string_append_format(out, "%*.*f", width, digits, value);
    else
        sp_string_append_format(out, "%*s", width, "-");
}

static int width_of(const sp_metric_column *column)
{
    int width = (int)strlen(column->label) + 2;
    return width < 8 ? 8 : width;
}

bool sp_report_shows(const sp_evaluation_report *r, int column)
{
    bool measured = isfinite(r->evaluation->real_scores.value[column]);
    for (size_t i = 0; i < r->row_count; i++)
        measured |= isfinite(r->rows[i].scores.value[column]);
    return measured && !sp_column_at(column, NULL)->interval;
}

const sp_score_value *sp_report_value(const sp_row *row, int index)
{
    for (int i = 0; i < SP_PICTURE_SCORES && row->pictures; i++) {
        if (index < row->pictures[i].value_count) return &row->pictures[i].value[index];
        index -= row->pictures[i].value_count;
    }
    return NULL;
}

static void append_scores(const sp_evaluation_report *r, sp_string *out, const sp_scores *scores)
{
    const sp_metric_column *column;
    for (int i = 0; (column = sp_column_at(i, NULL)); i++) {
        double value = scores->value[i];
        if (column->page_only || !sp_report_shows(r, i)) continue;
        if (column->share && isfinite(value))
            sp_string_append_format(out, "%*.1f%%", width_of(column) - 1, 100 * value);
        else
            append_cell(out, width_of(column), column->digits, value);
    }
}

enum { MODEL_WIDTH = 13, SAMPLER_WIDTH = 8, STEPS_WIDTH = 6, SECONDS_WIDTH = 9 };

static int value_width(const sp_score_value *value)
{
    int width = (int)strlen(value->key) + 2;
    return width < 12 ? 12 : width;
}

static void append_header(const sp_evaluation_report *r, sp_string *out)
{
    const sp_metric_column *column;
    const sp_score_value *value;
    sp_string_say(out, "%-*s%-*s%*s", MODEL_WIDTH, "model", SAMPLER_WIDTH, "sampler", STEPS_WIDTH, "steps");
    for (int i = 0; (column = sp_column_at(i, NULL)); i++)
        if (!column->page_only && sp_report_shows(r, i))
            sp_string_append_format(out, "%*s", width_of(column), column->label);
    for (int i = 0; r->row_count && (value = sp_report_value(&r->rows[0], i)); i++)
        sp_string_append_format(out, "%*s", value_width(value), value->key);
    sp_string_append_format(out, "%*s\n", SECONDS_WIDTH, "s/image");
}

static void append_row(const sp_evaluation_report *r, const sp_row *row, sp_string *out)
{
    const sp_score_value *value;
    sp_string_say(out, "%-*.12s%-*s%*d", MODEL_WIDTH, row->model, SAMPLER_WIDTH, row->sampler, STEPS_WIDTH,
                  row->steps);
    append_scores(r, out, &row->scores);
    for (int i = 0; (value = sp_report_value(row, i)); i++)
        sp_string_append_format(out, "%*.6g", value_width(value), value->value);
    append_cell(out, SECONDS_WIDTH, 3, row->seconds_per_image);
    sp_string_append(out, "\n", 1);
}

/* What tables have no room for. */
static void append_intervals(const sp_row *row, sp_string *out)
{
    const sp_score_value *value;
    for (int i = 0; (value = sp_report_value(row, i)); i++) {
        if (!value->interval) continue;
        sp_string_say(out, "%s, %s, %d step%s: ", row->model, row->sampler, row->steps, row->steps == 1 ? "" : "s");
        sp_scorer_say_value(value, out);
    }
}

static void append_pictures(const sp_evaluation_report *r, sp_string *out)
{
    const json_t *notes = json_object_get(r->pictures, "notes");
    const char *sha256 = json_string_value(json_object_get(r->pictures, "captions_sha256"));
    sp_string_say(out, "drawn: %lld pictures a row, captions sha256 %s\n", (long long)r->evaluation->count, sha256);
    if (r->protocol) sp_string_say(out, "protocol %s: %s\n", r->protocol->name, r->protocol->words);
    for (size_t i = 0; i < json_array_size(notes); i++)
        sp_string_say(out, "note: %s\n", json_string_value(json_array_get(notes, i)));
}

void sp_report_table(const sp_evaluation_report *r, sp_string *out)
{
    append_header(r, out);
    for (size_t i = 0; i < r->row_count; i++)
        append_row(r, &r->rows[i], out);
    if (sp_evaluation_has_image_metric(r->evaluation)) {
        sp_string_say(out, "%-*s", MODEL_WIDTH + SAMPLER_WIDTH + STEPS_WIDTH, "real pictures, decoded");
        append_scores(r, out, &r->evaluation->real_scores);
        sp_string_append(out, "\n", 1);
    }
    for (size_t i = 0; i < r->row_count; i++)
        append_intervals(&r->rows[i], out);
    if (r->scorer) sp_scorer_say_settings(r->scorer, out);
    if (r->pictures) append_pictures(r, out);
}
