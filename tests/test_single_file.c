/* Models written as one file of original names, and read again. */
#include "tiny_model.h"
#include "convert_support.h"
#include "checkpoints/original.h"

static const splam_convert_options to_f32 = {.dtype = "f32", .single_file = true};

/* The published names at full size: what every parameter is called there. Attention of OpenCLIP,
 * whose three matrices are one, has a name for each here. */
static void check_names(const char *list)
{
    char *text, *rest;
    sp_component_config config = {.kind = SP_COMPONENT_TEXT_ENCODER};
    bool second = strstr(list, "sd2") != NULL;
    int checked = 0;
    assert_ok(sp_read_file(golden(list), &text, NULL));
    rest = text;
    for (char *row; (row = strsep(&rest, "\n")) && *row;) {
        const char *component = strsep(&row, "|"), *name = strsep(&row, "|"),
                   *original = strsep(&row, "|");
        char found[1024];
        config.kind = (sp_component_kind)sp_component_kind_of(component);
        if (config.kind == SP_COMPONENT_UNET)
            config.unet = (sp_unet_config){
                .levels = 4, .layers = {2, 2, 2, 2}, .up_attention = {true, true, true, false}};
        else if (config.kind == SP_COMPONENT_VAE)
            config.vae = (sp_vae_config){.kind = SP_VAE_KL, .kl = {.levels = 4, .layers = 2}};
        else
            config.text =
                (sp_clip_text_config){.activation = second ? SP_UNARY_GELU : SP_UNARY_QUICK_GELU};
        if (strstr(original, "in_proj_")) continue;
        assert_true(sp_original_name(&config, false, name, found, sizeof found));
        assert_string_equal(found, original);
        checked++;
    }
    assert_true(checked > 1000);
    sp_free(text);
}

static void names_are_the_published_ones(void **state)
{
    (void)state;
    check_names("original-sd1/names.txt");
    check_names("original-sd2/names.txt");
}

/* Every tensor of every component is the same, bit for bit; both are f32 or of one type. */
static void assert_same_model(const char *a, const char *b)
{
    static const char *const names[] = {"unet", "vae", "text_encoder"};
    for (int i = 0; i < 3; i++) {
        sp_component *x, *y;
        assert_ok(sp_component_open(a, names[i], &x));
        assert_ok(sp_component_open(b, names[i], &y));
        assert_int_equal(sp_weights_count(x->weights), sp_weights_count(y->weights));
        for (size_t k = 0; k < sp_weights_count(x->weights); k++) {
            const sp_tensor *tensor = sp_weights_at(x->weights, k),
                            *other = sp_weights_find(y->weights, sp_weights_name(x->weights, k));
            assert_non_null(other);
            assert_true(sp_shape_equal(tensor->shape, other->shape));
            for (int64_t e = 0; e < sp_tensor_count(tensor); e++)
                assert_true(sp_load(tensor->data, tensor->dtype, e) ==
                            sp_load(other->data, other->dtype, e));
        }
        sp_component_close(x);
        sp_component_close(y);
    }
}

static void first_comes_back(void **state)
{
    char folder[512], single[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "folder"));
    snprintf(single, sizeof single, "%s", in_folder(state, "single.safetensors"));
    const char *file = golden("original-sd1/model.safetensors");
    assert_ok(convert_model(file, folder, &(splam_convert_options){.dtype = "f32"}));
    assert_ok(convert_model(folder, single, &to_f32));
    assert_same_model(folder, single);
    assert_status(convert_model(folder, single, &to_f32), SP_ARGUMENT);
    assert_message("is there already");
    /* from one file to another, in half the bits that the first has */
    splam_convert_options half = {.dtype = "f16", .single_file = true};
    assert_ok(convert_model(single, in_folder(state, "half.safetensors"), &half));
    assert_same_model(single, in_folder(state, "half.safetensors"));
}

/* The golden's UNet and VAE of 2.x with a text encoder of 23 layers, as diffusers' folders have. */
static void second_comes_back(void **state)
{
    char folder[512], single[512], text[640];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "folder"));
    snprintf(single, sizeof single, "%s", in_folder(state, "single.safetensors"));
    snprintf(text, sizeof text, "%s/text_encoder", folder);
    assert_ok(convert_model(golden("original-sd2/model.ckpt"), folder,
                            &(splam_convert_options){.dtype = "f32"}));
    /* a file's reader counts on the layer that 2.x leaves out */
    assert_status(convert_model(folder, single, &to_f32), SP_UNSUPPORTED);
    assert_message("num_hidden_layers");
    assert_false(sp_path_exists(single));
    sp_component *old;
    sp_graph *graph;
    sp_weights *weights;
    assert_ok(sp_component_open(folder, "text_encoder", &old));
    sp_component_config config = old->config;
    sp_component_close(old);
    config.text.layers = 23;
    assert_ok(sp_component_graph(&config, &graph));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_initialize(graph, "", &(sp_initialize_options){.seed = 8}, weights));
    json_t *json = sp_clip_text_config_write(&config.text);
    assert_ok(sp_component_save(text, SP_COMPONENT_TEXT_ENCODER, json, weights, SP_F32, NULL));
    json_decref(json);
    sp_weights_destroy(weights);
    sp_graph_destroy(graph);
    assert_ok(convert_model(folder, single, &to_f32));
    assert_same_model(folder, single);
    sp_tensor_file *file;
    json_t *scheduler;
    assert_ok(sp_safetensors_open(single, &file));
    assert_ok(sp_original_scheduler(file, NULL, &scheduler));
    assert_string_equal(json_string_value(json_object_get(scheduler, "prediction_type")),
                        "epsilon"); /* the golden's 875000 steps say so, the metadata now */
    json_decref(scheduler);
    sp_tensor_file_close(file);
}

static void expect(const char *model, const char *output, const splam_convert_options *options,
                   sp_status status, const char *message)
{
    sp_status found = convert_model(model, output, options);
    if (found != status) fail_msg("\"%s\" expected, found \"%s\"", message, sp_error_message());
    assert_message(message);
    assert_false(sp_path_exists(output));
}

static void what_does_not_fit_is_refused(void **state)
{
    char model[512], output[512];
    snprintf(model, sizeof model, "%s", in_folder(state, "model"));
    snprintf(output, sizeof output, "%s", in_folder(state, "out.safetensors"));
    make_model(model, "unet-guided", ddim_scheduler);
    expect(model, output, &to_f32, SP_UNSUPPORTED, "CLIP's");
    assert_ok(sp_remove_tree(in_folder(state, "model/text_encoder")));
    expect(model, output, &to_f32, SP_UNSUPPORTED, "`fold_guidance`");
    const splam_convert_options folded = {.dtype = "f32", .single_file = true, .fold_guidance = true};
    expect(model, output, &folded, SP_UNSUPPORTED, "has no form as one file");
    expect(model, in_folder(state, "out.ckpt"), &to_f32, SP_ARGUMENT, ".safetensors");
    expect(model, in_folder(state, "new"), &(splam_convert_options){.dtype = "f32", .unet = "unet_ema"},
           SP_ARGUMENT, "single file alone");
    assert_ok(sp_remove_tree(in_folder(state, "model/unet")));
    expect(model, output, &folded, SP_ARGUMENT, "no UNet");
    assert_ok(sp_copy_tree(golden("unet-sd1"), in_folder(state, "model/unet"), NULL));
    assert_ok(sp_remove_tree(in_folder(state, "model/vae")));
    assert_ok(sp_copy_tree(golden("vae-tiny"), in_folder(state, "model/vae"), NULL));
    expect(model, output, &to_f32, SP_UNSUPPORTED, "AutoencoderTiny");
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_the_published_ones),
        with_folder(first_comes_back),
        with_folder(second_comes_back),
        with_folder(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests_name("single file", tests, NULL, NULL);
}
