/* The score kid: the kernel distance (eval/kid.h) of Inception's features. */
#include <stdio.h>
#include "eval/kid.h"
#include "eval/picture_score.h"

enum { USUAL_SIZE = 1000 };

static void add_settings(const sp_kid_options *options, sp_score_result *out)
{
    sp_score_add_setting(out, "kid_subsets", options->subsets);
    sp_score_add_setting(out, "kid_subset_size", options->size);
    sp_score_add_setting(out, "kid_seed", options->seed);
}

static sp_status measure(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const splam_score_options *o = scored->options;
    const sp_tensor *a = sp_score_rows(score, scored->a), *b = sp_score_rows(score, scored->b);
    int64_t least = scored->a->count < scored->b->count ? scored->a->count : scored->b->count;
    int64_t usual = least < USUAL_SIZE ? least : USUAL_SIZE;
    const sp_kid_options options = {
        .subsets = o->kid_subsets,
        .size = o->kid_subset_size == SPLAM_UNSET ? usual : o->kid_subset_size,
        .seed = (uint32_t)o->kid_seed,
    };
    double mean, deviation;
    SP_TRY(sp_kid(a, b, &options, scored->callbacks, &mean, &deviation));
    sp_score_value *value = sp_score_add(out, score->name, mean);
    value->deviation = deviation;
    value->significant = true;
    snprintf(value->note, sizeof value->note, "over %lld subsets of %lld", (long long)options.subsets,
             (long long)options.size);
    add_settings(&options, out);
    return SP_OK;
}

const sp_picture_score sp_kid_score = {
    .name = "kid",
    .network = SP_EXTRACTOR_INCEPTION,
    .two_sets = true,
    .options = "kid_subsets,kid_subset_size,kid_seed",
    .needs = SP_SCORE_OF_ROWS,
    .measure = measure,
};
