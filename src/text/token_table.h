/* Strings with consecutive ids, found by content: the tokens of a vocabulary, or the words of a
 * corpus. */
#ifndef SP_TEXT_TOKEN_TABLE_H
#define SP_TEXT_TOKEN_TABLE_H
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Zero-initialise; release with sp_token_table_free. */
typedef struct {
    char *text; /* the strings one after another, each with a NUL */
    size_t text_length, text_capacity;
    size_t *offsets; /* of string i in text; offsets[count] is text_length */
    size_t count, offset_capacity;
    uint32_t *slots; /* open addressing, id + 1; a power of two, at most half full */
    size_t slot_count;
} sp_token_table;
void sp_token_table_free(sp_token_table *table);

/* Adds left followed by right under the next id, which *id (may be NULL) receives. The caller knows
 * that it is not there yet. SP_MEMORY (the table stays as it was). */
sp_status sp_token_table_add(sp_token_table *table, const char *left, size_t left_length,
                             const char *right, size_t right_length, int32_t *id);
/* The id of left followed by right, or -1. */
int32_t sp_token_table_find(const sp_token_table *table, const char *left, size_t left_length,
                            const char *right, size_t right_length);
const char *sp_token_text(const sp_token_table *table, int32_t id);
size_t sp_token_length(const sp_token_table *table, int32_t id);

/* An array with room for `need` elements, at least doubled when it must grow; *capacity counts
 * elements. NULL when out of memory: the old array then stays valid. */
void *sp_grown(void *array, size_t element_size, size_t need, size_t *capacity);

#endif
