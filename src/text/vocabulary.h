/* A byte-level byte-pair vocabulary: tokens, ranked merges, and the division of one word into
 * tokens. (Sennrich et al. 2016; the byte alphabet is GPT-2's, the end-of-word mark "</w>" is
 * CLIP's.) */
#ifndef SP_TEXT_VOCABULARY_H
#define SP_TEXT_VOCABULARY_H
#include <stddef.h>
#include <stdint.h>
#include "text/token_table.h"

#define SP_WORD_END "</w>"

typedef struct {
    int32_t left, right, result;
} sp_merge;

/* Zero-initialise; release with sp_vocabulary_free. */
typedef struct {
    sp_token_table tokens;
    sp_merge *merges; /* by rank: the first is applied first */
    size_t merge_count, merge_capacity;
    uint32_t *merge_slots; /* (left, right) -> rank + 1; open addressing, a power of two */
    size_t merge_slot_count;
    int32_t bytes[256],
        last_bytes[256]; /* token of a byte, and of a word's last byte; -1 when there is none */
} sp_vocabulary;
void sp_vocabulary_free(sp_vocabulary *vocabulary);

/* The printable character (1 or 2 bytes of UTF-8, then NUL) that stands for a byte in vocab.json. */
void sp_byte_symbol(unsigned char byte, char symbol[3]);
/* The other way: the byte that the symbol at the start of a UTF-8 text stands for; returns the
 * symbol's length, 0 where there is none. */
size_t sp_symbol_byte(const char *text, unsigned char *byte);
/* The byte with place `index` (0..255) in CLIP's order of symbols: "!" is the first. */
unsigned char sp_byte_in_order(int index);
/* Fills bytes and last_bytes; call it when all tokens are there. */
void sp_vocabulary_find_bytes(sp_vocabulary *vocabulary);

#define SP_BYTE_TOKENS 512 /* each byte's symbol, alone and at the end of a word */
/* Adds the tokens that spell any text, in CLIP's order, to an empty vocabulary. SP_MEMORY. */
sp_status sp_vocabulary_add_bytes(sp_vocabulary *vocabulary);

/* Appends a merge of the next rank. A pair that has a rank already gets the new one, as in Hugging
 * Face's reader. SP_MEMORY. */
sp_status sp_vocabulary_add_merge(sp_vocabulary *vocabulary, sp_merge merge);

/* Room that dividing words needs, kept from word to word. Zero-initialise. */
typedef struct {
    struct sp_symbol *symbols;
    struct sp_candidate *heap;
    size_t symbol_capacity, heap_capacity;
} sp_word_scratch;
void sp_word_scratch_free(sp_word_scratch *scratch);

/* Divides a word (its bytes, not their symbols) into at most `room` ids; *count receives how many
 * were written, the first `room` when there are more. A byte without a token becomes `unknown`.
 * SP_MEMORY. */
sp_status sp_vocabulary_divide(const sp_vocabulary *vocabulary, int32_t unknown, const char *word,
                               size_t length, sp_word_scratch *scratch, int32_t *ids, size_t room,
                               size_t *count);

#endif
