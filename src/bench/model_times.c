/* A model's own work: evaluations, decoding, gradients, whole steps, prompt to picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/model_run.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/system.h"
#include "base/text.h"
#include "checkpoints/model_folder.h"
#include "pipeline/session.h"

bool sp_bench_wants(const splam_bench_options *o, const char *name)
{
    return !o->part || strstr(name, o->part);
}

/* ---- memory ---- */

/* Lets the peak begin anew; false where the kernel does not offer that. */
static bool reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return false;
    bool written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

/* ---- results ---- */

sp_status sp_bench_leave_out(json_t *out, const char *name, const char *why)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %s", name, why);
    json_t *list = json_object_get(out, "left_out");
    return json_array_append_new(list, json_string(text)) ? SP_MEMORY : SP_OK;
}

static sp_status store(json_t *out, const char *name, const sp_bench_times *times, bool has_peak)
{
    char key[64];
    json_t *runs = json_array();
    snprintf(key, sizeof key, "%s_seconds", name);
    for (int i = 0; i < times->count; i++)
        if (json_array_append_new(runs, json_real(times->run[i]))) {
            json_decref(runs);
            return SP_MEMORY;
        }
    if (json_object_set_new(json_object_get(out, "runs"), name, runs) ||
        json_object_set_new(out, key, json_real(sp_bench_median(times))))
        return SP_MEMORY;
    int64_t peak = has_peak ? sp_proc_bytes("/proc/self/status", "VmHWM") : -1;
    if (peak < 0) return SP_OK;
    return json_object_set_new(json_object_get(out, "peak_rss_bytes"), name, json_integer(peak))
               ? SP_MEMORY
               : SP_OK;
}

/* ---- parts ---- */

typedef struct {
    sp_model_run run;
    bool warm; /* it ran once, which is not timed */
    const sp_callbacks *callbacks;
} timed_part;

/* A whole step is what one optimiser step takes once latents and conditioning are there. */
static sp_status run_part(void *context)
{
    timed_part *t = context;
    double norm;
    SP_TRY(sp_model_run_execute(&t->run, t->callbacks));
    if (!t->warm) sp_run_forget_profile(t->run.run);
    t->warm = true;
    if (!t->run.updates) return SP_OK;
    SP_TRY(sp_model_run_norm(&t->run, &norm));
    return sp_model_run_update(&t->run, norm);
}

static sp_status time_part(const sp_work_model *model, const sp_model_part *part, const splam_bench_options *o,
                           const sp_callbacks *callbacks, json_t *out)
{
    timed_part t = {.callbacks = callbacks};
    sp_bench_times times;
    const char *absent = sp_model_part_absent(model, part);
    if (absent) return sp_bench_leave_out(out, part->name, absent);
    bool has_peak = reset_peak();
    sp_status status = sp_model_run_create(model, part, o, &t.run);
    if (!status) status = sp_bench_repeat(run_part, &t, 2, callbacks, &times);
    if (!status) status = store(out, part->name, &times, has_peak);
    sp_model_run_free(&t.run);
    sp_report(callbacks, part->name, 1, 1, NULL);
    return status == SP_MEMORY ? sp_bench_leave_out(out, part->name, sp_error_message()) : status;
}

static sp_status time_parts(const splam_bench_options *o, sp_device *device, bool train, const sp_callbacks *callbacks,
                            json_t *out)
{
    sp_work_model model;
    SP_TRY(sp_work_model_open(o->model, NULL, device, &model));
    sp_status status = sp_work_model_resize(&model, o->width, o->height);
    bool quantised = !train && o->weights && strcmp(o->weights, "q8") == 0;
    if (!status && quantised) status = sp_work_model_quantise(&model);
    for (int i = 0; i < sp_model_part_count && !status; i++)
        if (sp_model_parts[i].train == train && sp_bench_wants(o, sp_model_parts[i].name) &&
            !sp_model_part_is_other(&model, &sp_model_parts[i]))
            status = time_part(&model, &sp_model_parts[i], o, callbacks, out);
    sp_work_model_close(&model);
    return status;
}

/* ---- prompt to picture ---- */

#define STAGES(X) X(load) X(text) X(denoise) X(decode) X(write)

typedef struct {
    splam_generate_options options;
    sp_callbacks callbacks; /* to be stopped by, not to report to */
    splam_generate_seconds last;
    int count;
#define X(stage) sp_bench_times stage;
    STAGES(X)
#undef X
} generation;

/* The first of SP_BENCH_MOST_RUNS + 1 runs is the warm-up and not kept. */
static sp_status generate(void *context)
{
    generation *g = context;
    SP_TRY(sp_generate_once(&g->options, &g->callbacks));
    if (g->count++ == 0) return SP_OK;
#define X(stage) g->stage.run[g->stage.count++] = g->last.stage;
    STAGES(X)
#undef X
    return SP_OK;
}

static sp_status store_stages(json_t *out, const generation *g)
{
    json_t *stages = json_object();
    bool failed = false;
#define X(stage)                                                                                   \
    failed |= json_object_set_new(stages, #stage, json_real(sp_bench_median(&g->stage))) != 0;
    STAGES(X)
#undef X
    failed |= json_object_set_new(out, "generate_stage_seconds", stages) != 0;
    return failed ? SP_MEMORY : SP_OK;
}

static bool is_whole(const char *model)
{
    static const char *const parts[] = {"vae", "text_encoder", "tokenizer", "scheduler"};
    sp_model_folder folder;
    if (sp_model_folder_open(model, &folder)) return false;
    bool whole = sp_model_folder_has(&folder, "unet") || sp_model_folder_has(&folder, "transformer");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        whole = whole && sp_model_folder_has(&folder, parts[i]);
    sp_model_folder_close(&folder);
    return whole;
}

/* Weights are loaded every time; the picture goes to a folder that is removed again. */
static sp_status time_generate(const splam_bench_options *o, const sp_callbacks *callbacks,
                               json_t *out)
{
    if (!is_whole(o->model)) return sp_bench_leave_out(out, "generate", "the model has not all parts");
    char folder[] = "/tmp/splam-bench-XXXXXX";
    if (!mkdtemp(folder)) return sp_fail(SP_IO, "/tmp: a folder could not be made");
    char *path = sp_path_join(folder, "out.png");
    generation g = {.options = splam_generate_defaults(),
                    .callbacks = {callbacks->context, NULL, callbacks->cancelled}};
    g.options.model = o->model;
    g.options.prompt = "a lighthouse in a storm";
    g.options.steps = 4;
    g.options.guidance = 1;
    g.options.width = o->width;
    g.options.height = o->height;
    g.options.weights = o->weights;
    g.options.precision = o->precision;
    g.options.device = o->device;
    g.options.output = path;
    g.options.seconds = &g.last;
    sp_bench_times times;
    bool has_peak = reset_peak();
    sp_status status = path ? sp_bench_repeat(generate, &g, 2, callbacks, &times) : SP_MEMORY;
    if (!status) status = store(out, "generate", &times, has_peak);
    if (!status) status = store_stages(out, &g);
    sp_free(path);
    sp_remove_tree(folder);
    sp_report(callbacks, "generate", 1, 1, NULL);
    return status;
}

sp_status sp_bench_generate(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks,
                            json_t *out)
{
    SP_TRY(time_parts(o, device, false, callbacks, out));
    return sp_bench_wants(o, "generate") ? time_generate(o, callbacks, out) : SP_OK;
}

sp_status sp_bench_train(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks, json_t *out)
{
    return time_parts(o, device, true, callbacks, out);
}
