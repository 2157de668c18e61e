/* Text to words, as Hugging Face's fast CLIP tokenizer divides it: added tokens are cut out, the
 * rest is normalised and split into contractions, runs of letters, single digits and runs of other
 * signs. */
#ifndef SP_TEXT_SPLIT_H
#define SP_TEXT_SPLIT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "text/token_table.h"
#include "text/token_trie.h"

/* A token found in the text as it stands, before words are split: special tokens and a user's own. */
typedef struct {
    char *content; /* UTF-8 */
    int32_t id;
    int32_t run;     /* ids from `id` on that it stands for */
    bool normalized; /* looked for in the normalised text; otherwise in the text as typed */
    bool special;
    int32_t *pattern; /* the code points to look for */
    size_t pattern_length;
} sp_added_token;

/* Zero-initialise; release with sp_added_tokens_free. */
typedef struct {
    sp_added_token *items;
    size_t count, capacity;
    sp_token_table contents;   /* item i's content is string i */
    sp_token_trie patterns[2]; /* of tokens not normalised, and normalised: see finish */
} sp_added_tokens;
void sp_added_tokens_free(sp_added_tokens *added);
/* Adds a token, or replaces the flags of the one with this content. An empty content is ignored.
 * SP_MEMORY. */
sp_status sp_added_tokens_put(sp_added_tokens *added, const char *content, int32_t id,
                              bool normalized, bool special);
/* To be called when all are there, and again if one is put later: only then are they found in texts.
 * SP_MEMORY. */
sp_status sp_added_tokens_finish(sp_added_tokens *added);
const sp_added_token *sp_added_tokens_find(const sp_added_tokens *added,
                                           const char *content); /* NULL: absent */

/* Called for each piece in order: an added token (token not NULL), or a word's bytes, valid during
 * the call. */
typedef sp_status sp_piece_visitor(void *context, const sp_added_token *token, const char *word,
                                   size_t length);
/* `length` bytes of any content. Stops at the visitor's first failure and returns it. SP_MEMORY. */
sp_status sp_split_text(const sp_added_tokens *added, const char *text, size_t length,
                        sp_piece_visitor *visit, void *context);

#endif
