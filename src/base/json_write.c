/* Writing JSON: numbers as short as they can be, files, values in messages. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

static int append_piece(const char *piece, size_t size, void *text)
{
    sp_string_append(text, piece, size);
    return ((sp_string *)text)->failed ? -1 : 0;
}

/* A number as Jansson writes it, with 17 digits if it is real. */
static void append_number(const char *token, size_t length, sp_string *out)
{
    char number[64], text[SP_NUMBER_TEXT];
    bool real = length < sizeof number && memchr(token, '.', length);
    real |= length < sizeof number && memchr(token, 'e', length);
    if (!real) {
        sp_string_append(out, token, length);
        return;
    }
    memcpy(number, token, length);
    number[length] = '\0';
    sp_number_text(strtod(number, NULL), text);
    sp_string_append_format(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* Jansson has one number of digits for all of a text, and no shortest one. */
static void shorten_numbers(const char *text, size_t size, sp_string *out)
{
    for (size_t at = 0, length; at < size; at += length) {
        if (text[at] == '"') {
            for (length = 1; text[at + length] != '"'; length++)
                length += text[at + length] == '\\';
            length++;
            sp_string_append(out, text + at, length);
        } else if (strchr("-0123456789", text[at])) {
            length = strspn(text + at, "+-.0123456789eE");
            append_number(text + at, length, out);
        } else {
            length = strcspn(text + at, "\"-0123456789");
            sp_string_append(out, text + at, length);
        }
    }
}

static sp_string dump(const json_t *value, size_t flags)
{
    sp_string plain = {0}, out = {0};
    out.failed = json_dump_callback(value, append_piece, &plain, flags | JSON_ENCODE_ANY) != 0;
    if (!out.failed) shorten_numbers(sp_string_text(&plain), plain.length, &out); /* a half text may end in a string */
    sp_string_free(&plain);
    return out;
}

char *sp_json_dumps(const json_t *value, size_t flags)
{
    sp_string text = dump(value, flags);
    if (text.failed) sp_string_free(&text);
    return text.data;
}

sp_status sp_json_save(const char *path, const json_t *value)
{
    sp_string text = dump(value, JSON_INDENT(2));
    sp_string_append(&text, "\n", 1);
    sp_status status = text.failed
                           ? sp_fail(SP_MEMORY, "%s: the JSON value could not be written out", path)
                           : sp_write_file(path, text.data, text.length);
    sp_string_free(&text);
    return status;
}

const char *sp_json_brief(const json_t *value, char *buffer, size_t size)
{
    static const char dots[] = "...";
    sp_string text = dump(value, JSON_COMPACT);
    size_t length = text.length;
    if (length >= size) {
        length = size - sizeof dots;
        /* The bytes of a character behind its first are 10xxxxxx. */
        while (length > 0 && ((unsigned char)text.data[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(buffer, sp_string_text(&text), length);
    strcpy(buffer + length, length < text.length ? dots : "");
    sp_string_free(&text);
    return buffer;
}

/* ---- values made member by member ---- */

static sp_json_made begin(json_t *value)
{
    return (sp_json_made){value, !value};
}

sp_json_made sp_json_make_object(void)
{
    return begin(json_object());
}

sp_json_made sp_json_make_list(void)
{
    return begin(json_array());
}

void sp_json_put(sp_json_made *object, const char *key, json_t *value)
{
    object->failed |= json_object_set_new(object->value, key, value) != 0;
}

void sp_json_add(sp_json_made *list, json_t *value)
{
    list->failed |= json_array_append_new(list->value, value) != 0;
}

json_t *sp_json_done(sp_json_made *made)
{
    if (!made->failed) return made->value;
    json_decref(made->value);
    return NULL;
}

json_t *sp_json_integers(const int64_t *values, int count)
{
    sp_json_made list = sp_json_make_list();
    for (int i = 0; i < count; i++)
        sp_json_add(&list, json_integer(values[i]));
    return sp_json_done(&list);
}

json_t *sp_json_seed(uint64_t seed)
{
    return seed <= INT64_MAX ? json_integer((json_int_t)seed)
                             : json_sprintf("%llu", (unsigned long long)seed);
}
