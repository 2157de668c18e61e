/* A text cut into the pieces that byte pairs are merged within. */
#include "text/split.h"

#include <string.h>
#include "base/memory.h"
#include "text/token_table.h"
#include "text/unicode.h"

typedef struct {
    const sp_added_tokens *added;
    sp_piece_visitor *visit;
    void *context;
    char *bytes; /* room for the longest word */
} splitter;

void sp_added_tokens_free(sp_added_tokens *added)
{
    for (size_t i = 0; i < added->count; i++) {
        sp_free(added->items[i].content);
        sp_free(added->items[i].pattern);
    }
    sp_free(added->items);
    sp_token_table_free(&added->contents);
    for (int normalized = 0; normalized < 2; normalized++)
        sp_token_trie_free(&added->patterns[normalized]);
    *added = (sp_added_tokens){0};
}

const sp_added_token *sp_added_tokens_find(const sp_added_tokens *added, const char *content)
{
    int32_t i = sp_token_table_find(&added->contents, content, strlen(content), NULL, 0);
    return i < 0 ? NULL : &added->items[i];
}

static sp_status make_pattern(const char *content, bool normalized, int32_t **out,
                              size_t *out_count)
{
    size_t length = strlen(content);
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    if (points == NULL) return SP_MEMORY;
    size_t count = sp_utf8_decode(content, length, points);
    if (!normalized) {
        *out = points;
        *out_count = count;
        return SP_OK;
    }
    sp_status status = sp_normalize_points(points, count, out, out_count);
    sp_free(points);
    return status;
}

sp_status sp_added_tokens_put(sp_added_tokens *added, const char *content, int32_t id,
                              bool normalized, bool special)
{
    if (content[0] == '\0') return SP_OK;
    sp_added_token token = {.id = id, .run = 1, .normalized = normalized, .special = special};
    SP_TRY(make_pattern(content, normalized, &token.pattern, &token.pattern_length));
    const sp_added_token *before = sp_added_tokens_find(added, content);
    if (before != NULL) {
        token.content = before->content;
        sp_free(before->pattern);
        added->items[before - added->items] = token;
        return SP_OK;
    }
    token.content = sp_strdup(content);
    sp_added_token *items =
        sp_grown(added->items, sizeof *items, added->count + 1, &added->capacity);
    if (items != NULL) added->items = items;
    if (items == NULL || token.content == NULL ||
        sp_token_table_add(&added->contents, content, strlen(content), NULL, 0, NULL) != SP_OK) {
        sp_free(token.content);
        sp_free(token.pattern);
        return SP_MEMORY;
    }
    items[added->count++] = token;
    return SP_OK;
}

sp_status sp_added_tokens_finish(sp_added_tokens *added)
{
    for (int normalized = 0; normalized < 2; normalized++)
        sp_token_trie_free(&added->patterns[normalized]);
    for (size_t i = 0; i < added->count; i++) {
        const sp_added_token *token = &added->items[i];
        SP_TRY(sp_token_trie_put(&added->patterns[token->normalized], token->pattern,
                                 token->pattern_length, (int64_t)i));
    }
    return SP_OK;
}

typedef sp_status part_visitor(const splitter *s, const int32_t *points, size_t count);

/* Cuts the added tokens of one kind out of the text and hands the parts between them to `between`. */
static sp_status cut_added(const splitter *s, bool normalized, const int32_t *points, size_t count,
                           part_visitor *between)
{
    size_t begin = 0, i = 0;
    while (i < count) {
        size_t length = 0;
        int64_t item = sp_token_trie_longest(&s->added->patterns[normalized], points + i, count - i,
                                             &length);
        if (item < 0) {
            i++;
            continue;
        }
        if (i > begin) SP_TRY(between(s, points + begin, i - begin));
        SP_TRY(s->visit(s->context, &s->added->items[item], NULL, 0));
        i += length;
        begin = i;
    }
    return count > begin ? between(s, points + begin, count - begin) : SP_OK;
}

static bool begins_with(const int32_t *points, size_t count, const char *ascii)
{
    size_t length = strlen(ascii);
    if (length > count) return false;
    for (size_t i = 0; i < length; i++) {
        if (points[i] != ascii[i]) return false;
    }
    return true;
}

/* Length of the first of these texts that begins here, or 0. */
static size_t literal_length(const int32_t *points, size_t count, const char *const *texts,
                             size_t text_count)
{
    for (size_t i = 0; i < text_count; i++) {
        if (begins_with(points, count, texts[i])) return strlen(texts[i]);
    }
    return 0;
}

static size_t contraction_length(const int32_t *points, size_t count)
{
    static const char *const texts[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    return literal_length(points, count, texts, sizeof texts / sizeof texts[0]);
}

/* The special tokens as plain text: met here only where they were not taken as added tokens, when
 * they were typed in capitals for instance. */
static size_t special_length(const int32_t *points, size_t count)
{
    static const char *const texts[] = {"<|startoftext|>", "<|endoftext|>"};
    return literal_length(points, count, texts, sizeof texts / sizeof texts[0]);
}

static sp_status visit_word(const splitter *s, const int32_t *points, size_t count)
{
    return s->visit(s->context, NULL, s->bytes, sp_utf8_encode(points, count, s->bytes));
}

static size_t run_length(const int32_t *points, size_t count, sp_character class)
{
    size_t length = 1;
    while (length < count && sp_classify(points[length]) == class)
        length++;
    return length;
}

/* Normalised text without added tokens. */
static sp_status split_words(const splitter *s, const int32_t *points, size_t count)
{
    for (size_t i = 0; i < count;) {
        const int32_t *rest = points + i;
        size_t left = count - i;
        size_t length = special_length(rest, left);
        if (length > 0) {
            /* The byte-level stage divides them again: "<|", the letters, "|>". */
            SP_TRY(visit_word(s, rest, 2));
            SP_TRY(visit_word(s, rest + 2, length - 4));
            SP_TRY(visit_word(s, rest + length - 2, 2));
            i += length;
            continue;
        }
        sp_character class = sp_classify(rest[0]);
        length = contraction_length(rest, left);
        if (length == 0) length = class == SP_CHARACTER_NUMBER ? 1 : run_length(rest, left, class);
        if (class != SP_CHARACTER_SPACE) SP_TRY(visit_word(s, rest, length));
        i += length;
    }
    return SP_OK;
}

static sp_status split_raw(const splitter *s, const int32_t *points, size_t count)
{
    int32_t *normal = NULL;
    size_t normal_count = 0;
    SP_TRY(sp_normalize_points(points, count, &normal, &normal_count));
    splitter inner = *s;
    inner.bytes = sp_alloc(4 * normal_count + 1);
    sp_status status = inner.bytes == NULL
                           ? SP_MEMORY
                           : cut_added(&inner, true, normal, normal_count, split_words);
    sp_free(inner.bytes);
    sp_free(normal);
    return status;
}

sp_status sp_split_text(const sp_added_tokens *added, const char *text, size_t length,
                        sp_piece_visitor *visit, void *context)
{
    if (length > SIZE_MAX / 64)
        return sp_fail(SP_MEMORY, "a text of %zu bytes is too long", length);
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    if (points == NULL) return SP_MEMORY;
    size_t count = sp_utf8_decode(text, length, points);
    splitter s = {.added = added, .visit = visit, .context = context};
    sp_status status = cut_added(&s, false, points, count, split_raw);
    sp_free(points);
    return status;
}
