/* A small teacher of Stable Diffusion XL's shape, made by the program's own recipe from a few emoji, and what is
 * distilled from it: conditioning, runs that are killed, several processes, students. */
#include "teacher_step.h"

enum { TEACHER_STEPS = 60 };
#define UNET "unet/diffusion_pytorch_model.safetensors"
#define ADAPTERS "pytorch_lora_weights.safetensors"

/* ---- the teacher, one for all tests ---- */

static splam_train_options teacher_of(void **state, const char *output)
{
    splam_train_options o = small_teacher(state, "sdxl", output);
    o.max_train_steps = TEACHER_STEPS;
    o.train_batch_size = 8;
    return o;
}

static int make_teacher(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    write_pictures(state);
    const splam_train_options o = teacher_of(state, "teacher");
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_OK);
    return 0;
}

static void the_teacher_is_one_of_xl(void **state)
{
    json_t *index;
    assert_ok(sp_json_load(in_folder(state, "teacher/model_index.json"), &index));
    assert_string_equal(json_string_value(json_object_get(index, "_class_name")), "StableDiffusionXLPipeline");
    assert_entry(index, "text_encoder", "CLIPTextModel");
    assert_entry(index, "text_encoder_2", "CLIPTextModelWithProjection");
    assert_entry(index, "tokenizer_2", "CLIPTokenizer");
    assert_entry(index, "scheduler", "EulerDiscreteScheduler");
    assert_true(json_is_true(json_object_get(index, "force_zeros_for_empty_prompt")));
    json_decref(index);
    expect_learned(state, TEACHER_STEPS, .7);
}

/* How far the parameter is from what it began as, which a run of a step at next to no rate still is. */
static double moved(void **state, const char *part, const char *name)
{
    sp_component *now, *before;
    double error;
    assert_ok(sp_component_open(in_folder(state, "teacher"), part, &now));
    assert_ok(sp_component_open(in_folder(state, "untrained"), part, &before));
    const sp_tensor *a = sp_weights_find(now->weights, name), *b = sp_weights_find(before->weights, name);
    assert_non_null(a);
    assert_non_null(b);
    assert_ok(sp_tensor_relative_max_error(a, b, &error));
    sp_component_close(now);
    sp_component_close(before);
    return error;
}

/* The second encoder through its pooled text too; of the first the layer that nobody asks for stays as it began. */
static void every_part_learns(void **state)
{
    splam_train_options o = teacher_of(state, "untrained");
    o.max_train_steps = 1;
    o.learning_rate = 1e-12;
    o.lr_scheduler = "constant";
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_OK);
    static const char *const learns[][2] = {
        {"unet", "add_embedding.linear_1.weight"},
        {"unet", "mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight"},
        {"text_encoder", "encoder.layers.1.mlp.fc1.weight"},
        {"text_encoder", "embeddings.token_embedding.weight"},
        {"text_encoder_2", "encoder.layers.1.mlp.fc1.weight"},
        {"text_encoder_2", "encoder.layers.2.mlp.fc1.weight"},
        {"text_encoder_2", "text_projection.weight"},
        {"text_encoder_2", "final_layer_norm.weight"},
    };
    for (size_t i = 0; i < sizeof learns / sizeof *learns; i++)
        if (moved(state, learns[i][0], learns[i][1]) < 1e-3)
            fail_msg("%s of the %s has not learned", learns[i][1], learns[i][0]);
    assert_true(moved(state, "text_encoder", "encoder.layers.2.mlp.fc1.weight") == 0);
    assert_true(moved(state, "text_encoder", "final_layer_norm.weight") == 0);
}

/* ---- what a step computes ---- */

/* The picture, its noise and its timestep of sample i of the first step. */
static void draw_sample(sp_weights *in, float *noise, const sp_latents *latents, const splam_train_options *o,
                        const sp_path *path, int64_t k, int64_t i)
{
    size_t one = (size_t)(latents->channels * latents->height * latents->width);
    float *sample = (float *)sp_weights_find(in, "sample")->data + (size_t)i * one;
    sp_random_key key = {o->seed, SP_STREAM_NOISE, 0, (uint64_t)i};
    noise += (size_t)i * one;
    sp_random_normal(key, noise, one);
    key.stream = SP_STREAM_TIMESTEP;
    int timestep = (int)sp_random_below(key, 1000);
    sp_pair at = sp_path_at(path, timestep);
    for (size_t n = 0; n < one; n++)
        sample[n] = (float)(at.alpha * (double)sp_latent_at(latents, k)[n] + at.sigma * (double)noise[n]);
    ((float *)sp_weights_find(in, "timestep")->data)[i] = (float)timestep;
}

/* Its sizes. */
static void frame(sp_pipeline *p, int64_t k, sp_conditioning *told)
{
    sp_framing sizes = sp_framing_whole(SIDE, SIDE);
    sizes.original_height = original_height(k);
    sizes.original_width = 2 * original_height(k);
    assert_ok(sp_pipeline_frame(p, &sizes, 1, told));
}

/* The order of the encoders' states, the row of the pooled text, the sizes, and zeros for captions that are left
 * out. */
static void steps_ask_as_drawing_does(void **state)
{
    /* f32: 7e-8; width before height: 7e-6 */
    static const step_question question = {
        .component = "unet", .draw = draw_sample, .frame = frame, .tolerance = 1e-6};
    char start[700];
    snprintf(start, sizeof start, "%s", in_folder(state, "teacher"));
    splam_train_options o = teacher_of(state, "step");
    o.start = start;
    o.width = SPLAM_UNSET;
    o.max_train_steps = 1;
    check_step_question(state, &question, &o);
}

/* A teacher that goes on from another has the layer that nobody asks for from it, and its family. */
static void teachers_go_on(void **state)
{
    char start[700], first[700], second[700];
    snprintf(start, sizeof start, "%s", in_folder(state, "teacher"));
    splam_train_options o = teacher_of(state, "went-on");
    o.start = start;
    o.max_train_steps = 1;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`width` is of a teacher that begins at random"));
    o.width = SPLAM_UNSET;
    o.family = "sd";
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "is of the family sdxl, and sd is asked for"));
    o.family = NULL;
    o.seed = 5; /* starting values would be others */
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_OK);
    sp_component *a, *b;
    double error;
    snprintf(first, sizeof first, "%s", in_folder(state, "went-on"));
    snprintf(second, sizeof second, "%s", start);
    assert_ok(sp_component_open(first, "text_encoder", &a));
    assert_ok(sp_component_open(second, "text_encoder", &b));
    static const char unasked[] = "encoder.layers.2.mlp.fc1.weight";
    assert_ok(sp_tensor_relative_max_error(sp_weights_find(a->weights, unasked), sp_weights_find(b->weights, unasked),
                                           &error));
    assert_true(error == 0);
    sp_component_close(a);
    sp_component_close(b);
    assert_true(sp_path_exists(in_folder(state, "went-on/text_encoder_2/config.json")));
}

static void other_sizes_are_refused(void **state)
{
    splam_train_options o = teacher_of(state, "refused");
    o.width = 40;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`width` is 40, and must be a multiple of 16"));
    o.width = 16;
    o.resolution = 34;
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`resolution` is 34, and must be a multiple of 4"));
    o.resolution = SIDE;
    o.family = "sdxxl";
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "sd|sdxl|sd3"));
}

/* ---- conditioning ---- */

static void add_random(sp_weights *draws, const char *name, uint64_t sample, sp_shape shape)
{
    sp_tensor tensor;
    assert_ok(sp_tensor_create(SP_F32, shape, &tensor));
    sp_random_normal((sp_random_key){9, SP_STREAM_NOISE, 0, sample}, tensor.data, (size_t)sp_tensor_count(&tensor));
    assert_ok(sp_weights_add(draws, name, tensor));
}

/* Rows first.. of the cache's, repeated beyond its end, as F32. */
static void add_rows(sp_weights *draws, const char *as, const sp_tensor *from, int64_t first, int64_t rows)
{
    sp_tensor tensor;
    sp_shape shape = from->shape;
    shape.dim[0] = rows;
    assert_ok(sp_tensor_create(SP_F32, shape, &tensor));
    int64_t one = sp_tensor_count(&tensor) / rows;
    for (int64_t i = 0; i < rows * one; i++)
        ((float *)tensor.data)[i] = (float)sp_load(from->data, from->dtype, first * one + i);
    assert_ok(sp_weights_add(draws, as, tensor));
}

static void cache_pictures(void **state)
{
    splam_data_options o = splam_data_defaults();
    char *summary = NULL;
    o.spec = pictures_of(state);
    o.pictures.resolution = SIDE;
    o.teacher = in_folder(state, "teacher");
    o.cache = in_folder(state, "cache");
    o.cache_dtype = "f32";
    assert_int_equal(splam_data(&o, NULL, &summary), SPLAM_OK);
    splam_free(summary);
}

/* What a run is told, with one member of the conditioning changed; NULL: none is. */
static void write_draws(void **state, const char *changed)
{
    static const char *const members[] = {"encoder_hidden_states", "text_embeds", "time_ids"};
    sp_tensor_file *cache;
    sp_weights *draws;
    sp_tensor index;
    assert_ok(sp_safetensors_open(in_folder(state, "cache/latents-00000.safetensors"), &cache));
    assert_ok(sp_weights_create(&draws));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        char from[80], to[80];
        const sp_tensor *rows;
        snprintf(from, sizeof from, "conditioning.%s", members[i]);
        snprintf(to, sizeof to, "conditioning.%s.0", members[i]);
        assert_ok(sp_tensor_file_get(cache, from, &rows));
        bool change = changed && strcmp(changed, members[i]) == 0;
        add_rows(draws, to, rows, change ? 2 : 0, 2); /* of other pictures */
        snprintf(from, sizeof from, "negative.%s", members[i]);
        assert_ok(sp_tensor_file_get(cache, from, &rows));
        add_rows(draws, from, rows, 0, 1);
    }
    add_random(draws, "latents.0", 1, sp_shape_of(2, 4, SIDE / 4, SIDE / 4));
    add_random(draws, "noise.0", 2, sp_shape_of(2, 4, SIDE / 4, SIDE / 4));
    assert_ok(sp_tensor_create(SP_I64, sp_shape_of(2), &index));
    ((int64_t *)index.data)[0] = 20;
    ((int64_t *)index.data)[1] = 45;
    assert_ok(sp_weights_add(draws, "index.0", index));
    assert_ok(sp_weights_save(draws, in_folder(state, "draws.safetensors"), SP_F32, NULL, 0, NULL));
    sp_weights_destroy(draws);
    sp_tensor_file_close(cache);
}

static sp_distill_options run_of(void **state, const char *output)
{
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = in_folder(state, "teacher");
    o.given.data = pictures_of(state);
    o.given.pictures.resolution = SIDE;
    o.given.output = in_folder(state, output);
    o.given.max_train_steps = 4;
    o.given.train_batch_size = 2;
    o.given.validation_steps = 0;
    o.precision = SP_F32;
    o.objective = sp_objective_defaults(SP_OBJECTIVE_LCM);
    return o;
}

static sp_tensor_file *traced(void **state, const char *changed, const char *name)
{
    char trace[700], draws[700];
    sp_tensor_file *file;
    write_draws(state, changed);
    sp_distill_options o = run_of(state, "told");
    snprintf(trace, sizeof trace, "%s-%s.safetensors", in_folder(state, "trace"), name);
    snprintf(draws, sizeof draws, "%s", in_folder(state, "draws.safetensors"));
    o.given.data = NULL;
    o.given.pictures.resolution = SPLAM_UNSET;
    o.given.draws = draws;
    o.given.trace = trace;
    o.given.max_train_steps = 1;
    assert_ok(sp_remove_tree(o.given.output));
    assert_ok(sp_distill(&o, NULL));
    assert_ok(sp_safetensors_open(trace, &file));
    return file;
}

static double apart(const sp_tensor_file *a, const sp_tensor_file *b, const char *name)
{
    const sp_tensor *x, *y;
    double error;
    assert_ok(sp_tensor_file_get(a, name, &x));
    assert_ok(sp_tensor_file_get(b, name, &y));
    assert_ok(sp_tensor_relative_max_error(x, y, &error));
    return error;
}

/* Another caption's states, its pooled text alone, or other sizes: the student's prediction and the teacher's target
 * are others each time, by far more than rounding makes of f32. */
static void all_conditioning_enters(void **state)
{
    static const char *const members[] = {"encoder_hidden_states", "text_embeds", "time_ids"};
    cache_pictures(state);
    sp_tensor_file *plain = traced(state, NULL, "plain"), *again = traced(state, NULL, "again");
    assert_true(apart(again, plain, "prediction.0") == 0);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        sp_tensor_file *other = traced(state, members[i], members[i]);
        double prediction = apart(other, plain, "prediction.0"), target = apart(other, plain, "target.0");
        print_message("other %s: prediction %.1e, target %.1e apart\n", members[i], prediction, target);
        assert_true(prediction > 1e-4 && target > 1e-4);
        sp_tensor_file_close(other);
    }
    sp_tensor_file_close(plain);
    sp_tensor_file_close(again);
}

/* ---- runs that are killed, and several processes ---- */

static void killed_runs_go_on(void **state)
{
    check_killed(state, "", UNET);
}

static void killed_runs_of_adapters_go_on(void **state)
{
    check_killed(state, "--lora-rank 2", ADAPTERS);
}

static void two_processes_are_one(void **state)
{
    check_two_processes(state, UNET);
}

/* ---- the student ---- */

static void draw(void **state, const char *model, const char *lora, const char *latents)
{
    static const char *const prompts[] = {"red apple"};
    const splam_lora loras[] = {{.path = lora, .weight = 1}};
    splam_generate_options g = splam_generate_defaults();
    g.model = model;
    g.prompts = prompts;
    g.prompt_count = 1;
    g.width = g.height = SIDE;
    g.loras = loras;
    g.lora_count = lora ? 1 : 0;
    g.sampler = "lcm";
    g.guidance = 1;
    g.steps = 2;
    g.save_latents = latents;
    g.output = in_folder(state, "out.png");
    assert_int_equal(splam_generate(&g, NULL), SPLAM_OK);
}

static double drawings_apart(const char *a, const char *b)
{
    sp_tensor_file *x, *y;
    assert_ok(sp_safetensors_open(a, &x));
    assert_ok(sp_safetensors_open(b, &y));
    double error = apart(x, y, "latents");
    sp_tensor_file_close(x);
    sp_tensor_file_close(y);
    return error;
}

/* Adapters over the teacher draw what the student with them merged draws, and that is not what the teacher draws. */
static void adapters_draw_as_merged(void **state)
{
    char model[700], merged[700], lora[800], latents[3][700];
    snprintf(model, sizeof model, "%s", in_folder(state, "teacher"));
    snprintf(merged, sizeof merged, "%s", in_folder(state, "student"));
    snprintf(lora, sizeof lora, "%s/" ADAPTERS, merged);
    for (int i = 0; i < 3; i++)
        snprintf(latents[i], sizeof latents[i], "%s-%d.safetensors", in_folder(state, "latents"), i);
    sp_distill_options o = run_of(state, "student");
    o.lora.rank = 4;
    o.lora.alpha = 4;
    o.given.lora_rank = 4;
    o.given.lora_merged = true;
    o.given.learning_rate = 1e-3;
    o.given.max_train_steps = 20;
    assert_ok(sp_distill(&o, NULL));
    draw(state, model, lora, latents[0]);
    draw(state, merged, NULL, latents[1]);
    draw(state, model, NULL, latents[2]);
    double same = drawings_apart(latents[0], latents[1]), other = drawings_apart(latents[0], latents[2]);
    print_message("adapters against merged: %.1e, against none: %.1e\n", same, other);
    assert_true(same < 2e-4); /* merged in f32 in another order; final latents as everywhere */
    assert_true(other > 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_teacher_is_one_of_xl),
        cmocka_unit_test(every_part_learns),
        cmocka_unit_test(steps_ask_as_drawing_does),
        cmocka_unit_test(teachers_go_on),
        cmocka_unit_test(other_sizes_are_refused),
        cmocka_unit_test(all_conditioning_enters),
        cmocka_unit_test(killed_runs_go_on),
        cmocka_unit_test(killed_runs_of_adapters_go_on),
        cmocka_unit_test(two_processes_are_one),
        cmocka_unit_test(adapters_draw_as_merged),
    };
    return cmocka_run_group_tests_name("sdxl teacher", tests, make_teacher, remove_test_folder);
}
