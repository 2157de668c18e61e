/* The operators at Stable Diffusion's shapes and the demo's. */
#include <string.h>

#include "bench/bench.h"
#include "bench/op_cases.h"

/* A reference kernel with more work than this is left out: minutes would say nothing new. */
static const double reference_limit = 5e8;

static double node_bytes(const sp_node *node)
{
    size_t bytes = 0;
    for (int i = 0; i < node->inputs; i++)
        bytes += sp_value_bytes(node->in[i]);
    for (int i = 0; i < node->outputs; i++)
        bytes += sp_value_bytes(node->out[i]);
    return (double)bytes;
}

static sp_status run_trial(void *context)
{
    return sp_op_trial_run(context);
}

static sp_status measure(const sp_op_case *c, const sp_op_trial *trial, sp_dtype dtype,
                         const sp_peak *peak, const sp_callbacks *callbacks, json_t *rows)
{
    const sp_node *node = sp_op_trial_node(trial);
    const char *kernel = sp_op_trial_kernel(trial);
    double flops = node->op->flops ? node->op->flops(node) : 0, bytes = node_bytes(node);
    sp_bench_times times;
    bool slow = strcmp(kernel, "reference") == 0 && (flops > reference_limit || flops == 0);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "op", c->op->name, "case", c->name, "dtype",
                            sp_dtype_name(dtype), "kernel", kernel);
    sp_status status = row ? SP_OK : SP_MEMORY;
    if (!status && !slow) {
        status = sp_bench_repeat(run_trial, (void *)(uintptr_t)trial, 0.2, callbacks, &times);
        double seconds = sp_bench_median(&times);
        if (!status &&
            (json_object_set_new(row, "seconds", json_real(seconds)) ||
             json_object_set_new(row, "gflops", json_real(flops / seconds * 1e-9)) ||
             json_object_set_new(row, "gigabytes_per_second", json_real(bytes / seconds * 1e-9)) ||
             json_object_set_new(
                 row, "share_of_peak",
                 json_real(sp_peak_share(peak, dtype, flops, bytes, seconds)))))
            status = SP_MEMORY;
    }
    if (status)
        json_decref(row);
    else if (json_array_append_new(rows, row))
        status = SP_MEMORY;
    return status;
}

static bool wanted(const sp_op_case *c, const char *op)
{
    return c->large && (!op || strstr(c->op->name, op));
}

sp_status sp_bench_operators(sp_device *device, const char *op, const sp_peak *peak,
                             const sp_callbacks *callbacks, json_t *rows)
{
    static const sp_dtype dtypes[] = {SP_F32, SP_BF16};
    int64_t total = 0, done = 0;
    for (int i = 0; i < sp_op_case_count; i++)
        total += wanted(&sp_op_cases[i], op);
    if (!total)
        return sp_fail(SP_ARGUMENT, "no operator that is measured has \"%s\" in its name", op);
    for (int i = 0; i < sp_op_case_count; i++) {
        const sp_op_case *c = &sp_op_cases[i];
        if (!wanted(c, op)) continue;
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
            sp_op_trial *trial;
            SP_TRY(sp_op_trial_create(c, device, dtypes[d], false, &trial));
            sp_status status = measure(c, trial, dtypes[d], peak, callbacks, rows);
            sp_op_trial_destroy(trial);
            SP_TRY(status);
        }
        sp_report(callbacks, "operators", ++done, total, c->op->name);
    }
    return SP_OK;
}
