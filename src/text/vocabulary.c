/* Vocabulary and merges of a byte-pair encoding. */
#include "text/vocabulary.h"

#include <stdbool.h>
#include <string.h>
#include "base/memory.h"

/* One part of a word; removed parts have length 0. Neighbours are indices, -1 at the ends. */
typedef struct sp_symbol {
    int32_t id;
    int32_t previous, next;
    bool removed;
} sp_symbol;

/* A possible merge of the symbol at `position` with its right neighbour. */
typedef struct sp_candidate {
    uint32_t rank;
    int32_t position;
    int32_t result;
} sp_candidate;

void sp_vocabulary_free(sp_vocabulary *vocabulary)
{
    sp_token_table_free(&vocabulary->tokens);
    sp_free(vocabulary->merges);
    sp_free(vocabulary->merge_slots);
    *vocabulary = (sp_vocabulary){0};
}

void sp_word_scratch_free(sp_word_scratch *scratch)
{
    sp_free(scratch->symbols);
    sp_free(scratch->heap);
    *scratch = (sp_word_scratch){0};
}

/* Bytes that print stand for themselves; the others get U+0100, U+0101, ... in their order. */
static bool prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

void sp_byte_symbol(unsigned char byte, char symbol[3])
{
    int point = byte;
    if (!prints(byte)) {
        point = 0x100;
        for (int b = 0; b < byte; b++)
            point += !prints(b);
    }
    if (point < 0x80) {
        symbol[0] = (char)point;
        symbol[1] = '\0';
    } else {
        symbol[0] = (char)(0xC0 | point >> 6);
        symbol[1] = (char)(0x80 | (point & 0x3F));
        symbol[2] = '\0';
    }
}

size_t sp_symbol_byte(const char *text, unsigned char *byte)
{
    const unsigned char *bytes = (const unsigned char *)text;
    bool two = (bytes[0] & 0xE0) == 0xC0 && (bytes[1] & 0xC0) == 0x80;
    int point = two ? (bytes[0] & 0x1F) << 6 | (bytes[1] & 0x3F) : bytes[0], next = 0x100;
    for (int b = 0; b < 256 && (two || point < 0x80); b++)
        if ((prints(b) ? b : next++) == point) {
            *byte = (unsigned char)b;
            return two ? 2 : 1;
        }
    return 0;
}

unsigned char sp_byte_in_order(int index)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int byte = 0; byte < 256; byte++) {
            if (prints(byte) == (pass == 0) && index-- == 0) return (unsigned char)byte;
        }
    }
    return 0;
}

void sp_vocabulary_find_bytes(sp_vocabulary *vocabulary)
{
    for (int byte = 0; byte < 256; byte++) {
        char symbol[3];
        sp_byte_symbol((unsigned char)byte, symbol);
        size_t length = strlen(symbol);
        vocabulary->bytes[byte] = sp_token_table_find(&vocabulary->tokens, symbol, length, NULL, 0);
        vocabulary->last_bytes[byte] = sp_token_table_find(&vocabulary->tokens, symbol, length,
                                                           SP_WORD_END, strlen(SP_WORD_END));
    }
}

/* The slot that holds the pair, or the free one where it belongs. */
static size_t merge_slot(const sp_vocabulary *vocabulary, int32_t left, int32_t right)
{
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t mask = vocabulary->merge_slot_count - 1;
    for (size_t slot = (size_t)(hash >> 32) & mask;; slot = (slot + 1) & mask) {
        uint32_t entry = vocabulary->merge_slots[slot];
        if (entry == 0) return slot;
        const sp_merge *merge = &vocabulary->merges[entry - 1];
        if (merge->left == left && merge->right == right) return slot;
    }
}

static sp_status grow_merge_slots(sp_vocabulary *vocabulary)
{
    size_t count = vocabulary->merge_slot_count == 0 ? 1024 : vocabulary->merge_slot_count * 2;
    uint32_t *slots = sp_alloc_zero(count * sizeof *slots);
    if (slots == NULL) return SP_MEMORY;
    sp_free(vocabulary->merge_slots);
    vocabulary->merge_slots = slots;
    vocabulary->merge_slot_count = count;
    for (size_t rank = 0; rank < vocabulary->merge_count; rank++) {
        const sp_merge *merge = &vocabulary->merges[rank];
        slots[merge_slot(vocabulary, merge->left, merge->right)] = (uint32_t)rank + 1;
    }
    return SP_OK;
}

sp_status sp_vocabulary_add_bytes(sp_vocabulary *vocabulary)
{
    for (int i = 0; i < SP_BYTE_TOKENS; i++) {
        const char *end = i < SP_BYTE_TOKENS / 2 ? "" : SP_WORD_END;
        char symbol[3];
        sp_byte_symbol(sp_byte_in_order(i % (SP_BYTE_TOKENS / 2)), symbol);
        SP_TRY(sp_token_table_add(&vocabulary->tokens, symbol, strlen(symbol), end, strlen(end),
                                  NULL));
    }
    sp_vocabulary_find_bytes(vocabulary);
    return SP_OK;
}

sp_status sp_vocabulary_add_merge(sp_vocabulary *vocabulary, sp_merge merge)
{
    if (vocabulary->merge_count >= UINT32_MAX / 2) return sp_fail(SP_MEMORY, "too many merges");
    sp_merge *merges = sp_grown(vocabulary->merges, sizeof *merges, vocabulary->merge_count + 1,
                                &vocabulary->merge_capacity);
    if (merges == NULL) return SP_MEMORY;
    vocabulary->merges = merges;
    if (2 * (vocabulary->merge_count + 1) > vocabulary->merge_slot_count)
        SP_TRY(grow_merge_slots(vocabulary));
    size_t rank = vocabulary->merge_count++;
    merges[rank] = merge;
    vocabulary->merge_slots[merge_slot(vocabulary, merge.left, merge.right)] = (uint32_t)rank + 1;
    return SP_OK;
}

static bool comes_before(sp_candidate a, sp_candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void heap_push(sp_candidate *heap, size_t *count, sp_candidate candidate)
{
    size_t i = (*count)++;
    for (; i > 0 && comes_before(candidate, heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = candidate;
}

static sp_candidate heap_pop(sp_candidate *heap, size_t *count)
{
    sp_candidate top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *count) break;
        if (child + 1 < *count && comes_before(heap[child + 1], heap[child])) child++;
        if (!comes_before(heap[child], last)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* The merge of two adjacent tokens, or NULL; *rank receives its place. */
static const sp_merge *merge_of(const sp_vocabulary *vocabulary, int32_t left, int32_t right,
                                uint32_t *rank)
{
    if (vocabulary->merge_slot_count == 0) return NULL;
    uint32_t entry = vocabulary->merge_slots[merge_slot(vocabulary, left, right)];
    if (entry == 0) return NULL;
    *rank = entry - 1;
    return &vocabulary->merges[entry - 1];
}

static void propose(const sp_vocabulary *vocabulary, const sp_symbol *symbols, int32_t position,
                    sp_candidate *heap, size_t *count)
{
    uint32_t rank;
    const sp_merge *merge =
        merge_of(vocabulary, symbols[position].id, symbols[symbols[position].next].id, &rank);
    if (merge != NULL) heap_push(heap, count, (sp_candidate){rank, position, merge->result});
}

/* Applies merges, the lowest rank first and from the left, until none is left. Each merge proposes
 * at most two new ones and removes a symbol, so the heap never holds more than 3 * length
 * candidates. */
static void merge_all(const sp_vocabulary *vocabulary, sp_symbol *symbols, size_t length,
                      sp_candidate *heap)
{
    size_t count = 0;
    for (size_t i = 0; i + 1 < length; i++)
        propose(vocabulary, symbols, (int32_t)i, heap, &count);
    while (count > 0) {
        sp_candidate best = heap_pop(heap, &count);
        sp_symbol *symbol = &symbols[best.position];
        if (symbol->removed || symbol->next < 0) continue;
        sp_symbol *right = &symbols[symbol->next];
        uint32_t rank;
        const sp_merge *merge = merge_of(vocabulary, symbol->id, right->id, &rank);
        /* The neighbours may have changed since this was proposed. */
        if (merge == NULL || merge->result != best.result) continue;
        symbol->id = merge->result;
        right->removed = true;
        symbol->next = right->next;
        if (symbol->next >= 0) symbols[symbol->next].previous = best.position;
        if (symbol->previous >= 0) propose(vocabulary, symbols, symbol->previous, heap, &count);
        if (symbol->next >= 0) propose(vocabulary, symbols, best.position, heap, &count);
    }
}

sp_status sp_vocabulary_divide(const sp_vocabulary *vocabulary, int32_t unknown, const char *word,
                               size_t length, sp_word_scratch *scratch, int32_t *ids, size_t room,
                               size_t *count)
{
    *count = 0;
    if (length == 0) return SP_OK;
    if (length > INT32_MAX / 4)
        return sp_fail(SP_MEMORY, "a word of %zu bytes is too long", length);
    sp_symbol *symbols =
        sp_grown(scratch->symbols, sizeof *symbols, length, &scratch->symbol_capacity);
    if (symbols == NULL) return SP_MEMORY;
    scratch->symbols = symbols;
    sp_candidate *heap = sp_grown(scratch->heap, sizeof *heap, 3 * length, &scratch->heap_capacity);
    if (heap == NULL) return SP_MEMORY;
    scratch->heap = heap;

    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)word[i];
        bool last = i + 1 == length;
        int32_t id = last ? vocabulary->last_bytes[byte] : vocabulary->bytes[byte];
        symbols[i] = (sp_symbol){.id = id < 0 ? unknown : id,
                                 .previous = (int32_t)i - 1,
                                 .next = last ? -1 : (int32_t)i + 1};
    }
    merge_all(vocabulary, symbols, length, heap);
    for (int32_t i = 0; i >= 0 && *count < room; i = symbols[i].next)
        ids[(*count)++] = symbols[i].id;
    return SP_OK;
}
