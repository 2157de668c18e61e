/* SentencePiece's unigram tokenizer (Kudo 2018) as T5 has it: text to the ids that its encoder takes, equal to Hugging
 * Face's fast T5 tokenizer. */
#ifndef SP_TEXT_UNIGRAM_H
#define SP_TEXT_UNIGRAM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct sp_unigram sp_unigram;

/* Opens FOLDER/tokenizer.json. The caller owns *out. SP_IO; SP_FORMAT; SP_UNSUPPORTED for another model than Unigram,
 * and for a normaliser, a pre-tokenizer or an added token that T5's files do not have; SP_MEMORY. */
sp_status sp_unigram_load(const char *folder, sp_unigram **out);
void sp_unigram_destroy(sp_unigram *tokenizer); /* NULL is legal */

/* Fills ids[0..length-1], length at least 1: the text's tokens, as many as fit before the end token, that, and padding.
 * Added tokens are cut out as they are typed, the rest is normalised (text/charsmap.h) and split into words, each begun
 * with U+2581; of the ways to cut a word into pieces the one with the largest sum of scores is taken, characters that
 * no piece has being unknown ones, a run of which is one token. *used (may be NULL): how many ids are no padding;
 * *all (may be NULL): how many they would be if all had fit. Ill-formed UTF-8 is read as U+FFFD. May be called from
 * several threads at once. SP_MEMORY. */
sp_status sp_unigram_encode(const sp_unigram *tokenizer, const char *text, size_t length, int32_t *ids, size_t *used,
                            size_t *all);

size_t sp_unigram_size(const sp_unigram *tokenizer); /* largest id + 1, added tokens included */

#endif
