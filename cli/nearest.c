/* The name that somebody may have meant. */
#include <string.h>

#include "options.h"

/* Insertions, deletions, replacements and swaps of neighbours that make `a` of `b`. */
static size_t typing_errors(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t rows = strlen(a), columns = strlen(b);
    if (rows > LONGEST || columns > LONGEST) return LONGEST;
    size_t d[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= rows; i++) {
        for (size_t j = 0; j <= columns; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[rows][columns];
}

const char *options_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(word), least = length < 3 ? 2 : length / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t errors = typing_errors(word, names[i]);
        /* "max-train" and "steps" stand for the one name that they are part of. */
        if (length >= 3 && strstr(names[i], word)) errors = 1;
        if (errors < least) {
            least = errors;
            best = names[i];
        }
    }
    return best;
}
