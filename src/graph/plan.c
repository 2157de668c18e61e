/* Making a plan: kernels for nodes, slots for values, steps in order. */
#include <stdio.h>
#include <stdlib.h>
#include "graph/graph_internal.h"
#include "graph/passes.h"
#include "graph/plan_internal.h"

static sp_status grow_list(void **list, int count, int *capacity, size_t size)
{
    if (count < *capacity) return SP_OK;
    int wanted = *capacity ? 2 * *capacity : 256;
    void *larger = sp_realloc(*list, (size_t)*capacity * size, (size_t)wanted * size);
    if (!larger) return SP_MEMORY;
    *list = larger;
    *capacity = wanted;
    return SP_OK;
}

static sp_status new_slot(sp_plan *plan, sp_place place, size_t bytes, int *out)
{
    SP_TRY(grow_list((void **)&plan->slots, plan->slot_count, &plan->slot_capacity,
                     sizeof *plan->slots));
    plan->slots[plan->slot_count] =
        (sp_slot){.place = place, .bytes = bytes ? bytes : 1, .merged_into = -1};
    *out = plan->slot_count++;
    return SP_OK;
}

static sp_status new_step(sp_plan *plan, sp_step **out)
{
    SP_TRY(grow_list((void **)&plan->steps, plan->step_count, &plan->step_capacity,
                     sizeof *plan->steps));
    sp_step *step = &plan->steps[plan->step_count++];
    *step = (sp_step){.packs_input = -1, .scratch = -1};
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        step->in[i] = -1;
    for (int i = 0; i < SP_MAX_OUTPUTS; i++)
        step->out[i] = -1;
    *out = step;
    return SP_OK;
}

/* Sums take over the memory of what they are added to. */
static sp_status place_sums(sp_plan *plan)
{
    for (int i = 0; i < plan->graph->output_count; i++) {
        const sp_graph_output *output = &plan->graph->outputs[i];
        if (!output->sum) continue;
        if (!output->value->producer || output->value->producer->in[0] != output->sum)
            return sp_fail(SP_INTERNAL, "output \"%s\" is not of its sum's type", output->name);
        int *slot = &plan->slot_of[output->value->id];
        plan->slots[*slot].place = SP_PLACE_NONE;
        *slot = plan->slot_of[output->sum->id];
    }
    return SP_OK;
}

/* Where each root value lives: kept if slower than a reader, at the boundary if an input or output. */
static sp_status make_value_slots(sp_plan *plan)
{
    sp_graph *graph = plan->graph;
    size_t count = (size_t)graph->value_count + 1;
    plan->slot_of = sp_alloc(count * sizeof *plan->slot_of);
    plan->parameters = sp_alloc(count * sizeof *plan->parameters);
    bool *kept = sp_alloc_zero(count), *output = sp_alloc_zero(count);
    sp_status status = plan->slot_of && plan->parameters && kept && output ? SP_OK : SP_MEMORY;
    for (int i = 0; i < graph->value_count && !status; i++)
        plan->slot_of[i] = -1;
    for (int n = 0; n < graph->node_count && !status; n++)
        for (int i = 0; i < graph->nodes[n]->inputs; i++) {
            sp_value *in = graph->nodes[n]->in[i];
            if (in && in->rate < graph->nodes[n]->rate) kept[sp_value_root(in)->id] = true;
        }
    for (int i = 0; i < graph->output_count && !status; i++)
        output[sp_value_root(graph->outputs[i].value)->id] = true;
    for (int i = 0; i < graph->value_count && !status; i++) {
        sp_value *value = graph->values[i];
        if (sp_value_root(value) != value) continue;
        sp_place place = value->kind == SP_VALUE_INPUT || output[i] ? SP_PLACE_BOUNDARY
                         : kept[i]                                  ? SP_PLACE_PERSISTENT
                                                                    : SP_PLACE_ARENA;
        if (value->kind == SP_VALUE_PARAMETER) place = SP_PLACE_PARAMETER;
        if (value->kind == SP_VALUE_RESULT && value->producer->removed) continue;
        if (sp_value_bytes(value) == SIZE_MAX)
            status = sp_fail(SP_SHAPE, "a value cannot have the shape %s", sp_shape_text(value->shape));
        if (!status) status = new_slot(plan, place, sp_value_bytes(value), &plan->slot_of[i]);
        if (!status && place == SP_PLACE_PARAMETER) {
            plan->slots[plan->slot_of[i]].offset = (size_t)plan->parameter_count;
            plan->parameters[plan->parameter_count++] = value;
        }
    }
    if (!status) status = place_sums(plan);
    sp_free(kept);
    sp_free(output);
    return status;
}

static int slot_of(const sp_plan *plan, sp_value *value)
{
    return value ? plan->slot_of[sp_value_root(value)->id] : -1;
}

static bool recomputes(const sp_node *node)
{
    return strcmp(node->stage, sp_stage_recomputation) == 0;
}

/* What gradient checkpointing runs again packs weights of training again: to keep the first pack
 * until then would take more memory than most blocks save. */
static bool may_share(const sp_node *node, const sp_node *earlier, int input)
{
    return node->in[input]->rate < node->rate || recomputes(node) == recomputes(earlier);
}

/* The step that made this layout of a slot; NULL: none did. */
static const sp_step *packed_before(const sp_plan *plan, int slot, uint64_t key, size_t bytes, bool repacks)
{
    for (int s = 0; s < plan->step_count && key; s++) {
        const sp_step *step = &plan->steps[s];
        if (step->packs_input < 0 || step->in[0] != slot || step->repacks != repacks) continue;
        const sp_packing *packing = &plan->kernels[step->kernel].packing[step->packs_input];
        if (packing->key == key && packing->bytes == bytes) return step;
    }
    return NULL;
}

/* A weight that stays, in a layout that can be made of another one that is kept: to keep both would double the memory
 * of * adapters' base, whose gradients read it transposed. *out stays -1 where it cannot. */
static sp_status repacked_slot(sp_plan *plan, const sp_node *node, int kernel, int input, int *out)
{
    const sp_packing *packing = &plan->kernels[kernel].packing[input];
    const sp_step *from =
        packed_before(plan, slot_of(plan, node->in[input]), packing->from_key, packing->from_bytes, false);
    *out = -1;
    if (!from || node->in[input]->rate == node->rate || plan->slots[from->out[0]].place != SP_PLACE_PERSISTENT)
        return SP_OK;
    int kept = from->out[0];
    const sp_step *made = packed_before(plan, kept, packing->key, packing->bytes, true);
    if (made && recomputes(node) == recomputes(made->node)) {
        *out = made->out[0];
        return SP_OK;
    }
    sp_step *step;
    SP_TRY(new_slot(plan, SP_PLACE_ARENA, packing->bytes, out));
    SP_TRY(new_step(plan, &step));
    step->node = node;
    step->rate = node->rate;
    step->kernel = kernel;
    step->packs_input = input;
    step->repacks = true;
    step->in[0] = kept;
    step->out[0] = *out;
    return SP_OK;
}

/* A pack made before for the same value and layout; else a new pack step. */
static sp_status packed_slot(sp_plan *plan, const sp_node *node, int kernel, int input, int *out)
{
    const sp_packing *packing = &plan->kernels[kernel].packing[input];
    int source = slot_of(plan, node->in[input]);
    for (int s = 0; s < plan->step_count && packing->key; s++) {
        const sp_step *step = &plan->steps[s];
        if (step->packs_input < 0 || step->in[0] != source || step->repacks) continue;
        const sp_packing *other = &plan->kernels[step->kernel].packing[step->packs_input];
        if (other->key == packing->key && other->bytes == packing->bytes &&
            may_share(node, step->node, input)) {
            *out = step->out[0];
            if (node->rate > step->rate) plan->slots[*out].place = SP_PLACE_PERSISTENT;
            return SP_OK;
        }
    }
    SP_TRY(repacked_slot(plan, node, kernel, input, out));
    if (*out >= 0) return SP_OK;
    sp_rate rate = node->in[input]->rate;
    SP_TRY(new_slot(plan, rate < node->rate ? SP_PLACE_PERSISTENT : SP_PLACE_ARENA, packing->bytes,
                    out));
    /* A weight that is only packed need not stay itself. */
    sp_step *step;
    SP_TRY(new_step(plan, &step));
    step->node = node;
    step->rate = rate;
    step->kernel = kernel;
    step->packs_input = input;
    if (packing->scratch) SP_TRY(new_slot(plan, SP_PLACE_ARENA, packing->scratch, &step->scratch));
    step->in[0] = source;
    step->out[0] = *out;
    return SP_OK;
}

static sp_status plan_node(sp_plan *plan, const sp_node *node)
{
    if (node->op->flags & SP_OP_VIEW) return SP_OK;
    int index = plan->kernel_count;
    sp_kernel *kernel = &plan->kernels[index];
    sp_status status = plan->device->prepare(plan->device, node, kernel);
    if (status) return sp_fail_within(status, "%s (%s)", node->op->name, node->scope);
    plan->kernel_count++;
    int in[SP_MAX_INPUTS];
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        in[i] = i < node->inputs ? slot_of(plan, node->in[i]) : -1;
        if (in[i] >= 0 && kernel->packing[i].bytes)
            SP_TRY(packed_slot(plan, node, index, i, &in[i]));
    }
    sp_step *step;
    SP_TRY(new_step(plan, &step));
    step->node = node;
    step->rate = node->rate;
    step->kernel = index;
    memcpy(step->in, in, sizeof in);
    for (int i = 0; i < node->outputs; i++)
        step->out[i] = slot_of(plan, node->out[i]);
    if (kernel->scratch) SP_TRY(new_slot(plan, SP_PLACE_ARENA, kernel->scratch, &step->scratch));
    return SP_OK;
}

/* Stable by rate: what changes rarely runs first. */
static sp_status sort_steps(sp_plan *plan)
{
    sp_step *sorted = sp_alloc(((size_t)plan->step_count + 1) * sizeof *sorted);
    if (!sorted) return SP_MEMORY;
    int filled = 0;
    for (int rate = 0; rate < SP_RATE_COUNT; rate++)
        for (int s = 0; s < plan->step_count; s++)
            if ((int)plan->steps[s].rate == rate) sorted[filled++] = plan->steps[s];
    sp_free(plan->steps);
    plan->steps = sorted;
    plan->step_capacity = plan->step_count;
    return SP_OK;
}

static sp_status find_stages(sp_plan *plan)
{
    for (int s = 0; s < plan->step_count; s++) {
        const char *stage = plan->steps[s].node->stage;
        int i = 0;
        while (i < plan->stage_count && strcmp(plan->stages[i], stage) != 0)
            i++;
        if (i == SP_MAX_STAGES)
            return sp_fail(SP_INTERNAL, "a graph has more than %d stages", SP_MAX_STAGES);
        if (i == plan->stage_count) plan->stages[plan->stage_count++] = stage;
        plan->steps[s].stage = i;
    }
    return SP_OK;
}

static sp_status name_boundary(sp_plan *plan)
{
    sp_graph *graph = plan->graph;
    plan->inputs = sp_dictionary_create();
    plan->outputs = sp_dictionary_create();
    if (!plan->inputs || !plan->outputs) return SP_MEMORY;
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->kind == SP_VALUE_INPUT)
            SP_TRY(sp_dictionary_put(plan->inputs, graph->values[i]->name, graph->values[i]));
    for (int i = 0; i < graph->output_count; i++)
        SP_TRY(sp_dictionary_put(plan->outputs, graph->outputs[i].name, graph->outputs[i].value));
    return SP_OK;
}

/* A value read only by pack steps that are as slow as itself need not be kept between steps. */
static void release_packed_sources(sp_plan *plan)
{
    for (int i = 0; i < plan->slot_count; i++) {
        sp_slot *slot = &plan->slots[i];
        if (slot->place != SP_PLACE_PERSISTENT) continue;
        bool read_later = false;
        int written_rate = -1;
        for (int s = 0; s < plan->step_count; s++)
            for (int k = 0; k < SP_MAX_OUTPUTS; k++)
                if (plan->steps[s].out[k] == i) written_rate = (int)plan->steps[s].rate;
        for (int s = 0; s < plan->step_count && !read_later; s++)
            for (int k = 0; k < SP_MAX_INPUTS; k++)
                read_later |= plan->steps[s].in[k] == i && (int)plan->steps[s].rate > written_rate;
        if (!read_later) slot->place = SP_PLACE_ARENA;
    }
}

/* The key of a cast is of its type alone. */
sp_pack_form sp_pack_layout(const sp_plan *plan, const sp_step *step)
{
    if (step->packs_input >= 0) {
        const sp_packing *packing = &plan->kernels[step->kernel].packing[step->packs_input];
        return (sp_pack_form){packing->key, packing->bytes};
    }
    if (step->node->op != &sp_op_cast) return (sp_pack_form){0};
    const uint64_t cast = UINT64_C(0x6361737400000000);
    return (sp_pack_form){cast ^ (uint64_t)step->node->out[0]->dtype, sp_value_bytes(step->node->out[0])};
}

/* What is kept and made of weights alone is a bound plan's; of that, what another plan may want alike is a pack. Steps
 * are in their order. */
static sp_status sort_kept(sp_plan *plan)
{
    plan->pack_step = sp_alloc(((size_t)plan->step_count + 1) * sizeof *plan->pack_step);
    if (!plan->pack_step) return SP_MEMORY;
    for (int s = 0; s < plan->step_count && plan->steps[s].rate == SP_RATE_RUN; s++) {
        const sp_step *step = &plan->steps[s];
        for (int k = 0; k < SP_MAX_OUTPUTS; k++) {
            sp_slot *slot = step->out[k] < 0 ? NULL : &plan->slots[step->out[k]];
            if (!slot || slot->place != SP_PLACE_PERSISTENT) continue;
            slot->place = SP_PLACE_KEPT;
            if (!sp_pack_layout(plan, step).key || plan->slots[step->in[0]].place != SP_PLACE_PARAMETER) continue;
            slot->place = SP_PLACE_PACK;
            slot->offset = (size_t)plan->pack_count;
            plan->pack_step[plan->pack_count++] = s;
        }
    }
    return SP_OK;
}

/* Which outputs each step completes; lifetimes are known. */
static sp_status find_output_steps(sp_plan *plan)
{
    int outputs = plan->graph->output_count;
    plan->output_step = sp_alloc(((size_t)outputs + 1) * sizeof *plan->output_step);
    plan->next_output = sp_alloc(((size_t)outputs + 1) * sizeof *plan->next_output);
    plan->first_output = sp_alloc(((size_t)plan->step_count + 1) * sizeof *plan->first_output);
    if (!plan->output_step || !plan->next_output || !plan->first_output) return SP_MEMORY;
    for (int s = 0; s < plan->step_count; s++)
        plan->first_output[s] = -1;
    for (int i = outputs - 1; i >= 0; i--) {
        int slot = slot_of(plan, plan->graph->outputs[i].value);
        int step = slot < 0 ? -1 : plan->slots[slot].last;
        plan->output_step[i] = step;
        plan->next_output[i] = step < 0 ? -1 : plan->first_output[step];
        if (step >= 0) plan->first_output[step] = i;
    }
    return SP_OK;
}

static sp_status build(sp_plan *plan, sp_dtype precision)
{
    SP_TRY(sp_pass_prune(plan->graph));
    SP_TRY(sp_pass_precision(plan->graph, precision));
    SP_TRY(sp_pass_prune(plan->graph));
    SP_TRY(make_value_slots(plan));
    plan->kernels = sp_alloc_zero(((size_t)plan->graph->node_count + 1) * sizeof *plan->kernels);
    if (!plan->kernels) return SP_MEMORY;
    for (int n = 0; n < plan->graph->node_count; n++)
        SP_TRY(plan_node(plan, plan->graph->nodes[n]));
    release_packed_sources(plan);
    SP_TRY(sort_steps(plan));
    SP_TRY(sort_kept(plan));
    SP_TRY(find_stages(plan));
    SP_TRY(name_boundary(plan));
    SP_TRY(sp_plan_place(plan));
    return find_output_steps(plan);
}

const char *sp_precision_name(sp_dtype precision)
{
    return precision == SP_BF16 ? "bf16" : "f32";
}

sp_status sp_plan_create(sp_graph *graph, sp_device *device, sp_dtype precision, sp_plan **out)
{
    *out = NULL;
    sp_plan *plan = sp_alloc_zero(sizeof *plan);
    if (!plan) {
        sp_graph_destroy(graph);
        return SP_MEMORY;
    }
    plan->graph = graph;
    plan->device = device;
    plan->precision = sp_precision_name(precision);
    sp_status status = build(plan, precision);
    if (status) {
        sp_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return SP_OK;
}

void sp_plan_destroy(sp_plan *plan)
{
    if (!plan) return;
    for (int i = 0; i < plan->kernel_count; i++)
        if (plan->kernels[i].destroy) plan->kernels[i].destroy(plan->kernels[i].state);
    sp_free(plan->kernels);
    sp_free(plan->steps);
    sp_free(plan->slots);
    sp_free(plan->slot_of);
    sp_free(plan->parameters);
    sp_free(plan->pack_step);
    sp_dictionary_destroy(plan->inputs);
    sp_dictionary_destroy(plan->outputs);
    sp_free(plan->output_step);
    sp_free(plan->first_output);
    sp_free(plan->next_output);
    sp_graph_destroy(plan->graph);
    sp_free(plan);
}

sp_device *sp_plan_device(const sp_plan *plan)
{
    return plan->device;
}

sp_plan_memory sp_plan_get_memory(const sp_plan *plan)
{
    return plan->memory;
}

const sp_graph *sp_plan_graph(const sp_plan *plan)
{
    return plan->graph;
}

const sp_value *sp_plan_input(const sp_plan *plan, const char *name)
{
    return sp_dictionary_get(plan->inputs, name);
}

const sp_value *sp_plan_output(const sp_plan *plan, const char *name)
{
    return sp_dictionary_get(plan->outputs, name);
}

int sp_plan_output_index(const sp_plan *plan, const char *name)
{
    for (int i = 0; i < plan->graph->output_count; i++)
        if (strcmp(plan->graph->outputs[i].name, name) == 0) return i;
    return -1;
}

int sp_plan_output_step(const sp_plan *plan, int output_index)
{
    return plan->output_step[output_index];
}

int sp_plan_step_count(const sp_plan *plan)
{
    return plan->step_count;
}

sp_plan_step sp_plan_step_at(const sp_plan *plan, int step)
{
    const sp_step *s = &plan->steps[step];
    return (sp_plan_step){s->node, plan->kernels[s->kernel].name, s->packs_input, s->rate};
}

void sp_plan_step_shapes(const sp_plan *plan, int step, char *text, size_t size)
{
    const sp_step *s = &plan->steps[step];
    const sp_node *node = s->node;
    int length = 0;
    if (s->packs_input >= 0) {
        snprintf(text, size, "%s", sp_shape_text(node->in[s->packs_input]->shape));
        return;
    }
    for (int i = 0; i < node->inputs && i < 2 && length < (int)size; i++)
        if (node->in[i])
            length += snprintf(text + length, size - (size_t)length, "%s ", sp_shape_text(node->in[i]->shape));
    if (length < (int)size)
        snprintf(text + length, size - (size_t)length, "-> %s", sp_shape_text(node->out[0]->shape));
}
