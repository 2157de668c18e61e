/* JSON over Jansson. */
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/text_file.h"

/* Jansson's memory comes from base too, so that a failed allocation can be told from a malformed
 * text, and tested. What is older is malloc's, which sp_free releases too. A program that sets its own wins, before the
 * library is loaded or after. */
__attribute__((constructor)) static void route_memory(void)
{
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    if (allocate == malloc && release == free) json_set_alloc_funcs(sp_alloc_plain, sp_free);
}

void sp_json_text_free(char *text)
{
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    if (text) release(text);
}

/* Jansson takes two hundred bytes for two brackets. Real files have one in 18 bytes at most, headers of safetensors
 * with short names; those in texts count too, it is only a bound. */
static sp_status check_brackets(const char *text, size_t size, const char *name)
{
    enum { ALWAYS = 1 << 16, BYTES_EACH = 8 };
    size_t brackets = 0, most = ALWAYS + size / BYTES_EACH;
    for (size_t i = 0; i < size; i++)
        brackets += text[i] == '{' || text[i] == '[';
    if (brackets <= most) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: %zu bytes of JSON have %zu brackets, at most %zu are read", name, size,
                   brackets, most);
}

sp_status sp_json_parse(const char *text, size_t size, const char *name, json_t **out)
{
    json_error_t error;
    *out = NULL;
    SP_TRY(check_brackets(text, size, name));
    unsigned long failures = sp_alloc_failures();
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (*out) return SP_OK;
    if (sp_alloc_failures() != failures) return sp_fail_within(SP_MEMORY, "%s", name);
    return sp_fail(SP_FORMAT, "%s: line %d, column %d: %s", name, error.line, error.column,
                   error.text);
}

/* ---- what Python writes ---- */

/* Whether a token of digits and signs is a number that Jansson holds. */
static bool is_held(const char *token, size_t length)
{
    char number[400], *end;
    if (length >= sizeof number) return false;
    memcpy(number, token, length);
    number[length] = '\0';
    errno = 0;
    if (!strpbrk(number, ".eE")) {
        (void)strtoll(number, &end, 10);
        return errno == 0;
    }
    return isfinite(strtod(number, &end));
}

/* Length of a number or name that begins here, outside texts, and is to be null; else 0. *length:
 * of the token, whatever it is. */
static bool becomes_null(const char *text, size_t left, size_t *length)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *length = strlen(names[i]);
        if (left >= *length && memcmp(text, names[i], *length) == 0) return true;
    }
    *length = 0;
    while (*length < left && strchr("+-.eE0123456789", text[*length]) && text[*length])
        ++*length;
    bool number = *length > 0 && strchr("-0123456789", *text);
    if (!*length) *length = 1;
    return number && !is_held(text, *length);
}

/* The code unit of \uXXXX, or -1. */
static long unit_of(const char *text, size_t left)
{
    char digits[5] = "";
    if (left < 6 || text[0] != '\\' || text[1] != 'u') return -1;
    memcpy(digits, text + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* An escape of two or six characters inside a text, or twelve for a pair. */
static size_t copy_escape(const char *text, size_t left, sp_string *out)
{
    long unit = unit_of(text, left);
    bool high = unit >= 0xD800 && unit < 0xDC00, low = unit >= 0xDC00 && unit < 0xE000;
    long second = high ? unit_of(text + 6, left - 6) : -1;
    size_t length = unit < 0 ? (left < 2 ? left : 2) : second >= 0xDC00 && second < 0xE000 ? 12 : 6;
    if (unit == 0 || low || (high && length == 6))
        sp_string_append(out, "\\uFFFD", 6);
    else
        sp_string_append(out, text, length);
    return length;
}

static void forgive(const char *text, size_t size, sp_string *out)
{
    bool inside = false; /* a text */
    for (size_t at = 0, length; at < size; at += length) {
        if (inside && text[at] == '\\') {
            length = copy_escape(text + at, size - at, out);
        } else if (inside || text[at] == '"') {
            inside ^= text[at] == '"';
            length = 1;
            sp_string_append(out, text + at, 1);
        } else if (becomes_null(text + at, size - at, &length)) {
            sp_string_append(out, "null", 4);
        } else {
            sp_string_append(out, text + at, length);
        }
    }
}

sp_status sp_json_parse_lenient(const char *text, size_t size, const char *name, json_t **out)
{
    sp_status status = sp_json_parse(text, size, name, out);
    if (status != SP_FORMAT) return status;
    sp_string changed = {0};
    forgive(text, size, &changed);
    if (changed.failed)
        status = SP_MEMORY;
    else if (changed.length != size || (size && memcmp(changed.data, text, size)))
        status = sp_json_parse(changed.data, changed.length, name, out);
    sp_string_free(&changed);
    return status;
}

sp_status sp_json_read(const char *path, char **text, size_t *size)
{
    enum { MOST = 64 << 20 }; /* the largest real ones, vocabularies and indices of weights, have a few megabytes */
    struct stat info;
    *text = NULL;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > MOST)
        return sp_fail(SP_UNSUPPORTED, "%s: has %lld bytes, at most %d of such JSON are read", path,
                       (long long)info.st_size, MOST);
    SP_TRY(sp_read_text(path, text, size));
    sp_status status = check_brackets(*text, *size, path);
    if (!status) return SP_OK;
    sp_free(*text);
    *text = NULL;
    return status;
}

sp_status sp_json_load(const char *path, json_t **out)
{
    *out = NULL;
    char *text;
    size_t size;
    SP_TRY(sp_json_read(path, &text, &size));
    sp_status status = sp_json_parse(text, size, path, out);
    sp_free(text);
    return status;
}

static const char *type_text(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

static sp_status wrong_type(const char *where, const char *key, const char *expected,
                            const json_t *value)
{
    return sp_fail(SP_FORMAT, "%s: \"%s\" must be %s, found %s", where, key, expected,
                   type_text(value));
}

/* The value of a key, NULL if absent or null. */
static const json_t *look_up(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

sp_status sp_json_int(const json_t *object, const char *key, int64_t fallback, const char *where,
                      int64_t *out)
{
    const json_t *value = look_up(object, key);
    *out = fallback;
    if (!value) return SP_OK;
    if (!json_is_integer(value)) return wrong_type(where, key, "an integer", value);
    *out = json_integer_value(value);
    return SP_OK;
}

sp_status sp_json_double(const json_t *object, const char *key, double fallback, const char *where,
                         double *out)
{
    const json_t *value = look_up(object, key);
    *out = fallback;
    if (!value) return SP_OK;
    if (!json_is_number(value)) return wrong_type(where, key, "a number", value);
    *out = json_number_value(value);
    return SP_OK;
}

sp_status sp_json_bool(const json_t *object, const char *key, bool fallback, const char *where,
                       bool *out)
{
    const json_t *value = look_up(object, key);
    *out = fallback;
    if (!value) return SP_OK;
    if (!json_is_boolean(value)) return wrong_type(where, key, "true or false", value);
    *out = json_is_true(value);
    return SP_OK;
}

sp_status sp_json_text(const json_t *object, const char *key, const char *fallback,
                       const char *where, const char **out)
{
    const json_t *value = look_up(object, key);
    *out = fallback;
    if (!value) return SP_OK;
    if (!json_is_string(value)) return wrong_type(where, key, "a text", value);
    *out = json_string_value(value);
    return SP_OK;
}

sp_status sp_json_int_list(const json_t *object, const char *key, int64_t fallback,
                           const char *where, int count, int64_t *out)
{
    for (int i = 0; i < count; i++)
        out[i] = fallback;
    const json_t *value = look_up(object, key);
    if (!value) return SP_OK;
    if (json_is_integer(value)) {
        for (int i = 0; i < count; i++)
            out[i] = json_integer_value(value);
        return SP_OK;
    }
    if (!json_is_array(value))
        return wrong_type(where, key, "an integer or a list of integers", value);
    if (json_array_size(value) != (size_t)count)
        return sp_fail(SP_FORMAT, "%s: \"%s\" must have %d entries, found %zu", where, key, count,
                       json_array_size(value));
    for (int i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, (size_t)i);
        if (!json_is_integer(item)) return wrong_type(where, key, "a list of integers", item);
        out[i] = json_integer_value(item);
    }
    return SP_OK;
}
