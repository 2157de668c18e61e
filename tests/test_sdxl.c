/* Stable Diffusion XL against StableDiffusionXLPipeline: a tiny model of random weights (tools/golden/make_sdxl.py). */
#include <string.h>
#include "generate_support.h"

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

/* ---- what a model says about itself, and what does not fit ---- */

static const char *copy_model(void **state, const char *name)
{
    const char *folder = keep(state, name);
    assert_ok(sp_copy_tree(sdxl_folder(), folder, NULL));
    return folder;
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_negative_is_zeros, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_empty_negative_is_encoded, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_clip_skip_is_of_the_prompt_alone, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_unguided, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_index_decides_on_zeros, set_up_noise, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_refusals, set_up_noise, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
