/* Names of towers' tensors, from those of the networks to those of files. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "checkpoints/original_tables.h"
#include "checkpoints/tower_weights.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const sp_name_pair open_clip_image[] = {
    {"class_embedding", "embeddings.class_embedding"},
    {"conv1.", "embeddings.patch_embedding."},
    {"positional_embedding", "embeddings.position_embedding.weight"},
    {"ln_pre.", "pre_layrnorm."},
    {"ln_post.", "post_layernorm."},
};
static const sp_name_pair dino[] = {
    {"cls_token", "embeddings.class_embedding"},
    {"patch_embed.proj.", "embeddings.patch_embedding."},
    {"pos_embed", "embeddings.position_embedding.weight"},
    {"norm.", "post_layernorm."},
};
static const sp_name_pair dino_inside[] = {
    {"norm1.", "layer_norm1."},
    {"norm2.", "layer_norm2."},
    {"attn.proj.", "self_attn.out_proj."},
};
static const sp_name_pair dino_transformers[] = {
    {"embeddings.cls_token", "embeddings.class_embedding"},
    {"embeddings.patch_embeddings.projection.", "embeddings.patch_embedding."},
    {"embeddings.position_embeddings", "embeddings.position_embedding.weight"},
    {"layernorm.", "post_layernorm."},
};
static const sp_name_pair dino_transformers_inside[] = {
    {"norm1.", "layer_norm1."},
    {"norm2.", "layer_norm2."},
    {"attention.attention.query.", "self_attn.q_proj."},
    {"attention.attention.key.", "self_attn.k_proj."},
    {"attention.attention.value.", "self_attn.v_proj."},
    {"attention.output.dense.", "self_attn.out_proj."},
};

/* What stands before the names of a tower, and its projection. */
typedef struct {
    const char *prefix, *projection;
    const sp_name_pair *outside;
    size_t outside_count;
} tower_names;

typedef struct {
    const char *sign; /* a tensor that every file of this form has */
    const char *layers;
    const sp_name_pair *inside;
    size_t inside_count;
    const char *joined;   /* queries, keys and values; NULL: apart */
    const char *scale[2]; /* LayerScale of a layer's halves; NULL: none */
    tower_names tower[2];
} form_names;

#define OUTSIDE(pairs) (pairs), COUNT(pairs)
static const form_names forms[SP_TOWER_FORMS] = {
    [SP_TOWER_TRANSFORMERS] = {"vision_model.embeddings.class_embedding", "encoder.layers.", NULL, 0, NULL, {0},
                               {{"vision_model.", "visual_projection.weight", NULL, 0},
                                {"text_model.", "text_projection.weight", NULL, 0}}},
    [SP_TOWER_OPEN_CLIP] = {"visual.class_embedding", "transformer.resblocks.", OUTSIDE(sp_open_clip_inside_names),
                            "attn.in_proj_", {0},
                            {{"visual.", "visual.proj", OUTSIDE(open_clip_image)},
                             {"", "text_projection", OUTSIDE(sp_open_clip_outside_names)}}},
    [SP_TOWER_OPEN_CLIP_TEXT] = {"visual.class_embedding", "transformer.resblocks.",
                                 OUTSIDE(sp_open_clip_inside_names), "attn.in_proj_", {0},
                                 {{"visual.", "visual.proj", OUTSIDE(open_clip_image)},
                                  {"text.", "text.text_projection", OUTSIDE(sp_open_clip_outside_names)}}},
    [SP_TOWER_DINO] = {"cls_token", "blocks.", OUTSIDE(dino_inside), "attn.qkv.", {"ls1.gamma", "ls2.gamma"},
                       {{"", "", OUTSIDE(dino)}}},
    [SP_TOWER_DINO_TRANSFORMERS] = {"embeddings.cls_token", "encoder.layer.", OUTSIDE(dino_transformers_inside), NULL,
                                    {"layer_scale1.lambda1", "layer_scale2.lambda1"},
                                    {{"", "", OUTSIDE(dino_transformers)}}},
};

/* ---- which form ---- */

/* A name of DINOv2 alone beside the sign, which other transformers of pictures have too. */
static bool has_scale(const sp_tensor_file *file, const form_names *f)
{
    char name[64];
    snprintf(name, sizeof name, "%s0.%s", f->layers, f->scale[0]);
    return sp_tensor_file_find(file, name);
}

sp_tower_form sp_tower_form_of(const sp_tensor_file *file)
{
    for (int i = SP_TOWER_NONE + 1; i < SP_TOWER_FORMS; i++) {
        const form_names *f = &forms[i];
        if (!sp_tensor_file_find(file, f->sign) || (f->scale[0] && !has_scale(file, f))) continue;
        if (i == SP_TOWER_OPEN_CLIP && sp_tensor_file_find(file, "text.token_embedding.weight"))
            return SP_TOWER_OPEN_CLIP_TEXT;
        return (sp_tower_form)i;
    }
    return SP_TOWER_NONE;
}

bool sp_tower_form_is_clip(sp_tower_form form)
{
    return form != SP_TOWER_NONE && form < SP_TOWER_DINO;
}

/* ---- names ---- */

/* "self_attn.k_proj.weight" as the second third of "attn.in_proj_weight". */
static bool joined_name(const form_names *f, const char *rest, char *out, size_t size, int *part)
{
    static const char *const parts[] = {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."};
    for (int i = 0; i < 3 && f->joined; i++)
        if (sp_starts_with(rest, parts[i])) {
            snprintf(out, size, "%s%s", f->joined, rest + strlen(parts[i]));
            *part = i;
            return true;
        }
    return false;
}

static const char *scale_of(const form_names *f, const char *rest)
{
    if (sp_starts_with(rest, "self_attn.out_proj.")) return f->scale[0];
    return sp_starts_with(rest, "mlp.fc2.") ? f->scale[1] : NULL;
}

/* `rest` of layer `layer`. */
static void layer_source(const form_names *f, const char *prefix, int layer, const char *rest, sp_tower_source *out)
{
    char inside[64];
    if (!joined_name(f, rest, inside, sizeof inside, &out->part))
        sp_replace_beginning(rest, f->inside, f->inside_count, true, inside, sizeof inside);
    snprintf(out->name, sizeof out->name, "%s%s%d.%s", prefix, f->layers, layer, inside);
    const char *scale = scale_of(f, rest);
    if (scale) snprintf(out->scale, sizeof out->scale, "%s%s%d.%s", prefix, f->layers, layer, scale);
}

void sp_tower_source_of(const sp_tower *tower, const char *parameter, sp_tower_source *out)
{
    const form_names *f = &forms[tower->form];
    const tower_names *names = &f->tower[tower->kind];
    char outside[128];
    int layer, length = 0;
    *out = (sp_tower_source){.part = -1};
    if (sp_ends_with(parameter, "_projection.weight")) {
        out->transposed = tower->form != SP_TOWER_TRANSFORMERS;
        snprintf(out->name, sizeof out->name, "%s", names->projection);
    } else if (sscanf(parameter, "encoder.layers.%4d.%n", &layer, &length) == 1 && length) {
        layer_source(f, names->prefix, layer, parameter + length, out);
    } else {
        sp_replace_beginning(parameter, names->outside, names->outside_count, true, outside, sizeof outside);
        snprintf(out->name, sizeof out->name, "%s%s", names->prefix, outside);
    }
}
