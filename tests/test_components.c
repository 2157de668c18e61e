/* Sizes, opening, initialising and saving of components; and what can be wrong with their files and inputs. */
#include <math.h>
#include "config_support.h"
#include "backend/registry.h"
#include "base/progress.h"
#include "graph/run.h"
#include "checkpoints/model_folder.h"
#include "pipeline/forward.h"
#include "models/initialize.h"
#include "ops/ops.h"

/* ---- Stable Diffusion's own sizes ---- */

static void check_size(sp_component_kind kind, const char *text, int64_t expected)
{
    sp_component_config config;
    sp_graph *graph;
    assert_ok(read_config(kind, text, &config));
    assert_ok(sp_component_graph(&config, &graph));
    assert_int_equal(sp_graph_parameter_count(graph), expected);
    sp_graph_destroy(graph);
}

static void test_parameter_counts(void **state)
{
    (void)state;
    check_size(SP_COMPONENT_UNET, sd15_unet, 859520964);
    check_size(SP_COMPONENT_UNET, sd21_unet, 865910724);
    check_size(SP_COMPONENT_UNET, sdxl_unet, 2567463684);
    check_size(SP_COMPONENT_UNET, ssd1b_unet, 1331334404);
    check_size(SP_COMPONENT_TEXT_ENCODER_2, sdxl_text_2, 694659840);
    check_size(SP_COMPONENT_VAE, sd15_vae, 83653863);
    check_size(SP_COMPONENT_VAE, "{\"_class_name\": \"AutoencoderTiny\"}", 2445063);
    check_size(SP_COMPONENT_TEXT_ENCODER, sd15_text, 123060480);
}

/* The UNet at 64x64 latents, batch 2, fused, lowered to bf16 and planned. Nothing of its size is
 * allocated by that. */
static void test_sd15_plan(void **state)
{
    (void)state;
    sp_component_config config;
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    double started = sp_now();
    assert_ok(read_config(SP_COMPONENT_UNET, sd15_unet, &config));
    assert_ok(sp_builder_create(&b));
    const sp_network_use unet = {.network = &sp_unet_network, .config = &config.unet};
    const sp_network_sizes sizes = {.batch = 2, .height = 64, .width = 64, .tokens = 77};
    sp_network_alone(b, &unet, &sizes);
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_pass_fuse(graph));
    assert_ok(sp_plan_create(graph, sp_default_device(), SP_BF16, &plan));
    assert_true(sp_shape_equal(sp_plan_output(plan, "sample")->shape, sp_shape_of(2, 4, 64, 64)));
    sp_plan_memory memory = sp_plan_get_memory(plan);
    print_message("SD1.5 UNet planned in %.2f s: arena %zu MB, persistent %zu MB\n",
                  sp_now() - started, memory.arena >> 20, memory.persistent >> 20);
    /* The largest skip connections and one resnet's values; anything above 2 GB means that
     * lifetimes were lost. */
    assert_in_range(memory.arena, 1 << 20, (size_t)2 << 30);
    sp_plan_destroy(plan);
}

/* ---- mapped weights ---- */

enum { WIDTH = 1024 };

/* Bytes of a mapped file that are in this process's memory. */
static size_t resident(const char *path)
{
    char line[1024];
    size_t kilobytes = 0, sum = 0;
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        if (strchr(line, '-') && !strstr(line, "kB")) inside = strstr(line, path);
        if (inside && sscanf(line, "Rss: %zu", &kilobytes) == 1) sum += kilobytes << 10;
    }
    fclose(maps);
    return sum;
}

static void write_two_weights(const char *path)
{
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    const sp_shape shapes[] = {sp_shape_of(WIDTH, WIDTH), sp_shape_of(WIDTH)};
    for (int i = 0; i < 2; i++) {
        sp_tensor tensor;
        assert_ok(sp_tensor_create(SP_F32, shapes[i], &tensor));
        for (int64_t k = 0; k < sp_tensor_count(&tensor); k++)
            ((float *)tensor.data)[k] = (float)(k % 7 - 3) / 4;
        assert_ok(sp_weights_add(weights, i ? "kept" : "cast", tensor));
    }
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

/* "cast" is read by a cast alone; "kept" by one too, and by the norm in every step. */
static sp_plan *plan_of_two_weights(void)
{
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    sp_value *kept = sp_parameter(b, "kept", sp_shape_of(WIDTH));
    sp_value *cast = sp_parameter(b, "cast", sp_shape_of(WIDTH, WIDTH));
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(1, WIDTH), SP_RATE_STEP);
    sp_value *y = sp_linear(b, sp_layer_norm(b, x, kept, NULL, (sp_layer_norm_options){1e-5, false}), cast, NULL, NULL);
    sp_output(b, "y", sp_add(b, y, kept));
    sp_set_leave(b);
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_default_device(), SP_BF16, &plan));
    assert_int_equal(sp_plan_get_memory(plan).parameters, WIDTH * sizeof(float));
    return plan;
}

/* Pages of a weight leave memory when it has been packed or cast, and come back when it is read
 * again. */
static void test_read_weights_are_dropped(void **state)
{
    enum { FEW = 256 << 10 }; /* the kernel maps pages around the one that is read */
    const char *path = in_folder(state, "two.safetensors");
    sp_tensor_file *file;
    sp_weights *weights;
    sp_run *run;
    sp_tensor x, y[2];
    write_two_weights(path);
    sp_plan *plan = plan_of_two_weights();
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add_file(weights, file));
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", weights));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, WIDTH), &x));
    for (int i = 0; i < WIDTH; i++)
        ((float *)x.data)[i] = (float)(i % 5);
    assert_ok(sp_run_set_input(run, "x", &x));
    for (int i = 0; i < 2; i++) {
        assert_ok(sp_tensor_check_finite(sp_weights_find(weights, "cast"), "cast")); /* reads it */
        assert_in_range(resident(path), (size_t)WIDTH * WIDTH * sizeof(float), SIZE_MAX);
        sp_bound_weights_changed(sp_run_bound(run));
        assert_ok(sp_run_execute(run, NULL));
        assert_in_range(resident(path), 1, FEW);
        assert_ok(sp_run_get_output(run, "y", &y[i]));
    }
    assert_memory_equal(y[0].data, y[1].data, sp_tensor_bytes(&y[0]));
    sp_weights_drop(weights, "absent");
    sp_tensor_free(&x);
    sp_tensor_free(&y[0]);
    sp_tensor_free(&y[1]);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_weights_destroy(weights);
    sp_tensor_file_close(file);
}

/* ---- opening ---- */

static void test_model_folder(void **state)
{
    sp_model_folder folder;
    assert_ok(sp_model_folder_open(golden("teacher-epsilon"), &folder));
    assert_true(sp_model_folder_has(&folder, "unet"));
    assert_true(sp_model_folder_has(&folder, "scheduler"));
    assert_false(sp_model_folder_has(&folder, "safety_checker"));
    assert_false(sp_model_folder_has(&folder, "vae"));
    sp_model_folder_close(&folder);
    assert_status(sp_model_folder_open(in_folder(state, "absent"), &folder), SP_IO);
    static const char third[] =
        "{\"text_encoder_3\": [\"transformers\", \"T5EncoderModel\"]}";
    assert_ok(sp_write_file(in_folder(state, "model_index.json"), third, strlen(third)));
    assert_status(sp_model_folder_open(*state, &folder), SP_UNSUPPORTED);
    assert_message("text_encoder_3");
    static const char odd[] = "{\"unet\": 7, \"vae\": [null, null], \"text_encoder\": [\"x\"]}";
    assert_ok(sp_write_file(in_folder(state, "model_index.json"), odd, strlen(odd)));
    assert_ok(sp_model_folder_open(*state, &folder));
    assert_false(sp_model_folder_has(&folder, "unet"));
    sp_model_folder_close(&folder);
}

static void test_open_either_folder(void **state)
{
    (void)state;
    sp_component *component;
    assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &component));
    sp_component_close(component);
    assert_ok(sp_component_open(golden("teacher-epsilon/unet"), "unet", &component));
    sp_component_close(component);
    assert_status(sp_component_open(golden("teacher-epsilon"), "vae", &component), SP_IO);
    assert_null(component);
    assert_status(sp_component_open(golden("teacher-epsilon/unet"), "vae", &component),
                  SP_UNSUPPORTED);
    assert_message("UNet2DConditionModel");
    assert_status(sp_component_open(golden("teacher-epsilon"), "teapot", &component), SP_ARGUMENT);
    assert_status(sp_component_open(golden("absent"), "unet", &component), SP_IO);
}

/* Copies a golden's weights without the last tensor, or with it in another shape or type. */
static void save_damaged(void **state, const char *name, const sp_tensor *replacement)
{
    sp_component *source;
    sp_weights *weights;
    assert_ok(sp_component_open(golden("text-sd1"), "text_encoder", &source));
    assert_ok(sp_weights_create(&weights));
    for (size_t i = 0; i < sp_weights_count(source->weights); i++) {
        sp_tensor view = *sp_weights_at(source->weights, i);
        view.owned = false;
        const char *own = sp_weights_name(source->weights, i);
        if (strcmp(own, name) == 0 && !replacement) continue;
        assert_ok(sp_weights_add(weights, own, strcmp(own, name) == 0 ? *replacement : view));
    }
    assert_ok(sp_component_save(in_folder(state, "text_encoder"), SP_COMPONENT_TEXT_ENCODER,
                                source->json, weights, SP_F32, NULL));
    sp_weights_destroy(weights);
    sp_component_close(source);
}

static void test_damaged_weights(void **state)
{
    static const char name[] = "encoder.layers.1.mlp.fc1.weight";
    sp_component *component;
    float data[6] = {0};
    int64_t ids[6] = {0};
    save_damaged(state, name, NULL);
    assert_status(sp_component_open(*state, "text_encoder", &component), SP_FORMAT);
    assert_message(name);
    save_damaged(state, name, &(sp_tensor){SP_F32, sp_shape_of(2, 3), data, false});
    assert_status(sp_component_open(*state, "text_encoder", &component), SP_SHAPE);
    assert_message("[2,3]");
    assert_message(name);
    save_damaged(state, "final_layer_norm.weight",
                 &(sp_tensor){SP_I64, sp_shape_of(6), ids, false});
    assert_status(sp_component_open(*state, "text_encoder", &component), SP_SHAPE);
}

static sp_status open_and_close(void *context)
{
    sp_component *component;
    sp_status status = sp_component_open(context, "text_encoder", &component);
    if (status == SP_OK) sp_component_close(component);
    return status;
}

static void test_open_allocations(void **state)
{
    (void)state;
    assert_in_range(fail_every_allocation(open_and_close, (void *)(uintptr_t)golden("text-sd1")),
                    10, 100000);
}

/* ---- initialising and saving ---- */

static double mean_square(const sp_tensor *tensor)
{
    double sum = 0;
    for (int64_t i = 0; i < sp_tensor_count(tensor); i++)
        sum += pow(sp_load(tensor->data, tensor->dtype, i), 2);
    return sum / (double)sp_tensor_count(tensor);
}

static double mean(const sp_tensor *tensor)
{
    double sum = 0;
    for (int64_t i = 0; i < sp_tensor_count(tensor); i++)
        sum += sp_load(tensor->data, tensor->dtype, i);
    return sum / (double)sp_tensor_count(tensor);
}

static void initialize_config(sp_component_kind kind, const char *text, uint64_t seed,
                              sp_weights **out)
{
    sp_component_config config;
    sp_graph *graph;
    assert_ok(read_config(kind, text, &config));
    assert_ok(sp_component_graph(&config, &graph));
    assert_ok(sp_weights_create(out));
    assert_ok(sp_initialize(graph, "", &(sp_initialize_options){seed, {"conv_out"}}, *out));
    sp_graph_destroy(graph);
}

static const char small_unet[] =
    "{\"block_out_channels\": [32, 64], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"cross_attention_dim\": 32, \"sample_size\": 8,"
    " \"attention_head_dim\": 4, \"norm_num_groups\": 8, \"time_cond_proj_dim\": 16}";
static const char small_text[] =
    "{\"hidden_size\": 32, \"intermediate_size\": 64, \"num_attention_heads\": 4, \"num_hidden_layers\": 2,"
    " \"vocab_size\": 100, \"max_position_embeddings\": 16, \"bos_token_id\": 98, \"eos_token_id\": 99}";

static void test_initialize(void **state)
{
    (void)state;
    sp_weights *first, *again, *other, *text;
    initialize_config(SP_COMPONENT_UNET, small_unet, 7, &first);
    initialize_config(SP_COMPONENT_UNET, small_unet, 7, &again);
    initialize_config(SP_COMPONENT_UNET, small_unet, 8, &other);
    initialize_config(SP_COMPONENT_TEXT_ENCODER, small_text, 7, &text);
    const sp_tensor *conv = sp_weights_find(first, "mid_block.resnets.0.conv1.weight");
    assert_memory_equal(conv->data,
                        sp_weights_find(again, "mid_block.resnets.0.conv1.weight")->data,
                        sp_tensor_bytes(conv));
    assert_memory_not_equal(conv->data,
                            sp_weights_find(other, "mid_block.resnets.0.conv1.weight")->data,
                            sp_tensor_bytes(conv));
    /* U(-r,r) with r^2 = 1/fan_in has the mean square r^2/3; 36,864 values give it to well within 5
     * %. */
    assert_float_equal(mean_square(conv) * 3 * 64 * 9, 1, 0.05);
    float bound = 1 / sqrtf(64 * 9);
    assert_float_equal(mean(conv) / bound, 0, 0.02); /* its deviation is .003 */
    const sp_tensor *bias = sp_weights_find(first, "mid_block.resnets.0.conv1.bias");
    for (int i = 0; i < 64; i++)
        assert_true(fabsf(((float *)bias->data)[i]) <= bound);
    assert_true(mean_square(bias) > 0);
    assert_true(mean_square(sp_weights_find(first, "mid_block.resnets.0.norm1.weight")) == 1);
    assert_true(mean_square(sp_weights_find(first, "mid_block.resnets.0.norm1.bias")) == 0);
    assert_true(mean_square(sp_weights_find(first, "conv_out.weight")) == 0);
    assert_true(mean_square(sp_weights_find(first, "conv_out.bias")) == 0);
    assert_true(mean_square(sp_weights_find(first, "time_embedding.cond_proj.weight")) > 0);
    assert_float_equal(mean_square(sp_weights_find(text, "embeddings.token_embedding.weight")),
                       4e-4, 4e-5);
    sp_weights_destroy(first);
    sp_weights_destroy(again);
    sp_weights_destroy(other);
    sp_weights_destroy(text);
}

/* A student's extra layer: what is there stays, what is missing is made. */
static void test_initialize_missing(void **state)
{
    (void)state;
    sp_component_config config;
    sp_graph *graph;
    sp_weights *weights;
    sp_tensor kept;
    assert_ok(read_config(SP_COMPONENT_UNET, small_unet, &config));
    assert_ok(sp_component_graph(&config, &graph));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(32), &kept));
    ((float *)kept.data)[3] = 42;
    assert_ok(sp_weights_add(weights, "conv_in.bias", kept));
    assert_ok(sp_initialize(graph, "", &(sp_initialize_options){1, {"cond_proj"}}, weights));
    assert_true(((float *)sp_weights_find(weights, "conv_in.bias")->data)[3] == 42);
    assert_true(mean_square(sp_weights_find(weights, "time_embedding.cond_proj.weight")) == 0);
    sp_weights_destroy(weights);
    sp_graph_destroy(graph);
}

static void check_saved(void **state, sp_component_kind kind, const char *text)
{
    sp_weights *weights;
    sp_component *component;
    json_t *json;
    const char *name = sp_component_folder_name(kind);
    initialize_config(kind, text, 3, &weights);
    assert_ok(sp_json_parse(text, strlen(text), "text", &json));
    assert_ok(sp_component_save(in_folder(state, name), kind, json, weights, SP_F32, NULL));
    assert_ok(sp_component_open(*state, name, &component));
    assert_int_equal(sp_weights_count(component->weights), sp_weights_count(weights));
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const sp_tensor *before = sp_weights_at(weights, i);
        const sp_tensor *after = sp_weights_find(component->weights, sp_weights_name(weights, i));
        assert_non_null(after);
        assert_memory_equal(before->data, after->data, sp_tensor_bytes(before));
    }
    sp_component_close(component);
    json_decref(json);
    sp_weights_destroy(weights);
}

static void test_save(void **state)
{
    check_saved(state, SP_COMPONENT_UNET, small_unet);
    check_saved(state, SP_COMPONENT_TEXT_ENCODER, small_text);
    check_saved(state, SP_COMPONENT_VAE, "{\"block_out_channels\": [32]}");
}

/* Weights stored in half precision run in fp32 as well as they can: 2^-11 relative on every weight. */
static void test_half_weights(void **state)
{
    sp_component *source;
    sp_tensor_file *inputs, *expected;
    sp_named_outputs outputs;
    double error;
    assert_ok(sp_component_open(golden("text-sd1"), "text_encoder", &source));
    assert_ok(sp_component_save(in_folder(state, "half"), SP_COMPONENT_TEXT_ENCODER, source->json,
                                source->weights, SP_F16, NULL));
    assert_ok(sp_safetensors_open(golden("text-sd1/inputs_full.safetensors"), &inputs));
    assert_ok(sp_safetensors_open(golden("text-sd1/outputs_full.safetensors"), &expected));
    assert_ok(sp_component_forward(in_folder(state, "half"), "text-encoder", inputs, SP_F32,
                                   sp_default_device(), &outputs));
    assert_ok(sp_tensor_relative_max_error(
        &outputs.item[0].tensor, sp_tensor_file_find(expected, "last_hidden_state"), &error));
    assert_true(error > 1e-6 && error < 2e-3);
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(inputs);
    sp_tensor_file_close(expected);
    sp_component_close(source);
}

/* ---- inputs that do not fit ---- */

static void check_bad_inputs(void **state, const char *folder, const char *component,
                             const sp_named_tensor *tensors, size_t count, const char *words)
{
    sp_tensor_file *inputs;
    sp_named_outputs outputs;
    const char *path = in_folder(state, "inputs.safetensors");
    assert_ok(sp_safetensors_save(path, tensors, count, NULL, 0));
    assert_ok(sp_safetensors_open(path, &inputs));
    sp_status status =
        sp_component_forward(golden(folder), component, inputs, SP_F32, sp_default_device(), &outputs);
    sp_tensor_file_close(inputs);
    if (status == SP_OK) fail_msg("%s took inputs that should be refused: %s", folder, words);
    assert_message(words);
    assert_message("inputs.safetensors");
    assert_int_equal(outputs.count, 0);
}

static void test_bad_inputs(void **state)
{
    static float zeros[4096];
    static int64_t ids[64] = {1, 2, 64};
    sp_tensor sample = {SP_F32, sp_shape_of(1, 4, 8, 8), zeros, false},
              channels = {SP_F32, sp_shape_of(1, 3, 8, 8), zeros, false};
    sp_tensor flat = {SP_F32, sp_shape_of(4, 64), zeros, false},
              time = {SP_F32, sp_shape_of(1), zeros, false};
    sp_tensor times = {SP_F32, sp_shape_of(2), zeros, false},
              context = {SP_F32, sp_shape_of(1, 7, 24), zeros, false};
    sp_tensor narrow = {SP_F32, sp_shape_of(1, 7, 23), zeros, false},
              cond = {SP_F32, sp_shape_of(1, 256), zeros, false};
    sp_tensor empty = {SP_F32, sp_shape_of(0, 4, 8, 8), zeros, false},
              tokens = {SP_I64, sp_shape_of(1, 3), ids, false};
    sp_tensor many = {SP_I64, sp_shape_of(1, 17), ids + 3, false},
              whole = {SP_I64, sp_shape_of(1, 4, 2, 2), ids, false};
#define CHECK(folder, component, words, ...)                                                       \
    check_bad_inputs(state, folder, component, (sp_named_tensor[]){__VA_ARGS__},                   \
                     sizeof((sp_named_tensor[]){__VA_ARGS__}) / sizeof(sp_named_tensor), words)
#define UNET_INPUTS(a, b, c) {"sample", &a}, {"timestep", &b}, {"encoder_hidden_states", &c}
    CHECK("unet-demo", "unet", "\"encoder_hidden_states\" is missing", {"sample", &sample},
          {"timestep", &time});
    CHECK("unet-demo", "unet", "[1,8,8,3]", UNET_INPUTS(channels, time, context));
    CHECK("unet-demo", "unet", "[4,64]", UNET_INPUTS(flat, time, context));
    CHECK("unet-demo", "unet", "[0,4,8,8]", UNET_INPUTS(empty, time, context));
    CHECK("unet-demo", "unet", "[2]", UNET_INPUTS(sample, times, context));
    CHECK("unet-demo", "unet", "[1,7,23]", UNET_INPUTS(sample, time, narrow));
    CHECK("unet-demo", "unet", "I64", UNET_INPUTS(whole, time, context));
    CHECK("unet-demo", "unet", "\"timestep_cond\" is no input of unet, which takes sample, timestep, encoder",
          UNET_INPUTS(sample, time, context), {"timestep_cond", &cond});
    CHECK("unet-demo", "unet", "\"encoder_hidden_state\" is no input",
          UNET_INPUTS(sample, time, context), {"encoder_hidden_state", &context});
    CHECK("vae-demo", "vae-encoder", "[1,8,8,4]", {"image", &sample});
    CHECK("vae-demo", "vae-decoder", "\"latent\" is missing", {"image", &sample});
    CHECK("text-sd1", "text-encoder", "holds 64", {"input_ids", &tokens});
    CHECK("text-sd1", "text-encoder", "17 tokens", {"input_ids", &many});
    CHECK("text-sd1", "text-encoder", "F32", {"input_ids", &flat});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_sd15_plan),
        cmocka_unit_test_setup_teardown(test_read_weights_are_dropped, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(test_model_folder, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_open_either_folder),
        cmocka_unit_test_setup_teardown(test_damaged_weights, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_open_allocations),
        cmocka_unit_test(test_initialize),
        cmocka_unit_test(test_initialize_missing),
        cmocka_unit_test_setup_teardown(test_save, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_half_weights, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_bad_inputs, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
