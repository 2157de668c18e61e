/* Choosing the fastest form of each convolution, for the table that is compiled in. */
#include <inttypes.h>
#include <math.h>

#include "bench/bench.h"
#include "backend/cpu/convolution_choice.h"
#include "base/text.h"
#include "bench/op_cases.h"

enum { MAX_LAYERS = 256 }; /* of the cases, of each type */

static sp_status run_trial(void *context)
{
    return sp_op_trial_run(context);
}

/* Seconds of the case in one form; INFINITY where it does not fit or is not allowed. */
static sp_status time_form(const sp_op_case *c, sp_convolution_form form, sp_dtype dtype,
                           const sp_callbacks *callbacks, const sp_convolution_row *layer,
                           double *seconds)
{
    sp_op_trial *trial;
    *seconds = INFINITY;
    if (!sp_convolution_allows(form, layer)) return SP_OK;
    sp_status status = sp_op_trial_create(c, sp_cpu_device_with(form), dtype, false, &trial);
    if (status == SP_UNSUPPORTED) return SP_OK;
    SP_TRY(status);
    sp_bench_times times;
    status = sp_bench_repeat(run_trial, trial, 0.5, callbacks, &times);
    *seconds = sp_bench_median(&times);
    sp_op_trial_destroy(trial);
    return status;
}

static void append_row(sp_string *out, const sp_convolution_row *r)
{
    static const char *const forms[] = {
#define X(name, text) #name,
        SP_CONVOLUTION_FORM_LIST(X)
#undef X
    };
    static const char *const isas[] = {
#define X(name, text) #name,
        SP_ISA_LIST(X)
#undef X
    };
    sp_string_append_format(out, "ROW(%s, %s, %" PRId64 ", %" PRId64 ", %" PRId64 ", %s, %s)",
                            isas[r->isa], r->dtype == SP_BF16 ? "BF16" : "F32", r->positions, r->C,
                            r->M, r->doubled ? "true" : "false", forms[r->form]);
}

/* The layer of a case; cases that differ in their sums alone have the same. */
static sp_status layer_of(const sp_op_case *c, sp_dtype dtype, sp_convolution_row *layer,
                          bool *has_choice)
{
    sp_op_trial *trial;
    SP_TRY(sp_op_trial_create(c, sp_cpu_device(), dtype, false, &trial));
    *has_choice = sp_convolution_describe(sp_op_trial_node(trial), layer);
    sp_op_trial_destroy(trial);
    return SP_OK;
}

typedef struct {
    sp_convolution_row done[2 * MAX_LAYERS];
    int count;
    const sp_callbacks *callbacks;
    sp_string *out;
} tuning;

static sp_status tune_case(tuning *t, const sp_op_case *c, sp_dtype dtype)
{
    double seconds[SP_CONVOLUTION_FORM_COUNT];
    sp_convolution_row layer = {0};
    int best = SP_CONVOLUTION_DIRECT;
    bool has_choice;
    SP_TRY(layer_of(c, dtype, &layer, &has_choice));
    for (int i = 0; i < t->count && has_choice; i++)
        has_choice = !sp_convolution_same_layer(&t->done[i], &layer);
    if (!has_choice || t->count == 2 * MAX_LAYERS) return SP_OK;
    t->done[t->count++] = layer;
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++) {
        SP_TRY(
            time_form(c, (sp_convolution_form)form, dtype, t->callbacks, &layer, &seconds[form]));
        if (seconds[form] < seconds[best]) best = form;
    }
    layer.form = (sp_convolution_form)best;
    append_row(t->out, &layer);
    sp_string_append_format(t->out, "\n    /*");
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++)
        if (!isinf(seconds[form]))
            sp_string_append_format(t->out, " %s %.3g ms",
                                    sp_convolution_form_name((sp_convolution_form)form),
                                    seconds[form] * 1e3);
    sp_string_append_format(t->out, " */\n");
    return SP_OK;
}

static bool wanted(const sp_op_case *c)
{
    return c->large && c->op == &sp_op_conv2d;
}

sp_status sp_bench_tune(const char *machine, const sp_callbacks *callbacks, sp_string *out)
{
    static const sp_dtype dtypes[] = {SP_F32, SP_BF16};
    tuning t = {.callbacks = callbacks, .out = out};
    int64_t total = 0, done = 0;
    for (int i = 0; i < sp_op_case_count; i++)
        total += wanted(&sp_op_cases[i]);
    sp_string_append_format(out,
                            "/* Which form of a 3x3 convolution was the fastest, and the times of "
                            "all. Written by `splam bench\n * --tune`; last on %s. */\n",
                            machine);
    for (size_t i = 0; i < sp_convolution_table_count; i++)
        if (sp_convolution_table[i].isa != sp_cpu_isa()) {
            append_row(out, &sp_convolution_table[i]);
            sp_string_append_format(out, "\n");
        }
    for (int i = 0; i < sp_op_case_count; i++) {
        if (!wanted(&sp_op_cases[i])) continue;
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
            SP_TRY(tune_case(&t, &sp_op_cases[i], dtypes[d]));
        sp_report(callbacks, "convolutions", ++done, total, sp_op_cases[i].name);
    }
    return SP_OK;
}
