/* CLIP's byte-pair tokenizer: text to the ids a text encoder takes, equal to Hugging Face's fast
 * CLIPTokenizer. */
#ifndef SP_TEXT_TOKENIZER_H
#define SP_TEXT_TOKENIZER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct sp_tokenizer sp_tokenizer;

/* Opens a diffusers `tokenizer/` folder: vocab.json and merges.txt, or tokenizer.json, which wins
 * where it is; tokenizer_config.json, special_tokens_map.json and added_tokens.json where they are.
 * As in transformers, the special tokens of special_tokens_map.json win over
 * tokenizer_config.json's unless that lists added_tokens_decoder. A model_max_length that is absent
 * or boundless means 77. The caller owns *out. SP_IO, SP_FORMAT, SP_UNSUPPORTED (a setting that
 * CLIP's tokenizers do not use), SP_MEMORY. */
sp_status sp_tokenizer_load(const char *folder, sp_tokenizer **out);

/* The tokenizer of all Stable Diffusion 1.x, 2.x and XL models, whose vocabulary the library has built
 * in, as their tokenizer/ folders describe it: sequences of 77. Prompts are padded with the end
 * token (1.x), or with "!" (id 0; 2.x, where every "!" of a text is 0 too). The caller owns *out.
 * SP_MEMORY. */
sp_status sp_tokenizer_clip(bool pad_with_zero, sp_tokenizer **out);

/* Learns a vocabulary of at most `vocabulary_size` tokens (at least 514: 256 byte symbols, each
 * also as the end of a word, and two special tokens) from captions, which are normalised and split
 * as sp_tokenizer_encode does. The most frequent pair is merged first; among equals the one that
 * spells the longest token, then the one whose tokens came first. Learning ends early when every
 * word is one token. max_length >= 2 is the length of the encoded sequences, which are padded with the
 * end token, or as sp_tokenizer_clip has it. Equal captions give equal tokenizers. The caller owns
 * *out. SP_ARGUMENT, SP_MEMORY. */
sp_status sp_tokenizer_train(const char *const *captions, size_t count, size_t vocabulary_size,
                             int max_length, bool pad_with_zero, sp_tokenizer **out);

/* Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json, from which
 * sp_tokenizer_load and transformers' CLIPTokenizer give the same ids. Makes the folder. SP_IO,
 * SP_MEMORY. */
sp_status sp_tokenizer_save(const sp_tokenizer *tokenizer, const char *folder);

void sp_tokenizer_destroy(sp_tokenizer *tokenizer); /* NULL is legal */

/* Fills ids[0..max_length-1]: the begin token, the text's tokens (as many as fit), the end token,
 * padding. *used (may be NULL) receives how many are not padding. Ill-formed UTF-8 is read as
 * U+FFFD, as Python's errors="replace" does. May be called from several threads at once. SP_MEMORY. */
sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, int32_t *ids,
                              size_t *used);

/* All tokens of the text, without begin and end: a new array (sp_free). Of those
 * sp_tokenizer_encode takes the first max_length - 2. SP_MEMORY. */
sp_status sp_tokenizer_encode_all(const sp_tokenizer *tokenizer, const char *text, int32_t **ids,
                                  size_t *count);
/* What ids say, as transformers' decode writes it: normalised, with a blank behind each word or
 * sign, but not at either end. A new string (sp_free), which is UTF-8 unless the ids end inside a
 * character. Ids that no token has are left out. SP_MEMORY. */
sp_status sp_tokenizer_decode(const sp_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              char **text);

/* Makes `token` stand for `count` new ids, which a table of embeddings has learned vectors for (textual inversion), as
 * diffusers' load_textual_inversion does: they are the tokens token, token_1, token_2, ..., found in normalised text,
 * and whoever writes the first means all. *first receives its id, the others follow. SP_ARGUMENT, with nothing changed,
 * for a token that is blank or longer than SP_VECTOR_NAME - 8 bytes, or of which any is there already; SP_MEMORY, after
 * which the tokenizer is good for destroying only. */
enum { SP_VECTOR_NAME = 256 };
sp_status sp_tokenizer_add_vectors(sp_tokenizer *tokenizer, const char *token, size_t count, int32_t *first);
/* How many ids, from this one on, one token stands for: 1 but for those. */
size_t sp_tokenizer_run(const sp_tokenizer *tokenizer, int32_t id);

size_t sp_tokenizer_max_length(const sp_tokenizer *tokenizer);
size_t sp_tokenizer_vocabulary_size(
    const sp_tokenizer *tokenizer); /* largest id + 1, added tokens included */
int32_t sp_tokenizer_bos(const sp_tokenizer *tokenizer);
int32_t sp_tokenizer_eos(const sp_tokenizer *tokenizer);
int32_t sp_tokenizer_pad(const sp_tokenizer *tokenizer);

#endif
