/* DINOv2's files. */
#include "checkpoints/dino_file.h"

#include <stdio.h>

#include "checkpoints/recognise.h"

enum { HEAD = 64 };

static sp_status check_form(const sp_tensor_file *file, sp_tower_form form)
{
    const char *path = sp_tensor_file_path(file);
    if (form != SP_TOWER_DINO && form != SP_TOWER_DINO_TRANSFORMERS) {
        const char *other = sp_recognise_tensors(file);
        return sp_fail(SP_UNSUPPORTED, "%s: is %s, expected DINOv2's weights: dinov2_vitl14_pretrain.pth, or a folder "
                       "as transformers has them", path, other ? other : "another thing");
    }
    if (sp_tensor_file_find(file, "blocks.0.mlp.w12.weight") ||
        sp_tensor_file_find(file, "encoder.layer.0.mlp.weights_in.weight"))
        return sp_fail(SP_UNSUPPORTED, "%s: is DINOv2's ViT-g/14, whose layers have SwiGLU, which is not supported; FD "
                       "is measured by ViT-L/14", path);
    if (sp_tensor_file_find(file, "register_tokens") || sp_tensor_file_find(file, "embeddings.register_tokens"))
        return sp_fail(SP_UNSUPPORTED, "%s: is a DINOv2 with registers, which is not supported; FD is measured by "
                       "the one without", path);
    return SP_OK;
}

static const char *letter_of(int64_t width)
{
    return width == 384 ? "-S" : width == 768 ? "-B" : width == 1024 ? "-L" : "";
}

sp_status sp_dino_file_describe(const sp_tensor_file *tensors, sp_dino_file *out)
{
    const sp_tower tower = {tensors, sp_tower_form_of(tensors), SP_TOWER_IMAGE};
    sp_encoder_layer *layer = &out->config.layer;
    *out = (sp_dino_file){0};
    SP_TRY(check_form(tensors, tower.form));
    SP_TRY(sp_tower_image_shapes(&tower, &out->config));
    layer->heads = layer->width / HEAD;
    layer->epsilon = 1e-6;
    layer->activation = SP_UNARY_GELU;
    if (!layer->heads || layer->width % HEAD || SP_DINO_SIDE % out->config.patch_size)
        return sp_fail(SP_UNSUPPORTED, "%s: has layers of width %lld and patches of %lld pixels; the width must be a "
                       "multiple of %d, and patches divide %d", sp_tensor_file_path(tensors), (long long)layer->width,
                       (long long)out->config.patch_size, HEAD, SP_DINO_SIDE);
    out->config.image_size = SP_DINO_SIDE;
    snprintf(out->name, sizeof out->name, "DINOv2 ViT%s/%d", letter_of(layer->width), (int)out->config.patch_size);
    return SP_OK;
}

sp_status sp_dino_file_open(const char *path, sp_dino_file *out)
{
    sp_tensor_file *file;
    *out = (sp_dino_file){0};
    SP_TRY(sp_tower_open(path, &file));
    sp_status status = sp_dino_file_describe(file, out);
    out->file = file;
    const sp_tower tower = {file, sp_tower_form_of(file), SP_TOWER_IMAGE};
    if (!status) status = sp_tower_weights(&tower, &sp_vit_network, &out->config, &out->weights);
    if (!status) status = sp_tensor_file_sha256(file, out->sha256);
    if (status) sp_dino_file_free(out);
    return status;
}

void sp_dino_file_free(sp_dino_file *file)
{
    sp_weights_destroy(file->weights);
    sp_tensor_file_close(file->file);
    *file = (sp_dino_file){0};
}
