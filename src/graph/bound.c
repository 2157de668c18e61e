/* Weights bound to a plan, and the packed weights that bound plans share. */
#include <stdlib.h>
#include "graph/bound_internal.h"
#include "graph/graph_internal.h"

pthread_mutex_t sp_weights_lock = PTHREAD_MUTEX_INITIALIZER;

/* All packs of the process, under sp_packs_lock; what is in them is under sp_weights_lock. */
static pthread_mutex_t packs_lock = PTHREAD_MUTEX_INITIALIZER;
static sp_pack *all_packs;
static unsigned long packed_count;

sp_status sp_bound_create(const sp_plan *plan, sp_bound **out)
{
    *out = NULL;
    sp_bound *bound = sp_alloc_zero(sizeof *bound);
    if (!bound) return SP_MEMORY;
    size_t parameters = (size_t)plan->parameter_count + 1;
    bound->plan = plan;
    bound->kept = plan->device->allocate(plan->device, plan->kept_bytes + 1);
    bound->parameters = sp_alloc_zero(parameters * sizeof *bound->parameters);
    bound->residences = sp_alloc_zero(parameters * sizeof *bound->residences);
    bound->sources = sp_alloc_zero(parameters * sizeof *bound->sources);
    bound->transient = sp_alloc_zero(parameters * sizeof *bound->transient);
    bound->versions = sp_alloc_zero(parameters * sizeof *bound->versions);
    bound->packs = sp_alloc_zero(((size_t)plan->pack_count + 1) * sizeof *bound->packs);
    if (!bound->kept || !bound->parameters || !bound->residences || !bound->sources || !bound->transient ||
        !bound->versions || !bound->packs) {
        sp_bound_destroy(bound);
        return sp_fail(SP_MEMORY, "out of memory: weights need %zu MB", plan->kept_bytes >> 20);
    }
    *out = bound;
    return SP_OK;
}

const sp_plan *sp_bound_plan(const sp_bound *bound)
{
    return bound->plan;
}

/* ---- packs ---- */

static sp_pack *find_pack(const sp_residence *residence, const char *name, uint64_t key, size_t bytes)
{
    for (sp_pack *p = all_packs; p; p = p->next)
        if (p->residence == residence && p->key == key && p->bytes == bytes && strcmp(p->name, name) == 0) return p;
    return NULL;
}

/* The memory that it is in, or the mapped pages, which the file can hold. */
static void release_place(sp_pack *pack)
{
    sp_pack_block *block = pack->block;
    if (!block) sp_packed_drop(pack->file, pack->address, pack->bytes);
    if (!block || --block->packs) return;
    block->device->release(block->device, block->memory);
    sp_free(block);
}

static void release_pack(sp_pack *pack)
{
    if (!pack) return;
    pthread_mutex_lock(&packs_lock);
    if (--pack->holders == 0) {
        sp_pack **at = &all_packs;
        while (*at != pack)
            at = &(*at)->next;
        *at = pack->next;
        release_place(pack);
        sp_free(pack->name);
        sp_free(pack);
    }
    pthread_mutex_unlock(&packs_lock);
}

static sp_pack_form form_of(const sp_plan *plan, int pack)
{
    return sp_pack_layout(plan, &plan->steps[plan->pack_step[pack]]);
}

/* The parameter that a pack is made of. */
static int parameter_of(const sp_plan *plan, int pack)
{
    return (int)plan->slots[plan->steps[plan->pack_step[pack]].in[0]].offset;
}

static size_t aligned(const sp_plan *plan, size_t bytes)
{
    size_t unit = plan->device->alignment;
    return (bytes + unit - 1) / unit * unit;
}

/* In a block, or, that being NULL, in a file. */
static sp_status new_pack(sp_bound *bound, int index, sp_pack_block *block, const sp_packed_file *file, void *address)
{
    int parameter = parameter_of(bound->plan, index);
    const sp_pack_form form = form_of(bound->plan, index);
    sp_pack *pack = sp_alloc_zero(sizeof *pack);
    char *name = sp_strdup(bound->plan->parameters[parameter]->name);
    if (!pack || !name) {
        sp_free(pack);
        sp_free(name);
        return SP_MEMORY;
    }
    *pack = (sp_pack){.residence = bound->residences[parameter], .name = name, .key = form.key, .bytes = form.bytes,
                      .address = address, .block = block, .file = file, .holders = 1, .next = all_packs};
    if (block) block->packs++;
    if (file) pack->version = sp_residence_version(pack->residence);
    all_packs = bound->packs[index] = pack;
    return SP_OK;
}

static bool is_of(const sp_plan *plan, int pack, const char *set)
{
    return strcmp(plan->parameters[parameter_of(plan, pack)]->set, set) == 0;
}

/* Packs of `set` that others hold. */
static void hold_packs(sp_bound *bound, const char *set)
{
    const sp_plan *plan = bound->plan;
    for (int i = 0; i < plan->pack_count; i++) {
        int parameter = parameter_of(plan, i);
        const char *name = plan->parameters[parameter]->name;
        const sp_pack_form form = form_of(plan, i);
        if (!is_of(plan, i, set)) continue;
        sp_pack *pack = find_pack(bound->residences[parameter], name, form.key, form.bytes);
        if (pack) pack->holders++;
        bound->packs[i] = pack;
    }
}

/* Packs of `set` that lie in a file. Of weights that have changed since they were opened none does. */
static sp_status map_packs(sp_bound *bound, const char *set, const sp_weights *weights)
{
    const sp_plan *plan = bound->plan;
    sp_packed_place *place = plan->device->packed_terms ? sp_weights_packed(weights) : NULL;
    const sp_packed_file *file =
        place ? sp_packed_place_open(place, plan->device->packed_terms, plan->precision) : NULL;
    int all = 0, changed = 0, other = 0;
    for (int i = 0; i < plan->pack_count && file; i++) {
        if (bound->packs[i] || !is_of(plan, i, set)) continue;
        int parameter = parameter_of(plan, i);
        const char *name = plan->parameters[parameter]->name;
        const sp_pack_form form = form_of(plan, i);
        all++;
        if (!sp_packed_knows(file, name)) continue;
        bool same = sp_weights_is_view(weights, name) && sp_residence_version(bound->residences[parameter]) == 1;
        const void *data = same ? sp_packed_find(file, name, form.key, form.bytes) : NULL;
        changed += !same;
        other += same && !data;
        if (data) SP_TRY(new_pack(bound, i, NULL, file, (void *)(uintptr_t)data));
    }
    if (changed || other) sp_packed_place_miss(place, file, other, changed, all);
    return SP_OK;
}

static size_t missing_bytes(const sp_bound *bound, const char *set)
{
    size_t missing = 0;
    for (int i = 0; i < bound->plan->pack_count; i++)
        if (!bound->packs[i] && is_of(bound->plan, i, set))
            missing += aligned(bound->plan, form_of(bound->plan, i).bytes);
    return missing;
}

static sp_status new_block(sp_device *device, size_t bytes, sp_pack_block **out)
{
    *out = sp_alloc_zero(sizeof **out);
    if (!*out) return SP_MEMORY;
    **out = (sp_pack_block){.device = device, .memory = device->allocate(device, bytes), .packs = 1};
    if ((*out)->memory) return SP_OK;
    sp_free(*out);
    return sp_fail(SP_MEMORY, "out of memory: packed weights need %zu MB", bytes >> 20);
}

/* One block for all packs of `set` that are missing. */
static sp_status add_packs(sp_bound *bound, const char *set, size_t bytes)
{
    const sp_plan *plan = bound->plan;
    sp_device *device = plan->device;
    sp_pack_block *block;
    SP_TRY(new_block(device, bytes, &block));
    sp_status status = SP_OK;
    char *at = block->memory;
    for (int i = 0; i < plan->pack_count && !status; i++) {
        if (bound->packs[i] || !is_of(plan, i, set)) continue;
        status = new_pack(bound, i, block, NULL, at);
        at += aligned(plan, form_of(plan, i).bytes);
    }
    if (--block->packs == 0) { /* none came to be */
        device->release(device, block->memory);
        sp_free(block);
    }
    return status;
}

static sp_status bind_packs(sp_bound *bound, const char *set, const sp_weights *weights)
{
    pthread_mutex_lock(&packs_lock);
    hold_packs(bound, set);
    sp_status status = map_packs(bound, set, weights);
    size_t missing = missing_bytes(bound, set);
    if (!status && missing) status = add_packs(bound, set, missing);
    pthread_mutex_unlock(&packs_lock);
    return status;
}

/* A file's pages are not written: what has to be packed anew lies in memory from then on. */
sp_status sp_pack_own(sp_bound *bound, sp_pack *pack)
{
    if (pack->block) return SP_OK;
    sp_pack_block *block;
    SP_TRY(new_block(bound->plan->device, pack->bytes, &block));
    pthread_mutex_lock(&packs_lock);
    release_place(pack);
    pack->block = block;
    pack->file = NULL;
    pack->address = block->memory;
    pthread_mutex_unlock(&packs_lock);
    return SP_OK;
}

/* ---- for files ---- */

static int by_name(const void *a, const void *b)
{
    const sp_packed_weight *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names ? names : x->key < y->key ? -1 : x->key > y->key;
}

sp_status sp_packs_list(const sp_weights *weights, sp_packed_weight **out, size_t *count)
{
    size_t most = 1;
    *count = 0;
    pthread_mutex_lock(&packs_lock);
    for (const sp_pack *p = all_packs; p; p = p->next)
        most++;
    *out = sp_alloc(most * sizeof **out);
    for (const sp_pack *p = all_packs; p && *out; p = p->next)
        if (sp_residence_weights(p->residence) == weights && sp_pack_is_fresh(p))
            (*out)[(*count)++] = (sp_packed_weight){p->name, p->key, p->bytes, p->address};
    pthread_mutex_unlock(&packs_lock);
    if (!*out) return SP_MEMORY;
    qsort(*out, *count, sizeof **out, by_name);
    return SP_OK;
}

size_t sp_packed_bytes(void)
{
    size_t bytes = 0;
    pthread_mutex_lock(&packs_lock);
    for (const sp_pack *p = all_packs; p; p = p->next)
        bytes += p->block ? p->bytes : 0;
    pthread_mutex_unlock(&packs_lock);
    return bytes;
}

unsigned long sp_packed_count(void)
{
    pthread_mutex_lock(&sp_weights_lock);
    unsigned long count = packed_count;
    pthread_mutex_unlock(&sp_weights_lock);
    return count;
}

sp_pack *sp_bound_pack(const sp_bound *bound, int step)
{
    const sp_step *s = &bound->plan->steps[step];
    if (s->out[0] < 0 || bound->plan->slots[s->out[0]].place != SP_PLACE_PACK) return NULL;
    return bound->packs[bound->plan->slots[s->out[0]].offset];
}

bool sp_pack_is_fresh(const sp_pack *pack)
{
    return pack->version == sp_residence_version(pack->residence);
}

void sp_pack_made(sp_pack *pack)
{
    pack->version = sp_residence_version(pack->residence);
    packed_count++;
}

/* ---- parameters ---- */

/* In memory while steps run that read it: a parameter that steps of RUN rate alone read, of a device of its own memory
 * or of a tensor with changes. */
static bool may_be_transient(const sp_bound *bound, int index)
{
    const sp_plan *plan = bound->plan;
    const sp_value *value = plan->parameters[index];
    int slot = plan->slot_of[value->id], last = plan->slots[slot].last;
    if (last < 0 || !sp_parameter_done(plan, slot, last)) return false;
    if (plan->device->host_visible && !sp_weights_is_changed(bound->sources[index], value->name)) return false;
    for (int i = 0; i < plan->graph->output_count; i++)
        if (plan->slot_of[sp_value_root(plan->graph->outputs[i].value)->id] == slot) return false;
    return true;
}

static void unbind(sp_bound *bound, int index)
{
    sp_device *device = bound->plan->device;
    if (bound->transient[index]) device->release(device, bound->parameters[index]);
    sp_residence_release(bound->residences[index]);
    bound->parameters[index] = NULL;
    bound->residences[index] = NULL;
    bound->transient[index] = false;
    bound->versions[index] = 0;
}

static void release_packs(sp_bound *bound, const char *set)
{
    for (int i = 0; i < bound->plan->pack_count; i++) {
        if (set && strcmp(bound->plan->parameters[parameter_of(bound->plan, i)]->set, set)) continue;
        release_pack(bound->packs[i]);
        bound->packs[i] = NULL;
    }
}

void sp_bound_destroy(sp_bound *bound)
{
    if (!bound) return;
    sp_device *device = bound->plan->device;
    bool made = bound->parameters && bound->residences && bound->sources && bound->transient && bound->versions;
    if (bound->packs) release_packs(bound, NULL);
    for (int i = 0; made && i < bound->plan->parameter_count; i++)
        unbind(bound, i);
    device->release(device, bound->kept);
    sp_free(bound->parameters);
    sp_free(bound->residences);
    sp_free(bound->sources);
    sp_free(bound->transient);
    sp_free(bound->versions);
    sp_free(bound->packs);
    sp_free(bound);
}

static sp_status bind_parameter(sp_bound *bound, int index, const sp_weights *weights)
{
    const sp_value *value = bound->plan->parameters[index];
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
    bound->sources[index] = weights;
    SP_TRY(sp_residence_hold(bound->plan->device, weights, &bound->residences[index]));
    bound->transient[index] = may_be_transient(bound, index);
    if (bound->transient[index]) return SP_OK;
    return sp_residence_place(bound->residences[index], value->name, &bound->parameters[index]);
}

sp_status sp_bind(sp_bound *bound, const char *set, const sp_weights *weights)
{
    const sp_plan *plan = bound->plan;
    release_packs(bound, set);
    for (int i = 0; i < plan->parameter_count; i++) {
        if (strcmp(plan->parameters[i]->set, set)) continue;
        unbind(bound, i);
        SP_TRY(bind_parameter(bound, i, weights));
    }
    return bind_packs(bound, set, weights);
}

void sp_bound_weights_changed(sp_bound *bound)
{
    const sp_residence *last = NULL; /* a set's parameters are neighbours */
    for (int i = 0; i < bound->plan->parameter_count; i++) {
        if (bound->residences[i] && bound->residences[i] != last) sp_residence_update(bound->residences[i]);
        last = bound->residences[i];
    }
}

bool sp_bound_is_fresh(const sp_bound *bound)
{
    for (int i = 0; i < bound->plan->parameter_count; i++)
        if (bound->plan->parameters[i]->rate == SP_RATE_RUN &&
            bound->versions[i] != sp_residence_version(bound->residences[i]))
            return false;
    for (int i = 0; i < bound->plan->pack_count; i++)
        if (!sp_pack_is_fresh(bound->packs[i])) return false;
    return true;
}

void sp_bound_made(sp_bound *bound)
{
    for (int i = 0; i < bound->plan->parameter_count; i++)
        bound->versions[i] = sp_residence_version(bound->residences[i]);
    bound->generation++;
}

sp_status sp_bound_bring(sp_bound *bound, int index)
{
    const sp_plan *plan = bound->plan;
    const sp_step *step = &plan->steps[index];
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        const sp_slot *slot = step->in[i] < 0 ? NULL : &plan->slots[step->in[i]];
        if (!slot || slot->place != SP_PLACE_PARAMETER || bound->parameters[slot->offset]) continue;
        SP_TRY(sp_residence_upload(plan->device, bound->sources[slot->offset], plan->parameters[slot->offset]->name,
                                   &bound->parameters[slot->offset]));
    }
    return SP_OK;
}

/* A weight that has been packed or cast is in memory twice: its file can hold the first. */
void sp_bound_drop(sp_bound *bound, int index)
{
    const sp_plan *plan = bound->plan;
    sp_device *device = plan->device;
    const sp_step *step = &plan->steps[index];
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        if (step->in[i] < 0 || !sp_parameter_done(plan, step->in[i], index)) continue;
        int parameter = (int)plan->slots[step->in[i]].offset;
        sp_weights_drop(bound->sources[parameter], plan->parameters[parameter]->name);
        if (!bound->transient[parameter]) continue;
        device->release(device, bound->parameters[parameter]);
        bound->parameters[parameter] = NULL;
    }
}
