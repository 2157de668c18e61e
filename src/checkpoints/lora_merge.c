/* Adapters of a file and the layers that they change. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/lora_parts.h"
#include "checkpoints/original.h"

typedef sp_layer_adapter adapter;

static void underscore(char *text)
{
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

/* ---- names of layers ---- */

static const char weight_end[] = ".weight", bias_end[] = ".bias";

/* The component's layers by the names that files have for them, "down_blocks_0_..." and, for a UNet,
 * "input_blocks_1_...", to the names of their weights. */
static sp_status layer_names(const sp_component *component, sp_dictionary *own, sp_dictionary *original)
{
    char name[SP_LORA_MAX_NAME], other[2 * SP_LORA_MAX_NAME];
    for (size_t i = 0; i < sp_weights_count(component->weights); i++) {
        const char *full = sp_weights_name(component->weights, i);
        if (!sp_ends_with(full, weight_end) || strlen(full) >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(full) - strlen(weight_end)), full);
        underscore(name);
        SP_TRY(sp_dictionary_put(own, name, (void *)(uintptr_t)full));
        if (component->config.kind != SP_COMPONENT_UNET ||
            !sp_original_name(&component->config, false, full, other, sizeof other))
            continue;
        other[strlen(other) - strlen(weight_end)] = 0;
        underscore(other);
        SP_TRY(sp_dictionary_put(original, other + strlen("model_diffusion_model_"), (void *)(uintptr_t)full));
    }
    return SP_OK;
}

/* ---- which adapter is for which layer ---- */

enum { SHOWN = 6 }; /* names in a message */

typedef struct {
    sp_lora *lora;
    const sp_component *component;
    sp_dictionary *own, *original;
    sp_dictionary *taken; /* weight's name -> index of its adapter, from 1 */
    const char **names;   /* by adapter: its weight's name; NULL: it is of another component, or passed over */
    size_t count;         /* adapters for the component */
    size_t passed_over;
    sp_string without; /* the first that have no layer */
    size_t without_count;
    const char *family; /* of models that the first of them may be for; NULL: nobody knows */
} matching;

static const char *path_of(const matching *m)
{
    return sp_tensor_file_path(m->lora->file);
}

static const char *part_of(const matching *m)
{
    return sp_component_folder_name(m->component->config.kind);
}

static void add_without(matching *m, const adapter *a)
{
    if (!m->without_count) m->family = sp_lora_layer_family(a->layer);
    if (m->without_count++ < SHOWN)
        sp_string_append_format(&m->without, "%s\"%s\"", m->without.length ? ", " : "", a->base);
}

/* Of two adapters for one layer, one under its name in original checkpoints, diffusers takes the other. */
static sp_status take_layer(matching *m, size_t index, const char *name, bool original)
{
    size_t other = (size_t)(uintptr_t)sp_dictionary_get(m->taken, name);
    const adapter *a = &m->lora->adapters[index], *b = other ? &m->lora->adapters[other - 1] : NULL;
    bool before = b && !sp_dictionary_get(m->own, b->layer);
    if (b && before == original)
        return sp_fail(SP_FORMAT, "%s: \"%s\" and \"%s\" are both for the %s's \"%s\"", path_of(m), b->base, a->base,
                       part_of(m), name);
    m->passed_over += b != NULL;
    if (b && original) return SP_OK;
    if (b) m->names[other - 1] = NULL;
    m->names[index] = name;
    return sp_dictionary_put(m->taken, name, (void *)(uintptr_t)(index + 1));
}

static sp_status match(matching *m)
{
    for (size_t i = 0; i < m->lora->count; i++) {
        const adapter *a = &m->lora->adapters[i];
        if (a->component != m->component->config.kind) continue;
        m->count++;
        const char *own = sp_dictionary_get(m->own, a->layer);
        const char *name = own ? own : sp_dictionary_get(m->original, a->layer);
        if (name)
            SP_TRY(take_layer(m, i, name, !own));
        else
            add_without(m, a);
    }
    if (!m->without_count) return SP_OK;
    /* a model of that family has names of its own kind */
    bool of_it = sp_dictionary_get(m->own, "add_embedding_linear_1") != NULL;
    return sp_fail(SP_FORMAT,
                   "%s: %zu of %zu adapters for the %s are for layers that the one in %s does not have: %s%s%s%s",
                   path_of(m), m->without_count, m->count, part_of(m), m->component->folder,
                   sp_string_text(&m->without), m->without_count > SHOWN ? " and others" : "",
                   m->family && !of_it ? ", a name of " : "",
                   m->family && !of_it ? m->family : "");
}

/* ---- changes ---- */

/* What an adapter does to its layer's weight or bias. */
typedef struct {
    sp_lora *lora; /* held */
    const adapter *adapter;
    sp_device *device;
    double multiplier;
} layer_change;

static sp_status change_weight(void *context, sp_tensor *weight)
{
    const layer_change *c = context;
    SP_TRY(sp_layer_adapter_apply(c->adapter, c->device, c->multiplier, weight));
    for (int i = 0; i < SP_LORA_PARTS; i++)
        if (c->adapter->part[i]) sp_tensor_file_drop(c->lora->file, c->adapter->part[i]);
    return sp_tensor_file_check(c->lora->file);
}

static sp_status change_bias(void *context, sp_tensor *bias)
{
    const layer_change *c = context;
    sp_layer_adapter_apply_bias(c->adapter, c->multiplier, bias);
    return sp_tensor_file_check(c->lora->file);
}

static void release_change(void *context)
{
    sp_lora_close(((layer_change *)context)->lora);
    sp_free(context);
}

typedef struct {
    sp_lora *lora;
    sp_weights *weights;
    sp_device *device;
    double multiplier;
    bool exact;
} merging;

static sp_status change_tensor(const merging *m, const adapter *a, const char *name,
                               sp_status (*apply)(void *context, sp_tensor *weight))
{
    sp_dtype stored = sp_weights_find(m->weights, name)->dtype;
    if (sp_dtype_is_f8(stored)) stored = SP_BF16; /* F8 would lose the adapter */
    layer_change *change = sp_alloc(sizeof *change);
    if (!change) return SP_MEMORY;
    *change = (layer_change){m->lora, a, m->device, m->multiplier};
    m->lora->holders++;
    return sp_weights_change(m->weights, name, m->exact ? SP_F32 : stored,
                             (sp_weight_change){apply, release_change, change});
}

static sp_status merge_bias(const merging *m, const adapter *a, const char *weight)
{
    const char *path = sp_tensor_file_path(m->lora->file);
    char *name = sp_format("%.*s%s", (int)(strlen(weight) - strlen(weight_end)), weight, bias_end);
    const sp_tensor *bias = name ? sp_weights_find(m->weights, name) : NULL, *diff = a->part[SP_LORA_DIFF_B];
    sp_status status = name ? SP_OK : SP_MEMORY;
    if (!status && !bias)
        status = sp_fail(SP_FORMAT, "%s: \"%s\" has a diff_b, and the model's layer has no bias", path, a->base);
    if (!status && sp_tensor_count(bias) != sp_tensor_count(diff))
        status = sp_fail(SP_SHAPE, "%s: \"%s\" has a diff_b %s, and the model's \"%s\" is %s", path, a->base,
                         sp_shape_text(diff->shape), name, sp_shape_text(bias->shape));
    if (!status) status = change_tensor(m, a, name, change_bias);
    sp_free(name);
    return status;
}

static sp_status merge_layer(const merging *m, const adapter *a, const char *name)
{
    sp_shape shape = sp_weights_find(m->weights, name)->shape;
    SP_TRY(sp_layer_adapter_fits(sp_tensor_file_path(m->lora->file), a, name, shape));
    if (a->kind != SP_ADAPTER_DIFF || a->part[SP_LORA_DIFF]) SP_TRY(change_tensor(m, a, name, change_weight));
    return a->part[SP_LORA_DIFF_B] ? merge_bias(m, a, name) : SP_OK;
}

static sp_status merge_matched(const matching *m, const merging *how)
{
    size_t applied = 0;
    for (size_t i = 0; i < m->lora->count; i++) {
        if (!m->names[i]) continue;
        SP_TRY(merge_layer(how, &m->lora->adapters[i], m->names[i]));
        applied++;
    }
    SP_TRY(sp_tensor_file_check(m->lora->file));
    if (m->passed_over)
        sp_log_warn("%s: %zu adapters under names of original checkpoints are passed over, since their layers have "
                    "others under diffusers' names", path_of(m), m->passed_over);
    if (applied)
        sp_log_info("%s: %zu adapter%s applied to the %s", path_of(m), applied, applied == 1 ? "" : "s", part_of(m));
    return SP_OK;
}

sp_status sp_lora_merge(sp_lora *lora, double weight, sp_device *device, sp_component *component, bool exact)
{
    const merging how = {lora, component->weights, device, weight, exact};
    matching m = {.lora = lora,
                  .component = component,
                  .own = sp_dictionary_create(),
                  .original = sp_dictionary_create(),
                  .taken = sp_dictionary_create(),
                  .names = sp_alloc_zero((lora->count + 1) * sizeof *m.names)};
    sp_status status = m.own && m.original && m.taken && m.names ? SP_OK : SP_MEMORY;
    if (!status) status = layer_names(component, m.own, m.original);
    if (!status) status = match(&m);
    if (!status) status = merge_matched(&m, &how);
    sp_dictionary_destroy(m.own);
    sp_dictionary_destroy(m.original);
    sp_dictionary_destroy(m.taken);
    sp_free(m.names);
    sp_string_free(&m.without);
    return status;
}

/* ---- starting from a file ---- */

static const adapter *adapter_of(const sp_lora *lora, const char *layer)
{
    for (size_t i = 0; i < lora->count; i++)
        if (sp_component_is_denoiser(lora->adapters[i].component) &&
            strcmp(lora->adapters[i].layer, layer) == 0)
            return &lora->adapters[i];
    return NULL;
}

static bool is_plain(const adapter *a)
{
    return a->kind == SP_ADAPTER_LORA && !a->part[SP_LORA_MID] && !a->part[SP_LORA_DORA_SCALE] &&
           !a->part[SP_LORA_MAGNITUDE];
}

/* factor times the file's half, in the shape that the graph has. */
static sp_status start_half(const sp_lora *lora, const adapter *a, const sp_tensor *half,
                            double factor, sp_tensor *to)
{
    if (!sp_shape_equal(sp_without_ones(half->shape), sp_without_ones(to->shape)))
        return sp_fail(SP_SHAPE, "%s: a half of \"%s\" is %s, and %s is trained",
                       sp_tensor_file_path(lora->file), a->base, sp_shape_text(half->shape),
                       sp_shape_text(to->shape));
    for (int64_t i = 0; i < sp_tensor_count(to); i++)
        ((float *)to->data)[i] = (float)(factor * sp_load(half->data, half->dtype, i));
    return SP_OK;
}

sp_status sp_lora_start(const sp_lora *lora, const sp_lora_settings *settings, sp_weights *adapters)
{
    static const char down[] = ".lora_A.weight", up[] = ".lora_B.weight";
    char layer[SP_LORA_MAX_NAME];
    size_t used = 0;
    for (size_t i = 0; i < sp_weights_count(adapters); i++) {
        const char *name = sp_weights_name(adapters, i);
        bool is_down = sp_ends_with(name, down);
        if (!is_down && !sp_ends_with(name, up)) continue;
        snprintf(layer, sizeof layer, "%.*s", (int)(strlen(name) - strlen(down)), name);
        underscore(layer);
        const adapter *a = adapter_of(lora, layer);
        if (!a)
            return sp_fail(SP_FORMAT, "%s: has no adapter for \"%s\", which is to be trained",
                           sp_tensor_file_path(lora->file), name);
        if (!is_plain(a))
            return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is more than a LoRA's two halves, which alone are trained",
                           sp_tensor_file_path(lora->file), a->base);
        double factor = is_down ? 1 : sp_layer_adapter_scale(a) * (double)settings->rank / settings->alpha;
        SP_TRY(start_half(lora, a, a->part[is_down ? SP_LORA_DOWN : SP_LORA_UP], factor, sp_weights_at(adapters, i)));
        used += is_down;
    }
    if (used == lora->count) return sp_tensor_file_check(lora->file);
    return sp_fail(SP_FORMAT,
                   "%s: has %zu adapters, and %zu are trained; what is left over would be lost",
                   sp_tensor_file_path(lora->file), lora->count, used);
}
