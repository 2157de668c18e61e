/* JSON over Jansson: loading with errors that name the file and line, and typed look-ups that name
 * the key. */
#ifndef SP_BASE_JSON_H
#define SP_BASE_JSON_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

/* A configuration, an index, a vocabulary: json_decref. SP_UNSUPPORTED for more than 64 MiB. */
sp_status sp_json_load(const char *path, json_t **out);
/* Its text alone, within what these two take, for who parses it another way: sp_free. */
sp_status sp_json_read(const char *path, char **text, size_t *size);
/* name: for messages. SP_UNSUPPORTED for more than 65,536 brackets and one in eight bytes, which take memory out of
 * proportion; SP_FORMAT beyond Jansson's 2,048 levels. */
sp_status sp_json_parse(const char *text, size_t size, const char *name, json_t **out);
/* The same, forgiving what Python writes and Jansson does not read: NaN, Infinity, integers beyond
 * 64 bits and numbers beyond a double are null, and \u0000 and halves of surrogate pairs U+FFFD. */
sp_status sp_json_parse_lenient(const char *text, size_t size, const char *name, json_t **out);
sp_status sp_json_save(const char *path,
                       const json_t *value); /* indented, atomic, trailing newline */

/* A seed: a number up to 2^63 - 1, as far as Jansson's integers go, else its digits as a text. NULL
 * when out of memory. */
json_t *sp_json_seed(uint64_t seed);

/* The value as JSON on one line, for a message: at most size - 1 bytes (size: 4 or more), of which the last three
 * are "..." if it is longer; it is cut between characters. Returns buffer, which always ends with a NUL. */
const char *sp_json_brief(const json_t *value, char *buffer, size_t size);

/* Releases what json_dumps returned: with Jansson's allocator, which the program around the library may have
 * chosen. NULL is legal. */
void sp_json_text_free(char *text);

/* As json_dumps, of any value, with numbers as sp_number_text writes them: a new string (sp_free);
 * NULL when out of memory. So do sp_json_save and sp_json_brief. */
char *sp_json_dumps(const json_t *value, size_t flags);

/* An object or a list that is made member by member. What memory does not suffice for makes it fail, and all of it is
 * asked for once, at the end: a value is whole or none. */
typedef struct {
    json_t *value;
    bool failed;
} sp_json_made;
sp_json_made sp_json_make_object(void);
sp_json_made sp_json_make_list(void);
/* Take `value` over; NULL: it could not be made. */
void sp_json_put(sp_json_made *object, const char *key, json_t *value);
void sp_json_add(sp_json_made *list, json_t *value);
/* The value, which is the caller's; NULL when out of memory. */
json_t *sp_json_done(sp_json_made *made);
json_t *sp_json_integers(const int64_t *values, int count); /* a list; NULL likewise */

/* Typed look-ups in an object. `where` names the file in messages. An absent or null key gives
 * `fallback`; a value of another type is SP_FORMAT. */
sp_status sp_json_int(const json_t *object, const char *key, int64_t fallback, const char *where,
                      int64_t *out);
sp_status sp_json_double(const json_t *object, const char *key, double fallback, const char *where,
                         double *out);
sp_status sp_json_bool(const json_t *object, const char *key, bool fallback, const char *where,
                       bool *out);
/* *out points into the object; fallback may be NULL. */
sp_status sp_json_text(const json_t *object, const char *key, const char *fallback,
                       const char *where, const char **out);
/* An integer or a list of integers: fills out[0..count-1], repeating a single number; a list of
 * another length is SP_FORMAT. */
sp_status sp_json_int_list(const json_t *object, const char *key, int64_t fallback,
                           const char *where, int count, int64_t *out);

#endif
