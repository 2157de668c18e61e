/* What scores are said as: JSON, and lines for people. */
#include <math.h>
#include <stdio.h>
#include "report/scorer.h"

/* ---- as JSON ---- */

/* KEYsuffix; what is no number is left out. */
static void set_real(sp_json_made *all, const char *key, const char *suffix, double value)
{
    char name[64];
    if (!isfinite(value)) return;
    snprintf(name, sizeof name, "%s%s", key, suffix);
    sp_json_put(all, name, json_real(value));
}

static void set_value(sp_json_made *all, const sp_score_value *v)
{
    bool mean = !isnan(v->deviation);
    set_real(all, v->key, mean ? "_mean" : "", v->value);
    if (mean) set_real(all, v->key, "_std", v->deviation);
    if (!v->interval) return;
    set_real(all, v->key, "_low", v->interval->low);
    set_real(all, v->key, "_high", v->interval->high);
}

static void set_result(sp_json_made *all, const sp_score_result *result)
{
    for (int i = 0; i < result->value_count; i++)
        set_value(all, &result->value[i]);
    for (int i = 0; i < result->setting_count; i++)
        sp_json_put(all, result->setting[i].key, json_integer(result->setting[i].value));
    for (int i = 0; i < result->word_count; i++)
        sp_json_put(all, result->word[i].key, json_string(result->word[i].text));
}

static json_t *count_json(int64_t count)
{
    return count ? json_integer(count) : json_null();
}

/* What was left out, by reason; of a file nothing. */
static void set_left_out(sp_json_made *all, const char *key, const sp_picture_set *set)
{
    sp_rejection list[SP_MAX_REASONS];
    if (!set->pictures.left_out) return;
    size_t count = sp_rejections_list(set->pictures.left_out, list, SP_MAX_REASONS);
    sp_json_made reasons = sp_json_make_list();
    for (size_t i = 0; i < count; i++)
        sp_json_add(&reasons, json_pack("{s:s,s:I,s:s}", "reason", list[i].reason, "count",
                                        (json_int_t)list[i].count, "example", list[i].example));
    sp_json_put(all, key, sp_json_done(&reasons));
}

/* Lines of pictures that are left out. */
static int64_t captions_left_out(const sp_scorer *r)
{
    return r->a.pictures.count - r->a.count;
}

static void set_captions(sp_json_made *all, const sp_scorer *r)
{
    if (!r->captions.text) return;
    sp_json_put(all, "captions_sha256", json_string(r->captions.sha256));
    sp_json_put(all, "captions_left_out", json_integer(captions_left_out(r)));
}

/* The convention is Inception's; other networks have one each. */
static void set_preparation(sp_json_made *all, const sp_scorer *r)
{
    if (sp_scorer_uses(r, SP_EXTRACTOR_INCEPTION))
        sp_json_put(all, "convention", json_string(sp_convention_name(r->preparation.convention)));
    sp_json_put(all, "transform", json_string(sp_transform_name(r->preparation.transform)));
}

static void set_networks(sp_json_made *all, const sp_scorer *r)
{
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        const sp_extractor *e = &r->extractor[i];
        char name[64];
        if (!e->kind) continue;
        snprintf(name, sizeof name, "%s_sha256", e->kind->name);
        sp_json_put(all, name, json_string(e->sha256));
    }
}

json_t *sp_scorer_json(const sp_scorer *r, const sp_score_result *result)
{
    sp_json_made all = sp_json_make_object();
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        set_result(&all, &result[i]);
    if (r->o.bootstrap != SPLAM_UNSET) sp_json_put(&all, "bootstrap", json_integer(r->o.bootstrap));
    sp_json_put(&all, "count_a", count_json(r->a.count));
    if (r->o.b) sp_json_put(&all, "count_b", count_json(r->b.count));
    set_left_out(&all, "unreadable_a", &r->a);
    set_left_out(&all, "unreadable_b", &r->b);
    set_captions(&all, r);
    set_preparation(&all, r);
    set_networks(&all, r);
    return sp_json_done(&all);
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
    if (sp_scorer_uses(r, SP_EXTRACTOR_INCEPTION))
        sp_string_append_format(s, "convention: %s\n", sp_convention_name(r->preparation.convention));
    if (r->preparation.transform != SP_TRANSFORM_NONE)
        sp_string_append_format(s, "transform: %s\n", sp_transform_name(r->preparation.transform));
    for (int i = 0; i < SP_EXTRACTORS; i++)
        if (r->extractor[i].kind)
            sp_string_append_format(s, "%s: sha256 %s\n", r->extractor[i].kind->name, r->extractor[i].sha256);
}

void sp_scorer_say(const sp_scorer *r, const sp_score_result *result, sp_string *s)
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

void sp_scorer_say_value(const sp_score_value *value, sp_string *out)
{
    say_value(out, value);
}

void sp_scorer_say_settings(const sp_scorer *r, sp_string *out)
{
    if (r->o.b) say_count(out, "real", &r->b);
    say_settings(r, out);
}
