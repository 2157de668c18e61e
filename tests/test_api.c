/* The public functions that no other test calls, each to its end: what is computed where there is something absolute
 * to compare it with (distillation, forward, tokens), and what is written where there is not. */
#include "distill_support.h"
#include "fontconfig_leak.h"
#include <splam/splam.h>
#include "image/image.h"

enum {
    PICTURES = 3,
    SIDE = 256
}; /* SIDE: half of what folders are opened at; smaller ones are rejected */

#define assert_done(call)                                                                          \
    do {                                                                                           \
        splam_status api_status = (call);                                                          \
        if (api_status != SPLAM_OK) fail_msg("%s: %s", #call, splam_error_message());              \
    } while (0)

/* ---- distillation ---- */

/* What a case does not say, or says 0 of, is not given. */
static double given(const json_t *flags, const char *name)
{
    double value = case_number(flags, name);
    return value != 0 ? value : (double)SPLAM_UNSET;
}

static splam_distill_options public_options(const char *name, const json_t *description)
{
    static char teacher[1200], draws[1200], start[1200], decay[32];
    const json_t *flags = json_object_get(description, "flags");
    snprintf(teacher, sizeof teacher, "%s/%s", golden(name), case_text(description, "teacher"));
    snprintf(draws, sizeof draws, "%s/draws.safetensors", golden(name));
    snprintf(start, sizeof start, "%s/start.safetensors", golden(name));
    splam_distill_options o = splam_distill_defaults();
    o.teacher = teacher;
    o.draws = draws;
    o.precision = SPLAM_F32;
    o.objective = case_text(flags, "objective");
    o.sigma = case_text(flags, "sigma");
    o.gamma_conditioning = case_text(flags, "gamma-conditioning");
    o.loss_type = case_text(flags, "loss-type");
    if (strcmp(o.loss_type, "huber") == 0) o.huber_c = case_number(flags, "huber-c"); /* a case has all there are */
    o.guidance_scale_w = case_number(flags, "guidance-scale-w");
    o.num_ddim_timesteps = (int64_t)given(flags, "num-ddim-timesteps");
    o.skip = (int64_t)given(flags, "skip");
    o.solver_steps = (int64_t)given(flags, "solver-steps");
    o.phases = (int64_t)given(flags, "phases");
    o.rounds = (int64_t)given(flags, "rounds");
    o.max_train_steps = (int64_t)case_number(flags, "max-train-steps");
    o.train_batch_size = (int64_t)case_number(flags, "train-batch-size");
    o.gradient_accumulation_steps = (int64_t)case_number(flags, "gradient-accumulation-steps");
    o.learning_rate = case_number(flags, "learning-rate");
    snprintf(decay, sizeof decay, "%.17g", case_number(flags, "ema-decay"));
    o.ema_decay = decay;
    o.lora_rank = (int64_t)case_number(flags, "lora-rank");
    o.lora_alpha = given(flags, "lora-alpha");
    if (!o.lora_rank) return o;
    o.lora_targets = case_text(flags, "lora-targets");
    o.lora_start = start;
    return o;
}

/* One case of each objective; between them every member has a value that is not its default. The
 * program runs all cases in test_distill.c. */
static void distilling_equals_pytorch(void **state)
{
    static const char *const names[] = {"distill-splam-accumulate",
                                        "distill-splam-skip50-solver4",
                                        "distill-lora-attention-time-v",
                                        "distill-lcm-l2",
                                        "distill-pcm-v-skip150-solver2",
                                        "distill-progressive-v-solver3",
                                        "distill-tcd"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *description = golden_case_json(names[i]);
        splam_distill_options o = public_options(names[i], description);
        char trace[600], output[600];
        snprintf(output, sizeof output, "%s", in_folder(state, names[i]));
        snprintf(trace, sizeof trace, "%s", in_folder(state, "trace.safetensors"));
        o.output = output;
        o.trace = trace;
        assert_done(splam_distill(&o, NULL));
        compare_traces(names[i], trace, o.max_train_steps);
        json_decref(description);
    }
    splam_distill_options empty = {.teacher = golden("teacher-epsilon"), .output = "nowhere"};
    assert_int_equal(splam_distill(&empty, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "splam_distill_defaults"));
}

static void assert_inspected(const char *path, const char *words, const char *no_words)
{
    splam_inspect_options o = splam_inspect_defaults();
    char *text;
    o.path = path;
    assert_done(splam_inspect(&o, &text));
    assert_non_null(strstr(text, words));
    assert_null(strstr(text, no_words));
    splam_free(text);
}

/* ---- training from scratch ---- */

static const char *pictures_with_captions(void **state)
{
    static char spec[600];
    assert_ok(sp_make_folders(in_folder(state, "pictures")));
    for (int i = 0; i < PICTURES; i++) {
        char name[64], caption[32];
        sp_image image;
        assert_ok(sp_image_create(SIDE, SIDE, &image));
        for (int k = 0; k < 3 * SIDE * SIDE; k++)
            image.pixels[k] = (uint8_t)(k / 3 % SIDE / (1 + i) + 60 * (k % 3));
        snprintf(name, sizeof name, "pictures/%d.png", i);
        assert_ok(sp_image_save_png(&image, in_folder(state, name), NULL, 0));
        sp_image_free(&image);
        snprintf(name, sizeof name, "pictures/%d.txt", i);
        snprintf(caption, sizeof caption, "stripes of width %d", i);
        assert_ok(sp_write_file(in_folder(state, name), caption, strlen(caption)));
    }
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, "pictures"));
    return spec;
}

typedef splam_status training(const splam_train_options *options, const splam_callbacks *callbacks);

static void after_a_step(void *context, const char *task, int64_t done, int64_t total,
                         const char *detail)
{
    bool *stop = context;
    (void)task;
    (void)total;
    *stop = *stop || (done == 1 && detail && strstr(detail, "loss"));
}

static bool stopped(void *context)
{
    return *(bool *)context;
}

/* Stopped after one step, resumed for the second; the output's metrics.jsonl has both. */
static void one_step_and_another(training *train, splam_train_options o)
{
    char path[700], *metrics;
    bool stop = false;
    const splam_callbacks callbacks = {
        .context = &stop, .report = after_a_step, .cancelled = stopped};
    o.train_batch_size = 1;
    o.max_train_steps = 2;
    assert_int_equal(train(&o, &callbacks), SPLAM_CANCELLED);
    o.resume = "latest";
    assert_done(train(&o, NULL));
    snprintf(path, sizeof path, "%s/metrics.jsonl", o.output);
    assert_ok(sp_read_file(path, &metrics, NULL));
    assert_non_null(strstr(metrics, "\"step\":1,"));
    assert_non_null(strstr(metrics, "\"step\":2,"));
    const char *rate = strstr(metrics, "\"learning_rate\":"); /* of the first step: none where a schedule asks for it */
    assert_non_null(rate);
    double first = strtod(strchr(rate, ':') + 1, NULL);
    assert_float_equal(first, (o.lr_scheduler ? 0 : 1e-3 / 50), 1e-12);
    sp_free(metrics);
    o.seed++;
    assert_int_equal(train(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "seed"));
}

/* The largest difference between the UNets of two models, and how large the first one's weights are. */
static double differ(const char *model, const char *other, double *largest)
{
    sp_component *a, *b;
    double most = 0;
    assert_ok(sp_component_open(model, "unet", &a));
    assert_ok(sp_component_open(other, "unet", &b));
    for (size_t i = 0; i < sp_weights_count(a->weights); i++) {
        const sp_tensor *x = sp_weights_at(a->weights, i);
        const sp_tensor *y = sp_weights_find(b->weights, sp_weights_name(a->weights, i));
        assert_non_null(y);
        for (int64_t k = 0; k < sp_tensor_count(x); k++) {
            double one = ((const float *)x->data)[k];
            most = fmax(most, fabs(one - (double)((const float *)y->data)[k]));
            *largest = fmax(*largest, fabs(one));
        }
    }
    sp_component_close(a);
    sp_component_close(b);
    return most;
}

/* A teacher that begins as another one: at a rate at which next to nothing moves it stays that one, and has its
 * tokenizer though the captions are others. */
static void goes_on_as_another(void **state, splam_train_options o)
{
    char output[600], start[600], elsewhere[600], *tokens, *other;
    snprintf(output, sizeof output, "%s", in_folder(state, "went-on"));
    snprintf(start, sizeof start, "%s", o.output);
    assert_ok(sp_write_file(in_folder(state, "pictures/0.txt"), "quite another thing", 19));
    o.output = output;
    o.start = start;
    o.max_train_steps = 1;
    o.train_batch_size = 1;
    o.learning_rate = 1e-12;
    o.lr_scheduler = "constant";
    o.lr_warmup_steps = SPLAM_UNSET;
    o.ema_decay = "0";
    assert_done(splam_train_teacher(&o, NULL));
    double largest = 0;
    assert_true(differ(output, start, &largest) < 1e-10 && largest > 0.1);
    assert_ok(sp_read_file(in_folder(state, "teacher/tokenizer/vocab.json"), &tokens, NULL));
    assert_ok(sp_read_file(in_folder(state, "went-on/tokenizer/vocab.json"), &other, NULL));
    assert_string_equal(tokens, other);
    sp_free(tokens);
    sp_free(other);
    o.prediction_type = "epsilon";
    snprintf(elsewhere, sizeof elsewhere, "%s", in_folder(state, "of-another-prediction"));
    o.output = elsewhere;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "predicts v_prediction"));
    assert_int_equal(splam_train_vae(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "is for a teacher"));
}

/* An autoencoder, a teacher from it, and what reads both. */
static void training_from_scratch(void **state)
{
    char vae[600], teacher[600], ready[600];
    snprintf(vae, sizeof vae, "%s", in_folder(state, "vae"));
    snprintf(teacher, sizeof teacher, "%s", in_folder(state, "teacher"));
    const char *data = pictures_with_captions(state);
    splam_train_options o = splam_train_defaults();
    assert_int_equal(splam_train_vae(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`data` is missing"));
    o.data = data;
    o.output = vae;
    one_step_and_another(splam_train_vae, o);
    assert_true(sp_path_exists(in_folder(state, "vae/vae/diffusion_pytorch_model.safetensors")));
    snprintf(ready, sizeof ready, "%s", golden("vae-demo"));
    o.output = teacher;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`vae` is missing"));
    o.vae = ready;
    o.prediction_type = "v_prediction";
    o.lr_warmup_steps = 1;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`lr_warmup_steps` needs `lr_scheduler`"));
    o.lr_scheduler = "linear";
    one_step_and_another(splam_train_teacher, o);
    assert_inspected(teacher, "predicts v\n", "predicts epsilon");
    goes_on_as_another(state, o);
}

/* ---- files ---- */

/* make_model's tokenizer learned "red apple". */
static void tokens(void **state)
{
    int32_t *ids;
    size_t count;
    make_model(in_folder(state, "model"), "unet-demo", ddim_scheduler);
    splam_tokenize_options o = splam_tokenize_defaults();
    o.model = in_folder(state, "model");
    o.text = "red";
    assert_done(splam_tokenize(&o, &ids, &count));
    assert_int_equal(count, TINY_MODEL_TOKENS);
    assert_int_equal(ids[2], ids[0] + 1); /* begin, red, end, which is the padding too */
    assert_int_equal(ids[7], ids[2]);
    int32_t red = ids[1];
    splam_free(ids);
    o.model = in_folder(state, "model/tokenizer");
    o.text = "apple red";
    assert_done(splam_tokenize(&o, &ids, &count));
    assert_int_equal(ids[2], red);
    splam_free(ids);
}

static void forward_equals_pytorch(void **state)
{
    char inputs[1100], output[600];
    snprintf(inputs, sizeof inputs, "%s/inputs_decode_square.safetensors", golden("vae-demo"));
    snprintf(output, sizeof output, "%s", in_folder(state, "image.safetensors"));
    splam_forward_options o = splam_forward_defaults();
    o.model = golden("vae-demo");
    o.component = "vae-decoder";
    o.inputs = inputs;
    o.outputs = output;
    o.precision = SPLAM_F32;
    assert_done(splam_forward(&o));
    sp_tensor_file *found, *want;
    const sp_tensor *image;
    double error;
    assert_ok(sp_safetensors_open(output, &found));
    snprintf(inputs, sizeof inputs, "%s/outputs_decode_square.safetensors", golden("vae-demo"));
    assert_ok(sp_safetensors_open(inputs, &want));
    assert_ok(sp_tensor_file_get(found, "image", &image));
    assert_ok(sp_tensor_relative_max_error(image, sp_tensor_file_at(want, 0), &error));
    assert_true(error <= 1e-4); /* as in test_components.c */
    sp_tensor_file_close(found);
    sp_tensor_file_close(want);
}

static void converted_models_are_inspected(void **state)
{
    char from[600], to[600];
    splam_convert_options o = splam_convert_defaults();
    snprintf(from, sizeof from, "%s", in_folder(state, "model"));
    snprintf(to, sizeof to, "%s", in_folder(state, "half"));
    make_model(from, "unet-demo", ddim_scheduler);
    o.model = from;
    o.output = to;
    o.dtype = "f16";
    assert_done(splam_convert(&o, NULL));
    assert_inspected(to, "F16", "F32");
}

static void data_is_summed_up(void **state)
{
    char sheet[600], *summary;
    snprintf(sheet, sizeof sheet, "%s", in_folder(state, "sheet.png"));
    splam_data_options o = splam_data_defaults();
    o.spec = pictures_with_captions(state);
    o.pictures.resolution = 64;
    o.sheet = sheet;
    o.count = 2;
    assert_done(splam_data(&o, NULL, &summary));
    assert_non_null(strstr(summary, "3 pictures (64x64)"));
    assert_true(sp_path_exists(sheet));
    splam_free(summary);
}

static void bench_reports(void **state)
{
    (void)state;
    char *report;
    splam_bench_options o = splam_bench_defaults();
    o.support = true;
    assert_done(splam_bench(&o, NULL, &report));
    assert_non_null(strstr(report, "conv2d"));
    splam_free(report);
    o = splam_bench_defaults();
    o.only = "operators";
    o.op = "unary";
    o.json = true;
    assert_done(splam_bench(&o, NULL, &report));
    json_error_t error;
    json_t *json = json_loads(report, 0, &error);
    assert_non_null(json);
    assert_true(json_array_size(json_object_get(json, "operators")) > 0);
    assert_true(json_number_value(json_object_get(json_object_get(json, "peak"), "f32_gflops")) > 0);
    json_decref(json);
    splam_free(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)
        with_folder(distilling_equals_pytorch),
        with_folder(training_from_scratch),
        with_folder(tokens),
        with_folder(forward_equals_pytorch),
        with_folder(converted_models_are_inspected),
        with_folder(data_is_summed_up),
        cmocka_unit_test(bench_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
