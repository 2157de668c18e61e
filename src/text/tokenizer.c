/* Byte-pair encoding. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "base/visible.h"
#include "text/tokenizer_parts.h"

sp_tokenizer *sp_tokenizer_create(void)
{
    return sp_alloc_zero(sizeof(sp_tokenizer));
}

void sp_tokenizer_destroy(sp_tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    sp_vocabulary_free(&tokenizer->vocabulary);
    sp_added_tokens_free(&tokenizer->added);
    sp_free(tokenizer->new_items);
    sp_free(tokenizer);
}

int32_t sp_tokenizer_find(const sp_tokenizer *tokenizer, const char *content)
{
    const sp_added_token *added = sp_added_tokens_find(&tokenizer->added, content);
    if (added != NULL) return added->id;
    return sp_token_table_find(&tokenizer->vocabulary.tokens, content, strlen(content), NULL, 0);
}

const char *sp_tokenizer_text(const sp_tokenizer *tokenizer, int32_t id)
{
    size_t known = tokenizer->vocabulary.tokens.count;
    if (id >= 0 && (size_t)id < known) return sp_token_text(&tokenizer->vocabulary.tokens, id);
    if (id < 0 || (size_t)id - known >= tokenizer->new_count) return NULL;
    return tokenizer->added.items[tokenizer->new_items[(size_t)id - known]].content;
}

sp_status sp_tokenizer_put_added(sp_tokenizer *tokenizer, const char *content, bool normalized,
                                 bool special)
{
    int32_t id = sp_tokenizer_find(tokenizer, content);
    bool is_new = id < 0 && content[0] != '\0';
    if (is_new && tokenizer->size >= INT32_MAX) return sp_fail(SP_MEMORY, "too many tokens");
    if (is_new) {
        size_t *items = sp_grown(tokenizer->new_items, sizeof *items, tokenizer->new_count + 1,
                                 &tokenizer->new_capacity);
        if (items == NULL) return SP_MEMORY;
        tokenizer->new_items = items;
        id = (int32_t)tokenizer->size;
    }
    SP_TRY(sp_added_tokens_put(&tokenizer->added, content, id, normalized, special));
    if (!is_new) return SP_OK;
    tokenizer->new_items[tokenizer->new_count++] = tokenizer->added.count - 1;
    tokenizer->size++;
    return SP_OK;
}

/* ---- tokens for learned vectors ---- */

/* The name of vector i; empty if it is too long. */
static void name_vector(const char *token, size_t i, char name[SP_VECTOR_NAME])
{
    int length = i == 0 ? snprintf(name, SP_VECTOR_NAME, "%s", token)
                        : snprintf(name, SP_VECTOR_NAME, "%s_%zu", token, i);
    if (length < 0 || length >= SP_VECTOR_NAME) *name = '\0';
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static sp_status check_vectors(const sp_tokenizer *tokenizer, const char *token, size_t count)
{
    char name[SP_VECTOR_NAME];
    for (size_t i = 0; i < count; i++) {
        name_vector(token, i, name);
        if (is_blank(name))
            return sp_fail(SP_ARGUMENT, "\"%s\" is no token: it is blank, or has more than %d bytes",
                           sp_shown(token, strlen(token)), SP_VECTOR_NAME - 8);
        if (sp_tokenizer_find(tokenizer, name) >= 0)
            return sp_fail(SP_ARGUMENT, "the tokenizer has the token \"%s\" already, and needs another name for this",
                           name);
    }
    return SP_OK;
}

sp_status sp_tokenizer_add_vectors(sp_tokenizer *tokenizer, const char *token, size_t count, int32_t *first)
{
    char name[SP_VECTOR_NAME];
    sp_added_tokens *added = &tokenizer->added;
    SP_TRY(check_vectors(tokenizer, token, count));
    size_t item = added->count;
    *first = (int32_t)tokenizer->size;
    for (size_t i = 0; i < count; i++) {
        name_vector(token, i, name);
        SP_TRY(sp_tokenizer_put_added(tokenizer, name, true, false));
    }
    added->items[item].run = (int32_t)count;
    return sp_added_tokens_finish(added);
}

size_t sp_tokenizer_run(const sp_tokenizer *tokenizer, int32_t id)
{
    size_t known = tokenizer->vocabulary.tokens.count;
    if (id < 0 || (size_t)id < known || (size_t)id - known >= tokenizer->new_count) return 1;
    return (size_t)tokenizer->added.items[tokenizer->new_items[(size_t)id - known]].run;
}

/* ---- encoding ---- */

typedef struct {
    const sp_tokenizer *tokenizer;
    int32_t *ids;
    size_t count, room;
    sp_word_scratch scratch;
} encoding;

static sp_status encode_piece(void *context, const sp_added_token *token, const char *word,
                              size_t length)
{
    encoding *e = context;
    if (e->count == e->room) return SP_OK;
    if (token != NULL) {
        for (int32_t i = 0; i < token->run && e->count < e->room; i++)
            e->ids[e->count++] = token->id + i;
        return SP_OK;
    }
    size_t count = 0;
    SP_TRY(sp_vocabulary_divide(&e->tokenizer->vocabulary, e->tokenizer->roles[SP_TOKEN_UNKNOWN],
                                word, length, &e->scratch, e->ids + e->count, e->room - e->count,
                                &count));
    e->count += count;
    return SP_OK;
}

sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, int32_t *ids,
                              size_t *used)
{
    encoding e = {.tokenizer = tokenizer, .ids = ids + 1, .room = tokenizer->max_length - 2};
    sp_status status = sp_split_text(&tokenizer->added, text, strlen(text), encode_piece, &e);
    sp_word_scratch_free(&e.scratch);
    if (status != SP_OK) return status;
    ids[0] = tokenizer->roles[SP_TOKEN_BEGIN];
    ids[e.count + 1] = tokenizer->roles[SP_TOKEN_END];
    for (size_t i = e.count + 2; i < tokenizer->max_length; i++)
        ids[i] = tokenizer->roles[SP_TOKEN_PAD];
    if (used != NULL) *used = e.count + 2;
    return SP_OK;
}

/* As encode_piece, into an array that grows: a word has at most a token a byte. */
static sp_status append_piece(void *context, const sp_added_token *token, const char *word,
                              size_t length)
{
    encoding *e = context;
    size_t more = token ? (size_t)token->run : length;
    int32_t *ids = sp_grown(e->ids, sizeof *ids, e->count + more, &e->room);
    if (ids == NULL) return SP_MEMORY;
    e->ids = ids;
    return encode_piece(e, token, word, length);
}

sp_status sp_tokenizer_encode_all(const sp_tokenizer *tokenizer, const char *text, int32_t **ids,
                                  size_t *count)
{
    encoding e = {.tokenizer = tokenizer};
    sp_status status = sp_split_text(&tokenizer->added, text, strlen(text), append_piece, &e);
    sp_word_scratch_free(&e.scratch);
    if (status != SP_OK) sp_free(e.ids);
    *ids = status == SP_OK ? e.ids : NULL;
    *count = status == SP_OK ? e.count : 0;
    return status;
}

/* The bytes that a token's symbols stand for; what is no symbol stands for itself. */
static void append_token(const sp_tokenizer *tokenizer, int32_t id, sp_string *out)
{
    const char *text = sp_tokenizer_text(tokenizer, id);
    if (text == NULL) return;
    bool ends = sp_ends_with(text, SP_WORD_END);
    const char *end = text + strlen(text) - (ends ? strlen(SP_WORD_END) : 0);
    while (text < end) {
        unsigned char byte;
        size_t used = sp_symbol_byte(text, &byte);
        sp_string_append(out, used ? (const char *)&byte : text, 1);
        text += used ? used : 1;
    }
    if (ends) sp_string_append(out, " ", 1);
}

sp_status sp_tokenizer_decode(const sp_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              char **text)
{
    sp_string out = {0};
    for (size_t i = 0; i < count; i++)
        append_token(tokenizer, ids[i], &out);
    const char *begin = sp_string_text(&out), *end = begin + out.length;
    while (begin < end && *begin == ' ')
        begin++;
    while (end > begin && end[-1] == ' ')
        end--;
    size_t length = (size_t)(end - begin);
    *text = out.failed ? NULL : sp_alloc(length + 1);
    if (*text != NULL) {
        memcpy(*text, begin, length);
        (*text)[length] = '\0';
    }
    sp_string_free(&out);
    return *text ? SP_OK : SP_MEMORY;
}

size_t sp_tokenizer_max_length(const sp_tokenizer *tokenizer)
{
    return tokenizer->max_length;
}

size_t sp_tokenizer_vocabulary_size(const sp_tokenizer *tokenizer)
{
    return tokenizer->size;
}

int32_t sp_tokenizer_bos(const sp_tokenizer *tokenizer)
{
    return tokenizer->roles[SP_TOKEN_BEGIN];
}

int32_t sp_tokenizer_eos(const sp_tokenizer *tokenizer)
{
    return tokenizer->roles[SP_TOKEN_END];
}

int32_t sp_tokenizer_pad(const sp_tokenizer *tokenizer)
{
    return tokenizer->roles[SP_TOKEN_PAD];
}

sp_status sp_tokenizer_add_special(sp_tokenizer *tokenizer, bool begin_normalized,
                                   bool end_normalized)
{
    static const char *const contents[] = {SP_CLIP_BEGIN, SP_CLIP_END};
    sp_token_table *tokens = &tokenizer->vocabulary.tokens;
    for (int i = 0; i < 2; i++) {
        SP_TRY(sp_token_table_add(tokens, contents[i], strlen(contents[i]), NULL, 0,
                                  &tokenizer->roles[i]));
        SP_TRY(sp_tokenizer_put_added(tokenizer, contents[i], i ? end_normalized : begin_normalized,
                                      true));
    }
    tokenizer->size = tokens->count;
    tokenizer->roles[SP_TOKEN_UNKNOWN] = tokenizer->roles[SP_TOKEN_END];
    tokenizer->roles[SP_TOKEN_PAD] = tokenizer->roles[SP_TOKEN_END];
    return SP_OK;
}

sp_status sp_tokenizer_pad_with_zero(sp_tokenizer *tokenizer)
{
    SP_TRY(sp_tokenizer_put_added(tokenizer, "!", false, true));
    tokenizer->roles[SP_TOKEN_PAD] = sp_tokenizer_find(tokenizer, "!");
    return SP_OK;
}
