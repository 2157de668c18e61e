/* Distillation against PyTorch on recorded draws, LCM as a special case, and runs that are
 * interrupted. */
#include <math.h>
#include "support.h"
#include "base/json.h"
#include "base/parallel.h"
#include "tensor/weights.h"
#include "train/distill.h"

static const char *golden(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/tests/golden/%s", getenv("SPLAM_SOURCE"), name);
    return text;
}

typedef struct {
    sp_distill_options options;
    char teacher[512], draws[512], start[512];
} golden_case;

static double number(const json_t *flags, const char *key)
{
    return json_number_value(json_object_get(flags, key));
}

static void read_case(const char *name, golden_case *c)
{
    char path[512];
    json_t *description;
    snprintf(path, sizeof path, "%s/case.json", golden(name));
    assert_ok(sp_json_load(path, &description));
    const json_t *flags = json_object_get(description, "flags");
    snprintf(c->teacher, sizeof c->teacher, "%s/%s", golden(name),
             json_string_value(json_object_get(description, "teacher")));
    snprintf(c->draws, sizeof c->draws, "%s/draws.safetensors", golden(name));
    sp_distill_options *o = &c->options;
    *o = sp_distill_defaults();
    o->teacher = c->teacher;
    o->draws = c->draws;
    o->storage = SP_F32;
    assert_ok(sp_objective_of(json_string_value(json_object_get(flags, "objective")),
                              &o->objective.objective));
    assert_ok(sp_sigma_of(json_string_value(json_object_get(flags, "sigma")), &o->objective.sigma));
    assert_ok(
        sp_gamma_conditioning_of(json_string_value(json_object_get(flags, "gamma-conditioning")),
                                 &o->objective.conditioning));
    o->objective.loss.kind =
        strcmp(json_string_value(json_object_get(flags, "loss-type")), "l2") == 0 ? SP_LOSS_L2
                                                                                  : SP_LOSS_HUBER;
    o->objective.loss.huber_c = number(flags, "huber-c");
    o->objective.guidance_w = number(flags, "guidance-scale-w");
    o->objective.ddim_timesteps = (int)number(flags, "num-ddim-timesteps");
    o->objective.skip = (int)number(flags, "skip");
    o->objective.solver_steps = (int)number(flags, "solver-steps");
    o->max_train_steps = (int64_t)number(flags, "max-train-steps");
    o->batch = (int64_t)number(flags, "train-batch-size");
    o->accumulation = (int64_t)number(flags, "gradient-accumulation-steps");
    o->learning_rate = number(flags, "learning-rate");
    o->ema_decay = number(flags, "ema-decay");
    o->lora.rank = (int64_t)number(flags, "lora-rank");
    o->lora.alpha = number(flags, "lora-alpha");
    if (o->lora.rank) {
        assert_ok(sp_lora_targets_of(json_string_value(json_object_get(flags, "lora-targets")),
                                     &o->lora.targets));
        snprintf(c->start, sizeof c->start, "%s/start.safetensors", golden(name));
        o->lora_start = c->start;
    }
    json_decref(description);
}

static double at(const sp_tensor_file *file, const char *name, int64_t i)
{
    const sp_tensor *tensor;
    assert_ok(sp_tensor_file_get(file, name, &tensor));
    return sp_load(tensor->data, tensor->dtype, i);
}

static void compare_traces(const char *name, const char *found_path, int64_t steps)
{
    char path[512];
    sp_tensor_file *found, *want;
    snprintf(path, sizeof path, "%s/trace.safetensors", golden(name));
    assert_ok(sp_safetensors_open(found_path, &found));
    assert_ok(sp_safetensors_open(path, &want));
    double worst_loss = 0, worst_norm = 0, error;
    for (int64_t i = 0; i < steps; i++) {
        worst_loss = fmax(worst_loss, fabs(at(found, "loss", i) / at(want, "loss", i) - 1));
        worst_norm =
            fmax(worst_norm, fabs(at(found, "grad_norm", i) / at(want, "grad_norm", i) - 1));
    }
    for (size_t i = 0; i < sp_tensor_file_count(want); i++) {
        const char *key = sp_tensor_file_name(want, i);
        if (strncmp(key, "prediction.", 11) != 0 && strncmp(key, "target.", 7) != 0) continue;
        const sp_tensor *mine;
        assert_ok(sp_tensor_file_get(found, key, &mine));
        assert_ok(sp_tensor_relative_max_error(mine, sp_tensor_file_at(want, i), &error));
        if (error > 1e-4) fail_msg("%s: %s is off by %g", name, key, error);
    }
    print_message("%s: loss %.1e, grad_norm %.1e\n", name, worst_loss, worst_norm);
    /* Ten steps in fp32: PyTorch's own losses are within 1.6e-5 of float64's, its norms within
     * 5e-4; a learning rate that is a tenth too large moves losses by 9.7e-4. */
    assert_true(worst_loss <= 1e-4);
    assert_true(worst_norm <= 2e-3);
    sp_tensor_file_close(found);
    sp_tensor_file_close(want);
}

static void check_case(void **state, const char *name)
{
    golden_case c;
    read_case(name, &c);
    c.options.output = in_folder(state, name);
    c.options.trace = in_folder(state, "trace.safetensors");
    assert_ok(sp_distill(&c.options, NULL));
    compare_traces(name, c.options.trace, c.options.max_train_steps);
}

static void traces_equal_pytorch(void **state)
{
    char **names;
    size_t count;
    int cases = 0;
    assert_ok(sp_list_folder(golden(""), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "distill-", 8) == 0) {
            check_case(state, names[i]);
            cases++;
        }
        sp_free(names[i]);
    }
    sp_free(names);
    assert_true(cases >= 14);
}

/* ---- files compared byte by byte ---- */

static void assert_same_file(const char *a, const char *b)
{
    sp_mapped_file x, y;
    assert_ok(sp_map_file(a, &x));
    assert_ok(sp_map_file(b, &y));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    sp_unmap_file(&x);
    sp_unmap_file(&y);
}

static const char *unet_of(const char *output, const char *which)
{
    static char path[4][600];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s/diffusion_pytorch_model.safetensors", output, which);
    return text;
}

/* method.md: at gamma = 1 the step is the Latent Consistency Model's step. */
static void gamma_one_is_lcm(void **state)
{
    (void)state;
    golden_case c;
    read_case("distill-splam", &c);
    c.options.objective.gamma_one_probability = 1;
    c.options.max_train_steps = 3;
    sp_subpath path;
    for (uint64_t i = 0; i < 100; i++) {
        int64_t index;
        sp_subpath_draw(&c.options.objective, 1, 2, i, &index, &path.gamma);
        assert_true(path.gamma == 1);
        assert_in_range(index, 0, 49);
    }
    sp_noise_schedule schedule;
    assert_ok(
        sp_schedule_make("scaled_linear", 0.00085, 0.012, 1000, SP_PREDICTION_EPSILON, &schedule));
    for (int sigma = 0; sigma < SP_SIGMA_COUNT; sigma++)
        for (int conditioning = 0; conditioning < SP_GAMMA_CONDITIONING_COUNT; conditioning++)
            for (int index = 0; index < 50; index++) {
                sp_objective_settings s = c.options.objective;
                s.sigma = (sp_sigma_form)sigma;
                s.conditioning = (sp_gamma_conditioning)conditioning;
                path = sp_subpath_at(&s, &schedule, index, 1);
                sp_coefficients splam = sp_subpath_coefficients(&s, &schedule, path);
                s.objective = SP_OBJECTIVE_LCM;
                s.sigma = SP_SIGMA_LINEAR;
                sp_coefficients lcm = sp_subpath_coefficients(&s, &schedule, path);
                /* sigma_g at gamma = 1 is sigma_s up to the rounding of its root. */
                assert_true(fabs(splam.prediction_m / lcm.prediction_m - 1) < 1e-12);
                assert_true(splam.prediction_z == lcm.prediction_z && splam.student_scale == 1 &&
                            splam.position_end == 0);
                assert_true(splam.student_timestep == path.start && splam.target_z == lcm.target_z);
            }
}

static bool stop_after(void *context)
{
    int *left = context;
    return --*left <= 0;
}

/* A run stopped after 4 steps and resumed equals the run not stopped, bit for bit. */
static void check_resuming(void **state, sp_optimizer optimizer)
{
    golden_case c;
    read_case("distill-splam-accumulate", &c);
    c.options.optimizer = optimizer;
    c.options.output = in_folder(state, "whole");
    assert_ok(sp_distill(&c.options, NULL));
    c.options.output = in_folder(state, "resumed");
    int left = 4;
    const sp_callbacks callbacks = {.context = &left, .cancelled = stop_after};
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    c.options.resume = "latest";
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet"),
                     unet_of(in_folder(state, "resumed"), "unet"));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet_ema"),
                     unet_of(in_folder(state, "resumed"), "unet_ema"));
    c.options.learning_rate *= 2;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("learning-rate");
    c.options.learning_rate /= 2;
    c.options.optimizer = optimizer ? SP_OPTIMIZER_ADAMW : SP_OPTIMIZER_ADAMW8BIT;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("optimizer");
}

static void resumed_equals_undisturbed(void **state)
{
    check_resuming(state, SP_OPTIMIZER_ADAMW);
}

/* Checkpoints hold codes and scales as they are; small tensors stay f32. */
static void resumed_equals_undisturbed_in_8_bits(void **state)
{
    check_resuming(state, SP_OPTIMIZER_ADAMW8BIT);
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(in_folder(state, "whole/checkpoint-10/second_moment.safetensors"),
                                  &file));
    int coded = 0, small = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const sp_tensor *t = sp_tensor_file_at(file, i), *scales;
        char name[256];
        snprintf(name, sizeof name, "%s.scales", sp_tensor_file_name(file, i));
        scales = sp_tensor_file_find(file, name);
        assert_true((t->dtype == SP_U8) == (scales != NULL));
        assert_true(t->dtype != SP_F32 || sp_tensor_count(t) < SP_LEAST_CODED);
        if (scales) assert_int_equal(sp_tensor_count(scales), sp_moment_blocks(sp_tensor_count(t)));
        coded += t->dtype == SP_U8;
        small += t->dtype == SP_F32;
    }
    assert_true(coded > 0 && small > coded);
    sp_tensor_file_close(file);
}

/* Blocks are chosen by the memory there is, so a run that goes on elsewhere must not depend on
 * them.
 */
static void recomputing_changes_no_bit(void **state)
{
    static const sp_dtype storages[] = {SP_F32, SP_BF16};
    for (int i = 0; i < 2; i++) {
        golden_case c;
        read_case("distill-splam", &c);
        c.options.storage = storages[i];
        c.options.max_train_steps = 3;
        c.options.output = in_folder(state, i ? "kept16" : "kept");
        assert_ok(sp_distill(&c.options, NULL));
        c.options.output = in_folder(state, i ? "again16" : "again");
        c.options.gradient_checkpointing = true;
        assert_ok(sp_distill(&c.options, NULL));
        assert_same_file(unet_of(in_folder(state, i ? "kept16" : "kept"), "unet"),
                         unet_of(in_folder(state, i ? "again16" : "again"), "unet"));
    }
}

/* At w = 0 the second pass of the teacher counts nothing: leaving it out changes no more than that
 * a batch of half the size may be summed another way. */
static void unguided_teacher_runs_once(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.max_train_steps = 3;
    const char *traces[] = {in_folder(state, "once.safetensors"),
                            in_folder(state, "twice.safetensors")};
    for (int i = 0; i < 2; i++) {
        c.options.output = in_folder(state, i ? "twice" : "once");
        c.options.trace = traces[i];
        c.options.objective.guidance_w = i ? 1e-30 : 0; /* vanishes beside 1 */
        assert_ok(sp_distill(&c.options, NULL));
    }
    sp_tensor_file *once, *twice;
    assert_ok(sp_safetensors_open(traces[0], &once));
    assert_ok(sp_safetensors_open(traces[1], &twice));
    for (int64_t i = 0; i < 3; i++)
        assert_true(fabs(at(once, "loss", i) / at(twice, "loss", i) - 1) <= 1e-6);
    sp_tensor_file_close(once);
    sp_tensor_file_close(twice);
}

static void too_small_a_limit_is_refused_before_the_first_step(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.output = in_folder(state, "limited");
    c.options.memory_limit = 1000000;
    assert_status(sp_distill(&c.options, NULL), SP_MEMORY);
    assert_message("--memory-limit of 1.0 MB is too small");
    assert_false(sp_path_exists(in_folder(state, "limited/metrics.jsonl")));
}

/* Stages are a part of the step's time, and none is missing. */
static void metrics_split_the_time(void **state)
{
    static const char *const stages[] = {"data",     "teacher",       "target",   "forward",
                                         "backward", "recomputation", "optimizer"};
    golden_case c;
    read_case("distill-splam-accumulate", &c);
    c.options.max_train_steps = 1;
    c.options.gradient_checkpointing = true;
    c.options.output = in_folder(state, "staged");
    assert_ok(sp_distill(&c.options, NULL));
    json_t *line;
    assert_ok(sp_json_load(in_folder(state, "staged/metrics.jsonl"), &line));
    const json_t *times = json_object_get(line, "stage_seconds");
    assert_int_equal(json_object_size(times), sizeof stages / sizeof *stages);
    double sum = 0, whole = number(line, "seconds");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        assert_true(number(times, stages[i]) > 0);
        sum += number(times, stages[i]);
    }
    assert_true(sum <= whole && sum > whole / 2);
    assert_true(number(line, "peak_rss_bytes") > 1e6);
    json_decref(line);
}

static void bad_input_is_refused(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.output = in_folder(state, "bad");
    c.options.batch = 4;
    assert_status(sp_distill(&c.options, NULL), SP_SHAPE);
    assert_message("train-batch-size");
    c.options.batch = 3;
    c.options.max_train_steps = 11;
    assert_status(sp_distill(&c.options, NULL), SP_FORMAT);
    assert_message("latents.10");
    c.options.draws = NULL;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("--data");
    c.options.teacher = in_folder(state, "nowhere");
    assert_status(sp_distill(&c.options, NULL), SP_IO);
}

/* A weight that is not a number: training stops at once, says so, and saves nothing. */
static void not_a_number_stops(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    const char *teacher = in_folder(state, "teacher"),
               *weights = in_folder(state, "teacher/unet/diffusion_pytorch_model.safetensors");
    sp_tensor_file *file;
    sp_weights *copy, *views;
    assert_ok(sp_copy_tree(c.teacher, teacher));
    assert_ok(sp_safetensors_open(weights, &file));
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_add_file(views, file));
    assert_ok(sp_weights_copy(views, SP_F32, &copy));
    ((float *)sp_weights_find(copy, "conv_in.bias")->data)[0] = NAN;
    assert_ok(sp_weights_save(copy, weights, SP_F32, NULL, 0));
    sp_weights_destroy(copy);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    c.options.teacher = teacher;
    c.options.output = in_folder(state, "student");
    assert_status(sp_distill(&c.options, NULL), SP_NUMERIC);
    assert_message("step 1: the loss is");
    assert_false(sp_path_exists(in_folder(state, "student/checkpoint-1")));
    assert_false(sp_path_exists(in_folder(state, "student/unet")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(traces_equal_pytorch, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(gamma_one_is_lcm, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_equals_undisturbed_in_8_bits, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(recomputing_changes_no_bit, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(unguided_teacher_runs_once, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(too_small_a_limit_is_refused_before_the_first_step,
                                        make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(metrics_split_the_time, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_equals_undisturbed, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(not_a_number_stops, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(bad_input_is_refused, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
