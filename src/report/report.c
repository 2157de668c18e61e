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
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:o}", "model", row->model, "sampler", row->sampler,
                  "steps", row->steps, "seconds_per_image", number(row->seconds_per_image));
    if (add_scores(object, &row->scores, true)) return object;
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

sp_status sp_report_save_json(const sp_evaluation_report *r, const char *folder)
{
    const sp_evaluation *e = r->evaluation;
    json_t *report = json_pack(
        "{s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:o, s:f, s:I, s:o, s:s}", "rows", all_rows(r), "trajectory_error",
        all_curves(r), "ceiling", scores_object(&e->real_scores), "features", features, "data",
        sp_dataset_spec(e->dataset), "prompts", (json_int_t)e->count, "prompts_heldout", (json_int_t)e->held_out_count,
        "guidance_w", number(r->guidance_scale_w), "seconds_total", r->seconds_total, "peak_rss_bytes",
        (json_int_t)r->peak_rss_bytes, "seed", sp_json_seed(r->seed), "version", r->version);
    bool complete = report != NULL;
    if (complete && r->settings)
        complete = json_object_set_new(report, "settings", json_deep_copy(r->settings)) == 0;
    char *path = sp_path_join(folder, "report.json");
    sp_status status = complete && path ? sp_json_save(path, report) : SP_MEMORY;
    json_decref(report);
    sp_free(path);
    return status;
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

static void append_scores(sp_string *out, const sp_scores *scores)
{
    const sp_metric_column *column;
    for (int i = 0; (column = sp_column_at(i, NULL)); i++) {
        double value = scores->value[i];
        if (column->page_only) continue;
        if (column->share && isfinite(value))
            sp_string_append_format(out, "%*.1f%%", width_of(column) - 1, 100 * value);
        else
            append_cell(out, width_of(column), column->digits, value);
    }
}

enum { MODEL_WIDTH = 13, SAMPLER_WIDTH = 8, STEPS_WIDTH = 6, SECONDS_WIDTH = 9 };

static void append_header(sp_string *out)
{
    const sp_metric_column *column;
    sp_string_say(out, "%-*s%-*s%*s", MODEL_WIDTH, "model", SAMPLER_WIDTH, "sampler", STEPS_WIDTH, "steps");
    for (int i = 0; (column = sp_column_at(i, NULL)); i++)
        if (!column->page_only) sp_string_append_format(out, "%*s", width_of(column), column->label);
    sp_string_append_format(out, "%*s\n", SECONDS_WIDTH, "s/image");
}

void sp_report_table(const sp_evaluation_report *r, sp_string *out)
{
    append_header(out);
    for (size_t i = 0; i < r->row_count; i++) {
        const sp_row *row = &r->rows[i];
        sp_string_say(out, "%-*.12s%-*s%*d", MODEL_WIDTH, row->model, SAMPLER_WIDTH, row->sampler, STEPS_WIDTH,
                      row->steps);
        append_scores(out, &row->scores);
        append_cell(out, SECONDS_WIDTH, 3, row->seconds_per_image);
        sp_string_append(out, "\n", 1);
    }
    if (!sp_evaluation_has_image_metric(r->evaluation)) return;
    sp_string_say(out, "%-*s", MODEL_WIDTH + SAMPLER_WIDTH + STEPS_WIDTH, "real pictures, decoded");
    append_scores(out, &r->evaluation->real_scores);
    sp_string_append(out, "\n", 1);
}
