/* Small text tools: a growing string and a dictionary from strings to pointers. */
#ifndef SP_BASE_TEXT_H
#define SP_BASE_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* A growing, always NUL-terminated string. Zero-initialise; release with sp_string_free.
 * After an allocation failure `failed` stays true and further appends do nothing. */
typedef struct {
    char *data; /* may be NULL while length is 0 */
    size_t length, capacity;
    bool failed;
} sp_string;
void sp_string_append(sp_string *s, const char *bytes, size_t count);
void sp_string_append_format(sp_string *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* For people's eyes, see base/visible.h: what may do harm on a terminal is replaced, newlines in values
 * too; those with which the format begins and ends stay. */
void sp_string_say(sp_string *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sp_string_append_visible(sp_string *s, const char *bytes, size_t count); /* the same of bytes */
const char *sp_string_text(const sp_string *s); /* "" when empty */
void sp_string_free(sp_string *s);

/* An unordered dictionary from string keys (copied) to pointers (not owned). */
typedef struct sp_dictionary sp_dictionary;
sp_dictionary *sp_dictionary_create(void); /* NULL when out of memory */
void sp_dictionary_destroy(sp_dictionary *dictionary);
sp_status sp_dictionary_put(sp_dictionary *dictionary, const char *key, void *value); /* replaces an earlier value */
void *sp_dictionary_get(const sp_dictionary *dictionary, const char *key); /* NULL when absent */
size_t sp_dictionary_count(const sp_dictionary *dictionary);
/* Iterates in insertion order: *index from 0; returns false after the last. */
bool sp_dictionary_next(const sp_dictionary *dictionary, size_t *index, const char **key, void **value);

/* The index of `name` among `count` names; SP_ARGUMENT, "WHAT \"name\" is not known" and the names,
 * if it is none of them. */
sp_status sp_name_index(const char *what, const char *name, const char *const *names, int count,
                        int *out);

enum { SP_NUMBER_TEXT = 32 };
/* The shortest decimal that reads back as `value`, as "8e-6", "0.95", "100", "1e16": with an
 * exponent below 1e-4 and from 1e16 on. */
const char *sp_number_text(double value, char text[SP_NUMBER_TEXT]);

bool sp_starts_with(const char *text, const char *prefix);
bool sp_ends_with(const char *text, const char *suffix);

#endif
