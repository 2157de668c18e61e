/* Lifetimes and places: arena slots that are never alive together share memory. */
#include <stdlib.h>
#include "graph/graph_internal.h"
#include "graph/plan_internal.h"

static size_t aligned(const sp_plan *plan, size_t bytes)
{
    size_t unit = plan->device->alignment;
    return (bytes + unit - 1) / unit * unit;
}

static int resolved(const sp_plan *plan, int slot)
{
    while (plan->slots[slot].merged_into >= 0)
        slot = plan->slots[slot].merged_into;
    return slot;
}

static void touch(sp_slot *slot, int step)
{
    if (slot->first < 0) slot->first = step;
    slot->last = step;
}

static void find_lifetimes(sp_plan *plan)
{
    for (int s = 0; s < plan->step_count; s++) {
        const sp_step *step = &plan->steps[s];
        for (int i = 0; i < SP_MAX_INPUTS; i++)
            if (step->in[i] >= 0) touch(&plan->slots[step->in[i]], s);
        for (int i = 0; i < SP_MAX_OUTPUTS; i++)
            if (step->out[i] >= 0) touch(&plan->slots[step->out[i]], s);
        if (step->scratch >= 0) touch(&plan->slots[step->scratch], s);
    }
}

/* An elementwise node may write over an input that dies with it, and so may a kernel that says it. */
static void merge_in_place(sp_plan *plan)
{
    for (int s = 0; s < plan->step_count; s++) {
        const sp_step *step = &plan->steps[s];
        bool elementwise = step->node->op->flags & SP_OP_ELEMENTWISE;
        if (step->packs_input >= 0 || !(elementwise || plan->kernels[step->kernel].in_place)) continue;
        sp_slot *out = &plan->slots[step->out[0]];
        if (out->place != SP_PLACE_ARENA) continue;
        for (int i = 0; i < (elementwise ? SP_MAX_INPUTS : 1); i++) {
            if (step->in[i] < 0) continue;
            int target = resolved(plan, step->in[i]);
            sp_slot *in = &plan->slots[target];
            if (in->place != SP_PLACE_ARENA || in->last != s || in->bytes != out->bytes ||
                target == step->out[0])
                continue;
            if (!sp_shape_equal(step->node->in[i]->shape, step->node->out[0]->shape)) continue;
            in->last = out->last;
            out->merged_into = target;
            break;
        }
    }
}

typedef struct {
    int slot;
    size_t bytes;
} sized_slot;

static int larger_first(const void *a, const void *b)
{
    const sized_slot *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->slot - y->slot;
}

typedef struct {
    size_t begin, end;
} interval;

static int lower_first(const void *a, const void *b)
{
    const interval *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* The lowest gap of `bytes` between the busy intervals. */
static size_t lowest_gap(interval *busy, int count, size_t bytes)
{
    qsort(busy, (size_t)count, sizeof *busy, lower_first);
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        if (busy[i].begin >= offset + bytes) break;
        if (busy[i].end > offset) offset = busy[i].end;
    }
    return offset;
}

/* Largest first, each at the lowest free place among those alive at the same time. */
static sp_status place_arena(sp_plan *plan)
{
    size_t capacity = (size_t)plan->slot_count + 1;
    sized_slot *order = sp_alloc(capacity * sizeof *order);
    interval *busy = sp_alloc(capacity * sizeof *busy);
    if (!order || !busy) {
        sp_free(order);
        sp_free(busy);
        return SP_MEMORY;
    }
    int count = 0;
    for (int i = 0; i < plan->slot_count; i++)
        if (plan->slots[i].place == SP_PLACE_ARENA && plan->slots[i].merged_into < 0 &&
            plan->slots[i].first >= 0)
            order[count++] = (sized_slot){i, aligned(plan, plan->slots[i].bytes)};
    qsort(order, (size_t)count, sizeof *order, larger_first);
    for (int i = 0; i < count; i++) {
        sp_slot *slot = &plan->slots[order[i].slot];
        int alive = 0;
        for (int k = 0; k < i; k++) {
            const sp_slot *other = &plan->slots[order[k].slot];
            if (other->first <= slot->last && slot->first <= other->last)
                busy[alive++] = (interval){other->offset, other->offset + order[k].bytes};
        }
        slot->offset = lowest_gap(busy, alive, order[i].bytes);
        if (slot->offset + order[i].bytes > plan->memory.arena)
            plan->memory.arena = slot->offset + order[i].bytes;
    }
    sp_free(order);
    sp_free(busy);
    return SP_OK;
}

/* The most bytes that arena slots hold at one step. */
static sp_status find_bound(sp_plan *plan)
{
    size_t *change = sp_alloc_zero(((size_t)plan->step_count + 2) * sizeof *change), alive = 0;
    if (!change) return SP_MEMORY;
    for (int i = 0; i < plan->slot_count; i++) {
        const sp_slot *slot = &plan->slots[i];
        if (slot->place != SP_PLACE_ARENA || slot->merged_into >= 0 || slot->first < 0) continue;
        change[slot->first] += aligned(plan, slot->bytes); /* wraps around where more ends than begins */
        change[slot->last + 1] -= aligned(plan, slot->bytes);
    }
    for (int s = 0; s < plan->step_count; s++) {
        alive += change[s];
        if (alive > plan->memory.arena_bound) plan->memory.arena_bound = alive;
    }
    sp_free(change);
    return SP_OK;
}

static size_t kept_bytes(const sp_plan *plan, int slot)
{
    const sp_slot *s = &plan->slots[slot];
    bool read = s->place == SP_PLACE_PARAMETER && s->last >= 0;
    return read && !sp_parameter_done(plan, slot, s->last) ? s->bytes : 0;
}

size_t sp_plan_set_bytes(const sp_plan *plan, const char *set)
{
    size_t bytes = 0;
    for (int i = 0; i < plan->parameter_count; i++)
        if (strcmp(plan->parameters[i]->set, set) == 0)
            bytes += kept_bytes(plan, plan->slot_of[plan->parameters[i]->id]);
    return bytes;
}

size_t sp_plan_output_bytes(const sp_plan *plan, const char *prefix)
{
    size_t bytes = 0;
    for (int i = 0; i < plan->graph->output_count; i++) {
        const sp_graph_output *output = &plan->graph->outputs[i];
        if (strncmp(output->name, prefix, strlen(prefix)) == 0)
            bytes += aligned(plan, plan->slots[plan->slot_of[sp_value_root(output->value)->id]].bytes);
    }
    return bytes;
}

sp_status sp_plan_place(sp_plan *plan)
{
    for (int i = 0; i < plan->slot_count; i++) {
        sp_slot *slot = &plan->slots[i];
        slot->first = slot->last = slot->merged_into = -1;
        size_t *total = slot->place == SP_PLACE_PERSISTENT ? &plan->prompt_bytes
                        : slot->place == SP_PLACE_KEPT      ? &plan->kept_bytes
                                                            : NULL;
        if (total) {
            slot->offset = *total;
            *total += aligned(plan, slot->bytes);
        } else if (slot->place == SP_PLACE_PACK) {
            plan->memory.shared += aligned(plan, slot->bytes);
        } else if (slot->place == SP_PLACE_BOUNDARY) {
            slot->offset = plan->memory.boundary;
            plan->memory.boundary += aligned(plan, slot->bytes);
        }
    }
    plan->memory.shared += plan->kept_bytes;
    plan->memory.persistent = plan->memory.shared + plan->prompt_bytes;
    find_lifetimes(plan);
    for (int i = 0; i < plan->slot_count; i++) {
        plan->memory.parameters += kept_bytes(plan, i);
    }
    merge_in_place(plan);
    SP_TRY(find_bound(plan));
    SP_TRY(place_arena(plan));
    for (int i = 0; i < plan->slot_count; i++)
        if (plan->slots[i].merged_into >= 0)
            plan->slots[i].offset = plan->slots[resolved(plan, i)].offset;
    return SP_OK;
}
