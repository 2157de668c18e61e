/* Options as their tables declare them: defaults, structs of other sizes, checks. */
#include "options/options.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <splam/model.h>

static const sp_verb *const verbs[] = {
#define X(verb) &sp_verb_##verb,
    SP_VERB_LIST(X)
#undef X
};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* Larger than any struct of options: what is above is no size. */
static const size_t largest = 1 << 16;

static const sp_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(verbs[i]->verb, name) == 0) return verbs[i];
    return NULL;
}

static sp_status verb_of(const char *name, const sp_verb **out)
{
    *out = find_verb(name);
    return *out ? SP_OK : sp_fail(SP_ARGUMENT, "there is no verb \"%s\" with options", name);
}

const char *splam_option_verb(size_t i)
{
    return i < VERBS ? verbs[i]->verb : NULL;
}

const splam_option *splam_option_at(const char *verb, size_t i)
{
    const sp_verb *v = find_verb(verb);
    return v && i < v->count ? &v->options[i] : NULL;
}

const splam_option *sp_option_find(const sp_verb *verb, const char *name)
{
    for (size_t i = 0; i < verb->count; i++)
        if (strcmp(verb->options[i].name, name) == 0) return &verb->options[i];
    return NULL;
}

/* ---- defaults ---- */

static void set_default(const splam_option *o, char *options)
{
    void *member = options + o->offset;
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        *(bool *)member = o->preset != 0;
        break;
    case SPLAM_OPTION_TEXT:
    case SPLAM_OPTION_CHOICE:
        *(const char **)member = o->preset_text;
        break;
    case SPLAM_OPTION_ENUM:
        *(int *)member = (int)o->preset;
        break;
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES:
        *(int64_t *)member = (int64_t)o->preset;
        break;
    case SPLAM_OPTION_SPAN:
        *(int64_t *)member = *(int64_t *)(options + o->beside) = (int64_t)o->preset;
        break;
    case SPLAM_OPTION_SEED:
        *(uint64_t *)member = (uint64_t)o->preset;
        break;
    case SPLAM_OPTION_NUMBER:
        *(double *)member = o->preset;
        break;
    case SPLAM_OPTION_TEXTS:
    case SPLAM_OPTION_INTEGERS:
    case SPLAM_OPTION_LORAS:
    case SPLAM_OPTION_EMBEDDINGS:
        break; /* none */
    }
}

/* A whole struct. */
static void fill(const sp_verb *v, void *options)
{
    memset(options, 0, v->size);
    *(size_t *)options = v->size;
    for (size_t i = 0; i < v->count; i++)
        set_default(&v->options[i], options);
}

splam_status splam_option_defaults(const char *verb, void *options, size_t size)
{
    const sp_verb *v;
    SP_TRY(verb_of(verb, &v));
    if (size < sizeof size || size > largest)
        return sp_fail(SP_ARGUMENT, "%zu bytes are no options of %s, which are %zu", size, verb, v->size);
    _Alignas(max_align_t) char whole[v->size];
    fill(v, whole);
    memset(options, 0, size);
    memcpy(options, whole, size < v->size ? size : v->size);
    *(size_t *)options = size;
    return SP_OK;
}

/* ---- checks ---- */

static sp_status missing(const splam_option *o)
{
    return sp_fail(SP_ARGUMENT, "`%s` is missing: %s", o->name, o->help);
}

static sp_status check_range(const splam_option *o, double value)
{
    bool any = o->low == 0 && o->high == 0, unset = value == (double)SPLAM_UNSET;
    if (unset && o->required) return missing(o);
    if (unset && o->preset == (double)SPLAM_UNSET) return SP_OK;
    if (any ? isfinite(value) : value >= o->low && value <= o->high) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is %.12g, a %s from %.12g to %.12g is expected", o->name, value,
                   o->kind == SPLAM_OPTION_NUMBER ? "number" : "whole number", o->low, o->high);
}

int sp_choice_index(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t size = strcspn(choices, "|");
        if (size == length && memcmp(choices, text, size) == 0) return i;
        if (!choices[size]) return -1;
        choices += size + 1;
    }
}

static int choice_count(const char *choices)
{
    int count = 1;
    for (const char *c = choices; *c; c++)
        count += *c == '|';
    return count;
}

static sp_status check_text(const splam_option *o, const char *text)
{
    if (!text && (o->required || o->preset_text)) return missing(o);
    if (!text || o->kind == SPLAM_OPTION_TEXT || sp_choice_index(o->choices, text) >= 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is \"%.64s\", one of %s is expected", o->name, text, o->choices);
}

static sp_status check_span(const splam_option *o, int64_t from, int64_t to)
{
    SP_TRY(check_range(o, (double)from));
    if (to == SPLAM_UNSET) return SP_OK;
    if (from == SPLAM_UNSET)
        return sp_fail(SP_ARGUMENT, "`%s` has an end, %lld, and no beginning", o->name, (long long)to);
    return check_range(o, (double)to);
}

static sp_status check_enum(const splam_option *o, int value)
{
    if (value >= 0 && value < choice_count(o->choices)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` is %d, expected 0 to %d (%s)", o->name, value, choice_count(o->choices) - 1,
                   o->choices);
}

static sp_status check_lora(const splam_lora *lora)
{
    if (!lora->path) return sp_fail(SP_ARGUMENT, "a LoRA's file is missing");
    if (isfinite(lora->weight)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: the weight %g is not finite", lora->path, lora->weight);
}

static sp_status check_embedding(const splam_embedding *embedding)
{
    return embedding->path ? SP_OK : sp_fail(SP_ARGUMENT, "an embedding's file is missing");
}

static sp_status check_list(const splam_option *o, const char *options)
{
    const void *list = *(void *const *)(options + o->offset);
    size_t count = *(const size_t *)(options + o->beside);
    if (o->required && count == 0) return missing(o);
    if (count && !list) return sp_fail(SP_ARGUMENT, "`%s` is NULL, and %zu are said to be there", o->name, count);
    for (size_t i = 0; i < count; i++) {
        if (o->kind == SPLAM_OPTION_LORAS) SP_TRY(check_lora(&((const splam_lora *)list)[i]));
        if (o->kind == SPLAM_OPTION_EMBEDDINGS) SP_TRY(check_embedding(&((const splam_embedding *)list)[i]));
        if (o->kind == SPLAM_OPTION_INTEGERS) SP_TRY(check_range(o, (double)((const int64_t *)list)[i]));
        if (o->kind == SPLAM_OPTION_TEXTS && !((const char *const *)list)[i])
            return sp_fail(SP_ARGUMENT, "`%s` has no text at place %zu", o->name, i);
    }
    return SP_OK;
}

static sp_status check_option(const splam_option *o, const char *options)
{
    const void *member = options + o->offset;
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
    case SPLAM_OPTION_SEED:
        return SP_OK;
    case SPLAM_OPTION_TEXT:
    case SPLAM_OPTION_CHOICE:
        return check_text(o, *(const char *const *)member);
    case SPLAM_OPTION_ENUM:
        return check_enum(o, *(const int *)member);
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES:
        return check_range(o, (double)*(const int64_t *)member);
    case SPLAM_OPTION_SPAN:
        return check_span(o, *(const int64_t *)member, *(const int64_t *)(options + o->beside));
    case SPLAM_OPTION_NUMBER:
        return check_range(o, *(const double *)member);
    default:
        return check_list(o, options);
    }
}

bool sp_option_is_given(const splam_option *o, const void *options)
{
    const void *member = (const char *)options + o->offset;
    const char *text;
    switch (o->kind) {
    case SPLAM_OPTION_FLAG:
        return *(const bool *)member != (o->preset != 0);
    case SPLAM_OPTION_TEXT:
    case SPLAM_OPTION_CHOICE:
        text = *(const char *const *)member;
        return text && (!o->preset_text || strcmp(text, o->preset_text) != 0);
    case SPLAM_OPTION_ENUM:
        return *(const int *)member != (int)o->preset;
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES:
    case SPLAM_OPTION_SPAN:
        return *(const int64_t *)member != (int64_t)o->preset;
    case SPLAM_OPTION_SEED:
        return *(const uint64_t *)member != (uint64_t)o->preset;
    case SPLAM_OPTION_NUMBER:
        return *(const double *)member != o->preset;
    default:
        return *(const size_t *)(const void *)((const char *)options + o->beside) > 0;
    }
}

static sp_status check_need(const sp_verb *v, const splam_option *o, const void *options)
{
    const splam_option *needed = o->needs && sp_option_is_given(o, options) ? sp_option_find(v, o->needs) : NULL;
    if (!needed || sp_option_is_given(needed, options)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`%s` has no effect without `%s`", o->name, needed->name);
}

/* What `given` is said to have; 0 if that cannot be. */
static size_t size_of(const void *given)
{
    size_t size = given ? *(const size_t *)given : 0;
    return size < sizeof size || size > largest ? 0 : size;
}

/* The members that both know; what is behind them in `given` must say nothing. */
static sp_status copy_known(const char *what, const void *given, void *own, size_t own_size)
{
    size_t size = size_of(given);
    memcpy(own, given, size < own_size ? size : own_size);
    *(size_t *)own = own_size;
    for (size_t i = own_size; i < size; i++)
        if (((const char *)given)[i])
            return sp_fail(SP_UNSUPPORTED, "%s has a member that this library, version %s, does not know", what,
                           SPLAM_VERSION);
    return SP_OK;
}

sp_status sp_options_copy(const sp_verb *v, const void *given, void *own)
{
    char what[64];
    if (!size_of(given))
        return sp_fail(SP_ARGUMENT, "`size` is %zu, and the options of %s have %zu: begin with splam_%s_defaults()",
                       given ? *(const size_t *)given : 0, v->verb, v->size, v->verb);
    fill(v, own);
    snprintf(what, sizeof what, "splam_%s_options", v->verb);
    return copy_known(what, given, own, v->size);
}

sp_status sp_options_check(const sp_verb *v, const void *own)
{
    for (size_t i = 0; i < v->count; i++)
        SP_TRY(check_option(&v->options[i], own));
    for (size_t i = 0; i < v->count; i++)
        SP_TRY(check_need(v, &v->options[i], own));
    return SP_OK;
}

sp_status sp_options_take(const sp_verb *v, const void *given, void *own)
{
    SP_TRY(sp_options_copy(v, given, own));
    return sp_options_check(v, own);
}

/* What a member of this kind takes, without what belongs to it. */
static size_t bytes_of(splam_option_kind kind)
{
    switch (kind) {
    case SPLAM_OPTION_FLAG: return sizeof(bool);
    case SPLAM_OPTION_ENUM: return sizeof(int);
    case SPLAM_OPTION_TEXT:
    case SPLAM_OPTION_CHOICE: return sizeof(const char *);
    case SPLAM_OPTION_INTEGER:
    case SPLAM_OPTION_BYTES: return sizeof(int64_t);
    case SPLAM_OPTION_SEED: return sizeof(uint64_t);
    case SPLAM_OPTION_NUMBER: return sizeof(double);
    default: return 0;
    }
}

void sp_options_share(const sp_verb *from, const void *given, const sp_verb *v, void *own)
{
    for (size_t i = 0; i < v->count; i++) {
        const splam_option *to = &v->options[i], *o = sp_option_find(from, to->name);
        if (!o || o->kind != to->kind) continue;
        memcpy((char *)own + to->offset, (const char *)given + o->offset, bytes_of(o->kind));
    }
}

static bool same_member(const splam_option *o, const void *a, const void *b)
{
    const void *one = (const char *)a + o->offset, *other = (const char *)b + o->offset;
    if (o->kind == SPLAM_OPTION_TEXT || o->kind == SPLAM_OPTION_CHOICE) {
        const char *const texts[] = {*(const char *const *)one, *(const char *const *)other};
        return texts[0] && texts[1] ? strcmp(texts[0], texts[1]) == 0 : texts[0] == texts[1];
    }
    size_t bytes = bytes_of(o->kind);
    return memcmp(one, other, bytes ? bytes : sizeof(void *)) == 0;
}

bool sp_options_same(const sp_verb *v, const void *a, const void *b, const char *const *except, size_t excepted)
{
    bool same = true;
    for (size_t i = 0; i < v->count && same; i++) {
        size_t k = 0;
        while (k < excepted && strcmp(except[k], v->options[i].name) != 0)
            k++;
        same = k < excepted || same_member(&v->options[i], a, b);
    }
    return same;
}

sp_status sp_sized_take(const char *what, const void *given, void *own, size_t own_size)
{
    if (!size_of(given))
        return sp_fail(SP_ARGUMENT, "`size` is %zu, and %s has %zu: set it to sizeof(%s)",
                       given ? *(const size_t *)given : 0, what, own_size, what);
    memset(own, 0, own_size);
    return copy_known(what, given, own, own_size);
}

splam_status splam_option_check(const char *verb, const void *options)
{
    const sp_verb *v;
    SP_TRY(verb_of(verb, &v));
    _Alignas(max_align_t) char whole[v->size];
    return sp_options_take(v, options, whole);
}
