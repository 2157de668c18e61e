/* Configs that are published with models, and how they are read. */
#ifndef SP_TESTS_CONFIG_SUPPORT_H
#define SP_TESTS_CONFIG_SUPPORT_H
#include "support.h"
#include "base/json.h"
#include "checkpoints/component.h"

/* What the published Stable Diffusion 1.5 says in its config files. */
static const char sd15_unet[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"_diffusers_version\": \"0.6.0\", \"act_fn\": \"silu\","
    " \"attention_head_dim\": 8, \"block_out_channels\": [320, 640, 1280, 1280], \"center_input_sample\": false,"
    " \"cross_attention_dim\": 768, \"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\","
    " \"CrossAttnDownBlock2D\", \"DownBlock2D\"], \"downsample_padding\": 1, \"flip_sin_to_cos\": true,"
    " \"freq_shift\": 0, \"in_channels\": 4, \"layers_per_block\": 2, \"mid_block_scale_factor\": 1,"
    " \"norm_eps\": 1e-05, \"norm_num_groups\": 32, \"out_channels\": 4, \"sample_size\": 64,"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"]}";
static const char sd21_unet[] =
    "{\"attention_head_dim\": [5, 10, 20, 20], \"block_out_channels\": [320, 640, 1280, 1280],"
    " \"cross_attention_dim\": 1024, \"dual_cross_attention\": false, \"layers_per_block\": 2,"
    " \"num_class_embeds\": null, \"only_cross_attention\": false, \"sample_size\": 96, \"upcast_attention\": true,"
    " \"use_linear_projection\": true}";
#define SDXL_UNET(DEPTHS)                                                                                          \
    "{\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256,"                                       \
    " \"projection_class_embeddings_input_dim\": 2816, \"attention_head_dim\": [5, 10, 20],"                           \
    " \"block_out_channels\": [320, 640, 1280], \"cross_attention_dim\": 2048, \"sample_size\": 128,"                  \
    " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],"                    \
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"                            \
    " \"use_linear_projection\": true, " DEPTHS "}"
static const char sdxl_unet[] = SDXL_UNET("\"transformer_layers_per_block\": [1, 2, 10]");
static const char ssd1b_unet[] =
    SDXL_UNET("\"transformer_layers_per_block\": [0, [2, 2], [4, 4]], \"mid_block_type\": \"UNetMidBlock2D\","
              " \"reverse_transformer_layers_per_block\": [[4, 4, 10], [2, 1, 1], 1]");
static const char sdxl_text_2[] =
    "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"hidden_act\": \"gelu\", \"hidden_size\": 1280,"
    " \"intermediate_size\": 5120, \"num_attention_heads\": 20, \"num_hidden_layers\": 32, \"projection_dim\": 1280,"
    " \"vocab_size\": 49408}";
static const char sd15_vae[] =
    "{\"_class_name\": \"AutoencoderKL\", \"act_fn\": \"silu\", \"block_out_channels\": [128, 256, 512, 512],"
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
    " \"DownEncoderBlock2D\"], \"in_channels\": 3, \"latent_channels\": 4, \"layers_per_block\": 2,"
    " \"norm_num_groups\": 32, \"out_channels\": 3, \"sample_size\": 512, \"up_block_types\": [\"UpDecoderBlock2D\","
    " \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
static const char sd15_text[] =
    "{\"architectures\": [\"CLIPTextModel\"], \"hidden_act\": \"quick_gelu\", \"hidden_size\": 768,"
    " \"intermediate_size\": 3072, \"max_position_embeddings\": 77, \"num_attention_heads\": 12,"
    " \"num_hidden_layers\": 12, \"vocab_size\": 49408, \"bos_token_id\": 0, \"eos_token_id\": 2, \"dropout\": 0.0}";

static inline sp_status read_config(sp_component_kind kind, const char *text, sp_component_config *out)
{
    json_t *json;
    SP_TRY(sp_json_parse(text, strlen(text), "config.json", &json));
    sp_status status = sp_component_config_read(kind, json, "config.json", out);
    json_decref(json);
    return status;
}

#endif
