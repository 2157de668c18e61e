/* Prompts with weights, in the syntax of A1111's web interface, which ComfyUI and others share:
 *
 *     (words)      weight times 1.1           (words:1.3)  weight times 1.3
 *     [words]      weight divided by 1.1      \( \) \[ \] \\  the sign itself
 *     BREAK        as a word, in capitals: what follows begins another chunk (text/chunks.h)
 *
 * Brackets nest, their factors multiply, and one that is never closed ends with the text; a closing one without a
 * beginning is a sign like any other, as a colon is where no number and ")" follow. A number is digits with at most one
 * point, perhaps behind a sign, with blanks around it or not: no exponent, no NaN. Parts of equal weight are joined, so
 * that words are cut into tokens as they would be without brackets. What is said here of A1111 is its prompt_parser.py,
 * where BREAK is not known between brackets; here it is, and their weight goes on behind it. */
#ifndef SP_TEXT_WEIGHTED_PROMPT_H
#define SP_TEXT_WEIGHTED_PROMPT_H
#include <stddef.h>
#include "base/status.h"

enum { SP_MAX_WEIGHTED_BYTES = 16384, SP_MAX_PROMPT_WEIGHT = 1000 };

typedef struct {
    char *text; /* UTF-8 if the prompt is; NULL: a BREAK */
    double weight;
} sp_prompt_part;

/* Zero-initialise; release with sp_weighted_prompt_free. */
typedef struct {
    sp_prompt_part *parts;
    size_t count;
} sp_weighted_prompt;

/* SP_ARGUMENT, with the prompt's beginning: more than SP_MAX_WEIGHTED_BYTES; something like "(words:1.2.3)"; a weight
 * beyond SP_MAX_PROMPT_WEIGHT on either side of 0. SP_MEMORY. */
sp_status sp_weighted_prompt_parse(const char *prompt, sp_weighted_prompt *out);
void sp_weighted_prompt_free(sp_weighted_prompt *prompt);

#endif
