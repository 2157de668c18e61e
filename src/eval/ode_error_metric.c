/* The metric ode-error: see eval/ode_error.h. */
#include <math.h>
#include "eval/metric.h"
#include "eval/ode_error.h"

static sp_status score(const sp_measured *m, double *out)
{
    return sp_ode_error(m->latents, m->references, out);
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e;
    if (!isfinite(guidance_scale_w)) return;
    sp_string_append_format(
        out,
        "<p><b>ode-error</b> is the mean squared difference, per element of the latent, between where a few steps end "
        "and where the teacher's guided 50-step DDIM chain (999, 979, &hellip;, 19, clean; guidance w = %g) ends from "
        "the same noise and caption. Consistency models are judged on their deterministic chain, others as they are "
        "sampled.</p>\n",
        guidance_scale_w);
}

static const sp_metric_column columns[] = {
    {.key = "ode_error", .label = "ode-error", .chart = "ode-error by number of steps", .digits = 4, .log_chart = true},
};

const sp_metric sp_ode_error_metric = {
    .name = "ode-error",
    .columns = columns,
    .column_count = 1,
    .score = score,
    .explain = explain,
};
