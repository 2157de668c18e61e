/* Configs of components: defaults, writing, and what is refused. */
#include <math.h>
#include "config_support.h"
#include "ops/ops.h"

static void test_defaults(void **state)
{
    (void)state;
    sp_component_config unet, sd15, vae, text;
    assert_ok(read_config(SP_COMPONENT_UNET, "{}", &unet));
    assert_int_equal(unet.unet.levels, 4);
    assert_int_equal(unet.unet.cross_attention_dim, 1280);
    assert_int_equal(unet.unet.time_dim, 1280);
    assert_int_equal(unet.unet.heads[3], 8);
    assert_true(unet.unet.down_attention[0] && !unet.unet.down_attention[3]);
    assert_true(unet.unet.up_attention[0] && !unet.unet.up_attention[3]);
    assert_ok(read_config(SP_COMPONENT_UNET, sd15_unet, &sd15));
    assert_int_equal(sd15.unet.cross_attention_dim, 768);
    assert_ok(read_config(SP_COMPONENT_VAE, "{}", &vae));
    assert_int_equal(vae.vae.kl.levels, 1);
    assert_float_equal(vae.vae.scaling_factor, 0.18215, 1e-12);
    assert_ok(read_config(SP_COMPONENT_TEXT_ENCODER, "{}", &text));
    assert_int_equal(text.text.vocabulary, 49408);
    assert_int_equal(text.text.activation, SP_UNARY_QUICK_GELU);
}

/* The beginning of an AutoencoderTiny's config. */
#define TINY "{\"_class_name\": \"AutoencoderTiny\""

static void check_round_trip(sp_component_kind kind, const char *text)
{
    sp_component_config first = {0}, second = {0};
    assert_ok(read_config(kind, text, &first));
    json_t *written = kind == SP_COMPONENT_UNET  ? sp_unet_config_write(&first.unet)
                      : kind == SP_COMPONENT_VAE ? sp_vae_config_write(&first.vae)
                                                 : sp_clip_text_config_write(&first.text);
    assert_non_null(written);
    assert_ok(sp_component_config_read(kind, written, "written", &second));
    assert_memory_equal(&first, &second, sizeof first);
    json_decref(written);
}

static void test_config_round_trip(void **state)
{
    (void)state;
    check_round_trip(SP_COMPONENT_UNET, sd15_unet);
    check_round_trip(SP_COMPONENT_UNET, sd21_unet);
    check_round_trip(
        SP_COMPONENT_UNET,
        "{\"block_out_channels\": [32, 64], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
        " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"layers_per_block\": [1, 3],"
        " \"transformer_layers_per_block\": [1, 2], \"time_cond_proj_dim\": 256, \"freq_shift\": 1,"
        " \"time_embedding_dim\": 96, \"downsample_padding\": 0, \"flip_sin_to_cos\": false}");
    check_round_trip(SP_COMPONENT_UNET, sdxl_unet);
    check_round_trip(SP_COMPONENT_UNET, ssd1b_unet);
    check_round_trip(SP_COMPONENT_VAE, sd15_vae);
    check_round_trip(SP_COMPONENT_VAE,
                     "{\"use_quant_conv\": false, \"mid_block_add_attention\": false,"
                     " \"scaling_factor\": 0.7, \"latent_channels\": 16}");
    check_round_trip(SP_COMPONENT_VAE, TINY "}");
    check_round_trip(
        SP_COMPONENT_VAE,
        TINY ", \"encoder_block_out_channels\": [16, 16, 16], \"num_encoder_blocks\": [1, 2, 0],"
             " \"decoder_block_out_channels\": [8, 8], \"num_decoder_blocks\": [4, 1],"
             " \"upsampling_scaling_factor\": 4, \"act_fn\": \"gelu\", \"scaling_factor\": 0.5,"
             " \"latent_channels\": 16}");
    check_round_trip(SP_COMPONENT_TEXT_ENCODER, sd15_text);
    check_round_trip(SP_COMPONENT_TEXT_ENCODER, "{\"hidden_act\": \"gelu\"}");
}

/* A config that must be refused, and words of the refusal. */
typedef struct {
    sp_component_kind kind;
    const char *text;
    sp_status status;
    const char *words;
} bad_config;

#define UNET SP_COMPONENT_UNET
#define VAE SP_COMPONENT_VAE
#define TEXT SP_COMPONENT_TEXT_ENCODER
static const bad_config bad_configs[] = {
    {UNET, "[]", SP_FORMAT, "object"},
    {UNET, "{\"in_channels\": 4", SP_FORMAT, "line 1"},
    {UNET, "{\"_class_name\": \"UNet3DConditionModel\"}", SP_UNSUPPORTED, "UNet3DConditionModel"},
    {UNET, "{\"class_embed_type\": \"timestep\"}", SP_UNSUPPORTED, "class_embed_type"},
    {UNET, "{\"addition_embed_type\": \"text\"}", SP_UNSUPPORTED, "addition_embed_type"},
    {UNET, "{\"addition_time_embed_dim\": 256}", SP_UNSUPPORTED, "addition_embed_type"},
    {UNET, "{\"addition_embed_type\": \"text_time\"}", SP_FORMAT, "addition_time_embed_dim"},
    {UNET, "{\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 7,"
           " \"projection_class_embeddings_input_dim\": 100}", SP_FORMAT, "even"},
    {UNET, "{\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 8,"
           " \"projection_class_embeddings_input_dim\": 48}", SP_FORMAT, "48"},
    {UNET, "{\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"}", SP_UNSUPPORTED, "mid_block_type"},
    {UNET, "{\"transformer_layers_per_block\": [1, 2]}", SP_FORMAT, "block_out_channels"},
    {UNET, "{\"transformer_layers_per_block\": [1, 1, 0, 1]}", SP_FORMAT, "no transformer layer"},
    {UNET, "{\"transformer_layers_per_block\": [1, 1, 17, 1]}", SP_FORMAT, "17"},
    {UNET, "{\"reverse_transformer_layers_per_block\": [1, 1, 1, 1]}", SP_FORMAT, "is no list"},
    {UNET, "{\"transformer_layers_per_block\": [1, [1, 2, 3], 1, 1],"
           " \"reverse_transformer_layers_per_block\": [1, 1, 1, 1]}", SP_FORMAT, "transformer_layers_per_block"},
    {UNET, "{\"a_key_of_tomorrow\": 3}", SP_UNSUPPORTED, "a_key_of_tomorrow"},
    {UNET, "{\"only_cross_attention\": [true, false, false, false]}", SP_UNSUPPORTED,
     "only_cross_attention"},
    {UNET, "{\"mid_block_type\": null}", SP_UNSUPPORTED, "mid_block_type"},
    {UNET, "{\"act_fn\": \"gelu\"}", SP_UNSUPPORTED, "act_fn"},
    {UNET, "{\"resnet_time_scale_shift\": \"scale_shift\"}", SP_UNSUPPORTED,
     "resnet_time_scale_shift"},
    {UNET, "{\"norm_num_groups\": null}", SP_UNSUPPORTED, "norm_num_groups"},
    {UNET, "{\"norm_num_groups\": 0}", SP_FORMAT, "norm_num_groups"},
    {UNET, "{\"norm_num_groups\": -32}", SP_FORMAT, "norm_num_groups"},
    {UNET, "{\"norm_num_groups\": 48}", SP_FORMAT, "norm_num_groups"},
    {UNET, "{\"block_out_channels\": 320}", SP_FORMAT, "block_out_channels"},
    {UNET, "{\"block_out_channels\": []}", SP_FORMAT, "block_out_channels"},
    {UNET, "{\"block_out_channels\": [320, 640, 1280, \"1280\"]}", SP_FORMAT, "block_out_channels"},
    {UNET, "{\"block_out_channels\": [320, 640, 1280, 9223372036854775807]}", SP_FORMAT,
     "block_out_channels"},
    {UNET, "{\"block_out_channels\": [32, 32, 32, 32, 32, 32, 32, 32, 32]}", SP_FORMAT,
     "block_out_channels"},
    {UNET, "{\"block_out_channels\": [320, 640]}", SP_FORMAT, "down_block_types"},
    {UNET, "{\"block_out_channels\": [0, 640, 1280, 1280]}", SP_FORMAT, "block_out_channels"},
    {UNET, "{\"down_block_types\": [\"DownBlock2D\", 7, \"DownBlock2D\", \"DownBlock2D\"]}",
     SP_FORMAT, "down_block_types"},
    {UNET,
     "{\"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]}",
     SP_UNSUPPORTED, "AttnDownBlock2D"},
    {UNET, "{\"down_block_types\": \"DownBlock2D\"}", SP_FORMAT, "down_block_types"},
    {UNET, "{\"layers_per_block\": 1000000000}", SP_FORMAT, "layers_per_block"},
    {UNET, "{\"layers_per_block\": [2, 2]}", SP_FORMAT, "layers_per_block"},
    {UNET, "{\"layers_per_block\": 0}", SP_FORMAT, "layers_per_block"},
    {UNET, "{\"attention_head_dim\": 7}", SP_FORMAT, "attention_head_dim"},
    {UNET, "{\"attention_head_dim\": 0}", SP_FORMAT, "attention_head_dim"},
    {UNET, "{\"num_attention_heads\": 8}", SP_UNSUPPORTED, "num_attention_heads"},
    {UNET, "{\"cross_attention_dim\": \"768\"}", SP_FORMAT, "cross_attention_dim"},
    {UNET, "{\"cross_attention_dim\": [768, 768, 768, 1024]}", SP_UNSUPPORTED,
     "cross_attention_dim"},
    {UNET, "{\"in_channels\": -4}", SP_FORMAT, "in_channels"},
    {UNET, "{\"norm_eps\": 0}", SP_FORMAT, "norm_eps"},
    {UNET, "{\"norm_eps\": \"small\"}", SP_FORMAT, "norm_eps"},
    {UNET, "{\"freq_shift\": 160}", SP_FORMAT, "freq_shift"},
    {UNET, "{\"use_linear_projection\": 1}", SP_FORMAT, "use_linear_projection"},
    {UNET, "{\"time_cond_proj_dim\": 1e9}", SP_FORMAT, "time_cond_proj_dim"},
    {UNET, "{\"transformer_layers_per_block\": [[1, 1], [1, 1], [1, 1], [1, 1]]}", SP_FORMAT,
     "reverse_transformer_layers_per_block"},
    {UNET,
     "{\"norm_num_groups\": 1, \"block_out_channels\": [1, 2, 2, 2], \"attention_head_dim\": 1}",
     SP_FORMAT, "even"},
    {VAE, "{\"_class_name\": \"AutoencoderDC\"}", SP_UNSUPPORTED, "AutoencoderDC"},
    {VAE, "{\"_class_name\": 7}", SP_FORMAT, "_class_name"},
    {VAE, TINY ", \"act_fn\": \"mish\"}", SP_UNSUPPORTED, "mish"},
    {VAE, TINY ", \"upsample_fn\": \"bilinear\"}", SP_UNSUPPORTED, "upsample_fn"},
    {VAE, TINY ", \"shift_factor\": 0.1}", SP_UNSUPPORTED, "shift_factor"},
    {VAE, TINY ", \"block_type\": \"attention\"}", SP_UNSUPPORTED, "block_type"},
    {VAE, TINY ", \"encoder_block_out_channels\": [64, 64, 64, 32]}", SP_FORMAT, "64 and 32"},
    {VAE, TINY ", \"decoder_block_out_channels\": [64, 64, 64]}", SP_FORMAT, "3 entries"},
    {VAE, TINY ", \"num_decoder_blocks\": 3}", SP_FORMAT, "num_decoder_blocks"},
    {VAE, TINY ", \"num_encoder_blocks\": [1, 3, 3, 1000000]}", SP_FORMAT, "num_encoder_blocks"},
    {VAE, TINY ", \"num_encoder_blocks\": []}", SP_FORMAT, "num_encoder_blocks"},
    {VAE, TINY ", \"upsampling_scaling_factor\": 3}", SP_UNSUPPORTED, "27 times larger"},
    {VAE, TINY ", \"upsampling_scaling_factor\": 1e30}", SP_FORMAT, "upsampling_scaling_factor"},
    {VAE, "{\"shift_factor\": \"x\"}", SP_FORMAT, "shift_factor"},
    {VAE, "{\"latents_mean\": [0]}", SP_UNSUPPORTED, "latents_mean"},
    {VAE, "{\"latents_mean\": [0.1]}", SP_UNSUPPORTED, "latents_mean"},
    {VAE, "{\"down_block_types\": [\"AttnDownEncoderBlock2D\"]}", SP_UNSUPPORTED,
     "AttnDownEncoderBlock2D"},
    {VAE,
     "{\"block_out_channels\": [64, 65], \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
     " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}",
     SP_FORMAT, "65"},
    {VAE, "{\"scaling_factor\": -1}", SP_FORMAT, "scaling_factor"},
    {VAE, "{\"latent_channels\": 1000000}", SP_FORMAT, "latent_channels"},
    {VAE, "{\"use_quant_conv\": \"yes\"}", SP_FORMAT, "use_quant_conv"},
    {TEXT, "{\"architectures\": [\"T5EncoderModel\"]}", SP_UNSUPPORTED, "T5EncoderModel"},
    {TEXT, "{\"hidden_act\": \"relu\"}", SP_UNSUPPORTED, "hidden_act"},
    {TEXT, "{\"hidden_act\": 1}", SP_FORMAT, "hidden_act"},
    {TEXT, "{\"hidden_size\": 768, \"num_attention_heads\": 7}", SP_FORMAT, "num_attention_heads"},
    {TEXT, "{\"num_attention_heads\": 0}", SP_FORMAT, "num_attention_heads"},
    {TEXT, "{\"num_hidden_layers\": 1e12}", SP_FORMAT, "num_hidden_layers"},
    {TEXT, "{\"vocab_size\": 99999999999}", SP_FORMAT, "vocab_size"},
    {TEXT, "{\"layer_norm_eps\": -1e-5}", SP_FORMAT, "layer_norm_eps"},
};

static void test_bad_configs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++) {
        const bad_config *bad = &bad_configs[i];
        sp_component_config config;
        sp_status status = read_config(bad->kind, bad->text, &config);
        if (status != bad->status)
            fail_msg("%s: found \"%s\", expected \"%s\"", bad->text, sp_status_text(status),
                     sp_status_text(bad->status));
        assert_message(bad->words);
        assert_message("config.json");
    }
}

/* A long value is quoted as far as the message has room for it. */
static void test_long_values(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    char text[COUNT * 8 + 64] = "{\"trained_betas\": [";
    size_t length = strlen(text);
    for (int i = 0; i < COUNT; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s0.%d", i ? "," : "", 1000 + i);
    snprintf(text + length, sizeof text - length, "]}");
    sp_component_config config;
    assert_status(read_config(UNET, text, &config), SP_UNSUPPORTED);
    assert_string_equal(sp_error_message(), "config.json: \"trained_betas\" ([0.1,0.1001,0.1002,0.1003,0.1004,0.1005,"
                                            "0.1006,0.1007,0.1008...) is not supported");
    snprintf(text, sizeof text, "{\"trained_betas\": \"%0*d\"}", COUNT, 7);
    assert_status(read_config(UNET, text, &config), SP_UNSUPPORTED);
    assert_string_equal(sp_error_message(), "config.json: \"trained_betas\" (\"000000000000000000000000000000000000000"
                                            "00000000000000000000...) is not supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_config_round_trip),
        cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_long_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
