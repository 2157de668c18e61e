/* UTF-8, normalisation and classes of characters. */
#include "text/unicode.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>
#include "base/memory.h"

#define REPLACEMENT 0xFFFD
#define CAPITAL_I_WITH_DOT 0x130

/* Letters and digits younger than Unicode 15, which utf8proc 2.8 calls unassigned. Asked only for
 * characters that the library does not know, so a newer library makes the table idle, not wrong. */
static const struct {
    int32_t first, last;
    sp_character class;
} younger[] = {
    {0x1C89, 0x1C8A, SP_CHARACTER_LETTER},   {0xA7CB, 0xA7CD, SP_CHARACTER_LETTER},
    {0xA7DA, 0xA7DC, SP_CHARACTER_LETTER},   {0x105C0, 0x105F3, SP_CHARACTER_LETTER},
    {0x10D40, 0x10D49, SP_CHARACTER_NUMBER}, {0x10D4A, 0x10D65, SP_CHARACTER_LETTER},
    {0x10D6F, 0x10D85, SP_CHARACTER_LETTER}, {0x10EC2, 0x10EC4, SP_CHARACTER_LETTER},
    {0x11380, 0x11389, SP_CHARACTER_LETTER}, {0x1138B, 0x1138B, SP_CHARACTER_LETTER},
    {0x1138E, 0x1138E, SP_CHARACTER_LETTER}, {0x11390, 0x113B5, SP_CHARACTER_LETTER},
    {0x113B7, 0x113B7, SP_CHARACTER_LETTER}, {0x113D1, 0x113D1, SP_CHARACTER_LETTER},
    {0x113D3, 0x113D3, SP_CHARACTER_LETTER}, {0x116D0, 0x116E3, SP_CHARACTER_NUMBER},
    {0x11BC0, 0x11BE0, SP_CHARACTER_LETTER}, {0x11BF0, 0x11BF9, SP_CHARACTER_NUMBER},
    {0x13460, 0x143FA, SP_CHARACTER_LETTER}, {0x16100, 0x1611D, SP_CHARACTER_LETTER},
    {0x16130, 0x16139, SP_CHARACTER_NUMBER}, {0x16D40, 0x16D6C, SP_CHARACTER_LETTER},
    {0x16D70, 0x16D79, SP_CHARACTER_NUMBER}, {0x18CFF, 0x18CFF, SP_CHARACTER_LETTER},
    {0x1CCF0, 0x1CCF9, SP_CHARACTER_NUMBER}, {0x1E5D0, 0x1E5ED, SP_CHARACTER_LETTER},
    {0x1E5F0, 0x1E5F0, SP_CHARACTER_LETTER}, {0x1E5F1, 0x1E5FA, SP_CHARACTER_NUMBER},
    {0x2EBF0, 0x2EE5D, SP_CHARACTER_LETTER},
};

/* Capitals younger than Unicode 15: first..last in steps of `stride` become first..last + offset. */
static const struct {
    int32_t first, last, stride, offset;
} younger_capitals[] = {
    {0x1C89, 0x1C89, 1, 1},      {0xA7CB, 0xA7CB, 1, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CE, 2, 1},      {0xA7D2, 0xA7D4, 2, 1},
    {0xA7DA, 0xA7DA, 1, 1},      {0xA7DC, 0xA7DC, 1, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 1, 0x20}, {0x16EA0, 0x16EB8, 1, 0x1B},
};

sp_character sp_classify(int32_t point)
{
    utf8proc_category_t category = utf8proc_category(point);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
        return SP_CHARACTER_LETTER;
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)
        return SP_CHARACTER_NUMBER;
    if (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP)
        return SP_CHARACTER_SPACE;
    if ((point >= '\t' && point <= '\r') || point == 0x85) return SP_CHARACTER_SPACE;
    if (category != UTF8PROC_CATEGORY_CN) return SP_CHARACTER_OTHER;
    for (size_t i = 0; i < sizeof younger / sizeof younger[0]; i++) {
        if (point >= younger[i].first && point <= younger[i].last) return younger[i].class;
    }
    return SP_CHARACTER_OTHER;
}

static int32_t lower(int32_t point)
{
    if (utf8proc_category(point) != UTF8PROC_CATEGORY_CN) return utf8proc_tolower(point);
    for (size_t i = 0; i < sizeof younger_capitals / sizeof younger_capitals[0]; i++) {
        if (point >= younger_capitals[i].first && point <= younger_capitals[i].last)
            return (point - younger_capitals[i].first) % younger_capitals[i].stride == 0
                       ? point + younger_capitals[i].offset
                       : point;
    }
    return point;
}

/* Decodes one character or one maximal ill-formed part; returns the bytes taken (at least 1). */
static size_t decode_one(const unsigned char *bytes, size_t length, int32_t *point)
{
    unsigned char lead = bytes[0];
    *point = REPLACEMENT;
    if (lead < 0x80) {
        *point = lead;
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) return 1;
    size_t follow = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    /* The second byte's range shuts out overlong forms, surrogates and what lies beyond U+10FFFF. */
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    int32_t value = lead & (0x3F >> follow);
    for (size_t i = 1; i <= follow; i++) {
        if (i >= length || bytes[i] < low || bytes[i] > high) return i;
        value = value << 6 | (bytes[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *point = value;
    return follow + 1;
}

size_t sp_utf8_decode(const char *bytes, size_t length, int32_t *points)
{
    size_t count = 0;
    for (size_t i = 0; i < length; count++)
        i += decode_one((const unsigned char *)bytes + i, length - i, &points[count]);
    return count;
}

size_t sp_utf8_encode(const int32_t *points, size_t count, char *bytes)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += (size_t)utf8proc_encode_char(points[i], (utf8proc_uint8_t *)bytes + length);
    return length;
}

/* Characters that neither move nor compose. Hugging Face's NFC is that of Unicode 9, so marks that
 * are younger (and U+11930, U+11938, the one younger pair) stay where they are; and U+11A7 is no
 * Hangul consonant, though utf8proc 2.8 composes it, and loses it. */
static const struct {
    int32_t first, last;
} inert[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x11A7, 0x11A7},
    {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

static bool is_inert(int32_t point)
{
    if (point < inert[0].first) return false;
    size_t low = 0, high = sizeof inert / sizeof inert[0];
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (point >= inert[middle].first)
            low = middle;
        else
            high = middle;
    }
    return point <= inert[low].last;
}

/* Canonical decomposition of one character into out[0..room-1]; returns its length whatever the
 * room. */
static size_t decompose(int32_t point, int32_t *out, size_t room)
{
    int boundary = 0;
    if (is_inert(point)) {
        if (room > 0) out[0] = point;
        return 1;
    }
    utf8proc_ssize_t length = utf8proc_decompose_char(
        point, out, (utf8proc_ssize_t)room, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    return length > 0 ? (size_t)length : 0;
}

static unsigned combining_class(int32_t point)
{
    return is_inert(point) ? 0 : (unsigned)utf8proc_get_property(point)->combining_class & 0xFF;
}

/* Sorts a run of marks by combining class, stably. A counting sort: hostile text may hold a very
 * long run. */
static void order_marks(int32_t *marks, size_t count, int32_t *scratch)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[combining_class(marks[i]) + 1]++;
    for (size_t class = 1; class <= 256; class ++)
        start[class] += start[class - 1];
    for (size_t i = 0; i < count; i++)
        scratch[start[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, count * sizeof *marks);
}

static void order_canonically(int32_t *points, size_t count, int32_t *scratch)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        unsigned previous = 0, class = 0;
        bool ordered = true;
        for (; end < count && (class = combining_class(points[end])) != 0; end++) {
            ordered = ordered && class >= previous;
            previous = class;
        }
        if (!ordered) order_marks(points + i, end - i, scratch);
        i = end + 1;
    }
}

/* Composes the parts between inert characters, in place; returns the new length. */
static size_t compose(int32_t *points, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && !is_inert(points[end]))
            end++;
        utf8proc_ssize_t composed = utf8proc_normalize_utf32(
            points + i, (utf8proc_ssize_t)(end - i), UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        size_t kept = composed > 0 ? (size_t)composed : 0;
        memmove(points + length, points + i, kept * sizeof *points);
        length += kept;
        if (end < count) points[length++] = points[end];
        i = end + 1;
    }
    return length;
}

/* White space to single blanks and lower case, from points into out (room for 2 * count). */
static size_t fold(const int32_t *points, size_t count, int32_t *out)
{
    size_t length = 0;
    bool in_space = false;
    for (size_t i = 0; i < count; i++) {
        bool space = sp_classify(points[i]) == SP_CHARACTER_SPACE;
        if (space) {
            if (!in_space) out[length++] = ' ';
        } else if (points[i] == CAPITAL_I_WITH_DOT) {
            out[length++] = 'i';
            out[length++] = 0x307;
        } else {
            out[length++] = lower(points[i]);
        }
        in_space = space;
    }
    return length;
}

sp_status sp_normalize_points(const int32_t *points, size_t count, int32_t **out, size_t *out_count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += decompose(points[i], NULL, 0);
    if (total > SIZE_MAX / (2 * sizeof(int32_t)))
        return sp_fail(SP_MEMORY, "a text of %zu characters is too long", count);
    int32_t *decomposed = sp_alloc(total * sizeof *decomposed);
    int32_t *folded = sp_alloc(2 * total * sizeof *folded);
    if (decomposed == NULL || folded == NULL) {
        sp_free(decomposed);
        sp_free(folded);
        return SP_MEMORY;
    }
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += decompose(points[i], decomposed + length, total - length);
    order_canonically(decomposed, length, folded);
    length = compose(decomposed, length);
    *out_count = fold(decomposed, length, folded);
    *out = folded;
    sp_free(decomposed);
    return SP_OK;
}
