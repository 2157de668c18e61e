/* Choosing the fastest form of each convolution, for the table that is compiled in. */
#include <inttypes.h>
#include <math.h>
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/kernel_table.h"
#include "base/parallel.h"
#include "base/text.h"
#include "bench/bench.h"
#include "bench/op_cases.h"

enum { MAX_LAYERS = 256 }; /* of the cases, of each type */

enum { LEAST_TURNS = 3, MOST_TURNS = 25 };
static const double seconds_of_case = 1.5; /* that all its forms are measured for, once each has had its turns */

/* One case in every form that it can take, timed in turns: what else the machine does meets all alike. */
typedef struct {
    sp_op_trial *form[SP_CONVOLUTION_FORM_COUNT]; /* NULL: none */
    sp_bench_times times[SP_CONVOLUTION_FORM_COUNT];
} contest;

static void contest_end(contest *c)
{
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++)
        if (c->form[form]) sp_op_trial_destroy(c->form[form]);
}

static sp_status contest_begin(contest *c, const sp_op_case *of, sp_dtype dtype, const sp_convolution_row *layer)
{
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++) {
        if (!sp_convolution_allows((sp_convolution_form)form, layer)) continue;
        sp_status status =
            sp_op_trial_create(of, sp_cpu_device_with((sp_convolution_form)form), dtype, false, &c->form[form]);
        if (status == SP_UNSUPPORTED) continue; /* the form does not fit */
        SP_TRY(status);
        SP_TRY(sp_op_trial_run(c->form[form])); /* to warm up */
    }
    return SP_OK;
}

static sp_status contest_run(contest *c, const sp_callbacks *callbacks)
{
    double spent = 0;
    for (int turn = 0; turn < LEAST_TURNS || (turn < MOST_TURNS && spent < seconds_of_case); turn++)
        for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++) {
            if (!c->form[form]) continue;
            SP_TRY(sp_check_cancelled(callbacks));
            double began = sp_now();
            SP_TRY(sp_op_trial_run(c->form[form]));
            spent += c->times[form].run[turn] = sp_now() - began;
            c->times[form].count = turn + 1;
        }
    return SP_OK;
}

static void append_row(sp_string *out, const sp_convolution_row *r)
{
    static const char *const forms[] = {
#define X(name, text) #name,
        SP_CONVOLUTION_FORM_LIST(X)
#undef X
    };
    sp_string_append_format(out, "ROW(%s, %" PRId64 ", %" PRId64 ", %" PRId64 ", %s, %s)",
                            r->dtype == SP_BF16 ? "BF16" : "F32", r->positions, r->C, r->M,
                            r->doubled ? "true" : "false", forms[r->form]);
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

/* The fastest form, and the median times of all as a comment. */
static void append_result(sp_string *out, sp_convolution_row layer, const contest *c)
{
    double seconds[SP_CONVOLUTION_FORM_COUNT];
    int best = SP_CONVOLUTION_DIRECT;
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++) {
        seconds[form] = c->form[form] ? sp_bench_median(&c->times[form]) : INFINITY;
        if (seconds[form] < seconds[best]) best = form;
    }
    layer.form = (sp_convolution_form)best;
    append_row(out, &layer);
    sp_string_append_format(out, "\n    /*");
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++)
        if (c->form[form])
            sp_string_append_format(out, " %s %.3g ms", sp_convolution_form_name((sp_convolution_form)form),
                                    seconds[form] * 1e3);
    sp_string_append_format(out, " */\n");
}

/* Rows that are there already stay where this machine would not use them. */
static bool keeps_row(const sp_convolution_row *row)
{
    return row->isa == sp_cpu_isa() && row->dtype == SP_BF16 && sp_cpu_uses_amx();
}

static sp_status tune_case(tuning *t, const sp_op_case *of, sp_dtype dtype)
{
    sp_convolution_row layer = {0};
    bool has_choice;
    SP_TRY(layer_of(of, dtype, &layer, &has_choice));
    for (int i = 0; i < t->count && has_choice; i++)
        has_choice = !sp_convolution_same_layer(&t->done[i], &layer);
    if (!has_choice || keeps_row(&layer) || t->count == 2 * MAX_LAYERS) return SP_OK;
    t->done[t->count++] = layer;
    contest c = {0};
    sp_status status = contest_begin(&c, of, dtype, &layer);
    if (!status) status = contest_run(&c, t->callbacks);
    if (!status) append_result(t->out, layer, &c);
    contest_end(&c);
    return status;
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
                            "/* Which form of a 3x3 convolution was the fastest on %s, and the median times of all in\n"
                            " * turns. Written by `splam bench --tune --threads %d`. */\n",
                            machine, sp_threads());
    for (size_t i = 0; i < sp_convolution_table_count; i++)
        if (keeps_row(&sp_convolution_table[i])) {
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
