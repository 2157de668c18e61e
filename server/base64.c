/* Base64, both ways. */
#include "base64.h"
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *sv_base64_encode(const uint8_t *bytes, size_t size)
{
    char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; text && i < size; i += 3, to += 4) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        to[0] = digits[group >> 18];
        to[1] = digits[group >> 12 & 63];
        to[2] = left > 1 ? digits[group >> 6 & 63] : '=';
        to[3] = left > 2 ? digits[group & 63] : '=';
    }
    if (text) *to = 0;
    return text;
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* What stands behind "data:TYPE;base64,", or all of it. */
static const char *without_head(const char *text, size_t *length)
{
    static const char mark[] = ";base64,";
    if (*length < 5 || memcmp(text, "data:", 5)) return text;
    const char *found = memmem(text, *length < 128 ? *length : 128, mark, sizeof mark - 1);
    if (!found) return text;
    found += sizeof mark - 1;
    *length -= (size_t)(found - text);
    return found;
}

bool sv_base64_decode(const char *text, size_t length, uint8_t **out, size_t *size)
{
    *out = NULL;
    *size = 0;
    text = without_head(text, &length);
    uint8_t *bytes = malloc(length / 4 * 3 + 3), *to = bytes;
    if (!bytes) return false;
    uint32_t group = 0;
    size_t digit = 0, padding = 0;
    bool good = true;
    for (size_t i = 0; i < length && good; i++) {
        if (text[i] == '\n' || text[i] == '\r') continue; /* of lines, as MIME has it */
        int value = value_of(text[i]);
        padding += text[i] == '=';
        good = padding ? text[i] == '=' && padding <= 2 : value >= 0;
        if (!good || padding) continue;
        group = group << 6 | (uint32_t)value;
        if (digit % 4) *to++ = (uint8_t)(group >> (6 - 2 * (digit % 4)));
        digit++;
    }
    if (!good || digit % 4 == 1) {
        free(bytes);
        return false;
    }
    *out = bytes;
    *size = (size_t)(to - bytes);
    return true;
}
