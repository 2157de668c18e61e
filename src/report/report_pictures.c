/* Scores of sets of pictures on the page. */
#include "report/report_pictures.h"
#include <math.h>
#include <string.h>
#include "report/chart.h"

/* ---- the table ---- */

static void append_cell(sp_string *out, double value)
{
    if (isfinite(value))
        sp_string_append_format(out, "<td>%.5g</td>", value);
    else
        sp_string_append_format(out, "<td>&ndash;</td>");
}

static void append_value(sp_string *out, const sp_score_value *v)
{
    sp_string_append_format(out, "<td>%.5g", v->value);
    if (!isnan(v->deviation)) sp_string_append_format(out, " &plusmn;&thinsp;%.2g", v->deviation);
    if (v->interval)
        sp_string_append_format(out, "<br><span class=\"note\">%.5g&ndash;%.5g</span>", v->interval->low,
                                v->interval->high);
    sp_string_append_format(out, "</td>");
}

static void append_row(const sp_row *row, int64_t count, sp_string *out)
{
    const sp_score_value *value;
    sp_string_append_format(out, "<tr><td>");
    sp_html_append(out, row->model);
    sp_string_append_format(out, "</td><td class=\"left\">%s</td><td>%d</td><td>%lld</td>", row->sampler, row->steps,
                            (long long)count);
    for (int i = 0; (value = sp_report_value(row, i)); i++)
        append_value(out, value);
    sp_string_append_format(out, "</tr>\n");
}

/* In the columns of the same measure. */
static void append_published(const sp_row *row, const sp_protocol *protocol, const sp_published *p, sp_string *out)
{
    const sp_score_value *value;
    sp_string_append_format(out, "<tr class=\"ceiling\"><td>");
    sp_html_append(out, p->work);
    sp_string_append_format(out, "</td><td class=\"left\">published</td><td>%d</td><td>%lld</td>", p->steps,
                            (long long)protocol->count);
    for (int i = 0; (value = sp_report_value(row, i)); i++)
        append_cell(out, strcmp(value->key, "fid") == 0          ? p->fid
                         : strcmp(value->key, "clip_score") == 0 ? p->clip
                                                                 : NAN);
    sp_string_append_format(out, "</tr>\n");
}

static void append_table(const sp_evaluation_report *r, sp_string *out)
{
    const sp_score_value *value;
    const sp_row *first = &r->rows[0];
    sp_string_append_format(out, "<div class=\"scroll\"><table>\n<tr><th>model</th><th class=\"left\">sampler</th>"
                                 "<th>steps</th><th>n</th>");
    for (int i = 0; (value = sp_report_value(first, i)); i++)
        sp_string_append_format(out, "<th>%s</th>", value->key);
    sp_string_append_format(out, "</tr>\n");
    for (size_t i = 0; i < r->row_count; i++)
        append_row(&r->rows[i], r->evaluation->count, out);
    for (size_t i = 0; r->protocol && i < r->protocol->published_count; i++)
        append_published(first, r->protocol, &r->protocol->published[i], out);
    sp_string_append_format(out, "</table></div>\n");
}

/* ---- how ---- */

static void append_fact(const json_t *object, const char *key, const char *name, sp_string *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) && !json_is_integer(value)) return;
    sp_string_append_format(out, "<tr><td>%s</td><td class=\"left\">", name);
    if (json_is_string(value))
        sp_html_append(out, json_string_value(value));
    else
        sp_string_append_format(out, "%lld", (long long)json_integer_value(value));
    sp_string_append_format(out, "</td></tr>\n");
}

/* Files of weights, by their hashes, whatever networks there are. */
static void append_hashes(const json_t *report, sp_string *out)
{
    const char *key;
    json_t *value, *all = (json_t *)(uintptr_t)report;
    json_object_foreach(all, key, value)
    {
        const char *end = strstr(key, "_sha256");
        if (end && !end[7] && strcmp(key, "captions_sha256") != 0) append_fact(report, key, key, out);
    }
}

static void append_facts(const sp_evaluation_report *r, sp_string *out)
{
    const json_t *scores = r->rows[0].report;
    sp_string_append_format(out, "<div class=\"scroll\"><table>\n");
    append_fact(r->pictures, "captions", "captions", out);
    append_fact(r->pictures, "captions_rule", "of them", out);
    append_fact(r->pictures, "captions_sha256", "their SHA-256", out);
    append_fact(r->pictures, "seeds", "noise", out);
    append_fact(r->pictures, "size", "pixels of a side", out);
    append_fact(r->pictures, "real", "real pictures", out);
    append_fact(scores, "count_b", "of them", out);
    append_fact(scores, "transform", "transform, of both", out);
    append_fact(scores, "convention", "convention", out);
    append_fact(scores, "clip_prefix", "before captions", out);
    append_hashes(scores, out);
    sp_string_append_format(out, "</table></div>\n");
}

static void append_words(const sp_evaluation_report *r, sp_string *out)
{
    const json_t *notes = json_object_get(r->pictures, "notes");
    if (r->protocol) {
        sp_string_append_format(out, "<p><b>%s</b>: ", r->protocol->name);
        sp_html_append(out, r->protocol->words);
        sp_string_append_format(out, ". Grey: figures as they were published, of the n that stands there; how their "
                                     "captions, crop and library were chosen is not said by all of them.</p>\n");
    }
    for (size_t i = 0; i < json_array_size(notes); i++) {
        sp_string_append_format(out, "<p><b>Note:</b> ");
        sp_html_append(out, json_string_value(json_array_get(notes, i)));
        sp_string_append_format(out, ".</p>\n");
    }
}

/* ---- the best and the worst ---- */

static sp_status append_extremes(const sp_evaluation_report *r, sp_string *out)
{
    bool any = false;
    for (size_t i = 0; i < r->row_count; i++) {
        const sp_row *row = &r->rows[i];
        if (!row->extremes) continue;
        if (!any) sp_string_append_format(out, "<h2>The best and the worst by CLIP score</h2>\n");
        any = true;
        sp_string_append_format(out, "<p>");
        sp_html_append(out, row->model);
        sp_string_append_format(out, ", %s, %d step%s</p>\n<img class=\"sheet\" alt=\"best and worst pictures\" src=\"",
                                row->sampler, row->steps, row->steps == 1 ? "" : "s");
        SP_TRY(sp_image_append_data_uri(row->extremes, out));
        sp_string_append_format(out, "\">\n");
    }
    return SP_OK;
}

sp_status sp_report_append_pictures(const sp_evaluation_report *r, sp_string *out)
{
    if (!r->pictures || !r->row_count) return SP_OK;
    sp_string_append_format(out, "<h2>The pictures as others measure them</h2>\n");
    append_words(r, out);
    append_table(r, out);
    append_facts(r, out);
    return append_extremes(r, out);
}
