/* Running a plan: memory, bound weights, and the steps whose inputs have changed. */
#include "graph/graph_internal.h"
#include "graph/plan_internal.h"
#include "graph/profile.h"
#include "graph/residence.h"

/* Work of one stage, between two marks of the device. */
typedef struct {
    int stage;
    int64_t from, to;
} stage_span;
enum { MAX_SPANS = 64 };

struct sp_run {
    const sp_plan *plan;
    void *arena, *persistent, *boundary;
    void **parameters;          /* addresses by parameter index; NULL: not bound, or transient and not there now */
    sp_residence **residences;  /* by parameter index; NULL: none is held */
    const sp_weights **sources; /* the sets that parameters were bound from, by parameter index */
    bool stale[SP_RATE_COUNT];
    double stage_seconds[SP_MAX_STAGES];
    stage_span spans[MAX_SPANS]; /* not in stage_seconds yet: the device may not be that far */
    int span_count;
    bool *input_set;                                            /* by slot */
    sp_profile *profile;                                        /* NULL: off */
    sp_status (*output_ready)(void *context, int output_index); /* NULL: nobody watches */
    void *observer;
    sp_status (*poll)(void *context); /* between steps; NULL: nobody */
    void *poller;
};

sp_status sp_run_create(const sp_plan *plan, sp_run **out)
{
    *out = NULL;
    sp_run *run = sp_alloc_zero(sizeof *run);
    if (!run) return SP_MEMORY;
    sp_device *device = plan->device;
    run->plan = plan;
    run->arena = device->allocate(device, plan->memory.arena + 1);
    run->persistent = device->allocate(device, plan->memory.persistent + 1);
    run->boundary = device->allocate(device, plan->memory.boundary + 1);
    run->parameters = sp_alloc_zero(((size_t)plan->parameter_count + 1) * sizeof *run->parameters);
    run->residences = sp_alloc_zero(((size_t)plan->parameter_count + 1) * sizeof *run->residences);
    run->sources = sp_alloc_zero(((size_t)plan->parameter_count + 1) * sizeof *run->sources);
    run->input_set = sp_alloc_zero((size_t)plan->slot_count + 1);
    run->stale[SP_RATE_RUN] = run->stale[SP_RATE_PROMPT] = true;
    if (!run->arena || !run->persistent || !run->boundary || !run->parameters ||
        !run->residences || !run->sources || !run->input_set) {
        sp_run_destroy(run);
        return sp_fail(SP_MEMORY, "out of memory: a run needs %zu MB",
                       (plan->memory.arena + plan->memory.persistent + plan->memory.boundary) >>
                           20);
    }
    run->profile = sp_profile_create(plan);
    *out = run;
    return SP_OK;
}

/* ---- weights ---- */

/* A device of its own memory has a parameter that only steps of RUN rate read while these run. */
static bool is_transient(const sp_plan *plan, int index)
{
    const sp_value *value = plan->parameters[index];
    int slot = plan->slot_of[value->id], last = plan->slots[slot].last;
    if (plan->device->host_visible || last < 0 || !sp_parameter_done(plan, slot, last)) return false;
    for (int i = 0; i < plan->graph->output_count; i++)
        if (plan->slot_of[sp_value_root(plan->graph->outputs[i].value)->id] == slot) return false;
    return true;
}

static void unbind(sp_run *run, int index)
{
    sp_device *device = run->plan->device;
    if (is_transient(run->plan, index)) device->release(device, run->parameters[index]);
    sp_residence_release(run->residences[index]);
    run->parameters[index] = NULL;
    run->residences[index] = NULL;
}

void sp_run_destroy(sp_run *run)
{
    if (!run) return;
    sp_device *device = run->plan->device;
    device->finish(device); /* kernels and their state may be destroyed next */
    for (int i = 0; i < run->plan->parameter_count && run->parameters && run->residences; i++)
        unbind(run, i);
    device->release(device, run->arena);
    device->release(device, run->persistent);
    device->release(device, run->boundary);
    sp_free(run->parameters);
    sp_free(run->residences);
    sp_free(run->sources);
    sp_free(run->input_set);
    if (run->profile) sp_profile_print(run->profile);
    sp_profile_destroy(run->profile);
    sp_free(run);
}

void sp_run_forget_profile(sp_run *run)
{
    if (run->profile) sp_profile_forget(run->profile);
}

const sp_plan *sp_run_plan(const sp_run *run)
{
    return run->plan;
}

static sp_status bind_parameter(sp_run *run, int index, const sp_weights *weights)
{
    const sp_value *value = run->plan->parameters[index];
    const sp_tensor *tensor = sp_weights_find(weights, value->name);
    if (!tensor)
        return sp_fail(SP_FORMAT, "the weights have no tensor \"%s\" %s", value->name,
                       sp_shape_text(value->shape));
    if (!sp_shape_equal(tensor->shape, value->shape))
        return sp_fail(SP_SHAPE, "tensor \"%s\" is %s where the model's configuration asks for %s",
                       value->name, sp_shape_text(tensor->shape), sp_shape_text(value->shape));
    if (tensor->dtype != value->dtype)
        return sp_fail(SP_INTERNAL, "tensor \"%s\" is %s where the plan was made for %s",
                       value->name, sp_dtype_name(tensor->dtype), sp_dtype_name(value->dtype));
    unbind(run, index);
    run->sources[index] = weights;
    if (is_transient(run->plan, index)) return SP_OK;
    SP_TRY(sp_residence_hold(run->plan->device, weights, &run->residences[index]));
    return sp_residence_place(run->residences[index], value->name, &run->parameters[index]);
}

sp_status sp_run_bind(sp_run *run, const char *set, const sp_weights *weights)
{
    for (int i = 0; i < run->plan->parameter_count; i++)
        if (strcmp(run->plan->parameters[i]->set, set) == 0) SP_TRY(bind_parameter(run, i, weights));
    run->stale[SP_RATE_RUN] = true;
    return SP_OK;
}

void sp_run_weights_changed(sp_run *run)
{
    const sp_residence *last = NULL; /* a set's parameters are neighbours */
    for (int i = 0; i < run->plan->parameter_count; i++) {
        if (run->residences[i] && run->residences[i] != last) sp_residence_update(run->residences[i]);
        last = run->residences[i];
    }
    run->stale[SP_RATE_RUN] = true;
}

static void *slot_address(const sp_run *run, int slot)
{
    if (slot < 0) return NULL;
    const sp_slot *s = &run->plan->slots[slot];
    switch (s->place) {
    case SP_PLACE_ARENA:
        return (char *)run->arena + s->offset;
    case SP_PLACE_PERSISTENT:
        return (char *)run->persistent + s->offset;
    case SP_PLACE_BOUNDARY:
        return (char *)run->boundary + s->offset;
    case SP_PLACE_PARAMETER:
        return run->parameters[s->offset];
    case SP_PLACE_NONE:
        break;
    }
    return NULL;
}

sp_status sp_run_set_input(sp_run *run, const char *name, const sp_tensor *tensor)
{
    const sp_value *value = sp_plan_input(run->plan, name);
    if (!value) return sp_fail(SP_INTERNAL, "the graph has no input \"%s\"", name);
    if (!sp_shape_equal(tensor->shape, value->shape))
        return sp_fail(SP_SHAPE, "input \"%s\" is %s, expected %s", name,
                       sp_shape_text(tensor->shape), sp_shape_text(value->shape));
    if (tensor->dtype != value->dtype && !(sp_dtype_is_float(tensor->dtype) && sp_dtype_is_float(value->dtype)))
        return sp_fail(SP_ARGUMENT, "input \"%s\" is %s, expected %s", name,
                       sp_dtype_name(tensor->dtype), sp_dtype_name(value->dtype));
    sp_tensor converted = {0};
    const sp_tensor *source = tensor;
    if (tensor->dtype != value->dtype) {
        SP_TRY(sp_tensor_convert(tensor, value->dtype, &converted));
        source = &converted;
    }
    int slot = run->plan->slot_of[value->id];
    run->plan->device->upload(run->plan->device, slot_address(run, slot), source->data,
                               sp_tensor_bytes(source));
    sp_tensor_free(&converted);
    if (!tensor->owned) SP_TRY(sp_mapped_check(tensor->data));
    run->input_set[slot] = true;
    run->stale[value->rate] = true;
    return SP_OK;
}

sp_status sp_run_clear_input(sp_run *run, const char *name)
{
    sp_device *device = run->plan->device;
    const sp_value *value = sp_plan_input(run->plan, name);
    if (!value) return sp_fail(SP_INTERNAL, "the graph has no input \"%s\"", name);
    int slot = run->plan->slot_of[value->id];
    device->zero(device, slot_address(run, slot), (size_t)sp_shape_count(value->shape) * sp_dtype_size(value->dtype));
    run->input_set[slot] = true;
    run->stale[value->rate] = true;
    return SP_OK;
}

static sp_status check_ready(const sp_run *run)
{
    const sp_plan *plan = run->plan;
    for (int i = 0; i < plan->parameter_count; i++)
        if (!run->sources[i])
            return sp_fail(SP_INTERNAL, "parameter \"%s\" of weight set \"%s\" was never bound",
                           plan->parameters[i]->name, plan->parameters[i]->set);
    size_t index = 0;
    const char *name;
    void *value;
    while (sp_map_next(plan->inputs, &index, &name, &value))
        if (!run->input_set[plan->slot_of[((sp_value *)value)->id]])
            return sp_fail(SP_INTERNAL, "input \"%s\" was never set", name);
    return SP_OK;
}

static void run_step(sp_run *run, int index)
{
    sp_device *device = run->plan->device;
    const sp_step *step = &run->plan->steps[index];
    const sp_kernel *kernel = &run->plan->kernels[step->kernel];
    int64_t began = run->profile ? device->mark(device) : 0;
    if (step->packs_input >= 0) {
        const sp_packing *packing = &kernel->packing[step->packs_input];
        packing->pack(packing->state, slot_address(run, step->in[0]),
                      slot_address(run, step->out[0]), slot_address(run, step->scratch));
    } else {
        void *in[SP_MAX_INPUTS], *out[SP_MAX_OUTPUTS];
        for (int i = 0; i < SP_MAX_INPUTS; i++)
            in[i] = slot_address(run, step->in[i]);
        for (int i = 0; i < SP_MAX_OUTPUTS; i++)
            out[i] = slot_address(run, step->out[i]);
        kernel->run(kernel->state, step->node, in, out, slot_address(run, step->scratch));
    }
    if (run->profile)
        sp_profile_add(run->profile, index, device->elapsed(device, began, device->mark(device)));
}

/* Brings the transient parameters that a step reads to the device. */
static sp_status bring_parameters(const sp_run *run, int index)
{
    sp_device *device = run->plan->device;
    const sp_step *step = &run->plan->steps[index];
    for (int i = 0; i < SP_MAX_INPUTS && !device->host_visible; i++) {
        const sp_slot *slot = step->in[i] < 0 ? NULL : &run->plan->slots[step->in[i]];
        if (!slot || slot->place != SP_PLACE_PARAMETER || run->parameters[slot->offset]) continue;
        const char *name = run->plan->parameters[slot->offset]->name;
        const sp_tensor *tensor = sp_weights_find(run->sources[slot->offset], name);
        void *address = device->allocate(device, sp_tensor_bytes(tensor) + 1);
        if (!address) return sp_fail(SP_MEMORY, "out of memory of %s for tensor \"%s\"", device->name, name);
        device->upload(device, address, tensor->data, sp_tensor_bytes(tensor));
        run->parameters[slot->offset] = address;
    }
    return SP_OK;
}

/* A weight that has been packed or cast is in memory twice: its file can hold the first. */
static void drop_parameters(const sp_run *run, int index)
{
    sp_device *device = run->plan->device;
    const sp_step *step = &run->plan->steps[index];
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        if (step->in[i] < 0 || !sp_parameter_done(run->plan, step->in[i], index)) continue;
        int parameter = (int)run->plan->slots[step->in[i]].offset;
        sp_weights_drop(run->sources[parameter], run->plan->parameters[parameter]->name);
        if (!is_transient(run->plan, parameter)) continue;
        device->release(device, run->parameters[parameter]);
        run->parameters[parameter] = NULL;
    }
}

void sp_run_set_output_observer(sp_run *run, sp_status (*ready)(void *context, int output_index),
                                void *context)
{
    run->output_ready = ready;
    run->observer = context;
}

void sp_run_set_poll(sp_run *run, sp_status (*poll)(void *context), void *context)
{
    run->poll = poll;
    run->poller = context;
}

static sp_status report_outputs(const sp_run *run, int step)
{
    for (int i = run->plan->first_output[step]; i >= 0; i = run->plan->next_output[i])
        SP_TRY(run->output_ready(run->observer, i));
    return SP_OK;
}

/* ---- stages ---- */

static void add_spans(sp_run *run)
{
    sp_device *device = run->plan->device;
    for (int i = 0; i < run->span_count; i++) {
        const stage_span *span = &run->spans[i];
        run->stage_seconds[span->stage] += device->elapsed(device, span->from, span->to);
    }
    run->span_count = 0;
}

/* A mark is made where one stage follows another; -1: none. */
static void switch_stage(sp_run *run, stage_span *now, int stage)
{
    sp_device *device = run->plan->device;
    if (stage == now->stage) return;
    if (run->span_count == MAX_SPANS) add_spans(run);
    now->to = device->mark(device);
    if (now->stage >= 0) run->spans[run->span_count++] = *now;
    *now = (stage_span){.stage = stage, .from = now->to};
}

const char *sp_run_stage(sp_run *run, int i, double *seconds)
{
    if (i >= run->plan->stage_count) return NULL;
    add_spans(run);
    *seconds = run->stage_seconds[i];
    return run->plan->stages[i];
}

/* Zeros in the place of a file's end must not look like a result. */
static sp_status check_sources(const sp_run *run)
{
    const sp_weights *last = NULL; /* a set's parameters are neighbours */
    for (int i = 0; i < run->plan->parameter_count; i++) {
        if (run->sources[i] && run->sources[i] != last) SP_TRY(sp_weights_check(run->sources[i]));
        last = run->sources[i];
    }
    return SP_OK;
}

sp_status sp_run_execute(sp_run *run, const sp_callbacks *callbacks)
{
    SP_TRY(check_ready(run));
    bool stale = false;
    stage_span now = {.stage = -1};
    for (int rate = 0; rate < SP_RATE_COUNT; rate++) {
        stale |= run->stale[rate] || rate == SP_RATE_STEP;
        for (int s = 0; s < run->plan->step_count && stale; s++) {
            if ((int)run->plan->steps[s].rate != rate) continue;
            switch_stage(run, &now, run->plan->steps[s].stage);
            SP_TRY(sp_check_cancelled(callbacks));
            if (rate == SP_RATE_RUN) SP_TRY(bring_parameters(run, s));
            run_step(run, s);
            if (rate == SP_RATE_RUN) drop_parameters(run, s);
            if (run->output_ready) SP_TRY(report_outputs(run, s));
            if (run->poll) SP_TRY(run->poll(run->poller));
        }
        run->stale[rate] = false;
    }
    switch_stage(run, &now, -1);
    return check_sources(run);
}

sp_status sp_run_get_output(sp_run *run, const char *name, sp_tensor *out)
{
    const sp_value *value = sp_plan_output(run->plan, name);
    if (!value) return sp_fail(SP_INTERNAL, "the graph has no output \"%s\"", name);
    SP_TRY(sp_tensor_create(value->dtype, value->shape, out));
    sp_status status = run->plan->device->download(run->plan->device, out->data,
                                                   sp_run_output_address(run, name), sp_tensor_bytes(out));
    if (status) sp_tensor_free(out);
    return status;
}

void *sp_run_output_address(const sp_run *run, const char *name)
{
    const sp_value *value = sp_plan_output(run->plan, name);
    if (!value) return NULL;
    return slot_address(run, run->plan->slot_of[sp_value_root((sp_value *)value)->id]);
}
