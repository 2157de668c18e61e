/* What is measured, and the report. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernel_table.h"
#include "backend/registry.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/text.h"
#include "ops/ops.h"

/* ---- support ---- */

static void append_support(sp_string *out)
{
    sp_string_append_format(out, "%-28s %-44s %s\n", "operator", "f32", "bf16");
    for (int i = 0; i < sp_all_ops_count; i++) {
        const sp_op *op = sp_all_ops[i];
        if (op->flags & SP_OP_VIEW)
            sp_string_append_format(out, "%-28s %-44s %s\n", op->name, "(a view)", "(a view)");
        else
            sp_string_append_format(out, "%-28s %-44s %s\n", op->name, sp_cpu_support(op, SP_F32),
                                    sp_cpu_support(op, SP_BF16));
    }
}

/* ---- the report as an object ---- */

static sp_status processor(char *out, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (!colon) continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file) fclose(file);
    return SP_OK;
}

static json_t *new_report(const splam_bench_options *o, const sp_device *device)
{
    char name[256];
    processor(name, sizeof name);
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:I, s:{}, s:{}, s:[]}", "version", SPLAM_VERSION, "processor",
        name, "instruction_set", sp_cpu_uses_amx() ? "amx" : sp_isa_name(sp_cpu_isa()), "threads", sp_threads(),
        "precision", sp_precision_dtype(device, o->precision) == SP_BF16 ? "bf16" : "f32", "train_batch_size",
        (json_int_t)o->train_batch_size, "runs", "peak_rss_bytes", "left_out");
    if (report && o->model && json_object_set_new(report, "model", json_string(o->model))) {
        json_decref(report);
        return NULL;
    }
    return report;
}

static sp_status measure_operators(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks,
                                   json_t *report)
{
    sp_peak peak;
    json_t *rows = json_array();
    device->measure_peak(device, &peak);
    json_t *limits =
        json_pack("{s:f, s:f, s:f}", "f32_gflops", peak.f32_flops * 1e-9, "bf16_gflops",
                  peak.bf16_flops * 1e-9, "gigabytes_per_second", peak.bytes * 1e-9);
    if (json_object_set_new(report, "peak", limits) ||
        json_object_set_new(report, "operators", rows))
        return SP_MEMORY;
    return sp_bench_operators(device, o->op, &peak, callbacks, rows);
}

static bool wants(const splam_bench_options *o, const char *part)
{
    return !o->only || strcmp(o->only, part) == 0;
}

static sp_status measure(const splam_bench_options *o, sp_device *device, const sp_callbacks *callbacks,
                         json_t *report)
{
    if (o->threads_model) return sp_bench_threads(o, device, callbacks, report);
    if (o->model && wants(o, "generate")) SP_TRY(sp_bench_generate(o, device, callbacks, report));
    if (o->model && wants(o, "train")) SP_TRY(sp_bench_train(o, device, callbacks, report));
    /* Who asks for a part of a model does not ask for the operators. */
    if (wants(o, "operators") && (o->only || !o->part))
        SP_TRY(measure_operators(o, device, callbacks, report));
    return SP_OK;
}

/* ---- the same for people ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static void append_stages(json_t *report, sp_string *out)
{
    const char *stage;
    json_t *seconds;
    const char *before = "  (";
    json_object_foreach(json_object_get(report, "generate_stage_seconds"), stage, seconds)
    {
        sp_string_append_format(out, "%s%s %.3f", before, stage, json_number_value(seconds));
        before = ", ";
    }
    sp_string_append_format(out, ")");
}

static void append_parts(json_t *report, sp_string *out)
{
    const char *key;
    json_t *value;
    json_object_foreach(report, key, value)
    {
        if (!sp_ends_with(key, "_seconds") || !json_is_number(value)) continue;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(strlen(key) - strlen("_seconds")), key);
        double peak = number(json_object_get(report, "peak_rss_bytes"), name);
        sp_string_append_format(out, "%-24s %10.4f s", name, json_number_value(value));
        if (peak > 0) sp_string_append_format(out, "  peak RSS %.2f GB", peak * 1e-9);
        if (strcmp(name, "generate") == 0) append_stages(report, out);
        sp_string_append_format(out, "\n");
    }
    size_t index;
    json_array_foreach(json_object_get(report, "left_out"), index, value)
    {
        sp_string_append_format(out, "not measured: %s\n", json_string_value(value));
    }
}

static void append_operators(const json_t *report, sp_string *out)
{
    const json_t *peak = json_object_get(report, "peak");
    size_t index;
    json_t *row;
    if (!peak) return;
    sp_string_append_format(
        out,
        "peak: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, memory %.1f GB/s (register loops and a walk through memory, all "
        "threads, measured now)\n\n"
        "%-26s %-30s %-5s %-44s %10s %8s %7s %6s\n",
        number(peak, "f32_gflops"), number(peak, "bf16_gflops"),
        number(peak, "gigabytes_per_second"), "operator", "case", "dtype", "kernel", "ms",
        "GFLOP/s", "GB/s", "share");
    json_array_foreach(json_object_get(report, "operators"), index, row)
    {
        sp_string_append_format(out, "%-26s %-30s %-5s %-44s ", text(row, "op"), text(row, "case"),
                                text(row, "dtype"), text(row, "kernel"));
        if (json_object_get(row, "seconds"))
            sp_string_append_format(out, "%10.3f %8.1f %7.1f %5.0f%%\n",
                                    1e3 * number(row, "seconds"), number(row, "gflops"),
                                    number(row, "gigabytes_per_second"),
                                    100 * number(row, "share_of_peak"));
        else
            sp_string_append_format(out, "not measured: too slow\n");
    }
}

static void append_report(json_t *report, sp_string *out)
{
    sp_string_append_format(out, "%s, %s, %.0f threads", text(report, "processor"),
                            text(report, "instruction_set"), number(report, "threads"));
    if (*text(report, "model"))
        sp_string_append_format(out, "; %s in %s", text(report, "model"),
                                text(report, "precision"));
    sp_string_append_format(out, "\n");
    append_parts(report, out);
    append_operators(report, out);
    sp_bench_threads_append(report, out);
}

static sp_status check(const splam_bench_options *o)
{
    static const char *const parts[] = {"generate", "train", "operators"};
    bool known = !o->only;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !known; i++)
        known = strcmp(o->only, parts[i]) == 0;
    if (!known)
        return sp_fail(SP_ARGUMENT, "\"%s\" is none of generate, train and operators", o->only);
    if (o->part && !o->model)
        return sp_fail(SP_ARGUMENT, "measuring \"%s\" needs a model", o->part);
    if ((o->width != SPLAM_UNSET || o->height != SPLAM_UNSET) && !o->model)
        return sp_fail(SP_ARGUMENT, "`%s` is of a model's pictures, and there is no model",
                       o->width != SPLAM_UNSET ? "width" : "height");
    if (o->threads_model && (o->support || o->tune))
        return sp_fail(SP_ARGUMENT, "`threads_model` is of a model's parts, `support` and `tune` are of operators");
    if (o->threads_model && (!o->model || (o->only && strcmp(o->only, "operators") == 0)))
        return sp_fail(SP_ARGUMENT, "`threads_model` is of a model's parts: it needs a model, and there is none of the "
                                    "operators alone");
    if (o->only && !o->model && strcmp(o->only, "operators") != 0)
        return sp_fail(SP_ARGUMENT, "measuring \"%s\" needs a model", o->only);
    return SP_OK;
}

static sp_status measure_and_say(const splam_bench_options *o, const sp_callbacks *callbacks, sp_string *out)
{
    SP_TRY(check(o));
    if (o->support) {
        append_support(out);
        return SP_OK;
    }
    if (o->tune) {
        char name[256];
        processor(name, sizeof name);
        return sp_bench_tune(name, callbacks, out);
    }
    sp_device *device;
    SP_TRY(sp_device_of(o->device, &device));
    json_t *report = new_report(o, device);
    if (!report) return sp_fail(SP_MEMORY, "out of memory for the report");
    sp_status status = measure(o, device, callbacks, report);
    if (!status && o->json) {
        char *json = json_dumps(report, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        if (json) sp_string_append_format(out, "%s\n", json);
        if (!json) status = SP_MEMORY;
        sp_json_text_free(json);
    } else if (!status) {
        append_report(report, out);
    }
    json_decref(report);
    return status;
}

sp_status sp_bench(const splam_bench_options *o, const sp_callbacks *callbacks, char **report)
{
    sp_string out = {0};
    sp_status status = measure_and_say(o, callbacks, &out);
    if (!status && out.failed) status = SP_MEMORY;
    if (status)
        sp_string_free(&out);
    else
        *report = out.data;
    return status;
}
