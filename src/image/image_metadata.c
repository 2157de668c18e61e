/* EXIF and XMP, written. */
#include "image/image_metadata.h"

#include <stdint.h>
#include <string.h>
#include "base/memory.h"
#include "text/unicode.h"

/* ---- EXIF ---- */

enum { TAG_EXIF_DIRECTORY = 0x8769, TAG_EXIF_VERSION = 0x9000, TAG_USER_COMMENT = 0x9286 };
enum { TYPE_LONG = 4, TYPE_UNDEFINED = 7 };

static void append_u16(sp_string *out, unsigned value)
{
    const char bytes[] = {(char)(value >> 8), (char)value};
    sp_string_append(out, bytes, sizeof bytes);
}

static void append_u32(sp_string *out, uint32_t value)
{
    append_u16(out, value >> 16);
    append_u16(out, value & 0xFFFF);
}

/* value: the value itself where it has four bytes, else where it is. */
static void append_entry(sp_string *out, unsigned tag, unsigned type, size_t count, uint32_t value)
{
    append_u16(out, tag);
    append_u16(out, type);
    append_u32(out, (uint32_t)count);
    append_u32(out, value);
}

static void append_utf16(sp_string *out, const char *text)
{
    size_t length = strlen(text);
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    out->failed |= !points;
    size_t count = points ? sp_utf8_decode(text, length, points) : 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t point = (uint32_t)points[i];
        if (point < 0x10000) {
            append_u16(out, point);
        } else {
            append_u16(out, 0xD800 + ((point - 0x10000) >> 10));
            append_u16(out, 0xDC00 + ((point - 0x10000) & 0x3FF));
        }
    }
    sp_free(points);
}

void sp_exif_append(sp_string *out, const char *comment)
{
    enum {
        HEAD = 8,
        ENTRY = 12,
        DIRECTORY = 2 + ENTRY + 4,
        COMMENT = HEAD + DIRECTORY + 2 + 2 * ENTRY + 4
    };
    sp_string value = {0};
    sp_string_append(&value, "UNICODE", 8);
    append_utf16(&value, comment);
    sp_string_append(out, "MM\0*", 4);
    append_u32(out, HEAD);
    append_u16(out, 1); /* entries of the first directory */
    append_entry(out, TAG_EXIF_DIRECTORY, TYPE_LONG, 1, HEAD + DIRECTORY);
    append_u32(out, 0); /* no directory follows */
    append_u16(out, 2);
    append_entry(out, TAG_EXIF_VERSION, TYPE_UNDEFINED, 4, 0x30323332); /* "0232" */
    append_entry(out, TAG_USER_COMMENT, TYPE_UNDEFINED, value.length, COMMENT);
    append_u32(out, 0);
    sp_string_append(out, value.data, value.length);
    out->failed |= value.failed;
    sp_string_free(&value);
}

/* ---- XMP ---- */

/* XML has no place for U+FFFE and U+FFFF, JSON has another way to write them. */
static void append_escaped(sp_string *out, const char *json)
{
    for (const char *p = json; *p; p++) {
        size_t plain = strcspn(p, "&<>\xEF");
        sp_string_append(out, p, plain);
        p += plain;
        if (!*p) return;
        if (strncmp(p, "\xEF\xBF\xBE", 3) == 0 || strncmp(p, "\xEF\xBF\xBF", 3) == 0) {
            sp_string_append_format(out, "\\uff%02x", (unsigned char)p[2] + 0x40);
            p += 2;
        } else if (*p == '\xEF') {
            sp_string_append(out, p, 1);
        } else {
            const char *entity = *p == '&' ? "&amp;" : *p == '<' ? "&lt;" : "&gt;";
            sp_string_append(out, entity, strlen(entity));
        }
    }
}

void sp_xmp_append(sp_string *out, const char *json)
{
    static const char head[] =
        "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
        "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
        "<rdf:Description rdf:about=\"\" xmlns:splam=\"urn:splam:1.0:\"><splam:json>";
    static const char tail[] = "</splam:json></rdf:Description></rdf:RDF></x:xmpmeta>\n"
                               "<?xpacket end=\"r\"?>";
    sp_string_append(out, head, sizeof head - 1);
    append_escaped(out, json);
    sp_string_append(out, tail, sizeof tail - 1);
}
