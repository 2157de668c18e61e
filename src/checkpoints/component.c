/* A component opened: config, weights, and both held against the graph. */
#include "checkpoints/component.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/model_path.h"
#include "checkpoints/original.h"
#include "checkpoints/recognise.h"
#include "checkpoints/rename.h"
#include "checkpoints/scaled_weights.h"
#include "checkpoints/vae_file.h"
#include "models/quantise.h"

enum { MAX_NETWORKS = 2 };
static const struct {
    const char *folder, *class_name, *base, *torch_base;
    const sp_network *network[MAX_NETWORKS]; /* all of one config; a VAE is two */
} kinds[SP_COMPONENT_COUNT] = {
#define X(name, folder, class_name, base, torch_base, ...) {folder, class_name, base, torch_base, {__VA_ARGS__}},
    SP_COMPONENT_LIST(X)
#undef X
};

const char *sp_component_folder_name(sp_component_kind kind)
{
    return kinds[kind].folder;
}

const char *sp_component_class_name(sp_component_kind kind)
{
    return kinds[kind].class_name;
}

bool sp_component_is_text(sp_component_kind kind)
{
    return kind == SP_COMPONENT_TEXT_ENCODER || kind == SP_COMPONENT_TEXT_ENCODER_2;
}

bool sp_component_is_denoiser(sp_component_kind kind)
{
    return kind == SP_COMPONENT_UNET || kind == SP_COMPONENT_TRANSFORMER;
}

int sp_component_kind_of(const char *folder_name)
{
    for (int i = 0; i < SP_COMPONENT_COUNT; i++) {
        size_t length = strlen(kinds[i].folder);
        bool begins = strncmp(folder_name, kinds[i].folder, length) == 0;
        if (begins && (!folder_name[length] || strcmp(folder_name + length, "_ema") == 0)) return i;
    }
    return -1;
}

/* ---- configuration ---- */

/* What the config says it is: diffusers' _class_name or transformers' architectures; NULL if it
 * does not say. */
static const char *class_of(const json_t *config)
{
    const json_t *name = json_object_get(config, "_class_name");
    if (!name) name = json_array_get(json_object_get(config, "architectures"), 0);
    return json_string_value(name);
}

/* Other classes that a component may be. */
static const struct {
    sp_component_kind kind;
    const char *class_name;
} other_classes[] = {
    {SP_COMPONENT_VAE, "AutoencoderTiny"},
    {SP_COMPONENT_TEXT_ENCODER, "CLIPTextModelWithProjection"},
    {SP_COMPONENT_TEXT_ENCODER, "CLIPModel"},
};

static bool is_class_of(int kind, const char *class_name)
{
    bool is = strcmp(class_name, kinds[kind].class_name) == 0;
    for (size_t i = 0; i < sizeof other_classes / sizeof *other_classes; i++)
        is = is || ((int)other_classes[i].kind == kind && strcmp(class_name, other_classes[i].class_name) == 0);
    return is;
}

int sp_component_kind_of_class(const char *class_name)
{
    for (int i = 0; i < SP_COMPONENT_COUNT; i++)
        if (is_class_of(i, class_name)) return i;
    return -1;
}

sp_status sp_component_check_class(sp_component_kind kind, const char *found, const char *where)
{
    if (!found || is_class_of((int)kind, found)) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the %s is a %.64s, and only %s is supported", where,
                   kinds[kind].folder, found,
                   kind == SP_COMPONENT_VAE ? "AutoencoderKL or AutoencoderTiny"
                                            : kinds[kind].class_name);
}

static void *config_space(sp_component_config *config)
{
    return &config->unet; /* where every member of a union begins */
}

const void *sp_component_config_of(const sp_component_config *config)
{
    return &config->unet;
}

sp_status sp_component_config_read(sp_component_kind kind, const json_t *config, const char *where,
                                   sp_component_config *out)
{
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", where);
    SP_TRY(sp_component_check_class(kind, class_of(config), where));
    out->kind = kind;
    return kinds[kind].network[0]->read(config, where, config_space(out));
}

static json_t *write_text(const sp_component_config *config)
{
    json_t *json = sp_clip_text_config_write(&config->text);
    json_t *classes = json_pack("[s]", sp_component_class_name(config->kind));
    if (json_object_set_new(json, "architectures", classes) == 0) return json;
    json_decref(json);
    return NULL;
}

json_t *sp_component_config_write(const sp_component_config *config)
{
    switch (config->kind) {
    case SP_COMPONENT_UNET:
        return sp_unet_config_write(&config->unet);
    case SP_COMPONENT_TRANSFORMER:
        return sp_mmdit_config_write(&config->transformer);
    case SP_COMPONENT_VAE:
        return sp_vae_config_write(&config->vae);
    default:
        return write_text(config);
    }
}

/* ---- the graph of all parameters ---- */

static void build_least(sp_builder *b, const sp_component_config *config)
{
    for (int i = 0; i < MAX_NETWORKS && kinds[config->kind].network[i]; i++) {
        const sp_network_use use = {.network = kinds[config->kind].network[i],
                                    .config = sp_component_config_of(config)};
        const sp_network_sizes sizes = sp_network_least(use.network, use.config);
        sp_network_alone(b, &use, &sizes);
    }
}

sp_status sp_component_graph(const sp_component_config *config, sp_graph **out)
{
    return sp_component_adapted_graph(config, NULL, out);
}

sp_status sp_component_adapted_graph(const sp_component_config *config, const sp_adapter *adapter,
                                     sp_graph **out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    if (adapter) sp_set_enter_over(b, "adapter", SP_RATE_STEP, adapter);
    build_least(b, config);
    sp_status status = sp_builder_finish(b, out);
    sp_builder_destroy(b);
    return status;
}

int64_t sp_graph_parameter_count(const sp_graph *graph)
{
    int64_t count = 0;
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER)
            count += sp_shape_count(graph->values[i]->shape);
    return count;
}

/* ---- opening ---- */

static sp_status fail_missing(const sp_component *component, const sp_graph *graph, const char *name)
{
    size_t matched = 0, all = 0;
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER) continue;
        const sp_tensor *tensor = sp_weights_find(component->weights, value->name);
        matched += tensor && sp_shape_equal(tensor->shape, value->shape);
        all++;
    }
    return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing; %zu tensors of %zu matched",
                   sp_tensor_file_path(component->file), name, matched, all);
}

/* Every parameter of the graph must be among the weights; *used counts them. */
static sp_status check_parameters(const sp_component *component, const sp_graph *graph,
                                  sp_dictionary *used)
{
    const char *path = sp_tensor_file_path(component->file);
    for (int i = 0; i < graph->value_count; i++) {
        sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER) continue;
        const sp_tensor *tensor = sp_weights_find(component->weights, value->name);
        if (!tensor) return fail_missing(component, graph, value->name);
        if (!sp_shape_equal(tensor->shape, value->shape))
            return sp_fail(SP_SHAPE,
                           "%s: tensor \"%s\" has the shape %s, and the config asks for %s", path,
                           value->name, sp_shape_text(tensor->shape), sp_shape_text(value->shape));
        if (!sp_dtype_is_float(tensor->dtype) && !sp_dtype_is_quantised(tensor->dtype))
            return sp_fail(SP_FORMAT,
                           "%s: tensor \"%s\" has the type %s, and weights must be of a float type",
                           path, value->name, sp_dtype_name(tensor->dtype));
        SP_TRY(sp_dictionary_put(used, value->name, value));
    }
    return SP_OK;
}

static sp_status check_weights(const sp_component *component)
{
    sp_graph *graph;
    SP_TRY(sp_scaled_weights_refuse(component->file));
    SP_TRY(sp_component_graph(&component->config, &graph));
    sp_dictionary *used = sp_dictionary_create();
    sp_status status = used ? check_parameters(component, graph, used) : SP_MEMORY;
    size_t unused = 0;
    const char *first = NULL;
    for (size_t i = 0; status == SP_OK && i < sp_weights_count(component->weights); i++) {
        const char *name = sp_weights_name(component->weights, i);
        if (sp_dictionary_get(used, name)) continue;
        if (!unused++) first = name;
    }
    if (unused)
        sp_log_warn("%s: %zu tensor%s in the file %s not used by this model, first \"%s\"",
                    sp_tensor_file_path(component->file), unused, unused == 1 ? "" : "s",
                    unused == 1 ? "is" : "are", first);
    sp_dictionary_destroy(used);
    if (!status) status = sp_quantise_weights(graph, component->weights, false);
    sp_graph_destroy(graph);
    return status;
}

sp_status sp_component_quantise(sp_component *component)
{
    sp_graph *graph;
    SP_TRY(sp_component_graph(&component->config, &graph));
    sp_status status = sp_quantise_weights(graph, component->weights, true);
    sp_graph_destroy(graph);
    return status;
}

/* The folder that holds the component: MODEL/COMPONENT, or MODEL itself. */
static sp_status find_folder(const char *model_folder, const char *component, char **out)
{
    *out = NULL;
    char *inside = sp_path_join(model_folder, component);
    char *own_config = sp_path_join(model_folder, "config.json");
    sp_status status = SP_OK;
    if (!inside || !own_config) {
        status = SP_MEMORY;
    } else if (sp_path_is_folder(inside)) {
        *out = inside;
        inside = NULL;
    } else if (sp_path_exists(own_config)) {
        *out = sp_strdup(model_folder);
        status = *out ? SP_OK : SP_MEMORY;
    } else {
        char what[256];
        sp_recognise(model_folder, what, sizeof what);
        status = sp_fail(SP_IO, "%s: is %s%shas neither a folder \"%s\" nor a config.json of its own", model_folder,
                         *what ? what : "a folder", *what ? ", and " : " that ", component);
    }
    sp_free(inside);
    sp_free(own_config);
    return status;
}

static sp_status open_in_folder(sp_component *component, sp_component_kind kind, const char *model,
                                const char *name)
{
    SP_TRY(find_folder(model, name, &component->folder));
    char *path = sp_path_join(component->folder, "config.json");
    if (!path) return SP_MEMORY;
    sp_status status = sp_json_load(path, &component->json);
    if (status == SP_OK)
        status = sp_component_config_read(kind, component->json, path, &component->config);
    sp_free(path);
    SP_TRY(status);
    SP_TRY(sp_tensor_file_open_folder(component->folder, kinds[kind].base, kinds[kind].torch_base,
                                      &component->file));
    SP_TRY(sp_weights_create(&component->weights));
    return sp_add_renamed(component->weights, component->file, kind);
}

static sp_status open_vae_file(sp_component *component)
{
    char *where;
    sp_status status = sp_vae_file_config(component->file, &component->json, &where);
    if (!status) status = sp_component_config_read(SP_COMPONENT_VAE, component->json, where, &component->config);
    sp_free(where);
    SP_TRY(status);
    SP_TRY(sp_weights_create(&component->weights));
    return sp_add_vae_file(component->weights, component->file);
}

static sp_status open_in_file(sp_component *component, sp_component_kind kind, const char *path,
                              const char *prediction)
{
    const sp_component_kind place = component->place;
    component->folder = sp_strdup(path);
    if (!component->folder) return SP_MEMORY;
    SP_TRY(sp_tensor_file_open(path, &component->file));
    if (kind == SP_COMPONENT_VAE && sp_vae_file_kind_of(component->file)) return open_vae_file(component);
    const char *other = sp_original_has(component->file, place) ? NULL : sp_recognise_tensors(component->file);
    if (other) return sp_fail(SP_UNSUPPORTED, "%s: is %s, expected a %s", path, other, kinds[place].folder);
    SP_TRY(sp_original_config(component->file, place, prediction, &component->json));
    SP_TRY(sp_component_config_read(kind, component->json, path, &component->config));
    SP_TRY(sp_weights_create(&component->weights));
    return sp_add_original(component->weights, component->file, place);
}

/* Packed weights lie in the component's own folder, or beside a file of several. */
static sp_status set_packed(sp_component *component, const char *name, bool in_folder)
{
    char *prefix = in_folder ? sp_path_join(component->folder, "") : sp_format("%s.%s-", component->folder, name);
    sp_status status = prefix ? sp_weights_set_packed(component->weights, prefix) : SP_MEMORY;
    sp_free(prefix);
    return status;
}

sp_status sp_component_open_kind(const char *model, const char *name, sp_component_kind kind, const char *prediction,
                                 sp_component **out)
{
    *out = NULL;
    if (!sp_path_exists(model)) return sp_fail(SP_IO, "%s: no such file or folder", model);
    char *path;
    SP_TRY(sp_model_path(model, &path));
    bool in_folder = sp_path_is_folder(path);
    sp_component *component = sp_alloc_zero(sizeof *component);
    sp_status status = component ? SP_OK : SP_MEMORY;
    if (component) component->place = (sp_component_kind)sp_component_kind_of(name);
    if (status == SP_OK && in_folder)
        status = open_in_folder(component, kind, path, name);
    else if (status == SP_OK && strcmp(name, kinds[component->place].folder) != 0)
        status = sp_fail(SP_IO, "%s: is one file, which has no %s", path, name);
    else if (status == SP_OK)
        status = open_in_file(component, kind, path, prediction);
    sp_free(path);
    if (status == SP_OK) status = check_weights(component);
    if (status == SP_OK) status = set_packed(component, name, in_folder);
    if (status != SP_OK) {
        sp_component_close(component);
        return status;
    }
    *out = component;
    return SP_OK;
}

sp_status sp_component_open_as(const char *model, const char *name, const char *prediction,
                               sp_component **out)
{
    int kind = sp_component_kind_of(name);
    *out = NULL;
    if (kind < 0)
        return sp_fail(SP_ARGUMENT,
                       "\"%s\" is no component: unet, transformer, vae, text_encoder and text_encoder_2 are", name);
    return sp_component_open_kind(model, name, (sp_component_kind)kind, prediction, out);
}

sp_status sp_component_open(const char *model, const char *name, sp_component **out)
{
    return sp_component_open_as(model, name, NULL, out);
}

uint64_t sp_component_hash(const sp_component *component)
{
    uint64_t hash = SP_HASH_START;
    for (size_t i = 0; i < sp_weights_count(component->weights); i++)
        hash = sp_tensor_hash(hash, sp_weights_name(component->weights, i), sp_weights_stored(component->weights, i));
    return hash;
}

void sp_component_close(sp_component *component)
{
    if (!component) return;
    sp_weights_destroy(component->weights);
    sp_tensor_file_close(component->file);
    json_decref(component->json);
    sp_free(component->folder);
    sp_free(component);
}

void sp_component_drop_pages(const sp_component *component)
{
    for (size_t i = 0; i < sp_tensor_file_count(component->file); i++)
        sp_tensor_file_drop(component->file, sp_tensor_file_at(component->file, i));
}

/* ---- saving ---- */

static sp_status save_weights(const char *folder, sp_component_kind kind, const sp_weights *weights,
                              sp_dtype dtype, const sp_callbacks *callbacks)
{
    static const char *const metadata[][2] = {{"format", "pt"}};
    char *path = sp_format("%s/%s.safetensors", folder, kinds[kind].base);
    if (!path) return SP_MEMORY;
    sp_weights *named = NULL;
    sp_status status = SP_OK;
    if (sp_component_is_text(kind)) status = sp_add_prefixed(weights, &named);
    if (status == SP_OK)
        status = sp_weights_save(named ? named : weights, path, dtype, metadata, 1, callbacks);
    sp_weights_destroy(named);
    sp_free(path);
    return status;
}

sp_status sp_component_save(const char *folder, sp_component_kind kind, const json_t *config,
                            const sp_weights *weights, sp_dtype dtype,
                            const sp_callbacks *callbacks)
{
    SP_TRY(sp_make_folders(folder));
    SP_TRY(save_weights(folder, kind, weights, dtype, callbacks));
    char *path = sp_path_join(folder, "config.json");
    if (!path) return SP_MEMORY;
    sp_status status = sp_json_save(path, config);
    sp_free(path);
    return status;
}
