/* Special tokens and what the files say about them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "text/tokenizer_parts.h"

/* A token that the settings ask for, before it has an id. Texts belong to the JSON that they come
 * from. */
typedef struct {
    const char *content;
    size_t older; /* one with the same content that was asked for before it, + 1; 0: none */
    bool plain;   /* given as a bare text, without flags */
    bool special;
    enum { NORMALIZED_UNSAID, NORMALIZED_NO, NORMALIZED_YES } normalized;
    int64_t id; /* as the file says; -1 where it says nothing */
} wanted_token;

typedef struct {
    const char *folder;
    sp_tokenizer *tokenizer;
    const sp_tokenizer_settings *settings;
    wanted_token *wanted;
    size_t count, capacity;
    sp_dictionary *named; /* the contents of tokens with names and of `lists` */
    sp_dictionary *newest; /* content -> the last of `wanted` that has it, + 1 */
    size_t listed; /* how many of `wanted` come from a list of added tokens; the rest have a name */
} reader;

/* In the order in which transformers adds them. The fallback is for a key that is nowhere. */
static const struct {
    const char *key;
    int role; /* -1: one more special token */
    const char *fallback;
} named[] = {
    {"bos_token", SP_TOKEN_BEGIN, SP_CLIP_BEGIN},
    {"eos_token", SP_TOKEN_END, SP_CLIP_END},
    {"unk_token", SP_TOKEN_UNKNOWN, SP_CLIP_END},
    {"sep_token", -1, NULL},
    {"pad_token", SP_TOKEN_PAD, SP_CLIP_END},
    {"cls_token", -1, NULL},
    {"mask_token", -1, NULL},
};
#define NAMED_COUNT (sizeof named / sizeof named[0])

static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
#define LIST_COUNT (sizeof lists / sizeof lists[0])

/* What the files say for a key, or NULL; may be JSON's null. special_tokens_map.json wins, unless
 * tokenizer_config.json lists its added tokens, which makes the map a leftover. */
static const json_t *setting(const reader *r, const char *key)
{
    bool listed = json_object_get(r->settings->config, "added_tokens_decoder") != NULL;
    const json_t *value = listed ? NULL : json_object_get(r->settings->special_map, key);
    return value != NULL ? value : json_object_get(r->settings->config, key);
}

static const char *content_of(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* The content of a named token: what the files say, or its fallback; NULL when there is none. */
static const char *named_content(const reader *r, size_t i)
{
    const json_t *value = setting(r, named[i].key);
    return value == NULL ? named[i].fallback : content_of(value);
}

static bool is_named(const reader *r, const char *content)
{
    return sp_dictionary_get(r->named, content) != NULL;
}

static sp_status add_name(reader *r, const char *content)
{
    return content == NULL ? SP_OK : sp_dictionary_put(r->named, content, r);
}

static sp_status collect_names(reader *r)
{
    r->named = sp_dictionary_create();
    r->newest = sp_dictionary_create();
    if (r->named == NULL || r->newest == NULL) return SP_MEMORY;
    for (size_t i = 0; i < NAMED_COUNT; i++)
        SP_TRY(add_name(r, named_content(r, i)));
    for (size_t i = 0; i < LIST_COUNT; i++) {
        const json_t *list = setting(r, lists[i]);
        for (size_t k = 0; k < json_array_size(list); k++)
            SP_TRY(add_name(r, content_of(json_array_get(list, k))));
    }
    return SP_OK;
}

/* A token given as a text, or as an object with flags. */
static sp_status read_token(const reader *r, const json_t *value, const char *key,
                            wanted_token *out)
{
    static const char *const refused[] = {"lstrip", "rstrip", "single_word"};
    *out = (wanted_token){.content = content_of(value), .plain = json_is_string(value), .id = -1};
    if (out->content == NULL)
        return sp_fail(
            SP_FORMAT,
            "%s: the token under \"%s\" is neither a text nor an object with \"content\"",
            r->folder, key);
    if (out->plain) {
        out->special = true;
        return SP_OK;
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (json_is_true(json_object_get(value, refused[i])))
            return sp_fail(SP_UNSUPPORTED,
                           "%s: the token \"%s\" has \"%s\", which is not supported", r->folder,
                           out->content, refused[i]);
    }
    const json_t *normalized = json_object_get(value, "normalized");
    if (json_is_boolean(normalized))
        out->normalized = json_is_true(normalized) ? NORMALIZED_YES : NORMALIZED_NO;
    out->special = json_is_true(json_object_get(value, "special"));
    return SP_OK;
}

static sp_status want(reader *r, wanted_token token)
{
    wanted_token *wanted = sp_grown(r->wanted, sizeof *wanted, r->count + 1, &r->capacity);
    if (wanted == NULL) return SP_MEMORY;
    r->wanted = wanted;
    wanted[r->count++] = token;
    return SP_OK;
}

static sp_status want_listed(reader *r, wanted_token token, double id)
{
    if (!(id >= 0 && id < INT32_MAX && id == floor(id)))
        return sp_fail(SP_FORMAT, "%s: the added token \"%s\" has no proper id", r->folder,
                       token.content);
    token.id = (int64_t)id;
    return want(r, token);
}

/* Decimal digits alone, or -1. */
static double number_of(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && text[digits] == '\0' ? strtod(text, NULL) : -1;
}

static sp_status want_decoder(reader *r, json_t *decoder)
{
    const char *key;
    json_t *value;
    json_object_foreach(decoder, key, value)
    {
        wanted_token token;
        SP_TRY(read_token(r, value, "added_tokens_decoder", &token));
        SP_TRY(want_listed(r, token, number_of(key)));
    }
    return SP_OK;
}

/* The older lists: added_tokens.json (text: id), and the one in tokenizer.json. */
static sp_status want_older_lists(reader *r)
{
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach(r->settings->added, key, value)
    {
        bool special = is_named(r, key);
        wanted_token token = {.content = key,
                              .special = special,
                              .normalized = special ? NORMALIZED_NO : NORMALIZED_YES};
        SP_TRY(want_listed(r, token, json_is_number(value) ? json_number_value(value) : -1));
    }
    json_array_foreach(json_object_get(r->settings->whole, "added_tokens"), i, value)
    {
        wanted_token token;
        const json_t *id = json_object_get(value, "id");
        SP_TRY(read_token(r, value, "added_tokens", &token));
        SP_TRY(want_listed(r, token, json_is_number(id) ? json_number_value(id) : -1));
    }
    return SP_OK;
}

static int compare_ids(const void *left, const void *right)
{
    int64_t a = ((const wanted_token *)left)->id, b = ((const wanted_token *)right)->id;
    return (a > b) - (a < b);
}

/* Links a token to those before it that have its content. */
static sp_status link_same(reader *r, size_t i)
{
    wanted_token *token = &r->wanted[i];
    token->older = (size_t)(uintptr_t)sp_dictionary_get(r->newest, token->content);
    return sp_dictionary_put(r->newest, token->content, (void *)(uintptr_t)(i + 1));
}

static sp_status want_listed_tokens(reader *r)
{
    json_t *decoder = json_object_get(r->settings->config, "added_tokens_decoder");
    SP_TRY(decoder != NULL ? want_decoder(r, decoder) : want_older_lists(r));
    r->listed = r->count;
    if (r->count > 1) qsort(r->wanted, r->count, sizeof *r->wanted, compare_ids);
    for (size_t i = 0; i < r->count; i++)
        SP_TRY(link_same(r, i));
    return SP_OK;
}

/* A token with a name, unless a list has it or the same was asked for before. Of one content there
 * are no more than its flags can tell apart. */
static sp_status want_named(reader *r, wanted_token token)
{
    size_t i = (size_t)(uintptr_t)sp_dictionary_get(r->newest, token.content);
    for (; i > 0; i = r->wanted[i - 1].older) {
        const wanted_token *other = &r->wanted[i - 1];
        bool same = other->plain == token.plain && other->special == token.special &&
                    other->normalized == token.normalized;
        if (i <= r->listed || same) return SP_OK;
    }
    SP_TRY(want(r, token));
    return link_same(r, r->count - 1);
}

static sp_status want_value(reader *r, const json_t *value, const char *key)
{
    wanted_token token;
    SP_TRY(read_token(r, value, key, &token));
    return want_named(r, token);
}

static sp_status want_named_tokens(reader *r)
{
    for (size_t i = 0; i < NAMED_COUNT; i++) {
        const json_t *value = setting(r, named[i].key);
        if (value == NULL && named[i].fallback != NULL)
            SP_TRY(want_named(
                r, (wanted_token){
                       .content = named[i].fallback, .plain = true, .special = true, .id = -1}));
        else if (value != NULL && !json_is_null(value))
            SP_TRY(want_value(r, value, named[i].key));
    }
    for (size_t i = 0; i < LIST_COUNT; i++) {
        const json_t *list = setting(r, lists[i]);
        for (size_t k = 0; k < json_array_size(list); k++)
            SP_TRY(want_value(r, json_array_get(list, k), lists[i]));
    }
    return SP_OK;
}

static sp_status put_tokens(const reader *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const wanted_token *token = &r->wanted[i];
        bool special = token->special || is_named(r, token->content);
        bool normalized =
            token->normalized == NORMALIZED_UNSAID ? !special : token->normalized == NORMALIZED_YES;
        SP_TRY(sp_tokenizer_put_added(r->tokenizer, token->content, normalized, special));
        int32_t id = sp_tokenizer_find(r->tokenizer, token->content);
        if (token->id >= 0 && id != token->id)
            return sp_fail(
                SP_FORMAT,
                "%s: the added token \"%s\" says that its id is %lld, but its place is %d",
                r->folder, token->content, (long long)token->id, id);
    }
    return SP_OK;
}

static sp_status set_roles(const reader *r)
{
    int32_t *roles = r->tokenizer->roles;
    for (size_t i = 0; i < NAMED_COUNT; i++) {
        if (named[i].role < 0) continue;
        const char *content = named_content(r, i);
        int32_t id = content == NULL ? -1 : sp_tokenizer_find(r->tokenizer, content);
        /* transformers can encode without a padding token, but not pad; CLIP pads with the end
         * token. */
        if (id < 0 && named[i].role == SP_TOKEN_PAD) id = roles[SP_TOKEN_END];
        if (id < 0) return sp_fail(SP_FORMAT, "%s: there is no %s", r->folder, named[i].key);
        roles[named[i].role] = id;
    }
    return SP_OK;
}

sp_status sp_tokenizer_read_special(sp_tokenizer *tokenizer, const sp_tokenizer_settings *settings,
                                    const char *folder)
{
    reader r = {.folder = folder, .tokenizer = tokenizer, .settings = settings};
    sp_status status = collect_names(&r);
    if (status == SP_OK) status = want_listed_tokens(&r);
    if (status == SP_OK) status = want_named_tokens(&r);
    if (status == SP_OK) status = put_tokens(&r);
    if (status == SP_OK) status = set_roles(&r);
    if (status == SP_OK) status = sp_added_tokens_finish(&tokenizer->added);
    sp_free(r.wanted);
    sp_dictionary_destroy(r.named);
    sp_dictionary_destroy(r.newest);
    return status;
}
