/* What stands behind a flag, read as the flag's kind. */
#include "option_values.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

static int wrong_value(const option *o, const char *text)
{
    bool bounded = o->low != 0 || o->high != 0;
    const char *what = o->kind == OPTION_NUMBER ? "number" : "whole number";
    if (o->kind == OPTION_SPAN)
        return cli_fail(CLI_USAGE, "--%s is \"%s\", a whole number from %.12g to %.12g is expected, or two, FROM:TO",
                        o->name, text, o->low, o->high);
    if (!bounded)
        return cli_fail(CLI_USAGE, "--%s is \"%s\", a %s is expected", o->name, text, what);
    return cli_fail(CLI_USAGE, "--%s is \"%s\", a %s from %.12g to %.12g is expected", o->name,
                    text, what, o->low, o->high);
}

static bool in_range(const option *o, double value)
{
    return (o->low == 0 && o->high == 0) || (value >= o->low && value <= o->high);
}

/* Reads a whole number that ends at `end`. */
static bool read_integer(const option *o, const char *text, const char *end, int64_t *out)
{
    char *stop;
    errno = 0;
    long long value = strtoll(text, &stop, 10);
    if (stop == text || stop != end || errno || isspace((unsigned char)*text)) return false;
    *out = value;
    return in_range(o, (double)value);
}

/* "K", or "FROM:TO". */
static int read_span(const option *o, const char *text)
{
    const char *colon = strchr(text, ':'), *end = text + strlen(text);
    if (!read_integer(o, text, colon ? colon : end, o->value)) return wrong_value(o, text);
    return !colon || read_integer(o, colon + 1, end, o->beside) ? CLI_OK : wrong_value(o, text);
}

static int read_seed(const option *o, const char *text)
{
    char *stop;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, 10);
    if (isdigit((unsigned char)*text) && !*stop && !errno) {
        *(uint64_t *)o->value = value;
        if (o->random) *o->random = false;
        return CLI_OK;
    }
    if (o->random && strcmp(text, "-1") == 0) {
        *o->random = true;
        return CLI_OK;
    }
    return cli_fail(CLI_USAGE, "--%s is \"%s\", a whole number from 0 to %llu%s is expected", o->name,
                    text, (unsigned long long)UINT64_MAX, o->random ? ", or -1," : "");
}

static bool read_number(const option *o, const char *text, double *out)
{
    char *stop;
    errno = 0;
    double value = strtod(text, &stop);
    if (stop == text || *stop || isspace((unsigned char)*text) || !isfinite(value)) return false;
    *out = value;
    return in_range(o, value);
}

/* A number and K, M, G or T, perhaps an i for powers of 1024, perhaps a B. */
static int read_bytes(const option *o, const char *text)
{
    char *stop;
    double value = strtod(text, &stop);
    const char *units = "kmgt", *unit = *stop ? strchr(units, tolower((unsigned char)*stop)) : NULL;
    bool number = stop != text && isfinite(value) && !isspace((unsigned char)*text);
    if (unit) stop++;
    double power = unit && *stop == 'i' ? 1024 : 1000;
    if (unit && *stop == 'i') stop++;
    for (const char *u = units; unit && u <= unit; u++)
        value *= power;
    if (*stop == 'B') stop++;
    if (!number || *stop || value < (o->low > 1 ? o->low : 1) || value > 9e15)
        return cli_fail(CLI_USAGE, "--%s is \"%s\", a size such as 3G or 800M is expected", o->name,
                        text);
    *(int64_t *)o->value = (int64_t)value;
    return CLI_OK;
}

static int read_integers(const option *o, const char *text)
{
    option_integers *list = o->value;
    list->count = 0;
    for (const char *item = text;;) {
        const char *comma = strchr(item, ','), *end = comma ? comma : item + strlen(item);
        if (list->count == OPTION_LIST_MAX)
            return cli_fail(CLI_USAGE, "--%s has more than %d numbers", o->name, OPTION_LIST_MAX);
        if (!read_integer(o, item, end, &list->item[list->count++])) return wrong_value(o, text);
        if (!comma) return CLI_OK;
        item = comma + 1;
    }
}

static int read_choice(const option *o, const char *text)
{
    size_t length = strlen(text);
    int place = 0;
    for (const char *choice = o->choices; choice;) {
        const char *bar = strchr(choice, '|');
        size_t size = bar ? (size_t)(bar - choice) : strlen(choice);
        if (size == length && memcmp(choice, text, size) == 0) {
            if (o->kind == OPTION_ENUM)
                *(int *)o->value = place;
            else
                *(const char **)o->value = text;
            return CLI_OK;
        }
        choice = bar ? bar + 1 : NULL;
        place++;
    }
    return cli_fail(CLI_USAGE, "--%s is \"%s\", one of %s is expected", o->name, text, o->choices);
}

static int add_text(const option *o, const char *text)
{
    option_texts *list = o->value;
    if (list->count == OPTION_LIST_MAX)
        return cli_fail(CLI_USAGE, "--%s is given more than %d times", o->name, OPTION_LIST_MAX);
    list->item[list->count++] = text;
    return CLI_OK;
}

int option_read(const option *o, const char *text)
{
    bool words = o->argument && strcmp(o->argument, "TEXT") == 0; /* which may be none, as no negative prompt is */
    if ((o->kind == OPTION_TEXT || o->kind == OPTION_TEXTS) && !words && !*text)
        return cli_fail(CLI_USAGE, "--%s is empty", o->name);
    switch (o->kind) {
    case OPTION_FLAG:
        break;
    case OPTION_TEXT:
        *(const char **)o->value = text;
        break;
    case OPTION_CHOICE:
    case OPTION_ENUM:
        return read_choice(o, text);
    case OPTION_INTEGER:
        return read_integer(o, text, text + strlen(text), o->value) ? CLI_OK : wrong_value(o, text);
    case OPTION_SPAN:
        return read_span(o, text);
    case OPTION_SEED:
        return read_seed(o, text);
    case OPTION_NUMBER:
        return read_number(o, text, o->value) ? CLI_OK : wrong_value(o, text);
    case OPTION_BYTES:
        return read_bytes(o, text);
    case OPTION_TEXTS:
        return add_text(o, text);
    case OPTION_INTEGERS:
        return read_integers(o, text);
    }
    return CLI_OK;
}
