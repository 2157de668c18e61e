/* Vision Transformers (Dosovitskiy et al. 2021) that give a picture one vector: CLIP's image towers and DINOv2. */
#ifndef SP_MODELS_VIT_H
#define SP_MODELS_VIT_H
#include "models/encoder_layer.h"
#include "models/network.h"

typedef struct {
    int64_t image_size, patch_size; /* pixels a side; a picture is (image_size/patch_size)^2 patches */
    sp_encoder_layer layer;         /* not causal */
    int64_t layers;
    bool patch_bias, pre_norm; /* CLIP: a norm before the layers, no bias; DINOv2: the other way round */
    int64_t projection;        /* width of what comes out; 0: layer.width, without a projection */
} sp_vit_config;

/* Tokens of a picture: the patches, and the class token before them. */
int64_t sp_vit_tokens(const sp_vit_config *config);

/* image [N,3,image_size,image_size], normalised -> image_embeds [N,projection], the class token after the last
 * norm, projected, not of unit length. config sp_vit_config, no options. Parameters have transformers' names of
 * CLIPVisionModel, without "vision_model.": embeddings.{class_embedding,patch_embedding.*,position_embedding.weight},
 * pre_layrnorm, encoder.layers.I, post_layernorm, visual_projection.weight. */
extern const sp_network sp_vit_network;

#endif
