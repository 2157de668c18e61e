/* What gradient checkpointing of a block would save and cost. */
#include "graph/graph_internal.h"
#include "graph/plan_internal.h"

/* Which block a slot's value was made in by the forward pass, and whether it stays inside. */
typedef struct {
    int block; /* 0: none */
    bool read_outside, read_later;
} origin;

static bool is_backward(const sp_node *node)
{
    return strcmp(node->stage, sp_stage_backward) == 0;
}

static void follow(const sp_plan *plan, origin *origins)
{
    for (int s = 0; s < plan->step_count; s++) {
        const sp_step *step = &plan->steps[s];
        if (step->packs_input >= 0) continue;
        for (int i = 0; i < SP_MAX_INPUTS; i++) {
            if (step->in[i] < 0) continue;
            origin *o = &origins[step->in[i]];
            bool later = is_backward(step->node);
            o->read_later |= later;
            o->read_outside |= !later && step->node->block != o->block;
        }
        for (int i = 0; i < SP_MAX_OUTPUTS && step->node->block; i++)
            if (step->out[i] >= 0) origins[step->out[i]].block = step->node->block;
    }
}

sp_status sp_plan_block_costs(const sp_plan *plan, sp_block_cost **out, int *count)
{
    *count = 0;
    for (int n = 0; n < plan->graph->node_count; n++)
        if (plan->graph->nodes[n]->block > *count) *count = plan->graph->nodes[n]->block;
    *out = sp_alloc_zero(((size_t)*count + 1) * sizeof **out);
    origin *origins = sp_alloc_zero(((size_t)plan->slot_count + 1) * sizeof *origins);
    if (!*out || !origins) {
        sp_free(*out);
        sp_free(origins);
        *out = NULL;
        return SP_MEMORY;
    }
    follow(plan, origins);
    for (int i = 0; i < plan->slot_count; i++)
        if (origins[i].block && origins[i].read_later && !origins[i].read_outside &&
            plan->slots[i].place == SP_PLACE_ARENA)
            (*out)[origins[i].block - 1].bytes += plan->slots[i].bytes;
    for (int n = 0; n < plan->graph->node_count; n++) {
        const sp_node *node = plan->graph->nodes[n];
        if (node->block && node->op->flops) (*out)[node->block - 1].flops += node->op->flops(node);
    }
    sp_free(origins);
    return SP_OK;
}
