/* A tokenizer's files read. */
#include <jansson.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "text/tokenizer_parts.h"

typedef struct {
    const char *folder;
    sp_tokenizer *tokenizer;
    sp_tokenizer_settings settings;
} loader;

/* Whole numbers are read as reals: transformers writes a boundless model_max_length as 10^30. */
static sp_status load_settings(const loader *l, const char *name, json_t **out)
{
    char *path = sp_path_join(l->folder, name);
    if (path == NULL) return SP_MEMORY;
    char *text = NULL;
    size_t size = 0;
    sp_status status = sp_path_exists(path) ? sp_json_read(path, &text, &size) : SP_OK;
    if (text != NULL) {
        json_error_t error;
        unsigned long failures = sp_alloc_failures();
        *out = json_loadb(text, size, JSON_DECODE_INT_AS_REAL, &error);
        if (*out == NULL && sp_alloc_failures() != failures)
            status = sp_fail_within(SP_MEMORY, "%s", path);
        else if (*out == NULL)
            status = sp_fail(SP_FORMAT, "%s, line %d: %s", path, error.line, error.text);
        else if (!json_is_object(*out))
            status = sp_fail(SP_FORMAT, "%s holds no JSON object", path);
    }
    sp_free(text);
    sp_free(path);
    return status;
}

static sp_status add_tokens_by_id(loader *l, const char **texts, size_t count)
{
    sp_token_table *tokens = &l->tokenizer->vocabulary.tokens;
    for (size_t id = 0; id < count; id++) {
        if (sp_token_table_find(tokens, texts[id], strlen(texts[id]), NULL, 0) >= 0)
            return sp_fail(SP_FORMAT, "%s: the token \"%s\" is there twice", l->folder, texts[id]);
        SP_TRY(sp_token_table_add(tokens, texts[id], strlen(texts[id]), NULL, 0, NULL));
    }
    l->tokenizer->size = count;
    sp_vocabulary_find_bytes(&l->tokenizer->vocabulary);
    return SP_OK;
}

static sp_status order_by_id(const loader *l, json_t *object, const char **texts, size_t count)
{
    const char *text;
    json_t *value;
    json_object_foreach(object, text, value)
    {
        double id = json_number_value(value);
        if (!json_is_number(value) || !(id >= 0 && id < (double)count) || id != (double)(size_t)id)
            return sp_fail(SP_FORMAT, "%s: the token \"%s\" should have an id from 0 to %zu",
                           l->folder, text, count - 1);
        if (texts[(size_t)id] != NULL)
            return sp_fail(SP_FORMAT, "%s: the tokens \"%s\" and \"%s\" both have the id %zu",
                           l->folder, texts[(size_t)id], text, (size_t)id);
        texts[(size_t)id] = text;
    }
    return SP_OK;
}

/* The tokens of a JSON object of text: id. As every id is below the count and none comes twice,
 * none is missing. */
static sp_status read_tokens(loader *l, json_t *object)
{
    size_t count = json_object_size(object);
    if (count == 0) return sp_fail(SP_FORMAT, "%s: the vocabulary holds no tokens", l->folder);
    const char **texts = sp_alloc_zero(count * sizeof *texts);
    if (texts == NULL) return SP_MEMORY;
    sp_status status = order_by_id(l, object, texts, count);
    if (status == SP_OK) status = add_tokens_by_id(l, texts, count);
    sp_free(texts);
    return status;
}

static sp_status add_merge(loader *l, const char *left, size_t left_length, const char *right,
                           size_t right_length)
{
    sp_vocabulary *vocabulary = &l->tokenizer->vocabulary;
    sp_merge merge = {
        .left = sp_token_table_find(&vocabulary->tokens, left, left_length, NULL, 0),
        .right = sp_token_table_find(&vocabulary->tokens, right, right_length, NULL, 0),
        .result = sp_token_table_find(&vocabulary->tokens, left, left_length, right, right_length),
    };
    if (merge.left < 0 || merge.right < 0 || merge.result < 0)
        return sp_fail(
            SP_FORMAT,
            "%s: merge %zu, of \"%.*s\" and \"%.*s\", needs a token that the vocabulary lacks",
            l->folder, vocabulary->merge_count + 1, (int)(left_length < 64 ? left_length : 64),
            left, (int)(right_length < 64 ? right_length : 64), right);
    return sp_vocabulary_add_merge(vocabulary, merge);
}

/* "left right". */
static sp_status add_merge_line(loader *l, const char *line, size_t length)
{
    const char *blank = memchr(line, ' ', length);
    size_t left = blank == NULL ? 0 : (size_t)(blank - line);
    if (blank == NULL || memchr(blank + 1, ' ', length - left - 1) != NULL)
        return sp_fail(
            SP_FORMAT,
            "%s: merge %zu should be two tokens with one blank between them, not \"%.*s\"",
            l->folder, l->tokenizer->vocabulary.merge_count + 1, (int)(length < 64 ? length : 64),
            line);
    return add_merge(l, line, left, blank + 1, length - left - 1);
}

static sp_status read_merge_lines(loader *l, const char *text, size_t size)
{
    static const char version[] = "#version";
    for (size_t i = 0; i < size;) {
        const char *line = text + i;
        const char *end = memchr(line, '\n', size - i);
        size_t length = end == NULL ? size - i : (size_t)(end - line);
        i += length + 1;
        if (length > 0 && line[length - 1] == '\r') length--;
        bool comment = length >= strlen(version) && memcmp(line, version, strlen(version)) == 0;
        if (!comment) SP_TRY(add_merge_line(l, line, length));
    }
    return SP_OK;
}

/* A list of "left right" or of [left, right]. */
static sp_status read_merge_list(loader *l, json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
        if (json_is_string(item))
            SP_TRY(add_merge_line(l, json_string_value(item), json_string_length(item)));
        else if (json_array_size(item) == 2 && json_is_string(left) && json_is_string(right))
            SP_TRY(add_merge(l, json_string_value(left), json_string_length(left),
                             json_string_value(right), json_string_length(right)));
        else
            return sp_fail(SP_FORMAT, "%s/tokenizer.json: merge %zu should be two tokens",
                           l->folder, i + 1);
    }
    return SP_OK;
}

static sp_status load_vocabulary_files(loader *l)
{
    char *vocabulary_path = sp_path_join(l->folder, "vocab.json");
    char *merges_path = sp_path_join(l->folder, "merges.txt");
    json_t *vocabulary = NULL;
    char *merges = NULL;
    size_t size = 0;
    sp_status status = vocabulary_path == NULL || merges_path == NULL ? SP_MEMORY : SP_OK;
    if (status == SP_OK) status = sp_json_load(vocabulary_path, &vocabulary);
    if (status == SP_OK) status = read_tokens(l, vocabulary);
    if (status == SP_OK) status = sp_read_text(merges_path, &merges, &size);
    if (status == SP_OK) status = read_merge_lines(l, merges, size);
    json_decref(vocabulary);
    sp_free(merges);
    sp_free(vocabulary_path);
    sp_free(merges_path);
    return status;
}

static sp_status load_vocabulary(loader *l)
{
    if (l->settings.whole == NULL) return load_vocabulary_files(l);
    json_t *model = json_object_get(l->settings.whole, "model");
    json_t *vocabulary = json_object_get(model, "vocab"),
           *merges = json_object_get(model, "merges");
    if (!json_is_object(vocabulary) || !json_is_array(merges))
        return sp_fail(SP_UNSUPPORTED, "%s/tokenizer.json holds no byte-pair model", l->folder);
    SP_TRY(read_tokens(l, vocabulary));
    return read_merge_list(l, merges);
}

static sp_status read_max_length(loader *l)
{
    double length;
    SP_TRY(sp_json_double(l->settings.config, "model_max_length", SP_CLIP_MAX_LENGTH,
                          "tokenizer_config.json", &length));
    if (!(length >= 2))
        return sp_fail(SP_FORMAT,
                       "%s/tokenizer_config.json: model_max_length is %g, but 2 is the least",
                       l->folder, length);
    l->tokenizer->max_length = length > SP_LONGEST_SEQUENCE ? SP_CLIP_MAX_LENGTH : (size_t)length;
    return SP_OK;
}

/* The settings that would change the ids, and that CLIP's tokenizers leave alone. */
static sp_status check_kind(const loader *l)
{
    static const struct {
        const char *key, *expected, *alternative;
    } rules[] = {
        {"tokenizer_class", "CLIPTokenizer", "CLIPTokenizerFast"},
        {"padding_side", "right", "right"},
        {"truncation_side", "right", "right"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const char *found;
        SP_TRY(sp_json_text(l->settings.config, rules[i].key, rules[i].expected,
                            "tokenizer_config.json", &found));
        if (strcmp(found, rules[i].expected) != 0 && strcmp(found, rules[i].alternative) != 0)
            return sp_fail(SP_UNSUPPORTED,
                           "%s/tokenizer_config.json: %s is \"%s\", but only \"%s\" is supported",
                           l->folder, rules[i].key, found, rules[i].expected);
    }
    return SP_OK;
}

static sp_status load_parts(loader *l)
{
    sp_tokenizer_settings *settings = &l->settings;
    SP_TRY(load_settings(l, "tokenizer_config.json", &settings->config));
    SP_TRY(load_settings(l, "special_tokens_map.json", &settings->special_map));
    SP_TRY(load_settings(l, "added_tokens.json", &settings->added));
    SP_TRY(load_settings(l, "tokenizer.json", &settings->whole));
    if (settings->config != NULL) {
        SP_TRY(check_kind(l));
        SP_TRY(read_max_length(l));
    }
    SP_TRY(load_vocabulary(l));
    return sp_tokenizer_read_special(l->tokenizer, settings, l->folder);
}

sp_status sp_tokenizer_load(const char *folder, sp_tokenizer **out)
{
    *out = NULL;
    loader l = {.folder = folder, .tokenizer = sp_tokenizer_create()};
    if (l.tokenizer == NULL) return SP_MEMORY;
    l.tokenizer->max_length = SP_CLIP_MAX_LENGTH;
    sp_status status = load_parts(&l);
    json_decref(l.settings.config);
    json_decref(l.settings.special_map);
    json_decref(l.settings.added);
    json_decref(l.settings.whole);
    if (status != SP_OK) {
        sp_tokenizer_destroy(l.tokenizer);
        return status;
    }
    *out = l.tokenizer;
    return SP_OK;
}
