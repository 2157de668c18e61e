/* SentencePiece's precompiled replacements of characters. */
#include "text/charsmap.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>
#include "base/memory.h"
#include "text/token_table.h"

enum { HEAD = 4, WHOLE_GRAPHEME = 6 }; /* bytes: of the array's size; of graphemes from which on characters count */

/* ---- reading ---- */

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* `out` has room for 3 bytes of each 4 characters. False: that is no base64. */
static bool decode(const char *text, size_t length, uint8_t *out, size_t *size)
{
    size_t padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    if (length % 4) return false;
    *size = 0;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t sum = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = i + k >= length - padding ? 0 : digit_of(text[i + k]);
            if (digit < 0) return false;
            sum = sum << 6 | (uint32_t)digit;
        }
        for (int k = 2; k >= 0; k--)
            out[(*size)++] = (uint8_t)(sum >> 8 * k);
    }
    *size -= padding;
    return true;
}

static uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static sp_status take_apart(size_t size, sp_charsmap *map)
{
    size_t array = size >= HEAD ? word_at(map->bytes) : 0;
    if (size < HEAD || array % sizeof(uint32_t) || array > size - HEAD)
        return sp_fail(SP_FORMAT, "a table of character replacements has %zu bytes, and an array of %zu", size, array);
    map->unit_count = array / sizeof(uint32_t);
    map->units = sp_alloc(array);
    if (!map->units) return SP_MEMORY;
    for (size_t i = 0; i < map->unit_count; i++)
        map->units[i] = word_at(map->bytes + HEAD + i * sizeof(uint32_t));
    map->texts = (const char *)map->bytes + HEAD + array;
    map->text_size = size - HEAD - array;
    if (map->text_size && map->texts[map->text_size - 1] == '\0') return SP_OK;
    return sp_fail(SP_FORMAT, "a table of character replacements does not end with a NUL");
}

sp_status sp_charsmap_read(const char *base64, size_t length, sp_charsmap *out)
{
    size_t size = 0;
    *out = (sp_charsmap){.bytes = sp_alloc(length / 4 * 3 + 1)};
    sp_status status = out->bytes ? SP_OK : SP_MEMORY;
    if (!status && !decode(base64, length, out->bytes, &size))
        status = sp_fail(SP_FORMAT, "a table of character replacements is no base64");
    if (!status) status = take_apart(size, out);
    if (status) sp_charsmap_free(out);
    return status;
}

void sp_charsmap_free(sp_charsmap *map)
{
    sp_free(map->bytes);
    sp_free(map->units);
    *map = (sp_charsmap){0};
}

/* ---- the double array (darts-clone) ---- */

static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* What replaces the shortest beginning of the bytes; NULL: there is none. */
static const char *find(const sp_charsmap *map, const char *bytes, size_t length)
{
    if (!map->unit_count) return NULL;
    size_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < length && bytes[i]; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        at ^= byte;
        if (at >= map->unit_count) return NULL;
        uint32_t unit = map->units[at];
        if ((unit & (1u << 31 | 0xff)) != byte) return NULL;
        at ^= offset_of(unit);
        if (at >= map->unit_count) return NULL;
        if (!(unit >> 8 & 1)) continue;
        size_t text = map->units[at] & ~(1u << 31);
        return text < map->text_size ? map->texts + text : NULL;
    }
    return NULL;
}

/* ---- normalising ---- */

typedef struct {
    char *bytes;
    size_t length, capacity;
} buffer;

static sp_status append(buffer *b, const char *bytes, size_t length)
{
    char *grown = sp_grown(b->bytes, 1, b->length + length + 1, &b->capacity);
    if (!grown) return SP_MEMORY;
    b->bytes = grown;
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
    b->bytes[b->length] = '\0';
    return SP_OK;
}

static sp_status replace_character(const sp_charsmap *map, const char *bytes, size_t length, buffer *out)
{
    const char *text = find(map, bytes, length);
    return append(out, text ? text : bytes, text ? strlen(text) : length);
}

static size_t character_length(const char *bytes, size_t length)
{
    utf8proc_int32_t point;
    utf8proc_ssize_t own = utf8proc_iterate((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)length, &point);
    return own > 0 ? (size_t)own : 1;
}

static sp_status replace_grapheme(const sp_charsmap *map, const char *bytes, size_t length, buffer *out)
{
    const char *text = length < WHOLE_GRAPHEME ? find(map, bytes, length) : NULL;
    if (text) return append(out, text, strlen(text));
    for (size_t i = 0; i < length;) {
        size_t own = character_length(bytes + i, length - i);
        SP_TRY(replace_character(map, bytes + i, own, out));
        i += own;
    }
    return SP_OK;
}

/* Bytes up to the end of the grapheme that begins here. */
static size_t grapheme_length(const char *bytes, size_t length)
{
    utf8proc_int32_t point, next, state = 0;
    size_t at = character_length(bytes, length);
    if (utf8proc_iterate((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)length, &point) < 0) return at;
    while (at < length) {
        utf8proc_ssize_t own =
            utf8proc_iterate((const utf8proc_uint8_t *)bytes + at, (utf8proc_ssize_t)(length - at), &next);
        if (own < 0 || utf8proc_grapheme_break_stateful(point, next, &state)) break;
        point = next;
        at += (size_t)own;
    }
    return at;
}

sp_status sp_charsmap_apply(const sp_charsmap *map, const char *text, size_t length, char **out, size_t *out_length)
{
    buffer b = {0};
    sp_status status = append(&b, "", 0);
    for (size_t i = 0; i < length && !status;) {
        size_t own = grapheme_length(text + i, length - i);
        status = replace_grapheme(map, text + i, own, &b);
        i += own;
    }
    if (status) sp_free(b.bytes);
    *out = status ? NULL : b.bytes;
    *out_length = status ? 0 : b.length;
    return status;
}
