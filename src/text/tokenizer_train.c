/* A byte-pair vocabulary made from captions. */
#include <string.h>
#include "base/memory.h"
#include "text/tokenizer_parts.h"

#define SPECIAL_TOKENS 2

/* A word of the corpus: its tokens so far are symbols[start .. start + length - 1]. */
typedef struct {
    size_t start, length;
    int64_t occurrences;
    size_t merged_at; /* number of the last merge that looked at this word */
} corpus_word;

/* Two adjacent tokens, how often they occur, and a list of words that have or had them. */
typedef struct {
    int32_t left, right;
    int64_t occurrences;
    uint32_t first_link; /* index + 1 in links; 0 ends the list */
} corpus_pair;

typedef struct {
    uint32_t word, next;
} word_link;

typedef struct {
    sp_vocabulary *vocabulary;
    sp_token_table texts; /* the words, by index */
    corpus_word *words;
    size_t word_capacity;
    int32_t *symbols;
    corpus_pair *pairs;
    size_t pair_count, pair_capacity;
    uint32_t *pair_slots; /* (left, right) -> index + 1 */
    size_t pair_slot_count;
    word_link *links;
    size_t link_count, link_capacity;
} corpus;

static void corpus_free(corpus *c)
{
    sp_token_table_free(&c->texts);
    sp_free(c->words);
    sp_free(c->symbols);
    sp_free(c->pairs);
    sp_free(c->pair_slots);
    sp_free(c->links);
}

static sp_status count_word(void *context, const sp_added_token *token, const char *word,
                            size_t length)
{
    corpus *c = context;
    if (token != NULL) return SP_OK;
    int32_t index = sp_token_table_find(&c->texts, word, length, NULL, 0);
    if (index < 0) {
        corpus_word *words =
            sp_grown(c->words, sizeof *words, c->texts.count + 1, &c->word_capacity);
        if (words == NULL) return SP_MEMORY;
        c->words = words;
        SP_TRY(sp_token_table_add(&c->texts, word, length, NULL, 0, &index));
        words[index] = (corpus_word){.length = length};
    }
    c->words[index].occurrences++;
    return SP_OK;
}

/* Every word as the tokens of its bytes. */
static sp_status spell_words(corpus *c)
{
    c->symbols = sp_alloc(c->texts.text_length * sizeof *c->symbols);
    if (c->symbols == NULL) return SP_MEMORY;
    for (size_t w = 0; w < c->texts.count; w++) {
        corpus_word *word = &c->words[w];
        word->start = c->texts.offsets[w];
        const unsigned char *text = (const unsigned char *)sp_token_text(&c->texts, (int32_t)w);
        for (size_t i = 0; i < word->length; i++)
            c->symbols[word->start + i] = i + 1 < word->length ? c->vocabulary->bytes[text[i]]
                                                               : c->vocabulary->last_bytes[text[i]];
    }
    return SP_OK;
}

static size_t pair_slot(const corpus *c, int32_t left, int32_t right)
{
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t mask = c->pair_slot_count - 1;
    for (size_t slot = (size_t)(hash >> 32) & mask;; slot = (slot + 1) & mask) {
        uint32_t entry = c->pair_slots[slot];
        if (entry == 0 || (c->pairs[entry - 1].left == left && c->pairs[entry - 1].right == right))
            return slot;
    }
}

static sp_status grow_pair_slots(corpus *c)
{
    size_t count = c->pair_slot_count == 0 ? 1024 : c->pair_slot_count * 2;
    uint32_t *slots = sp_alloc_zero(count * sizeof *slots);
    if (slots == NULL) return SP_MEMORY;
    sp_free(c->pair_slots);
    c->pair_slots = slots;
    c->pair_slot_count = count;
    for (size_t i = 0; i < c->pair_count; i++)
        slots[pair_slot(c, c->pairs[i].left, c->pairs[i].right)] = (uint32_t)i + 1;
    return SP_OK;
}

/* The pair's entry, made when it is new; NULL when out of memory. */
static corpus_pair *pair_entry(corpus *c, int32_t left, int32_t right)
{
    if (2 * (c->pair_count + 1) > c->pair_slot_count && grow_pair_slots(c) != SP_OK) return NULL;
    uint32_t *slot = &c->pair_slots[pair_slot(c, left, right)];
    if (*slot == 0) {
        corpus_pair *pairs =
            sp_grown(c->pairs, sizeof *pairs, c->pair_count + 1, &c->pair_capacity);
        if (pairs == NULL) return NULL;
        c->pairs = pairs;
        pairs[c->pair_count++] = (corpus_pair){.left = left, .right = right};
        *slot = (uint32_t)c->pair_count;
    }
    return &c->pairs[*slot - 1];
}

/* Adds (sign 1) or takes away (sign -1) a word's pairs. `fresh`: the token whose pairs are new to
 * the word and must remember it; -1 for all. */
static sp_status count_pairs(corpus *c, size_t index, int64_t sign, int32_t fresh)
{
    const corpus_word *word = &c->words[index];
    const int32_t *symbols = c->symbols + word->start;
    for (size_t i = 0; i + 1 < word->length; i++) {
        corpus_pair *pair = pair_entry(c, symbols[i], symbols[i + 1]);
        if (pair == NULL) return SP_MEMORY;
        pair->occurrences += sign * word->occurrences;
        if (sign < 0 || (fresh >= 0 && pair->left != fresh && pair->right != fresh)) continue;
        if (c->link_count >= UINT32_MAX - 1) return sp_fail(SP_MEMORY, "the captions are too many");
        word_link *links = sp_grown(c->links, sizeof *links, c->link_count + 1, &c->link_capacity);
        if (links == NULL) return SP_MEMORY;
        c->links = links;
        links[c->link_count++] = (word_link){.word = (uint32_t)index, .next = pair->first_link};
        pair->first_link = (uint32_t)c->link_count;
    }
    return SP_OK;
}

static size_t spelled_length(const corpus *c, const corpus_pair *pair)
{
    const sp_token_table *tokens = &c->vocabulary->tokens;
    return sp_token_length(tokens, pair->left) + sp_token_length(tokens, pair->right);
}

/* The order of merging: the most frequent pair; among equals the one that spells the longest token,
 * so that rare words are finished one after another rather than all begun; then the one with the
 * smallest ids. */
static bool goes_first(const corpus *c, const corpus_pair *pair, const corpus_pair *other)
{
    if (pair->occurrences != other->occurrences) return pair->occurrences > other->occurrences;
    size_t length = spelled_length(c, pair), other_length = spelled_length(c, other);
    if (length != other_length) return length > other_length;
    return pair->left != other->left ? pair->left < other->left : pair->right < other->right;
}

/* NULL when no word has two tokens. */
static const corpus_pair *best_pair(const corpus *c)
{
    const corpus_pair *best = NULL;
    for (size_t i = 0; i < c->pair_count; i++) {
        const corpus_pair *pair = &c->pairs[i];
        if (pair->occurrences > 0 && (best == NULL || goes_first(c, pair, best))) best = pair;
    }
    return best;
}

static sp_status merge_in_word(corpus *c, size_t index, sp_merge merge)
{
    corpus_word *word = &c->words[index];
    int32_t *symbols = c->symbols + word->start;
    size_t at = 0;
    while (at + 1 < word->length && (symbols[at] != merge.left || symbols[at + 1] != merge.right))
        at++;
    if (at + 1 >= word->length) return SP_OK; /* an earlier merge took the pair */
    SP_TRY(count_pairs(c, index, -1, -1));
    size_t length = 0;
    for (size_t i = 0; i < word->length; length++) {
        bool found =
            i + 1 < word->length && symbols[i] == merge.left && symbols[i + 1] == merge.right;
        symbols[length] = found ? merge.result : symbols[i];
        i += found ? 2 : 1;
    }
    word->length = length;
    return count_pairs(c, index, 1, merge.result);
}

/* Makes the best pair one token. Two merges may spell the same token, which then keeps its id. */
static sp_status merge_pair(corpus *c, const corpus_pair *pair, size_t number)
{
    sp_token_table *tokens = &c->vocabulary->tokens;
    sp_merge merge = {.left = pair->left, .right = pair->right};
    uint32_t link = pair->first_link;
    /* Copies: adding a token may move the texts of the table. */
    char *left = sp_strdup(sp_token_text(tokens, merge.left));
    char *right = sp_strdup(sp_token_text(tokens, merge.right));
    sp_status status = SP_MEMORY;
    if (left != NULL && right != NULL) {
        merge.result = sp_token_table_find(tokens, left, strlen(left), right, strlen(right));
        status = merge.result >= 0 ? SP_OK
                                   : sp_token_table_add(tokens, left, strlen(left), right,
                                                        strlen(right), &merge.result);
    }
    sp_free(left);
    sp_free(right);
    if (status != SP_OK) return status;
    SP_TRY(sp_vocabulary_add_merge(c->vocabulary, merge));
    while (link != 0) {
        word_link entry = c->links[link - 1];
        link = entry.next;
        if (c->words[entry.word].merged_at == number) continue;
        c->words[entry.word].merged_at = number;
        SP_TRY(merge_in_word(c, entry.word, merge));
    }
    return SP_OK;
}

static sp_status learn(corpus *c, size_t most_tokens)
{
    SP_TRY(spell_words(c));
    for (size_t w = 0; w < c->texts.count; w++)
        SP_TRY(count_pairs(c, w, 1, -1));
    for (size_t number = 1; c->vocabulary->tokens.count < most_tokens; number++) {
        const corpus_pair *pair = best_pair(c);
        if (pair == NULL) break;
        SP_TRY(merge_pair(c, pair, number));
    }
    return SP_OK;
}

static sp_status train(sp_tokenizer *tokenizer, const char *const *captions, size_t count,
                       size_t vocabulary_size, bool pad_with_zero)
{
    /* While learning, the special tokens are only cut out of the captions: their ids come last. */
    sp_added_tokens special = {0};
    corpus c = {.vocabulary = &tokenizer->vocabulary};
    sp_status status = sp_added_tokens_put(&special, SP_CLIP_BEGIN, -1, false, true);
    if (status == SP_OK) status = sp_added_tokens_put(&special, SP_CLIP_END, -1, false, true);
    if (status == SP_OK) status = sp_added_tokens_finish(&special);
    for (size_t i = 0; status == SP_OK && i < count; i++)
        status = sp_split_text(&special, captions[i], strlen(captions[i]), count_word, &c);
    if (status == SP_OK) status = sp_vocabulary_add_bytes(&tokenizer->vocabulary);
    if (status == SP_OK) status = learn(&c, vocabulary_size - SPECIAL_TOKENS);
    if (status == SP_OK) status = sp_tokenizer_add_special(tokenizer, false, false);
    if (status == SP_OK && pad_with_zero) status = sp_tokenizer_pad_with_zero(tokenizer);
    if (status == SP_OK) status = sp_added_tokens_finish(&tokenizer->added);
    sp_added_tokens_free(&special);
    corpus_free(&c);
    return status;
}

sp_status sp_tokenizer_train(const char *const *captions, size_t count, size_t vocabulary_size,
                             int max_length, bool pad_with_zero, sp_tokenizer **out)
{
    *out = NULL;
    if (vocabulary_size < SP_BYTE_TOKENS + SPECIAL_TOKENS || vocabulary_size > INT32_MAX)
        return sp_fail(SP_ARGUMENT,
                       "a vocabulary of %zu tokens is asked for, but it must have at least %d",
                       vocabulary_size, SP_BYTE_TOKENS + SPECIAL_TOKENS);
    if (max_length < 2 || max_length > SP_LONGEST_SEQUENCE)
        return sp_fail(SP_ARGUMENT, "token sequences of %d are asked for, but 2 to %d are possible",
                       max_length, SP_LONGEST_SEQUENCE);
    sp_tokenizer *tokenizer = sp_tokenizer_create();
    if (tokenizer == NULL) return SP_MEMORY;
    tokenizer->max_length = (size_t)max_length;
    sp_status status = train(tokenizer, captions, count, vocabulary_size, pad_with_zero);
    if (status != SP_OK) {
        sp_tokenizer_destroy(tokenizer);
        return status;
    }
    *out = tokenizer;
    return SP_OK;
}
