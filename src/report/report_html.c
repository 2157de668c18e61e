/* The report as a page. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "report/chart.h"
#include "report/report_pictures.h"

static const char style[] =
    "<style>\n"
    ":root{--ink:#111827;--grey:#6b7280;--line:#e5e7eb;--soft:#f9fafb}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;color:var(--ink);background:#fff;"
    "font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1120px;margin:0 auto;padding:48px 24px 72px}\n"
    "h1{font-size:30px;line-height:1.2;margin:0 0 10px;letter-spacing:-.01em}\n"
    "h2{font-size:19px;margin:44px 0 12px}\n"
    "p{max-width:76ch;margin:0 0 12px}.note{color:var(--grey);font-size:14px}\n"
    ".sheet{display:block;max-width:100%;height:auto;border:1px solid var(--line);border-radius:10px}\n"
    ".scroll{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;min-width:100%}\n"
    "th{font-weight:600;color:var(--grey);font-size:13px;text-align:right;border-bottom:2px solid "
    "var(--line)}\n"
    "th,td{padding:6px 9px;white-space:nowrap}th{white-space:normal;vertical-align:bottom}\n"
    "td{text-align:right;border-bottom:1px solid var(--line)}\n"
    "th:first-child,td:first-child,th.left,td.left{text-align:left}\n"
    "tr.ceiling td{color:var(--grey)}td.best{font-weight:700}"
    ".interval{font-weight:400;color:var(--grey);font-size:12px}\n"
    ".swatch{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:9px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(360px,1fr));gap:18px}\n"
    ".charts svg{width:100%;height:auto;border:1px solid var(--line);border-radius:10px;"
    "background:#fff}\n"
    "svg text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:var(--grey)}\n"
    "svg text.title{font-size:14px;font-weight:600;fill:var(--ink)}\n"
    "footer{margin-top:48px;padding-top:16px;border-top:1px solid var(--line);color:var(--grey);"
    "font-size:14px}\n"
    "</style>\n";

/* ---- colours ---- */

static bool same_model(const sp_row *a, const sp_row *b)
{
    return strcmp(a->model, b->model) == 0 && strcmp(a->sampler, b->sampler) == 0;
}

/* One for each model and sampler, in the order of their first rows; splam and lcm have their own. */
static const char *colour_of(const sp_evaluation_report *r, const sp_row *row)
{
    static const char *const palette[] = {"#6b7280", "#059669", "#a855f7",
                                          "#dc2626", "#0891b2", "#84cc16"};
    if (strcmp(row->model, "splam") == 0) return "#2563eb";
    if (strcmp(row->model, "lcm") == 0) return "#d97706";
    size_t index = 0;
    for (const sp_row *other = r->rows; !same_model(other, row); other++)
        if (strcmp(other->model, "splam") && strcmp(other->model, "lcm"))
            index += other == r->rows || !same_model(other - 1, other);
    return palette[index % 6];
}

/* ---- the table ---- */

/* The best of several rows with as many steps. */
static bool is_best(const sp_evaluation_report *r, const sp_row *row, int index)
{
    double value = row->scores.value[index];
    bool rivals = false, higher = sp_column_at(index, NULL)->higher_is_better;
    for (size_t i = 0; i < r->row_count; i++) {
        double other = r->rows[i].scores.value[index];
        if (&r->rows[i] == row || r->rows[i].steps != row->steps || !isfinite(other)) continue;
        rivals = true;
        if (higher ? other > value : other < value) return false;
    }
    return rivals && isfinite(value);
}

static void append_number(sp_string *out, const sp_metric_column *column, double value)
{
    if (!isfinite(value))
        sp_string_append_format(out, "&ndash;");
    else if (column->share)
        sp_string_append_format(out, "%.1f&thinsp;%%", 100 * value);
    else
        sp_string_append_format(out, "%.*f", column->digits, value);
}

static void append_value(sp_string *out, const sp_scores *scores, int index, bool best)
{
    const sp_metric_column *next = sp_column_at(index + 1, NULL);
    sp_string_append_format(out, "<td%s>", best ? " class=\"best\"" : "");
    append_number(out, sp_column_at(index, NULL), scores->value[index]);
    if (next && next->interval && isfinite(scores->value[index + 1])) {
        sp_string_append_format(out, "<span class=\"interval\"> &plusmn;&thinsp;");
        append_number(out, next, scores->value[index + 1]);
        sp_string_append_format(out, "</span>");
    }
    sp_string_append_format(out, "</td>");
}

static void append_row(const sp_evaluation_report *r, const sp_row *row, sp_string *out)
{
    sp_string_append_format(out, "<tr><td><span class=\"swatch\" style=\"background:%s\"></span>",
                            colour_of(r, row));
    sp_html_append(out, row->model);
    sp_string_append_format(out, "</td><td class=\"left\">%s</td><td>%d</td>", row->sampler,
                            row->steps);
    for (int i = 0; sp_column_at(i, NULL); i++)
        if (sp_report_shows(r, i)) append_value(out, &row->scores, i, is_best(r, row, i));
    if (isfinite(row->seconds_per_image))
        sp_string_append_format(out, "<td>%.3f&thinsp;s</td></tr>\n", row->seconds_per_image);
    else
        sp_string_append_format(out, "<td>&ndash;</td></tr>\n");
}

/* The real pictures, decoded: what no model can pass. */
static void append_real_scores(const sp_evaluation_report *r, sp_string *out)
{
    sp_string_append_format(out, "<tr class=\"ceiling\"><td>real pictures</td><td class=\"left\">decoded</td>"
                                 "<td>&ndash;</td>");
    for (int i = 0; sp_column_at(i, NULL); i++)
        if (sp_report_shows(r, i)) append_value(out, &r->evaluation->real_scores, i, false);
    sp_string_append_format(out, "<td>&ndash;</td></tr>\n");
}

static void append_table(const sp_evaluation_report *r, sp_string *out)
{
    const sp_metric_column *column;
    sp_string_append_format(out, "<h2>The numbers</h2>\n<div class=\"scroll\"><table>\n<tr><th>model</th>"
                                 "<th class=\"left\">sampler</th><th>steps</th>");
    for (int i = 0; (column = sp_column_at(i, NULL)); i++)
        if (sp_report_shows(r, i))
            sp_string_append_format(out, "<th>%s&thinsp;%s</th>", column->label,
                                    column->higher_is_better ? "&uarr;" : "&darr;");
    sp_string_append_format(out, "<th>per image</th></tr>\n");
    for (size_t i = 0; i < r->row_count; i++)
        append_row(r, &r->rows[i], out);
    if (sp_evaluation_has_image_metric(r->evaluation)) append_real_scores(r, out);
    sp_string_append_format(out, "</table></div>\n<p class=\"note\">&darr;: lower is better, &uarr;: higher is "
                                 "better. Bold: the best of the rows with as many steps. &plusmn;: half of a 95 %% "
                                 "interval.</p>\n");
}

/* ---- charts ---- */

enum { MAX_SERIES = 12, MAX_POINTS = 16, LEVEL_STEPS = 16 };

typedef struct {
    sp_series series[MAX_SERIES];
    char name[MAX_SERIES][64];
    double x[MAX_SERIES][MAX_POINTS], y[MAX_SERIES][MAX_POINTS];
    int count;
    double steps[MAX_POINTS]; /* the different numbers of steps */
    int step_count;
} step_curves;

static void note_steps(step_curves *c, double steps)
{
    for (int i = 0; i < c->step_count; i++)
        if (c->steps[i] == steps) return;
    if (c->step_count < MAX_POINTS) c->steps[c->step_count++] = steps;
}

static sp_series *new_series(const sp_evaluation_report *r, const sp_row *row, step_curves *c)
{
    int i = c->count++;
    if (row->steps > LEVEL_STEPS)
        snprintf(c->name[i], sizeof c->name[i], "%.24s, %d steps", row->model, row->steps);
    else if (strcmp(row->sampler, "lcm") == 0)
        snprintf(c->name[i], sizeof c->name[i], "%.40s", row->model);
    else
        snprintf(c->name[i], sizeof c->name[i], "%.24s, %s", row->model, row->sampler);
    c->series[i] = (sp_series){.name = c->name[i],
                               .colour = colour_of(r, row),
                               .marked = true,
                               .x = c->x[i],
                               .y = c->y[i]};
    return &c->series[i];
}

static void add_point(step_curves *c, sp_series *series, double x, double y)
{
    int i = (int)(series - c->series);
    if (series->count == MAX_POINTS) return;
    c->x[i][series->count] = x;
    c->y[i][series->count++] = y;
}

static void add_level(const sp_evaluation_report *r, const sp_row *row, double value,
                      step_curves *c)
{
    sp_series *level = new_series(r, row, c);
    level->dashed = true;
    level->marked = false;
    for (int i = 0; i < c->step_count; i++)
        add_point(c, level, c->steps[i], value);
}

/* Number `index` of a row, of its columns or of its scores of sets of pictures. */
typedef double value_of(const sp_row *row, int index);

static double column_of(const sp_row *row, int index)
{
    return row->scores.value[index];
}

static double score_of(const sp_row *row, int index)
{
    const sp_score_value *value = sp_report_value(row, index);
    return value ? value->value : NAN;
}

static void add_curve(const sp_evaluation_report *r, size_t first, value_of *value, int index, step_curves *c)
{
    for (size_t i = 0; i < first; i++)
        if (same_model(&r->rows[i], &r->rows[first]) && r->rows[i].steps <= LEVEL_STEPS) return;
    sp_series *curve = new_series(r, &r->rows[first], c);
    for (size_t i = first; i < r->row_count; i++)
        if (same_model(&r->rows[i], &r->rows[first]) && r->rows[i].steps <= LEVEL_STEPS)
            add_point(c, curve, r->rows[i].steps, value(&r->rows[i], index));
}

/* One curve for each model and sampler of a few steps; rows of many steps are levels, where there are any. */
static void collect(const sp_evaluation_report *r, value_of *value_at, int index, bool levels, step_curves *c)
{
    *c = (step_curves){0};
    for (size_t i = 0; i < r->row_count; i++)
        if (r->rows[i].steps <= LEVEL_STEPS) note_steps(c, r->rows[i].steps);
    for (size_t i = 0; i < r->row_count && c->count < MAX_SERIES; i++) {
        double value = value_at(&r->rows[i], index);
        if (!isfinite(value)) continue;
        if (r->rows[i].steps <= LEVEL_STEPS)
            add_curve(r, i, value_at, index, c);
        else if (levels && c->step_count)
            add_level(r, &r->rows[i], value, c);
    }
}

static void append_step_chart(const sp_evaluation_report *r, int index, const sp_metric_column *column, sp_string *out)
{
    step_curves curves;
    const sp_metric *metric = NULL;
    sp_column_at(index, &metric);
    /* Of a metric of maps the teacher's row is a mean over other timesteps. */
    collect(r, column_of, index, metric->features != NULL, &curves);
    const sp_chart chart = {.title = column->chart,
                            .x_label = "steps",
                            .log_x = true,
                            .log_y = column->log_chart,
                            .percent = column->share,
                            .x_ticks = curves.steps,
                            .x_tick_count = curves.step_count,
                            .series = curves.series,
                            .count = curves.count};
    sp_chart_append_svg(&chart, out);
}

static void append_score_chart(const sp_evaluation_report *r, int index, const char *key, sp_string *out)
{
    step_curves curves;
    collect(r, score_of, index, true, &curves);
    const sp_chart chart = {.title = key,
                            .x_label = "steps",
                            .log_x = true,
                            .x_ticks = curves.steps,
                            .x_tick_count = curves.step_count,
                            .series = curves.series,
                            .count = curves.count};
    sp_chart_append_svg(&chart, out);
}

/* The row that gives a model its colour; rows of one model have one label. */
static const sp_row *row_of(const sp_evaluation_report *r, const char *model)
{
    for (size_t i = 0; i < r->row_count; i++)
        if (strcmp(r->rows[i].model, model) == 0) return &r->rows[i];
    return NULL;
}

/* Of all models, on a logarithmic axis, or but for the teacher, whose curve is the first. */
static void append_curve_chart(const sp_evaluation_report *r, bool all, sp_string *out)
{
    static const double ticks[] = {0, 200, 400, 600, 800, 999};
    sp_series series[MAX_SERIES];
    int count = 0;
    for (size_t i = all ? 0 : 1; i < r->curve_count && count < MAX_SERIES; i++) {
        const sp_model_curve *c = &r->curves[i];
        const sp_row *row = row_of(r, c->model);
        series[count++] = (sp_series){.name = c->model,
                                      .colour = row ? colour_of(r, row) : "#111827",
                                      .x = c->curve.t,
                                      .y = c->curve.error,
                                      .count = SP_TRAJECTORY_STEPS};
    }
    const sp_chart chart = {.title = all ? "Trajectory error by timestep" : "The same without the teacher, to scale",
                            .x_label = "timestep t of the point: 999 noise, 0 the picture",
                            .log_y = all,
                            .x_ticks = ticks,
                            .x_tick_count = sizeof ticks / sizeof *ticks,
                            .series = series,
                            .count = count};
    sp_chart_append_svg(&chart, out);
}

static void append_curves(const sp_evaluation_report *r, sp_string *out)
{
    if (!r->curve_count) return;
    sp_string_append_format(
        out, "<h2>Error along the trajectory</h2>\n<p>Each model is shown the points of the teacher's own path from "
             "noise (right) to picture (left) and says in one evaluation where the path leads; the line is how far off "
             "it is. The lower a model's line the better it knows the path from there, and one that knows it exactly "
             "has 0 everywhere. The teacher's line is what a jump of its own would miss.</p>\n"
             "<div class=\"charts\">\n");
    append_curve_chart(r, true, out);
    append_curve_chart(r, false, out);
    sp_string_append_format(out, "</div>\n");
}

/* The losses as they are, faint, and their running mean. */
static sp_status append_loss_chart(const sp_evaluation_report *r, sp_string *out)
{
    static const char *const palette[] = {"#d97706", "#2563eb", "#059669", "#a855f7"};
    enum { MOST = 4 };
    sp_series series[2 * MOST];
    double *mean[MOST] = {0};
    int count = 0;
    sp_status status = SP_OK;
    for (size_t i = 0; i < r->loss_count && i < MOST && !status; i++) {
        const sp_loss_curve *c = &r->losses[i];
        const char *colour = strcmp(c->name, "splam") == 0 ? palette[1]
                             : strcmp(c->name, "lcm") == 0 ? palette[0]
                                                           : palette[i];
        mean[i] = sp_alloc((size_t)(c->count + 1) * sizeof(double));
        if (!mean[i]) {
            status = SP_MEMORY;
            break;
        }
        for (int64_t k = 0; k < c->count; k++) {
            double share = fmax(1.0 / (double)(k + 1), 0.05);
            mean[i][k] = k ? mean[i][k - 1] + share * (c->loss[k] - mean[i][k - 1]) : c->loss[k];
        }
        series[count++] = (sp_series){
            .colour = colour, .faint = true, .x = c->step, .y = c->loss, .count = c->count};
        series[count++] = (sp_series){
            .name = c->name, .colour = colour, .x = c->step, .y = mean[i], .count = c->count};
    }
    const sp_chart chart = {.title = "Training loss (each method's own target)",
                            .x_label = "training step",
                            .log_y = true,
                            .series = series,
                            .count = count};
    if (!status) sp_chart_append_svg(&chart, out);
    for (int i = 0; i < MOST; i++)
        sp_free(mean[i]);
    return status;
}

static sp_status append_charts(const sp_evaluation_report *r, sp_string *out)
{
    sp_string_append_format(out, "<h2>The curves</h2>\n<div class=\"charts\">\n");
    const sp_metric_column *column;
    for (int i = 0; (column = sp_column_at(i, NULL)); i++)
        if (column->chart) append_step_chart(r, i, column, out);
    const sp_score_value *value;
    for (int i = 0; r->row_count && (value = sp_report_value(&r->rows[0], i)); i++)
        append_score_chart(r, i, value->key, out);
    sp_status status = append_loss_chart(r, out);
    sp_string_append_format(out, "</div>\n");
    return status;
}

/* ---- the words ---- */

static void append_json_value(const json_t *value, sp_string *out)
{
    if (json_is_string(value))
        sp_html_append(out, json_string_value(value));
    else if (json_is_number(value))
        sp_string_append_format(out, "%.6g", json_number_value(value));
    else
        sp_string_append_format(out, json_is_true(value) ? "yes" : value ? "no" : "&ndash;");
}

/* One column a model, one line a setting, in the order of the first model that has it. */
static void append_settings(const sp_evaluation_report *r, sp_string *out)
{
    json_t *settings = (json_t *)(uintptr_t)r->settings;
    if (json_object_size(settings) == 0) return;
    sp_string_append_format(out, "<h2>How the students were made</h2>\n<div "
                                 "class=\"scroll\"><table>\n<tr><th>setting</th>");
    const char *model, *key, *other;
    json_t *object, *value, *rest;
    json_object_foreach(settings, model, object)
    {
        sp_string_append_format(out, "<th>");
        sp_html_append(out, model);
        sp_string_append_format(out, "</th>");
    }
    sp_string_append_format(out, "</tr>\n");
    json_object_foreach(settings, model, object) json_object_foreach(object, key, value)
    {
        bool shown = false;
        json_object_foreach(settings, other, rest)
        {
            if (rest == object) break;
            shown |= json_object_get(rest, key) != NULL;
        }
        if (shown) continue;
        sp_string_append_format(out, "<tr><td>");
        sp_html_append(out, key);
        sp_string_append_format(out, "</td>");
        json_object_foreach(settings, other, rest)
        {
            sp_string_append_format(out, "<td>");
            append_json_value(json_object_get(rest, key), out);
            sp_string_append_format(out, "</td>");
        }
        sp_string_append_format(out, "</tr>\n");
    }
    sp_string_append_format(out, "</table></div>\n");
}

static void append_method(const sp_evaluation_report *r, sp_string *out)
{
    const sp_evaluation *e = r->evaluation;
    sp_string_append_format(out,
                            "<h2>How it was measured</h2>\n<p>Every row draws the same %lld "
                            "captions from the same noise",
                            (long long)e->count);
    if (e->held_out_count)
        sp_string_append_format(out,
                                "; %lld of them are unseen: their pictures and captions were "
                                "left out of all training",
                                (long long)e->held_out_count);
    sp_string_append_format(out, ". Pictures are rounded to 8 bits before they are judged.</p>\n");
    const sp_metric *metric;
    for (int k = 0; (metric = sp_metric_at(k)); k++)
        if (e->metrics & 1u << k) metric->explain(e, r->guidance_scale_w, out);
}

static sp_status append_page(const sp_evaluation_report *r, sp_string *out)
{
    sp_string_append_format(out,
                            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                            "<meta name=\"viewport\" content=\"width=device-width, "
                            "initial-scale=1\">\n<title>");
    sp_html_append(out, r->title);
    sp_string_append_format(out, "</title>\n%s</head><body><main>\n<h1>", style);
    sp_html_append(out, r->title);
    sp_string_append_format(out, "</h1>\n<p>");
    sp_html_append(out, r->summary);
    sp_string_append_format(out, "</p>\n");
    if (r->sheet) {
        sp_string_append_format(out,
                                "<h2>The pictures</h2>\n<img class=\"sheet\" alt=\"%s\" src=\"",
                                "one row a model and number of steps, one column a caption");
        SP_TRY(sp_image_append_data_uri(r->sheet, out));
        sp_string_append_format(out, "\">\n");
    }
    append_curves(r, out);
    append_table(r, out);
    SP_TRY(sp_report_append_pictures(r, out));
    SP_TRY(append_charts(r, out));
    append_method(r, out);
    append_settings(r, out);
    sp_string_append_format(out,
                            "<footer>splam %s &middot; seed %llu &middot; %.0f s in all &middot; "
                            "peak memory %.0f MB &middot; data ",
                            r->version, (unsigned long long)r->seed, r->seconds_total,
                            (double)r->peak_rss_bytes / 1e6);
    sp_html_append(out, r->evaluation->source);
    sp_string_append_format(out, "</footer>\n</main></body></html>\n");
    return SP_OK;
}

sp_status sp_report_save_html(const sp_evaluation_report *r, const char *folder)
{
    sp_string page = {0};
    char *path = sp_path_join(folder, "report.html");
    sp_status status = path ? append_page(r, &page) : SP_MEMORY;
    if (!status && page.failed) status = SP_MEMORY;
    if (!status) status = sp_write_file(path, page.data, page.length);
    sp_string_free(&page);
    sp_free(path);
    return status;
}
