/* A tree of code points whose edges are in one hash table. */
#include "text/token_trie.h"
#include "base/memory.h"
#include "text/token_table.h"

typedef struct sp_trie_edge {
    uint32_t from, to; /* to 0: the slot is free, for no edge leads to the root */
    int32_t point;
} sp_trie_edge;

void sp_token_trie_free(sp_token_trie *trie)
{
    sp_free(trie->edges);
    sp_free(trie->values);
    *trie = (sp_token_trie){0};
}

/* The slot that holds the edge, or the free one where it belongs. */
static sp_trie_edge *edge_slot(const sp_token_trie *trie, uint32_t from, int32_t point)
{
    uint64_t hash = ((uint64_t)from << 32 | (uint32_t)point) * 0x9E3779B97F4A7C15u;
    size_t mask = trie->edge_slots - 1;
    for (size_t slot = (size_t)(hash >> 32) & mask;; slot = (slot + 1) & mask) {
        sp_trie_edge *edge = &trie->edges[slot];
        if (edge->to == 0 || (edge->from == from && edge->point == point)) return edge;
    }
}

/* At most half of the slots are taken. */
static sp_status grow_edges(sp_token_trie *trie)
{
    sp_trie_edge *old = trie->edges;
    size_t old_slots = trie->edge_slots, slots = old_slots ? old_slots * 2 : 256;
    sp_trie_edge *edges = sp_alloc_zero(slots * sizeof *edges);
    if (edges == NULL) return SP_MEMORY;
    trie->edges = edges;
    trie->edge_slots = slots;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].to != 0) *edge_slot(trie, old[i].from, old[i].point) = old[i];
    sp_free(old);
    return SP_OK;
}

static sp_status add_node(sp_token_trie *trie)
{
    if (trie->count >= UINT32_MAX / 4) return sp_fail(SP_MEMORY, "too many added tokens");
    int64_t *values =
        sp_grown(trie->values, sizeof *values, trie->count + 1, &trie->capacity);
    if (values == NULL) return SP_MEMORY;
    trie->values = values;
    if (2 * (trie->count + 1) > trie->edge_slots) SP_TRY(grow_edges(trie));
    values[trie->count++] = -1;
    return SP_OK;
}

sp_status sp_token_trie_put(sp_token_trie *trie, const int32_t *points, size_t count, int64_t value)
{
    if (trie->count == 0) SP_TRY(add_node(trie));
    uint32_t node = 0;
    for (size_t i = 0; i < count; i++) {
        sp_trie_edge *edge = edge_slot(trie, node, points[i]);
        if (edge->to == 0) {
            SP_TRY(add_node(trie));
            edge = edge_slot(trie, node, points[i]); /* the table may have moved */
            *edge = (sp_trie_edge){.from = node, .to = (uint32_t)trie->count - 1, .point = points[i]};
        }
        node = edge->to;
    }
    if (trie->values[node] < 0) trie->values[node] = value;
    return SP_OK;
}

int64_t sp_token_trie_longest(const sp_token_trie *trie, const int32_t *points, size_t count,
                              size_t *length)
{
    int64_t longest = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < count && trie->count > 0; i++) {
        const sp_trie_edge *edge = edge_slot(trie, node, points[i]);
        if (edge->to == 0) break;
        node = edge->to;
        if (trie->values[node] < 0) continue;
        longest = trie->values[node];
        *length = i + 1;
    }
    return longest;
}
