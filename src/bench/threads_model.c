/* A model of the schedule: what share of each step of a plan one thread has at most when so many work, from the splits
 * that the loops themselves make (sp_record_splits). A step takes as long as all that is outside its loops, and of each
 * loop the largest share. */
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "bench/bench.h"
#include "bench/model_run.h"

/* Steps of one rate, operator, kernel and shape. */
typedef struct {
    sp_rate rate;
    const char *op, *kernel;
    char shapes[96];
    int64_t calls, loops, items; /* items and share: of the longest loop */
    double share;
    double seconds, model; /* of one thread, and of many */
    double lost;           /* of `model`, by shares that are not equal */
    bool library;          /* computes in loops that are not ours */
} row;

typedef struct {
    sp_plan *plan;
    sp_split_record split;
    double began; /* the step that runs */
    bool slow;    /* steps of slower rates are of interest, else those of each step */
    row *rows;    /* room for one a step and the update's two */
    int count;
} watch;

static const char *const rate_names[SP_RATE_COUNT] = {
    [SP_RATE_RUN] = "weights", [SP_RATE_PROMPT] = "prompt", [SP_RATE_STEP] = "step"};

/* ---- watching ---- */

static void begin_step(watch *w)
{
    sp_split_record_clear(&w->split);
    w->began = sp_thread_seconds();
}

static bool alike(const row *a, const row *b)
{
    return a->rate == b->rate && strcmp(a->op, b->op) == 0 && strcmp(a->kernel, b->kernel) == 0 &&
           strcmp(a->shapes, b->shapes) == 0;
}

/* What ran since begin_step as one more call of a row like `made`. */
static void end_step(watch *w, row made)
{
    const sp_split_record *split = &w->split;
    double seconds = sp_thread_seconds() - w->began;
    made.loops = split->loops;
    made.items = split->items;
    made.share = split->loops ? split->share : 1;
    made.library = split->library;
    int i = 0;
    while (i < w->count && !alike(&w->rows[i], &made))
        i++;
    if (i == w->count) w->rows[w->count++] = made;
    w->rows[i].calls++;
    w->rows[i].seconds += seconds;
    w->rows[i].model += seconds - split->seconds + split->critical;
}

static sp_status after_step(void *context, int step)
{
    watch *w = context;
    sp_plan_step s = sp_plan_step_at(w->plan, step);
    if ((s.rate != SP_RATE_STEP) == w->slow) {
        row r = {.rate = s.rate,
                 .op = s.packs_input >= 0 ? "pack" : s.node->op->name,
                 .kernel = s.kernel};
        sp_plan_step_shapes(w->plan, step, r.shapes, sizeof r.shapes);
        end_step(w, r);
    }
    begin_step(w);
    return SP_OK;
}

static sp_status watch_update(watch *w, sp_model_run *run)
{
    double norm;
    begin_step(w);
    SP_TRY(sp_model_run_norm(run, &norm));
    end_step(w, (row){.rate = SP_RATE_STEP, .op = "norm of the gradient", .kernel = "optimizer"});
    begin_step(w);
    SP_TRY(sp_model_run_update(run, norm));
    end_step(w, (row){.rate = SP_RATE_STEP, .op = "update of weights", .kernel = "optimizer"});
    return SP_OK;
}

/* Once for what is made of weights and prompts, which touches fresh memory too, and once for the steps. */
static sp_status watch_runs(watch *w, sp_model_run *run, const sp_callbacks *callbacks)
{
    w->plan = run->plan;
    w->rows = sp_alloc_zero(((size_t)sp_plan_step_count(run->plan) + 2) * sizeof *w->rows);
    if (!w->rows) return SP_MEMORY;
    sp_run_set_poll(run->run, after_step, w);
    sp_status status = SP_OK;
    for (int pass = 0; pass < 2 && !status; pass++) {
        w->slow = pass == 0;
        begin_step(w);
        status = sp_model_run_execute(run, callbacks);
    }
    sp_run_set_poll(run->run, NULL, NULL);
    return status || !run->updates ? status : watch_update(w, run);
}

/* ---- the report ---- */

static int most_lost_first(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->rate != y->rate) return (int)y->rate - (int)x->rate;
    return x->lost < y->lost ? 1 : x->lost > y->lost ? -1 : 0;
}

static double efficiency(double seconds, double model, int threads)
{
    return model > 0 ? seconds / (threads * model) : 1;
}

static json_t *row_object(const row *r, int threads)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f}", "rate", rate_names[r->rate], "operator",
                               r->op, "kernel", r->kernel, "shapes", r->shapes, "calls", (json_int_t)r->calls, "loops",
                               (json_int_t)r->loops, "items", (json_int_t)r->items, "seconds", r->seconds);
    if (r->library || !object) return object;
    json_t *rest = json_pack("{s:f, s:f, s:f, s:b}", "largest_share", r->share, "model_seconds", r->model, "efficiency",
                             efficiency(r->seconds, r->model, threads), "alone", r->share >= 1);
    bool failed = !rest || json_object_update(object, rest);
    json_decref(rest);
    if (!failed) return object;
    json_decref(object);
    return NULL;
}

/* Of all rows of one rate; NULL where there are none. */
static json_t *summary(const watch *w, sp_rate rate)
{
    double known = 0, model = 0, library = 0, alone = 0;
    json_int_t loops = 0, rows = 0;
    for (int i = 0; i < w->count; i++) {
        const row *r = &w->rows[i];
        if (r->rate != rate) continue;
        rows++;
        loops += r->loops * r->calls;
        if (r->library) {
            library += r->seconds;
            continue;
        }
        known += r->seconds;
        model += r->model;
        if (r->share >= 1) alone += r->model;
    }
    return !rows ? NULL
                 : json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "seconds", known, "model_seconds", model, "efficiency",
                             efficiency(known, model, w->split.threads), "alone_seconds", alone, "library_seconds",
                             library, "loops", loops);
}

static sp_status store(watch *w, const char *name, json_t *out)
{
    json_t *part = json_object(), *rows = json_array();
    for (int i = 0; i < w->count; i++)
        w->rows[i].lost = w->rows[i].library ? 0 : w->rows[i].model - w->rows[i].seconds / w->split.threads;
    qsort(w->rows, (size_t)w->count, sizeof *w->rows, most_lost_first);
    bool failed = !part || !rows;
    for (int i = 0; i < w->count && !failed; i++)
        failed = json_array_append_new(rows, row_object(&w->rows[i], w->split.threads)) != 0;
    for (int rate = SP_RATE_COUNT - 1; rate >= 0 && !failed; rate--) {
        json_t *of_rate = summary(w, (sp_rate)rate);
        if (of_rate) failed = json_object_set_new(part, rate_names[rate], of_rate) != 0;
    }
    failed = failed || json_object_set(part, "rows", rows) ||
             json_object_set(json_object_get(out, "parts"), name, part);
    json_decref(rows);
    json_decref(part);
    return failed ? SP_MEMORY : SP_OK;
}

static sp_status model_part(const sp_work_model *model, const sp_model_part *part, const splam_bench_options *o,
                            const sp_callbacks *callbacks, json_t *report)
{
    const char *absent = sp_model_part_absent(model, part);
    if (absent) return sp_bench_leave_out(report, part->name, absent);
    watch w = {.split = {.threads = (int)o->threads_model}};
    sp_model_run run;
    sp_record_splits(&w.split);
    sp_status status = sp_model_run_create(model, part, o, &run);
    if (!status) status = watch_runs(&w, &run, callbacks);
    sp_model_run_free(&run);
    sp_record_splits(NULL);
    if (!status) status = store(&w, part->name, json_object_get(report, "threads_model"));
    sp_free(w.rows);
    sp_report(callbacks, part->name, 1, 1, NULL);
    return status == SP_MEMORY ? sp_bench_leave_out(report, part->name, sp_error_message()) : status;
}

sp_status sp_bench_threads(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks,
                           json_t *report)
{
    sp_work_model model;
    json_t *object = json_pack("{s:I, s:{}}", "threads", (json_int_t)o->threads_model, "parts");
    if (json_object_set_new(report, "threads_model", object)) return SP_MEMORY;
    SP_TRY(sp_work_model_open(o->model, NULL, device, &model));
    sp_status status = sp_work_model_resize(&model, o->width, o->height);
    for (int i = 0; i < sp_model_part_count && !status; i++) {
        const sp_model_part *part = &sp_model_parts[i];
        bool chosen = !o->only || strcmp(o->only, part->train ? "train" : "generate") == 0;
        if (chosen && sp_bench_wants(o, part->name) && !sp_model_part_is_other(&model, part))
            status = model_part(&model, part, o, callbacks, report);
    }
    sp_work_model_close(&model);
    return status;
}

/* ---- for people ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void append_summary(const json_t *part, const char *rate, double threads, sp_string *out)
{
    const json_t *s = json_object_get(part, rate);
    if (!s) return;
    double seconds = number(s, "seconds"), model = number(s, "model_seconds"), library = number(s, "library_seconds");
    sp_string_append_format(out,
                            "  %-8s %9.4f s on one thread, %9.5f s on %.0f, which is %.1f%% of ideal; %.0f loops; "
                            "%.1f%% of that time in steps of which one thread does all\n",
                            rate, seconds, model, threads, 100 * number(s, "efficiency"), number(s, "loops"),
                            model > 0 ? 100 * number(s, "alone_seconds") / model : 0);
    if (library > 0)
        sp_string_append_format(out, "  %-8s %9.4f s more in oneDNN on one thread, whose split is not known\n", "",
                                library);
}

static void append_row(const json_t *r, double threads, sp_string *out)
{
    sp_string_append_format(out, "%-8s %-24s %-32s %5.0f %5.0f %8.0f ", text(r, "rate"), text(r, "operator"),
                            text(r, "kernel"), number(r, "calls"), number(r, "loops"), number(r, "items"));
    if (json_object_get(r, "largest_share"))
        sp_string_append_format(out, "%7.2f%% %7.2f%% %9.1f%% %9.3f %9.3f  %s%s\n", 100 * number(r, "largest_share"),
                                100 / threads, 100 * number(r, "efficiency"), 1e3 * number(r, "seconds"),
                                1e3 * number(r, "model_seconds"), text(r, "shapes"),
                                json_is_true(json_object_get(r, "alone")) ? "  ONE THREAD DOES ALL" : "");
    else
        sp_string_append_format(out, "%8s %8s %10s %9.3f %9s  %s\n", "?", "", "?", 1e3 * number(r, "seconds"), "?",
                                text(r, "shapes"));
}

void sp_bench_threads_append(const json_t *report, sp_string *out)
{
    json_t *model = json_object_get(report, "threads_model"), *part, *r;
    double threads = number(model, "threads");
    const char *name;
    size_t i;
    if (!model) return;
    sp_string_append_format(out,
                            "work as %.0f threads would share it, from the splits of the loops, run on one thread; "
                            "memory, caches and waiting at the ends of loops are not in it\n",
                            threads);
    json_object_foreach(json_object_get(model, "parts"), name, part)
    {
        sp_string_append_format(out, "\n%s\n", name);
        for (int rate = SP_RATE_COUNT - 1; rate >= 0; rate--)
            append_summary(part, rate_names[rate], threads, out);
        sp_string_append_format(out, "%-8s %-24s %-32s %5s %5s %8s %8s %8s %10s %9s %9s  %s\n", "rate", "operator",
                                "kernel", "calls", "loops", "items", "share", "ideal", "efficiency", "ms", "ms then",
                                "shapes");
        json_array_foreach(json_object_get(part, "rows"), i, r)
        {
            append_row(r, threads, out);
        }
    }
}
