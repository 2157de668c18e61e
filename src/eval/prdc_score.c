/* The score prdc: precision, recall, density and coverage (eval/prdc.h) by Inception's features, A drawn and B real. */
#include "eval/picture_score.h"
#include "eval/prdc.h"

static const char *const keys[SP_PRDC_COUNT] = {
#define X(name, text) text,
    SP_PRDC_LIST(X)
#undef X
};
_Static_assert((int)SP_PRDC_COUNT <= (int)SP_SCORE_VALUES, "there is no room for so many values");

static sp_status add_values(const sp_prdc *found, int64_t resamples, sp_score_result *out)
{
    for (int i = 0; i < SP_PRDC_COUNT; i++) {
        sp_score_add(out, keys[i], found->mean[i]);
        if (resamples == SPLAM_UNSET) continue;
        SP_TRY(sp_bootstrap_mean(found->terms[i], found->count[i], resamples, sp_score_add_interval(out)));
    }
    return SP_OK;
}

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const splam_score_options *o = scored->options;
    const sp_tensor *a = sp_score_rows(score, scored->a), *b = sp_score_rows(score, scored->b);
    sp_prdc found;
    SP_TRY(sp_prdc_of(a, b, o->nearest_k, scored->callbacks, &found));
    sp_status status = add_values(&found, o->bootstrap, out);
    sp_prdc_free(&found);
    sp_score_add_setting(out, "nearest_k", o->nearest_k);
    return status;
}

const sp_picture_score sp_prdc_score = {
    .name = "prdc",
    .network = SP_EXTRACTOR_INCEPTION,
    .two_sets = true,
    .options = "nearest_k,bootstrap",
    .needs = SP_SCORE_OF_ROWS,
    .measure = measure,
};
