/* A shell's braces and wildcards in the names of shards. */
#include "data/shard_names.h"
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"

enum { MAX_NAMES = 1000000, MAX_DIGITS = 9, MAX_NESTING = 100 };

typedef struct {
    const char *pattern; /* as the user gave it */
    char **names;
    size_t count, capacity;
    size_t made; /* by braces, wildcards or not */
} name_list;

static sp_status too_many(const name_list *list)
{
    return sp_fail(SP_ARGUMENT, "\"%s\" stands for more than %d shards", list->pattern, MAX_NAMES);
}

static sp_status add(name_list *list, const char *name)
{
    if (list->count == MAX_NAMES) return too_many(list);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        char **names =
            sp_realloc(list->names, list->capacity * sizeof *names, capacity * sizeof *names);
        if (!names) return SP_MEMORY;
        list->names = names;
        list->capacity = capacity;
    }
    char *copy = sp_strdup(name);
    if (!copy) return SP_MEMORY;
    list->names[list->count++] = copy;
    return SP_OK;
}

static sp_status add_files(name_list *list, const char *pattern)
{
    if (++list->made > MAX_NAMES) return too_many(list);
    if (!strpbrk(pattern, "*?[")) return add(list, pattern);
    glob_t found = {0};
    int code = glob(pattern, 0, NULL, &found);
    sp_status status =
        code == GLOB_NOSPACE ? sp_fail(SP_MEMORY, "out of memory for \"%s\"", pattern) : SP_OK;
    for (size_t i = 0; !code && i < found.gl_pathc && !status; i++)
        status = add(list, found.gl_pathv[i]);
    globfree(&found);
    return status;
}

static sp_status expand(name_list *list, const char *pattern, int nesting);

/* head + middle[0..size-1] + tail, whose other braces are still to be expanded. */
static sp_status expand_with(name_list *list, const char *head, size_t head_size,
                             const char *middle, size_t size, const char *tail, int nesting)
{
    char *one = sp_format("%.*s%.*s%s", (int)head_size, head, (int)size, middle, tail);
    sp_status status = one ? expand(list, one, nesting + 1) : SP_MEMORY;
    sp_free(one);
    return status;
}

/* "LOW..HIGH", decimal digits each. */
static bool is_range(const char *text, size_t size, long *low, long *high, int *digits)
{
    size_t first = strspn(text, "0123456789");
    if (first < 1 || first > MAX_DIGITS || strncmp(text + first, "..", 2)) return false;
    size_t second = strspn(text + first + 2, "0123456789");
    if (second < 1 || second > MAX_DIGITS || first + 2 + second != size) return false;
    *low = atol(text);
    *high = atol(text + first + 2);
    *digits = (int)(first > second ? first : second);
    if (text[0] != '0' && text[first + 2] != '0') *digits = 1;
    return true;
}

static sp_status expand_range(name_list *list, const char *pattern, size_t open, long low,
                              long high, int digits, const char *tail, int nesting)
{
    if (labs(high - low) >= MAX_NAMES) return too_many(list);
    long step = low <= high ? 1 : -1;
    for (long i = low;; i += step) {
        char number[32];
        int size = snprintf(number, sizeof number, "%0*ld", digits, i);
        SP_TRY(expand_with(list, pattern, open, number, (size_t)size, tail, nesting));
        if (i == high) return SP_OK;
    }
}

static sp_status expand(name_list *list, const char *pattern, int nesting)
{
    size_t open = strcspn(pattern, "{}");
    if (!pattern[open]) return add_files(list, pattern);
    int depth = 0;
    size_t close = open;
    for (; pattern[close]; close++) {
        depth += (pattern[close] == '{') - (pattern[close] == '}');
        if (depth <= 0) break;
    }
    if (pattern[open] == '}' || !pattern[close] || nesting > MAX_NESTING)
        return sp_fail(SP_ARGUMENT, "\"%s\": braces do not match", list->pattern);
    const char *inside = pattern + open + 1, *tail = pattern + close + 1;
    size_t size = close - open - 1;
    long low, high;
    int digits;
    if (is_range(inside, size, &low, &high, &digits))
        return expand_range(list, pattern, open, low, high, digits, tail, nesting);
    for (size_t begin = 0, end = 0; begin <= size; begin = end + 1) {
        depth = 0;
        for (end = begin; end < size && (depth || inside[end] != ','); end++)
            depth += (inside[end] == '{') - (inside[end] == '}');
        SP_TRY(expand_with(list, pattern, open, inside + begin, end - begin, tail, nesting));
    }
    return SP_OK;
}

sp_status sp_shard_names(const char *pattern, char ***names, size_t *count)
{
    name_list list = {.pattern = pattern};
    sp_status status = expand(&list, pattern, 0);
    if (!status && !list.count) status = sp_fail(SP_ARGUMENT, "no file matches \"%s\"", pattern);
    *names = NULL;
    *count = 0;
    if (!status) {
        *names = list.names;
        *count = list.count;
        return SP_OK;
    }
    for (size_t i = 0; i < list.count; i++)
        sp_free(list.names[i]);
    sp_free(list.names);
    return status;
}
