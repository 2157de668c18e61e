/* Guidance that stays adjustable: drawn for each sample, told to the student, chosen by its user, folded. */
#include "distill_support.h"
#include "generate_support.h"
#include "base/parallel.h"
#include "base/text.h"
#include "checkpoints/fold_guidance.h"
#include "distill/distill_settings.h"
#include "models/guidance.h"

/* ---- ranges and draws ---- */

static void test_texts(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "3", ":", "3:", ":3", "3:2", "3:3", "0.5:3", "2:102", "2:nan", "nan:2",
                                        "2:3x", "2:3:4", "2 :3", "inf:inf"};
    sp_guidance_range range;
    char text[SP_GUIDANCE_RANGE_TEXT];
    assert_ok(sp_guidance_range_of("x", "2.5:6", &range));
    assert_true(range.low == 2.5 && range.high == 6 && sp_usual_guidance(&range) == 4.25);
    assert_string_equal(sp_guidance_range_text(&range, text), "2.5:6");
    assert_true(sp_usual_guidance(&(sp_guidance_range){0}) == 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_status(sp_guidance_range_of("x", wrong[i], &range), SP_ARGUMENT);
        assert_message("`x` is \"");
    }
}

/* Evenly over the range, a function of (seed, step, sample), and nobody else's draws move. */
static void test_draws(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    sp_path path;
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, 1000, SP_PREDICTION_EPSILON, &path));
    sp_objective_settings plain = sp_objective_defaults(SP_OBJECTIVE_SPLAM), drawn = plain;
    drawn.guidance = (sp_guidance_range){3, 9};
    double sum = 0, least = 100, most = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        sp_subpath a = sp_subpath_draw(&plain, &path, 7, i / 4, i % 4);
        sp_subpath b = sp_subpath_draw(&drawn, &path, 7, i / 4, i % 4);
        sp_subpath again = sp_subpath_draw(&drawn, &path, 7, i / 4, i % 4);
        double w = b.guidance_scale_w;
        assert_true(a.guidance_scale_w == 8 && again.guidance_scale_w == w && a.gamma == b.gamma && a.start == b.start);
        assert_true(w >= 2 && w <= 8);
        sum += w;
        least = fmin(least, w);
        most = fmax(most, w);
    }
    assert_true(least < 2.01 && most > 7.99);
    assert_true(fabs(sum / COUNT - 5) < 0.05); /* four standard deviations of the mean */
    double other[] = {sp_subpath_draw(&drawn, &path, 8, 0, 0).guidance_scale_w,
                      sp_subpath_draw(&drawn, &path, 7, 1, 0).guidance_scale_w,
                      sp_subpath_draw(&drawn, &path, 7, 0, 1).guidance_scale_w};
    for (int i = 0; i < 3; i++)
        assert_true(other[i] != sp_subpath_draw(&drawn, &path, 7, 0, 0).guidance_scale_w);
}

/* The teacher's steps are those of the sample's own w, and nothing else of the step is. */
static void test_coefficients(void **state)
{
    (void)state;
    sp_path path;
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, 1000, SP_PREDICTION_V, &path));
    sp_objective_settings drawn = sp_objective_defaults(SP_OBJECTIVE_LCM), fixed = drawn;
    drawn.guidance = (sp_guidance_range){1, 5};
    drawn.guidance_scale_w = 2;
    fixed.guidance_scale_w = 3.25;
    for (int index = 0; index < 50; index++) {
        sp_subpath sub = sp_subpath_at(&drawn, &path, index);
        assert_true(sub.guidance_scale_w == 2);
        sub.guidance_scale_w = 3.25;
        sp_coefficients a = sp_subpath_coefficients(&drawn, &path, sub),
                        b = sp_subpath_coefficients(&fixed, &path, sp_subpath_at(&fixed, &path, index));
        assert_memory_equal(&a, &b, sizeof a);
    }
}

/* ---- options ---- */

static void expect(const splam_distill_options *given, sp_status status, const char *words)
{
    sp_distill_options o;
    sp_path path;
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, 1000, SP_PREDICTION_EPSILON, &path));
    sp_status found = sp_distill_options_of(given, &o);
    if (!found) found = sp_distill_check(&o, &path);
    assert_status(found, status);
    if (words) assert_message(words);
}

static void test_options(void **state)
{
    (void)state;
    splam_distill_options o = splam_distill_defaults(), other;
    o.teacher = "teacher";
    o.data = "emoji:";
    o.output = "student";
    o.guidance_range = "2:8";
    expect(&o, SP_ARGUMENT, "`gamma_conditioning` embedding gamma; take `gamma_conditioning` time");
    o.gamma_conditioning = "time";
    expect(&o, SP_OK, NULL);
    o.cond_proj_init = "random";
    expect(&o, SP_OK, NULL);
    other = o;
    other.guidance_scale_w = 3;
    expect(&other, SP_ARGUMENT, "`guidance_scale_w` is one guidance for all");
    other = o;
    other.lora_rank = 4;
    expect(&other, SP_UNSUPPORTED, "adapters of `lora_rank`");
    other = o;
    other.guidance_range = "8:2";
    expect(&other, SP_ARGUMENT, "`guidance_range` is \"8:2\"");
    o.gamma_conditioning = NULL;
    o.objective = "lcm";
    expect(&o, SP_OK, NULL);
    other = o;
    other.guidance_range = NULL;
    expect(&other, SP_ARGUMENT, "`cond_proj_init` is for splam");
    static const char *const objectives[] = {"pcm", "tcd", "progressive", "dmd"};
    o.cond_proj_init = NULL;
    for (int i = 0; i < 4; i++) {
        o.objective = objectives[i];
        expect(&o, SP_ARGUMENT, "`guidance_range` says nothing to `objective`");
    }
}

/* ---- training ---- */

typedef struct {
    sp_distill_options options;
    char teacher[512], draws[512], output[512];
} training;

static void make_training(void **state, const char *output, training *t)
{
    snprintf(t->teacher, sizeof t->teacher, "%s", golden("teacher-epsilon"));
    snprintf(t->draws, sizeof t->draws, "%s", golden("distill-lcm-guidance/draws.safetensors"));
    snprintf(t->output, sizeof t->output, "%s", in_folder(state, output));
    t->options = sp_distill_defaults();
    t->options.objective = sp_objective_defaults(SP_OBJECTIVE_LCM);
    t->options.objective.guidance = (sp_guidance_range){1, 4};
    t->options.objective.guidance_scale_w = 1.5;
    t->options.given.teacher = t->teacher;
    t->options.given.draws = t->draws;
    t->options.given.output = t->output;
    t->options.precision = SP_F32;
    t->options.given.train_batch_size = 3;
    t->options.given.max_train_steps = 4;
    t->options.given.learning_rate = 1e-3;
}

/* Stopped after two steps, and with another number of threads, it ends with the same bits; another range is another
 * run. */
static void test_resume(void **state)
{
    training whole, halves;
    int left = 2;
    make_training(state, "whole", &whole);
    assert_ok(sp_distill(&whole.options, NULL));
    make_training(state, "halves", &halves);
    const sp_callbacks stopping = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&halves.options, &stopping), SP_CANCELLED);
    halves.options.given.resume = "latest";
    sp_distill_options other = halves.options;
    other.objective.guidance.high = 6;
    assert_status(sp_distill(&other, NULL), SP_ARGUMENT);
    assert_message("was made with `guidance_range` ");
    other = halves.options;
    other.objective.guidance.high = 0;
    assert_status(sp_distill(&other, NULL), SP_ARGUMENT);
    assert_message("guidance_");
    sp_set_threads(1);
    assert_ok(sp_distill(&halves.options, NULL));
    sp_set_threads(0);
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet_ema/diffusion_pytorch_model.safetensors",
                                        "checkpoint-4/second_moment.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_same_file(in(whole.output, files[i]), in(halves.output, files[i]));
}

static void assert_has(const char *path, const char *words)
{
    char *text;
    assert_ok(sp_read_file(path, &text, NULL));
    if (!strstr(text, words)) fail_msg("%s: no \"%s\" in %s", path, words, text);
    sp_free(text);
}

static void test_folder(void **state)
{
    training t;
    make_training(state, "folder", &t);
    t.options.given.max_train_steps = 1;
    assert_ok(sp_distill(&t.options, NULL));
    assert_has(in(t.output, "unet/config.json"), "\"_guidance_range\": \"1:4\"");
    assert_has(in(t.output, "unet/config.json"), "\"time_cond_proj_dim\": 256");
    assert_has(in(t.output, "unet_ema/config.json"), "\"_guidance_range\": \"1:4\"");
    assert_has(in(t.output, "model_index.json"), "LatentConsistencyModelPipeline");
    assert_has(in(t.output, "splam.json"), "\"guidance-range\": \"1:4\"");
    assert_has(in(t.output, "splam.json"), "\"cond-proj-init\": \"zero\"");
    assert_has(in(t.output, "README.md"), "Guidance (CFG) from 1 to 4, 2.5 where nobody says");
    assert_has(in(t.output, "README.md"), "num_inference_steps=4, guidance_scale=2.5)");
    assert_has(in(t.output, "README.md"), "--fold-guidance --guidance 2.5 --single-file");
    sp_component *unet;
    assert_ok(sp_component_open(t.output, "unet", &unet));
    assert_true(unet->config.unet.guidance.low == 1 && unet->config.unet.guidance.high == 4);
    sp_component_close(unet);
}

/* What is recorded beyond the range, and what a file says that is none. */
static void test_bad_files(void **state)
{
    training t;
    make_training(state, "bad", &t);
    t.options.objective.guidance.high = 3; /* the draws go up to w = 3 */
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("draws.safetensors: a draw has guidance_scale_w ");
    snprintf(t.draws, sizeof t.draws, "%s", golden("distill-lcm/draws.safetensors"));
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("guidance_scale_w.0");
    sp_unet_config config;
    json_t *json;
    assert_ok(sp_json_load(golden("unet-guided/config.json"), &json));
    json_object_set_new(json, "_guidance_range", json_string("4:1"));
    assert_status(sp_unet_config_read(json, "config.json", &config), SP_FORMAT);
    assert_message("config.json: `_guidance_range` is \"4:1\"");
    json_object_set_new(json, "_guidance_range", json_integer(4));
    assert_status(sp_unet_config_read(json, "config.json", &config), SP_FORMAT);
    json_decref(json);
}

/* A start that is told its guidance: to one that is told it too, folded at the run's guidance to one that is not, and
 * refused by one that is told gamma. */
static void test_starts(void **state)
{
    training a, b;
    make_training(state, "first", &a);
    a.options.given.max_train_steps = 1;
    a.options.random_cond_proj = true;
    assert_ok(sp_distill(&a.options, NULL));
    make_training(state, "second", &b);
    b.options.given.max_train_steps = 1;
    b.options.given.learning_rate = 0;
    b.options.given.student_start = a.output;
    assert_ok(sp_distill(&b.options, NULL));
    assert_same_file(in(a.output, "unet/diffusion_pytorch_model.safetensors"),
                     in(b.output, "unet/diffusion_pytorch_model.safetensors"));
    make_training(state, "third", &b);
    b.options.given.max_train_steps = 1;
    b.options.given.learning_rate = 0;
    b.options.given.student_start = a.output;
    b.options.objective.guidance = (sp_guidance_range){0};
    b.options.objective.guidance_scale_w = 2;
    assert_ok(sp_distill(&b.options, NULL));
    sp_component *folded, *made;
    assert_ok(sp_component_open(a.output, "unet", &folded));
    assert_ok(sp_fold_guidance(folded, 3));
    assert_ok(sp_component_open(b.output, "unet", &made));
    const char bias[] = "time_embedding.linear_1.bias";
    const sp_tensor *x = sp_weights_find(folded->weights, bias), *y = sp_weights_find(made->weights, bias);
    assert_memory_equal(x->data, y->data, sp_tensor_bytes(x));
    sp_component_close(folded);
    sp_component_close(made);
    b.options.objective = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    assert_status(sp_distill(&b.options, NULL), SP_ARGUMENT);
    assert_message("is told its guidance by cond_proj, and this student gamma");
}

/* ---- drawing ---- */

static void make_ranged(void **state)
{
    json_t *json;
    const char *path = keep(state, "ranged/unet/config.json");
    make_model(keep(state, "ranged"), "unet-guided", lcm_scheduler);
    assert_ok(sp_json_load(path, &json));
    json_object_set_new(json, "_guidance_range", json_string("2:6"));
    assert_ok(sp_json_save(path, json));
    json_decref(json);
}

static void draw(void *context)
{
    generate(context);
}

/* The middle where nobody says, any other where somebody does, with a word where it is beyond the range. */
static void test_generate(void **state)
{
    make_ranged(state);
    splam_generate_options o = options_for(state, "ranged");
    o.steps = 2;
    o.width = o.height = SIDE;
    sp_tensor usual = latents_of(state, o);
    o.guidance = 4;
    sp_tensor four = latents_of(state, o);
    assert_same_bits(&usual, &four);
    o.guidance = 3;
    sp_tensor three = latents_of(state, o);
    assert_true(difference(&three, &four) > 1e-3);
    o.output = keep(state, "ranged.png");
    o.save_latents = NULL;
    for (int beyond = 0; beyond < 2; beyond++) {
        o.guidance = beyond ? 6.5 : 6;
        char *said = captured(state, draw, &o);
        assert_true(!strstr(said, "a guidance of 6.5 is beyond the model's, which was trained for 2 to 6") == !beyond);
        sp_free(said);
    }
    sp_tensor_free(&usual);
    sp_tensor_free(&four);
    sp_tensor_free(&three);
}

/* Folded, at the middle or where one is asked for, it is a plain UNet of that guidance. */
static void test_fold(void **state)
{
    make_ranged(state);
    for (int asked = 0; asked < 2; asked++) {
        const char *folder = asked ? "folded-3" : "folded";
        splam_convert_options convert = splam_convert_defaults();
        convert.model = keep(state, "ranged");
        convert.output = keep(state, folder);
        convert.dtype = "f32";
        convert.guidance = 3;
        if (!asked) {
            assert_int_equal(splam_convert(&convert, NULL), SPLAM_ARGUMENT);
            assert_message("`guidance` has no effect without `fold_guidance`");
            convert.guidance = (double)SPLAM_UNSET;
        }
        convert.fold_guidance = true;
        assert_int_equal(splam_convert(&convert, NULL), SPLAM_OK);
        sp_unet_config config;
        assert_ok(sp_unet_config_load(in(convert.output, "unet/config.json"), &config));
        assert_true(config.time_cond_dim == 0 && config.guidance.high == 0);
        splam_generate_options o = options_for(state, "ranged");
        o.steps = 2;
        o.width = o.height = SIDE;
        o.guidance = asked ? 3 : 4;
        sp_tensor told = latents_of(state, o);
        o.model = convert.output;
        o.guidance = (double)SPLAM_UNSET;
        sp_tensor plain = latents_of(state, o);
        assert_true(difference(&plain, &told) < 1e-4); /* phases of 3000 in float32 */
        sp_tensor_free(&told);
        sp_tensor_free(&plain);
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts), cmocka_unit_test(test_draws), cmocka_unit_test(test_coefficients),
        cmocka_unit_test(test_options), IN_FOLDER(test_resume),      IN_FOLDER(test_folder),
        IN_FOLDER(test_bad_files),      IN_FOLDER(test_starts),      IN_FOLDER(test_generate),
        IN_FOLDER(test_fold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
