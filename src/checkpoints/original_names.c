/* From the names of original checkpoints to those of the graphs. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/original_mmdit.h"
#include "checkpoints/original_parts.h"
#include "checkpoints/original_tables.h"

/* Longer names than this belong to no model, and are kept as they are. */
#define MAX_NAME 512

void sp_replace_beginning(const char *name, const sp_name_pair *pairs, size_t count, bool back,
                          char *out, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        const char *old = back ? pairs[i].to : pairs[i].from,
                   *new = back ? pairs[i].from : pairs[i].to;
        if (sp_starts_with(name, old)) {
            snprintf(out, size, "%s%s", new, name + strlen(old));
            return;
        }
    }
    snprintf(out, size, "%s", name);
}

/* ---- UNet ---- */

/* "input_blocks.4.1.rest" with 2 layers is "down_blocks.1.attentions.0.rest". */
static void unet_block(const char *rest, int block, int place, bool down, int layers, char *out,
                       size_t size)
{
    char inside[MAX_NAME + 32];
    int each = layers + 1, level = down ? (block - 1) / each : block / each,
        index = down ? (block - 1) % each : block % each;
    const char *side = down ? "down_blocks" : "up_blocks";
    if (down && sp_starts_with(rest, "op."))
        snprintf(out, size, "%s.%d.downsamplers.0.conv.%s", side, level, rest + strlen("op."));
    else if (!down && sp_starts_with(rest, "conv."))
        snprintf(out, size, "%s.%d.upsamplers.0.%s", side, level, rest);
    else if (place > 0)
        snprintf(out, size, "%s.%d.attentions.%d.%s", side, level, index, rest);
    else {
        SP_REPLACE_BEGINNING(rest, sp_unet_resnet_names, false, inside, sizeof inside);
        snprintf(out, size, "%s.%d.resnets.%d.%s", side, level, index, inside);
    }
}

void sp_original_unet_rename(const char *name, int layers, char *out, size_t size)
{
    char inside[MAX_NAME + 32];
    int block, place, length = 0;
    if (sscanf(name, "input_blocks.%4d.%4d.%n", &block, &place, &length) == 2 && length &&
        block > 0)
        unet_block(name + length, block, place, true, layers, out, size);
    else if (sscanf(name, "output_blocks.%4d.%4d.%n", &block, &place, &length) == 2 && length &&
             block >= 0)
        unet_block(name + length, block, place, false, layers, out, size);
    else if (sp_starts_with(name, "middle_block.0.") || sp_starts_with(name, "middle_block.2.")) {
        SP_REPLACE_BEGINNING(name + strlen("middle_block.0."), sp_unet_resnet_names, false, inside,
                             sizeof inside);
        snprintf(out, size, "mid_block.resnets.%d.%s", name[strlen("middle_block.")] == '2',
                 inside);
    } else {
        SP_REPLACE_BEGINNING(name, sp_unet_outside_names, false, out, size);
    }
}

void sp_original_unet_name(const sp_original_unet *unet, const char *original, char *out, size_t size)
{
    if (unet->diffusers)
        sp_original_unet_rename(original, unet->layers, out, size);
    else
        snprintf(out, size, "%s%s", unet->prefix, original);
}

/* ---- VAE ---- */

static void vae_attention_name(const char *side, const char *rest, char *out, size_t size)
{
    char part[MAX_NAME + 32];
    SP_REPLACE_BEGINNING(rest, sp_vae_attention_names, false, part, sizeof part);
    snprintf(out, size, "%s.mid_block.attentions.0.%s", side, part);
}

/* What follows "encoder." or "decoder.". The decoder's levels are counted from the other end. */
static void vae_side_name(const char *rest, bool encoder, int levels, char *out, size_t size)
{
    const char *side = encoder ? "encoder" : "decoder", *blocks = encoder ? "down" : "up";
    char part[MAX_NAME + 32];
    int level, index, length = 0;
    const char *in_block =
        sp_starts_with(rest, encoder ? "down." : "up.") ? strchr(rest, '.') + 1 : "";
    if (sscanf(in_block, "%4d.block.%4d.%n", &level, &index, &length) == 2 && length) {
        SP_REPLACE_BEGINNING(in_block + length, sp_vae_resnet_names, false, part, sizeof part);
        snprintf(out, size, "%s.%s_blocks.%d.resnets.%d.%s", side, blocks,
                 encoder ? level : levels - 1 - level, index, part);
    } else if (sscanf(in_block, "%4d.%*[a-z].conv.%n", &level, &length) == 1 && length) {
        snprintf(out, size, "%s.%s_blocks.%d.%ssamplers.0.conv.%s", side, blocks,
                 encoder ? level : levels - 1 - level, blocks, in_block + length);
    } else if (sscanf(rest, "mid.block_%1d.%n", &index, &length) == 1 && length) {
        SP_REPLACE_BEGINNING(rest + length, sp_vae_resnet_names, false, part, sizeof part);
        snprintf(out, size, "%s.mid_block.resnets.%d.%s", side, index - 1, part);
    } else if (sp_starts_with(rest, "mid.attn_1.")) {
        vae_attention_name(side, rest + strlen("mid.attn_1."), out, size);
    } else if (sp_starts_with(rest, "norm_out.")) {
        snprintf(out, size, "%s.conv_%s", side, rest);
    } else {
        snprintf(out, size, "%s.%s", side, rest);
    }
}

static void vae_name(const char *name, int levels, char *out, size_t size)
{
    bool encoder = sp_starts_with(name, "encoder.");
    if (encoder || sp_starts_with(name, "decoder."))
        vae_side_name(name + strlen("encoder."), encoder, levels, out, size);
    else
        snprintf(out, size, "%s", name);
}

/* ---- text encoders ---- */

static const char projection[] = "text_projection", text_projection[] = "text_projection.weight";

/* OpenCLIP's; false for what is not used. */
static bool open_clip_name(const char *name, int layers, char *out, size_t size)
{
    static const char *const unused[] = {projection, "logit_scale", "attn_mask"};
    char part[MAX_NAME + 32];
    int layer, length = 0;
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        if (strcmp(name, unused[i]) == 0) return false;
    if (sscanf(name, "transformer.resblocks.%4d.%n", &layer, &length) != 1 || !length) {
        SP_REPLACE_BEGINNING(name, sp_open_clip_outside_names, false, out, size);
        return true;
    }
    SP_REPLACE_BEGINNING(name + length, sp_open_clip_inside_names, false, part, sizeof part);
    snprintf(out, size, "encoder.layers.%d.%s", layer, part);
    return layer < layers;
}

static sp_status add(sp_weights *weights, const sp_tensor_file *file, const char *name,
                     const sp_tensor *tensor)
{
    sp_tensor view = *tensor;
    view.owned = false;
    if (sp_weights_find(weights, name))
        return sp_fail(SP_FORMAT, "%s: two tensors stand for \"%s\"", sp_tensor_file_path(file),
                       name);
    return sp_weights_add(weights, name, view);
}

/* Queries, keys and values lie below each other in one matrix, or behind each other in one bias. */
static sp_status add_fused(sp_weights *weights, const sp_tensor_file *file, const char *name,
                           const sp_tensor *tensor)
{
    enum { PARTS = 3 };
    static const char fused[] = "attn.in_proj_";
    const char *at = strstr(name, fused);
    if (tensor->shape.rank < 1 || tensor->shape.dim[0] % PARTS)
        return sp_fail(SP_FORMAT,
                       "%s: tensor \"%s\" has the shape %s, and its first dimension should be "
                       "divisible by 3",
                       sp_tensor_file_path(file), name, sp_shape_text(tensor->shape));
    sp_tensor part = *tensor;
    part.shape.dim[0] /= PARTS;
    size_t bytes = sp_tensor_bytes(&part);
    for (int i = 0; i < PARTS; i++) {
        char out[MAX_NAME + 128];
        snprintf(out, sizeof out, "%.*sself_attn.%c_proj.%s", (int)(at - name), name, "qkv"[i],
                 at + strlen(fused));
        part.data = (char *)tensor->data + (size_t)i * bytes;
        SP_TRY(add(weights, file, out, &part));
    }
    return SP_OK;
}

sp_status sp_original_transpose(const sp_tensor *matrix, sp_tensor *out)
{
    int64_t rows = matrix->shape.dim[0], columns = matrix->shape.dim[1];
    sp_tensor plain;
    if (sp_dtype_is_quantised(matrix->dtype)) { /* whose blocks lie along the other side */
        SP_TRY(sp_tensor_convert(matrix, SP_F32, &plain));
        sp_status status = sp_original_transpose(&plain, out);
        sp_tensor_free(&plain);
        return status;
    }
    size_t size = sp_dtype_size(matrix->dtype);
    SP_TRY(sp_tensor_create(matrix->dtype, sp_shape_of(columns, rows), out));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++)
            memcpy((char *)out->data + (size_t)(k * rows + i) * size,
                   (const char *)matrix->data + (size_t)(i * columns + k) * size, size);
    return SP_OK;
}

/* OpenCLIP multiplies by the matrix from the other side. */
static sp_status add_projection(sp_weights *weights, const sp_tensor_file *file, const char *name,
                                const sp_tensor *tensor)
{
    sp_tensor turned;
    if (tensor->shape.rank != 2 || !(sp_dtype_is_float(tensor->dtype) || sp_dtype_is_quantised(tensor->dtype)))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s %s, and should be a matrix of floats",
                       sp_tensor_file_path(file), name, sp_dtype_name(tensor->dtype), sp_shape_text(tensor->shape));
    SP_TRY(sp_original_transpose(tensor, &turned));
    return sp_weights_add(weights, text_projection, turned);
}

static sp_status add_open_clip(sp_weights *weights, const sp_tensor_file *file, const char *name,
                               const sp_tensor *tensor, int layers, bool projects)
{
    char out[MAX_NAME + 128];
    if (projects && strcmp(name, projection) == 0)
        return add_projection(weights, file, name, tensor);
    if (!open_clip_name(name, layers, out, sizeof out)) return SP_OK;
    if (strstr(out, "attn.in_proj_")) return add_fused(weights, file, out, tensor);
    return add(weights, file, out, tensor);
}

static sp_status add_clip(sp_weights *weights, const sp_tensor_file *file, const char *name,
                          const sp_tensor *tensor)
{
    if (strcmp(name, "embeddings.position_ids") == 0) return SP_OK;
    return add(weights, file, name, tensor);
}

static sp_status add_text(sp_weights *weights, const sp_tensor_file *file, const sp_original_text *text,
                          const char *name, const sp_tensor *tensor)
{
    if (text->open_clip)
        return add_open_clip(weights, file, name, tensor, sp_original_open_clip_layers(file, text), text->projection);
    /* programs multiply the whole text by nothing, whatever the file has */
    if (text->identity && strcmp(name, text_projection) == 0) return SP_OK;
    return add_clip(weights, file, name, tensor);
}

/* ---- all ---- */

/* A file that is a VAE alone may hold the discriminator that it was trained against, too. */
static bool is_of_training(const char *name)
{
    return sp_starts_with(name, "loss.") || sp_starts_with(name, "model_ema.");
}

/* What says how the UNet was trained lies outside of every prefix. */
static bool is_mark(const char *name)
{
    return strcmp(name, SP_ORIGINAL_V) == 0 || strcmp(name, SP_ORIGINAL_ZERO_SNR) == 0;
}

/* The name behind the prefix, or NULL. */
static const char *behind(const char *name, const char *prefix)
{
    return prefix && sp_starts_with(name, prefix) ? name + strlen(prefix) : NULL;
}

static sp_status add_unet(sp_weights *weights, const sp_tensor_file *file)
{
    const sp_original_unet unet = sp_original_unet_of(file);
    const char *rest;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        char out[MAX_NAME + 128];
        const char *name = sp_tensor_file_name(file, i);
        if (strlen(name) >= MAX_NAME || !(rest = behind(name, unet.prefix)) || is_mark(name)) continue;
        if (!unet.diffusers) sp_original_unet_rename(rest, unet.layers, out, sizeof out);
        SP_TRY(add(weights, file, unet.diffusers ? rest : out, sp_tensor_file_at(file, i)));
    }
    return SP_OK;
}

static sp_status add_vae_tensor(sp_weights *weights, const sp_tensor_file *file, const char *name,
                                const sp_tensor *tensor, int levels)
{
    char out[MAX_NAME + 128];
    sp_tensor view = *tensor;
    vae_name(name, levels, out, sizeof out);
    bool attention = strstr(out, ".attentions.") && sp_ends_with(out, ".weight");
    if (attention && view.shape.rank == 4 && view.shape.dim[2] == 1 && view.shape.dim[3] == 1)
        view.shape = sp_shape_of(view.shape.dim[0], view.shape.dim[1]);
    return add(weights, file, out, &view);
}

static sp_status add_vae(sp_weights *weights, const sp_tensor_file *file)
{
    int levels = sp_original_vae_levels(file);
    const char *prefix = sp_original_vae_prefix(file), *rest;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (strlen(name) < MAX_NAME && (rest = behind(name, prefix)) && !is_of_training(rest))
            SP_TRY(add_vae_tensor(weights, file, rest, sp_tensor_file_at(file, i), levels));
    }
    return SP_OK;
}

/* Of the type of the table of tokens, as it would be if it were there. */
static sp_status add_identity(sp_weights *weights)
{
    const sp_tensor *tokens = sp_weights_find(weights, "embeddings.token_embedding.weight");
    if (!tokens || tokens->shape.rank != 2 || !sp_dtype_is_float(tokens->dtype)) return SP_OK; /* refused later */
    int64_t width = tokens->shape.dim[1];
    sp_tensor identity;
    SP_TRY(sp_tensor_create(tokens->dtype, sp_shape_of(width, width), &identity));
    memset(identity.data, 0, sp_tensor_bytes(&identity));
    for (int64_t i = 0; i < width; i++)
        sp_store(identity.data, identity.dtype, i * width + i, 1);
    return sp_weights_add(weights, text_projection, identity);
}

/* What a text encoder has outside of its own prefix: the projection, of which transformers' prefix is not. */
static sp_status add_outside(sp_weights *weights, const sp_tensor_file *file, const sp_original_text *text)
{
    if (text->identity) return add_identity(weights);
    const sp_tensor *tensor = text->open_clip || !text->projection ? NULL : sp_tensor_file_find(file, text->projection);
    return tensor && !sp_weights_find(weights, text_projection) ? add(weights, file, text_projection, tensor) : SP_OK;
}

static sp_status add_texts(sp_weights *weights, const sp_tensor_file *file, sp_component_kind kind)
{
    const sp_original_text text = sp_original_text_of(file, kind);
    const char *rest;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (strlen(name) < MAX_NAME && (rest = behind(name, text.prefix)))
            SP_TRY(add_text(weights, file, &text, rest, sp_tensor_file_at(file, i)));
    }
    return add_outside(weights, file, &text);
}

sp_status sp_add_original(sp_weights *weights, const sp_tensor_file *file, sp_component_kind kind)
{
    sp_weights_set_file(weights, file);
    if (sp_component_is_text(kind)) return add_texts(weights, file, kind);
    if (kind == SP_COMPONENT_TRANSFORMER) return sp_add_original_mmdit(weights, file);
    return kind == SP_COMPONENT_UNET ? add_unet(weights, file) : add_vae(weights, file);
}
