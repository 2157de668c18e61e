/* A1111's syntax of weights, read in one pass. */
#include "text/weighted_prompt.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "base/visible.h"
#include "text/token_table.h"
#include "text/unicode.h"

enum { ROUND, SQUARE, BRACKETS };
static const double factors[BRACKETS] = {[ROUND] = 1.1, [SQUARE] = 1 / 1.1};
static const char opening[] = "([", closing[] = ")]";

/* A part as it grows: its bytes in parser.text. */
typedef struct {
    size_t begin, end;
    double weight;
    bool breaks;
} span;

/* The spans' numbers at which brackets of one kind began, the last one last. */
typedef struct {
    size_t *first;
    size_t count, capacity;
} bracket_stack;

typedef struct {
    const char *prompt;
    sp_string text;
    span *spans;
    size_t count, capacity;
    bracket_stack open[BRACKETS];
} parser;

/* ---- parts ---- */

static sp_status add_span(parser *p, const char *text, size_t length, bool breaks)
{
    span *spans = sp_grown(p->spans, sizeof *spans, p->count + 1, &p->capacity);
    if (!spans) return SP_MEMORY;
    p->spans = spans;
    size_t begin = p->text.length;
    sp_string_append(&p->text, text, length);
    spans[p->count++] = (span){begin, p->text.length, 1, breaks};
    return p->text.failed ? SP_MEMORY : SP_OK;
}

/* A letter, a number or "_" at the beginning of these bytes. */
static bool begins_with_word(const char *bytes, size_t length)
{
    int32_t points[4];
    if (length > 4) length = 4; /* of UTF-8 */
    if (!length || !sp_utf8_decode(bytes, length, points)) return false;
    sp_character class = sp_classify(points[0]);
    return points[0] == '_' || class == SP_CHARACTER_LETTER || class == SP_CHARACTER_NUMBER;
}

static bool ends_with_word(const char *begin, const char *end)
{
    const char *last = end;
    while (last > begin && end - last < 4 && (last == end || (*last & 0xC0) == 0x80))
        last--;
    return begins_with_word(last, (size_t)(end - last));
}

/* The first BREAK that is a word of its own; NULL: there is none. */
static const char *find_break(const char *begin, const char *end)
{
    static const char word[] = "BREAK";
    enum { LENGTH = sizeof word - 1 };
    for (const char *at = begin; end - at >= LENGTH; at++)
        if (memcmp(at, word, LENGTH) == 0 && !ends_with_word(begin, at) &&
            !begins_with_word(at + LENGTH, (size_t)(end - at - LENGTH)))
            return at;
    return NULL;
}

/* Signs without meaning, in which there may be BREAKs. */
static sp_status add_words(parser *p, const char *text, size_t length)
{
    const char *end = text + length;
    for (const char *at; (at = find_break(text, end)) != NULL; text = at + strlen("BREAK")) {
        SP_TRY(add_span(p, text, (size_t)(at - text), false));
        SP_TRY(add_span(p, "", 0, true));
    }
    return add_span(p, text, (size_t)(end - text), false);
}

/* ---- brackets ---- */

static sp_status open_bracket(parser *p, int kind)
{
    bracket_stack *stack = &p->open[kind];
    size_t *first = sp_grown(stack->first, sizeof *first, stack->count + 1, &stack->capacity);
    if (!first) return SP_MEMORY;
    stack->first = first;
    first[stack->count++] = p->count;
    return SP_OK;
}

static void multiply(parser *p, size_t first, double factor)
{
    for (size_t i = first; i < p->count; i++)
        p->spans[i].weight *= factor;
}

static void close_bracket(parser *p, int kind, double factor)
{
    multiply(p, p->open[kind].first[--p->open[kind].count], factor);
}

/* ":1.3)": its length, and where the number lies; 0: there is none. */
static size_t weight_length(const char *text, const char **number)
{
    if (*text != ':') return 0;
    const char *at = text + 1;
    at += strspn(at, " \t\r\n");
    *number = at;
    at += *at == '-' || *at == '+';
    size_t digits = strspn(at, ".0123456789");
    at += digits;
    at += strspn(at, " \t\r\n");
    return digits && *at == ')' ? (size_t)(at + 1 - text) : 0;
}

static sp_status close_with_weight(parser *p, const char *number)
{
    size_t length = strspn(number, "+-.0123456789");
    const char *point = memchr(number, '.', length);
    bool whole = !point || !memchr(point + 1, '.', length - (size_t)(point + 1 - number));
    if (!whole || strcspn(number, "0123456789") >= length)
        return sp_fail(SP_ARGUMENT, "a weight is \"%s\", a number such as 1.3 is expected", sp_shown(number, length));
    close_bracket(p, ROUND, strtod(number, NULL));
    return SP_OK;
}

/* ---- the prompt ---- */

static int bracket_of(const char *signs, char sign)
{
    for (int kind = 0; kind < BRACKETS; kind++)
        if (signs[kind] == sign) return kind;
    return -1;
}

/* One sign with a meaning, or the words up to the next; returns how many bytes it read. */
static sp_status read_some(parser *p, const char *at, size_t *used)
{
    const char *number;
    size_t weight = weight_length(at, &number), words = strcspn(at, "\\()[]:");
    int opens = bracket_of(opening, *at), closes = bracket_of(closing, *at);
    *used = words ? words : weight ? weight : 1;
    if (words) return add_words(p, at, words);
    if (*at == '\\') {
        size_t escaped = at[1] && strchr("\\()[]", at[1]) ? 1 : 0; /* a lone one vanishes */
        *used = 1 + escaped;
        return add_span(p, at + 1, escaped, false);
    }
    if (opens >= 0) return open_bracket(p, opens);
    if (weight && p->open[ROUND].count) return close_with_weight(p, number);
    if (closes < 0 || !p->open[closes].count) return add_words(p, at, *used);
    close_bracket(p, closes, factors[closes]);
    return SP_OK;
}

static sp_status read_all(parser *p)
{
    size_t used;
    if (strlen(p->prompt) > SP_MAX_WEIGHTED_BYTES)
        return sp_fail(SP_ARGUMENT, "has %zu bytes, and with weights %d are the most", strlen(p->prompt),
                       SP_MAX_WEIGHTED_BYTES);
    for (const char *at = p->prompt; *at; at += used)
        SP_TRY(read_some(p, at, &used));
    for (int kind = 0; kind < BRACKETS; kind++)
        for (size_t i = 0; i < p->open[kind].count; i++)
            multiply(p, p->open[kind].first[i], factors[kind]);
    return p->count ? SP_OK : add_span(p, "", 0, false);
}

/* ---- what comes of it ---- */

static sp_status check_weight(double weight)
{
    if (fabs(weight) <= SP_MAX_PROMPT_WEIGHT) return SP_OK;
    return sp_fail(SP_ARGUMENT, "a weight comes to %g, and %d is the most", weight, SP_MAX_PROMPT_WEIGHT);
}

static bool joins(const span *a, const span *b)
{
    return !a->breaks && !b->breaks && a->weight == b->weight;
}

static sp_status hand_over(const parser *p, sp_weighted_prompt *out)
{
    out->parts = sp_alloc_zero(p->count * sizeof *out->parts);
    if (!out->parts) return SP_MEMORY;
    for (size_t i = 0, next; i < p->count; i = next) {
        const span *first = &p->spans[i];
        for (next = i + 1; next < p->count && joins(first, &p->spans[next]);)
            next++;
        sp_prompt_part *part = &out->parts[out->count++];
        part->weight = first->weight;
        if (first->breaks) continue;
        SP_TRY(check_weight(first->weight));
        part->text = sp_strndup(sp_string_text(&p->text) + first->begin, p->spans[next - 1].end - first->begin);
        if (!part->text) return SP_MEMORY;
    }
    return SP_OK;
}

sp_status sp_weighted_prompt_parse(const char *prompt, sp_weighted_prompt *out)
{
    parser p = {.prompt = prompt};
    *out = (sp_weighted_prompt){0};
    sp_status status = read_all(&p);
    if (!status) status = hand_over(&p, out);
    if (status == SP_ARGUMENT) sp_fail_within(status, "the prompt \"%s\"", sp_shown(prompt, strlen(prompt)));
    if (status) sp_weighted_prompt_free(out);
    sp_string_free(&p.text);
    sp_free(p.spans);
    for (int kind = 0; kind < BRACKETS; kind++)
        sp_free(p.open[kind].first);
    return status;
}

void sp_weighted_prompt_free(sp_weighted_prompt *prompt)
{
    for (size_t i = 0; i < prompt->count; i++)
        sp_free(prompt->parts[i].text);
    sp_free(prompt->parts);
    *prompt = (sp_weighted_prompt){0};
}
