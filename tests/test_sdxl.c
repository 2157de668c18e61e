/* Stable Diffusion XL against StableDiffusionXLPipeline: a tiny model of random weights (tools/golden/make_sdxl.py). */
#include <string.h>
#include "base/text.h"
#include "convert_support.h"
#include "generate_support.h"
#include "pipeline/request.h"
#include "xl_model.h"

/* fp32 against float64, relative to the largest: ours is .2e-5 to 1e-4 off, guided steps the most. */
static const double latent_tolerance = 2e-4;

static const char *sdxl_folder(void)
{
    return golden("sdxl");
}

static sp_tensor golden_latents(const char *name)
{
    sp_tensor_file *file;
    const sp_tensor *tensor;
    sp_tensor copy;
    assert_ok(sp_safetensors_open(golden_file("sdxl", "latents.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, name, &tensor));
    assert_ok(sp_tensor_convert(tensor, SP_F32, &copy));
    sp_tensor_file_close(file);
    return copy;
}

static int set_up_noise(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    sp_tensor noise = golden_latents("noise.0");
    const sp_named_tensor named[] = {{"noise.0", &noise}};
    assert_ok(sp_safetensors_save(keep(state, "noise.safetensors"), named, 1, NULL, 0));
    sp_tensor_free(&noise);
    return 0;
}

/* Four steps of Euler at guidance 5, 96 pixels wide and 64 high: sizes in the wrong order would show. */
static splam_generate_options request(void **state)
{
    static const char *const prompts[] = {"a red fox, jumping!"};
    splam_generate_options o = splam_generate_defaults();
    o.prompts = prompts;
    o.prompt_count = 1;
    o.model = sdxl_folder();
    o.precision = SPLAM_F32;
    o.sampler = "euler";
    o.steps = 4;
    o.guidance = 5;
    o.width = 96;
    o.height = 64;
    o.noise = keep(state, "noise.safetensors");
    return o;
}

static void check(void **state, splam_generate_options o, const char *name)
{
    sp_tensor found = latents_of(state, o), wanted = golden_latents(name);
    double error = difference(&found, &wanted);
    print_message("%s: %.2e\n", name, error);
    assert_true(error <= latent_tolerance);
    sp_tensor_free(&found);
    sp_tensor_free(&wanted);
}

static const char *copy_model(void **state, const char *name)
{
    const char *folder = keep(state, name);
    assert_ok(sp_copy_tree(sdxl_folder(), folder, NULL));
    return folder;
}

static void test_no_negative_is_zeros(void **state)
{
    check(state, request(state), "absent");
}

static void test_empty_negative_is_encoded(void **state)
{
    splam_generate_options o = request(state);
    o.negative = "";
    check(state, o, "empty");
    o.negative = "dull fog";
    check(state, o, "negative");
}

static void test_clip_skip_is_of_the_prompt_alone(void **state)
{
    splam_generate_options o = request(state);
    o.clip_skip = 1;
    check(state, o, "skipped");
}

static void test_unguided(void **state)
{
    splam_generate_options o = request(state);
    o.guidance = 1;
    o.spacing = "trailing";
    check(state, o, "trailing");
    o.sampler = "euler-a";
    o.steps = 1;
    check(state, o, "ancestral");
}

/* As SDXL Lightning's model for one step is drawn: asked for, and as the scheduler's file says. */
static void test_clean_latent(void **state)
{
    splam_generate_options o = request(state);
    o.guidance = 1;
    o.spacing = "trailing";
    o.prediction_type = "sample";
    o.steps = 3;
    check(state, o, "clean_3");
    o.steps = 1;
    check(state, o, "clean_1");
    o.spacing = o.prediction_type = o.sampler = NULL;
    o.model = copy_model(state, "lightning");
    char path[600];
    json_t *scheduler;
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", o.model);
    assert_ok(sp_json_load(path, &scheduler));
    json_object_set_new(scheduler, "prediction_type", json_string("sample"));
    json_object_set_new(scheduler, "timestep_spacing", json_string("trailing"));
    assert_ok(sp_json_save(path, scheduler));
    json_decref(scheduler);
    check(state, o, "clean_1");
}

/* ---- what a model says about itself, and what does not fit ---- */

static void test_index_decides_on_zeros(void **state)
{
    splam_generate_options o = request(state);
    o.model = copy_model(state, "encoded");
    char path[600];
    json_t *index;
    snprintf(path, sizeof path, "%s/model_index.json", o.model);
    assert_ok(sp_json_load(path, &index));
    json_object_set_new(index, "force_zeros_for_empty_prompt", json_false());
    assert_ok(sp_json_save(path, index));
    json_decref(index);
    check(state, o, "empty");
}

static void refuse(const splam_generate_options *o, splam_status status, const char *words)
{
    assert_int_equal(splam_generate(o, NULL), status);
    if (!strstr(splam_error_message(), words)) fail_msg("%s", splam_error_message());
}

static void test_refusals(void **state)
{
    splam_generate_options o = request(state);
    o.save_latents = keep(state, "refused.safetensors");
    o.clip_skip = 2; /* of three layers, the last of which is left out anyway */
    refuse(&o, SPLAM_ARGUMENT, "0..1");
    o.clip_skip = 0;
    o.model = copy_model(state, "without");
    char path[600];
    snprintf(path, sizeof path, "%s/text_encoder_2", o.model);
    assert_ok(sp_remove_tree(path));
    refuse(&o, SPLAM_FORMAT, "context of 40");
    o.model = copy_model(state, "swapped");
    char first[600], second[600];
    snprintf(first, sizeof first, "%s/text_encoder_2/config.json", o.model);
    snprintf(second, sizeof second, "%s/text_encoder/config.json", o.model);
    assert_ok(sp_copy_file(second, first, NULL));
    refuse(&o, SPLAM_UNSUPPORTED, "text_encoder_2 is a CLIPTextModel");
}

/* ---- sizes ---- */

typedef struct {
    sp_size_question question;
    sp_picture_sizes sizes;
} sized_request;

static void choose_sizes(void *context)
{
    sized_request *r = context;
    assert_ok(sp_picture_sizes_choose(&r->question, &r->sizes));
}

/* XL's own sizes are a megapixel; Turbo's is 512x512, and other families are other models. */
static void test_small_pictures_are_warned_of(void **state)
{
    static const struct {
        int64_t sample_size, size_dim, width, height;
        bool warned;
    } cases[] = {{128, 256, 1024, 1024, false}, {128, 256, 512, 512, true},   {128, 256, 768, 768, false},
                 {128, 256, 640, 1536, false},  {128, 256, 1024, 504, true},  {128, 256, 1024, 512, false},
                 {64, 256, 512, 512, false},    {64, 256, 256, 256, false},   {128, 0, 512, 512, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        splam_generate_options o = splam_generate_defaults();
        const sp_component_config unet = {
            .kind = SP_COMPONENT_UNET,
            .unet = {.sample_size = cases[i].sample_size, .size_dim = cases[i].size_dim, .in_channels = 4}};
        const sp_denoiser denoiser = sp_denoiser_of(&unet);
        const sp_vae_config vae = {.factor = 8};
        const sp_image none = {0};
        o.width = cases[i].width;
        o.height = cases[i].height;
        sized_request r = {
            .question = {.options = &o, .denoiser = &denoiser, .vae = &vae, .image = &none, .prompt_count = 1}};
        char *said = captured(state, choose_sizes, &r);
        assert_int_equal(r.sizes.width, o.width);
        if (!strstr(said, "1216x832") == cases[i].warned) fail_msg("case %zu: \"%s\"", i, said);
        sp_free(said);
    }
}

/* ---- one file ---- */

static sp_tensor drawn(void **state, const char *model)
{
    splam_generate_options o = request(state);
    o.model = model;
    o.noise = NULL;
    o.width = 24;
    o.height = 16;
    o.steps = 2;
    o.sampler = NULL; /* as the file or folder says */
    return latents_of(state, o);
}

/* From a folder to one file and to a folder again: the same latents, bit for bit. */
static void check_one_file(void **state, const char *unet)
{
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"), *again = keep(state, "again");
    const splam_convert_options single = {.dtype = "f32", .single_file = true}, plain = {.dtype = "f32"};
    make_xl(folder, unet);
    assert_ok(convert_model(folder, file, &single));
    assert_ok(convert_model(file, again, &plain));
    sp_tensor a = drawn(state, folder), b = drawn(state, file), c = drawn(state, again);
    assert_same_bits(&a, &b);
    assert_same_bits(&a, &c);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&c);
}

static void test_inspect_names_sizes(void **state)
{
    char *text;
    splam_inspect_options o = splam_inspect_defaults();
    make_xl(keep(state, "folder"), XL_UNET("\"transformer_layers_per_block\": [1, 1]"));
    for (int own = 0; own < 2; own++) { /* what is made here has a size of 128, the golden one 16 */
        o.path = own ? keep(state, "folder") : sdxl_folder();
        assert_int_equal(splam_inspect(&o, &text), SPLAM_OK);
        const char *line = strstr(text, "\ntrained on    ");
        if ((line == NULL) != (own == 0)) fail_msg("%s", text);
        if (line) assert_non_null(strstr(line, " 1024x1024, 1152x896, 1216x832, 1344x768 and 1536x640, also "));
        splam_free(text);
    }
}

static void test_one_file(void **state)
{
    check_one_file(state, XL_UNET("\"transformer_layers_per_block\": [1, 2]"));
}

static void test_one_file_of_pruned_blocks(void **state)
{
    static const char unet[] =
        XL_UNET("\"transformer_layers_per_block\": [0, [1, 2]], \"mid_block_type\": \"UNetMidBlock2D\","
                " \"reverse_transformer_layers_per_block\": [[3, 1, 2], 1]");
    check_one_file(state, unet);
}

/* Merges hold the second encoder under transformers' names. */
static void test_one_file_of_transformers_names(void **state)
{
    static const char old[] = "conditioner.embedders.1.model.";
    enum { MOST = 600 };
    static sp_named_tensor named[MOST];
    static char names[MOST][256];
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"),
               *other = keep(state, "other.safetensors");
    const splam_convert_options single = {.dtype = "f32", .single_file = true};
    sp_tensor_file *from;
    sp_component *second;
    size_t count = 0;
    make_xl(folder, XL_UNET("\"transformer_layers_per_block\": [1, 1]"));
    assert_ok(convert_model(folder, file, &single));
    assert_ok(sp_safetensors_open(file, &from));
    assert_ok(sp_component_open(folder, "text_encoder_2", &second));
    for (size_t i = 0; i < sp_tensor_file_count(from); i++)
        if (!sp_starts_with(sp_tensor_file_name(from, i), old))
            named[count++] = (sp_named_tensor){sp_tensor_file_name(from, i), sp_tensor_file_at(from, i)};
    for (size_t i = 0; i < sp_weights_count(second->weights); i++, count++) {
        const char *own = sp_weights_name(second->weights, i);
        assert_true(count < MOST);
        snprintf(names[count], sizeof names[count], "%s%s%s", old,
                 sp_starts_with(own, "text_proj") ? "" : "text_model.", own);
        named[count] = (sp_named_tensor){names[count], sp_weights_at(second->weights, i)};
    }
    assert_ok(sp_safetensors_save(other, named, count, NULL, 0));
    sp_component_close(second);
    sp_tensor_file_close(from);
    sp_tensor a = drawn(state, file), b = drawn(state, other);
    assert_same_bits(&a, &b);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_negative_is_zeros, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_empty_negative_is_encoded, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_clip_skip_is_of_the_prompt_alone, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_unguided, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_clean_latent, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_index_decides_on_zeros, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_refusals, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_small_pictures_are_warned_of, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_inspect_names_sizes, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_one_file, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_one_file_of_pruned_blocks, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_one_file_of_transformers_names, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
