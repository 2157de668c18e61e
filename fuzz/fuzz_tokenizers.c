/* A tokenizer's folder, CLIP's or T5's: "=== NAME" a line begins a file (fuzz/input_folder.c), of "prompt" the text is
 * encoded, and its ids must be those of tokens. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "text/tokenizer.h"
#include "text/unigram.h"
#include "fuzz/fuzz.h"

static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                                    "special_tokens_map.json", "added_tokens.json", "prompt", NULL};
enum { MOST_TOKENS = 1 << 12 };

static char *read_prompt(void)
{
    char *text;
    if (sp_path_exists(fuzz_path("prompt")) && sp_read_file(fuzz_path("prompt"), &text, NULL) == SP_OK) return text;
    return sp_strdup("a red <b>apple's</b> caf\xc3\xa9 42!");
}

static void decode(const sp_tokenizer *tokenizer, const char *prompt)
{
    int32_t *ids;
    size_t count;
    char *text;
    if (sp_tokenizer_encode_all(tokenizer, prompt, &ids, &count) != SP_OK) return;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= sp_tokenizer_vocabulary_size(tokenizer)) abort();
    if (sp_tokenizer_decode(tokenizer, ids, count, &text) == SP_OK) sp_free(text);
    sp_free(ids);
}

static void encode(sp_tokenizer *tokenizer, const char *prompt)
{
    static int32_t ids[MOST_TOKENS];
    int32_t first;
    size_t used, length = sp_tokenizer_max_length(tokenizer);
    decode(tokenizer, prompt);
    if (length <= MOST_TOKENS && sp_tokenizer_encode(tokenizer, prompt, ids, &used) == SP_OK && used > length) abort();
    if (sp_tokenizer_add_vectors(tokenizer, "apple", 3, &first) == SP_OK) decode(tokenizer, prompt);
}

static void encode_unigram(const sp_unigram *tokenizer, const char *prompt)
{
    int32_t ids[77];
    size_t used, all;
    if (sp_unigram_encode(tokenizer, prompt, 77, ids, &used, &all) != SP_OK) return;
    if (used > 77 || used > all) abort();
    for (size_t i = 0; i < 77; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= sp_unigram_size(tokenizer)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *folder = fuzz_folder(data, size, names);
    char *prompt = read_prompt();
    sp_tokenizer *clip;
    sp_unigram *t5;
    if (!prompt) abort();
    if (sp_tokenizer_load(folder, &clip) == SP_OK) {
        encode(clip, prompt);
        sp_tokenizer_destroy(clip);
    }
    if (sp_unigram_load(folder, &t5) == SP_OK) {
        encode_unigram(t5, prompt);
        sp_unigram_destroy(t5);
    }
    sp_free(prompt);
    return 0;
}
