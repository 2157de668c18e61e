/* Measuring: `splam bench` and its parts. Each adds to a JSON object, from which the table for people is made as
 * well. */
#ifndef SP_BENCH_BENCH_H
#define SP_BENCH_BENCH_H
#include "backend/precision.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text.h"
#include "graph/device.h"
#include <splam/eval.h>

/* As splam_bench, of options that are checked; *report is new. */
sp_status sp_bench(const splam_bench_options *options, const sp_callbacks *callbacks, char **report);

/* ---- the parts ---- */

enum { SP_BENCH_LEAST_RUNS = 3, SP_BENCH_MOST_RUNS = 50 };

/* Seconds of each run, in order. */
typedef struct {
    double run[SP_BENCH_MOST_RUNS];
    int count;
} sp_bench_times;
double sp_bench_median(const sp_bench_times *times);

/* Runs `body` once to warm up, then until `seconds` are spent, within the bounds above. body may be
 * stopped by callbacks. */
typedef sp_status sp_bench_body(void *context);
sp_status sp_bench_repeat(sp_bench_body *body, void *context, double seconds,
                          const sp_callbacks *callbacks, sp_bench_times *out);

/* Appends an object per operator case and dtype to `rows`. op: NULL, or part of an operator's name. */
sp_status sp_bench_operators(sp_device *device, const char *op, const sp_peak *peak,
                             const sp_callbacks *callbacks, json_t *rows);

/* Appends the text of src/backend/cpu/convolution_table/ISA.inc, ISA being the instruction set in use, with what is the
 * fastest on this machine, with as many threads as are in use. Where AMX multiplies bf16, rows of bf16 stay as they are
 * compiled in. */
sp_status sp_bench_tune(const char *machine, const sp_callbacks *callbacks, sp_string *out);

/* Whether options->part asks for a part of that name. */
bool sp_bench_wants(const splam_bench_options *options, const char *name);
/* Adds "NAME: WHY" to out.left_out. */
sp_status sp_bench_leave_out(json_t *out, const char *name, const char *why);

/* Adds NAME_seconds, runs.NAME and peak_rss_bytes.NAME of the model's parts that options->part asks
 * for to `out`, and to out.left_out why something is not there; of generating also
 * generate_stage_seconds. */
sp_status sp_bench_generate(const splam_bench_options *options, sp_device *device, const sp_callbacks *callbacks,
                            json_t *out);
sp_status sp_bench_train(const splam_bench_options *options, sp_device *device, const sp_callbacks *callbacks,
                         json_t *out);

/* How the model's parts are shared out over options->threads_model threads: adds out.threads_model (docs/formats.md),
 * made by running each step on one thread as that many would share it. */
sp_status sp_bench_threads(const splam_bench_options *options, sp_device *device, const sp_callbacks *callbacks,
                           json_t *out);
/* The same for people. */
void sp_bench_threads_append(const json_t *report, sp_string *out);

#endif
