/* Scores of one or two sets: what is asked for, the features that it takes, the numbers, and how they are said. */
#include "report/score.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "backend/registry.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "eval/bootstrap.h"
#include "eval/inception_score.h"
#include "eval/kid.h"
#include "eval/picture_set.h"
#include "eval/prdc.h"
#include "models/inception.h"
#include "options/options.h"

/* What there is: (NAME, "text"). */
#define SCORE_LIST(X) X(FID, "fid") X(KID, "kid") X(IS, "is") X(PRDC, "prdc")
enum {
#define X(name, text) SCORE_##name,
    SCORE_LIST(X)
#undef X
        SCORES
};
static const char *const score_names[] = {
#define X(name, text) text,
    SCORE_LIST(X)
#undef X
};
enum { USUAL_KID_SIZE = 1000 };

typedef struct {
    const splam_score_options *o;
    const sp_callbacks *callbacks;
    sp_device *device;
    sp_preparation preparation;
    bool wanted[SCORES];
    sp_inception_file inception;
    sp_picture_set a, b;
    double fid, kid_mean, kid_std, is_mean, is_std;
    sp_prdc prdc;
    sp_interval fid_interval, prdc_interval[SP_PRDC_COUNT];
    int64_t kid_size;
} score_run;

/* ---- what is asked for ---- */

static sp_status read_metrics(score_run *r, const char *text)
{
    char *words = sp_strdup(text), *rest = words;
    sp_status status = words ? SP_OK : SP_MEMORY;
    for (char *word; !status && (word = strsep(&rest, ",")) != NULL;) {
        int i;
        status = sp_name_index("metric", word, score_names, SCORES, &i);
        if (!status) r->wanted[i] = true;
    }
    sp_free(words);
    return status;
}

static sp_status check(score_run *r)
{
    const splam_score_options *o = r->o;
    const char *usual = o->b ? "fid" : NULL;
    if (o->metrics || usual) SP_TRY(read_metrics(r, o->metrics ? o->metrics : usual));
    for (int i = 0; i < SCORES && !o->b; i++)
        if (r->wanted[i] && i != SCORE_IS)
            return sp_fail(SP_ARGUMENT, "%s compares two sets, and `b` is missing", score_names[i]);
    if (o->bootstrap != SPLAM_UNSET && !r->wanted[SCORE_FID] && !r->wanted[SCORE_PRDC])
        return sp_fail(SP_ARGUMENT, "`bootstrap` is for fid and prdc, and neither is among `metrics`");
    if (!o->b && !r->wanted[SCORE_IS] && !o->save_stats)
        return sp_fail(SP_ARGUMENT, "nothing is asked for of one set: neither is among `metrics` nor `save_stats`");
    r->preparation.convention = (sp_convention)sp_choice_index(SP_CHOICES(SP_CONVENTION_LIST), o->convention);
    r->preparation.transform = (sp_transform)sp_choice_index(SP_CHOICES(SP_TRANSFORM_LIST), o->transform);
    return SP_OK;
}

/* ---- features ---- */

static sp_status open_sets(score_run *r)
{
    const splam_score_options *o = r->o;
    const char *sha256 = o->inception ? r->inception.sha256 : NULL;
    int64_t most = o->count == SPLAM_UNSET ? 0 : o->count;
    SP_TRY(sp_picture_set_open(o->a, most, &r->preparation, sha256, &r->a));
    return o->b ? sp_picture_set_open(o->b, most, &r->preparation, sha256, &r->b) : SP_OK;
}

/* What the metrics need of a set that is a file. */
static sp_status check_file(const score_run *r, const sp_picture_set *set)
{
    if (set->paths || !set->source) return SP_OK;
    for (int i = 0; i < SCORES && set->statistics; i++)
        if (r->wanted[i] && (i == SCORE_KID || i == SCORE_PRDC))
            return sp_fail(SP_ARGUMENT, "%s: %s needs pictures or \"feats\", and the file holds mean and covariance "
                           "alone", set->source, score_names[i]);
    if (set != &r->a) return SP_OK;
    if (r->wanted[SCORE_IS])
        return sp_fail(SP_ARGUMENT, "%s: is needs pictures, and this is a file of features", set->source);
    if (r->o->save_stats)
        return sp_fail(SP_ARGUMENT, "%s: statistics are saved of pictures, and this is a file of them", set->source);
    return SP_OK;
}

static sp_status extract(score_run *r, sp_picture_set *set)
{
    if (!set->paths) return SP_OK;
    if (!r->o->inception)
        return sp_fail(SP_ARGUMENT, "`inception` is missing: features of pictures are by the network of "
                       "pt_inception-2015-12-05-6726825d.pth (pytorch-fid's) or inception-2015-12-05.pt (clean-fid's)");
    return sp_inception_features_of(&r->inception, &r->preparation, (const char *const *)set->paths, set->count,
                                    r->device, r->callbacks, &set->features);
}

static sp_status collect(score_run *r)
{
    SP_TRY(sp_device_of(r->o->device, &r->device));
    if (r->o->inception) SP_TRY(sp_inception_file_open(r->o->inception, &r->inception));
    SP_TRY(open_sets(r));
    SP_TRY(check_file(r, &r->a));
    SP_TRY(check_file(r, &r->b));
    SP_TRY(extract(r, &r->a));
    return extract(r, &r->b);
}

/* ---- numbers ---- */

/* Features, where there are any. */
static sp_frechet_side side_of(const sp_picture_set *set)
{
    bool features = set->features.features.data;
    return (sp_frechet_side){.features = features ? &set->features.features : NULL, .gaussian = &set->gaussian};
}

static sp_status measure_fid(score_run *r)
{
    const sp_frechet_side a = side_of(&r->a), b = side_of(&r->b);
    bool low = (r->a.count && r->a.count < SP_INCEPTION_FEATURES) || (r->b.count && r->b.count < SP_INCEPTION_FEATURES);
    if (low)
        sp_log_warn("fid of fewer than %d pictures depends on their number more than on what they show: compare it "
                    "with one of as many alone", SP_INCEPTION_FEATURES);
    SP_TRY(sp_frechet_of_sides(&a, &b, &r->fid));
    if (r->o->bootstrap == SPLAM_UNSET) return SP_OK;
    return sp_bootstrap_frechet(&a, &b, r->fid, r->o->bootstrap, r->callbacks, &r->fid_interval);
}

static sp_status measure_prdc(score_run *r)
{
    SP_TRY(sp_prdc_of(&r->a.features.features, &r->b.features.features, r->o->nearest_k, r->callbacks, &r->prdc));
    for (int i = 0; i < SP_PRDC_COUNT && r->o->bootstrap != SPLAM_UNSET; i++)
        SP_TRY(sp_bootstrap_mean(r->prdc.terms[i], r->prdc.count[i], r->o->bootstrap, &r->prdc_interval[i]));
    return SP_OK;
}

static sp_status measure_kid(score_run *r)
{
    int64_t least = r->a.count < r->b.count ? r->a.count : r->b.count;
    r->kid_size = r->o->kid_subset_size;
    if (r->kid_size == SPLAM_UNSET) r->kid_size = least < USUAL_KID_SIZE ? least : USUAL_KID_SIZE;
    const sp_kid_options options = {r->o->kid_subsets, r->kid_size, (uint32_t)r->o->kid_seed};
    return sp_kid(&r->a.features.features, &r->b.features.features, &options, r->callbacks, &r->kid_mean, &r->kid_std);
}

static sp_status measure(score_run *r)
{
    if (r->wanted[SCORE_FID]) SP_TRY(measure_fid(r));
    if (r->wanted[SCORE_KID]) SP_TRY(measure_kid(r));
    if (r->wanted[SCORE_IS]) SP_TRY(sp_inception_score(&r->a.features.logits, &r->is_mean, &r->is_std));
    if (r->wanted[SCORE_PRDC]) SP_TRY(measure_prdc(r));
    if (!r->o->save_stats) return SP_OK;
    SP_TRY(sp_picture_set_fit(&r->a));
    return sp_picture_set_save(&r->a, &r->preparation, r->inception.sha256, r->o->save_stats);
}

/* ---- how it is said ---- */

static json_t *count_json(int64_t count)
{
    return count ? json_integer(count) : json_null();
}

static const char *const prdc_names[] = {
#define X(name, text) text,
    SP_PRDC_LIST(X)
#undef X
};

/* NAME, and NAME_low and NAME_high if there are resamples. */
static void set_score(json_t *all, const score_run *r, const char *name, double score, const sp_interval *interval)
{
    char key[32];
    json_object_set_new(all, name, json_real(score));
    if (r->o->bootstrap == SPLAM_UNSET) return;
    snprintf(key, sizeof key, "%s_low", name);
    json_object_set_new(all, key, json_real(interval->low));
    snprintf(key, sizeof key, "%s_high", name);
    json_object_set_new(all, key, json_real(interval->high));
}

static json_t *as_json(const score_run *r)
{
    json_t *all = json_object();
    if (r->wanted[SCORE_FID]) set_score(all, r, "fid", r->fid, &r->fid_interval);
    if (r->wanted[SCORE_KID]) {
        json_object_set_new(all, "kid_mean", json_real(r->kid_mean));
        json_object_set_new(all, "kid_std", json_real(r->kid_std));
        json_object_set_new(all, "kid_subsets", json_integer(r->o->kid_subsets));
        json_object_set_new(all, "kid_subset_size", json_integer(r->kid_size));
        json_object_set_new(all, "kid_seed", json_integer(r->o->kid_seed));
    }
    if (r->wanted[SCORE_IS]) {
        json_object_set_new(all, "is_mean", json_real(r->is_mean));
        json_object_set_new(all, "is_std", json_real(r->is_std));
    }
    for (int i = 0; i < SP_PRDC_COUNT && r->wanted[SCORE_PRDC]; i++)
        set_score(all, r, prdc_names[i], r->prdc.mean[i], &r->prdc_interval[i]);
    if (r->wanted[SCORE_PRDC]) json_object_set_new(all, "nearest_k", json_integer(r->o->nearest_k));
    if (r->o->bootstrap != SPLAM_UNSET) json_object_set_new(all, "bootstrap", json_integer(r->o->bootstrap));
    json_object_set_new(all, "count_a", count_json(r->a.count));
    if (r->o->b) json_object_set_new(all, "count_b", count_json(r->b.count));
    json_object_set_new(all, "convention", json_string(sp_convention_name(r->preparation.convention)));
    json_object_set_new(all, "transform", json_string(sp_transform_name(r->preparation.transform)));
    if (r->o->inception) json_object_set_new(all, "inception_sha256", json_string(r->inception.sha256));
    return all;
}

static void say_count(sp_string *s, const char *which, const sp_picture_set *set)
{
    if (set->count)
        sp_string_say(s, "%s: %lld pictures, %s\n", which, (long long)set->count, set->source);
    else
        sp_string_say(s, "%s: pictures whose number the file does not say, %s\n", which, set->source);
}

static void say_score(sp_string *s, const score_run *r, const char *name, double score, const sp_interval *interval)
{
    sp_string_append_format(s, "%s %.6f", name, score);
    if (r->o->bootstrap != SPLAM_UNSET)
        sp_string_append_format(s, ", 95 %% from %.6f to %.6f", interval->low, interval->high);
    sp_string_append(s, "\n", 1);
}

static void say(const score_run *r, sp_string *s)
{
    if (r->wanted[SCORE_FID]) say_score(s, r, "fid", r->fid, &r->fid_interval);
    if (r->wanted[SCORE_KID])
        sp_string_append_format(s, "kid %.6g, %.2g over %lld subsets of %lld\n", r->kid_mean, r->kid_std,
                                (long long)r->o->kid_subsets, (long long)r->kid_size);
    if (r->wanted[SCORE_IS])
        sp_string_append_format(s, "is %.6f, %.2g over %d parts of A\n", r->is_mean, r->is_std,
                                SP_INCEPTION_SCORE_SPLITS);
    for (int i = 0; i < SP_PRDC_COUNT && r->wanted[SCORE_PRDC]; i++)
        say_score(s, r, prdc_names[i], r->prdc.mean[i], &r->prdc_interval[i]);
    say_count(s, "A", &r->a);
    if (r->o->b) say_count(s, "B", &r->b);
    sp_string_append_format(s, "convention: %s\n", sp_convention_name(r->preparation.convention));
    if (r->preparation.transform != SP_TRANSFORM_NONE)
        sp_string_append_format(s, "transform: %s\n", sp_transform_name(r->preparation.transform));
    if (r->o->inception) sp_string_append_format(s, "inception: sha256 %s\n", r->inception.sha256);
}

static sp_status report(const score_run *r, char **out)
{
    sp_string s = {0};
    if (r->o->json) {
        json_t *all = as_json(r);
        char *text = all ? sp_json_dumps(all, JSON_INDENT(2)) : NULL;
        json_decref(all);
        if (text) sp_string_append_format(&s, "%s\n", text);
        s.failed = s.failed || !text;
        sp_free(text);
    } else {
        say(r, &s);
    }
    if (!s.failed) *out = sp_strdup(sp_string_text(&s));
    sp_string_free(&s);
    return *out ? SP_OK : SP_MEMORY;
}

sp_status sp_score_sets(const splam_score_options *options, const sp_callbacks *callbacks, char **out)
{
    score_run r = {.o = options, .callbacks = callbacks};
    *out = NULL;
    sp_status status = check(&r);
    if (!status) status = collect(&r);
    if (!status) status = measure(&r);
    if (!status) status = report(&r, out);
    sp_prdc_free(&r.prdc);
    sp_picture_set_free(&r.a);
    sp_picture_set_free(&r.b);
    sp_inception_file_free(&r.inception);
    return status;
}
