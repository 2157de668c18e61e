/* A prompt as a text encoder takes it: in chunks of the tokenizer's length, each begun, ended and padded as a whole
 * prompt is, with a weight for every token. What the encoder makes of the chunks stands side by side: L is count times
 * length. Each tokenizer of a model makes its own; those of one vocabulary make equally many. */
#ifndef SP_TEXT_CHUNKS_H
#define SP_TEXT_CHUNKS_H
#include "text/tokenizer.h"

typedef enum {
    SP_PROMPT_PLAIN,   /* one chunk, of as many tokens as fit, all of weight 1: as diffusers */
    SP_PROMPT_WEIGHTED /* text/weighted_prompt.h, in as many chunks as it takes */
} sp_prompt_syntax;

enum { SP_MAX_CHUNKS = 32 };

/* Zero-initialise; release with sp_prompt_chunks_free. */
typedef struct {
    size_t count, length;
    int32_t *ids;   /* [count,length] */
    float *weights; /* [count,length] */
    size_t capacity[2];
} sp_prompt_chunks;

/* Weighted: a chunk is full with length - 2 tokens, wherever in a word that is; a BREAK ends the chunk even if it is
 * empty; a token that stands for several vectors (sp_tokenizer_add_vectors) begins another chunk rather than be cut, if
 * one can hold it. What begins, ends and pads a chunk has weight 1. An empty prompt is one empty chunk. SP_ARGUMENT of
 * weighted_prompt.h, or for more than SP_MAX_CHUNKS; SP_MEMORY. */
sp_status sp_prompt_chunks_make(const sp_tokenizer *tokenizer, sp_prompt_syntax syntax, const char *prompt,
                                sp_prompt_chunks *out);
/* Adds empty chunks until there are `count`: what a shorter prompt is filled up with beside a longer one. SP_MEMORY. */
sp_status sp_prompt_chunks_pad(const sp_tokenizer *tokenizer, size_t count, sp_prompt_chunks *chunks);
void sp_prompt_chunks_free(sp_prompt_chunks *chunks);

#endif
