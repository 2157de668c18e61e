/* Sequences of code points as a tree, to find the longest one that begins at a place of a text in as
 * many steps as it is long, however many there are. */
#ifndef SP_TEXT_TOKEN_TRIE_H
#define SP_TEXT_TOKEN_TRIE_H
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Zero-initialise; release with sp_token_trie_free. */
typedef struct {
    struct sp_trie_edge *edges; /* (node, code point) -> node; open addressing, a power of two */
    size_t edge_slots;
    int64_t *values; /* of nodes; -1: no sequence ends there. Node 0 is the root */
    size_t count, capacity;
} sp_token_trie;
void sp_token_trie_free(sp_token_trie *trie);

/* Gives a sequence, which is not empty, a value of at least 0; one that it has already stays.
 * SP_MEMORY. */
sp_status sp_token_trie_put(sp_token_trie *trie, const int32_t *points, size_t count, int64_t value);
/* The value of the longest sequence that `points` begin with, and its length; -1: there is none. */
int64_t sp_token_trie_longest(const sp_token_trie *trie, const int32_t *points, size_t count,
                              size_t *length);

#endif
