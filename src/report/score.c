/* Scores of one or two sets: what is asked for, the features that it takes, and the numbers. The scores are those of
 * eval/picture_score.h, the networks those of eval/extractor.h; nothing here knows one of them but Inception, whose
 * mean and covariance are saved. */
#include "report/scorer.h"
#include <stdio.h>
#include <string.h>
#include "backend/registry.h"
#include "base/memory.h"
#include "options/options.h"

/* ---- what is asked for ---- */

/* Whether what is asked for takes this network's features of the set. */
static bool takes(const sp_scorer *r, sp_extractor_index network, const sp_picture_set *set)
{
    bool a = set == &r->a, used = a && network == SP_EXTRACTOR_INCEPTION && r->o.save_stats;
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        used |= r->wanted[i] && score->network == network && (a || score->two_sets);
    }
    return used;
}

static sp_status check_captions(sp_scorer *r)
{
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (!r->wanted[i] || !score->captions || r->captions.text) continue;
        if (!r->o.captions)
            return sp_fail(SP_ARGUMENT, "`captions` is missing: %s compares each picture of A with a line of that file",
                           score->name);
        SP_TRY(sp_caption_lines_load(r->o.captions, &r->captions));
    }
    return SP_OK;
}

/* What is asked for, by name. */
static sp_status parse(sp_scorer *r)
{
    const splam_score_options *o = &r->o;
    const char *usual = o->b ? "fid" : NULL;
    r->preparation.convention = (sp_convention)sp_choice_index(SP_CHOICES(SP_CONVENTION_LIST), o->convention);
    r->preparation.transform = (sp_transform)sp_choice_index(SP_CHOICES(SP_TRANSFORM_LIST), o->transform);
    return o->metrics || usual ? sp_picture_scores_parse(o->metrics ? o->metrics : usual, r->wanted) : SP_OK;
}

static sp_status check(sp_scorer *r)
{
    const splam_score_options *o = &r->o;
    bool any = o->b || o->save_stats;
    SP_TRY(parse(r));
    if (o->resolution != SPLAM_UNSET && !sp_dataset_is_drawn(o->a) && !(o->b && sp_dataset_is_drawn(o->b)))
        return sp_fail(SP_ARGUMENT, "`resolution` is for emoji:, which has no files, and these sets' pictures have "
                       "sizes");
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        any |= r->wanted[i];
        if (r->wanted[i] && score->two_sets && !o->b)
            return sp_fail(SP_ARGUMENT, "%s compares two sets, and `b` is missing", score->name);
    }
    SP_TRY(check_captions(r));
    if (!any)
        return sp_fail(SP_ARGUMENT, "nothing is asked for of one set: neither is among `metrics` nor `save_stats`");
    return SP_OK;
}

/* Nothing is given that is not read. */
static sp_status check_read(const sp_scorer *r)
{
    const splam_score_options *o = &r->o;
    const char *also = o->save_stats ? sp_extractor_kind_at(SP_EXTRACTOR_INCEPTION)->options : NULL;
    bool captions = !o->captions;
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        captions |= r->wanted[i] && sp_picture_score_at(i)->captions;
    if (!captions)
        return sp_fail(SP_ARGUMENT, "`captions` is for clip, pickscore and hps, and none of these is among `metrics`");
    return sp_picture_scores_check_options(r->wanted, also, &sp_verb_score, o);
}

/* The same of sets that are files of features. */
static sp_status check_read_of_files(const sp_scorer *r)
{
    static const char *const names[] = {"strict", "convention", "transform", "inception", "clip", "pickscore", "hps",
                                        "dino"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sp_option_is_given(sp_option_find(&sp_verb_score, names[i]), &r->o))
            return sp_fail(SP_ARGUMENT, "`%s` has no effect: there are no pictures, only files of features", names[i]);
    return SP_OK;
}

/* ---- networks and sets ---- */

bool sp_scorer_uses(const sp_scorer *r, sp_extractor_index network)
{
    return takes(r, network, &r->a) || takes(r, network, &r->b);
}

static sp_status open_networks(sp_scorer *r)
{
    bool wanted[SP_EXTRACTORS];
    for (int i = 0; i < SP_EXTRACTORS; i++)
        wanted[i] = sp_scorer_uses(r, (sp_extractor_index)i);
    return sp_extractors_open(wanted, &r->o, r->extractor);
}

/* The first `most` pictures (0: all). */
static sp_status open_set(const sp_scorer *r, const char *source, int64_t most, sp_picture_set *set)
{
    int resolution = r->o.resolution == SPLAM_UNSET ? 0 : (int)r->o.resolution;
    SP_TRY(sp_picture_set_open(source, most, resolution, r->callbacks, set));
    SP_TRY(sp_picture_set_check_left_out(set, r->o.strict));
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        const sp_feature_origin origin =
            sp_feature_origin_of((sp_extractor_index)i, &r->extractor[i], &r->preparation);
        if (takes(r, (sp_extractor_index)i, set)) SP_TRY(sp_picture_set_check(set, &origin));
    }
    return SP_OK;
}

/* What a score needs of a set that is a file. */
static sp_status check_file(const sp_picture_score *score, const sp_picture_set *set)
{
    if (set->pictures.count) return SP_OK;
    if (score->needs == SP_SCORE_OF_PICTURES)
        return sp_fail(SP_ARGUMENT, "%s: %s needs pictures, and this is a file of features", set->source, score->name);
    if (set->statistics && score->needs == SP_SCORE_OF_ROWS)
        return sp_fail(SP_ARGUMENT, "%s: %s needs pictures or \"feats\", and the file holds mean and covariance "
                       "alone", set->source, score->name);
    return SP_OK;
}

static sp_scored scored_of(const sp_scorer *r)
{
    const sp_caption_lines *captions = r->captions.text ? &r->captions : NULL;
    return (sp_scored){&r->o, r->callbacks, r->extractor, &r->a, &r->b, captions, r->device};
}

static sp_status check_weights(const sp_scorer *r, sp_extractor_index network)
{
    bool a = takes(r, network, &r->a) && r->a.pictures.count, b = takes(r, network, &r->b) && r->b.pictures.count;
    if ((!a && !b) || r->extractor[network].kind) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s", sp_extractor_kind_at(network)->missing);
}

static sp_status check_files(const sp_scorer *r)
{
    const sp_scored scored = scored_of(r);
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (!r->wanted[i]) continue;
        SP_TRY(check_file(score, &r->a));
        if (score->two_sets) SP_TRY(check_file(score, &r->b));
        SP_TRY(check_weights(r, score->network));
        if (score->check) SP_TRY(score->check(score, &scored));
    }
    bool pictures = r->a.pictures.count || r->b.pictures.count;
    if (r->o.features && !pictures)
        return sp_fail(SP_ARGUMENT, "`features` keeps what a network gives for pictures, and there are files of "
                       "statistics alone");
    if (!r->o.save_stats) return pictures ? SP_OK : check_read_of_files(r);
    if (r->a.pictures.count) return check_weights(r, SP_EXTRACTOR_INCEPTION);
    return sp_fail(SP_ARGUMENT, "%s: statistics are saved of pictures, and this is a file of them", r->a.source);
}

/* ---- features ---- */

/* Which of the network's features are asked for of the set; false: none, or it is a file. */
static bool list_wanted(const sp_scorer *r, sp_extractor_index network, const sp_picture_set *set,
                        bool wanted[SP_FEATURES_MOST])
{
    memset(wanted, 0, SP_FEATURES_MOST * sizeof *wanted);
    if (!set->pictures.count || !takes(r, network, set)) return false;
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (r->wanted[i] && score->network == network && (set == &r->a || score->two_sets))
            wanted[score->feature] = true;
    }
    wanted[0] |= r->o.save_stats && set == &r->a;
    return true;
}

static sp_status extract_set(sp_scorer *r, sp_feature_store *store, sp_picture_set *set)
{
    bool wanted[SP_FEATURES_MOST];
    if (!set || !list_wanted(r, store->network, set, wanted)) return SP_OK;
    return sp_picture_set_extract(set, &r->extraction, store, wanted);
}

static sp_status extract_sets(sp_scorer *r, sp_feature_store *store, sp_picture_set *set, sp_picture_set *other)
{
    SP_TRY(extract_set(r, store, set));
    return extract_set(r, store, other);
}

static sp_status extract(sp_scorer *r, sp_extractor_index network, sp_feature_store *store, sp_picture_set *set,
                         sp_picture_set *other)
{
    const sp_extractor *extractor = &r->extractor[network];
    bool wanted[SP_FEATURES_MOST];
    if (!list_wanted(r, network, set, wanted) && (!other || !list_wanted(r, network, other, wanted))) return SP_OK;
    sp_extraction_turn(&r->extraction, extractor);
    SP_TRY(sp_feature_store_begin(store, network, extractor, &r->preparation));
    return sp_feature_store_end(store, extract_sets(r, store, set, other));
}

static void begin_extraction(sp_scorer *r)
{
    r->extraction = (sp_extraction){
        .preparation = &r->preparation, .device = r->device, .callbacks = r->callbacks, .ranks = r->ranks};
}

/* What networks say of both sets, kept in one file. */
static sp_status extract_all(sp_scorer *r)
{
    sp_feature_store store;
    SP_TRY(sp_feature_store_open(r->o.features, &store));
    begin_extraction(r);
    sp_status status = SP_OK;
    for (int i = 0; i < SP_EXTRACTORS && !status; i++)
        status = extract(r, (sp_extractor_index)i, &store, &r->a, &r->b);
    sp_extraction_free(&r->extraction);
    sp_feature_store_close(&store);
    return status;
}

static sp_status collect(sp_scorer *r)
{
    int64_t most = r->o.count == SPLAM_UNSET ? 0 : r->o.count;
    SP_TRY(sp_device_of(r->o.device, &r->device));
    SP_TRY(open_networks(r));
    SP_TRY(open_set(r, r->o.a, most, &r->a));
    if (r->o.b) SP_TRY(open_set(r, r->o.b, most, &r->b));
    if (most && r->a.statistics && (!r->o.b || r->b.statistics))
        return sp_fail(SP_ARGUMENT, "`count` takes the first pictures or features, and of %s only mean and covariance "
                       "are known", r->o.a);
    SP_TRY(check_files(r));
    SP_TRY(extract_all(r));
    SP_TRY(sp_picture_set_check_left_out(&r->a, r->o.strict));
    return sp_picture_set_check_left_out(&r->b, r->o.strict);
}

/* ---- numbers ---- */

static sp_status measure(sp_scorer *r, sp_score_result *result)
{
    const sp_scored scored = scored_of(r);
    const sp_feature_origin origin =
        sp_feature_origin_of(SP_EXTRACTOR_INCEPTION, &r->extractor[SP_EXTRACTOR_INCEPTION], &r->preparation);
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (r->wanted[i]) SP_TRY(score->measure(score, &scored, &result[i]));
    }
    if (!r->o.save_stats) return SP_OK;
    SP_TRY(sp_picture_set_fit(&r->a, SP_EXTRACTOR_INCEPTION));
    return sp_picture_set_save(&r->a, &origin, r->o.save_stats);
}

/* ---- the whole ---- */

static sp_status report(const sp_scorer *r, const sp_score_result *result, char **out)
{
    sp_string s = {0};
    if (r->o.json) {
        json_t *all = sp_scorer_json(r, result);
        char *text = all ? sp_json_dumps(all, JSON_INDENT(2)) : NULL;
        json_decref(all);
        if (text) sp_string_append_format(&s, "%s\n", text);
        s.failed = s.failed || !text;
        sp_free(text);
    } else {
        sp_scorer_say(r, result, &s);
    }
    if (!s.failed) *out = sp_strdup(sp_string_text(&s));
    sp_string_free(&s);
    return *out ? SP_OK : SP_MEMORY;
}

static void let_go(sp_scorer *r)
{
    sp_caption_lines_free(&r->captions);
    sp_picture_set_free(&r->a);
    sp_picture_set_free(&r->b);
    sp_extractors_close(r->extractor);
}

void sp_score_results_free(sp_score_result *result)
{
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        sp_score_result_free(&result[i]);
}

sp_status sp_score_sets(const splam_score_options *options, const sp_callbacks *callbacks, char **out)
{
    sp_scorer r = {.o = *options, .callbacks = callbacks};
    sp_score_result result[SP_PICTURE_SCORES] = {0};
    *out = NULL;
    sp_status status = check(&r);
    if (!status) status = check_read(&r);
    if (!status) status = collect(&r);
    if (!status) status = measure(&r, result);
    if (!status) status = report(&r, result, out);
    let_go(&r);
    sp_score_results_free(result);
    return status;
}

/* ---- many sets, one after the other, against one ---- */

/* What one network says of the set, in a file of its own for each way that features come about. */
static sp_status extract_apart(sp_scorer *r, sp_extractor_index network, const char *features, sp_picture_set *set)
{
    const sp_feature_origin o = sp_feature_origin_of(network, &r->extractor[network], &r->preparation);
    sp_feature_store store;
    if (!o.weights) return SP_OK;
    char *path = sp_format("%s-%s-%s-%s-%.8s.safetensors", features, o.network, o.convention, o.transform, o.weights);
    sp_status status = path ? sp_feature_store_open(path, &store) : SP_MEMORY;
    if (!status) {
        status = extract(r, network, &store, set, NULL);
        sp_feature_store_close(&store);
    }
    sp_free(path);
    return status;
}

static sp_status extract_each(sp_scorer *r, const char *features, sp_picture_set *set)
{
    sp_status status = SP_OK;
    begin_extraction(r);
    for (int i = 0; i < SP_EXTRACTORS && !status; i++)
        status = extract_apart(r, (sp_extractor_index)i, features, set);
    if (!status) status = sp_extraction_dismiss(&r->extraction);
    sp_extraction_free(&r->extraction);
    return status;
}

/* A, which is not there yet, is pictures; what they lack is found now. */
static sp_status check_ahead(sp_scorer *r)
{
    r->a = (sp_picture_set){.source = r->o.a, .pictures = {.source = r->o.a, .count = r->o.count}, .count = r->o.count};
    sp_status status = check_files(r);
    r->a = (sp_picture_set){0};
    return status;
}

/* All ranks compute by the same weights. */
static sp_status compare_weights(const sp_scorer *r)
{
    enum { BYTES = SP_EXTRACTORS * SP_SHA256_TEXT };
    char mine[BYTES] = "", *all = r->ranks ? sp_alloc((size_t)sp_ranks_count(r->ranks) * BYTES) : NULL;
    if (!r->ranks) return SP_OK;
    for (int i = 0; i < SP_EXTRACTORS; i++)
        memcpy(mine + i * SP_SHA256_TEXT, r->extractor[i].sha256, SP_SHA256_TEXT);
    sp_status status = all ? sp_ranks_gather(r->ranks, mine, BYTES, all) : SP_MEMORY;
    for (int i = 0; i < sp_ranks_count(r->ranks) && !status; i++)
        if (memcmp(all + i * BYTES, mine, BYTES) != 0)
            status = sp_fail(SP_ARGUMENT, "rank %d has other weights of the networks that score than this one", i);
    sp_free(all);
    return status;
}

/* What ranks other than the first need. */
static sp_status prepare_help(sp_scorer *r)
{
    SP_TRY(parse(r));
    SP_TRY(sp_device_of(r->o.device, &r->device));
    SP_TRY(open_networks(r));
    SP_TRY(compare_weights(r));
    return r->o.b ? sp_scorer_help(r) : SP_OK;
}

static sp_status prepare(sp_scorer *r, const char *features)
{
    if (sp_ranks_rank(r->ranks)) return prepare_help(r);
    SP_TRY(check(r));
    SP_TRY(sp_device_of(r->o.device, &r->device));
    SP_TRY(open_networks(r));
    SP_TRY(compare_weights(r));
    if (r->o.b) SP_TRY(open_set(r, r->o.b, 0, &r->b));
    SP_TRY(check_ahead(r));
    if (!r->o.b) return SP_OK;
    SP_TRY(extract_each(r, features, &r->b));
    return sp_picture_set_check_left_out(&r->b, r->o.strict);
}

sp_status sp_scorer_create(const splam_score_options *options, const char *features, sp_ranks *ranks,
                           const sp_callbacks *callbacks, sp_scorer **out)
{
    *out = NULL;
    sp_scorer *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    r->o = *options;
    r->ranks = ranks;
    r->callbacks = callbacks;
    sp_status status = prepare(r, features);
    if (status)
        sp_scorer_destroy(r);
    else
        *out = r;
    return status;
}

void sp_scorer_destroy(sp_scorer *r)
{
    if (!r) return;
    let_go(r);
    sp_free(r);
}

static sp_status score_folder(sp_scorer *r, const char *folder, const char *features,
                              sp_score_result *result, json_t **json)
{
    r->o.a = folder;
    SP_TRY(open_set(r, folder, r->o.count, &r->a));
    SP_TRY(extract_each(r, features, &r->a));
    SP_TRY(sp_picture_set_check_left_out(&r->a, true));
    SP_TRY(measure(r, result));
    *json = sp_scorer_json(r, result);
    return *json ? SP_OK : SP_MEMORY;
}

sp_status sp_scorer_score(sp_scorer *r, const char *folder, const char *features,
                          sp_score_result *result, json_t **json)
{
    *json = NULL;
    sp_status status = score_folder(r, folder, features, result, json);
    sp_picture_set_free(&r->a);
    return status;
}

sp_status sp_scorer_help(sp_scorer *r)
{
    begin_extraction(r);
    sp_status status = sp_extraction_help(&r->extraction, r->extractor);
    sp_extraction_free(&r->extraction);
    return status;
}

int64_t sp_scorer_real_count(const sp_scorer *r)
{
    return r->b.count;
}
