/* The metric kernel: the kernel distance (eval/kid.h) of the pictures' latents, pooled to 4 x 4 places, to the real
 * pictures. */
#include "eval/evaluation.h"
#include "eval/kid.h"
#include "eval/vae_features.h"

enum { SUBSETS = 100, LEAST_PICTURES = 4 };

/* Of subsets of half of the pictures, whose deviation is the standard error of all of them (the delete-half jackknife:
 * Shao & Wu 1989, with as many left out as kept). Fewer pictures than four have no halves that differ enough, and are
 * not measured. */
static sp_status score(const sp_measured *m, double *out)
{
    const sp_kid_options options = {.subsets = SUBSETS, .size = m->features->shape.dim[0] / 2, .seed = 2020};
    if (m->features->shape.dim[0] < LEAST_PICTURES) return SP_OK;
    SP_TRY(sp_kid(m->features, m->reference, &options, NULL, &out[0], &out[1]));
    out[1] *= 1.96;
    return SP_OK;
}

static void explain(const sp_evaluation *e, double guidance_scale_w, sp_string *out)
{
    (void)guidance_scale_w;
    sp_string_append_format(
        out,
        "<p><b>Kernel distance</b> is KID's, the squared maximum mean discrepancy under (x&middot;y/D + "
        "1)<sup>3</sup>, of the same pooled latents to those of the pictures that the captions name: the mean over %d "
        "subsets of %lld, with the 95 %% interval that their deviation gives. Unlike a Frechet distance it does not "
        "grow where pictures are few. It is not KID, and can be compared within this page only.</p>\n",
        SUBSETS, (long long)(e->count / 2));
}

static const sp_metric_column columns[] = {
    {.key = "kernel", .label = "kernel", .digits = 4, .page_only = true},
    {.key = "kernel_interval", .digits = 4, .page_only = true, .interval = true},
};

const sp_metric sp_kernel_metric = {
    .name = "kernel",
    .columns = columns,
    .column_count = 2,
    .reference = SP_REFERENCE_NAMED,
    .features = sp_features_of_sets,
    .score = score,
    .explain = explain,
};
