/* Reading adapters and merging them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "models/lora.h"
#include "models/original.h"

enum { MAX_NAME = 512 };

typedef struct {
    sp_component_kind kind;
    char *base;  /* the tensors' names without their ends, for messages */
    char *layer; /* without the component, "_" for "." */
    const sp_tensor *down, *up;
    double alpha; /* NAN: none is said */
} adapter;

struct sp_lora {
    sp_tensor_file *file;
    adapter *adapters;
    size_t count;
    sp_map *by_base;
};

/* ---- names ---- */

typedef enum { PART_DOWN, PART_UP, PART_ALPHA } part_kind;
static const struct {
    const char *end;
    part_kind part;
} parts[] = {
    {".lora_A.weight", PART_DOWN},    {".lora_B.weight", PART_UP},
    {".lora_down.weight", PART_DOWN}, {".lora_up.weight", PART_UP},
    {".lora.down.weight", PART_DOWN}, {".lora.up.weight", PART_UP},
    {".alpha", PART_ALPHA},
};

/* Anywhere in a name: what it is a sign of. */
static const struct {
    const char *sign, *what;
} refused[] = {
    {".dora_scale", "DoRA"},
    {"lora_magnitude_vector", "DoRA"},
    {".hada_", "LoHa"},
    {".lokr_", "LoKr"},
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".on_input", "IA3"},
    {".lora_mid.", "a LoRA with a middle factor (Tucker)"},
    {".lora_embedding_", "a LoRA of an embedding"},
    {".lora_B.bias", "a LoRA with biases"},
    {".diff", "a difference of whole weights"},
    {".w_norm", "a difference of norms"},
    {".b_norm", "a difference of norms"},
    {"lora_te2_", "a LoRA of Stable Diffusion XL"},
    {"text_encoder_2.", "a LoRA of Stable Diffusion XL"},
    {"transformer.", "a LoRA of a diffusion transformer"},
};

static const struct {
    const char *begin;
    sp_component_kind kind;
} prefixes[] = {
    {"lora_unet_", SP_COMPONENT_UNET},
    {"unet.", SP_COMPONENT_UNET},
    {"lora_te_", SP_COMPONENT_TEXT_ENCODER},
    {"lora_te1_", SP_COMPONENT_TEXT_ENCODER},
    {"text_encoder.", SP_COMPONENT_TEXT_ENCODER},
};

static void underscore(char *text)
{
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

static sp_status refuse(const sp_lora *lora, const char *name)
{
    const char *path = sp_tensor_file_path(lora->file);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strstr(name, refused[i].sign))
            return sp_fail(SP_UNSUPPORTED,
                           "%s: tensor \"%s\" is of %s, which is not supported; plain LoRA is",
                           path, name, refused[i].what);
    return sp_fail(
        SP_FORMAT,
        "%s: tensor \"%s\" is not of a LoRA: names such as "
        "\"unet.LAYER.lora_A.weight\" and \"lora_unet_LAYER.lora_down.weight\" are known",
        path, name);
}

/* Which part of which adapter a tensor is; *out is new if it is the adapter's first. */
static sp_status find_adapter(sp_lora *lora, const char *name, part_kind *part, adapter **out)
{
    static const char text_prefix[] = "text_model_";
    char base[MAX_NAME];
    size_t end = 0, prefix = 0, ends = sizeof parts / sizeof *parts,
           prefix_count = sizeof prefixes / sizeof *prefixes;
    while (end < ends && !sp_ends_with(name, parts[end].end))
        end++;
    while (prefix < prefix_count && !sp_starts_with(name, prefixes[prefix].begin))
        prefix++;
    if (end == ends || prefix == prefix_count || strlen(name) >= sizeof base)
        return refuse(lora, name);
    *part = parts[end].part;
    snprintf(base, sizeof base, "%.*s", (int)(strlen(name) - strlen(parts[end].end)), name);
    *out = sp_map_get(lora->by_base, base);
    if (*out) return SP_OK;
    adapter *a = *out = &lora->adapters[lora->count++];
    *a = (adapter){.kind = prefixes[prefix].kind, .alpha = NAN, .base = sp_strdup(base)};
    const char *layer = base + strlen(prefixes[prefix].begin);
    underscore(base);
    if (a->kind == SP_COMPONENT_TEXT_ENCODER && sp_starts_with(layer, text_prefix))
        layer += strlen(text_prefix);
    a->layer = sp_strdup(layer);
    if (!a->base || !a->layer) return SP_MEMORY;
    return sp_map_put(lora->by_base, a->base, a);
}

/* ---- reading ---- */

static sp_status set_part(const sp_lora *lora, adapter *a, part_kind part, const char *name,
                          const sp_tensor *tensor)
{
    const char *path = sp_tensor_file_path(lora->file);
    if (part == PART_ALPHA) {
        if (sp_tensor_count(tensor) != 1)
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s, expected one number", path, name,
                           sp_shape_text(tensor->shape));
        a->alpha = sp_load(tensor->data, tensor->dtype, 0);
        if (!isfinite(a->alpha))
            return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is not finite", path, name);
        return SP_OK;
    }
    const sp_tensor **place = part == PART_DOWN ? &a->down : &a->up;
    if (*place)
        return sp_fail(SP_FORMAT, "%s: two tensors are the %s half of \"%s\"", path,
                       part == PART_DOWN ? "down" : "up", a->base);
    bool real = tensor->dtype == SP_F32 || tensor->dtype == SP_F16 || tensor->dtype == SP_BF16 ||
                tensor->dtype == SP_F64;
    if (!real || tensor->shape.rank < 2)
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
    if (rank_of(a) < 1 || up.dim[0] < 1 || sp_shape_count(up) != up.dim[0] * rank_of(a) ||
        up.dim[1] != rank_of(a))
        return sp_fail(SP_SHAPE, "%s: \"%s\" has the halves %s and %s, which do not go together",
                       path, a->base, sp_shape_text(a->down->shape), sp_shape_text(up));
    return SP_OK;
}

/* The value of the entry of `patterns` whose key is the layer's name or its end, else `fallback`. */
static double pattern_value(const json_t *patterns, const char *base, double fallback)
{
    const char *key;
    json_t *value;
    size_t length = strlen(base);
    json_object_foreach((json_t *)patterns, key, value)
    {
        size_t size = strlen(key);
        bool ends = size <= length && strcmp(base + length - size, key) == 0 &&
                    (size == length || base[length - size - 1] == '.');
        if (ends && json_is_number(value)) return json_number_value(value);
    }
    return fallback;
}

/* diffusers keeps PEFT's configuration, and alpha in it, in the file's metadata. */
static sp_status read_alphas(sp_lora *lora)
{
    const char *text = sp_tensor_file_metadata(lora->file, "lora_adapter_metadata"),
               *path = sp_tensor_file_path(lora->file);
    if (!text) return SP_OK;
    json_t *json;
    SP_TRY(sp_json_parse(text, strlen(text), path, &json));
    sp_status status = SP_OK;
    for (size_t i = 0; i < lora->count && !status; i++) {
        adapter *a = &lora->adapters[i];
        const char *prefix = a->kind == SP_COMPONENT_UNET ? "unet" : "text_encoder";
        char key[64];
        const char *const unsupported[] = {"use_dora", "use_rslora"};
        for (size_t k = 0; k < 2 && !status; k++) {
            snprintf(key, sizeof key, "%s.%s", prefix, unsupported[k]);
            if (json_is_true(json_object_get(json, key)))
                status = sp_fail(SP_UNSUPPORTED,
                                 "%s: the metadata says \"%s\", which is not "
                                 "supported; plain LoRA is",
                                 path, key);
        }
        snprintf(key, sizeof key, "%s.lora_alpha", prefix);
        const json_t *alpha = json_object_get(json, key);
        if (!isnan(a->alpha) || !json_is_number(alpha)) continue;
        snprintf(key, sizeof key, "%s.alpha_pattern", prefix);
        a->alpha = pattern_value(json_object_get(json, key), a->base, json_number_value(alpha));
    }
    json_decref(json);
    return status;
}

static sp_status read_file(sp_lora *lora, const char *path)
{
    SP_TRY(sp_tensor_file_open(path, &lora->file));
    size_t count = sp_tensor_file_count(lora->file);
    if (!count) return sp_fail(SP_FORMAT, "%s: has no tensors", path);
    lora->by_base = sp_map_create();
    lora->adapters = sp_alloc_zero(count * sizeof *lora->adapters);
    if (!lora->by_base || !lora->adapters) return SP_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *name = sp_tensor_file_name(lora->file, i);
        part_kind part;
        adapter *a;
        SP_TRY(find_adapter(lora, name, &part, &a));
        SP_TRY(set_part(lora, a, part, name, sp_tensor_file_at(lora->file, i)));
    }
    for (size_t i = 0; i < lora->count; i++)
        SP_TRY(check_adapter(lora, &lora->adapters[i]));
    return read_alphas(lora);
}

sp_status sp_lora_open(const char *path, sp_lora **out)
{
    *out = NULL;
    if (sp_path_is_folder(path))
        return sp_fail(SP_IO, "%s: is a folder; name the file in it that holds the LoRA", path);
    sp_lora *lora = sp_alloc_zero(sizeof *lora);
    if (!lora) return SP_MEMORY;
    sp_status status = read_file(lora, path);
    if (status)
        sp_lora_close(lora);
    else
        *out = lora;
    return status;
}

void sp_lora_close(sp_lora *lora)
{
    if (!lora) return;
    for (size_t i = 0; i < lora->count; i++) {
        sp_free(lora->adapters[i].base);
        sp_free(lora->adapters[i].layer);
    }
    sp_free(lora->adapters);
    sp_map_destroy(lora->by_base);
    sp_tensor_file_close(lora->file);
    sp_free(lora);
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
static sp_status layer_names(const sp_component *component, sp_map *out)
{
    static const char end[] = ".weight";
    char name[MAX_NAME], original[2 * MAX_NAME];
    for (size_t i = 0; i < sp_weights_count(component->weights); i++) {
        const char *full = sp_weights_name(component->weights, i);
        const sp_tensor *tensor = sp_weights_at(component->weights, i);
        if (!sp_ends_with(full, end) || tensor->shape.rank < 2 || strlen(full) >= sizeof name)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(full) - strlen(end)), full);
        underscore(name);
        SP_TRY(sp_map_put(out, name, (void *)(uintptr_t)full));
        if (component->config.kind != SP_COMPONENT_UNET ||
            !sp_original_name(&component->config, full, original, sizeof original))
            continue;
        original[strlen(original) - strlen(end)] = 0;
        underscore(original);
        const char *tail = original + strlen("model_diffusion_model_");
        if (!sp_map_get(out, tail)) SP_TRY(sp_map_put(out, tail, (void *)(uintptr_t)full));
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

static sp_status merge_layer(const adapter *a, double weight, sp_backend *backend,
                             sp_component *component, const char *name, bool exact)
{
    const sp_tensor *before = sp_weights_find(component->weights, name);
    double rank = (double)rank_of(a), alpha = isnan(a->alpha) ? rank : a->alpha;
    sp_tensor merged;
    SP_TRY(sp_lora_add_product(backend, before, a->up, a->down, weight * alpha / rank,
                               exact ? SP_F32 : before->dtype, &merged));
    sp_weights_drop(component->weights, name);
    return sp_weights_add(component->weights, name, merged);
}

sp_status sp_lora_merge(const sp_lora *lora, double weight, sp_backend *backend,
                        sp_component *component, bool exact)
{
    sp_map *layers = sp_map_create();
    sp_status status = layers ? layer_names(component, layers) : SP_MEMORY;
    for (size_t i = 0; i < lora->count && !status; i++) {
        const adapter *a = &lora->adapters[i];
        if (a->kind != component->config.kind) continue;
        const char *name = sp_map_get(layers, a->layer);
        if (!name) {
            status = sp_fail(SP_FORMAT, "%s: \"%s\" is for a layer that the %s in %s does not have",
                             sp_tensor_file_path(lora->file), a->base,
                             sp_component_folder_name(a->kind), component->folder);
            break;
        }
        status = check_layer(lora, a, name, sp_weights_find(component->weights, name));
        if (!status) status = merge_layer(a, weight, backend, component, name, exact);
    }
    sp_map_destroy(layers);
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
    char layer[MAX_NAME];
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
    if (used == lora->count) return SP_OK;
    return sp_fail(SP_FORMAT,
                   "%s: has %zu adapters, and %zu are trained; what is left over would be lost",
                   sp_tensor_file_path(lora->file), lora->count, used);
}

/* ---- lists ---- */

sp_status sp_lora_list_open(const sp_lora_source *sources, size_t count, sp_lora_list *out)
{
    *out = (sp_lora_list){.sources = sources, .count = count};
    out->files = sp_alloc_zero((count + 1) * sizeof(sp_lora *));
    sp_status status = out->files ? SP_OK : SP_MEMORY;
    for (size_t i = 0; i < count && !status; i++)
        status = sp_lora_open(sources[i].path, &out->files[i]);
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

sp_status sp_lora_list_merge(const sp_lora_list *list, sp_backend *backend, sp_component *component,
                             bool exact)
{
    for (size_t i = 0; i < list->count; i++)
        SP_TRY(sp_lora_merge(list->files[i], list->sources[i].weight, backend, component, exact));
    return SP_OK;
}
