/* Command lines: a line a word, the first the verb. Flags are read, help is printed to nowhere, and what they say is
 * checked as the library does; nothing is done. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "options/options.h"

/* The command line keeps texts for the process, which here reads many. */
static char kept[1 << 16];
static size_t kept_used;
static char *keep_text(const char *text)
{
    const size_t size = strlen(text) + 1;
    if (size > sizeof kept - kept_used) abort();
    char *copy = memcpy(kept + kept_used, text, size);
    kept_used += size;
    return copy;
}
#undef strdup
#define strdup keep_text
#include "cli/options.c"
#undef strdup
#include "fuzz/fuzz.h"

int cli_fail(int code, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return code;
}

int sandbox_enter(const char *const *read, size_t read_count, const char *const *written, size_t written_count)
{
    for (size_t i = 0; i < read_count; i++)
        if (!read[i]) abort();
    for (size_t i = 0; i < written_count; i++)
        if (!written[i]) abort();
    return CLI_OK;
}

enum { MOST_WORDS = 64, MOST_BYTES = 2048 };

static void parse(const sp_verb *verb, int count, char **words)
{
    static _Alignas(16) char target[8192];
    const command c = {.verb = verb->verb, .synopsis = "", .description = "", .target = target,
                       .examples = (const char *const[]){"splam\n# or", NULL}};
    char message[4096];
    const char *operand;
    texts_used = integers_used = kept_used = 0;
    memset(texts, 0, sizeof texts);
    memset(integers, 0, sizeof integers);
    sandboxed = false;
    if (verb->size > sizeof target || splam_option_defaults(verb->verb, target, verb->size) != SPLAM_OK) abort();
    if (options_parse(&c, count, words, &operand) != OPTIONS_RUN) return;
    if (sp_options_check(verb, target) != SP_OK) options_translate(sp_error_message(), message, sizeof message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const sp_verb *const verbs[] = {&sp_verb_generate, &sp_verb_distill, &sp_verb_eval,  &sp_verb_convert,
                                           &sp_verb_score,    &sp_verb_data,    &sp_verb_bench, &sp_verb_inspect};
    static FILE *nowhere;
    FILE *own = stdout;
    char text[MOST_BYTES], *words[MOST_WORDS + 1];
    int count = 0;
    if (!nowhere && !(nowhere = fopen("/dev/null", "w"))) abort();
    if (size >= MOST_BYTES) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    for (char *word = text; word && count < MOST_WORDS; count++) {
        words[count] = word;
        word = strchr(word, '\n');
        if (word) *word++ = 0;
    }
    words[count] = NULL;
    stdout = nowhere; /* for help */
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verbs[i]->verb, words[0]) == 0) parse(verbs[i], count, words);
    stdout = own;
    return 0;
}
