/* The metric frechet: the Frechet distance (eval/frechet.h) of the pictures' latents, pooled to 4 x 4 places. */
#include "eval/frechet.h"
#include "eval/metric.h"
#include "eval/vae_features.h"

static sp_status features(const sp_tensor *latents, sp_tensor *out)
{
    return sp_features_pool(latents, SP_FRECHET_GRID, out);
}

static sp_status score(const sp_measured *m, double *out)
{
    return sp_frechet_distance(m->features, m->reference, out);
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e, (void)guidance_scale_w;
    sp_string_append_format(
        out, "<p><b>Frechet distance</b> is that of normal distributions fitted to the autoencoder's own latents, "
             "average-pooled to 4&times;4 places, of the drawn pictures and of those that the captions name. It is not "
             "FID, and can be compared within this page only.</p>\n");
}

static const sp_metric_column columns[] = {
    {.key = "frechet", .label = "frechet", .chart = "Frechet distance by number of steps", .digits = 3,
     .log_chart = true},
};

const sp_metric sp_frechet_metric = {
    .name = "frechet",
    .columns = columns,
    .column_count = 1,
    .reference = SP_REFERENCE_NAMED,
    .features = features,
    .score = score,
    .explain = explain,
};
