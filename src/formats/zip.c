/* The directory of a zip archive. Layouts are those of PKWARE's APPNOTE.TXT, 4.3: numbers are little-endian. */
#include "formats/zip.h"

#include <string.h>

enum {
    END_SIZE = 22,     /* end of central directory */
    END64_SIZE = 56,   /* zip64's end of central directory */
    LOCATOR_SIZE = 20, /* says where that is */
    CENTRAL_SIZE = 46, /* an entry of the directory, without its variable parts */
    LOCAL_SIZE = 30,   /* the header before an entry's data, likewise */
    LONGEST_COMMENT = 65535
};

typedef struct {
    const unsigned char *data;
    size_t size;
    const char *where;
    uint64_t count, directory, directory_size;
} archive;

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t n = 0;
    for (int i = bytes - 1; i >= 0; i--)
        n = n << 8 | at[i];
    return n;
}

static bool begins(const unsigned char *at, const char signature[4])
{
    return memcmp(at, signature, 4) == 0;
}

/* [begin, begin+size) lies within the first `limit` bytes. */
static bool within(uint64_t begin, uint64_t size, uint64_t limit)
{
    return begin <= limit && size <= limit - begin;
}

/* ---- the end ---- */

/* The last end record, before which only a comment's length may be wrong. */
static const unsigned char *find_end(const archive *a)
{
    if (a->size < END_SIZE) return NULL;
    size_t first = a->size - END_SIZE;
    size_t last = first > LONGEST_COMMENT ? first - LONGEST_COMMENT : 0;
    for (size_t at = first + 1; at-- > last;)
        if (begins(a->data + at, "PK\5\6")) return a->data + at;
    return NULL;
}

static sp_status read_end(archive *a)
{
    const unsigned char *end = find_end(a);
    if (!end)
        return sp_fail(SP_FORMAT, "%s: the archive has no directory at its end (is it truncated?)",
                       a->where);
    size_t at = (size_t)(end - a->data);
    a->count = number(end + 10, 2);
    a->directory_size = number(end + 12, 4);
    a->directory = number(end + 16, 4);
    if (at >= LOCATOR_SIZE && begins(end - LOCATOR_SIZE, "PK\6\7")) {
        uint64_t place = number(end - LOCATOR_SIZE + 8, 8);
        if (!within(place, END64_SIZE, at) || !begins(a->data + place, "PK\6\6"))
            return sp_fail(SP_FORMAT, "%s: the archive's zip64 record is not where it should be",
                           a->where);
        const unsigned char *end64 = a->data + place;
        a->count = number(end64 + 32, 8);
        a->directory_size = number(end64 + 40, 8);
        a->directory = number(end64 + 48, 8);
    }
    if (!within(a->directory, a->directory_size, at) || a->count > a->directory_size / CENTRAL_SIZE)
        return sp_fail(SP_FORMAT,
                       "%s: the archive's directory of %llu entries should have %llu bytes from "
                       "byte %llu on, but must end before byte %zu",
                       a->where, (unsigned long long)a->count,
                       (unsigned long long)a->directory_size, (unsigned long long)a->directory, at);
    return SP_OK;
}

/* ---- entries ---- */

typedef struct {
    const char *name;
    uint64_t stored, size, place; /* bytes in the file, bytes when unpacked, the local header */
    unsigned flags, method;
} central;

/* Numbers that do not fit into 32 bits stand, in this order, in the extra field of type 1. */
static void read_extra(central *c, const unsigned char *extra, size_t length)
{
    uint64_t *wide[] = {&c->size, &c->stored, &c->place};
    while (length >= 4) {
        size_t type = number(extra, 2), size = number(extra + 2, 2);
        extra += 4;
        length -= 4;
        if (size > length) return;
        for (size_t i = 0, at = 0; i < 3 && type == 1; i++) {
            if (*wide[i] != UINT32_MAX || size - at < 8) continue;
            *wide[i] = number(extra + at, 8);
            at += 8;
        }
        extra += size;
        length -= size;
    }
}

/* Reads the directory's entry at *at and moves on. */
static sp_status read_central(const archive *a, sp_arena *arena, uint64_t *at, central *out)
{
    uint64_t end = a->directory + a->directory_size;
    const unsigned char *record = a->data + *at; /* at most `end` */
    if (!within(*at, CENTRAL_SIZE, end) || !begins(record, "PK\1\2"))
        return sp_fail(SP_FORMAT, "%s: byte %llu should begin an entry of the archive's directory",
                       a->where, (unsigned long long)*at);
    size_t name = number(record + 28, 2), extra = number(record + 30, 2),
           comment = number(record + 32, 2), length = CENTRAL_SIZE + name + extra + comment;
    if (!within(*at, length, end))
        return sp_fail(SP_FORMAT, "%s: the archive's directory ends within an entry", a->where);
    char *text = sp_arena_alloc(arena, name + 1);
    if (!text) return SP_MEMORY;
    memcpy(text, record + CENTRAL_SIZE, name);
    *out = (central){.name = text,
                     .flags = (unsigned)number(record + 8, 2),
                     .method = (unsigned)number(record + 10, 2),
                     .stored = number(record + 20, 4),
                     .size = number(record + 24, 4),
                     .place = number(record + 42, 4)};
    read_extra(out, record + CENTRAL_SIZE + name, extra);
    *at += length;
    return SP_OK;
}

/* The data lie behind a second header, whose variable parts are of their own length. */
static sp_status locate(const archive *a, const central *c, sp_zip_entry *out)
{
    enum { ENCRYPTED = 1 };
    if (!within(c->place, LOCAL_SIZE, a->directory) || !begins(a->data + c->place, "PK\3\4"))
        return sp_fail(SP_FORMAT, "%s: the archive's entry \"%.200s\" is not at byte %llu",
                       a->where, c->name, (unsigned long long)c->place);
    const unsigned char *local = a->data + c->place; /* a place from the file is no pointer before */
    uint64_t begin = c->place + LOCAL_SIZE + number(local + 26, 2) + number(local + 28, 2);
    if (!within(begin, c->stored, a->directory))
        return sp_fail(
            SP_FORMAT,
            "%s: the archive's entry \"%.200s\" should have %llu bytes from byte %llu on, "
            "but the directory begins at byte %llu",
            a->where, c->name, (unsigned long long)c->stored, (unsigned long long)begin,
            (unsigned long long)a->directory);
    bool plain = c->method == 0 && !(c->flags & ENCRYPTED);
    if (plain && c->stored != c->size)
        return sp_fail(
            SP_FORMAT,
            "%s: the archive's entry \"%.200s\" is stored in %llu bytes, but should have "
            "%llu",
            a->where, c->name, (unsigned long long)c->stored, (unsigned long long)c->size);
    *out = (sp_zip_entry){.data = plain ? a->data + begin : NULL, .size = (size_t)c->size};
    return SP_OK;
}

sp_status sp_zip_read(const unsigned char *data, size_t size, const char *where, sp_arena *arena,
                      sp_dictionary *entries)
{
    archive a = {.data = data, .size = size, .where = where};
    SP_TRY(read_end(&a));
    uint64_t at = a.directory;
    for (uint64_t i = 0; i < a.count; i++) {
        central c = {0};
        sp_zip_entry *entry = sp_arena_alloc(arena, sizeof *entry);
        if (!entry) return SP_MEMORY;
        SP_TRY(read_central(&a, arena, &at, &c));
        SP_TRY(locate(&a, &c, entry));
        if (sp_dictionary_get(entries, c.name))
            return sp_fail(SP_FORMAT, "%s: the archive has two entries \"%.200s\"", where, c.name);
        SP_TRY(sp_dictionary_put(entries, c.name, entry));
    }
    return SP_OK;
}
