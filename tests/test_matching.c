/* Distribution matching: turns and draws, timesteps, runs that are interrupted, adapters, students. The comparison with
 * PyTorch is test_distill.c's, of distill-dmd*. */
#include "matching_support.h"
#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/lora.h"
#include "diffusion/sampler.h"
#include "distill/matching.h"
#include "pipeline/model.h"
#include "train/step_memory.h"

/* ---- numbers ---- */

static sp_path stable_diffusion(sp_prediction prediction)
{
    sp_path path;
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, 1000, prediction, &path));
    return path;
}

static void the_fake_score_has_its_turns_first(void **state)
{
    (void)state;
    static const struct {
        bool fake_score;
        int64_t updates;
    } expected[] = {{true, 0}, {true, 1}, {false, 0}, {true, 2}, {true, 3}, {false, 1}, {true, 4}};
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_DMD);
    s.fake_score_steps = 2;
    for (int64_t step = 0; step < 7; step++) {
        sp_matching_turn turn = sp_matching_turn_of(&s, step);
        assert_int_equal(turn.fake_score, expected[step].fake_score);
        assert_int_equal(turn.updates, expected[step].updates);
    }
}

/* A student is trained where its sampler stands, for every number of steps. */
static void timesteps_are_the_samplers(void **state)
{
    (void)state;
    const sp_path path = stable_diffusion(SP_PREDICTION_EPSILON);
    for (int n = 1; n <= SP_MAX_STUDENT_STEPS; n++) {
        sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_DMD);
        sp_scheduler_config config = {.path = path, .student = SP_STUDENT_LCM, .original_steps = n};
        const sp_sampler_options options = {.kind = SP_SAMPLER_LCM, .steps = n};
        sp_sampler sampler;
        s.ddim_timesteps = n;
        assert_ok(sp_sampler_create(&config, &options, &sampler));
        for (int j = 0; j < n; j++)
            assert_true(sampler.step[j].timestep == sp_matching_timestep(&s, &path, j));
        sp_sampler_free(&sampler);
    }
    sp_objective_settings four = sp_objective_defaults(SP_OBJECTIVE_DMD);
    static const int published[] = {999, 749, 499, 249};
    for (int j = 0; j < 4; j++)
        assert_int_equal(sp_matching_timestep(&four, &path, j), published[j]);
}

static void draws_fill_their_ranges(void **state)
{
    (void)state;
    const sp_path path = stable_diffusion(SP_PREDICTION_V);
    const sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_DMD);
    int low[2] = {1000, 1000}, high[2] = {0, 0}, seen[4] = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        for (int fake = 0; fake < 2; fake++) {
            const sp_random_key key = {.seed = 1, .stream = SP_STREAM_TIMESTEP, .step = 2, .sample = i};
            int t = sp_matching_draw(sp_matching_range_of(&path, fake), key);
            low[fake] = t < low[fake] ? t : low[fake];
            high[fake] = t > high[fake] ? t : high[fake];
        }
        seen[sp_matching_student_step(&s, 1, i)]++;
    }
    assert_int_equal(low[0], 20);
    assert_int_equal(high[0], 980);
    assert_int_equal(low[1], 0);
    assert_int_equal(high[1], 999);
    for (int j = 0; j < 4; j++)
        assert_in_range(seen[j], 4700, 5300);
}

static bool close_to(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

/* A student, a teacher and a fake score that know the clean latent: the student makes it, and the two agree on it; from
 * step to step noise is added as at the next timestep. On paths that end without signal all is finite. */
static void exact_networks_agree(void **state)
{
    (void)state;
    sp_path paths[] = {stable_diffusion(SP_PREDICTION_EPSILON), stable_diffusion(SP_PREDICTION_V),
                       stable_diffusion(SP_PREDICTION_V), {0}, stable_diffusion(SP_PREDICTION_SAMPLE)};
    sp_path_rescale_zero_snr(&paths[2]);
    sp_path_of_flow(3, 1000, &paths[3]);
    const double x0 = 0.7, noise = -1.3, fresh = 0.4;
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
        const sp_path *path = &paths[p];
        sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_DMD);
        for (int j = 0; j < 4; j++)
            for (int t = 20; t <= 980; t += 60) {
                sp_matching_coefficients c = sp_matching_coefficients_of(&s, path, SP_STEP_STUDENT, j, t);
                sp_pair tau = sp_path_at(path, c.student_timestep), at = sp_path_at(path, c.score_timestep);
                sp_pair knows = sp_prediction_target(path->prediction, tau);
                double x = c.made_z * (tau.alpha * x0 + tau.sigma * noise) +
                           c.made_m * (knows.alpha * x0 + knows.sigma * noise);
                assert_true(close_to(x, x0));
                double z = c.noised_x * x + c.noised_noise * fresh, m = c.wanted_x * x + c.wanted_noise * fresh;
                assert_true(close_to(z, at.alpha * x0 + at.sigma * fresh));
                assert_true(close_to(c.estimate_z * z + c.estimate_m * m, x0));
                assert_true(close_to(c.real_cond + c.real_uncond, c.estimate_m));
                assert_true(close_to(c.real_uncond, -8 * c.estimate_m));
                if (j == 3) continue;
                c = sp_matching_coefficients_of(&s, path, SP_STEP_AHEAD, j, 0);
                sp_pair next = sp_path_at(path, sp_path_timestep(path, sp_matching_timestep(&s, path, j + 1)));
                double moved = c.made_z * (tau.alpha * x0 + tau.sigma * noise) +
                               c.made_m * (knows.alpha * x0 + knows.sigma * noise) + c.made_noise * fresh;
                assert_true(close_to(moved, next.alpha * x0 + next.sigma * fresh));
            }
    }
}

/* ---- runs ---- */

/* While the fake score is what the teacher is, without guidance, the student is pulled nowhere: its loss is 0 and its
 * gradient none. Guidance pulls. */
static void a_student_that_matches_stays(void **state)
{
    trial t;
    make_trial(state, "distill-dmd", "still", &t);
    t.options.given.learning_rate = 0;
    t.options.given.trace = t.trace;
    for (int guided = 0; guided < 2; guided++) {
        sp_tensor_file *trace;
        t.options.objective.guidance_scale_w = guided ? 2 : 0;
        assert_ok(sp_remove_tree(t.output));
        assert_ok(sp_distill(&t.options, NULL));
        assert_ok(sp_safetensors_open(t.trace, &trace));
        for (int step = 2; step < 10; step += 3) {
            assert_int_equal(trace_at(trace, "loss", step) > 1e-9, guided);
            assert_int_equal(trace_at(trace, "grad_norm", step) > 1e-4, guided);
            assert_true(trace_at(trace, "loss", step - 1) > 1e-3);
        }
        sp_tensor_file_close(trace);
    }
}

/* Anywhere in a cycle of two steps of one network and one of the other. */
static void resumed_within_a_cycle_equals_undisturbed(void **state)
{
    trial t;
    check_resumed(state, "distill-dmd", 1, 6, &t);
    t.options.objective.fake_score_steps = 3;
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`fake_score_steps` 2");
}

/* Blocks of both networks computed again change no bit. */
static void recomputing_changes_no_bit(void **state)
{
    static const char *const names[] = {"distill-dmd-v-accumulate", "distill-dmd-gan"};
    for (int i = 0; i < 2; i++) {
        trial kept, again;
        make_trial(state, names[i], i ? "kept-gan" : "kept", &kept);
        make_trial(state, names[i], i ? "again-gan" : "again", &again);
        again.options.given.gradient_checkpointing = true;
        assert_ok(sp_distill(&kept.options, NULL));
        assert_ok(sp_distill(&again.options, NULL));
        assert_same_students(kept.output, again.output);
    }
}

/* How many tensors of a file have `part` in their names; all of them are other than in the draws, or than 0. */
static int count_moved(const char *path, const char *draws, const char *part)
{
    sp_tensor_file *file, *start;
    int count = 0;
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_safetensors_open(draws, &start));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (!strstr(name, part)) continue;
        const sp_tensor *now = sp_tensor_file_at(file, i), *before = sp_tensor_file_find(start, name);
        if (sp_load(now->data, SP_F32, 0) == (before ? sp_load(before->data, SP_F32, 0) : 0))
            fail_msg("%s has not moved", name);
        count++;
    }
    sp_tensor_file_close(file);
    sp_tensor_file_close(start);
    return count;
}

/* The model at `path` with adapters from `file`; sp_model_close. */
static sp_model *open_with(const char *path, const char *file)
{
    const splam_lora lora = {.path = file, .weight = 1};
    const sp_model_options options = {.parts = SP_PART_UNET, .loras = &lora, .lora_count = 1};
    sp_model *model;
    assert_ok(sp_model_open(path, &options, &model));
    return model;
}

/* A teacher with a student's adapters is sampled as the student is, at the timesteps that it was trained at; one of
 * another noise schedule stays what it is. */
static void check_sampled_as_trained(const trial *t)
{
    static const char *const files[] = {"pytorch_lora_weights.safetensors", "kohya.safetensors",
                                        "ema/pytorch_lora_weights.safetensors", "ema/kohya.safetensors"};
    static const int published[] = {999, 749, 499, 249};
    for (int i = 0; i < 4; i++) {
        sp_model *model = open_with(t->teacher, in(t->output, files[i]));
        sp_sampler_options options = {.kind = sp_sampler_for(&model->scheduler)};
        options.steps = sp_sampler_steps_for(&model->scheduler, options.kind);
        sp_sampler sampler;
        assert_int_equal(options.kind, SP_SAMPLER_LCM);
        assert_int_equal(options.steps, 4);
        assert_ok(sp_sampler_create(&model->scheduler, &options, &sampler));
        for (int j = 0; j < 4; j++)
            assert_true(sampler.step[j].timestep == published[j]);
        sp_sampler_free(&sampler);
        sp_model_close(model);
    }
    sp_model *model = open_with(golden("teacher-v_prediction"), in(t->output, files[0]));
    assert_int_equal(model->scheduler.student, SP_STUDENT_LCM);
    assert_int_equal(model->scheduler.path.prediction, SP_PREDICTION_V);
    sp_model_close(model);
    model = open_with(golden("teacher-zero-snr"), in(t->output, files[0]));
    assert_int_equal(model->scheduler.student, SP_STUDENT_NONE);
    sp_model_close(model);
}

/* What else says that it is one is read with care. */
static void adapters_with_bad_schedulers_are_refused(void **state)
{
    static const struct {
        const char *scheduler, *words;
    } bad[] = {{"{", "the metadata \"splam_scheduler\""},
               {"[]", "must hold a JSON object"},
               {"{\"_class_name\": \"LCMScheduler\", \"num_train_timesteps\": 99999}", "num_train_timesteps"}};
    static const char *const layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    float ones[64] = {1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const metadata[][2] = {{"splam_scheduler", bad[i].scheduler}};
        sp_tensor down = {.dtype = SP_F32, .shape = sp_shape_of(1, 32), .data = ones},
                  up = {.dtype = SP_F32, .shape = sp_shape_of(32, 1), .data = ones};
        char names[2][128];
        snprintf(names[0], sizeof names[0], "%s.lora_A.weight", layer);
        snprintf(names[1], sizeof names[1], "%s.lora_B.weight", layer);
        const sp_named_tensor tensors[] = {{names[0], &down}, {names[1], &up}};
        const splam_lora lora = {.path = in_folder(state, "bad.safetensors"), .weight = 1};
        const sp_model_options options = {.parts = SP_PART_UNET, .loras = &lora, .lora_count = 1};
        sp_model *model;
        assert_ok(sp_safetensors_save(lora.path, tensors, 2, metadata, 1));
        assert_status(sp_model_open(golden("teacher-epsilon"), &options, &model), SP_FORMAT);
        assert_message("bad.safetensors");
        assert_message(bad[i].words);
    }
}

/* Both networks are adapters over the one teacher, and a discriminator is whole; an interrupted run goes on with the
 * same bits. */
static void check_adapters(void **state, const char *name, int discriminators)
{
    trial whole, t;
    sp_tensor_file *fake;
    assert_ok(sp_remove_tree(in_folder(state, "lora")));
    assert_ok(sp_remove_tree(in_folder(state, "stopped")));
    make_trial(state, name, "lora", &whole);
    make_trial(state, name, "stopped", &t);
    whole.options.lora = t.options.lora = (sp_lora_settings){.rank = 2, .alpha = 2};
    assert_ok(sp_distill(&whole.options, NULL));
    const char *online = in(whole.output, "checkpoint-10/fake_score_online.safetensors");
    int up = count_moved(online, whole.draws, "lora_B");
    assert_true(up > 10);
    assert_int_equal(count_moved(online, whole.draws, "discriminator."), discriminators);
    assert_ok(sp_safetensors_open(online, &fake));
    assert_int_equal(sp_tensor_file_count(fake), 2 * up + discriminators);
    sp_tensor_file_close(fake);
    int left = 5;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&t.options, &callbacks), SP_CANCELLED);
    t.options.given.resume = "latest";
    assert_ok(sp_distill(&t.options, NULL));
    assert_same_file(in(whole.output, "kohya.safetensors"), in(t.output, "kohya.safetensors"));
    assert_same_file(in(whole.output, "ema/kohya.safetensors"), in(t.output, "ema/kohya.safetensors"));
    assert_same_file(online, in(t.output, "checkpoint-10/fake_score_online.safetensors"));
    check_sampled_as_trained(&whole);
}

static void adapters_of_both_are_trained(void **state)
{
    check_adapters(state, "distill-dmd", 0);
    check_adapters(state, "distill-dmd-gan", 6); /* two layers and a norm, weight and bias each */
}

/* Before the first step, the fake score's weights and moments counted. */
static void too_small_a_limit_is_refused(void **state)
{
    trial t;
    make_trial(state, "distill-dmd", "limited", &t);
    t.options.given.memory_limit = 1000000;
    assert_status(sp_distill(&t.options, NULL), SP_MEMORY);
    assert_message("`memory_limit` of 1.0 MB is too small");
    assert_false(sp_path_exists(in(t.output, "metrics.jsonl")));
    sp_step_memory a = {.packed = 3, .online = 4, .arena = 10, .recomputed = 1, .arena_bound = 9},
                   b = {.packed = 2, .online = 4, .arena = 11, .recomputed = 2, .arena_bound = 10, .inputs = 1};
    sp_step_memory_join(&a, &b);
    assert_int_equal(a.packed, 5);
    assert_int_equal(a.arena, 11);
    assert_int_equal(a.recomputed, 2);
    assert_int_equal(sp_step_memory_total(&a), 5 + 4 + 11 + 1);
}

static void refused_allocations_leak_nothing(void **state)
{
    enum { TRIALS = 40 };
    trial t;
    make_trial(state, "distill-dmd-gan", "starved", &t);
    t.options.given.max_train_steps = 2;
    long works = 1000;
    while (starved(&t.options, works) != SP_OK)
        works *= 2;
    for (long i = 0; i < TRIALS; i++) /* half of it was too few */
        assert_status(starved(&t.options, i * works / 2 / TRIALS), SP_MEMORY);
}

/* metrics.jsonl names the network of each step, and the folder says how its student is sampled. */
static void a_student_tells_of_itself(void **state)
{
    trial t;
    char *text;
    sp_scheduler_config config;
    json_t *json;
    make_trial(state, "distill-dmd-v-accumulate", "told", &t);
    t.options.given.max_train_steps = 2;
    assert_ok(sp_distill(&t.options, NULL));
    assert_ok(sp_read_file(in(t.output, "metrics.jsonl"), &text, NULL));
    const char *second = strchr(text, '\n');
    assert_non_null(second);
    const char *fake = strstr(text, "\"network\":\"fake_score\""), *own = strstr(text, "\"network\":\"student\"");
    assert_true(fake && own && fake < second && own > second);
    sp_free(text);
    assert_ok(sp_scheduler_config_load(in(t.output, "scheduler/scheduler_config.json"), &config));
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_LCM);
    assert_int_equal(sp_sampler_steps_for(&config, SP_SAMPLER_LCM), 3);
    assert_int_equal(config.original_steps, 3);
    assert_ok(sp_json_load(in(t.output, "splam.json"), &json));
    assert_int_equal(case_number(json, "student-steps"), 3);
    assert_int_equal(case_number(json, "steps"), 3);
    assert_null(json_object_get(json, "skip"));
    json_decref(json);
}

static void bad_draws_are_refused(void **state)
{
    trial t;
    make_trial(state, "distill-dmd", "bad", &t);
    t.options.objective.ddim_timesteps = 5;
    assert_status(sp_distill(&t.options, NULL), SP_SHAPE);
    assert_message("\"step_noise.0\" is F32 [2,16,8,8], expected F32 [2,20,8,8]");
    t.options.objective.ddim_timesteps = 4;
    t.options.objective.fake_score_steps = 1; /* the first timesteps of the third step are 20 and 980 no longer */
    t.options.given.max_train_steps = 2;
    assert_status(sp_distill(&t.options, NULL), SP_FORMAT);
    assert_message("\"timestep.1\" is 0, expected 20..980");
}

static void what_says_nothing_is_refused(void **state)
{
    (void)state;
    splam_distill_options o = splam_distill_defaults();
    sp_distill_options read;
    o.teacher = "teacher";
    o.output = "student";
    o.objective = "dmd";
    assert_ok(sp_distill_options_of(&o, &read));
    assert_int_equal(read.objective.ddim_timesteps, 4);
    assert_int_equal(read.objective.skip, 0);
    splam_distill_options wrong[4] = {o, o, o, o};
    wrong[0].skip = 10;
    wrong[1].num_ddim_timesteps = 50;
    wrong[2].loss_type = "l2";
    wrong[3].target_ema_decay = "0.9";
    static const char *const members[] = {"`skip`", "`num_ddim_timesteps`", "`loss_type`", "`target_ema_decay`"};
    for (int i = 0; i < 4; i++) {
        assert_status(sp_distill_options_of(&wrong[i], &read), SP_ARGUMENT);
        assert_message(members[i]);
        assert_message("dmd");
    }
    o.gan_weight = 1e-3;
    assert_ok(sp_distill_options_of(&o, &read));
    assert_true(read.objective.gan_weight == 1e-3 && read.objective.gan_fake_score_weight == 1e-2);
    o.gan_weight = 0;
    assert_ok(sp_distill_options_of(&o, &read));
    assert_true(read.objective.gan_weight == 0 && read.objective.gan_fake_score_weight == 0);
    o.gan_fake_score_weight = 0.1;
    assert_status(sp_distill_options_of(&o, &read), SP_ARGUMENT);
    assert_message("`gan_fake_score_weight` needs a `gan_weight`");
    o.objective = "lcm";
    assert_status(sp_distill_options_of(&o, &read), SP_ARGUMENT);
    assert_message("`gan_weight`");
    o.gan_weight = o.gan_fake_score_weight = SPLAM_UNSET;
    o.student_steps = 4;
    assert_status(sp_distill_options_of(&o, &read), SP_ARGUMENT);
    assert_message("`student_steps`");
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fake_score_has_its_turns_first),
        cmocka_unit_test(timesteps_are_the_samplers),
        cmocka_unit_test(draws_fill_their_ranges),
        cmocka_unit_test(exact_networks_agree),
        with_folder(a_student_that_matches_stays),
        with_folder(resumed_within_a_cycle_equals_undisturbed),
        with_folder(recomputing_changes_no_bit),
        with_folder(adapters_of_both_are_trained),
        with_folder(adapters_with_bad_schedulers_are_refused),
        with_folder(too_small_a_limit_is_refused),
        with_folder(refused_allocations_leak_nothing),
        with_folder(a_student_tells_of_itself),
        with_folder(bad_draws_are_refused),
        cmocka_unit_test(what_says_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
