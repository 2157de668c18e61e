/* A unigram tokenizer's file read. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/unigram_parts.h"

enum { LONGEST_PIECE = 1024 }; /* bytes */
static const double unknown_penalty = 10; /* below the least likely piece */

typedef struct {
    const char *path;
    sp_unigram *tokenizer;
} loader;

static bool is_of_type(const json_t *object, const char *type)
{
    const char *own = json_string_value(json_object_get(object, "type"));
    return own && strcmp(own, type) == 0;
}

static sp_status fail_part(const loader *l, const char *part, const json_t *found)
{
    char text[128];
    return sp_fail(SP_UNSUPPORTED, "%s: the %s is %s, which T5's tokenizers do not have", l->path, part,
                   sp_json_brief(found, text, sizeof text));
}

/* ---- the vocabulary ---- */

static sp_status add_piece(loader *l, const json_t *entry)
{
    sp_unigram *t = l->tokenizer;
    const json_t *text = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    size_t at = t->pieces.count, length = json_string_length(text);
    if (!json_is_string(text) || !json_is_number(score) || !isfinite(json_number_value(score)))
        return sp_fail(SP_FORMAT, "%s: token %zu must be a text and a number", l->path, at);
    if (length > LONGEST_PIECE)
        return sp_fail(SP_FORMAT, "%s: token %zu has %zu bytes, and at most %d are expected", l->path, at, length,
                       LONGEST_PIECE);
    if (sp_token_table_find(&t->pieces, json_string_value(text), length, NULL, 0) >= 0)
        return sp_fail(SP_FORMAT, "%s: token %zu is there twice", l->path, at);
    SP_TRY(sp_token_table_add(&t->pieces, json_string_value(text), length, NULL, 0, NULL));
    t->scores[at] = json_number_value(score);
    if (length > t->longest) t->longest = length;
    return SP_OK;
}

static sp_status read_model(loader *l, const json_t *model)
{
    sp_unigram *t = l->tokenizer;
    const json_t *list = json_object_get(model, "vocab"), *unknown = json_object_get(model, "unk_id");
    size_t count = json_array_size(list);
    double least = DBL_MAX;
    if (!is_of_type(model, "Unigram") || json_is_true(json_object_get(model, "byte_fallback")))
        return fail_part(l, "model", json_object_get(model, "type"));
    if (!count || count > INT32_MAX / 2) return sp_fail(SP_FORMAT, "%s: \"vocab\" has %zu tokens", l->path, count);
    if (!json_is_integer(unknown) || json_integer_value(unknown) < 0 ||
        json_integer_value(unknown) >= (json_int_t)count)
        return sp_fail(SP_FORMAT, "%s: \"unk_id\" must be one of the %zu tokens", l->path, count);
    t->unknown = (int32_t)json_integer_value(unknown);
    t->scores = sp_alloc(count * sizeof *t->scores);
    if (!t->scores) return SP_MEMORY;
    for (size_t i = 0; i < count; i++) {
        SP_TRY(add_piece(l, json_array_get(list, i)));
        least = fmin(least, t->scores[i]);
    }
    t->unknown_score = least - unknown_penalty;
    t->size = count;
    return SP_OK;
}

/* ---- how text is prepared ---- */

static sp_status read_charsmap(loader *l, const json_t *normalizer)
{
    const json_t *map = json_object_get(normalizer, "precompiled_charsmap");
    if (!is_of_type(normalizer, "Precompiled") || !json_is_string(map)) return fail_part(l, "normalizer", normalizer);
    sp_status status = sp_charsmap_read(json_string_value(map), json_string_length(map), &l->tokenizer->charsmap);
    return status ? sp_fail_within(status, "%s", l->path) : SP_OK;
}

static bool cuts_end(const json_t *n)
{
    return is_of_type(n, "Strip") && json_is_true(json_object_get(n, "strip_right")) &&
           !json_is_true(json_object_get(n, "strip_left"));
}

static bool joins_blanks(const json_t *n)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(n, "pattern"), "Regex")),
               *content = json_string_value(json_object_get(n, "content"));
    return is_of_type(n, "Replace") && pattern && content && strcmp(pattern, " {2,}") == 0 &&
           strcmp(content, SP_WORD_BEGIN) == 0;
}

static bool begins_words(const json_t *p)
{
    const char *sign = json_string_value(json_object_get(p, "replacement")),
               *scheme = json_string_value(json_object_get(p, "prepend_scheme"));
    return is_of_type(p, "Metaspace") && sign && strcmp(sign, SP_WORD_BEGIN) == 0 &&
           (!scheme || strcmp(scheme, "always") == 0) && !json_is_false(json_object_get(p, "add_prefix_space")) &&
           !json_is_false(json_object_get(p, "split"));
}

/* Two forms are in use: white space splits, and words are begun; or blanks are made beginnings of words by the
 * normaliser, and nothing else splits. */
static sp_status read_preparation(loader *l, const json_t *normalizer, const json_t *splitter)
{
    const json_t *steps = json_object_get(splitter, "pretokenizers"),
                 *list = json_object_get(normalizer, "normalizers");
    bool both = is_of_type(splitter, "Sequence") && json_array_size(steps) == 2 &&
                is_of_type(json_array_get(steps, 0), "WhitespaceSplit") && begins_words(json_array_get(steps, 1));
    bool older = begins_words(splitter) && is_of_type(normalizer, "Sequence") && json_array_size(list) == 3 &&
                 cuts_end(json_array_get(list, 1)) && joins_blanks(json_array_get(list, 2));
    if (!both && !older) return fail_part(l, "pre_tokenizer", splitter);
    l->tokenizer->blanks_alone = older;
    if (older) return read_charsmap(l, json_array_get(list, 0));
    return !normalizer || json_is_null(normalizer) ? SP_OK : read_charsmap(l, normalizer);
}

/* ---- added tokens ---- */

static sp_status add_token(loader *l, const json_t *token)
{
    const char *content = json_string_value(json_object_get(token, "content"));
    const json_t *id = json_object_get(token, "id");
    json_int_t number = json_integer_value(id);
    if (!content || !json_is_integer(id) || number < 0 || number > INT32_MAX / 2)
        return sp_fail(SP_FORMAT, "%s: an added token must have a \"content\" and an \"id\"", l->path);
    if (json_is_true(json_object_get(token, "normalized")) || json_is_true(json_object_get(token, "single_word")))
        return fail_part(l, "added token", token);
    if ((size_t)number >= l->tokenizer->size) l->tokenizer->size = (size_t)number + 1;
    return sp_added_tokens_put(&l->tokenizer->added, content, (int32_t)number, false, true);
}

static sp_status read_added(loader *l, const json_t *list)
{
    size_t i;
    json_t *token;
    json_array_foreach((json_t *)(uintptr_t)list, i, token) SP_TRY(add_token(l, token));
    return sp_added_tokens_finish(&l->tokenizer->added);
}

static sp_status find_token(const loader *l, const char *content, int32_t *out)
{
    const sp_added_token *added = sp_added_tokens_find(&l->tokenizer->added, content);
    *out = added ? added->id : sp_token_table_find(&l->tokenizer->pieces, content, strlen(content), NULL, 0);
    return *out >= 0 ? SP_OK : sp_fail(SP_FORMAT, "%s: has no token \"%s\"", l->path, content);
}

/* ---- the file ---- */

static sp_status read_all(loader *l, const json_t *json)
{
    if (!json_is_object(json)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", l->path);
    SP_TRY(read_model(l, json_object_get(json, "model")));
    SP_TRY(read_preparation(l, json_object_get(json, "normalizer"), json_object_get(json, "pre_tokenizer")));
    SP_TRY(read_added(l, json_object_get(json, "added_tokens")));
    SP_TRY(find_token(l, "</s>", &l->tokenizer->end));
    return find_token(l, "<pad>", &l->tokenizer->padding);
}

sp_status sp_unigram_load(const char *folder, sp_unigram **out)
{
    json_t *json = NULL;
    char *path = sp_path_join(folder, "tokenizer.json");
    loader l = {path, path ? sp_alloc_zero(sizeof *l.tokenizer) : NULL};
    sp_status status = l.tokenizer ? sp_json_load(path, &json) : SP_MEMORY;
    if (!status) status = read_all(&l, json);
    json_decref(json);
    sp_free(path);
    if (status) sp_unigram_destroy(l.tokenizer);
    *out = status ? NULL : l.tokenizer;
    return status;
}
