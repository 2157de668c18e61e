/* The list of scores of sets of pictures, and what they share. */
#include "eval/picture_score.h"
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"

static const sp_picture_score *const scores[] = {
#define X(name) &sp_##name##_score,
    SP_PICTURE_SCORE_LIST(X)
#undef X
};

const sp_picture_score *sp_picture_score_at(int index)
{
    return scores[index];
}

sp_status sp_picture_scores_parse(const char *text, bool *wanted)
{
    const char *names[SP_PICTURE_SCORES];
    char *words = sp_strdup(text), *rest = words;
    sp_status status = words ? SP_OK : SP_MEMORY;
    for (int i = 0; i < SP_PICTURE_SCORES; i++)
        names[i] = scores[i]->name;
    for (char *word; !status && (word = strsep(&rest, ",")) != NULL;) {
        int i;
        status = sp_name_index("metric", word, names, SP_PICTURE_SCORES, &i);
        if (!status) wanted[i] = true;
    }
    sp_free(words);
    return status;
}

/* Whether "a,b,c" has a word. */
static bool lists(const char *names, const char *word)
{
    size_t length = strlen(word);
    for (const char *name = names; name; name = strchr(name, ','), name += name != NULL)
        if (strcspn(name, ",") == length && memcmp(name, word, length) == 0) return true;
    return false;
}

static bool reads(const sp_picture_score *score, const char *option)
{
    return lists(score->options, option) || lists(sp_extractor_kind_at(score->network)->options, option);
}

static sp_status check_option(const bool *wanted, const char *option)
{
    sp_string readers = {0};
    bool read = false;
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        if (!reads(scores[i], option)) continue;
        read |= wanted[i];
        sp_string_append_format(&readers, "%s%s", readers.length ? ", " : "", scores[i]->name);
    }
    sp_status status = SP_OK;
    if (!read && readers.length)
        status = sp_fail(SP_ARGUMENT, "`%s` is for %s, and none of these is among `metrics`", option,
                         sp_string_text(&readers));
    sp_string_free(&readers);
    return status;
}

sp_status sp_picture_scores_check_options(const bool *wanted, const char *also, const sp_verb *verb,
                                          const void *options)
{
    for (size_t i = 0; i < verb->count; i++) {
        const splam_option *o = &verb->options[i];
        if (sp_option_is_given(o, options) && !lists(also, o->name)) SP_TRY(check_option(wanted, o->name));
    }
    return SP_OK;
}

sp_score_value *sp_score_add(sp_score_result *result, const char *key, double value)
{
    sp_score_value *v = &result->value[result->value_count++];
    *v = (sp_score_value){.key = key, .value = value, .deviation = NAN};
    return v;
}

sp_status sp_score_add_mean(sp_score_result *result, const char *key, const double *terms, int64_t count,
                            int64_t resamples)
{
    double mean = 0;
    for (int64_t i = 0; i < count; i++)
        mean += terms[i] / (double)count;
    sp_score_add(result, key, mean);
    if (resamples == SPLAM_UNSET) return SP_OK;
    return sp_bootstrap_mean(terms, count, resamples, sp_score_add_interval(result));
}

sp_interval *sp_score_add_interval(sp_score_result *result)
{
    int last = result->value_count - 1;
    result->value[last].interval = &result->room[last];
    return &result->room[last];
}

void sp_score_add_setting(sp_score_result *result, const char *key, int64_t value)
{
    result->setting[result->setting_count].key = key;
    result->setting[result->setting_count++].value = value;
}

sp_status sp_score_add_words(sp_score_result *result, const char *key, const char *text)
{
    char *copy = sp_strdup(text);
    if (!copy) return SP_MEMORY;
    result->word[result->word_count].key = key;
    result->word[result->word_count++].text = copy;
    return SP_OK;
}

void sp_score_result_free(sp_score_result *result)
{
    for (int i = 0; i < result->word_count; i++)
        sp_free(result->word[i].text);
    sp_free(result->terms);
    *result = (sp_score_result){0};
}

const sp_tensor *sp_score_rows(const sp_picture_score *score, const sp_picture_set *set)
{
    return sp_picture_set_rows(set, score->network, score->feature);
}
