/* The score cmmd (eval/cmmd.h) of CLIP's embeddings. */
#include "eval/cmmd.h"
#include "eval/picture_score.h"

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    double value;
    SP_TRY(sp_cmmd(sp_score_rows(score, scored->a), sp_score_rows(score, scored->b), scored->callbacks, &value));
    sp_score_add(out, score->name, value);
    return SP_OK;
}

const sp_picture_score sp_cmmd_score = {
    .name = "cmmd",
    .network = SP_EXTRACTOR_CMMD,
    .two_sets = true,
    .needs = SP_SCORE_OF_ROWS,
    .measure = measure,
};
