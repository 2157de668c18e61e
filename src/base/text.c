/* The growing string, the dictionary, and looking at the ends of strings. */
#include "base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/memory.h"
#include "base/visible.h"

/* Room for `count` more bytes and the NUL. */
static bool reserve(sp_string *s, size_t count)
{
    if (s->failed) return false;
    if (count < s->capacity - s->length) return true;
    size_t needed = s->length + count + 1;
    if (needed <= s->length) {
        sp_fail(SP_MEMORY, "out of memory: a text of %zu bytes cannot grow by %zu", s->length,
                count);
        s->failed = true;
        return false;
    }
    size_t capacity = s->capacity <= SIZE_MAX / 4 ? s->capacity * 2 : needed;
    if (capacity < needed) capacity = needed;
    if (capacity < 64) capacity = 64;
    char *grown = sp_realloc(s->data, s->length, capacity);
    if (!grown) {
        s->failed = true;
        return false;
    }
    s->data = grown;
    s->capacity = capacity;
    return true;
}

void sp_string_append(sp_string *s, const char *bytes, size_t count)
{
    if (!reserve(s, count)) return;
    if (count) memcpy(s->data + s->length, bytes, count);
    s->length += count;
    s->data[s->length] = '\0';
}

static void append_format(sp_string *s, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        sp_fail(SP_INTERNAL, "a text could not be formatted");
        s->failed = true;
        return;
    }
    if (!reserve(s, (size_t)length)) return;
    vsnprintf(s->data + s->length, (size_t)length + 1, format, arguments);
    s->length += (size_t)length;
}

void sp_string_append_format(sp_string *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    append_format(s, format, arguments);
    va_end(arguments);
}

void sp_string_append_visible(sp_string *s, const char *bytes, size_t count)
{
    if (count > SIZE_MAX / SP_VISIBLE_GROWTH) count = SIZE_MAX / SP_VISIBLE_GROWTH;
    if (!reserve(s, SP_VISIBLE_GROWTH * count)) return;
    s->length += sp_visible(bytes, count, s->data + s->length, s->capacity - s->length);
}

void sp_string_say(sp_string *s, const char *format, ...)
{
    size_t first = strspn(format, "\n"), last = strlen(format);
    while (last > first && format[last - 1] == '\n')
        last--;
    last = strlen(format) - last;
    sp_string raw = {0};
    va_list arguments;
    va_start(arguments, format);
    append_format(&raw, format, arguments);
    va_end(arguments);
    s->failed |= raw.failed;
    if (!raw.failed) {
        sp_string_append(s, raw.data, first);
        sp_string_append_visible(s, raw.data + first, raw.length - first - last);
        sp_string_append(s, raw.data + raw.length - last, last);
    }
    sp_string_free(&raw);
}

const char *sp_string_text(const sp_string *s)
{
    return s->data ? s->data : "";
}

void sp_string_free(sp_string *s)
{
    sp_free(s->data);
    *s = (sp_string){0};
}

typedef struct {
    const char *key;
    void *value;
    uint64_t hash;
} dictionary_entry;

/* Entries in insertion order; `slots` is an open-addressed table of entry numbers + 1, at most half
 * full. */
struct sp_dictionary {
    sp_arena *keys;
    dictionary_entry *entries;
    size_t count, capacity;
    size_t *slots;
    size_t slot_count; /* a power of two */
};

#define FIRST_CAPACITY ((size_t)16)

static uint64_t hash_text(const char *text)
{
    /* FNV-1a, then a final mix, because slots are taken from the low bits. It begins with random bits of the
     * process, so that no file can have names that all fall into one slot; nothing depends on the order of slots. */
    uint64_t hash;
    memcpy(&hash, (const void *)getauxval(AT_RANDOM), sizeof hash);
    hash ^= 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15u;
}

sp_dictionary *sp_dictionary_create(void)
{
    sp_dictionary *dictionary = sp_alloc_zero(sizeof *dictionary);
    if (!dictionary) return NULL;
    dictionary->keys = sp_arena_create();
    if (!dictionary->keys) {
        sp_dictionary_destroy(dictionary);
        return NULL;
    }
    return dictionary;
}

void sp_dictionary_destroy(sp_dictionary *dictionary)
{
    if (!dictionary) return;
    sp_arena_destroy(dictionary->keys);
    sp_free(dictionary->entries);
    sp_free(dictionary->slots);
    sp_free(dictionary);
}

/* The slot that holds the key, or the empty one where it belongs. */
static size_t find_slot(const sp_dictionary *dictionary, const char *key, uint64_t hash)
{
    size_t mask = dictionary->slot_count - 1;
    size_t slot = (size_t)(hash >> 20) & mask;
    for (; dictionary->slots[slot]; slot = (slot + 1) & mask) {
        const dictionary_entry *entry = &dictionary->entries[dictionary->slots[slot] - 1];
        if (entry->hash == hash && strcmp(entry->key, key) == 0) break;
    }
    return slot;
}

static sp_status grow(sp_dictionary *dictionary)
{
    size_t capacity = dictionary->capacity ? dictionary->capacity * 2 : FIRST_CAPACITY;
    size_t slot_count = capacity * 2;
    size_t *slots = sp_alloc_zero(slot_count * sizeof *slots);
    if (!slots) return SP_MEMORY;
    dictionary_entry *entries =
        sp_realloc(dictionary->entries, dictionary->count * sizeof *entries, capacity * sizeof *entries);
    if (!entries) {
        sp_free(slots);
        return SP_MEMORY;
    }
    sp_free(dictionary->slots);
    dictionary->slots = slots;
    dictionary->slot_count = slot_count;
    dictionary->entries = entries;
    dictionary->capacity = capacity;
    for (size_t i = 0; i < dictionary->count; i++)
        dictionary->slots[find_slot(dictionary, entries[i].key, entries[i].hash)] = i + 1;
    return SP_OK;
}

sp_status sp_dictionary_put(sp_dictionary *dictionary, const char *key, void *value)
{
    if (dictionary->count == dictionary->capacity) SP_TRY(grow(dictionary));
    uint64_t hash = hash_text(key);
    size_t slot = find_slot(dictionary, key, hash);
    if (dictionary->slots[slot]) {
        dictionary->entries[dictionary->slots[slot] - 1].value = value;
        return SP_OK;
    }
    char *copy = sp_arena_strdup(dictionary->keys, key);
    if (!copy) return SP_MEMORY;
    dictionary->entries[dictionary->count] = (dictionary_entry){.key = copy, .value = value, .hash = hash};
    dictionary->slots[slot] = ++dictionary->count;
    return SP_OK;
}

void *sp_dictionary_get(const sp_dictionary *dictionary, const char *key)
{
    if (!dictionary->count) return NULL;
    size_t entry = dictionary->slots[find_slot(dictionary, key, hash_text(key))];
    return entry ? dictionary->entries[entry - 1].value : NULL;
}

size_t sp_dictionary_count(const sp_dictionary *dictionary)
{
    return dictionary->count;
}

bool sp_dictionary_next(const sp_dictionary *dictionary, size_t *index, const char **key, void **value)
{
    if (*index >= dictionary->count) return false;
    const dictionary_entry *entry = &dictionary->entries[(*index)++];
    *key = entry->key;
    *value = entry->value;
    return true;
}

const char *sp_number_text(double value, char text[SP_NUMBER_TEXT])
{
    int digits = 1;
    do
        snprintf(text, SP_NUMBER_TEXT, "%.*e", digits - 1, value);
    while (strtod(text, NULL) != value && ++digits <= 17 && isfinite(value));
    char *mark = strchr(text, 'e');
    if (!isfinite(value) || !mark) return text;
    int exponent = atoi(mark + 1);
    if (exponent < -4 || exponent >= 16)
        sprintf(mark, "e%d", exponent); /* without a plus sign and leading zeros */
    else
        snprintf(text, SP_NUMBER_TEXT, "%.*f", digits - 1 > exponent ? digits - 1 - exponent : 0,
                 value);
    return text;
}

bool sp_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool sp_ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

sp_status sp_name_index(const char *what, const char *name, const char *const *names, int count,
                        int *out)
{
    char choices[256] = "";
    for (*out = 0; *out < count; ++*out) {
        if (strcmp(name, names[*out]) == 0) return SP_OK;
        size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s%s", used ? ", " : "", names[*out]);
    }
    return sp_fail(SP_ARGUMENT, "%s \"%s\" is not known, expected one of: %s", what, name, choices);
}
