/* The metric precision-recall: precision, recall, density and coverage (eval/prdc.h) by the pictures' latents, pooled
 * to 4 x 4 places, beside the real pictures. */
#include "eval/evaluation.h"
#include "eval/prdc.h"
#include "eval/vae_features.h"

enum { NEAREST = 5 };

/* So few pictures that none has a fifth neighbour are not measured. */
static sp_status score(const sp_measured *m, double *out)
{
    sp_prdc found;
    if (m->features->shape.dim[0] <= NEAREST) return SP_OK;
    SP_TRY(sp_prdc_of(m->features, m->reference, NEAREST, NULL, &found));
    for (int i = 0; i < SP_PRDC_COUNT; i++)
        out[i] = found.mean[i];
    sp_prdc_free(&found);
    return SP_OK;
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)e, (void)guidance_scale_w;
    sp_string_append_format(
        out, "<p><b>Precision</b> is the share of drawn pictures that lie within reach of a real one, its distance to "
             "the %dth nearest real one, and <b>recall</b> that of real ones within reach of a drawn one; "
             "<b>density</b> counts the real ones whose reach a drawn one lies in, over %d, and <b>coverage</b> is the "
             "share of real ones with a drawn one in their reach. Real pictures are those that the captions name, by "
             "the same pooled latents.</p>\n",
        NEAREST, NEAREST);
}

#define COLUMN(name, text)                                                                                       \
    {.key = "latent_" text, .label = text, .digits = 2, .higher_is_better = true, .page_only = true},
static const sp_metric_column columns[] = {SP_PRDC_LIST(COLUMN)};

const sp_metric sp_precision_recall_metric = {
    .name = "precision-recall",
    .columns = columns,
    .column_count = SP_PRDC_COUNT,
    .reference = SP_REFERENCE_NAMED,
    .features = sp_features_of_sets,
    .score = score,
    .explain = explain,
};
