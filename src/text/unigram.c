/* The unigram tokenizer at work. */
#include "text/unigram.h"

#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "text/unicode.h"
#include "text/unigram_parts.h"

void sp_unigram_destroy(sp_unigram *t)
{
    if (!t) return;
    sp_token_table_free(&t->pieces);
    sp_free(t->scores);
    sp_added_tokens_free(&t->added);
    sp_charsmap_free(&t->charsmap);
    sp_free(t);
}

size_t sp_unigram_size(const sp_unigram *t)
{
    return t->size;
}

/* What is made of a text so far; ids beyond `room` are counted alone. */
typedef struct {
    const sp_unigram *tokenizer;
    int32_t *ids;
    size_t room, count;
} encoder;

static void put(encoder *e, int32_t id)
{
    if (e->count < e->room) e->ids[e->count] = id;
    e->count++;
}

/* ---- the best cut of a piece of text ---- */

/* The best way to the place behind so many bytes: its score, where its last token begins, and that token. */
typedef struct {
    double score;
    size_t begin;
    int32_t id; /* -1: there is no way yet */
} place;

static void offer(place *to, double score, size_t begin, int32_t id)
{
    if (to->id < 0 || score > to->score) *to = (place){score, begin, id};
}

static size_t character_length(const char *bytes)
{
    uint8_t first = (uint8_t)*bytes;
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* All tokens that begin here; the unknown one for a character that is none. */
static void offer_tokens(const sp_unigram *t, const char *text, size_t length, size_t begin, place *places)
{
    size_t first = character_length(text + begin);
    bool alone = false;
    for (size_t end = begin + first; end <= length && end - begin <= t->longest; end += character_length(text + end)) {
        int32_t id = sp_token_table_find(&t->pieces, text + begin, end - begin, NULL, 0);
        if (id >= 0) offer(&places[end], places[begin].score + t->scores[id], begin, id);
        alone = alone || (id >= 0 && end == begin + first);
        if (end == length) break;
    }
    if (!alone) offer(&places[begin + first], places[begin].score + t->unknown_score, begin, t->unknown);
}

/* The tokens of the best way, whose places are turned round: `begin` of a place becomes where the next one ends. */
static void put_best(encoder *e, place *places, size_t length)
{
    size_t next = length;
    for (size_t at = length; at > 0;) {
        size_t begin = places[at].begin;
        places[at].begin = next;
        next = at;
        at = begin;
    }
    bool before = false; /* an unknown one */
    for (size_t at = next; length; at = places[at].begin) {
        bool unknown = places[at].id == e->tokenizer->unknown;
        if (!unknown || !before) put(e, places[at].id);
        before = unknown;
        if (at == length) break;
    }
}

static sp_status put_piece(encoder *e, const char *text, size_t length)
{
    place *places = sp_alloc((length + 1) * sizeof *places);
    if (!places) return SP_MEMORY;
    for (size_t i = 0; i <= length; i++)
        places[i] = (place){.id = -1};
    for (size_t i = 0; i < length; i += character_length(text + i))
        offer_tokens(e->tokenizer, text, length, i, places);
    put_best(e, places, length);
    sp_free(places);
    return SP_OK;
}

/* ---- words ---- */

static bool begins_word(const char *bytes, size_t length)
{
    return length >= SP_WORD_BEGIN_BYTES && memcmp(bytes, SP_WORD_BEGIN, SP_WORD_BEGIN_BYTES) == 0;
}

/* `text` has room for a beginning before it, and another one begins wherever it has one. */
static sp_status put_word(encoder *e, char *text, size_t length)
{
    if (!length) return SP_OK;
    if (!begins_word(text, length)) {
        text -= SP_WORD_BEGIN_BYTES;
        length += SP_WORD_BEGIN_BYTES;
        memcpy(text, SP_WORD_BEGIN, SP_WORD_BEGIN_BYTES);
    }
    size_t begin = 0;
    for (size_t i = SP_WORD_BEGIN_BYTES; i < length; i++) {
        if (!begins_word(text + i, length - i)) continue;
        SP_TRY(put_piece(e, text + begin, i - begin));
        begin = i;
    }
    return put_piece(e, text + begin, length - begin);
}

static bool is_space_at(const char *text, size_t length)
{
    int32_t point;
    return sp_utf8_decode(text, length, &point) == 1 && sp_classify(point) == SP_CHARACTER_SPACE;
}

/* Words between white space. A beginning takes the place of what was before the word, `text` having room before it. */
static sp_status put_words(encoder *e, char *text, size_t length)
{
    char *word = sp_alloc(length + SP_WORD_BEGIN_BYTES + 1);
    sp_status status = word ? SP_OK : SP_MEMORY;
    size_t begin = 0;
    for (size_t i = 0; i <= length && !status;) {
        size_t own = i < length ? character_length(text + i) : 1;
        if (i < length && !is_space_at(text + i, own)) {
            i += own;
            continue;
        }
        memcpy(word + SP_WORD_BEGIN_BYTES, text + begin, i - begin);
        status = put_word(e, word + SP_WORD_BEGIN_BYTES, i - begin);
        begin = i += own;
    }
    sp_free(word);
    return status;
}

/* All as one word, in which blanks, a run of which is one, begin new ones; white space at its end is cut off. */
static sp_status put_with_blanks(encoder *e, const char *text, size_t length)
{
    char *word = sp_alloc((length + 1) * SP_WORD_BEGIN_BYTES + 1), *to = word ? word + SP_WORD_BEGIN_BYTES : NULL;
    if (!word) return SP_MEMORY;
    size_t used = 0, kept = 0;
    for (size_t i = 0; i < length;) {
        size_t own = character_length(text + i);
        if (text[i] == ' ') {
            while (own < length - i && text[i + own] == ' ')
                own++;
            memcpy(to + used, SP_WORD_BEGIN, SP_WORD_BEGIN_BYTES);
            used += SP_WORD_BEGIN_BYTES;
        } else {
            memcpy(to + used, text + i, own);
            used += own;
            if (!is_space_at(text + i, own)) kept = used;
        }
        i += own;
    }
    sp_status status = put_word(e, to, kept);
    sp_free(word);
    return status;
}

/* ---- texts ---- */

/* Normalised text, which a table of replacements may have put any bytes into. */
static sp_status put_normal(encoder *e, const char *normal, size_t length)
{
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    char *bytes = sp_alloc(4 * length + 1);
    sp_status status = points && bytes ? SP_OK : SP_MEMORY;
    if (!status) length = sp_utf8_encode(points, sp_utf8_decode(normal, length, points), bytes);
    if (!status) status = e->tokenizer->blanks_alone ? put_with_blanks(e, bytes, length) : put_words(e, bytes, length);
    sp_free(points);
    sp_free(bytes);
    return status;
}

/* What lies between added tokens. */
static sp_status put_between(encoder *e, const int32_t *points, size_t count)
{
    const sp_charsmap *map = &e->tokenizer->charsmap;
    char *normal = NULL, *bytes = sp_alloc(4 * count + 1);
    size_t length = 0;
    sp_status status = bytes ? SP_OK : SP_MEMORY;
    if (!status) status = sp_charsmap_apply(map, bytes, sp_utf8_encode(points, count, bytes), &normal, &length);
    if (!status) status = put_normal(e, normal, length);
    sp_free(normal);
    sp_free(bytes);
    return status;
}

static sp_status put_text(encoder *e, const int32_t *points, size_t count)
{
    const sp_added_tokens *added = &e->tokenizer->added;
    size_t begin = 0, i = 0;
    while (i < count) {
        size_t length = 0;
        int64_t item = sp_token_trie_longest(&added->patterns[0], points + i, count - i, &length);
        if (item < 0) {
            i++;
            continue;
        }
        if (i > begin) SP_TRY(put_between(e, points + begin, i - begin));
        put(e, added->items[item].id);
        begin = i += length;
    }
    return count > begin ? put_between(e, points + begin, count - begin) : SP_OK;
}

sp_status sp_unigram_encode(const sp_unigram *t, const char *text, size_t length, int32_t *ids, size_t *used,
                            size_t *all)
{
    size_t bytes = strlen(text);
    if (bytes > SIZE_MAX / 64) return sp_fail(SP_MEMORY, "a text of %zu bytes is too long", bytes);
    int32_t *points = sp_alloc((bytes + 1) * sizeof *points);
    if (!points) return SP_MEMORY;
    encoder e = {.tokenizer = t, .ids = ids, .room = length - 1};
    sp_status status = put_text(&e, points, sp_utf8_decode(text, bytes, points));
    sp_free(points);
    SP_TRY(status);
    size_t kept = e.count < e.room ? e.count : e.room;
    ids[kept] = t->end;
    for (size_t i = kept + 1; i < length; i++)
        ids[i] = t->padding;
    if (used) *used = kept + 1;
    if (all) *all = e.count + 1;
    return SP_OK;
}
