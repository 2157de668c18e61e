/* Reading files of adapters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/log.h"
#include "checkpoints/lora_parts.h"
#include "checkpoints/model_path.h"

typedef sp_layer_adapter adapter;

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
    *a = (adapter){.component = parsed.kind,
                   .alpha = NAN,
                   .base = sp_strdup(base),
                   .module = parsed.module,
                   .layer = sp_strdup(parsed.layer)};
    lora->peft |= parsed.peft;
    if (!a->base || !a->layer) return SP_MEMORY;
    return sp_dictionary_put(lora->by_base, a->base, a);
}

/* ---- reading ---- */

static sp_status set_alpha(const char *path, adapter *a, const char *name, const sp_tensor *tensor)
{
    if (sp_tensor_count(tensor) != 1)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s, expected one number", path, name,
                       sp_shape_text(tensor->shape));
    a->alpha = sp_load(tensor->data, tensor->dtype, 0);
    if (!isfinite(a->alpha)) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is not finite", path, name);
    return SP_OK;
}

/* Differences of biases and norms, and magnitudes, may be vectors. */
static int least_rank(sp_lora_part part)
{
    return part == SP_LORA_DIFF || part == SP_LORA_DIFF_B || part == SP_LORA_DORA_SCALE || part == SP_LORA_MAGNITUDE
               ? 1
               : 2;
}

static sp_status set_part(const sp_lora *lora, adapter *a, sp_lora_part part, const char *name,
                          const sp_tensor *tensor)
{
    const char *path = sp_tensor_file_path(lora->file);
    if (part == SP_LORA_ALPHA) return set_alpha(path, a, name, tensor);
    if (a->part[part])
        return sp_fail(SP_FORMAT, "%s: two tensors are the %s of \"%s\"", path, sp_lora_part_name((int)part), a->base);
    if (!sp_dtype_is_float(tensor->dtype) || tensor->shape.rank < least_rank(part))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s %s, expected a %s of floats", path, name,
                       sp_dtype_name(tensor->dtype), sp_shape_text(tensor->shape),
                       least_rank(part) == 1 ? "vector" : "matrix");
    sp_status status = sp_tensor_check_finite(tensor, name);
    if (status) return sp_fail_within(status, "%s", path);
    a->part[part] = tensor;
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
    const char *pattern;
    json_t *value;
    char key[64];
    snprintf(key, sizeof key, "%suse_dora", prefix);
    if (json_is_true(json_object_get(json, key)) && a->kind == SP_ADAPTER_LORA && !a->part[SP_LORA_MAGNITUDE] &&
        !a->part[SP_LORA_DORA_SCALE])
        return sp_fail(SP_FORMAT, "%s: says \"%s\", and \"%s\" has no lora_magnitude_vector", where, key, a->base);
    snprintf(key, sizeof key, "%suse_rslora", prefix);
    a->root_scale = json_is_true(json_object_get(json, key));
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
    for (size_t i = 0; i < lora->count && text && !status; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "%s.", sp_component_folder_name(lora->adapters[i].component));
        status = configured_alpha(json, prefix, where, &lora->adapters[i]);
    }
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
        SP_TRY(sp_layer_adapter_check(path, &lora->adapters[i]));
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
        count += lora->adapters[i].component == kind;
    return count;
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
