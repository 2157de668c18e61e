/* Stable Diffusion 3 against StableDiffusion3Pipeline without T5: a tiny model of random weights
 * (tools/golden/make_sd3.py). */
#include <string.h>
#include "base/text.h"
#include "convert_support.h"
#include "generate_support.h"
#include "pipeline/pipeline.h"

/* fp32 against float64, relative to the largest. */
static const double latent_tolerance = 2e-4;

static const sp_tensor *golden_tensor(sp_tensor_file **file, const char *name)
{
    const sp_tensor *tensor;
    const char *of = strcmp(name, "lora") == 0 ? "lora-latents.safetensors" : "latents.safetensors";
    assert_ok(sp_safetensors_open(golden_file("sd3", of), file));
    assert_ok(sp_tensor_file_get(*file, name, &tensor));
    return tensor;
}

static int set_up_noise(void **state)
{
    sp_tensor_file *file;
    if (make_test_folder(state) != 0) return -1;
    const sp_named_tensor named[] = {{"noise.0", golden_tensor(&file, "noise.0")}};
    assert_ok(sp_safetensors_save(keep(state, "noise.safetensors"), named, 1, NULL, 0));
    sp_tensor_file_close(file);
    return 0;
}

/* Four steps at guidance 4 with the model's own sampler, 96 pixels wide and 64 high. */
static splam_generate_options request(void **state)
{
    static const char *const prompts[] = {"a red fox, jumping!"};
    splam_generate_options o = splam_generate_defaults();
    o.prompts = prompts;
    o.prompt_count = 1;
    o.model = golden("sd3");
    o.precision = SPLAM_F32;
    o.steps = 4;
    o.guidance = 4;
    o.width = 96;
    o.height = 64;
    o.noise = keep(state, "noise.safetensors");
    return o;
}

static void check(void **state, splam_generate_options o, const char *name)
{
    sp_tensor_file *file;
    sp_tensor found = latents_of(state, o);
    double error = difference(&found, golden_tensor(&file, name));
    print_message("%s: %.2e\n", name, error);
    assert_true(error <= latent_tolerance);
    sp_tensor_file_close(file);
    sp_tensor_free(&found);
}

static void refuse(const splam_generate_options *o, splam_status status, const char *words)
{
    splam_status found = splam_generate(o, NULL);
    if (found != status || !strstr(splam_error_message(), words)) fail_msg("%d: %s", found, splam_error_message());
}

/* A third pass without two blocks, in evaluations 1 to 3 of 7. */
static void test_skip_layers(void **state)
{
    splam_generate_options o = request(state);
    o.steps = 7;
    o.skip_layers = "1,2";
    o.skip_layer_scale = 1.5;
    o.skip_layer_stop = 0.5;
    check(state, o, "skip_layers");
    o.save_latents = keep(state, "latents.safetensors");
    o.skip_layers = "1,99";
    refuse(&o, SPLAM_ARGUMENT, "expected numbers of blocks");
    o.skip_layers = "1,";
    refuse(&o, SPLAM_ARGUMENT, "expected numbers of blocks");
    o.skip_layers = "1";
    o.guidance = 1;
    refuse(&o, SPLAM_ARGUMENT, "there is none");
    o.guidance = 4;
    o.skip_layers = NULL;
    refuse(&o, SPLAM_ARGUMENT, "without `skip_layers`");
    o = request(state);
    o.model = shipped_teacher();
    o.noise = NULL;
    o.skip_layers = "1";
    o.save_latents = keep(state, "latents.safetensors");
    refuse(&o, SPLAM_ARGUMENT, "for Stable Diffusion 3");
}

static void keep_json(void *to, const splam_drawn *drawn)
{
    sp_free(*(char **)to);
    *(char **)to = sp_strdup(drawn->json);
}

/* A negative prompt that nobody gave is the empty text, never zeros. */
static void test_negative(void **state)
{
    splam_generate_options o = request(state);
    check(state, o, "absent");
    o.negative = "";
    check(state, o, "absent");
    o.negative = "dull fog";
    check(state, o, "negative");
}

static void test_clip_skip(void **state)
{
    splam_generate_options o = request(state);
    o.clip_skip = 1;
    check(state, o, "skipped");
}

/* What StableDiffusion3Pipeline.save_lora_weights wrote, whose alpha is not its rank. */
static void test_lora(void **state)
{
    splam_generate_options o = request(state);
    o.loras = &(splam_lora){.path = golden_file("sd3", "lora.safetensors"), .weight = 1};
    o.lora_count = 1;
    check(state, o, "lora");
}

static void test_unguided(void **state)
{
    splam_generate_options o = request(state);
    o.guidance = 1;
    o.steps = 7;
    check(state, o, "unguided");
    o.steps = 4;
    o.sampler = "ddim"; /* along the even steps that students are made for */
    check(state, o, "student");
}

/* The tokens of the text encoder that is absent are 77, as ComfyUI has them. */
static void test_fewer_tokens(void **state)
{
    splam_generate_options o = request(state);
    char *json = NULL;
    o.negative = "dull fog";
    o.t5_absent = "256";
    check(state, o, "negative");
    o.t5_absent = "77";
    check(state, o, "absent77");
    o.save_latents = keep(state, "latents.safetensors");
    o.receive = keep_json;
    o.receiver = &json;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_OK);
    assert_non_null(strstr(json, "\"t5_absent\":77"));
    sp_free(json);
    o.receive = NULL;
    o.t5_absent = "78";
    refuse(&o, SPLAM_ARGUMENT, "`t5_absent`");
    o.t5_absent = "77";
    o.noise = NULL;
    o.model = golden("sdxl");
    refuse(&o, SPLAM_ARGUMENT, "`t5_absent` is of Stable Diffusion 3 alone");
}

static void check_t5(void **state, splam_generate_options o, const char *name)
{
    sp_tensor_file *file;
    const sp_tensor *wanted;
    sp_tensor found = latents_of(state, o);
    assert_ok(sp_safetensors_open(golden_file("t5", "latents.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, name, &wanted));
    double error = difference(&found, wanted);
    print_message("%s with T5: %.2e\n", name, error);
    assert_true(error <= latent_tolerance);
    sp_tensor_file_close(file);
    sp_tensor_free(&found);
}

/* The third encoder, of a folder and of a file beside a tokenizer, whose states stand behind the others'. */
static void test_third_encoder(void **state)
{
    splam_generate_options o = request(state);
    char *json = NULL, *text;
    const char *file = keep(state, "t5xxl.safetensors");
    size_t size;
    o.t5 = golden("t5");
    check_t5(state, o, "guided");
    o.negative = "dull fog";
    check_t5(state, o, "negative");
    assert_ok(sp_read_file(golden_file("t5", "text_encoder_3/model.safetensors"), &text, &size));
    overwrite(file, text, size);
    sp_free(text);
    o.t5 = file;
    o.save_latents = keep(state, "latents.safetensors");
    refuse(&o, SPLAM_IO, "there is no tokenizer.json in it, beside it");
    assert_ok(sp_read_file(golden_file("t5", "tokenizer_3/tokenizer.json"), &text, &size));
    overwrite(keep(state, "tokenizer.json"), text, size);
    sp_free(text);
    check_t5(state, o, "negative");
    o.receive = keep_json;
    o.receiver = &json;
    o.memory_limit = 2000000000; /* with T5's share planned */
    assert_int_equal(splam_generate(&o, NULL), SPLAM_OK);
    assert_non_null(strstr(json, "\"t5\":\"t5xxl.safetensors\""));
    assert_null(strstr(json, "t5_absent"));
    sp_free(json);
    o.receive = NULL;
    o.t5_absent = "77";
    refuse(&o, SPLAM_ARGUMENT, "`t5_absent` says what stands for `t5`");
    o.t5_absent = NULL;
    o.prompt_syntax = SPLAM_PROMPT_WEIGHTED;
    refuse(&o, SPLAM_UNSUPPORTED, "`prompt_syntax` weighted is not supported with `t5`");
    o.prompt_syntax = SPLAM_PROMPT_PLAIN;
    o.model = golden("sd3");
    o.t5 = golden("sd3");
    refuse(&o, SPLAM_IO, "config.json");
    o.t5 = golden_file("sd3", "text_encoder");
    refuse(&o, SPLAM_UNSUPPORTED, "expected a T5EncoderModel");
    o.noise = NULL;
    o.t5 = golden("t5");
    o.model = golden("sdxl");
    refuse(&o, SPLAM_ARGUMENT, "`t5` is of Stable Diffusion 3 alone");
}

/* Latents are shifted before they are decoded. */
static void test_decoding(void **state)
{
    sp_tensor_file *file, *other;
    sp_pipeline *p;
    sp_tensor picture;
    (void)state;
    assert_ok(sp_pipeline_open(golden("sd3"), &(sp_model_options){.parts = SP_PART_VAE}, &p));
    assert_ok(sp_pipeline_decode(p, golden_tensor(&file, "unguided"), NULL, &picture));
    double error = difference(&picture, golden_tensor(&other, "picture"));
    print_message("picture: %.2e\n", error);
    assert_true(error <= 1e-4);
    sp_tensor_free(&picture);
    sp_pipeline_close(p);
    sp_tensor_file_close(file);
    sp_tensor_file_close(other);
}

static void test_refusals(void **state)
{
    splam_generate_options o = request(state);
    char path[600];
    json_t *json;
    o.save_latents = keep(state, "latents.safetensors");
    o.noise = NULL;
    o.width = 104;
    refuse(&o, SPLAM_ARGUMENT, "the width of 104 pixels is not a multiple of 16");
    o.width = 208;
    refuse(&o, SPLAM_ARGUMENT, "the width of 208 pixels is more than the 192 that this model knows positions for");
    o.width = 96;
    o.unet = "unet_ema";
    refuse(&o, SPLAM_ARGUMENT, "has a transformer, and \"unet_ema\" is the name of none");
    o.unet = NULL;
    o.sampler = "euler-a";
    refuse(&o, SPLAM_UNSUPPORTED, "euler-a has no form for flow models");
    o.sampler = NULL;
    o.embeddings = &(splam_embedding){.path = "any.safetensors"};
    o.embedding_count = 1;
    refuse(&o, SPLAM_UNSUPPORTED, "is a Stable Diffusion 3 model, which an embedding is not supported with yet");
    o.embedding_count = 0;
    /* parts that do not fit */
    o.model = keep(state, "model");
    assert_ok(sp_copy_tree(golden("sd3"), o.model, NULL));
    snprintf(path, sizeof path, "%s/vae/config.json", o.model);
    assert_ok(sp_json_load(path, &json));
    json_object_set_new(json, "shift_factor", json_string("x"));
    assert_ok(sp_json_save(path, json));
    refuse(&o, SPLAM_FORMAT, "shift_factor");
    json_decref(json);
    snprintf(path, sizeof path, "%s/transformer/config.json", o.model);
    assert_ok(sp_json_load(path, &json));
    json_object_set_new(json, "qk_norm", json_string("layer_norm"));
    assert_ok(sp_json_save(path, json));
    refuse(&o, SPLAM_UNSUPPORTED, "\"qk_norm\" is \"layer_norm\"");
    json_object_set_new(json, "qk_norm", json_string("rms_norm"));
    json_object_set_new(json, "dual_attention_layers", json_pack("[i]", 3));
    assert_ok(sp_json_save(path, json));
    refuse(&o, SPLAM_FORMAT, "\"dual_attention_layers\" must hold numbers of layers, 0 to 2");
    json_decref(json);
    snprintf(path, sizeof path, "%s/model_index.json", o.model);
    assert_ok(sp_json_load(path, &json));
    json_object_set_new(json, "transformer", json_pack("[s,s]", "diffusers", "FluxTransformer2DModel"));
    assert_ok(sp_json_save(path, json));
    refuse(&o, SPLAM_UNSUPPORTED, "FluxTransformer2DModel");
    json_decref(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_noise, remove_test_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_negative), TEST(test_clip_skip), TEST(test_lora), TEST(test_unguided), TEST(test_fewer_tokens),
        TEST(test_skip_layers), TEST(test_third_encoder), TEST(test_decoding), TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
