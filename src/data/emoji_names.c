/* What emoji are called: Unicode's names and keywords. */
#include "data/emoji_names.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "base/file.h"
#include "base/text.h"

#define MAX_KEYWORDS 32

sp_status sp_emoji_require(const char *path, const char *package)
{
    if (sp_path_exists(path)) return SP_OK;
    return sp_fail(SP_IO, "%s is absent: emoji: needs the Debian package %s", path, package);
}

/* Lower-cased copy in the arena. SP_FORMAT when the text is not UTF-8. */
static sp_status lower(sp_arena *arena, const char *text, size_t size, const char **out)
{
    char *copy = sp_arena_alloc(arena, size * 2 + 1); /* a lower-case letter may be a byte longer */
    if (!copy) return SP_MEMORY;
    *out = copy;
    while (size > 0) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &c);
        if (used <= 0) return sp_fail(SP_FORMAT, "a name or keyword is not UTF-8");
        copy += utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)copy);
        text += used;
        size -= (size_t)used;
    }
    return SP_OK;
}

/* ---- emoji-test.txt: "1F469 200D 1F4BC ; fully-qualified # (the emoji) E4.0 woman office worker"
 * ---- */

static const char *skip_word(const char *at, const char *end)
{
    while (at < end && *at != ' ')
        at++;
    while (at < end && *at == ' ')
        at++;
    return at;
}

static bool parse_codepoints(const char *at, const char *end, sp_emoji *emoji)
{
    while (at < end) {
        char *after;
        unsigned long value = strtoul(at, &after, 16);
        if (after == at || after > end) break;
        if (value == 0 || value > 0x10FFFF || emoji->codepoint_count == SP_EMOJI_MAX_CODEPOINTS)
            return false;
        emoji->codepoints[emoji->codepoint_count++] = (uint32_t)value;
        at = after;
        while (at < end && *at == ' ')
            at++;
    }
    return at == end && emoji->codepoint_count > 0;
}

static const char *codepoint_id(sp_arena *arena, const sp_emoji *emoji)
{
    const char *id = "";
    for (int i = 0; id && i < emoji->codepoint_count; i++)
        id = sp_arena_format(arena, "%s%s%04x", id, i ? " " : "", emoji->codepoints[i]);
    return id;
}

/* "# subgroup: animal-bird" -> "animal bird"; NULL of other lines. */
static sp_status parse_kind(const char *line, const char *end, sp_arena *arena, const char **kind)
{
    static const char mark[] = "# subgroup: ";
    size_t size = sizeof mark - 1;
    if ((size_t)(end - line) <= size || memcmp(line, mark, size)) return SP_OK;
    SP_TRY(lower(arena, line + size, (size_t)(end - line) - size, kind));
    for (char *hyphen = (char *)*kind; (hyphen = strchr(hyphen, '-')); hyphen++)
        *hyphen = ' ';
    return SP_OK;
}

/* *matched: the line names a fully-qualified emoji, now in *emoji. */
static sp_status parse_line(const char *line, const char *end, sp_arena *arena, sp_emoji *emoji,
                            bool *matched)
{
    *matched = false;
    *emoji = (sp_emoji){0};
    const char *semicolon = memchr(line, ';', (size_t)(end - line));
    if (*line == '#' || !semicolon) return SP_OK;
    static const char status[] = "fully-qualified ";
    const char *at = semicolon + 1;
    while (at < end && *at == ' ')
        at++;
    if ((size_t)(end - at) < sizeof status || memcmp(at, status, sizeof status - 1)) return SP_OK;
    const char *hash = memchr(at, '#', (size_t)(end - at));
    const char *name = hash ? skip_word(skip_word(skip_word(hash, end), end), end) : end;
    if (name == end || !parse_codepoints(line, semicolon, emoji))
        return sp_fail(SP_FORMAT, "the line \"%.*s\" names no emoji", (int)(end - line), line);
    SP_TRY(lower(arena, name, (size_t)(end - name), &emoji->name));
    emoji->id = codepoint_id(arena, emoji);
    if (!emoji->id) return SP_MEMORY;
    *matched = true;
    return SP_OK;
}

static sp_status parse_names(const char *text, sp_arena *arena, sp_emoji **out, int64_t *count)
{
    int64_t lines = 1;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    sp_emoji *list = sp_alloc((size_t)lines * sizeof *list);
    if (!list) return SP_MEMORY;
    const char *kind = NULL; /* of the lines that follow */
    *out = list;
    *count = 0;
    for (const char *line = text; *line;) {
        const char *end = strchrnul(line, '\n'), *next = *end ? end + 1 : end;
        while (end > line && isspace((unsigned char)end[-1]))
            end--;
        bool matched = false;
        SP_TRY(parse_kind(line, end, arena, &kind));
        if (end > line) SP_TRY(parse_line(line, end, arena, &list[*count], &matched));
        if (matched) list[*count].kind = kind;
        *count += matched;
        line = next;
    }
    return SP_OK;
}

/* ---- CLDR: <annotation cp="X">keyword | keyword</annotation>; those with type="tts" are names
 * ---- */

static char *unescape(sp_arena *arena, const char *text, size_t size)
{
    static const char *const entities[][2] = {
        {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
    char *out = sp_arena_alloc(arena, size + 1);
    for (size_t i = 0, length = 0; out && i < size;) {
        size_t step = 1;
        char c = text[i];
        for (size_t e = 0; c == '&' && e < sizeof entities / sizeof *entities; e++) {
            size_t width = strlen(entities[e][0]);
            if (size - i >= width && !memcmp(text + i, entities[e][0], width)) {
                c = entities[e][1][0];
                step = width;
                break;
            }
        }
        out[length++] = c;
        i += step;
    }
    return out;
}

static sp_status read_keywords(const char *path, sp_arena *arena, sp_dictionary *keywords)
{
    static const char open[] = "<annotation cp=\"", close[] = "</annotation>";
    SP_TRY(sp_emoji_require(path, "unicode-cldr-core"));
    char *text;
    SP_TRY(sp_read_file(path, &text, NULL));
    sp_status status = SP_OK;
    for (const char *at = text; status == SP_OK && (at = strstr(at, open));) {
        at += sizeof open - 1;
        const char *quote = strchr(at, '"'), *end = quote ? strstr(quote, close) : NULL;
        if (!end) break;
        if (quote[1] == '>') {
            char *key = unescape(arena, at, (size_t)(quote - at));
            char *value = unescape(arena, quote + 2, (size_t)(end - quote - 2));
            status = key && value ? sp_dictionary_put(keywords, key, value) : SP_MEMORY;
        }
        at = end;
    }
    sp_free(text);
    return status;
}

/* CLDR's keys have no variation selectors. */
static const char *keywords_of(const sp_emoji *emoji, const sp_dictionary *keywords)
{
    char key[SP_EMOJI_MAX_CODEPOINTS * 4 + 1];
    size_t length = 0;
    for (int i = 0; i < emoji->codepoint_count; i++)
        if (emoji->codepoints[i] != 0xFE0F)
            length += (size_t)utf8proc_encode_char((utf8proc_int32_t)emoji->codepoints[i],
                                                   (utf8proc_uint8_t *)key + length);
    key[length] = 0;
    return sp_dictionary_get(keywords, key);
}

static bool is_word_character(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* True when `phrase` stands in `text` as whole words. */
static bool contains_words(const char *text, const char *phrase)
{
    size_t size = strlen(phrase);
    for (const char *at = text; (at = strstr(at, phrase)); at++)
        if ((at == text || !is_word_character(at[-1])) && !is_word_character(at[size])) return true;
    return false;
}

static bool has_letter_or_digit(const char *text)
{
    for (; *text; text++)
        if (isalnum((unsigned char)*text)) return true;
    return false;
}

/* Splits "a | b" into lower-cased keywords that the name does not say already. */
static sp_status split_keywords(const char *list, const char *name, sp_arena *arena,
                                const char *out[MAX_KEYWORDS], int *count)
{
    *count = 0;
    while (list && *list && *count < MAX_KEYWORDS) {
        const char *end = strchrnul(list, '|'), *next = *end ? end + 1 : end;
        while (list < end && *list == ' ')
            list++;
        while (end > list && end[-1] == ' ')
            end--;
        const char *keyword;
        SP_TRY(lower(arena, list, (size_t)(end - list), &keyword));
        bool fresh = has_letter_or_digit(keyword) && !contains_words(name, keyword);
        for (int k = 0; fresh && k < *count; k++) /* "scorpio | Scorpio" */
            fresh = strcmp(out[k], keyword) != 0;
        if (fresh) out[(*count)++] = keyword;
        list = next;
    }
    return SP_OK;
}

/* ---- captions ---- */

typedef struct {
    const char *words[MAX_KEYWORDS];
    int count;
} keyword_list;

/* How many emoji have each keyword; a name counts as two, so that it is never a keyword alone. */
static sp_status count_uses(const sp_emoji *list, const keyword_list *keywords, int64_t count,
                            sp_dictionary *uses)
{
    for (int64_t i = 0; i < count; i++) {
        SP_TRY(sp_dictionary_put(uses, list[i].name, (void *)(uintptr_t)2));
        for (int k = 0; k < keywords[i].count; k++) {
            uintptr_t used = (uintptr_t)sp_dictionary_get(uses, keywords[i].words[k]);
            SP_TRY(sp_dictionary_put(uses, keywords[i].words[k], (void *)(used + 1)));
        }
    }
    return SP_OK;
}

static sp_status make_captions(sp_emoji *emoji, const keyword_list *keywords, const sp_dictionary *uses,
                               sp_arena *arena)
{
    int n = keywords->count;
    const char *const *k = keywords->words;
    emoji->captions = sp_arena_alloc(arena, (size_t)(2 * n + 2) * sizeof(char *));
    if (!emoji->captions) return SP_MEMORY;
    emoji->captions[emoji->caption_count++] = emoji->name;
    for (int i = 0; i < n; i++)
        emoji->captions[emoji->caption_count++] =
            sp_arena_format(arena, "%s, %s", emoji->name, k[i]);
    if (n >= 3)
        emoji->captions[emoji->caption_count++] =
            sp_arena_format(arena, "%s, %s, %s, %s", emoji->name, k[0], k[1], k[2]);
    for (int i = 0; i < n; i++)
        if ((uintptr_t)sp_dictionary_get(uses, k[i]) == 1) emoji->captions[emoji->caption_count++] = k[i];
    for (int i = 0; i < emoji->caption_count; i++)
        if (!emoji->captions[i]) return SP_MEMORY;
    return SP_OK;
}

static sp_status name_kinds(sp_emoji *list, int64_t count, sp_arena *arena)
{
    for (int64_t i = 0; i < count; i++) {
        if (!list[i].kind) return sp_fail(SP_FORMAT, "no \"# subgroup: \" stands above %s", list[i].name);
        list[i].captions = sp_arena_alloc(arena, 2 * sizeof(char *));
        if (!list[i].captions) return SP_MEMORY;
        list[i].captions[list[i].caption_count++] = list[i].kind;
        list[i].captions[list[i].caption_count++] = list[i].name;
    }
    return SP_OK;
}

static sp_status add_captions(sp_emoji *list, int64_t count, const sp_dictionary *annotations,
                              sp_arena *arena)
{
    sp_status status = SP_OK;
    sp_dictionary *uses = sp_dictionary_create();
    keyword_list *keywords = sp_alloc_zero((size_t)(count + 1) * sizeof *keywords);
    if (!uses || !keywords) status = SP_MEMORY;
    for (int64_t i = 0; i < count && status == SP_OK; i++)
        status = split_keywords(keywords_of(&list[i], annotations), list[i].name, arena,
                                keywords[i].words, &keywords[i].count);
    if (status == SP_OK) status = count_uses(list, keywords, count, uses);
    for (int64_t i = 0; i < count && status == SP_OK; i++)
        status = make_captions(&list[i], &keywords[i], uses, arena);
    sp_free(keywords);
    sp_dictionary_destroy(uses);
    return status;
}

static sp_status add_keywords(const sp_emoji_files *files, sp_emoji *list, int64_t count, sp_arena *arena)
{
    sp_dictionary *annotations = sp_dictionary_create();
    sp_status status = annotations ? SP_OK : SP_MEMORY;
    if (status == SP_OK) status = read_keywords(files->keywords, arena, annotations);
    if (status == SP_OK) status = read_keywords(files->derived_keywords, arena, annotations);
    if (status == SP_OK) status = add_captions(list, count, annotations, arena);
    sp_dictionary_destroy(annotations);
    return status;
}

sp_status sp_emoji_names(const sp_emoji_files *files, sp_arena *arena, sp_emoji **out,
                         int64_t *count)
{
    *out = NULL;
    *count = 0;
    SP_TRY(sp_emoji_require(files->names, "unicode-data"));
    char *text;
    SP_TRY(sp_read_file(files->names, &text, NULL));
    sp_status status = parse_names(text, arena, out, count);
    if (status == SP_OK && files->kinds) status = name_kinds(*out, *count, arena);
    if (status == SP_FORMAT) sp_fail_within(status, "%s", files->names);
    if (status == SP_OK && !files->kinds) status = add_keywords(files, *out, *count, arena);
    sp_free(text);
    if (status != SP_OK) {
        sp_free(*out);
        *out = NULL;
    }
    return status;
}
