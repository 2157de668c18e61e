/* Making text visible: UTF-8 as it is, everything that a terminal or a reader could be led astray by as an
 * escape. */
#include "base/visible.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* C1 controls; marks of direction, separators of lines, invisible characters but for the two joiners. */
static bool is_misleading(utf8proc_int32_t c)
{
    static const struct {
        utf8proc_int32_t first, last;
    } ranges[] = {
        {0x80, 0x9f},     {0x061c, 0x061c}, {0x200b, 0x200b}, {0x200e, 0x200f}, {0x2028, 0x202e},
        {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return true;
    return false;
}

size_t sp_visible(const char *bytes, size_t size, char *out, size_t capacity)
{
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)bytes;
    size_t length = 0;
    for (size_t at = 0, used; at < size; at += used) {
        char escape[8];
        utf8proc_int32_t code;
        const size_t rest = size - at; /* of which a character has four bytes at most */
        utf8proc_ssize_t taken =
            utf8proc_iterate(from + at, (utf8proc_ssize_t)(rest < 4 ? rest : 4), &code);
        const char *piece = bytes + at;
        size_t count = used = taken > 0 ? (size_t)taken : 0;
        if (!used || code < 0x20 || code == 0x7f) {
            used = 1;
            count = (size_t)snprintf(escape, sizeof escape, "\\x%02x", from[at]);
            piece = escape;
        } else if (is_misleading(code)) {
            count = (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code);
            piece = escape;
        }
        if (length + count >= capacity) break;
        memcpy(out + length, piece, count);
        length += count;
    }
    if (capacity) out[length] = '\0';
    return length;
}

const char *sp_shown(const char *bytes, size_t size)
{
    enum { BUFFERS = 8, SHOWN = 128 };
    static _Thread_local char buffers[BUFFERS][SP_VISIBLE_GROWTH * SHOWN + 4];
    static _Thread_local unsigned next;
    char *text = buffers[next++ % BUFFERS];
    size_t kept = size;
    if (size > SHOWN) /* not within a character */
        for (kept = SHOWN; kept > SHOWN - 4 && ((unsigned char)bytes[kept] & 0xc0) == 0x80;)
            kept--;
    size_t length = sp_visible(bytes, kept, text, sizeof buffers[0] - 3);
    if (kept < size) memcpy(text + length, "...", 4);
    return text;
}

void sp_clean_text(const char *text, char *out, size_t capacity)
{
    size_t length = 0;
    while (*text) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &c);
        if (used <= 0 || c < 32 || c == 127) {
            used = used > 0 ? used : 1;
            c = '?';
        }
        utf8proc_uint8_t bytes[4];
        size_t size = (size_t)utf8proc_encode_char(c, bytes);
        if (length + size >= capacity) break;
        memcpy(out + length, bytes, size);
        length += size;
        text += used;
    }
    out[length] = 0;
}
