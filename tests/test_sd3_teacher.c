/* A small teacher of Stable Diffusion 3's shape, made by the program's own recipe from a few emoji, and what is
 * distilled from it: what a step asks, runs that are killed, several processes, students. */
#include "teacher_step.h"

enum { TEACHER_STEPS = 40 };
#define TRANSFORMER "transformer/diffusion_pytorch_model.safetensors"
#define ADAPTERS "pytorch_lora_weights.safetensors"

/* ---- the teacher, one for all tests ---- */

static splam_train_options teacher_of(void **state, const char *output)
{
    splam_train_options o = small_teacher(state, "sd3", output);
    o.max_train_steps = TEACHER_STEPS;
    o.train_batch_size = 4;
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

static void the_teacher_is_one_of_3(void **state)
{
    json_t *index, *scheduler;
    assert_ok(sp_json_load(in_folder(state, "teacher/model_index.json"), &index));
    assert_string_equal(case_text(index, "_class_name"), "StableDiffusion3Pipeline");
    assert_entry(index, "text_encoder", "CLIPTextModelWithProjection");
    assert_entry(index, "text_encoder_2", "CLIPTextModelWithProjection");
    assert_entry(index, "text_encoder_3", NULL);
    assert_entry(index, "tokenizer_3", NULL);
    assert_entry(index, "transformer", "SD3Transformer2DModel");
    assert_entry(index, "scheduler", "FlowMatchEulerDiscreteScheduler");
    json_decref(index);
    assert_ok(sp_json_load(in_folder(state, "teacher/scheduler/scheduler_config.json"), &scheduler));
    assert_true(case_number(scheduler, "shift") == 3);
    json_decref(scheduler);
    expect_learned(state, TEACHER_STEPS, .9);
}

/* What diffusers computes and keeps in the file, and what a teacher has after its training. */
static void positions_are_the_formula(void **state)
{
    const char *const folders[] = {golden("transformer-sd35"), in_folder(state, "teacher")};
    for (int i = 0; i < 2; i++) {
        sp_component *transformer;
        sp_tensor table;
        double error;
        assert_ok(sp_component_open(folders[i], "transformer", &transformer));
        assert_ok(sp_mmdit_positions(&transformer->config.transformer, &table));
        const sp_tensor *own = sp_weights_find(transformer->weights, "pos_embed.pos_embed");
        assert_true(sp_shape_equal(own->shape, table.shape));
        assert_ok(sp_tensor_relative_max_error(own, &table, &error));
        print_message("positions: %.1e\n", error);
        assert_true(error <= (i ? 0 : 1e-6)); /* float32 of float64 */
        sp_tensor_free(&table);
        sp_component_close(transformer);
    }
}

/* Adaptive norms begin at nothing, and text enters by every way there is. */
static void every_part_learns(void **state)
{
    static const char *const learns[][2] = {
        {"transformer", "proj_out.weight"},
        {"transformer", "context_embedder.weight"},
        {"transformer", "transformer_blocks.0.norm1.linear.weight"},
        {"transformer", "transformer_blocks.3.attn2.to_v.weight"},
        {"transformer", "transformer_blocks.6.ff_context.net.2.weight"},
        {"transformer", "time_text_embed.text_embedder.linear_1.weight"},
        {"text_encoder", "encoder.layers.1.mlp.fc1.weight"},
        {"text_encoder", "text_projection.weight"},
        {"text_encoder_2", "encoder.layers.2.mlp.fc1.weight"},
        {"text_encoder_2", "text_projection.weight"},
    };
    splam_train_options o = teacher_of(state, "untrained");
    o.max_train_steps = 1;
    o.learning_rate = 1e-12;
    o.lr_scheduler = "constant";
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_OK);
    for (size_t i = 0; i < sizeof learns / sizeof *learns; i++) {
        sp_model *now, *before;
        assert_ok(sp_model_open(in_folder(state, "teacher"), &(sp_model_options){0}, &now));
        assert_ok(sp_model_open(in_folder(state, "untrained"), &(sp_model_options){0}, &before));
        int text = strcmp(learns[i][0], "text_encoder_2") == 0;
        bool denoiser = strcmp(learns[i][0], "transformer") == 0;
        const sp_component *a = denoiser ? now->denoiser : now->text[text].encoder,
                           *b = denoiser ? before->denoiser : before->text[text].encoder;
        const sp_tensor *x = sp_weights_find(a->weights, learns[i][1]), *y = sp_weights_find(b->weights, learns[i][1]);
        assert_non_null(x);
        double most = 0;
        for (int64_t k = 0; k < sp_tensor_count(x); k++)
            most = fmax(most, fabs(sp_load(x->data, x->dtype, k) - sp_load(y->data, y->dtype, k)));
        if (most < 1e-4) fail_msg("%s of the %s has not learned", learns[i][1], learns[i][0]);
        sp_model_close(now);
        sp_model_close(before);
    }
}

/* ---- what a step computes ---- */

/* The picture, its noise and its timestep of sample i of the first step. */
static void draw_sample(sp_weights *in, float *target, const sp_latents *latents, const splam_train_options *o,
                        const sp_path *path, int64_t k, int64_t i)
{
    size_t one = (size_t)(latents->channels * latents->height * latents->width);
    float *sample = (float *)sp_weights_find(in, "sample")->data + (size_t)i * one, x;
    sp_random_key key = {o->seed, SP_STREAM_NOISE, 0, (uint64_t)i};
    target += (size_t)i * one;
    sp_random_normal(key, target, one);
    key.stream = SP_STREAM_TIMESTEP;
    sp_random_normal(key, &x, 1);
    double u = 1 - floor(1000 / (1 + exp(-(double)x))) / 1000, t = 3 * u / (1 + 2 * u);
    assert_true(fabs(sp_path_at(path, 1000 * t).sigma - t) < 1e-12);
    for (size_t n = 0; n < one; n++) {
        double clean = (double)sp_latent_at(latents, k)[n], noise = (double)target[n];
        sample[n] = (float)((1 - t) * clean + t * noise);
        target[n] = (float)(noise - clean);
    }
    ((float *)sp_weights_find(in, "timestep")->data)[i] = (float)(1000 * t);
}

/* The order of the encoders' states and of their pooled texts, the zeros behind them, timesteps, and the velocity that
 * is compared with. It goes on from the teacher, whose family it has. */
static void steps_ask_as_drawing_does(void **state)
{
    static const step_question question = {.component = "transformer", .draw = draw_sample, .tolerance = 1e-5};
    char start[700];
    snprintf(start, sizeof start, "%s", in_folder(state, "teacher"));
    splam_train_options o = teacher_of(state, "step");
    o.start = start;
    o.width = SPLAM_UNSET;
    o.family = NULL;
    o.max_train_steps = 1;
    o.train_batch_size = 8;
    check_step_question(state, &question, &o);
}

static void it_predicts_the_velocity_alone(void **state)
{
    splam_train_options o = teacher_of(state, "refused");
    o.prediction_type = "v_prediction";
    assert_int_equal(splam_train_teacher(&o, NULL), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "a teacher of the family sd3 predicts the velocity"));
}

/* ---- runs that are killed, and several processes ---- */

static void killed_runs_go_on(void **state)
{
    check_killed(state, "--timestep-sampling logit-normal", TRANSFORMER);
}

static void killed_runs_of_adapters_go_on(void **state)
{
    check_killed(state, "--lora-rank 2 --lora-targets attention", ADAPTERS);
}

static void two_processes_are_one(void **state)
{
    check_two_processes(state, TRANSFORMER);
}

/* ---- the student ---- */

/* Some steps bring its one evaluation nearer to where the teacher's trajectories lead. */
static void students_learn(void **state)
{
    sp_distill_options o = sp_distill_defaults();
    double before, after;
    char *metrics;
    o.given.teacher = in_folder(state, "teacher");
    o.given.data = pictures_of(state);
    o.given.pictures.resolution = SIDE;
    o.given.output = in_folder(state, "student");
    o.given.max_train_steps = 24;
    o.given.train_batch_size = 4;
    o.given.learning_rate = 1e-3;
    o.given.validation_steps = 8;
    o.given.validation_prompts = 4;
    o.measures_error = true;
    o.precision = SP_F32;
    o.average = (sp_average){.value = 0.5};
    o.objective.guidance_scale_w = 1;
    o.objective.skip = o.objective.skip_to = 100;
    o.objective.ddim_timesteps = 10;
    o.objective.solver_steps = 2;
    assert_ok(sp_distill(&o, NULL));
    assert_ok(sp_read_file(in_folder(state, "student/metrics.jsonl"), &metrics, NULL));
    const char *first = strstr(metrics, "\"trajectory_error_mean\":"), *last = first;
    for (const char *next = first; next; next = strstr(next + 1, "\"trajectory_error_mean\":"))
        last = next;
    before = strtod(first + 24, NULL);
    after = strtod(last + 24, NULL);
    print_message("trajectory error %.4f after 8 steps, %.4f after 24\n", before, after);
    assert_true(last != first && after < .97 * before);
    sp_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_teacher_is_one_of_3),
        cmocka_unit_test(positions_are_the_formula),
        cmocka_unit_test(every_part_learns),
        cmocka_unit_test(steps_ask_as_drawing_does),
        cmocka_unit_test(it_predicts_the_velocity_alone),
        cmocka_unit_test(killed_runs_go_on),
        cmocka_unit_test(killed_runs_of_adapters_go_on),
        cmocka_unit_test(two_processes_are_one),
        cmocka_unit_test(students_learn),
    };
    return cmocka_run_group_tests_name("sd3 teacher", tests, make_teacher, remove_test_folder);
}
