/* The metrics frechet and frechet-teacher: the Frechet distance (eval/frechet.h) of the pictures' latents, pooled to
 * 4 x 4 places, to the real pictures and to the teacher's own. */
#include <math.h>
#include "eval/frechet_interval.h"
#include "eval/metric.h"
#include "eval/vae_features.h"

static sp_status score(const sp_measured *m, double *out)
{
    const sp_frechet_side drawn = {.features = m->features}, real = {.features = m->reference};
    sp_interval interval;
    SP_TRY(sp_frechet_of_sides(&drawn, &real, &out[0]));
    SP_TRY(sp_frechet_interval(&drawn, &real, out[0], NULL, &interval));
    out[1] = interval.high - out[0];
    return SP_OK;
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e, (void)guidance_scale_w;
    sp_string_append_format(
        out, "<p><b>Frechet distance</b> is that of normal distributions fitted to the autoencoder's own latents, "
             "average-pooled to 4&times;4 places, of the drawn pictures and of those that the captions name, with the "
             "95 %% interval that other pictures of the same kinds would give. It can be compared within this page "
             "only, and is not FID, which takes Inception's weights, pt_inception-2015-12-05-6726825d.pth "
             "(pytorch-fid's inception.py has its address): <code>splam eval --metrics fid --inception FILE</code>."
             "</p>\n");
}

static const sp_metric_column columns[] = {
    {.key = "frechet", .label = "frechet", .chart = "Frechet distance by number of steps", .digits = 3,
     .log_chart = true},
    {.key = "frechet_interval", .digits = 3, .page_only = true, .interval = true},
};

const sp_metric sp_frechet_metric = {
    .name = "frechet",
    .columns = columns,
    .column_count = 2,
    .reference = SP_REFERENCE_NAMED,
    .features = sp_features_of_sets,
    .score = score,
    .explain = explain,
};

/* ---- to the teacher's ---- */

static void explain_teacher(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e;
    if (!isfinite(guidance_scale_w)) return;
    sp_string_append_format(
        out, "<p><b>Frechet to teacher</b> is the same distance to the teacher's pictures of the same captions, drawn "
             "in 50 guided steps (w = %g) from the same noise: whether a student draws what its teacher draws. A "
             "guided teacher's pictures are more vivid and more alike than real ones, so that its own distance to "
             "real pictures is no bound for students, and one that guidance has not reached yet can be nearer to "
             "them.</p>\n",
        guidance_scale_w);
}

static const sp_metric_column teacher_columns[] = {
    {.key = "frechet_teacher",
     .label = "to teacher",
     .chart = "Frechet distance to the teacher's pictures",
     .digits = 3,
     .log_chart = true},
    {.key = "frechet_teacher_interval", .digits = 3, .page_only = true, .interval = true},
};

const sp_metric sp_frechet_teacher_metric = {
    .name = "frechet-teacher",
    .columns = teacher_columns,
    .column_count = 2,
    .reference = SP_REFERENCE_TEACHER,
    .features = sp_features_of_sets,
    .score = score,
    .explain = explain_teacher,
};
