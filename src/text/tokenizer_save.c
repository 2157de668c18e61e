/* A tokenizer's files written. */
#include <jansson.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "text/tokenizer_parts.h"

/* Steals `value`. */
static sp_status set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        return sp_fail(SP_MEMORY, "no memory for the tokenizer's \"%s\"", key);
    return SP_OK;
}

/* Saves `value` as folder/name when `status` is OK, and releases it. */
static sp_status save_json(sp_status status, const char *folder, const char *name, json_t *value)
{
    if (status == SP_OK) {
        char *path = sp_path_join(folder, name);
        status = path == NULL ? SP_MEMORY : sp_json_save(path, value);
        sp_free(path);
    }
    json_decref(value);
    return status;
}

static sp_status save_vocabulary(const sp_tokenizer *tokenizer, const char *folder)
{
    const sp_token_table *tokens = &tokenizer->vocabulary.tokens;
    json_t *root = json_object();
    sp_status status = root == NULL ? sp_fail(SP_MEMORY, "no memory for the vocabulary") : SP_OK;
    for (size_t id = 0; status == SP_OK && id < tokens->count; id++)
        status = set(root, sp_token_text(tokens, (int32_t)id), json_integer((json_int_t)id));
    return save_json(status, folder, "vocab.json", root);
}

static sp_status save_merges(const sp_tokenizer *tokenizer, const char *folder)
{
    const sp_vocabulary *vocabulary = &tokenizer->vocabulary;
    sp_string text = {0};
    sp_string_append_format(&text, "#version: 0.2\n");
    for (size_t i = 0; i < vocabulary->merge_count; i++)
        sp_string_append_format(&text, "%s %s\n",
                                sp_token_text(&vocabulary->tokens, vocabulary->merges[i].left),
                                sp_token_text(&vocabulary->tokens, vocabulary->merges[i].right));
    char *path = sp_path_join(folder, "merges.txt");
    sp_status status =
        text.failed || path == NULL ? SP_MEMORY : sp_write_file(path, text.data, text.length);
    sp_free(path);
    sp_string_free(&text);
    return status;
}

static sp_status set_roles(const sp_tokenizer *tokenizer, json_t *object)
{
    static const char *const keys[SP_TOKEN_ROLES] = {"bos_token", "eos_token", "unk_token",
                                                     "pad_token"};
    for (int role = 0; role < SP_TOKEN_ROLES; role++)
        SP_TRY(set(object, keys[role],
                   json_string(sp_tokenizer_text(tokenizer, tokenizer->roles[role]))));
    return SP_OK;
}

static sp_status set_added(const sp_tokenizer *tokenizer, json_t *config)
{
    json_t *decoder = json_object();
    SP_TRY(set(config, "added_tokens_decoder", decoder));
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        const sp_added_token *token = &tokenizer->added.items[i];
        char *key = sp_format("%d", token->id);
        if (key == NULL) return SP_MEMORY;
        sp_status status =
            set(decoder, key,
                json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", token->content, "lstrip", 0,
                          "normalized", (int)token->normalized, "rstrip", 0, "single_word", 0,
                          "special", (int)token->special));
        sp_free(key);
        if (status != SP_OK) return status;
    }
    return SP_OK;
}

static sp_status save_config(const sp_tokenizer *tokenizer, const char *folder)
{
    json_t *root = json_object();
    sp_status status =
        root == NULL ? sp_fail(SP_MEMORY, "no memory for the tokenizer's settings") : SP_OK;
    if (status == SP_OK) status = set_added(tokenizer, root);
    if (status == SP_OK) status = set_roles(tokenizer, root);
    if (status == SP_OK) status = set(root, "do_lower_case", json_true());
    if (status == SP_OK)
        status = set(root, "model_max_length", json_integer((json_int_t)tokenizer->max_length));
    if (status == SP_OK) status = set(root, "tokenizer_class", json_string("CLIPTokenizer"));
    return save_json(status, folder, "tokenizer_config.json", root);
}

static sp_status save_special_map(const sp_tokenizer *tokenizer, const char *folder)
{
    json_t *root = json_object();
    sp_status status =
        root == NULL ? sp_fail(SP_MEMORY, "no memory for the special tokens") : SP_OK;
    if (status == SP_OK) status = set_roles(tokenizer, root);
    return save_json(status, folder, "special_tokens_map.json", root);
}

sp_status sp_tokenizer_save(const sp_tokenizer *tokenizer, const char *folder)
{
    SP_TRY(sp_make_folders(folder));
    SP_TRY(save_vocabulary(tokenizer, folder));
    SP_TRY(save_merges(tokenizer, folder));
    SP_TRY(save_config(tokenizer, folder));
    return save_special_map(tokenizer, folder);
}
