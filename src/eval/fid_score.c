/* The scores fid and fd: the Frechet distance (eval/frechet.h) of Inception's features, and of any others. */
#include "base/log.h"
#include "eval/frechet_interval.h"
#include "eval/picture_score.h"

/* Files may be of any network. */
static const char *key_of(const sp_picture_score *score, const sp_picture_set *set)
{
    return score->network == SP_EXTRACTOR_DINO && set->pictures.count ? "fd_dino" : score->name;
}

/* Rows, where there are any. */
static sp_frechet_side side_of(const sp_picture_score *score, const sp_picture_set *set)
{
    return (sp_frechet_side){.features = sp_score_rows(score, set), .gaussian = &set->gaussian};
}

static int64_t width_of(const sp_frechet_side *side)
{
    return side->features ? side->features->shape.dim[1] : side->gaussian->dim;
}

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const sp_picture_set *a = scored->a, *b = scored->b;
    const sp_frechet_side x = side_of(score, a), y = side_of(score, b);
    int64_t width = width_of(&x);
    double distance;
    if ((a->count && a->count < width) || (b->count && b->count < width))
        sp_log_warn("%s of fewer than %lld pictures depends on their number more than on what they show: compare it "
                    "with one of as many alone", score->name, (long long)width);
    SP_TRY(sp_frechet_of_sides(&x, &y, &distance));
    sp_score_add(out, key_of(score, a), distance);
    if (scored->options->bootstrap == SPLAM_UNSET) return SP_OK;
    return sp_frechet_interval(&x, &y, distance, scored->callbacks, sp_score_add_interval(out));
}

const sp_picture_score sp_fid_score = {
    .name = "fid",
    .network = SP_EXTRACTOR_INCEPTION,
    .two_sets = true,
    .options = "bootstrap",
    .needs = SP_SCORE_OF_STATISTICS,
    .measure = measure,
}, sp_fd_score = {
    .name = "fd",
    .network = SP_EXTRACTOR_DINO,
    .two_sets = true,
    .options = "bootstrap",
    .needs = SP_SCORE_OF_STATISTICS,
    .measure = measure,
};
