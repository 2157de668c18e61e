/* Reading adapters and merging them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/log.h"
#include "checkpoints/lora.h"
#include "checkpoints/lora_names.h"
#include "checkpoints/model_path.h"
#include "checkpoints/original.h"

typedef struct {
    sp_component_kind kind;
    char *base;    /* the tensors' names without their ends, for messages */
    size_t module; /* where in it the module's own name begins */
    char *layer;   /* as sp_lora_name has it */
    const sp_tensor *down, *up;
    double alpha; /* NAN: none is said */
} adapter;

struct sp_lora {
    sp_tensor_file *file;
    adapter *adapters;
    size_t count;
    sp_dictionary *by_base;
    bool peft; /* some names have PEFT's prefix */
    int holders; /* who opened it, and the weights that it changes */
};

/* The adapter that a tensor is a part of; *out is new if it is the adapter's first. */
static sp_status find_adapter(sp_lora *lora, const char *name, sp_lora_part *part, adapter **out)
{
    sp_lora_name parsed;
    char base[SP_LORA_MAX_NAME];
    if (!sp_lora_name_parse(name, &parsed))
        return sp_lora_name_refuse(sp_tensor_file_path(lora->file), name);
    *part = parsed.part;
    snprintf(base, sizeof base, "%.*s", (int)parsed.base, name);
    *out = sp_dictionary_get(lora->by_base, base);
    if (*out) return SP_OK;
    adapter *a = *out = &lora->adapters[lora->count++];
    *a = (adapter){.kind = parsed.kind,
                   .alpha = NAN,
                   .base = sp_strdup(base),
                   .module = parsed.module,
                   .layer = sp_strdup(parsed.layer)};
    lora->peft |= parsed.peft;
    if (!a->base || !a->layer) return SP_MEMORY;
    return sp_dictionary_put(lora->by_base, a->base, a);
}

static void underscore(char *text)
{
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

/* ---- reading ---- */

static sp_status set_part(const sp_lora *lora, adapter *a, sp_lora_part part, const char *name,
                          const sp_tensor *tensor)
{
    const char *path = sp_tensor_file_path(lora->file);
    if (part == SP_LORA_ALPHA) {
        if (sp_tensor_count(tensor) != 1)
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s, expected one number", path, name,
                           sp_shape_text(tensor->shape));
        a->alpha = sp_load(tensor->data, tensor->dtype, 0);
        if (!isfinite(a->alpha))
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is not finite", path, name);
        return SP_OK;
    }
    const sp_tensor **place = part == SP_LORA_DOWN ? &a->down : &a->up;
    if (*place)
        return sp_fail(SP_FORMAT, "%s: two tensors are the %s half of \"%s\"", path,
                       part == SP_LORA_DOWN ? "down" : "up", a->base);
    if (!sp_dtype_is_float(tensor->dtype) || tensor->shape.rank < 2)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s %s, expected a matrix of floats", path,
                       name, sp_dtype_name(tensor->dtype), sp_shape_text(tensor->shape));
    sp_status status = sp_tensor_check_finite(tensor, name);
    if (status) return sp_fail_within(status, "%s", path);
    *place = tensor;
    return SP_OK;
}

static int64_t rank_of(const adapter *a)
{
    return a->down->shape.dim[0];
}

/* Every adapter has both halves, of one rank; up's kernel is 1x1. */
static sp_status check_adapter(const sp_lora *lora, const adapter *a)
{
    const char *path = sp_tensor_file_path(lora->file);
    if (!a->down || !a->up)
        return sp_fail(SP_FORMAT, "%s: \"%s\" has no %s half", path, a->base,
                       a->down ? "up" : "down");
    const sp_shape up = a->up->shape;
    /* the product of two dimensions of one tensor, which its reader has seen to be a number */
    if (rank_of(a) < 1 || up.dim[0] < 1 || up.dim[1] != rank_of(a) ||
        sp_shape_count(up) != up.dim[0] * up.dim[1])
        return sp_fail(SP_SHAPE, "%s: \"%s\" has the halves %s and %s, which do not go together",
                       path, a->base, sp_shape_text(a->down->shape), sp_shape_text(up));
    return SP_OK;
}

/* A pattern is the end of a module's name, or the whole of it behind "^": what PEFT writes of regular expressions. */
static sp_status pattern_fits(const char *where, const char *key, const char *module, bool *out)
{
    bool whole = key[0] == '^';
    if (whole) key++;
    if (strpbrk(key, "^$*+?[](){}|\\"))
        return sp_fail(SP_UNSUPPORTED, "%s: the pattern \"%s\" is more than a module's name, which is not supported",
                       where, key);
    size_t size = strlen(key), length = strlen(module);
    *out = size <= length && strcmp(module + length - size, key) == 0 &&
           (size == length || (!whole && module[length - size - 1] == '.'));
    return SP_OK;
}

/* The adapter's alpha by a configuration of PEFT's, whose keys begin with `prefix`; unchanged if it says none. */
static sp_status configured_alpha(const json_t *json, const char *prefix, const char *where, adapter *a)
{
    static const char *const unsupported[] = {"use_dora", "use_rslora"};
    const char *pattern;
    json_t *value;
    char key[64];
    for (size_t k = 0; k < sizeof unsupported / sizeof *unsupported; k++) {
        snprintf(key, sizeof key, "%s%s", prefix, unsupported[k]);
        if (json_is_true(json_object_get(json, key)))
            return sp_fail(SP_UNSUPPORTED, "%s: says \"%s\", which is not supported; plain LoRA is", where, key);
    }
    snprintf(key, sizeof key, "%slora_alpha", prefix);
    const json_t *alpha = json_object_get(json, key);
    if (!isnan(a->alpha) || !json_is_number(alpha)) return SP_OK;
    a->alpha = json_number_value(alpha);
    snprintf(key, sizeof key, "%salpha_pattern", prefix);
    json_object_foreach(json_object_get(json, key), pattern, value)
    {
        bool fits = false;
        SP_TRY(pattern_fits(where, pattern, a->base + a->module, &fits));
        if (!fits || !json_is_number(value)) continue;
        a->alpha = json_number_value(value);
        break;
    }
    return SP_OK;
}

/* diffusers keeps PEFT's configuration, and alpha in it, in the file's metadata. */
static sp_status read_metadata(sp_lora *lora)
{
    const char *text = sp_tensor_file_metadata(lora->file, "lora_adapter_metadata");
    char *where = sp_format("%s: the metadata", sp_tensor_file_path(lora->file));
    json_t *json = NULL;
    sp_status status = where ? SP_OK : SP_MEMORY;
    if (!status && text) status = sp_json_parse(text, strlen(text), where, &json);
    for (size_t i = 0; i < lora->count && text && !status; i++)
        status = configured_alpha(json, lora->adapters[i].kind == SP_COMPONENT_UNET ? "unet." : "text_encoder.",
                                  where, &lora->adapters[i]);
    json_decref(json);
    sp_free(where);
    return status;
}

/* PEFT keeps it in adapter_config.json beside the file. */
static sp_status read_adapter_config(sp_lora *lora)
{
    const char *file = sp_tensor_file_path(lora->file), *type;
    char *path = sp_path_beside(file, "adapter_config.json");
    json_t *json = NULL;
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (!status && !sp_path_exists(path))
        sp_log_warn("%s: has PEFT's names, and no adapter_config.json that says alpha is beside it; alpha is taken "
                    "to be the rank", file);
    else if (!status)
        status = sp_json_load(path, &json);
    if (!status && json) status = sp_json_text(json, "peft_type", "LORA", path, &type);
    if (!status && json && strcmp(type, "LORA") != 0)
        status = sp_fail(SP_UNSUPPORTED, "%s: \"peft_type\" is \"%.64s\", and only LORA is supported", path, type);
    for (size_t i = 0; i < lora->count && json && !status; i++)
        status = configured_alpha(json, "", path, &lora->adapters[i]);
    json_decref(json);
    sp_free(path);
    return status;
}

static sp_status read_file(sp_lora *lora, const char *path)
{
    SP_TRY(sp_tensor_file_open(path, &lora->file));
    size_t count = sp_tensor_file_count(lora->file);
    if (!count) return sp_fail(SP_FORMAT, "%s: has no tensors", path);
    lora->by_base = sp_dictionary_create();
    lora->adapters = sp_alloc_zero(count * sizeof *lora->adapters);
    if (!lora->by_base || !lora->adapters) return SP_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *name = sp_tensor_file_name(lora->file, i);
        sp_lora_part part;
        adapter *a;
        SP_TRY(find_adapter(lora, name, &part, &a));
        SP_TRY(set_part(lora, a, part, name, sp_tensor_file_at(lora->file, i)));
    }
    for (size_t i = 0; i < lora->count; i++)
        SP_TRY(check_adapter(lora, &lora->adapters[i]));
    SP_TRY(read_metadata(lora));
    if (lora->peft) SP_TRY(read_adapter_config(lora));
    return sp_tensor_file_check(lora->file);
}

/* ---- a folder ---- */

static bool is_tensor_file(const char *name)
{
    return sp_ends_with(name, ".safetensors");
}

/* What diffusers and PEFT write there, else the only .safetensors. */
static sp_status find_file(const char *folder, char *const *names, size_t count, const char **out)
{
    static const char *const usual[] = {"pytorch_lora_weights.safetensors", "adapter_model.safetensors",
                                        "pytorch_lora_weights.bin", "adapter_model.bin"};
    sp_string found = {0};
    size_t files = 0;
    *out = NULL;
    for (size_t k = 0; k < sizeof usual / sizeof *usual && !*out; k++)
        for (size_t i = 0; i < count; i++)
            if (strcmp(names[i], usual[k]) == 0) *out = names[i];
    if (*out) return SP_OK;
    for (size_t i = 0; i < count; i++) {
        if (!is_tensor_file(names[i])) continue;
        *out = names[i];
        files++;
    }
    if (files == 1) return SP_OK;
    enum { SHOWN = 6 };
    for (size_t i = 0, shown = 0; i < count && shown < SHOWN; i++) {
        if (files && !is_tensor_file(names[i])) continue;
        sp_string_append_format(&found, "%s%s", shown++ ? ", " : "", names[i]);
    }
    sp_status status = sp_fail(
        SP_IO, "%s: is a folder with %s, expected pytorch_lora_weights.safetensors, adapter_model.safetensors or one "
        ".safetensors; there %s %s", folder, files ? "several .safetensors" : "no LoRA",
        files ? "are" : "is", count ? sp_string_text(&found) : "nothing");
    sp_string_free(&found);
    return status;
}

static sp_status file_in_folder(const char *folder, char **out)
{
    char **names;
    const char *name;
    size_t count;
    *out = NULL;
    SP_TRY(sp_list_folder(folder, &names, &count));
    sp_status status = find_file(folder, names, count, &name);
    if (!status) *out = sp_path_join(folder, name);
    if (!status && !*out) status = SP_MEMORY;
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return status;
}

sp_status sp_lora_open(const char *path, sp_lora **out)
{
    *out = NULL;
    char *place, *inside = NULL;
    sp_lora *lora = NULL;
    SP_TRY(sp_model_path(path, &place));
    sp_status status = sp_path_is_folder(place) ? file_in_folder(place, &inside) : SP_OK;
    if (!status && !(lora = sp_alloc_zero(sizeof *lora))) status = SP_MEMORY;
    if (lora) lora->holders = 1;
    if (!status) status = read_file(lora, inside ? inside : place);
    sp_free(inside);
    sp_free(place);
    if (status)
        sp_lora_close(lora);
    else
        *out = lora;
    return status;
}

void sp_lora_close(sp_lora *lora)
{
    if (!lora || --lora->holders) return;
    for (size_t i = 0; i < lora->count; i++) {
        sp_free(lora->adapters[i].base);
        sp_free(lora->adapters[i].layer);
    }
    sp_free(lora->adapters);
    sp_dictionary_destroy(lora->by_base);
    sp_tensor_file_close(lora->file);
    sp_free(lora);
}

const char *sp_lora_scheduler(const sp_lora *lora)
{
    return sp_tensor_file_metadata(lora->file, SP_LORA_SCHEDULER);
}

const char *sp_lora_path(const sp_lora *lora)
{
    return sp_tensor_file_path(lora->file);
}

size_t sp_lora_count(const sp_lora *lora, sp_component_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < lora->count; i++)
        count += lora->adapters[i].kind == kind;
    return count;
}

/* ---- merging ---- */

/* The component's matrices and kernels by the names that files have for them: "down_blocks_0_..."
 * and, for a UNet, "input_blocks_1_...". */
static sp_status layer_names(const sp_component *component, sp_dictionary *out)
{
    static const char end[] = ".weight";
    char name[SP_LORA_MAX_NAME], original[2 * SP_LORA_MAX_NAME];
    for (size_t i = 0; i < sp_weights_count(component->weights); i++) {
        const char *full = sp_weights_name(component->weights, i);
        const sp_tensor *tensor = sp_weights_at(component->weights, i);
        if (!sp_ends_with(full, end) || tensor->shape.rank < 2 || strlen(full) >= sizeof name)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(full) - strlen(end)), full);
        underscore(name);
        SP_TRY(sp_dictionary_put(out, name, (void *)(uintptr_t)full));
        if (component->config.kind != SP_COMPONENT_UNET ||
            !sp_original_name(&component->config, full, original, sizeof original))
            continue;
        original[strlen(original) - strlen(end)] = 0;
        underscore(original);
        const char *tail = original + strlen("model_diffusion_model_");
        if (!sp_dictionary_get(out, tail)) SP_TRY(sp_dictionary_put(out, tail, (void *)(uintptr_t)full));
    }
    return SP_OK;
}

static sp_shape without_ones(sp_shape shape)
{
    while (shape.rank > 2 && shape.dim[shape.rank - 1] == 1)
        shape.dim[--shape.rank] = 0;
    return shape;
}

/* Shapes are equal but for the kernel of a 1x1 convolution, which some files have and some not. */
static sp_status check_layer(const sp_lora *lora, const adapter *a, const char *name,
                             const sp_tensor *weight)
{
    sp_shape down = a->down->shape;
    down.dim[0] = weight->shape.dim[0];
    if (a->up->shape.dim[0] == weight->shape.dim[0] &&
        sp_shape_equal(without_ones(down), without_ones(weight->shape)))
        return SP_OK;
    return sp_fail(SP_SHAPE,
                   "%s: \"%s\" has the halves %s and %s, and the model's \"%s\" is %s: the LoRA is "
                   "of another model",
                   sp_tensor_file_path(lora->file), a->base, sp_shape_text(a->down->shape),
                   sp_shape_text(a->up->shape), name, sp_shape_text(weight->shape));
}

/* What an adapter does to its layer's weight. */
typedef struct {
    sp_lora *lora; /* held */
    const adapter *adapter;
    sp_device *device;
    double scale;
} layer_change;

static sp_status change_layer(void *context, sp_tensor *weight)
{
    const layer_change *c = context;
    const adapter *a = c->adapter;
    SP_TRY(sp_lora_add_product(c->device, a->up, a->down, c->scale, weight));
    sp_tensor_file_drop(c->lora->file, a->up);
    sp_tensor_file_drop(c->lora->file, a->down);
    return sp_tensor_file_check(c->lora->file);
}

static void release_change(void *context)
{
    sp_lora_close(((layer_change *)context)->lora);
    sp_free(context);
}

static sp_status merge_layer(sp_lora *lora, const adapter *a, double weight, sp_device *device,
                             sp_weights *weights, const char *name, bool exact)
{
    sp_dtype stored = sp_weights_find(weights, name)->dtype;
    if (sp_dtype_is_f8(stored)) stored = SP_BF16; /* F8 would lose the adapter */
    double rank = (double)rank_of(a), alpha = isnan(a->alpha) ? rank : a->alpha;
    layer_change *change = sp_alloc(sizeof *change);
    if (!change) return SP_MEMORY;
    *change = (layer_change){lora, a, device, weight * alpha / rank};
    lora->holders++;
    return sp_weights_change(weights, name, exact ? SP_F32 : stored,
                             (sp_weight_change){change_layer, release_change, change});
}

/* The parameter of every adapter for that component, or a failure that counts those without one: names[i] for
 * lora->adapters[i], NULL for another component's. */
static sp_status find_layers(const sp_lora *lora, const sp_component *component, const sp_dictionary *layers,
                             const char **names)
{
    const char *path = sp_tensor_file_path(lora->file), *part = sp_component_folder_name(component->config.kind);
    size_t count = 0, without = 0;
    const adapter *first = NULL;
    sp_dictionary *taken = sp_dictionary_create();
    sp_status status = taken ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < lora->count && !status; i++) {
        adapter *a = &lora->adapters[i];
        if (a->kind != component->config.kind) continue;
        count++;
        names[i] = sp_dictionary_get(layers, a->layer);
        if (!names[i] && !without++) first = a;
        if (!names[i]) continue;
        const adapter *other = sp_dictionary_get(taken, names[i]);
        status = other ? sp_fail(SP_FORMAT, "%s: \"%s\" and \"%s\" are both for the %s's \"%s\"", path, other->base,
                                 a->base, part, names[i])
                       : sp_dictionary_put(taken, names[i], a);
    }
    sp_dictionary_destroy(taken);
    if (status || !without) return status;
    const char *family = sp_lora_layer_family(first->layer);
    return sp_fail(SP_FORMAT,
                   "%s: %zu of %zu adapters for the %s are for layers that the one in %s does not have, the first is "
                   "\"%s\"%s%s",
                   path, without, count, part, component->folder, first->base, family ? ", a name of " : "",
                   family ? family : "");
}

sp_status sp_lora_merge(sp_lora *lora, double weight, sp_device *device, sp_component *component, bool exact)
{
    size_t applied = 0;
    const char **names = sp_alloc_zero((lora->count + 1) * sizeof *names);
    sp_dictionary *layers = sp_dictionary_create();
    sp_status status = names && layers ? layer_names(component, layers) : SP_MEMORY;
    if (!status) status = find_layers(lora, component, layers, names);
    for (size_t i = 0; i < lora->count && !status; i++) {
        const adapter *a = &lora->adapters[i];
        if (!names[i]) continue;
        status = check_layer(lora, a, names[i], sp_weights_find(component->weights, names[i]));
        if (!status) status = merge_layer(lora, a, weight, device, component->weights, names[i], exact);
        applied++;
    }
    sp_dictionary_destroy(layers);
    sp_free(names);
    if (!status) status = sp_tensor_file_check(lora->file);
    if (!status && applied)
        sp_log_info("%s: %zu adapter%s applied to the %s", sp_tensor_file_path(lora->file), applied,
                    applied == 1 ? "" : "s", sp_component_folder_name(component->config.kind));
    return status;
}

/* ---- starting from a file ---- */

static const adapter *find_layer(const sp_lora *lora, const char *layer)
{
    for (size_t i = 0; i < lora->count; i++)
        if (lora->adapters[i].kind == SP_COMPONENT_UNET &&
            strcmp(lora->adapters[i].layer, layer) == 0)
            return &lora->adapters[i];
    return NULL;
}

/* factor times the file's half, in the shape that the graph has. */
static sp_status start_half(const sp_lora *lora, const adapter *a, const sp_tensor *half,
                            double factor, sp_tensor *to)
{
    if (!sp_shape_equal(without_ones(half->shape), without_ones(to->shape)))
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
        const adapter *a = find_layer(lora, layer);
        if (!a)
            return sp_fail(SP_FORMAT, "%s: has no adapter for \"%s\", which is to be trained",
                           sp_tensor_file_path(lora->file), name);
        double rank = (double)rank_of(a), alpha = isnan(a->alpha) ? rank : a->alpha;
        double factor = is_down ? 1 : alpha / rank * (double)settings->rank / settings->alpha;
        SP_TRY(start_half(lora, a, is_down ? a->down : a->up, factor, sp_weights_at(adapters, i)));
        used += is_down;
    }
    if (used == lora->count) return sp_tensor_file_check(lora->file);
    return sp_fail(SP_FORMAT,
                   "%s: has %zu adapters, and %zu are trained; what is left over would be lost",
                   sp_tensor_file_path(lora->file), lora->count, used);
}

/* ---- lists ---- */

sp_status sp_lora_list_open(const splam_lora *sources, size_t count, const sp_callbacks *callbacks, sp_lora_list *out)
{
    *out = (sp_lora_list){.sources = sources, .count = count};
    out->files = sp_alloc_zero((count + 1) * sizeof(sp_lora *));
    sp_status status = out->files ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < count && !status; i++) {
        status = sp_check_cancelled(callbacks);
        if (!status) status = sp_lora_open(sources[i].path, &out->files[i]);
    }
    if (status) sp_lora_list_close(out);
    return status;
}

void sp_lora_list_close(sp_lora_list *list)
{
    for (size_t i = 0; i < list->count && list->files; i++)
        sp_lora_close(list->files[i]);
    sp_free(list->files);
    *list = (sp_lora_list){0};
}

sp_status sp_lora_list_check(const sp_lora_list *list, const bool *has)
{
    for (size_t i = 0; i < list->count; i++)
        for (int kind = 0; kind < SP_COMPONENT_COUNT; kind++) {
            size_t count = sp_lora_count(list->files[i], (sp_component_kind)kind);
            if (count && !has[kind])
                return sp_fail(SP_ARGUMENT, "%s: has %zu adapter%s for the %s, which is not there",
                               list->sources[i].path, count, count == 1 ? "" : "s",
                               sp_component_folder_name((sp_component_kind)kind));
        }
    return SP_OK;
}

sp_status sp_lora_list_merge(const sp_lora_list *list, sp_device *device, sp_component *component, bool exact)
{
    for (size_t i = 0; i < list->count; i++)
        SP_TRY(sp_lora_merge(list->files[i], list->sources[i].weight, device, component, exact));
    return SP_OK;
}
