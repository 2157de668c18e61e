/* Tokens to ids by hashing. */
#include "text/token_table.h"

#include <stdbool.h>
#include <string.h>
#include "base/memory.h"

#define MOST_TOKENS 0x7FFFFFFEu /* ids are int32_t and slots hold id + 1 */

void *sp_grown(void *array, size_t element_size, size_t need, size_t *capacity)
{
    if (array != NULL && need <= *capacity) return array;
    size_t grown = *capacity < 32 ? 64 : *capacity * 2;
    if (grown < need) grown = need;
    if (grown > SIZE_MAX / 2 / element_size) {
        sp_fail(SP_MEMORY, "an array of %zu elements is too large", need);
        return NULL;
    }
    void *moved = sp_realloc(array, *capacity * element_size, grown * element_size);
    if (moved != NULL) *capacity = grown;
    return moved;
}

void sp_token_table_free(sp_token_table *table)
{
    sp_free(table->text);
    sp_free(table->offsets);
    sp_free(table->slots);
    *table = (sp_token_table){0};
}

const char *sp_token_text(const sp_token_table *table, int32_t id)
{
    return table->text + table->offsets[id];
}

size_t sp_token_length(const sp_token_table *table, int32_t id)
{
    return table->offsets[id + 1] - table->offsets[id] - 1;
}

/* FNV-1a. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t hash_pair(const char *left, size_t left_length, const char *right,
                          size_t right_length)
{
    uint64_t hash = hash_bytes(0xCBF29CE484222325u, left, left_length);
    hash = hash_bytes(hash, right, right_length);
    return hash ^ hash >> 32;
}

static bool matches(const sp_token_table *table, int32_t id, const char *left, size_t left_length,
                    const char *right, size_t right_length)
{
    const char *text = sp_token_text(table, id);
    return sp_token_length(table, id) == left_length + right_length &&
           memcmp(text, left, left_length) == 0 &&
           (right_length == 0 || memcmp(text + left_length, right, right_length) == 0);
}

int32_t sp_token_table_find(const sp_token_table *table, const char *left, size_t left_length,
                            const char *right, size_t right_length)
{
    if (table->slot_count == 0) return -1;
    size_t mask = table->slot_count - 1;
    size_t slot = (size_t)hash_pair(left, left_length, right, right_length) & mask;
    for (; table->slots[slot] != 0; slot = (slot + 1) & mask) {
        int32_t id = (int32_t)(table->slots[slot] - 1);
        if (matches(table, id, left, left_length, right, right_length)) return id;
    }
    return -1;
}

static void place(sp_token_table *table, int32_t id)
{
    size_t mask = table->slot_count - 1;
    size_t slot =
        (size_t)hash_pair(sp_token_text(table, id), sp_token_length(table, id), NULL, 0) & mask;
    while (table->slots[slot] != 0)
        slot = (slot + 1) & mask;
    table->slots[slot] = (uint32_t)id + 1;
}

static sp_status grow_slots(sp_token_table *table)
{
    size_t slot_count = table->slot_count == 0 ? 1024 : table->slot_count * 2;
    uint32_t *slots = sp_alloc_zero(slot_count * sizeof *slots);
    if (slots == NULL) return SP_MEMORY;
    sp_free(table->slots);
    table->slots = slots;
    table->slot_count = slot_count;
    for (size_t id = 0; id < table->count; id++)
        place(table, (int32_t)id);
    return SP_OK;
}

sp_status sp_token_table_add(sp_token_table *table, const char *left, size_t left_length,
                             const char *right, size_t right_length, int32_t *id)
{
    if (table->count >= MOST_TOKENS) return sp_fail(SP_MEMORY, "more than %u tokens", MOST_TOKENS);
    size_t length = left_length + right_length + 1;
    char *text = sp_grown(table->text, 1, table->text_length + length, &table->text_capacity);
    if (text == NULL) return SP_MEMORY;
    table->text = text;
    size_t *offsets =
        sp_grown(table->offsets, sizeof *offsets, table->count + 2, &table->offset_capacity);
    if (offsets == NULL) return SP_MEMORY;
    table->offsets = offsets;
    if (2 * (table->count + 1) > table->slot_count) SP_TRY(grow_slots(table));

    offsets[table->count] = table->text_length;
    memcpy(text + table->text_length, left, left_length);
    if (right_length > 0) memcpy(text + table->text_length + left_length, right, right_length);
    text[table->text_length + length - 1] = '\0';
    table->text_length += length;
    offsets[table->count + 1] = table->text_length;
    place(table, (int32_t)table->count);
    if (id != NULL) *id = (int32_t)table->count;
    table->count++;
    return SP_OK;
}
