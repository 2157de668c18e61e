/* The vocabulary of OpenAI's CLIP, built into the library from assets/clip_tokenizer. */
#include <string.h>
#include "text/tokenizer_parts.h"

/* The file's text and a NUL. */
extern const char sp_clip_merges[] __attribute__((visibility("hidden")));
__asm__(".pushsection .rodata\n"
        ".global sp_clip_merges\n"
        ".hidden sp_clip_merges\n"
        "sp_clip_merges:\n"
        ".incbin \"" SP_CLIP_MERGES "\"\n"
        ".byte 0\n"
        ".popsection\n");

/* Each merge makes the next token. */
static sp_status add_merge(sp_vocabulary *vocabulary, const char *line, size_t length)
{
    sp_token_table *tokens = &vocabulary->tokens;
    const char *blank = memchr(line, ' ', length);
    size_t left = blank ? (size_t)(blank - line) : length;
    size_t right = blank ? length - left - 1 : 0;
    sp_merge merge = {.left = sp_token_table_find(tokens, line, left, NULL, 0),
                      .right = sp_token_table_find(tokens, line + left + 1, right, NULL, 0)};
    if (merge.left < 0 || merge.right < 0)
        return sp_fail(SP_INTERNAL, "the built-in merge \"%.*s\" has no tokens", (int)length, line);
    SP_TRY(sp_token_table_add(tokens, line, left, line + left + 1, right, &merge.result));
    return sp_vocabulary_add_merge(vocabulary, merge);
}

static sp_status fill(sp_tokenizer *tokenizer, bool pad_with_zero)
{
    SP_TRY(sp_vocabulary_add_bytes(&tokenizer->vocabulary));
    const char *line = strchr(sp_clip_merges, '\n') + 1; /* behind the version */
    for (const char *end; (end = strchr(line, '\n')); line = end + 1)
        SP_TRY(add_merge(&tokenizer->vocabulary, line, (size_t)(end - line)));
    /* Where the end token is the padding too, the published files name it once more, without flags. */
    SP_TRY(sp_tokenizer_add_special(tokenizer, true, pad_with_zero));
    if (pad_with_zero) SP_TRY(sp_tokenizer_pad_with_zero(tokenizer));
    return sp_added_tokens_finish(&tokenizer->added);
}

sp_status sp_tokenizer_clip(bool pad_with_zero, sp_tokenizer **out)
{
    *out = NULL;
    sp_tokenizer *tokenizer = sp_tokenizer_create();
    if (tokenizer == NULL) return SP_MEMORY;
    tokenizer->max_length = SP_CLIP_MAX_LENGTH;
    sp_status status = fill(tokenizer, pad_with_zero);
    if (status != SP_OK) {
        sp_tokenizer_destroy(tokenizer);
        return status;
    }
    *out = tokenizer;
    return SP_OK;
}
