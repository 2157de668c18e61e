/* The metric trajectory-error: see pipeline/trajectory.h. */
#include <math.h>
#include "eval/metric.h"

static sp_status score(const sp_measured *m, double *out)
{
    out[0] = m->own;
    out[1] = sp_error_curve_mean(m->curve);
    return SP_OK;
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e;
    if (!isfinite(guidance_scale_w)) return;
    sp_string_append_format(
        out,
        "<p><b>Trajectory error</b> follows the teacher's guided 50-step DDIM chain (999, 979, &hellip;, 19, clean; "
        "guidance w = %g) from the same noise and caption. At a point z<sub>t</sub> of it the model makes one "
        "evaluation, f(z<sub>t</sub>, t), and the error is the mean squared difference per element of the latent "
        "between this and where the chain itself leads from there: its end, or for models that are made to step to a "
        "timestep u &gt; 0 (tcd, pcm, progressive) its point at u. A model that follows the trajectories exactly has 0 "
        "at every t. A row has the mean over the timesteps that its sampler asks at, the column beside it the mean "
        "over all 50. Compare rows of as many steps, for later points are easier, and models that lead as far: a hop "
        "over one of four phases is easier than one to the end. For the teacher and other models that are no students, "
        "f is the clean estimate of one evaluation: it says how curved their trajectories are, not how well a solver "
        "follows them.</p>\n",
        guidance_scale_w);
}

static const sp_metric_column columns[] = {
    {.key = "trajectory_error",
     .label = "trajectory-error",
     .chart = "Trajectory error at the timesteps of so many steps",
     .digits = 4,
     .log_chart = true},
    {.key = "trajectory_error_mean", .label = "its mean", .digits = 4},
};

const sp_metric sp_trajectory_error_metric = {
    .name = "trajectory-error",
    .columns = columns,
    .column_count = sizeof columns / sizeof *columns,
    .reference = SP_REFERENCE_TRAJECTORY,
    .score = score,
    .explain = explain,
};
