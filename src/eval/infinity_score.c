/* The scores fid_infinity and fd_infinity: Frechet distances of infinitely many pictures of A (eval/fd_infinity.h). */
#include "eval/fd_infinity.h"
#include "eval/picture_score.h"

enum { SEED = 2020 };

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const sp_tensor *drawn = sp_score_rows(score, scored->a);
    const sp_frechet_side real = {.features = sp_score_rows(score, scored->b), .gaussian = &scored->b->gaussian};
    double value;
    if (!drawn)
        return sp_fail(SP_ARGUMENT, "%s: %s needs pictures or \"feats\" of A, and the file holds mean and covariance "
                       "alone", scored->a->source, score->name);
    SP_TRY(sp_fd_infinity(drawn, &real, SEED, scored->callbacks, &value));
    sp_score_add(out, score->name, value);
    sp_score_add_setting(out, "infinity_seed", SEED);
    return SP_OK;
}

const sp_picture_score sp_fid_infinity_score = {
    .name = "fid_infinity",
    .network = SP_EXTRACTOR_INCEPTION,
    .two_sets = true,
    .needs = SP_SCORE_OF_STATISTICS,
    .measure = measure,
}, sp_fd_infinity_score = {
    .name = "fd_infinity",
    .network = SP_EXTRACTOR_DINO,
    .two_sets = true,
    .needs = SP_SCORE_OF_STATISTICS,
    .measure = measure,
};
