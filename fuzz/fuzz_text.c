/* Prompts of any bytes: the tokenizer of CLIP there and back, and weighted prompts. */
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "text/tokenizer.h"
#include "text/weighted_prompt.h"
#include "fuzz/fuzz.h"

static void encode(const sp_tokenizer *tokenizer, const char *prompt)
{
    int32_t *ids;
    size_t count;
    char *back;
    if (sp_tokenizer_encode_all(tokenizer, prompt, &ids, &count) != SP_OK) return;
    if (sp_tokenizer_decode(tokenizer, ids, count, &back) == SP_OK) sp_free(back);
    sp_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sp_tokenizer *tokenizer;
    if (!tokenizer && sp_tokenizer_clip(false, &tokenizer) != SP_OK) abort();
    char *prompt = malloc(size + 1);
    if (!prompt) abort();
    memcpy(prompt, data, size);
    prompt[size] = 0;
    sp_weighted_prompt weighted;
    encode(tokenizer, prompt);
    if (sp_weighted_prompt_parse(prompt, &weighted) == SP_OK) sp_weighted_prompt_free(&weighted);
    free(prompt);
    return 0;
}
