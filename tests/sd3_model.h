/* A tiny model of Stable Diffusion 3.5's form that a checkpoint of one file can carry: CLIP's vocabulary, heads of 64
 * in text encoders, groups of 32, no projection of the first text. Weights are random. */
#ifndef SD3_MODEL_H
#define SD3_MODEL_H
#include "xl_model.h"

#define SD3_TRANSFORMER(MORE)                                                                                     \
    "{\"_class_name\": \"SD3Transformer2DModel\", \"num_layers\": 3, \"num_attention_heads\": 4,"                 \
    " \"attention_head_dim\": 16, \"caption_projection_dim\": 64, \"joint_attention_dim\": 256,"                  \
    " \"pooled_projection_dim\": 192, \"in_channels\": 16, \"sample_size\": 48, \"pos_embed_max_size\": 24," MORE \
    "}"
static const char sd3_dual[] =
    SD3_TRANSFORMER("\"dual_attention_layers\": [0, 1], \"qk_norm\": \"rms_norm\"");

/* Its projection is the identity, as that of the published models. */
static inline void make_first_text(const char *folder)
{
    sp_component *text;
    static const char config[] =
        XL_TEXT("CLIPTextModelWithProjection",
                "\"hidden_size\": 64, \"intermediate_size\": 64, \"num_attention_heads\": 1,"
                " \"projection_dim\": 64");
    make_component(folder, SP_COMPONENT_TEXT_ENCODER_2, config, 61);
    assert_ok(
        sp_component_open_kind(folder, "text_encoder", SP_COMPONENT_TEXT_ENCODER_2, NULL, &text));
    sp_tensor identity;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(64, 64), &identity));
    for (int i = 0; i < 64 * 64; i++)
        ((float *)identity.data)[i] = i / 64 == i % 64;
    assert_ok(sp_weights_add(text->weights, "text_projection.weight", identity));
    assert_ok(sp_component_save(folder, SP_COMPONENT_TEXT_ENCODER_2, text->json, text->weights,
                                SP_F32, NULL));
    sp_component_close(text);
}

static inline void make_sd3(const char *folder, const char *transformer)
{
    char path[600];
    snprintf(path, sizeof path, "%s/transformer", folder);
    make_component(path, SP_COMPONENT_TRANSFORMER, transformer, 60);
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    make_first_text(path);
    snprintf(path, sizeof path, "%s/text_encoder_2", folder);
    make_component(
        path, SP_COMPONENT_TEXT_ENCODER_2,
        XL_TEXT("CLIPTextModelWithProjection",
                "\"hidden_size\": 128, \"intermediate_size\": 64, \"num_attention_heads\": 2,"
                " \"hidden_act\": \"gelu\", \"projection_dim\": 128"),
        62);
    snprintf(path, sizeof path, "%s/vae", folder);
    make_component(
        path, SP_COMPONENT_VAE,
        "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": [32, 32], \"layers_per_block\": 1,"
        " \"latent_channels\": 16, \"scaling_factor\": 1.5305, \"shift_factor\": 0.0609,"
        " \"use_quant_conv\": false, \"use_post_quant_conv\": false,"
        " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
        " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}",
        63);
    save_two_tokenizers(folder);
    snprintf(path, sizeof path, "%s/scheduler", folder);
    assert_ok(sp_copy_tree(golden("sd3/scheduler"), path, NULL));
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    assert_ok(sp_copy_file(golden("sd3/model_index.json"), path, NULL));
}

#endif
