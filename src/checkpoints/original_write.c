/* From the names of the graphs to those of original checkpoints, and such a file. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/original_mmdit.h"
#include "checkpoints/original_parts.h"
#include "checkpoints/original_tables.h"

enum { MAX_NAME = 512 };
typedef enum { FAMILY_SD, FAMILY_XL, FAMILY_3 } family_kind;

/* ---- names ---- */

/* "down_blocks.1.attentions.0.rest" with 2 layers is "input_blocks.4.1.rest". */
static bool unet_block(const sp_unet_config *c, const char *name, char *out, size_t size)
{
    bool down = sp_starts_with(name, "down_blocks.");
    int level, index, length = 0, each = (int)c->layers[0] + 1;
    const char *rest = strchr(name, '.') + 1, *side = down ? "input_blocks" : "output_blocks";
    char inside[MAX_NAME];
    if (sscanf(rest, "%4d.resnets.%4d.%n", &level, &index, &length) == 2 && length) {
        SP_REPLACE_BEGINNING(rest + length, sp_unet_resnet_names, true, inside, sizeof inside);
        snprintf(out, size, "%s.%d.0.%s", side, level * each + index + down, inside);
    } else if (sscanf(rest, "%4d.attentions.%4d.%n", &level, &index, &length) == 2 && length) {
        snprintf(out, size, "%s.%d.1.%s", side, level * each + index + down, rest + length);
    } else if (sscanf(rest, "%4d.downsamplers.0.conv.%n", &level, &length) == 1 && length) {
        snprintf(out, size, "%s.%d.0.op.%s", side, (level + 1) * each, rest + length);
    } else if (sscanf(rest, "%4d.upsamplers.0.%n", &level, &length) == 1 && length) {
        bool attends = level < c->levels && c->up_attention[c->levels - 1 - level];
        snprintf(out, size, "%s.%d.%d.%s", side, level * each + each - 1, attends ? 2 : 1,
                 rest + length);
    } else {
        return false;
    }
    return true;
}

static bool unet_name(const sp_unet_config *c, const char *name, char *out, size_t size)
{
    static const char first[] = "mid_block.resnets.0.", second[] = "mid_block.resnets.1.";
    char inside[MAX_NAME];
    if (sp_starts_with(name, "down_blocks.") || sp_starts_with(name, "up_blocks."))
        return unet_block(c, name, out, size);
    if (sp_starts_with(name, first) || sp_starts_with(name, second)) {
        SP_REPLACE_BEGINNING(name + strlen(first), sp_unet_resnet_names, true, inside,
                             sizeof inside);
        snprintf(out, size, "middle_block.%d.%s", sp_starts_with(name, first) ? 0 : 2, inside);
        return true;
    }
    SP_REPLACE_BEGINNING(name, sp_unet_outside_names, true, out, size);
    return strcmp(out, name) != 0;
}

static bool vae_name(const sp_vae_config *c, const char *name, char *out, size_t size)
{
    static const char attention[] = "mid_block.attentions.0.", norm[] = "conv_norm_out.";
    char inside[MAX_NAME];
    int level, index, length = 0, last = c->kl.levels - 1;
    bool encoder = sp_starts_with(name, "encoder.");
    if (!encoder && !sp_starts_with(name, "decoder.")) { /* quant_conv, post_quant_conv */
        snprintf(out, size, "%s", name);
        return true;
    }
    const char *rest = strchr(name, '.') + 1, *side = encoder ? "encoder" : "decoder",
               *way = encoder ? "down" : "up";
    if (sscanf(rest, "%*[a-z]_blocks.%4d.resnets.%4d.%n", &level, &index, &length) == 2 && length) {
        SP_REPLACE_BEGINNING(rest + length, sp_vae_resnet_names, true, inside, sizeof inside);
        snprintf(out, size, "%s.%s.%d.block.%d.%s", side, way, encoder ? level : last - level,
                 index, inside);
    } else if (sscanf(rest, "%*[a-z]_blocks.%4d.%*[a-z].0.conv.%n", &level, &length) == 1 &&
               length) {
        snprintf(out, size, "%s.%s.%d.%ssample.conv.%s", side, way, encoder ? level : last - level,
                 way, rest + length);
    } else if (sscanf(rest, "mid_block.resnets.%1d.%n", &index, &length) == 1 && length) {
        SP_REPLACE_BEGINNING(rest + length, sp_vae_resnet_names, true, inside, sizeof inside);
        snprintf(out, size, "%s.mid.block_%d.%s", side, index + 1, inside);
    } else if (sp_starts_with(rest, attention)) {
        SP_REPLACE_BEGINNING(rest + strlen(attention), sp_vae_attention_names, true, inside,
                             sizeof inside);
        snprintf(out, size, "%s.mid.attn_1.%s", side, inside);
    } else if (sp_starts_with(rest, norm)) {
        snprintf(out, size, "%s.norm_out.%s", side, rest + strlen(norm));
    } else {
        snprintf(out, size, "%s.%s", side, rest);
    }
    return true;
}

/* Queries, keys and values, which are one tensor there, are for add_fused. */
static bool open_clip_name(const char *name, char *out, size_t size)
{
    char inside[MAX_NAME];
    int layer, length = 0;
    if (sscanf(name, "encoder.layers.%4d.%n", &layer, &length) != 1 || !length) {
        SP_REPLACE_BEGINNING(name, sp_open_clip_outside_names, true, out, size);
        return strcmp(out, name) != 0;
    }
    SP_REPLACE_BEGINNING(name + length, sp_open_clip_inside_names, true, inside, sizeof inside);
    snprintf(out, size, "transformer.resblocks.%d.%s", layer, inside);
    return true;
}

/* 2.x has OpenCLIP's text encoder, whose activation is not 1.x's; so is the second of XL. */
static bool is_open_clip(const sp_component_config *config)
{
    return sp_component_is_text(config->kind) && config->text.activation == SP_UNARY_GELU;
}

/* Before the names of a text encoder's tensors. */
static const char *text_prefix(const sp_component_config *config, bool xl)
{
    if (config->kind == SP_COMPONENT_TEXT_ENCODER_2) return SP_ORIGINAL_XL_OPEN_CLIP;
    if (is_open_clip(config)) return SP_ORIGINAL_OPEN_CLIP;
    return xl ? SP_ORIGINAL_XL_CLIP "text_model." : SP_ORIGINAL_CLIP "text_model.";
}

bool sp_original_name(const sp_component_config *config, bool xl, const char *name, char *out, size_t size)
{
    char inside[MAX_NAME + 64];
    const char *prefix = SP_ORIGINAL_UNET;
    bool known = strlen(name) < MAX_NAME / 2;
    if (known && config->kind == SP_COMPONENT_UNET) {
        known = unet_name(&config->unet, name, inside, sizeof inside);
    } else if (known && config->kind == SP_COMPONENT_VAE) {
        prefix = SP_ORIGINAL_VAE;
        known = vae_name(&config->vae, name, inside, sizeof inside);
    } else if (known && is_open_clip(config)) {
        prefix = text_prefix(config, xl);
        known = open_clip_name(name, inside, sizeof inside);
    } else if (known) {
        prefix = text_prefix(config, xl);
        snprintf(inside, sizeof inside, "%s", name);
    }
    if (known) snprintf(out, size, "%s%s", prefix, inside);
    return known;
}

/* ---- tensors ---- */

/* Queries, keys and values below each other in one tensor, added where the queries are met. */
static sp_status add_fused(sp_weights *out, const sp_component *text, const char *name)
{
    static const char query[] = "self_attn.q_proj.";
    const char *at = strstr(name, query), *tail = at + strlen(query);
    int layer = atoi(name + strlen("encoder.layers."));
    char part[MAX_NAME + 32];
    sp_tensor fused = {0};
    for (int i = 0; i < 3; i++) {
        snprintf(part, sizeof part, "%.*sself_attn.%c_proj.%s", (int)(at - name), name, "qkv"[i],
                 tail);
        sp_tensor tensor;
        sp_status status = sp_weights_take(text->weights, part, &tensor);
        if (!status && i == 0) {
            sp_shape shape = tensor.shape;
            shape.dim[0] *= 3;
            status = sp_tensor_create(tensor.dtype, shape, &fused);
        }
        int64_t count = sp_tensor_count(&tensor);
        size_t at = (size_t)(i * count) * sp_dtype_size(fused.dtype);
        if (!status) sp_convert_elements((char *)fused.data + at, fused.dtype, tensor.data, tensor.dtype, count);
        sp_tensor_free(&tensor);
        if (status) {
            sp_tensor_free(&fused);
            return status;
        }
    }
    snprintf(part, sizeof part, "%stransformer.resblocks.%d.attn.in_proj_%s", text_prefix(&text->config, true), layer,
             tail);
    return sp_weights_add(out, part, fused);
}

static sp_status add_projection(sp_weights *out, const sp_component *text, const char *name)
{
    sp_tensor own, turned;
    SP_TRY(sp_weights_take(text->weights, name, &own));
    sp_status status = sp_original_transpose(&own, &turned);
    sp_tensor_free(&own);
    return status ? status : sp_weights_add(out, SP_ORIGINAL_XL_OPEN_CLIP "text_projection", turned);
}

static sp_status add_parameter(sp_weights *out, const sp_component *component, bool xl, const char *name)
{
    char original[MAX_NAME + 64];
    bool open_clip = is_open_clip(&component->config);
    if (open_clip && strcmp(name, "text_projection.weight") == 0) return add_projection(out, component, name);
    if (open_clip && strstr(name, ".self_attn.q_proj.")) return add_fused(out, component, name);
    if (open_clip && (strstr(name, ".self_attn.k_proj.") || strstr(name, ".self_attn.v_proj.")))
        return SP_OK;
    if (!sp_original_name(&component->config, xl, name, original, sizeof original))
        return sp_fail(SP_UNSUPPORTED,
                       "%s: \"%s\" has no name in original checkpoints, so the model cannot be "
                       "written as one file%s",
                       component->folder, name,
                       strstr(name, "cond_proj") ? "; `fold_guidance` folds it away" : "");
    SP_TRY(sp_weights_add_view(out, original, component->weights, name));
    sp_shape *shape = &sp_weights_find(out, original)->shape;
    bool kernel = component->config.kind == SP_COMPONENT_VAE && strstr(original, ".attn_1.") && shape->rank == 2;
    if (kernel) *shape = sp_shape_of(shape->dim[0], shape->dim[1], 1, 1);
    return SP_OK;
}

/* ---- Stable Diffusion 3's text encoders ---- */

static sp_status check_identity(const sp_component *text, const char *name)
{
    sp_tensor projection;
    SP_TRY(sp_weights_take(text->weights, name, &projection));
    int64_t width = text->config.text.width;
    bool is = projection.shape.dim[0] == width;
    for (int64_t i = 0; i < sp_tensor_count(&projection) && is; i++)
        is = sp_load(projection.data, projection.dtype, i) == (i / width == i % width);
    sp_tensor_free(&projection);
    if (is) return SP_OK;
    return sp_fail(SP_UNSUPPORTED,
                   "%s: \"%s\" is not the identity, which programs that read one file take for it, so the model cannot "
                   "be written as one", text->folder, name);
}

/* Under transformers' names. */
static sp_status add_third_text(sp_weights *out, const sp_component *text)
{
    static const char projection[] = "text_projection.weight";
    bool first = text->place == SP_COMPONENT_TEXT_ENCODER;
    const char *prefix = first ? SP_ORIGINAL_3_CLIP_L : SP_ORIGINAL_3_CLIP_G;
    if (text->config.kind != SP_COMPONENT_TEXT_ENCODER_2)
        return sp_fail(SP_INTERNAL, "%s: the text encoder was opened without its projection", text->folder);
    for (size_t i = 0; i < sp_weights_count(text->weights); i++) {
        char as[MAX_NAME];
        const char *name = sp_weights_name(text->weights, i);
        bool projects = strcmp(name, projection) == 0;
        if (first && projects) {
            SP_TRY(check_identity(text, name));
            continue;
        }
        if (snprintf(as, sizeof as, "%s%s%s", prefix, projects ? "" : "text_model.", name) < (int)sizeof as)
            SP_TRY(sp_weights_add_view(out, as, text->weights, name));
    }
    return SP_OK;
}

/* ---- all ---- */

static sp_status add_component(sp_weights *out, const sp_component *component, family_kind family)
{
    const sp_component_config *config = &component->config;
    if (config->kind == SP_COMPONENT_TRANSFORMER) return sp_original_mmdit_write(out, component);
    if (family == FAMILY_3 && sp_component_is_text(config->kind)) return add_third_text(out, component);
    if (config->kind == SP_COMPONENT_VAE && config->vae.kind != SP_VAE_KL)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: an AutoencoderTiny has no place in an original checkpoint",
                       component->folder);
    sp_graph *graph;
    SP_TRY(sp_component_graph(config, &graph));
    sp_status status = SP_OK;
    for (int i = 0; i < graph->value_count && !status; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER)
            status = add_parameter(out, component, family == FAMILY_XL, graph->values[i]->name);
    sp_graph_destroy(graph);
    return status;
}

/* ---- what the file will tell ---- */

static json_t *config_json(const sp_component_config *config)
{
    return sp_component_is_text(config->kind) ? sp_clip_text_config_write(&config->text)
                                              : sp_component_config_write(config);
}

/* Of no consequence for what the model computes. */
static bool is_ignored(const char *key)
{
    static const char *const keys[] = {"sample_size",  "upcast_attention", "projection_dim",
                                       "bos_token_id", "eos_token_id",     "pad_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

static sp_status compare(const char *folder, const json_t *wanted, const json_t *reread)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)wanted, key, value)
    {
        const json_t *other = json_object_get(reread, key);
        if (is_ignored(key) || (other && json_equal(value, other))) continue;
        char is[64], would[64];
        return sp_fail(SP_UNSUPPORTED,
                       "%s: \"%s\" is %s, and a file of original names would be read with %s: it has "
                       "no configuration, and what Stable Diffusion's published models have is assumed",
                       folder, key, sp_json_brief(value, is, sizeof is),
                       other ? sp_json_brief(other, would, sizeof would) : "none");
    }
    return SP_OK;
}

/* The configuration that readers work out from names and shapes must be the model's own. */
static sp_status check_file(const char *path, sp_component *const *components, size_t count)
{
    sp_tensor_file *file;
    SP_TRY(sp_safetensors_open(path, &file));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !status; i++) {
        sp_component_kind kind = components[i]->config.kind, place = components[i]->place;
        sp_component_config again;
        json_t *json = NULL, *wanted = config_json(&components[i]->config), *reread = NULL;
        status = wanted ? sp_original_config(file, place, NULL, &json) : SP_MEMORY;
        if (!status) status = sp_component_config_read(kind, json, "as it would be read", &again);
        if (status == SP_FORMAT || status == SP_UNSUPPORTED)
            status = sp_fail_within(SP_UNSUPPORTED, "%s: has no form as one file of original names",
                                    components[i]->folder);
        if (!status) status = (reread = config_json(&again)) ? SP_OK : SP_MEMORY;
        if (!status) status = compare(components[i]->folder, wanted, reread);
        json_decref(json);
        json_decref(wanted);
        json_decref(reread);
    }
    sp_tensor_file_close(file);
    return status;
}

static sp_status add_mark(sp_weights *out, const char *name)
{
    return sp_weights_add(out, name, (sp_tensor){.dtype = SP_F32, .shape = sp_shape_of(0)});
}

static family_kind family_of(sp_component *const *components, size_t count)
{
    family_kind family = FAMILY_SD;
    for (size_t i = 0; i < count; i++) {
        const sp_component_config *config = &components[i]->config;
        if (config->kind == SP_COMPONENT_TRANSFORMER) return FAMILY_3;
        if (config->kind == SP_COMPONENT_TEXT_ENCODER_2 ||
            (config->kind == SP_COMPONENT_UNET && config->unet.size_dim))
            family = FAMILY_XL;
    }
    return family;
}

sp_status sp_original_save(const char *path, sp_component *const *components, size_t count,
                           sp_original_prediction prediction, sp_dtype dtype,
                           const sp_callbacks *callbacks)
{
    const family_kind family = family_of(components, count);
    bool flow = family == FAMILY_3, v = !flow && strcmp(prediction.type, "v_prediction") == 0;
    const char *const metadata[][2] = {{"format", "pt"}, {"modelspec.prediction_type", v ? "v" : prediction.type}};
    char *beside = sp_format("%s.part-%ld", path, (long)getpid());
    sp_weights *out = NULL;
    sp_status status = beside ? sp_weights_create(&out) : SP_MEMORY;
    for (size_t i = 0; i < count && !status; i++)
        status = add_component(out, components[i], family);
    if (!status && v) status = add_mark(out, SP_ORIGINAL_V);
    if (!status && !flow && prediction.zero_snr) status = add_mark(out, SP_ORIGINAL_ZERO_SNR);
    if (!status) status = sp_weights_save(out, beside, dtype, metadata, flow ? 1 : 2, callbacks);
    sp_weights_destroy(out);
    if (!status) {
        status = check_file(beside, components, count);
        if (!status && rename(beside, path) != 0)
            status =
                sp_fail(SP_IO, "%s could not be renamed to %s: %s", beside, path, strerror(errno));
        if (status) unlink(beside);
    }
    sp_free(beside);
    return status;
}
