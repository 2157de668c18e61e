/* Scores of one or two sets: what is asked for, the features that it takes, the numbers, and how they are said. The
 * scores are those of eval/picture_score.h, the networks those of eval/extractor.h; nothing here knows one of them but
 * Inception, whose mean and covariance are saved. */
#include "report/score.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "backend/registry.h"
#include "base/json.h"
#include "base/memory.h"
#include "eval/picture_score.h"
#include "options/options.h"

struct sp_scorer {
    splam_score_options o;
    const sp_callbacks *callbacks;
    sp_device *device;
    sp_preparation preparation;
    bool wanted[SP_PICTURE_SCORES];
    sp_extractor extractor[SP_EXTRACTORS]; /* those that were opened */
    sp_caption_lines captions;             /* where a score asks for them */
    sp_extraction extraction;              /* of the network that works, or worked last */
    sp_picture_set a, b;
};

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

static sp_status check_bootstrap(const sp_scorer *r)
{
    sp_string names = {0};
    bool any = r->o.bootstrap == SPLAM_UNSET;
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        if (!score->intervals) continue;
        any |= r->wanted[i];
        sp_string_append_format(&names, "%s%s", names.length ? " and " : "", score->name);
    }
    sp_status status = any ? SP_OK
                           : sp_fail(SP_ARGUMENT, "`bootstrap` is for %s, and none of these is among `metrics`",
                                     sp_string_text(&names));
    sp_string_free(&names);
    return status;
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

static sp_status check(sp_scorer *r)
{
    const splam_score_options *o = &r->o;
    const char *usual = o->b ? "fid" : NULL;
    bool any = o->b || o->save_stats;
    if (o->metrics || usual) SP_TRY(sp_picture_scores_parse(o->metrics ? o->metrics : usual, r->wanted));
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        const sp_picture_score *score = sp_picture_score_at(i);
        any |= r->wanted[i];
        if (r->wanted[i] && score->two_sets && !o->b)
            return sp_fail(SP_ARGUMENT, "%s compares two sets, and `b` is missing", score->name);
    }
    SP_TRY(check_bootstrap(r));
    SP_TRY(check_captions(r));
    if (!any)
        return sp_fail(SP_ARGUMENT, "nothing is asked for of one set: neither is among `metrics` nor `save_stats`");
    r->preparation.convention = (sp_convention)sp_choice_index(SP_CHOICES(SP_CONVENTION_LIST), o->convention);
    r->preparation.transform = (sp_transform)sp_choice_index(SP_CHOICES(SP_TRANSFORM_LIST), o->transform);
    return SP_OK;
}

/* ---- networks and sets ---- */

static bool used(const sp_scorer *r, sp_extractor_index network)
{
    return takes(r, network, &r->a) || takes(r, network, &r->b);
}

static sp_status open_networks(sp_scorer *r)
{
    bool wanted[SP_EXTRACTORS];
    for (int i = 0; i < SP_EXTRACTORS; i++)
        wanted[i] = used(r, (sp_extractor_index)i);
    return sp_extractors_open(wanted, &r->o, r->extractor);
}

/* The first `most` pictures (0: all). */
static sp_status open_set(const sp_scorer *r, const char *source, int64_t most, sp_picture_set *set)
{
    SP_TRY(sp_picture_set_open(source, most, r->callbacks, set));
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
    if (r->o.features && !r->a.pictures.count && !r->b.pictures.count)
        return sp_fail(SP_ARGUMENT, "`features` keeps what a network gives for pictures, and there are files of "
                       "statistics alone");
    if (!r->o.save_stats) return SP_OK;
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
    r->extraction = (sp_extraction){.preparation = &r->preparation, .device = r->device, .callbacks = r->callbacks};
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

/* ---- as JSON ---- */

/* KEYsuffix. */
static void set_real(json_t *all, const char *key, const char *suffix, double value)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", key, suffix);
    json_object_set_new(all, name, json_real(value));
}

static void set_value(json_t *all, const sp_score_value *v)
{
    bool mean = !isnan(v->deviation);
    set_real(all, v->key, mean ? "_mean" : "", v->value);
    if (mean) set_real(all, v->key, "_std", v->deviation);
    if (!v->interval) return;
    set_real(all, v->key, "_low", v->interval->low);
    set_real(all, v->key, "_high", v->interval->high);
}

static void set_result(json_t *all, const sp_score_result *result)
{
    for (int i = 0; i < result->value_count; i++)
        set_value(all, &result->value[i]);
    for (int i = 0; i < result->setting_count; i++)
        json_object_set_new(all, result->setting[i].key, json_integer(result->setting[i].value));
    for (int i = 0; i < result->word_count; i++)
        json_object_set_new(all, result->word[i].key, json_string(result->word[i].text));
}

static json_t *count_json(int64_t count)
{
    return count ? json_integer(count) : json_null();
}

/* What was left out, by reason; of a file nothing. */
static void set_left_out(json_t *all, const char *key, const sp_picture_set *set)
{
    sp_rejection list[SP_MAX_REASONS];
    if (!set->pictures.left_out) return;
    size_t count = sp_rejections_list(set->pictures.left_out, list, SP_MAX_REASONS);
    json_t *reasons = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(reasons, json_pack("{s:s,s:I,s:s}", "reason", list[i].reason, "count",
                                                 (json_int_t)list[i].count, "example", list[i].example));
    json_object_set_new(all, key, reasons);
}

/* Lines of pictures that are left out. */
static int64_t captions_left_out(const sp_scorer *r)
{
    return r->a.pictures.count - r->a.count;
}

static void set_captions(json_t *all, const sp_scorer *r)
{
    if (!r->captions.text) return;
    json_object_set_new(all, "captions_sha256", json_string(r->captions.sha256));
    json_object_set_new(all, "captions_left_out", json_integer(captions_left_out(r)));
}

/* The convention is Inception's; other networks have one each. */
static void set_preparation(json_t *all, const sp_scorer *r)
{
    if (used(r, SP_EXTRACTOR_INCEPTION))
        json_object_set_new(all, "convention", json_string(sp_convention_name(r->preparation.convention)));
    json_object_set_new(all, "transform", json_string(sp_transform_name(r->preparation.transform)));
}

static void set_networks(json_t *all, const sp_scorer *r)
{
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        const sp_extractor *e = &r->extractor[i];
        char name[64];
        if (!e->kind) continue;
        snprintf(name, sizeof name, "%s_sha256", e->kind->name);
        json_object_set_new(all, name, json_string(e->sha256));
    }
}

static json_t *as_json(const sp_scorer *r, const sp_score_result *result)
{
    json_t *all = json_object();
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        set_result(all, &result[i]);
    if (r->o.bootstrap != SPLAM_UNSET) json_object_set_new(all, "bootstrap", json_integer(r->o.bootstrap));
    json_object_set_new(all, "count_a", count_json(r->a.count));
    if (r->o.b) json_object_set_new(all, "count_b", count_json(r->b.count));
    set_left_out(all, "unreadable_a", &r->a);
    set_left_out(all, "unreadable_b", &r->b);
    set_captions(all, r);
    set_preparation(all, r);
    set_networks(all, r);
    return all;
}

/* ---- for people ---- */

static void say_value(sp_string *s, const sp_score_value *v)
{
    if (v->significant)
        sp_string_append_format(s, "%s %.6g", v->key, v->value);
    else
        sp_string_append_format(s, "%s %.6f", v->key, v->value);
    if (!isnan(v->deviation)) sp_string_append_format(s, ", %.2g", v->deviation);
    if (*v->note) sp_string_append_format(s, " %s", v->note);
    if (v->interval) sp_string_append_format(s, ", 95 %% from %.6f to %.6f", v->interval->low, v->interval->high);
    sp_string_append(s, "\n", 1);
}

static void say_count(sp_string *s, const char *which, const sp_picture_set *set)
{
    if (set->count)
        sp_string_say(s, "%s: %lld pictures, %s\n", which, (long long)set->count, set->source);
    else
        sp_string_say(s, "%s: pictures whose number the file does not say, %s\n", which, set->source);
    sp_rejection list[SP_MAX_REASONS];
    const sp_pictures *pictures = &set->pictures;
    size_t reasons = pictures->left_out ? sp_rejections_list(pictures->left_out, list, SP_MAX_REASONS) : 0;
    for (size_t i = 0; i < reasons; i++)
        sp_string_say(s, "%s, left out: %lld %s (%s)\n", which, (long long)list[i].count, list[i].reason,
                      list[i].example);
}

static void say_captions(sp_string *s, const sp_scorer *r)
{
    if (!r->captions.text) return;
    int64_t out = captions_left_out(r);
    sp_string_say(s, "captions: sha256 %s\n", r->captions.sha256);
    if (out)
        sp_string_say(s, "captions, left out: %lld, of the pictures that are left out\n", (long long)out);
}

static void say_settings(const sp_scorer *r, sp_string *s)
{
    if (used(r, SP_EXTRACTOR_INCEPTION))
        sp_string_append_format(s, "convention: %s\n", sp_convention_name(r->preparation.convention));
    if (r->preparation.transform != SP_TRANSFORM_NONE)
        sp_string_append_format(s, "transform: %s\n", sp_transform_name(r->preparation.transform));
    for (int i = 0; i < SP_EXTRACTORS; i++)
        if (r->extractor[i].kind)
            sp_string_append_format(s, "%s: sha256 %s\n", r->extractor[i].kind->name, r->extractor[i].sha256);
}

static void say(const sp_scorer *r, const sp_score_result *result, sp_string *s)
{
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        for (int k = 0; k < result[i].value_count; k++)
            say_value(s, &result[i].value[k]);
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        for (int k = 0; k < result[i].word_count; k++)
            sp_string_say(s, "%s: %s\n", result[i].word[k].key, result[i].word[k].text);
    say_count(s, "A", &r->a);
    if (r->o.b) say_count(s, "B", &r->b);
    say_captions(s, r);
    say_settings(r, s);
}

static sp_status report(const sp_scorer *r, const sp_score_result *result, char **out)
{
    sp_string s = {0};
    if (r->o.json) {
        json_t *all = as_json(r, result);
        char *text = all ? sp_json_dumps(all, JSON_INDENT(2)) : NULL;
        json_decref(all);
        if (text) sp_string_append_format(&s, "%s\n", text);
        s.failed = s.failed || !text;
        sp_free(text);
    } else {
        say(r, result, &s);
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

static sp_status prepare(sp_scorer *r, const char *features)
{
    SP_TRY(check(r));
    SP_TRY(sp_device_of(r->o.device, &r->device));
    SP_TRY(open_networks(r));
    if (r->o.b) SP_TRY(open_set(r, r->o.b, 0, &r->b));
    SP_TRY(check_ahead(r));
    if (!r->o.b) return SP_OK;
    SP_TRY(extract_each(r, features, &r->b));
    return sp_picture_set_check_left_out(&r->b, r->o.strict);
}

sp_status sp_scorer_create(const splam_score_options *options, const char *features, const sp_callbacks *callbacks,
                           sp_scorer **out)
{
    *out = NULL;
    sp_scorer *r = sp_alloc_zero(sizeof *r);
    if (!r) return SP_MEMORY;
    r->o = *options;
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
    *json = as_json(r, result);
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

int64_t sp_scorer_real_count(const sp_scorer *r)
{
    return r->b.count;
}

void sp_scorer_say_value(const sp_score_value *value, sp_string *out)
{
    say_value(out, value);
}

void sp_scorer_say_settings(const sp_scorer *r, sp_string *out)
{
    if (r->o.b) say_count(out, "real", &r->b);
    say_settings(r, out);
}
