/* SPLAM_PROFILE: time and share of the peak of every kind of step. */
#include "graph/profile.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "graph/graph_internal.h"
#include "graph/plan_internal.h"

struct sp_profile {
    const sp_plan *plan;
    bool shapes;
    double *seconds; /* by step */
    int64_t *calls;
};

typedef struct {
    int stage;
    const char *op, *kernel;
    sp_dtype dtype; /* bf16 if any input is */
    char shapes[96];
    int64_t calls;
    double seconds, flops, bytes;
} row;

sp_profile *sp_profile_create(const sp_plan *plan)
{
    const char *wanted = getenv("SPLAM_PROFILE");
    if (!wanted || !*wanted) return NULL;
    sp_profile *profile = sp_alloc_zero(sizeof *profile);
    if (!profile) return NULL;
    size_t count = (size_t)plan->step_count + 1;
    *profile = (sp_profile){.plan = plan,
                            .shapes = strcmp(wanted, "shapes") == 0,
                            .seconds = sp_alloc_zero(count * sizeof *profile->seconds),
                            .calls = sp_alloc_zero(count * sizeof *profile->calls)};
    if (profile->seconds && profile->calls) return profile;
    sp_profile_destroy(profile);
    return NULL;
}

void sp_profile_destroy(sp_profile *profile)
{
    if (!profile) return;
    sp_free(profile->seconds);
    sp_free(profile->calls);
    sp_free(profile);
}

void sp_profile_add(sp_profile *profile, int step, double seconds)
{
    profile->seconds[step] += seconds;
    profile->calls[step]++;
}

void sp_profile_forget(sp_profile *profile)
{
    size_t count = (size_t)profile->plan->step_count;
    memset(profile->seconds, 0, count * sizeof *profile->seconds);
    memset(profile->calls, 0, count * sizeof *profile->calls);
}

/* ---- rows ---- */

static double step_bytes(const sp_plan *plan, const sp_step *step)
{
    const sp_node *node = step->node;
    size_t bytes = 0;
    if (step->packs_input >= 0)
        return (double)(sp_value_bytes(node->in[step->packs_input]) +
                        plan->kernels[step->kernel].packing[step->packs_input].bytes);
    for (int i = 0; i < node->inputs; i++)
        bytes += sp_value_bytes(node->in[i]);
    for (int i = 0; i < node->outputs; i++)
        bytes += sp_value_bytes(node->out[i]);
    return (double)bytes;
}

static row row_of(const sp_profile *profile, int s)
{
    const sp_step *step = &profile->plan->steps[s];
    const sp_node *node = step->node;
    bool packs = step->packs_input >= 0;
    row r = {.stage = step->stage,
             .op = packs ? "pack" : node->op->name,
             .kernel = profile->plan->kernels[step->kernel].name,
             .dtype = SP_F32,
             .calls = profile->calls[s],
             .seconds = profile->seconds[s],
             .bytes = (double)profile->calls[s] * step_bytes(profile->plan, step)};
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i] && node->in[i]->dtype == SP_BF16) r.dtype = SP_BF16;
    if (!packs && node->op->flops) r.flops = (double)r.calls * node->op->flops(node);
    if (profile->shapes) sp_plan_step_shapes(profile->plan, s, r.shapes, sizeof r.shapes);
    return r;
}

static bool alike(const row *a, const row *b)
{
    return a->stage == b->stage && a->dtype == b->dtype && strcmp(a->op, b->op) == 0 &&
           strcmp(a->kernel, b->kernel) == 0 && strcmp(a->shapes, b->shapes) == 0;
}

static int slower_first(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->stage != y->stage) return x->stage - y->stage;
    return x->seconds < y->seconds ? 1 : x->seconds > y->seconds ? -1 : 0;
}

/* Rows into `rows`, which has room for one per step; *total is their sum. Returns their number. */
static int collect(const sp_profile *profile, row *rows, row *total)
{
    int count = 0;
    *total = (row){.op = "all", .kernel = ""};
    for (int s = 0; s < profile->plan->step_count; s++) {
        if (!profile->calls[s]) continue;
        row next = row_of(profile, s);
        int i = 0;
        while (i < count && !alike(&rows[i], &next))
            i++;
        if (i == count) rows[count++] = (row){0};
        next.calls += rows[i].calls;
        next.seconds += rows[i].seconds;
        next.flops += rows[i].flops;
        next.bytes += rows[i].bytes;
        rows[i] = next;
        total->calls += profile->calls[s];
        total->seconds += profile->seconds[s];
    }
    qsort(rows, (size_t)count, sizeof *rows, slower_first);
    return count;
}

/* ---- the table ---- */

static void print_row(const row *r, double total, const sp_peak *peak)
{
    double share = sp_peak_share(peak, r->dtype, r->flops, r->bytes, r->seconds);
    char text[16] = "";
    if (share > 0) snprintf(text, sizeof text, "%4.0f%%", 100 * share);
    sp_log_info("%-22s %-36s %-5s %7lld %9.3f %6.1f%% %8.1f %7.1f %7s  %s", r->op, r->kernel,
                sp_dtype_name(r->dtype), (long long)r->calls, r->seconds,
                total > 0 ? 100 * r->seconds / total : 0,
                r->seconds > 0 ? r->flops / r->seconds * 1e-9 : 0,
                r->seconds > 0 ? r->bytes / r->seconds * 1e-9 : 0, text, r->shapes);
}

/* The weight sets tell the runs of a program apart. */
static void print_head(const sp_plan *plan, const row *total, const sp_peak *peak)
{
    char sets[128] = "";
    const char *last = NULL;
    for (int i = 0; i < plan->parameter_count; i++) {
        const char *set = plan->parameters[i]->set;
        if (last && strcmp(last, set) == 0) continue;
        size_t length = strlen(sets);
        snprintf(sets + length, sizeof sets - length, "%s%s", last ? ", " : "", set);
        last = set;
    }
    sp_log_info("profile of %s: %.3f s in kernels", *sets ? sets : "a graph without weights",
                total->seconds);
    if (peak->f32_flops > 0)
        sp_log_info("peak, measured now: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, memory %.1f GB/s",
                    peak->f32_flops * 1e-9, peak->bf16_flops * 1e-9, peak->bytes * 1e-9);
    sp_log_info("%-22s %-36s %-5s %7s %9s %7s %8s %7s %7s", "operator", "kernel", "dtype", "calls",
                "seconds", "share", "GFLOP/s", "GB/s", "peak");
}

/* Rows of one stage begin here. */
static void print_stage(const sp_plan *plan, const row *rows, int count, double total)
{
    double seconds = 0;
    for (int i = 0; i < count && rows[i].stage == rows->stage; i++)
        seconds += rows[i].seconds;
    if (plan->stage_count > 1)
        sp_log_info("stage %s: %.3f s, %.1f%%", plan->stages[rows->stage], seconds,
                    total > 0 ? 100 * seconds / total : 0);
}

void sp_profile_print(const sp_profile *profile)
{
    const sp_plan *plan = profile->plan;
    sp_peak peak = {0};
    row total, *rows = sp_alloc_zero(((size_t)plan->step_count + 1) * sizeof *rows);
    if (!rows) return;
    int count = collect(profile, rows, &total);
    if (count && plan->device->measure_peak)
        plan->device->measure_peak(plan->device, &peak);
    if (count) print_head(plan, &total, &peak);
    for (int i = 0; i < count; i++) {
        if (i == 0 || rows[i].stage != rows[i - 1].stage)
            print_stage(plan, rows + i, count - i, total.seconds);
        print_row(&rows[i], total.seconds, &peak);
    }
    sp_free(rows);
}
