/* The score is: the Inception score (eval/inception_score.h) of a set. */
#include <stdio.h>
#include "eval/inception_score.h"
#include "eval/picture_score.h"

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    double mean, deviation;
    SP_TRY(sp_inception_score(sp_score_rows(score, scored->a), &mean, &deviation));
    sp_score_value *value = sp_score_add(out, score->name, mean);
    value->deviation = deviation;
    snprintf(value->note, sizeof value->note, "over %d parts of A", SP_INCEPTION_SCORE_SPLITS);
    return SP_OK;
}

const sp_picture_score sp_is_score = {
    .name = "is",
    .network = SP_EXTRACTOR_INCEPTION,
    .feature = 1, /* logits */
    .needs = SP_SCORE_OF_PICTURES,
    .measure = measure,
};
