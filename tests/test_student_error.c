/* The trajectory error of students in training: the numbers of splam eval, and the same ones in runs that are stopped;
 * the student of the lowest one. */
#include <math.h>
#include "base/json.h"
#include "base/random.h"
#include "data_support.h"
#include "distill/distill.h"
#include "fontconfig_leak.h"
#include "report/evaluate.h"

enum { R = 32, PICTURES = 9, PROMPTS = 2 };

/* Pictures of noise, of which none is held back. */
static const char *make_data(void **state)
{
    static char spec[512];
    write_noise_shard(in_folder(state, "data.tar"), R, PICTURES, -1);
    snprintf(spec, sizeof spec, "wds:%s", in_folder(state, "data.tar"));
    return spec;
}

static sp_distill_options run_of(const char *data, const char *output, int64_t steps)
{
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = shipped_teacher();
    o.given.data = data;
    o.given.output = output;
    o.given.pictures.resolution = R;
    o.given.max_train_steps = steps;
    o.given.train_batch_size = 3;
    o.given.learning_rate = 1e-4;
    o.given.checkpointing_steps = 0;
    o.given.validation_steps = 2;
    o.given.validation_prompts = PROMPTS;
    o.given.seed = 3;
    o.objective.guidance_scale_w = 2;
    o.precision = SP_F32;
    o.measures_error = true;
    return o;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* The line of a validation in output/metrics.jsonl, json_decref; NULL: there is none. */
static json_t *validation_of(const char *output, int64_t step)
{
    char path[700], *text;
    json_t *found = NULL;
    snprintf(path, sizeof path, "%s/metrics.jsonl", output);
    assert_ok(sp_read_file(path, &text, NULL));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *object;
        assert_ok(sp_json_parse(line, (size_t)(end - line), "metrics.jsonl", &object));
        if (json_object_get(object, "validation_seconds") && (int64_t)number(object, "step") == step) {
            assert_null(found); /* once */
            found = json_incref(object);
        }
        json_decref(object);
    }
    sp_free(text);
    return found;
}

static json_t *student_of(const char *output)
{
    char path[700];
    json_t *json;
    snprintf(path, sizeof path, "%s/splam.json", output);
    assert_ok(sp_json_load(path, &json));
    return json;
}

/* ---- the number ---- */

/* What splam eval says of the averaged student in the folder, at 1, 2 and 4 steps and over all points. */
static void evaluate(const char *data, const char *model, double expected[4])
{
    splam_eval_options o = splam_eval_defaults();
    char output[600], path[700], *table;
    json_t *report;
    snprintf(output, sizeof output, "%s-report", model);
    o.models = &model;
    o.model_count = 1;
    o.unet = "unet_ema";
    o.teacher = shipped_teacher();
    o.data = data;
    o.output = output;
    o.metrics = "trajectory-error";
    o.count = PROMPTS;
    o.seed = 3;
    o.resolution = R;
    o.precision = SPLAM_F32;
    assert_ok(sp_evaluate(&o, NULL, &table));
    sp_free(table);
    snprintf(path, sizeof path, "%s/report.json", output);
    assert_ok(sp_json_load(path, &report));
    const json_t *rows = json_object_get(report, "rows");
    assert_int_equal(json_array_size(rows), 4); /* the teacher's first */
    for (size_t i = 0; i < 3; i++)
        expected[i] = number(json_array_get(rows, i + 1), "trajectory_error");
    expected[3] = number(json_array_get(rows, 1), "trajectory_error_mean");
    json_decref(report);
}

/* metrics.jsonl has nine digits. */
static void assert_same_number(double a, double b)
{
    if (!(fabs(a - b) <= 1e-8 * fabs(b))) fail_msg("%.12g is not %.12g", a, b);
}

static void check_line(const char *output, int64_t step, const double expected[4])
{
    static const char *const steps[] = {"1", "2", "4"};
    json_t *line = validation_of(output, step);
    assert_non_null(line);
    for (int i = 0; i < 3; i++)
        assert_same_number(number(json_object_get(line, "trajectory_error"), steps[i]), expected[i]);
    assert_same_number(number(line, "trajectory_error_mean"), expected[3]);
    json_decref(line);
}

/* Of a student at a validation, which a shorter run ends with, and at the end. */
static void check_number(void **state, sp_objective objective, int64_t rank)
{
    const char *data = make_data(state);
    char output[2][512];
    double expected[4];
    for (int i = 0; i < 2; i++) {
        snprintf(output[i], sizeof output[i], "%s", in_folder(state, i ? "whole" : "until"));
        sp_distill_options o = run_of(data, output[i], 2 + i);
        o.objective = sp_objective_defaults(objective);
        o.objective.guidance_scale_w = 2;
        o.lora = (sp_lora_settings){.rank = rank, .alpha = (double)rank};
        o.given.lora_merged = rank > 0;
        assert_ok(sp_distill(&o, NULL));
    }
    evaluate(data, output[0], expected);
    check_line(output[0], 2, expected);
    check_line(output[1], 2, expected);
    evaluate(data, output[1], expected);
    check_line(output[1], 3, expected);
    json_t *student = student_of(output[1]);
    assert_same_number(number(student, "trajectory-error"), expected[3]);
    json_decref(student);
}

static void splam_as_eval_says(void **state)
{
    check_number(state, SP_OBJECTIVE_SPLAM, 0);
}

/* In 1 and 2 steps over the hops of so many phases. */
static void pcm_as_eval_says(void **state)
{
    check_number(state, SP_OBJECTIVE_PCM, 0);
}

static void adapters_as_eval_says(void **state)
{
    check_number(state, SP_OBJECTIVE_LCM, 2);
}

/* Students of the rounds before have shorter hops than the one that is made. */
static void rounds_are_measured_in_the_last(void **state)
{
    const char *data = make_data(state);
    sp_distill_options o = run_of(data, in_folder(state, "rounds"), 4);
    o.objective = sp_objective_defaults(SP_OBJECTIVE_PROGRESSIVE);
    o.objective.rounds = 2;
    o.objective.guidance_scale_w = 2;
    assert_ok(sp_distill(&o, NULL));
    assert_null(validation_of(o.given.output, 2));
    json_t *line = validation_of(o.given.output, 4);
    assert_non_null(line);
    json_decref(line);
}

/* ---- runs that are stopped ---- */

/* Stops after `steps` steps, when asked for the `asks`th time. */
typedef struct {
    int steps, asks;
} stopping;

static void count(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    stopping *s = context;
    (void)task, (void)done, (void)total;
    if (detail && strncmp(detail, "loss ", 5) == 0) s->steps--;
}

static bool asked(void *context)
{
    stopping *s = context;
    return s->steps <= 0 && --s->asks < 0;
}

static void assert_same_ends(const char *a, const char *b)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet_ema/diffusion_pytorch_model.safetensors", "splam.json", "README.md"};
    char x[700], y[700];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(x, sizeof x, "%s/%s", a, files[i]);
        snprintf(y, sizeof y, "%s/%s", b, files[i]);
        assert_same_file(x, y);
    }
    for (int64_t step = 1; step <= 5; step++) {
        json_t *line = validation_of(a, step), *other = validation_of(b, step);
        assert_true(!line == !other);
        if (line) {
            json_object_del(line, "validation_seconds");
            json_object_del(other, "validation_seconds");
        }
        assert_true(!line || json_equal(line, other));
        json_decref(line);
        json_decref(other);
    }
}

/* Between two validations, at one before it began, and on its way. */
static void check_resuming(void **state, sp_distill_options o)
{
    static const stopping stops[] = {{3, 0}, {2, 0}, {5, 3}};
    char whole[512], stopped[512];
    snprintf(whole, sizeof whole, "%s", in_folder(state, "whole"));
    o.given.output = whole;
    assert_ok(sp_distill(&o, NULL));
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        char name[32];
        snprintf(name, sizeof name, "stopped-%zu", i);
        snprintf(stopped, sizeof stopped, "%s", in_folder(state, name));
        stopping stop = stops[i];
        const sp_callbacks callbacks = {.context = &stop, .report = count, .cancelled = asked};
        o.given.output = stopped;
        o.given.resume = NULL;
        assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
        json_t *line = validation_of(stopped, stops[i].steps);
        assert_null(line); /* owed */
        o.given.resume = "latest";
        assert_ok(sp_distill(&o, NULL));
        assert_same_ends(whole, stopped);
    }
    assert_ok(sp_distill(&o, NULL)); /* with nothing left to do */
    assert_same_ends(whole, stopped);
}

static void resumed_is_measured_as_undisturbed(void **state)
{
    check_resuming(state, run_of(make_data(state), NULL, 5));
}

/* ---- the best ---- */

/* A rate that is too high, more so in each step after the first, of 0: the error rises. */
static sp_distill_options rising(const char *data, const char *output)
{
    sp_distill_options o = run_of(data, output, 5);
    o.given.learning_rate = 4e-3;
    assert_ok(sp_lr_schedule_of("constant_with_warmup", 4, &o.lr_schedule));
    o.average = (sp_average){.value = 0};
    o.keeps_best = true;
    o.given.checkpoints_total_limit = 1;
    return o;
}

/* The student of step 2, its averaged weights and its online ones, with what it was trained with, although checkpoints
 * went on; and it is that of a run that ends there. */
static void the_best_is_kept(void **state)
{
    const char *data = make_data(state);
    char best[512], until[512], x[700], y[700];
    snprintf(best, sizeof best, "%s", in_folder(state, "best"));
    snprintf(until, sizeof until, "%s", in_folder(state, "until"));
    sp_distill_options o = rising(data, best);
    o.given.checkpointing_steps = 1;
    assert_ok(sp_distill(&o, NULL));
    o = rising(data, until);
    o.given.max_train_steps = 2;
    assert_ok(sp_distill(&o, NULL));
    for (int i = 0; i < 2; i++) {
        snprintf(x, sizeof x, "%s/unet%s/diffusion_pytorch_model.safetensors", best, i ? "_ema" : "");
        snprintf(y, sizeof y, "%s/unet%s/diffusion_pytorch_model.safetensors", until, i ? "_ema" : "");
        assert_same_file(x, y);
    }
    json_t *student = student_of(best), *line = validation_of(best, 2), *last = validation_of(best, 5);
    assert_int_equal((int)number(student, "kept-step"), 2);
    assert_same_number(number(line, "trajectory_error_mean"), number(student, "trajectory-error"));
    assert_true(number(last, "trajectory_error_mean") > number(student, "trajectory-error"));
    json_decref(student);
    json_decref(line);
    json_decref(last);
    for (int step = 1; step <= 5; step++) { /* the last, and the best */
        snprintf(x, sizeof x, "%s/checkpoint-%d", best, step);
        assert_true(sp_path_exists(x) == (step == 2 || step == 5));
    }
}

static void resumed_keeps_what_undisturbed_keeps(void **state)
{
    check_resuming(state, rising(make_data(state), NULL));
}

/* From another folder the best is brought along; one that is gone is said at once. */
static void the_best_is_found_elsewhere(void **state)
{
    const char *data = make_data(state);
    char stopped[512], elsewhere[512], checkpoint[600];
    snprintf(stopped, sizeof stopped, "%s", in_folder(state, "stopped"));
    snprintf(elsewhere, sizeof elsewhere, "%s", in_folder(state, "elsewhere"));
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-3", stopped);
    sp_distill_options o = rising(data, stopped);
    stopping stop = {3, 0};
    const sp_callbacks callbacks = {.context = &stop, .report = count, .cancelled = asked};
    assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
    o.given.output = elsewhere;
    o.given.resume = checkpoint;
    assert_ok(sp_distill(&o, NULL));
    o.given.output = stopped;
    o.given.resume = "latest";
    assert_ok(sp_distill(&o, NULL));
    snprintf(checkpoint, sizeof checkpoint, "%s/splam.json", elsewhere);
    json_t *student = student_of(elsewhere);
    assert_int_equal((int)number(student, "kept-step"), 2);
    json_decref(student);
    assert_same_file(checkpoint, in_folder(state, "stopped/splam.json"));
    assert_ok(sp_remove_tree(in_folder(state, "stopped/checkpoint-2")));
    assert_status(sp_distill(&o, NULL), SP_IO);
    assert_message("checkpoint-2 is missing, the best so far");
}

/* ---- what is refused ---- */

static void what_cannot_be_measured_is_refused(void **state)
{
    char draws[512];
    const char *data = make_data(state);
    snprintf(draws, sizeof draws, "%s/tests/golden/distill-splam/draws.safetensors", getenv("SPLAM_SOURCE"));
    sp_distill_options o = run_of(data, in_folder(state, "none"), 2), good = o;
    o.given.draws = draws;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("recorded `draws` have no captions");
    o = good;
    o.given.validation_prompts = PICTURES + 1;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`validation_prompts` is 10");
    assert_message("has 9 training samples");
    assert_false(sp_path_exists(in_folder(state, "none/checkpoint-2")));
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(splam_as_eval_says),
        with_folder(pcm_as_eval_says),
        with_folder(adapters_as_eval_says),
        with_folder(rounds_are_measured_in_the_last),
        with_folder(resumed_is_measured_as_undisturbed),
        with_folder(the_best_is_kept),
        with_folder(resumed_keeps_what_undisturbed_keeps),
        with_folder(the_best_is_found_elsewhere),
        with_folder(what_cannot_be_measured_is_refused),
    };
    return cmocka_run_group_tests_name("student error", tests, NULL, NULL);
}
