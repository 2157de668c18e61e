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

static json_t *scores_object(const sp_scores *s)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "frechet", number(s->frechet), "hit1",
                     number(s->hit1), "hit5", number(s->hit5), "hit1_heldout",
                     number(s->hit1_heldout), "hit5_heldout", number(s->hit5_heldout));
}

static json_t *row_object(const sp_row *row)
{
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:o, s:o}", "model", row->model, "sampler", row->sampler,
                  "steps", row->steps, "ode_error", number(row->ode_error), "seconds_per_image",
                  number(row->seconds_per_image));
    json_t *scores = scores_object(&row->scores);
    if (object && scores && json_object_update(object, scores) == 0) {
        json_decref(scores);
        return object;
    }
    json_decref(object);
    json_decref(scores);
    return NULL;
}

static const char features[] =
    "frechet_vae, not FID: Frechet distance of the autoencoder's latents of the 8-bit pictures, "
    "average-pooled to 4x4, between the drawn pictures and those that the prompts name; hits: nearest "
    "real picture by the same latents pooled to 8x8, pictures drawn alike counting as one";

sp_status sp_report_save_json(const sp_evaluation_report *r, const char *folder)
{
    const sp_evaluation *e = r->evaluation;
    json_t *rows = json_array();
    bool complete = rows != NULL;
    for (size_t i = 0; i < r->row_count && complete; i++)
        complete = json_array_append_new(rows, row_object(&r->rows[i])) == 0;
    json_t *report = json_pack(
        "{s:O*, s:o*, s:s, s:s, s:I, s:I, s:o, s:f, s:I, s:o, s:s}", "rows", rows, "ceiling",
        scores_object(&e->ceiling), "features", features, "data", sp_dataset_spec(e->dataset),
        "prompts", (json_int_t)e->count, "prompts_heldout", (json_int_t)e->heldout_count,
        "guidance_w", number(r->guidance_w), "seconds_total", r->seconds_total, "peak_rss_bytes",
        (json_int_t)r->peak_rss_bytes, "seed", sp_json_seed(r->seed), "version", r->version);
    json_decref(rows);
    if (report && r->settings)
        complete &= json_object_set_new(report, "settings", json_deep_copy(r->settings)) == 0;
    char *path = sp_path_join(folder, "report.json");
    sp_status status = report && complete && path ? sp_json_save(path, report) : SP_MEMORY;
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

static void append_share(sp_string *out, int width, double share)
{
    if (isfinite(share))
        sp_string_append_format(out, "%*.1f%%", width - 1, 100 * share);
    else
        sp_string_append_format(out, "%*s", width, "-");
}

static void append_scores(sp_string *out, const sp_scores *s)
{
    append_cell(out, 9, 3, s->frechet);
    append_share(out, 7, s->hit1);
    append_share(out, 7, s->hit5);
    append_share(out, 10, s->hit1_heldout);
}

void sp_report_table(const sp_evaluation_report *r, sp_string *out)
{
    sp_string_say(out, "%-12.12s %-8s%6s%10s%9s%7s%7s%10s%8s\n", "model", "sampler",
                            "steps", "ode-error", "frechet", "hit@1", "hit@5", "unseen@1",
                            "s/image");
    for (size_t i = 0; i < r->row_count; i++) {
        const sp_row *row = &r->rows[i];
        sp_string_say(out, "%-12.12s %-8s%6d", row->model, row->sampler, row->steps);
        append_cell(out, 10, 4, row->ode_error);
        append_scores(out, &row->scores);
        append_cell(out, 8, 3, row->seconds_per_image);
        sp_string_append(out, "\n", 1);
    }
    if (!isfinite(r->evaluation->ceiling.frechet) && !isfinite(r->evaluation->ceiling.hit1)) return;
    sp_string_say(out, "%-37s", "real pictures through the VAE");
    append_scores(out, &r->evaluation->ceiling);
    sp_string_append(out, "\n", 1);
}
