/* The scores clip, pickscore and hps: means over the pictures of A of the cosine of a CLIP's vectors of the picture and
 * of its caption, each by a CLIP of its own (eval/clip_extractor.c).
 *   clip       as it is (Hessel et al. 2021), which papers of text to image print, and 100 times it, not below 0, as
 *              torchmetrics has it
 *   pickscore  times exp(logit_scale) of the checkpoint, about 100 (Kirstain et al. 2023)
 *   hps        as it is; the benchmark's tables have 100 times it (Wu et al. 2023) */
#include <math.h>
#include <stdio.h>
#include "base/memory.h"
#include "eval/clip_texts.h"
#include "eval/embedding_scores.h"
#include "eval/picture_score.h"

/* ---- what is known before any picture is looked at ---- */

static sp_status check_count(const sp_scored *scored)
{
    const sp_caption_lines *c = scored->captions;
    const sp_pictures *p = &scored->a->pictures;
    bool first = scored->options->count != SPLAM_UNSET;
    int64_t missing = p->dataset ? sp_dataset_rejected(p->dataset) : 0;
    if (missing)
        return sp_fail(SP_FORMAT, "%s: lacks %lld of the pictures that it lists, and lines of %s go by their order",
                       p->source, (long long)missing, c->path);
    if (c->count == p->count || (first && c->count > p->count)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: has %lld captions, and %s %lld pictures: each line is the caption of one, in "
                   "their order", c->path, (long long)c->count, p->source, (long long)p->count);
}

static const sp_clip_file *clip_of(const sp_picture_score *score, const sp_scored *scored)
{
    return scored->extractors[score->network].model;
}

static sp_status check(const sp_picture_score *score, const sp_scored *scored)
{
    SP_TRY(sp_clip_texts_check(clip_of(score, scored)));
    return check_count(scored);
}

static sp_status check_pickscore(const sp_picture_score *score, const sp_scored *scored)
{
    const sp_clip_file *clip = clip_of(score, scored);
    if (!isfinite(exp(clip->logit_scale)))
        return sp_fail(SP_FORMAT, "%s: tensor \"logit_scale\" is missing, or no number whose exponential is finite; "
                       "PickScore is that times a cosine", sp_tensor_file_path(clip->file));
    return check(score, scored);
}

/* ---- the scores ---- */

/* Lines of the pictures that could be read: new. */
static sp_status list_captions(const sp_scored *scored, const char ***out)
{
    const sp_picture_set *a = scored->a;
    *out = sp_alloc((size_t)a->count * sizeof **out);
    if (!*out) return SP_MEMORY;
    for (int64_t i = 0; i < a->count; i++)
        (*out)[i] = scored->captions->line[a->place[i]];
    return SP_OK;
}

/* out [a->count]. */
static sp_status find_cosines(const sp_picture_score *score, const sp_scored *scored, const char *prefix, double scale,
                              double *out)
{
    const char **lines;
    sp_tensor texts;
    SP_TRY(list_captions(scored, &lines));
    sp_status status = sp_clip_texts(clip_of(score, scored), prefix, lines, scored->a->count, scored->device,
                                     scored->callbacks, &texts);
    sp_free(lines);
    SP_TRY(status);
    status = sp_cosine_scores(sp_score_rows(score, scored->a), &texts, scale, out);
    sp_tensor_free(&texts);
    return status;
}

/* KEY, the mean of `scale` times the cosines. */
static sp_status add_mean(const sp_picture_score *score, const sp_scored *scored, const char *key, const char *prefix,
                          double scale, sp_score_result *out)
{
    double *terms = sp_alloc((size_t)scored->a->count * sizeof *terms);
    if (!terms) return SP_MEMORY;
    sp_status status = find_cosines(score, scored, prefix, scale, terms);
    if (!status) status = sp_score_add_mean(out, key, terms, scored->a->count, scored->options->bootstrap);
    out->terms = terms;
    return status;
}

static sp_status measure_clip(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    const char *prefix = scored->options->clip_prefix;
    SP_TRY(add_mean(score, scored, "clip_score", prefix, 1, out));
    sp_score_add(out, "clip_score_100", fmax(100 * out->value[0].value, 0));
    return prefix ? sp_score_add_words(out, "clip_prefix", prefix) : SP_OK;
}

static sp_status measure_pickscore(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    double scale = exp(clip_of(score, scored)->logit_scale);
    SP_TRY(add_mean(score, scored, "pickscore", NULL, scale, out));
    snprintf(out->value[0].note, sizeof out->value[0].note, "(cosines times %.6g)", scale);
    return SP_OK;
}

static sp_status measure_hps(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out)
{
    SP_TRY(add_mean(score, scored, "hps", NULL, 1, out));
    snprintf(out->value[0].note, sizeof out->value[0].note, "(cosines times 1)");
    sp_score_add_setting(out, "hps_scale", 1);
    return SP_OK;
}

const sp_picture_score sp_clip_score = {
    .name = "clip",
    .network = SP_EXTRACTOR_CLIP,
    .options = "clip_prefix,bootstrap",
    .captions = true,
    .needs = SP_SCORE_OF_PICTURES,
    .check = check,
    .measure = measure_clip,
}, sp_pickscore_score = {
    .name = "pickscore",
    .network = SP_EXTRACTOR_PICKSCORE,
    .options = "bootstrap",
    .captions = true,
    .needs = SP_SCORE_OF_PICTURES,
    .check = check_pickscore,
    .measure = measure_pickscore,
}, sp_hps_score = {
    .name = "hps",
    .network = SP_EXTRACTOR_HPS,
    .options = "bootstrap",
    .captions = true,
    .needs = SP_SCORE_OF_PICTURES,
    .check = check,
    .measure = measure_hps,
};
