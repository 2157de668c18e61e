/* Files that are a UNet alone, with the rest from a base. */
#include <string.h>
#include "base/text.h"
#include "checkpoints/model_folder.h"
#include "checkpoints/original.h"
#include "convert_support.h"
#include "xl_model.h"

static const char depths[] = XL_UNET("\"transformer_layers_per_block\": [1, 2]");
static const char told[] = XL_UNET("\"transformer_layers_per_block\": [1, 2], \"time_cond_proj_dim\": 16");

/* A model of which only the UNet differs from the base; and the base, without any UNet. */
static void make_models(const char *whole, const char *base, const char *unet)
{
    char path[600];
    make_xl(base, depths);
    assert_ok(sp_copy_tree(base, whole, NULL));
    snprintf(path, sizeof path, "%s/unet", whole);
    make_component(path, SP_COMPONENT_UNET, unet, 99);
    snprintf(path, sizeof path, "%s/unet", base);
    assert_ok(sp_remove_tree(path));
}

/* The names of a file. */
typedef enum { PREFIXED, ORIGINAL, DIFFUSERS } naming;

/* The UNet of a model as a file, with marks, an empty tensor each. */
static void save_unet(const char *model, naming names, const char *const *marks, size_t mark_count, const char *path)
{
    enum { MOST = 600 };
    static sp_named_tensor named[MOST];
    static char texts[MOST][256];
    const size_t prefix = strlen("model.diffusion_model.");
    const sp_tensor mark = {.dtype = SP_F32, .shape = sp_shape_of(0)};
    sp_component *unet;
    assert_ok(sp_component_open(model, "unet", &unet));
    size_t count = sp_weights_count(unet->weights);
    assert_true(count + mark_count < MOST);
    for (size_t i = 0; i < count; i++) {
        const char *own = sp_weights_name(unet->weights, i);
        snprintf(texts[i], sizeof texts[i], "%s", own);
        if (names != DIFFUSERS) assert_true(sp_original_name(&unet->config, true, own, texts[i], sizeof texts[i]));
        named[i] = (sp_named_tensor){texts[i] + (names == ORIGINAL ? prefix : 0), sp_weights_at(unet->weights, i)};
    }
    for (size_t i = 0; i < mark_count; i++)
        named[count + i] = (sp_named_tensor){marks[i], &mark};
    assert_ok(sp_safetensors_save(path, named, count + mark_count, NULL, 0));
    sp_component_close(unet);
}

/* Of the whole model and of the UNet with the base: the same latents, bit for bit. */
static void assert_same_latents(void **state, const char *whole, const char *unet, const char *base)
{
    sp_tensor a = latents_of(state, fox_request(whole, NULL)), b = latents_of(state, fox_request(unet, base));
    assert_same_bits(&a, &b);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

static void check_names(void **state, naming names, const char *unet)
{
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *file = keep(state, "unet.safetensors");
    make_models(whole, base, unet);
    save_unet(whole, names, NULL, 0, file);
    assert_same_latents(state, whole, file, base);
}

static void test_prefixed_names(void **state)
{
    check_names(state, PREFIXED, depths);
}

static void test_original_names(void **state)
{
    check_names(state, ORIGINAL, depths);
}

static void test_diffusers_names(void **state)
{
    check_names(state, DIFFUSERS, depths);
}

static void test_pruned_blocks(void **state)
{
    static const char unet[] =
        XL_UNET("\"transformer_layers_per_block\": [0, [1, 2]], \"mid_block_type\": \"UNetMidBlock2D\","
                " \"reverse_transformer_layers_per_block\": [[3, 1, 2], 1]");
    check_names(state, DIFFUSERS, unet);
}

/* As LCM-SDXL is: a UNet that is told its guidance. */
static void test_told_guidance(void **state)
{
    check_names(state, DIFFUSERS, told);
}

static void test_folders(void **state)
{
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *alone = keep(state, "alone");
    char unet[600];
    make_models(whole, base, depths);
    assert_same_latents(state, whole, whole, base);
    snprintf(unet, sizeof unet, "%s/unet", whole);
    assert_ok(sp_copy_tree(unet, alone, NULL));
    assert_same_latents(state, whole, alone, base);
}

static void test_base_of_one_file(void **state)
{
    const splam_convert_options single = {.dtype = "f32", .single_file = true};
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *file = keep(state, "unet.safetensors"),
               *other = keep(state, "other"), *one = keep(state, "one.safetensors");
    make_models(whole, base, depths);
    make_xl(other, depths);
    assert_ok(convert_model(other, one, &single));
    save_unet(whole, ORIGINAL, NULL, 0, file);
    assert_same_latents(state, whole, file, one);
}

/* What the UNet says it predicts goes before what the base says; what the caller says before both. */
static void test_marks(void **state)
{
    static const char *const marks[] = {"v_pred", "ztsnr"};
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *file = keep(state, "unet.safetensors");
    char path[600];
    json_t *scheduler;
    make_models(whole, base, depths);
    save_unet(whole, ORIGINAL, marks, 2, file);
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", whole);
    sp_tensor plain = latents_of(state, fox_request(whole, NULL));
    assert_ok(sp_json_load(path, &scheduler));
    json_object_set_new(scheduler, "prediction_type", json_string("v_prediction"));
    json_object_set_new(scheduler, "rescale_betas_zero_snr", json_true());
    json_object_set_new(scheduler, "timestep_spacing", json_string("trailing"));
    assert_ok(sp_json_save(path, scheduler));
    assert_same_latents(state, whole, file, base);
    /* what is said to predict the clean latent begins at the last timestep, as SDXL Lightning's for one step */
    json_object_set_new(scheduler, "prediction_type", json_string("sample"));
    json_object_del(scheduler, "rescale_betas_zero_snr");
    assert_ok(sp_json_save(path, scheduler));
    save_unet(whole, DIFFUSERS, marks, 0, file);
    splam_generate_options o = fox_request(file, base);
    o.prediction_type = "sample";
    sp_tensor clean = latents_of(state, fox_request(whole, NULL)), told = latents_of(state, o);
    assert_same_bits(&clean, &told);
    sp_tensor_free(&clean);
    sp_tensor_free(&told);
    json_object_set_new(scheduler, "prediction_type", json_string("epsilon"));
    json_object_set_new(scheduler, "timestep_spacing", json_string("leading"));
    assert_ok(sp_json_save(path, scheduler));
    json_decref(scheduler);
    save_unet(whole, ORIGINAL, marks, 1, file);
    o = fox_request(file, base);
    o.prediction_type = "epsilon";
    sp_tensor asked = latents_of(state, o);
    assert_same_bits(&plain, &asked);
    sp_tensor_free(&plain);
    sp_tensor_free(&asked);
}

/* A whole model of both, as a folder and as one file. */
static void test_converting(void **state)
{
    static const char *const marks[] = {"v_pred"};
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *file = keep(state, "unet.safetensors"),
               *folder = keep(state, "folder"), *one = keep(state, "one.safetensors"), *again = keep(state, "again");
    const splam_convert_options of_base = {.dtype = "f32", .base = base},
                                single = {.dtype = "f32", .base = base, .single_file = true},
                                of_one = {.dtype = "f32", .base = one};
    make_models(whole, base, depths);
    save_unet(whole, DIFFUSERS, marks, 1, file);
    sp_tensor wanted = latents_of(state, fox_request(file, base));
    assert_ok(convert_model(file, folder, &of_base));
    assert_ok(convert_model(file, one, &single));
    assert_ok(convert_model(file, again, &of_one));
    const char *const made[] = {folder, one, again};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        sp_tensor found = latents_of(state, fox_request(made[i], NULL));
        assert_same_bits(&wanted, &found);
        sp_tensor_free(&found);
    }
    sp_tensor_free(&wanted);
}

static void refuse(const char *model, const char *base, splam_status status, const char *words)
{
    splam_generate_options o = fox_request(model, base);
    o.save_latents = "never-written.safetensors";
    splam_status found = splam_generate(&o, NULL);
    if (found != status || !strstr(splam_error_message(), words)) fail_msg("%d: %s", found, splam_error_message());
}

static void test_refusals(void **state)
{
    const char *whole = keep(state, "whole"), *base = keep(state, "base"), *file = keep(state, "unet.safetensors"),
               *half = keep(state, "half.safetensors");
    char path[600];
    make_models(whole, base, depths);
    save_unet(whole, DIFFUSERS, NULL, 0, file);
    refuse(file, NULL, SPLAM_FORMAT,
           "unet.safetensors: is a UNet alone, without vae, text_encoder; `splam generate` and `splam convert` take "
           "the rest from a `base`");
    refuse(base, NULL, SPLAM_FORMAT, "has no unet; it has vae, text_encoder");
    refuse(keep(state, "absent"), base, SPLAM_IO, "absent: no such file or folder");
    refuse(file, keep(state, "absent"), SPLAM_IO, "absent: no such file or folder");
    refuse(file, file, SPLAM_FORMAT, "is a UNet alone");
    refuse(base, base, SPLAM_IO, "has neither a folder \"unet\"");
    /* of another family */
    refuse(golden("original-sd1/model.safetensors"), base, SPLAM_FORMAT, "and the UNet expects a context of");
    /* not a UNet, and half of one */
    const sp_tensor number = {.dtype = SP_F32, .shape = sp_shape_of(1), .data = &(float){1}};
    const sp_named_tensor vae[] = {{"encoder.conv_in.weight", &number},
                                   {"encoder.down.0.block.0.norm1.weight", &number}},
                          parts[] = {{"conv_in.weight", &number}, {"down_blocks.0.resnets.0.norm1.weight", &number}};
    assert_ok(sp_safetensors_save(half, vae, 2, NULL, 0));
    refuse(half, base, SPLAM_UNSUPPORTED, "half.safetensors: is an autoencoder (VAE), expected a UNet");
    assert_ok(sp_safetensors_save(half, parts, 2, NULL, 0));
    refuse(half, base, SPLAM_UNSUPPORTED, "half.safetensors: has neither UNet nor transformer");
    /* a base that has not the rest either */
    snprintf(path, sizeof path, "%s/vae", base);
    assert_ok(sp_remove_tree(path));
    refuse(file, base, SPLAM_FORMAT, "base: has no vae");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_test_folder, remove_test_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_prefixed_names),   TEST(test_original_names), TEST(test_diffusers_names),
        TEST(test_pruned_blocks),    TEST(test_told_guidance),  TEST(test_folders),
        TEST(test_base_of_one_file), TEST(test_marks),          TEST(test_converting),
        TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
