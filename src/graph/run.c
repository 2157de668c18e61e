/* Running a plan: memory, bound weights, and the steps whose inputs have changed. */
#include "graph/run.h"
#include "graph/bound_internal.h"
#include "graph/graph_internal.h"
#include "graph/profile.h"

/* Work of one stage, between two marks of the device. */
typedef struct {
    int stage;
    int64_t from, to;
} stage_span;
enum { MAX_SPANS = 64 };

struct sp_run {
    sp_bound *bound;
    bool owns_bound, slow_boundary;
    const sp_plan *plan; /* the bound one */
    void *arena, *persistent, *boundary;
    bool stale[SP_RATE_COUNT]; /* by rate: inputs of it were set since it ran */
    uint64_t generation;       /* of the bound plan's weights, when this run was executed last */
    double stage_seconds[SP_MAX_STAGES];
    stage_span spans[MAX_SPANS]; /* not in stage_seconds yet: the device may not be that far */
    int span_count;
    bool *input_set;                                            /* by slot */
    sp_profile *profile;                                        /* NULL: off */
    sp_status (*output_ready)(void *context, int output_index); /* NULL: nobody watches */
    void *observer;
    sp_status (*poll)(void *context, int step); /* after each; NULL: nobody */
    void *poller;
};

/* Inputs and outputs that are as slow as weights lie in a run, and what is made of them in the bound plan. */
static bool has_slow_boundary(const sp_plan *plan)
{
    for (int s = 0; s < plan->step_count && plan->steps[s].rate == SP_RATE_RUN; s++) {
        const sp_step *step = &plan->steps[s];
        for (int k = 0; k < SP_MAX_INPUTS; k++)
            if (step->in[k] >= 0 && plan->slots[step->in[k]].place == SP_PLACE_BOUNDARY) return true;
        for (int k = 0; k < SP_MAX_OUTPUTS; k++)
            if (step->out[k] >= 0 && plan->slots[step->out[k]].place == SP_PLACE_BOUNDARY) return true;
    }
    return false;
}

sp_status sp_run_create_of(sp_bound *bound, sp_run **out)
{
    const sp_plan *plan = bound->plan;
    *out = NULL;
    if (bound->runs && has_slow_boundary(plan))
        return sp_fail(SP_INTERNAL, "a plan with inputs or outputs of RUN rate has one run");
    sp_run *run = sp_alloc_zero(sizeof *run);
    if (!run) return SP_MEMORY;
    sp_device *device = plan->device;
    run->bound = bound;
    run->plan = plan;
    run->slow_boundary = has_slow_boundary(plan);
    bound->runs++;
    run->arena = device->allocate(device, plan->memory.arena + 1);
    run->persistent = device->allocate(device, plan->prompt_bytes + 1);
    run->boundary = device->allocate(device, plan->memory.boundary + 1);
    run->input_set = sp_alloc_zero((size_t)plan->slot_count + 1);
    run->stale[SP_RATE_RUN] = run->stale[SP_RATE_PROMPT] = true;
    if (!run->arena || !run->persistent || !run->boundary || !run->input_set) {
        sp_run_destroy(run);
        return sp_fail(SP_MEMORY, "out of memory: a run needs %zu MB",
                       (plan->memory.arena + plan->prompt_bytes + plan->memory.boundary) >> 20);
    }
    run->profile = sp_profile_create(plan);
    *out = run;
    return SP_OK;
}

sp_status sp_run_create(const sp_plan *plan, sp_run **out)
{
    sp_bound *bound;
    *out = NULL;
    SP_TRY(sp_bound_create(plan, &bound));
    sp_status status = sp_run_create_of(bound, out);
    if (status)
        sp_bound_destroy(bound);
    else
        (*out)->owns_bound = true;
    return status;
}

sp_bound *sp_run_bound(const sp_run *run)
{
    return run->bound;
}

void sp_run_destroy(sp_run *run)
{
    if (!run) return;
    sp_device *device = run->plan->device;
    device->finish(device); /* kernels and their state may be destroyed next */
    device->release(device, run->arena);
    device->release(device, run->persistent);
    device->release(device, run->boundary);
    sp_free(run->input_set);
    if (run->profile) sp_profile_print(run->profile);
    sp_profile_destroy(run->profile);
    run->bound->runs--;
    if (run->owns_bound) sp_bound_destroy(run->bound);
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

static void *slot_address(const sp_run *run, int slot)
{
    if (slot < 0) return NULL;
    const sp_slot *s = &run->plan->slots[slot];
    switch (s->place) {
    case SP_PLACE_ARENA:
        return (char *)run->arena + s->offset;
    case SP_PLACE_PERSISTENT:
        return (char *)run->persistent + s->offset;
    case SP_PLACE_KEPT:
        return (char *)run->bound->kept + s->offset;
    case SP_PLACE_PACK:
        return run->bound->packs[s->offset]->address;
    case SP_PLACE_BOUNDARY:
        return (char *)run->boundary + s->offset;
    case SP_PLACE_PARAMETER:
        return run->bound->parameters[s->offset];
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
    device->zero(device, slot_address(run, slot), sp_value_bytes(value));
    run->input_set[slot] = true;
    run->stale[value->rate] = true;
    return SP_OK;
}

static sp_status check_bound(const sp_run *run)
{
    const sp_plan *plan = run->plan;
    for (int i = 0; i < plan->parameter_count; i++)
        if (!run->bound->sources[i])
            return sp_fail(SP_INTERNAL, "parameter \"%s\" of weight set \"%s\" was never bound",
                           plan->parameters[i]->name, plan->parameters[i]->set);
    for (int i = 0; i < plan->pack_count; i++)
        if (!run->bound->packs[i]) return sp_fail(SP_INTERNAL, "a packed weight has no memory");
    return SP_OK;
}

static sp_status check_ready(const sp_run *run)
{
    const sp_plan *plan = run->plan;
    SP_TRY(check_bound(run));
    size_t index = 0;
    const char *name;
    void *value;
    while (sp_dictionary_next(plan->inputs, &index, &name, &value))
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
        void *from = slot_address(run, step->in[0]), *to = slot_address(run, step->out[0]);
        if (step->repacks)
            packing->repack(packing->state, from, to);
        else
            packing->pack(packing->state, from, to, slot_address(run, step->scratch));
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

void sp_run_set_output_observer(sp_run *run, sp_status (*ready)(void *context, int output_index),
                                void *context)
{
    run->output_ready = ready;
    run->observer = context;
}

void sp_run_set_poll(sp_run *run, sp_status (*poll)(void *context, int step), void *context)
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
        const sp_weights *source = run->bound->sources[i];
        if (source && source != last) SP_TRY(sp_weights_check(source));
        last = source;
    }
    return SP_OK;
}

/* Between two steps somebody may stop. */
static sp_status one_step(sp_run *run, int step, stage_span *now, const sp_callbacks *callbacks)
{
    switch_stage(run, now, run->plan->steps[step].stage);
    SP_TRY(sp_check_cancelled(callbacks));
    run_step(run, step);
    if (run->output_ready) SP_TRY(report_outputs(run, step));
    return run->poll ? run->poll(run->poller, step) : SP_OK;
}

/* The steps of RUN rate, but for packs that are there. */
static sp_status make_weights(sp_run *run, stage_span *now, const sp_callbacks *callbacks)
{
    sp_bound *bound = run->bound;
    for (int s = 0; s < run->plan->step_count && run->plan->steps[s].rate == SP_RATE_RUN; s++) {
        sp_pack *pack = sp_bound_pack(bound, s);
        if (!pack || !sp_pack_is_fresh(pack)) {
            SP_TRY(sp_bound_bring(bound, s));
            if (pack) SP_TRY(sp_pack_own(bound, pack));
            SP_TRY(one_step(run, s, now, callbacks));
            if (pack) sp_pack_made(pack);
        }
        sp_bound_drop(bound, s);
    }
    sp_bound_made(bound);
    return SP_OK;
}

/* *changed: since this run was executed last. A plan without weights shares nothing, and may be run while others' are
 * made (of which it may make one: sp_weights_change). */
static sp_status make_stale_weights(sp_run *run, stage_span *now, const sp_callbacks *callbacks, bool *changed)
{
    bool shares = run->plan->parameter_count > 0;
    if (shares) pthread_mutex_lock(&sp_weights_lock);
    sp_status status = SP_OK;
    if ((run->stale[SP_RATE_RUN] && run->slow_boundary) || !sp_bound_is_fresh(run->bound))
        status = make_weights(run, now, callbacks);
    if (!status) run->stale[SP_RATE_RUN] = false;
    *changed = run->generation != run->bound->generation;
    run->generation = run->bound->generation;
    if (shares) pthread_mutex_unlock(&sp_weights_lock);
    return status;
}

sp_status sp_run_make_weights(sp_run *run, const sp_callbacks *callbacks)
{
    SP_TRY(check_bound(run));
    bool changed;
    stage_span now = {.stage = -1};
    SP_TRY(make_stale_weights(run, &now, callbacks, &changed));
    run->stale[SP_RATE_PROMPT] |= changed;
    switch_stage(run, &now, -1);
    return check_sources(run);
}

sp_status sp_run_execute(sp_run *run, const sp_callbacks *callbacks)
{
    SP_TRY(check_ready(run));
    bool stale;
    stage_span now = {.stage = -1};
    SP_TRY(make_stale_weights(run, &now, callbacks, &stale));
    for (int rate = SP_RATE_PROMPT; rate < SP_RATE_COUNT; rate++) {
        stale |= run->stale[rate] || rate == SP_RATE_STEP;
        for (int s = 0; s < run->plan->step_count && stale; s++)
            if ((int)run->plan->steps[s].rate == rate) SP_TRY(one_step(run, s, &now, callbacks));
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
