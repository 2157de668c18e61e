/* Text files: byte order marks and malformed bytes. */
#include "base/text_file.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

sp_status sp_skip_byte_order_mark(const char *name, const char **text, size_t *size)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *encoding; /* NULL: the one that is read */
    } marks[] = {{"\xEF\xBB\xBF", 3, NULL},
                 {"\xFF\xFE\0\0", 4, "UTF-32"},
                 {"\0\0\xFE\xFF", 4, "UTF-32"},
                 {"\xFF\xFE", 2, "UTF-16"},
                 {"\xFE\xFF", 2, "UTF-16"}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (*size < marks[i].size || memcmp(*text, marks[i].bytes, marks[i].size)) continue;
        if (marks[i].encoding)
            return sp_fail(SP_FORMAT, "%s: is %s by its byte order mark, and UTF-8 is expected",
                           name, marks[i].encoding);
        *text += marks[i].size;
        *size -= marks[i].size;
        break;
    }
    return SP_OK;
}

/* Moves what stands behind the mark to the front, NUL included; releases the text on failure. */
static sp_status drop_mark(const char *name, char **text, size_t *size)
{
    const char *begin = *text;
    size_t length = *size;
    sp_status status = sp_skip_byte_order_mark(name, &begin, &length);
    if (status) {
        sp_free(*text);
        *text = NULL;
        return status;
    }
    memmove(*text, begin, length + 1);
    *size = length;
    return SP_OK;
}

sp_status sp_read_text(const char *path, char **out, size_t *size)
{
    size_t length;
    SP_TRY(sp_read_file(path, out, &length));
    SP_TRY(drop_mark(path, out, &length));
    if (size) *size = length;
    return SP_OK;
}

sp_status sp_read_text_stream(int descriptor, const char *name, char **out, size_t *size)
{
    sp_string text = {0};
    char piece[4096];
    ssize_t got = 1;
    *out = NULL;
    while (got > 0 && !text.failed) {
        do
            got = read(descriptor, piece, sizeof piece);
        while (got < 0 && errno == EINTR);
        if (got >= 0) sp_string_append(&text, piece, (size_t)got);
    }
    sp_status status = text.failed ? SP_MEMORY
                       : got < 0   ? sp_fail(SP_IO, "%s: cannot read: %s", name, strerror(errno))
                                   : SP_OK;
    if (status) {
        sp_string_free(&text);
        return status;
    }
    *out = text.data;
    *size = text.length;
    return drop_mark(name, out, size);
}

sp_status sp_check_utf8(const char *name, const char *text, size_t size)
{
    const char *line = text, *end = text + size;
    long long number = 1;
    for (const char *at = text; at < end;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)at, end - at, &point);
        if (used <= 0 || point == 0)
            return sp_fail(SP_FORMAT, "%s: line %lld, byte %lld: 0x%02X is not UTF-8 text", name,
                           number, (long long)(at - line) + 1, (unsigned char)*at);
        at += used;
        if (point != '\n') continue;
        line = at;
        number++;
    }
    return SP_OK;
}
