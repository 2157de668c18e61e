/* The models against diffusers and transformers: every unet-*, transformer-*, vae-* and text-* folder of
 * tests/golden. */
#include "support.h"

#include "backend/host/host.h"
#include <math.h>

#include "backend/registry.h"
#include "base/json.h"
#include "base/text.h"
#include "ops/autodiff.h"
#include "graph/run.h"
#include "checkpoints/component.h"
#include "pipeline/forward.h"
#include "pipeline/vae_run.h"

/* fp32 against a float64 reference: sums of a few hundred terms in another order, 20 layers deep,
 * come to some 1e-6; the worst seen is 2e-5. */
#define FORWARD_TOLERANCE 1e-4
/* Reference kernels compute in double and store fp32, so only the rounding of what is stored is
 * left; the worst seen is 2.4e-6, of a transformer with 77 tokens of text. */
#define REFERENCE_TOLERANCE 3e-6
/* PyTorch's own bf16 on the same folders, relative RMS error of the worst case (bf16 keeps 8 bits,
 * so 2^-9 on every stored value, adding up over some 20 layers); 1.5 times as much is allowed. Of unet-xl,
 * unet-ssd and unet-vega, whose errors scatter by a factor of 2, PyTorch's worst of four inputs and more. */
static const struct {
    const char *prefix;
    double pytorch;
} bf16_errors[] = {
    {"text-sd1", 8.4e-3},     {"text-sd2", 1.6e-2}, {"unet-demo", 5.1e-2},
    {"unet-guided", 5.2e-2},  {"unet-sd1", 4.3e-2}, {"unet-sd2", 2.7e-2},
    {"vae-demo", 1.2e-2},     {"vae-sd", 2.2e-2},   {"vae-legacy", 2.2e-2},
    {"vae-no-quant", 2.2e-2}, {"vae-tiny", 5.4e-3}, {"unet-xl", 8.9e-2},
    {"unet-ssd", 1.1e-1},     {"unet-vega", 1.4e-1}, {"text-projection", 1.3e-2},
    {"transformer-sd35", 1.0e-2}, {"transformer-sd3", 1.6e-2},
};
#define BF16_TIMES_PYTORCH 1.5
/* Gradients pass every layer twice, and the rounding of fp32 grows with the weights on the way:
 * PyTorch's own fp32 is up to 1.5e-4 off float64 here, ours 0.2e-4 to 1.1e-4 by instruction set. A
 * few are 0 in theory (a bias before a norm, a key's bias), so an absolute part measured by the
 * largest gradient of all stands beside the relative one. */
#define GRADIENT_TOLERANCE 3e-4
#define GRADIENT_FLOOR 3e-6

static double relative_rms_error(const sp_tensor *a, const sp_tensor *b)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < sp_tensor_count(b); i++) {
        double x = sp_load(a->data, a->dtype, i), y = sp_load(b->data, b->dtype, i);
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(difference / norm);
}

/* ---- forward ---- */

typedef struct {
    sp_device *device;
    sp_dtype precision;
    double tolerance; /* of fp32 */
} forward_setting;

static double tolerance_of(const char *folder, const forward_setting *setting)
{
    if (setting->precision == SP_F32) return setting->tolerance;
    for (size_t i = 0; i < sizeof bf16_errors / sizeof *bf16_errors; i++)
        if (sp_starts_with(folder, bf16_errors[i].prefix))
            return BF16_TIMES_PYTORCH * bf16_errors[i].pytorch;
    fail_msg("%s: PyTorch's bf16 error is not known", folder);
    return 0;
}

/* One pair inputs_CASE, outputs_CASE; the component's name follows from folder and case. */
static void check_case(const char *folder, const char *name, const forward_setting *setting)
{
    const char *component = "text-encoder";
    if (sp_starts_with(folder, "unet-")) component = "unet";
    if (sp_starts_with(folder, "transformer-")) component = "transformer";
    if (strcmp(folder, "text-projection") == 0) component = "text-encoder-2";
    if (sp_starts_with(folder, "vae-"))
        component = sp_starts_with(name, "inputs_encode") ? "vae-encoder" : "vae-decoder";
    char output_name[256];
    snprintf(output_name, sizeof output_name, "out%s", name + strlen("in"));
    sp_tensor_file *inputs, *expected;
    sp_named_outputs outputs;
    assert_ok(sp_safetensors_open(golden_file(folder, name), &inputs));
    assert_ok(sp_safetensors_open(golden_file(folder, output_name), &expected));
    assert_ok(sp_component_forward(golden(folder), component, inputs, setting->precision,
                                   setting->device, &outputs));
    assert_int_equal(outputs.count, sp_tensor_file_count(expected));
    for (int i = 0; i < outputs.count; i++) {
        const sp_tensor *want;
        double error, tolerance = tolerance_of(folder, setting);
        assert_ok(sp_tensor_file_get(expected, outputs.item[i].name, &want));
        assert_true(sp_shape_equal(want->shape, outputs.item[i].tensor.shape));
        assert_ok(sp_tensor_relative_max_error(&outputs.item[i].tensor, want, &error));
        if (setting->precision != SP_F32) error = relative_rms_error(&outputs.item[i].tensor, want);
        print_message("%s %s %s: %.2e\n", folder, name, outputs.item[i].name, error);
        if (!(error <= tolerance))
            fail_msg("%s %s %s: error %g, allowed %g", folder, name, outputs.item[i].name, error,
                     tolerance);
    }
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(inputs);
    sp_tensor_file_close(expected);
}

static int check_folder(const char *folder, const forward_setting *setting)
{
    char **names;
    size_t count;
    int cases = 0;
    assert_ok(sp_list_folder(golden(folder), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (sp_starts_with(names[i], "inputs_")) {
            check_case(folder, names[i], setting);
            cases++;
        }
        sp_free(names[i]);
    }
    sp_free(names);
    return cases;
}

/* Every folder of the kind; `least` guards against an empty loop. */
static void check_all(const char *prefix, int least, const forward_setting *setting)
{
    char **names;
    size_t count;
    int cases = 0;
    assert_ok(sp_list_folder(golden(""), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (sp_starts_with(names[i], prefix)) cases += check_folder(names[i], setting);
        sp_free(names[i]);
    }
    sp_free(names);
    assert_in_range(cases, least, 1000);
}

static void test_unet_forward(void **state)
{
    (void)state;
    check_all("unet-", 16, &(forward_setting){sp_default_device(), SP_F32, FORWARD_TOLERANCE});
}

static void test_transformer_forward(void **state)
{
    (void)state;
    check_all("transformer-", 7, &(forward_setting){sp_default_device(), SP_F32, FORWARD_TOLERANCE});
}

static void test_vae_forward(void **state)
{
    (void)state;
    check_all("vae-", 20, &(forward_setting){sp_default_device(), SP_F32, FORWARD_TOLERANCE});
}

static void test_text_forward(void **state)
{
    (void)state;
    check_all("text-", 6, &(forward_setting){sp_default_device(), SP_F32, FORWARD_TOLERANCE});
}

static void test_reference_forward(void **state)
{
    (void)state;
    forward_setting setting = {sp_reference_device(), SP_F32, REFERENCE_TOLERANCE};
    assert_int_equal(check_folder("unet-guided", &setting), 2);
    assert_int_equal(check_folder("transformer-sd35", &setting), 6);
    assert_int_equal(check_folder("vae-no-quant", &setting), 2);
    assert_int_equal(check_folder("vae-tiny", &setting), 4);
    assert_int_equal(check_folder("text-sd1", &setting), 2);
}

static void test_bf16_forward(void **state)
{
    (void)state;
    forward_setting setting = {sp_default_device(), SP_BF16, 0};
    check_all("unet-", 16, &setting);
    check_all("transformer-", 7, &setting);
    check_all("vae-", 20, &setting);
    check_all("text-", 6, &setting);
}

/* ---- tiles ---- */

static void assert_close(const sp_tensor *found, const sp_tensor *want, const char *what)
{
    double error;
    assert_true(sp_shape_equal(found->shape, want->shape));
    assert_ok(sp_tensor_relative_max_error(found, want, &error));
    print_message("%s: %.2e\n", what, error);
    if (!(error <= FORWARD_TOLERANCE)) fail_msg("%s: error %g", what, error);
}

/* The half of the posterior [1,2C,h,w] that begins at channel `first`, against the file's. */
static void check_moment(const sp_tensor *posterior, int64_t first, const sp_tensor_file *file,
                         const char *name)
{
    const sp_tensor *want = sp_tensor_file_find(file, name);
    sp_tensor view = {.shape = want->shape,
                      .data = (float *)posterior->data +
                              first * want->shape.dim[2] * want->shape.dim[3]};
    assert_close(&view, want, name);
}

/* diffusers' tiles, cut and blended the same way; and what no tiles give is something else. */
static void check_tiles(const char *folder)
{
    json_t *json;
    sp_component *vae;
    sp_tensor_file *file;
    sp_tensor image, latent, posterior, whole;
    double error;
    assert_ok(sp_json_load(golden_file(folder, "case.json"), &json));
    const char *path = golden_file(folder, json_string_value(json_object_get(json, "vae")));
    assert_ok(sp_component_open(path, "vae", &vae));
    assert_ok(sp_safetensors_open(golden_file(folder, "tiles.safetensors"), &file));
    sp_vae_settings settings = {.device = sp_default_device(),
                                .tile = json_integer_value(json_object_get(json, "side"))};
    /* The golden's latent is what the decoder sees; ours takes it times the scaling factor. */
    assert_ok(sp_tensor_convert(sp_tensor_file_find(file, "latent"), SP_F32, &latent));
    for (int64_t i = 0; i < sp_tensor_count(&latent); i++)
        ((float *)latent.data)[i] *= (float)vae->config.vae.scaling_factor;
    assert_ok(sp_vae_run_all(vae, SP_VAE_DECODE, &latent, &settings, NULL, &image));
    assert_close(&image, sp_tensor_file_find(file, "tiled_image"), "tiled_image");
    assert_ok(sp_vae_run_all(vae, SP_VAE_POSTERIOR, sp_tensor_file_find(file, "image"), &settings,
                             NULL, &posterior));
    check_moment(&posterior, 0, file, "tiled_mean");
    if (vae->config.vae.kind == SP_VAE_KL)
        check_moment(&posterior, vae->config.vae.latent_channels, file, "tiled_logvar");
    settings.tile = 0;
    assert_ok(sp_vae_run_all(vae, SP_VAE_DECODE, &latent, &settings, NULL, &whole));
    assert_ok(sp_tensor_relative_max_error(&whole, &image, &error));
    assert_true(error > 0.1);
    settings.tile = 1024; /* the picture fits into one */
    sp_tensor_free(&image);
    assert_ok(sp_vae_run_all(vae, SP_VAE_DECODE, &latent, &settings, NULL, &image));
    assert_memory_equal(image.data, whole.data, sp_tensor_bytes(&whole));
    sp_tensor_free(&image);
    sp_tensor_free(&latent);
    sp_tensor_free(&whole);
    sp_tensor_free(&posterior);
    sp_tensor_file_close(file);
    sp_component_close(vae);
    json_decref(json);
}

static void test_tiles(void **state)
{
    (void)state;
    check_tiles("tiles-kl");
    check_tiles("tiles-tiny");
}

/* Several pictures come out one by one as together; sides that do not go into tiles are refused;
 * the plan in tiles is that of one. */
static void test_tile_settings(void **state)
{
    (void)state;
    sp_component *vae;
    sp_tensor both, one, first;
    sp_plan_memory whole, tiled, tile;
    assert_ok(sp_component_open(golden("vae-demo"), "vae", &vae));
    sp_vae_settings settings = {.device = sp_default_device(), .tile = 32};
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, 4, 9, 17), &both));
    for (int64_t i = 0; i < sp_tensor_count(&both); i++)
        ((float *)both.data)[i] = (float)sin((double)i);
    sp_tensor second = {.shape = sp_shape_of(1, 4, 9, 17), .data = (float *)both.data + 4 * 9 * 17};
    assert_ok(sp_vae_run_all(vae, SP_VAE_DECODE, &both, &settings, NULL, &first));
    assert_ok(sp_vae_run_all(vae, SP_VAE_DECODE, &second, &settings, NULL, &one));
    assert_memory_equal((float *)first.data + sp_tensor_count(&one), one.data,
                        sp_tensor_bytes(&one));
    assert_ok(sp_vae_plan_all(vae, SP_VAE_DECODE, sp_shape_of(2, 4, 90, 170), &settings, &tiled));
    assert_ok(sp_vae_plan_all(vae, SP_VAE_DECODE, sp_shape_of(1, 4, 8, 8), &settings, &tile));
    settings.tile = 0;
    assert_ok(sp_vae_plan_all(vae, SP_VAE_DECODE, sp_shape_of(1, 4, 90, 170), &settings, &whole));
    assert_int_equal(tiled.arena, tile.arena);
    assert_true(whole.arena > 50 * tiled.arena);
    settings.tile = 24;
    sp_tensor_free(&one);
    assert_status(sp_vae_run_all(vae, SP_VAE_DECODE, &both, &settings, NULL, &one), SP_ARGUMENT);
    assert_message("24 pixels is not a multiple of 16");
    settings.tile = 32;
    sp_tensor_free(&both);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 3, 64, 42), &both));
    assert_status(sp_vae_run_all(vae, SP_VAE_ENCODE, &both, &settings, NULL, &one), SP_SHAPE);
    assert_message("multiples of 4 pixels");
    sp_tensor_free(&both);
    sp_tensor_free(&first);
    sp_component_close(vae);
}

/* ---- gradients ---- */

typedef struct {
    sp_component *component;
    sp_tensor_file *inputs;
    bool checkpointing;
    int64_t zeros;       /* so many tokens at the text's end are zeros, whatever the file has */
    int64_t same_tokens; /* as a transformer is told */
} gradient_case;

static sp_value *build_input(sp_builder *b, const gradient_case *g, const char *name,
                             sp_dtype dtype)
{
    const sp_tensor *tensor;
    assert_ok(sp_tensor_file_get(g->inputs, name, &tensor));
    return sp_input(b, name, dtype, tensor->shape, SP_RATE_STEP);
}

enum { MOST_INPUTS = 3 };

static sp_value *build_transformer(sp_builder *b, const gradient_case *g, sp_value **wrt, int *count)
{
    static const char *const names[] = {"sample", "encoder_hidden_states", "pooled_projections"};
    const sp_block_options options = {.recompute = g->checkpointing ? UINT64_MAX : 0, .same_tokens = g->same_tokens};
    const sp_network_use use = {
        .network = &sp_mmdit_network, .config = &g->component->config.transformer, .options = &options};
    sp_values in = {0};
    for (; *count < MOST_INPUTS; (*count)++) {
        sp_value *value = wrt[*count] = build_input(b, g, names[*count], SP_F32);
        sp_values_add(&in, names[*count], *count ? value : sp_nchw_to_nhwc(b, value));
    }
    sp_values_add(&in, "timestep", build_input(b, g, "timestep", SP_F32));
    return sp_nhwc_to_nchw(b, sp_network_value(b, &use, &in));
}

/* The model's output in the file's layout; the floating inputs, whose gradients are wanted too, in
 * wrt[]. */
static sp_value *build_model(sp_builder *b, const gradient_case *g, sp_value **wrt, int *count)
{
    const sp_component_config *config = &g->component->config;
    *count = 0;
    if (config->kind == SP_COMPONENT_TEXT_ENCODER)
        return sp_clip_text(b, &config->text, NULL, build_input(b, g, "input_ids", SP_I64));
    if (config->kind == SP_COMPONENT_TRANSFORMER) return build_transformer(b, g, wrt, count);
    sp_block_options options = {.recompute = g->checkpointing ? UINT64_MAX : 0};
    sp_unet_inputs in = {.encoder_hidden_states = NULL};
    wrt[(*count)++] = build_input(b, g, "sample", SP_F32);
    wrt[(*count)++] = in.encoder_hidden_states = build_input(b, g, "encoder_hidden_states", SP_F32);
    in.timestep = build_input(b, g, "timestep", SP_F32);
    in.sample = sp_nchw_to_nhwc(b, wrt[0]);
    return sp_nhwc_to_nchw(b, sp_unet(b, &config->unet, &options, &in));
}

/* Outputs "loss" and one gradient per parameter and floating input, each under its own name. */
static sp_graph *build_gradient_graph(const gradient_case *g)
{
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", SP_RATE_STEP, NULL, NULL);
    sp_value *inputs[MOST_INPUTS], **parameters;
    int input_count, parameter_count;
    sp_value *y = build_model(b, g, inputs, &input_count);
    sp_value *loss = sp_mean(b, sp_mul(b, y, build_input(b, g, "weight", SP_F32)));
    assert_ok(sp_parameters_of(b, "model", &parameters, &parameter_count));
    int count = parameter_count + input_count;
    sp_value **wrt = sp_alloc((size_t)count * sizeof *wrt),
             **gradients = sp_alloc((size_t)count * sizeof *gradients);
    memcpy(wrt, parameters, (size_t)parameter_count * sizeof *wrt);
    memcpy(wrt + parameter_count, inputs, (size_t)input_count * sizeof *wrt);
    assert_ok(sp_gradient(b, loss, wrt, count, gradients));
    for (int i = 0; i < count; i++) {
        bool fixed = strcmp(wrt[i]->name, "pos_embed.pos_embed") == 0; /* a formula's numbers */
        assert_true((gradients[i] == NULL) == fixed);
        if (fixed) continue;
        sp_output(b, sp_arena_format(sp_builder_arena(b), "gradient.%s", wrt[i]->name),
                  gradients[i]);
    }
    sp_output(b, "loss", loss);
    sp_graph *graph;
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    sp_free(wrt);
    sp_free(gradients);
    return graph;
}

static void clear_last_tokens(sp_tensor *text, int64_t zeros)
{
    int64_t width = text->shape.dim[2], length = text->shape.dim[1];
    for (int64_t n = 0; n < text->shape.dim[0]; n++)
        memset((float *)text->data + ((n + 1) * length - zeros) * width, 0, (size_t)(zeros * width) * sizeof(float));
}

static sp_run *run_gradient_graph(const gradient_case *g, sp_plan **plan)
{
    sp_run *run;
    assert_ok(sp_plan_create(build_gradient_graph(g), sp_default_device(), SP_F32, plan));
    assert_ok(sp_run_create(*plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", g->component->weights));
    for (size_t i = 0; i < sp_tensor_file_count(g->inputs); i++) {
        const char *name = sp_tensor_file_name(g->inputs, i);
        const sp_value *input = sp_plan_input(*plan, name);
        sp_tensor converted;
        assert_ok(sp_tensor_convert(sp_tensor_file_at(g->inputs, i), input->dtype, &converted));
        if (strcmp(name, "encoder_hidden_states") == 0) clear_last_tokens(&converted, g->zeros);
        assert_ok(sp_run_set_input(run, name, &converted));
        sp_tensor_free(&converted);
    }
    assert_ok(sp_run_execute(run, NULL));
    return run;
}

static double largest(const sp_tensor *tensor)
{
    double most = 0;
    for (int64_t i = 0; i < sp_tensor_count(tensor); i++)
        most = fmax(most, fabs(sp_load(tensor->data, tensor->dtype, i)));
    return most;
}

/* Every tensor of the file against the output of its name. Returns the worst error in units of what
 * is allowed. */
static void check_gradients(sp_run *run, const char *folder, const char *file, double scale)
{
    sp_tensor_file *expected;
    double worst = 0;
    assert_ok(sp_safetensors_open(golden_file(folder, file), &expected));
    for (size_t i = 0; i < sp_tensor_file_count(expected); i++) {
        const char *name = sp_tensor_file_name(expected, i);
        if (strcmp(name, "loss") == 0) continue;
        const sp_tensor *want = sp_tensor_file_at(expected, i);
        char output[512];
        snprintf(output, sizeof output, "gradient.%s", name);
        sp_tensor found;
        assert_ok(sp_run_get_output(run, output, &found));
        assert_true(sp_shape_equal(found.shape, want->shape));
        double allowed = GRADIENT_TOLERANCE * largest(want) + GRADIENT_FLOOR * scale, error = 0;
        for (int64_t k = 0; k < sp_tensor_count(want); k++)
            error = fmax(error, fabs(sp_load(found.data, found.dtype, k) -
                                     sp_load(want->data, want->dtype, k)));
        if (!(error <= allowed))
            fail_msg("%s: gradient of %s is off by %g, allowed %g", folder, name, error, allowed);
        worst = fmax(worst, error / allowed);
        sp_tensor_free(&found);
    }
    print_message("%s %s: worst error is %.3f of what is allowed\n", folder, file, worst);
    sp_tensor_file_close(expected);
}

static double largest_in_file(const char *folder, const char *file)
{
    sp_tensor_file *tensors;
    double most = 0;
    assert_ok(sp_safetensors_open(golden_file(folder, file), &tensors));
    for (size_t i = 0; i < sp_tensor_file_count(tensors); i++)
        most = fmax(most, largest(sp_tensor_file_at(tensors, i)));
    sp_tensor_file_close(tensors);
    return most;
}

static void check_gradient_folder(const char *folder, const char *component, bool checkpointing)
{
    gradient_case g = {.checkpointing = checkpointing};
    sp_plan *plan;
    sp_tensor loss;
    sp_tensor_file *outputs;
    assert_ok(sp_component_open(golden(folder), component, &g.component));
    assert_ok(sp_safetensors_open(golden_file(folder, "gradient_inputs.safetensors"), &g.inputs));
    assert_ok(sp_safetensors_open(golden_file(folder, "gradient_outputs.safetensors"), &outputs));
    sp_run *run = run_gradient_graph(&g, &plan);
    double scale = largest_in_file(folder, "gradients.safetensors");
    assert_ok(sp_run_get_output(run, "loss", &loss));
    double want = sp_load(sp_tensor_file_find(outputs, "loss")->data, SP_F32, 0);
    /* The loss is a mean of products of both signs, far smaller than they are: 1e-5 of their size,
     * which is 1. */
    assert_float_equal(*(float *)loss.data, want, 1e-5);
    check_gradients(run, folder, "gradients.safetensors", scale);
    check_gradients(run, folder, "gradient_outputs.safetensors", scale);
    sp_tensor_free(&loss);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_tensor_file_close(outputs);
    sp_tensor_file_close(g.inputs);
    sp_component_close(g.component);
}

static void test_unet_gradient(void **state)
{
    (void)state;
    check_gradient_folder("unet-demo", "unet", false);
}

static void test_unet_gradient_checkpointed(void **state)
{
    (void)state;
    check_gradient_folder("unet-demo", "unet", true);
}

static void test_transformer_gradient(void **state)
{
    (void)state;
    check_gradient_folder("transformer-sd35", "transformer", false);
    check_gradient_folder("transformer-sd35", "transformer", true);
}

/* The largest difference of an output of both runs, relative to its largest number. */
static double runs_apart(sp_run *a, sp_run *b, const char *name)
{
    sp_tensor x, y;
    double error = 0;
    assert_ok(sp_run_get_output(a, name, &x));
    assert_ok(sp_run_get_output(b, name, &y));
    assert_true(sp_shape_equal(x.shape, y.shape));
    for (int64_t i = 0; i < sp_tensor_count(&x); i++)
        error = fmax(error, fabs(sp_load(x.data, x.dtype, i) - sp_load(y.data, y.dtype, i)));
    error /= largest(&x) + 1e-3;
    sp_tensor_free(&x);
    sp_tensor_free(&y);
    return error;
}

/* Tokens that are the same are computed once: the loss, and the gradients of all weights and of what else enters, are
 * those of the whole text. */
static void test_same_tokens(void **state)
{
    (void)state;
    const sp_tensor *text;
    sp_plan *plan[2];
    sp_run *run[2];
    double worst = 0;
    gradient_case g = {.component = NULL};
    assert_ok(sp_component_open(golden("transformer-sd35"), "transformer", &g.component));
    assert_ok(sp_safetensors_open(golden_file("transformer-sd35", "gradient_inputs.safetensors"), &g.inputs));
    assert_ok(sp_tensor_file_get(g.inputs, "encoder_hidden_states", &text));
    g.zeros = text->shape.dim[1] - 2;
    assert_true(g.zeros > 2);
    run[0] = run_gradient_graph(&g, &plan[0]);
    g.same_tokens = g.zeros;
    run[1] = run_gradient_graph(&g, &plan[1]);
    for (size_t i = 0; i < sp_weights_count(g.component->weights); i++) {
        char name[512];
        snprintf(name, sizeof name, "gradient.%s", sp_weights_name(g.component->weights, i));
        if (strcmp(name, "gradient.pos_embed.pos_embed") == 0) continue;
        double apart = runs_apart(run[0], run[1], name);
        if (!(apart < 1e-4)) fail_msg("%s: %.1e apart", name, apart);
        worst = fmax(worst, apart);
    }
    static const char *const others[] = {"loss", "gradient.sample", "gradient.pooled_projections"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(runs_apart(run[0], run[1], others[i]) < 1e-4);
    print_message("%lld tokens as one: gradients at most %.1e apart\n", (long long)g.zeros, worst);
    for (int i = 0; i < 2; i++) {
        sp_run_destroy(run[i]);
        sp_plan_destroy(plan[i]);
    }
    sp_tensor_file_close(g.inputs);
    sp_component_close(g.component);
}

static void test_text_gradient(void **state)
{
    (void)state;
    check_gradient_folder("text-sd1", "text_encoder", false);
    check_gradient_folder("text-sd2", "text_encoder", false);
}

/* ---- clip-skip ---- */

/* Skipping the last layer of two gives what a model of one layer gives, and not what the whole
 * gives. */
static void run_text(const sp_clip_text_config *config, const sp_weights *weights,
                     const sp_tensor *ids, int64_t skip, sp_tensor *out)
{
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    sp_run *run;
    assert_ok(sp_builder_create(&b));
    const sp_clip_text_options options = {.clip_skip = skip};
    sp_value *input_ids = sp_input(b, "input_ids", SP_I64, ids->shape, SP_RATE_PROMPT);
    sp_output(b, "y", sp_clip_text(b, config, &options, input_ids));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_default_device(), SP_F32, &plan));
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "", weights));
    assert_ok(sp_run_set_input(run, "input_ids", ids));
    assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, "y", out));
    sp_run_destroy(run);
    sp_plan_destroy(plan);
}

static void test_clip_skip(void **state)
{
    (void)state;
    sp_component *component;
    sp_tensor_file *inputs;
    sp_tensor skipped, shorter, whole;
    double error;
    assert_ok(sp_component_open(golden("text-sd1"), "text_encoder", &component));
    assert_ok(sp_safetensors_open(golden_file("text-sd1", "inputs_short.safetensors"), &inputs));
    const sp_tensor *ids = sp_tensor_file_find(inputs, "input_ids");
    sp_clip_text_config one_layer = component->config.text;
    one_layer.layers = 1;
    run_text(&component->config.text, component->weights, ids, 1, &skipped);
    run_text(&one_layer, component->weights, ids, 0, &shorter);
    run_text(&component->config.text, component->weights, ids, 0, &whole);
    assert_ok(sp_tensor_relative_max_error(&skipped, &shorter, &error));
    assert_true(error == 0);
    assert_ok(sp_tensor_relative_max_error(&skipped, &whole, &error));
    assert_true(error > 0.01);
    sp_tensor_free(&skipped);
    sp_tensor_free(&shorter);
    sp_tensor_free(&whole);
    sp_tensor_file_close(inputs);
    sp_component_close(component);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unet_forward),
        cmocka_unit_test(test_transformer_forward),
        cmocka_unit_test(test_vae_forward),
        cmocka_unit_test(test_text_forward),
        cmocka_unit_test(test_reference_forward),
        cmocka_unit_test(test_bf16_forward),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_tile_settings),
        cmocka_unit_test(test_unet_gradient),
        cmocka_unit_test(test_unet_gradient_checkpointed),
        cmocka_unit_test(test_transformer_gradient),
        cmocka_unit_test(test_same_tokens),
        cmocka_unit_test(test_text_gradient),
        cmocka_unit_test(test_clip_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
