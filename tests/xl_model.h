/* A tiny model of Stable Diffusion XL's form that a checkpoint of one file can carry: groups of 32, heads of 64, sizes
 * of 256, CLIP's vocabulary. Weights are random. */
#ifndef XL_MODEL_H
#define XL_MODEL_H
#include "generate_support.h"

/* A UNet's configuration, with the depths of its transformers. */
#define XL_UNET(DEPTHS)                                                                                                \
    "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 128, \"block_out_channels\": [32, 64]," \
    " \"layers_per_block\": 2, \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"]," \
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"attention_head_dim\": [1, 1]," \
    " \"cross_attention_dim\": 192, \"use_linear_projection\": true, \"addition_embed_type\": \"text_time\"," \
    " \"addition_time_embed_dim\": 256, \"projection_class_embeddings_input_dim\": 1600, " DEPTHS "}"
#define XL_TEXT(CLASS, MORE)                                                                                           \
    "{\"architectures\": [\"" CLASS "\"], \"vocab_size\": 49408, \"num_hidden_layers\": 2,"                        \
    " \"eos_token_id\": 2, " MORE "}"

/* CLIP's, as the two text encoders pad. */
static inline void save_two_tokenizers(const char *folder)
{
    char path[600];
    for (int second = 0; second < 2; second++) {
        sp_tokenizer *tokenizer;
        assert_ok(sp_tokenizer_clip(second, &tokenizer));
        snprintf(path, sizeof path, "%s/tokenizer%s", folder, second ? "_2" : "");
        assert_ok(sp_tokenizer_save(tokenizer, path));
        sp_tokenizer_destroy(tokenizer);
    }
}

/* Two guided steps of a small picture. */
static inline splam_generate_options fox_request(const char *model, const char *base)
{
    static const char *const prompts[] = {"a red fox, jumping!"};
    splam_generate_options o = splam_generate_defaults();
    o.prompts = prompts;
    o.prompt_count = 1;
    o.model = model;
    o.base = base;
    o.precision = SPLAM_F32;
    o.steps = 2;
    o.guidance = 3;
    o.width = 24;
    o.height = 16;
    return o;
}

/* Writes a component of random weights. */
static inline void make_component(const char *folder, sp_component_kind kind, const char *text, uint64_t seed)
{
    json_t *json = json_loads(text, 0, NULL);
    sp_component_config config;
    sp_graph *graph;
    sp_weights *weights;
    assert_non_null(json);
    assert_ok(sp_component_config_read(kind, json, "the test's", &config));
    assert_ok(sp_component_graph(&config, &graph));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_initialize(graph, "", &(sp_initialize_options){.seed = seed}, weights));
    assert_ok(sp_component_save(folder, kind, json, weights, SP_F32, NULL));
    sp_weights_destroy(weights);
    sp_graph_destroy(graph);
    json_decref(json);
}

static inline void make_xl(const char *folder, const char *unet)
{
    char path[600];
    const struct {
        const char *name, *text;
        sp_component_kind kind;
    } parts[] = {
        {"unet", unet, SP_COMPONENT_UNET},
        {"vae",
         "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": [32, 32], \"layers_per_block\": 1,"
         " \"scaling_factor\": 0.13025, \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
         " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}",
         SP_COMPONENT_VAE},
        {"text_encoder",
         XL_TEXT("CLIPTextModel", "\"hidden_size\": 64, \"intermediate_size\": 64, \"num_attention_heads\": 1"),
         SP_COMPONENT_TEXT_ENCODER},
        {"text_encoder_2",
         XL_TEXT("CLIPTextModelWithProjection", "\"hidden_size\": 128, \"intermediate_size\": 64,"
              " \"num_attention_heads\": 2, \"hidden_act\": \"gelu\", \"projection_dim\": 64"),
         SP_COMPONENT_TEXT_ENCODER_2},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, parts[i].name);
        make_component(path, parts[i].kind, parts[i].text, 40 + (uint64_t)parts[i].kind);
    }
    save_two_tokenizers(folder);
    snprintf(path, sizeof path, "%s/scheduler", folder);
    assert_ok(sp_copy_tree(golden("sdxl/scheduler"), path, NULL));
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    assert_ok(sp_copy_file(golden("sdxl/model_index.json"), path, NULL));
}

#endif
