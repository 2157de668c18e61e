/* The demo from end to end, through the public functions, with a tiny teacher. */
#include <math.h>
#include "support.h"
#include "fontconfig_leak.h"
#include "tiny_model.h"
#include <splam/splam.h>
#include "backend/registry.h"
#include "base/json.h"
#include "image/image.h"
#include "eval/evaluation.h"

enum { PICTURES = 10, SIDE = 32, PROMPTS = 6 };

#define assert_done(call)                                                                          \
    do {                                                                                           \
        splam_status demo_status = (call);                                                         \
        if (demo_status != SPLAM_OK) fail_msg("%s: %s", #call, splam_error_message());             \
    } while (0)

/* Squares of two colours, with captions. */
static void make_pictures(void *const *state)
{
    static const char *const colours[] = {"red", "green", "blue", "grey", "white"};
    assert_ok(sp_make_folders(in_folder(state, "pictures")));
    for (int i = 0; i < PICTURES; i++) {
        sp_image image;
        char name[64];
        assert_ok(sp_image_create(SIDE, SIDE, &image));
        for (int k = 0; k < SIDE * SIDE; k++) {
            bool inside = k % SIDE > 2 + i && k % SIDE < 25 && k / SIDE > 6 && k / SIDE < 25;
            image.pixels[3 * k + (i % 5) % 3] = inside ? 230 : 255;
            image.pixels[3 * k + 2] = inside ? (uint8_t)(20 * i) : 255;
        }
        snprintf(name, sizeof name, "pictures/%02d.png", i);
        assert_ok(sp_image_save_png(&image, in_folder(state, name), NULL, 0));
        sp_image_free(&image);
        char caption[64];
        snprintf(caption, sizeof caption, "%s %s", i < 5 ? "small" : "large", colours[i % 5]);
        snprintf(name, sizeof name, "pictures/%02d.txt", i);
        assert_ok(sp_write_file(in_folder(state, name), caption, strlen(caption)));
    }
}

typedef struct {
    char data[600], teacher[512], output[512];
} places;

static places make_teacher(void *const *state)
{
    places p;
    make_pictures(state);
    snprintf(p.data, sizeof p.data, "folder:%s", in_folder(state, "pictures"));
    snprintf(p.teacher, sizeof p.teacher, "%s", in_folder(state, "teacher"));
    snprintf(p.output, sizeof p.output, "%s", in_folder(state, "out"));
    make_model(p.teacher, "unet-demo", ddim_scheduler);
    return p;
}

static double number_in(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("\"%s\" is not a number", key);
    return json_number_value(value);
}

static void check_rows(const json_t *report)
{
    static const struct {
        const char *model, *sampler;
        int steps;
    } expected[] = {{"teacher", "ddim", 50}, {"teacher", "ddim", 2}, {"teacher", "ddim", 4},
                    {"teacher", "dpm++2m", 4},
                    {"unguided", "lcm", 1},  {"unguided", "lcm", 4},
                    {"lcm", "lcm", 1},       {"lcm", "lcm", 2},      {"lcm", "lcm", 4},
                    {"splam", "lcm", 1},     {"splam", "lcm", 2},    {"splam", "lcm", 4}};
    const json_t *rows = json_object_get(report, "rows"), *curves = json_object_get(report, "trajectory_error");
    assert_int_equal(json_array_size(rows), 12);
    assert_int_equal(json_array_size(curves), 4);
    for (size_t i = 0; i < 12; i++) {
        const json_t *row = json_array_get(rows, i);
        assert_string_equal(json_string_value(json_object_get(row, "model")), expected[i].model);
        assert_string_equal(json_string_value(json_object_get(row, "sampler")),
                            expected[i].sampler);
        assert_int_equal(number_in(row, "steps"), expected[i].steps);
        assert_true(number_in(row, "trajectory_error") > 0);
        const json_t *curve = json_array_get(curves, i < 4 ? 0 : i < 6 ? 1 : i < 9 ? 2 : 3);
        assert_string_equal(json_string_value(json_object_get(curve, "model")), expected[i].model);
        assert_true(number_in(row, "trajectory_error_mean") == number_in(curve, "mean"));
        assert_true(number_in(row, "frechet") > 0);
        if (i == 0)
            assert_true(json_is_null(json_object_get(row, "frechet_teacher")));
        else
            assert_true(number_in(row, "frechet_teacher") > 0);
        assert_true(number_in(row, "hit1") >= 0 &&
                    number_in(row, "hit1") <= number_in(row, "hit5"));
        assert_true(
            json_is_null(json_object_get(row, "hit1_heldout"))); /* a folder holds nothing out */
    }
}

static void check_times(const char *output)
{
    json_t *times;
    char *path = sp_path_join(output, "times.json");
    assert_ok(sp_json_load(path, &times));
    assert_true(number_in(times, "seconds_total") > 0);
    assert_true(number_in(times, "peak_rss_bytes") > 1e6);
    const json_t *rows = json_object_get(times, "rows");
    assert_int_equal(json_array_size(rows), 12);
    for (size_t i = 0; i < 12; i++)
        assert_true(number_in(json_array_get(rows, i), "seconds_per_image") > 0);
    json_decref(times);
    sp_free(path);
}

/* Overwrites the data of every picture in the page. */
static void blank_pictures(char *page)
{
    for (char *data = page; (data = strstr(data, ";base64,")) != NULL;)
        for (data += strlen(";base64,"); *data && *data != '"' && *data != '\''; data++)
            *data = '.';
}

static void check_report(const char *output)
{
    json_t *report;
    char *path = sp_path_join(output, "report.json"), *page;
    assert_ok(sp_json_load(path, &report));
    check_rows(report);
    check_times(output);
    assert_int_equal(number_in(report, "seed"), 3);
    assert_string_equal(json_string_value(json_object_get(report, "version")), splam_version());
    const json_t *settings = json_object_get(report, "settings");
    assert_int_equal(number_in(json_object_get(settings, "lcm"), "max-train-steps"), 1);
    assert_int_equal(number_in(json_object_get(settings, "splam"), "max-train-steps"), 1);
    json_decref(report);
    sp_free(path);
    path = sp_path_join(output, "report.html");
    assert_ok(sp_read_file(path, &page, NULL));
    assert_non_null(strstr(page, "data:image/png;base64,"));
    assert_non_null(strstr(page, "Trajectory error by timestep"));
    assert_non_null(strstr(page, "Trajectory error at the timesteps of so many steps"));
    blank_pictures(page); /* base64 spells every short word sooner or later */
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, "http")); /* needs nothing from elsewhere */
    sp_free(page);
    sp_free(path);
}

static void check_student(void *const *state, const places *p)
{
    char student[600];
    snprintf(student, sizeof student, "%s/student", p->output);
    splam_generate_options o = splam_generate_defaults();
    o.model = student;
    o.prompt = "small red";
    o.steps = 2;
    o.output = in_folder(state, "picture.png");
    assert_done(splam_generate(&o, NULL));
    sp_image image;
    assert_ok(sp_image_load(o.output, &image));
    assert_int_equal(image.width, SIDE);
    sp_image_free(&image);
    assert_false(sp_path_exists(in_folder(state, "out/student/checkpoint-1")));
}

/* The mean of `count` errors of a curve in report.json, of which the timesteps are checked. */
static double mean_at(const json_t *curve, const int *t, int count)
{
    const json_t *all = json_object_get(curve, "t"), *error = json_object_get(curve, "error");
    double sum = 0;
    for (int i = 0; i < count; i++) {
        size_t place = (size_t)(999 - t[i]) / 20;
        assert_true(json_number_value(json_array_get(all, place)) == t[i]);
        sum += json_number_value(json_array_get(error, place));
    }
    return sum / count;
}

static double mean_square(const sp_tensor *a, const sp_tensor *b)
{
    double sum = 0;
    for (int64_t i = 0; i < sp_tensor_count(a); i++) {
        double d = (double)((float *)a->data)[i] - (double)((float *)b->data)[i];
        sum += d * d;
    }
    return sum / (double)sp_tensor_count(a);
}

static void make_row(sp_compared_model *model, const sp_row_request *request, sp_row *row)
{
    sp_drawn drawn;
    assert_ok(sp_drawn_open(NULL, PROMPTS, SIDE, &drawn));
    assert_ok(sp_compared_model_draw(model, request, NULL, NULL, &drawn, &row->seconds_per_image));
    assert_ok(sp_compared_model_score(model, request, &drawn, NULL, row));
    sp_drawn_close(&drawn);
}

/* A student of four phases: in four steps each hop leads to an edge, and in one to timestep 0, where the latents that
 * it draws are held against the chain's. */
static void check_phases(const sp_evaluation *evaluation, sp_pipeline *student, const sp_trajectory *trajectory)
{
    sp_compared_model drawn;
    sp_row row;
    sp_tensor latents, expected;
    const double t[] = {999, 749, 499, 249};
    double error[4];
    student->scheduler.student = SP_STUDENT_DDIM;
    student->scheduler.distilled_steps = 4;
    student->scheduler.spacing = SP_SPACING_TRAILING;
    student->scheduler.alpha_to_one = false;
    assert_ok(sp_compared_model_create(evaluation, student, &drawn));
    assert_ok(sp_compared_model_measure(&drawn, trajectory, false, NULL, NULL));
    sp_row_request request = {.model = "pcm", .sampler = {.kind = SP_SAMPLER_DDIM, .steps = 4}, .seed = 3};
    make_row(&drawn, &request, &row);
    const sp_trajectory_error_request asked = {.guidance = 1, .conditioning = &drawn.conditioning};
    assert_ok(sp_pipeline_trajectory_error(student, trajectory, &asked, t, 4, NULL, error));
    const double mean = (error[0] + error[1] + error[2] + error[3]) / 4;
    assert_true(fabs(sp_score(&row.scores, "trajectory_error") - mean) < 1e-12);

    request.sampler.steps = 1;
    make_row(&drawn, &request, &row);
    sp_philox_noise noise = {3};
    const sp_denoise_request drawing = {.sampler = request.sampler,
                                        .guidance = 1,
                                        .conditioning = &drawn.conditioning,
                                        .height = 8,
                                        .width = 8,
                                        .noise = sp_noise_philox(&noise)};
    assert_ok(sp_pipeline_denoise(student, &drawing, NULL, &latents));
    assert_ok(sp_tensor_create(SP_F32, latents.shape, &expected));
    sp_trajectory_at(trajectory, sp_path_at(&student->scheduler.path, 0), &expected);
    assert_true(fabs(sp_score(&row.scores, "trajectory_error") - mean_square(&latents, &expected)) < 1e-12);
    assert_true(fabs(error[0] - mean_square(&latents, &expected)) > 1e-6);
    sp_tensor_free(&latents);
    sp_tensor_free(&expected);
    sp_compared_model_free(&drawn);
}

/* A student's row is the mean of its curve at its sampler's timesteps, and the first of them the distance of the ends:
 * of the latents that one step draws, and the teacher's. */
static void check_trajectory_error(void *const *state, const places *p)
{
    static const int t[3][4] = {{999}, {999, 499}, {999, 759, 499, 259}};
    json_t *report;
    assert_ok(sp_json_load(in_folder(state, "out/report.json"), &report));
    const json_t *curve = json_array_get(json_object_get(report, "trajectory_error"), 3);
    for (int i = 0; i < 3; i++) {
        const json_t *row = json_array_get(json_object_get(report, "rows"), 9 + (size_t)i);
        assert_true(fabs(number_in(row, "trajectory_error") - mean_at(curve, t[i], 1 << i)) < 1e-15);
    }
    sp_dataset *dataset;
    sp_pipeline *teacher, *student;
    sp_evaluation *evaluation;
    sp_compared_model compared, drawn;
    char folder[600];
    const sp_dataset_options data = {.resolution = SIDE};
    const sp_evaluation_options options = {.count = PROMPTS, .seed = 3, .metrics = 1};
    snprintf(folder, sizeof folder, "%s/student", p->output);
    assert_ok(sp_dataset_open(p->data, &data, NULL, &dataset));
    assert_ok(sp_pipeline_open(p->teacher, &(sp_model_options){0}, &teacher));
    assert_ok(sp_pipeline_open(folder, &(sp_model_options){.unet = "unet_ema"}, &student));
    assert_ok(
        sp_evaluation_create(dataset, teacher->vae, teacher->device, &options, NULL, &evaluation));
    assert_ok(sp_compared_model_create(evaluation, teacher, &compared));
    assert_ok(sp_compared_model_encode(&compared));
    sp_trajectory trajectory;
    sp_tensor latents;
    const sp_trajectory_request request = {
        &compared.conditioning, &compared.negative, 8, 8, 3, 7, NULL, NULL}; /* w, as the demo has it */
    assert_ok(sp_trajectory_create(teacher, &request, NULL, &trajectory));
    const sp_tensor end = sp_trajectory_end(&trajectory);
    sp_philox_noise noise = {3};
    const sp_denoise_request drawing = {.sampler = {.kind = SP_SAMPLER_LCM, .steps = 1},
                                        .guidance = 1,
                                        .conditioning = &compared.conditioning,
                                        .height = 8,
                                        .width = 8,
                                        .noise = sp_noise_philox(&noise)};
    assert_ok(sp_pipeline_denoise(student, &drawing, NULL, &latents));
    assert_true(fabs(mean_square(&latents, &end) - mean_at(curve, t[0], 1)) < 1e-12);
    sp_tensor_free(&latents);

    /* Samplers of other timesteps, whole and fractional, ask for what is not known; noise between steps is nothing. */
    assert_ok(sp_compared_model_create(evaluation, student, &drawn));
    sp_row row, still;
    sp_row_request tcd = {
        .model = "student", .sampler = {.kind = SP_SAMPLER_TCD, .steps = 4, .eta = 0.3}, .seed = 3};
    make_row(&drawn, &tcd, &row);
    assert_true(isnan(sp_score(&row.scores, "trajectory_error")));
    assert_ok(sp_compared_model_measure(&drawn, &trajectory, false, NULL, NULL));
    assert_int_equal(drawn.errors.count, SP_TRAJECTORY_STEPS);
    make_row(&drawn, &tcd, &row);
    tcd.sampler.eta = 0;
    make_row(&drawn, &tcd, &still);
    assert_int_equal(drawn.errors.count, SP_TRAJECTORY_STEPS);
    const double error = sp_score(&row.scores, "trajectory_error");
    assert_true(error == sp_score(&still.scores, "trajectory_error") && isfinite(error));
    assert_string_equal(row.sampler, "tcd");
    tcd.sampler = (sp_sampler_options){.kind = SP_SAMPLER_HEUN, .steps = 3, .spacing = SP_SPACING_LINSPACE};
    make_row(&drawn, &tcd, &row);
    assert_int_equal(drawn.errors.count, SP_TRAJECTORY_STEPS + 2); /* 999, 499.5 and 0 */
    assert_true(isfinite(sp_score(&row.scores, "trajectory_error")));
    sp_compared_model_free(&drawn);
    check_phases(evaluation, student, &trajectory);
    sp_trajectory_free(&trajectory);
    sp_compared_model_free(&compared);
    sp_evaluation_destroy(evaluation);
    sp_pipeline_close(teacher);
    sp_pipeline_close(student);
    sp_dataset_close(dataset);
    json_decref(report);
}

/* Pictures have no distance to the teacher's before these are kept, then none from themselves. */
static void check_frechet_teacher(sp_evaluation *kept)
{
    sp_drawn drawn;
    const int64_t one = 3 * SIDE * SIDE;
    uint8_t rgb[3 * SIDE * SIDE];
    assert_ok(sp_drawn_open(NULL, PROMPTS, SIDE, &drawn));
    for (int i = 0; i < PROMPTS; i++) {
        assert_ok(sp_evaluation_real(kept, i, rgb));
        assert_ok(sp_drawn_put(&drawn, i, rgb));
    }
    sp_scores scores = sp_scores_none();
    assert_ok(sp_evaluation_score_drawn(kept, &drawn, NULL, &scores));
    assert_true(isnan(sp_score(&scores, "frechet_teacher")));
    assert_ok(sp_evaluation_keep_teacher(kept, &drawn, NULL));
    assert_ok(sp_evaluation_score_drawn(kept, &drawn, NULL, &scores));
    assert_true(fabs(sp_score(&scores, "frechet_teacher")) < 1e-6);
    for (int64_t i = 0; i < one; i++)
        drawn.pixels[i] = (uint8_t)(255 - drawn.pixels[i]);
    assert_ok(sp_evaluation_score_drawn(kept, &drawn, NULL, &scores));
    assert_true(sp_score(&scores, "frechet_teacher") > 1e-4);
    assert_true(isnan(sp_score(&scores, "frechet")));
    sp_drawn_close(&drawn);
}

static void test_frechet_teacher(void **state)
{
    places p = make_teacher(state);
    sp_pipeline *teacher;
    sp_dataset *dataset;
    sp_evaluation *evaluation;
    const sp_model_options options = {.device = sp_default_device(), .precision = SP_F32};
    const sp_dataset_options data = {.resolution = SIDE};
    const sp_evaluation_options wanted = {.count = PROMPTS, .metrics = sp_metrics_of(SP_REFERENCE_TEACHER)};
    assert_ok(sp_pipeline_open(p.teacher, &options, &teacher));
    assert_ok(sp_dataset_open(p.data, &data, NULL, &dataset));
    assert_ok(sp_evaluation_create(dataset, teacher->vae, sp_default_device(), &wanted, NULL, &evaluation));
    check_frechet_teacher(evaluation);
    sp_evaluation_destroy(evaluation);
    sp_dataset_close(dataset);
    sp_pipeline_close(teacher);
}

/* The same rows again, by `eval`: the numbers are the demo's own. */
static void check_eval(void *const *state, const places *p)
{
    char student[600];
    snprintf(student, sizeof student, "%s/student", p->output);
    const char *models[] = {student};
    const int64_t steps[] = {1, 2};
    char *table;
    splam_eval_options o = splam_eval_defaults();
    o.models = models;
    o.model_count = 1;
    o.teacher = p->teacher;
    o.unet = "unet_ema";
    o.data = p->data;
    o.output = p->output;
    o.metrics = "trajectory-error,frechet";
    o.steps = steps;
    o.step_count = 2;
    o.count = PROMPTS;
    o.seed = 3;
    o.precision = SPLAM_F32;
    json_t *demo, *eval;
    assert_ok(sp_json_load(in_folder(state, "out/report.json"), &demo));
    assert_done(splam_eval(&o, NULL, &table));
    assert_non_null(strstr(table, "student"));
    splam_free(table);
    assert_ok(sp_json_load(in_folder(state, "out/report.json"), &eval));
    const json_t *before = json_object_get(demo, "rows"), *after = json_object_get(eval, "rows");
    assert_int_equal(json_array_size(after), 3);
    for (size_t i = 1; i < 3; i++) {
        const json_t *a = json_array_get(before, 8 + i), *b = json_array_get(after, i);
        assert_true(number_in(a, "trajectory_error") == number_in(b, "trajectory_error"));
        assert_true(number_in(a, "frechet") == number_in(b, "frechet"));
        assert_true(json_is_null(json_object_get(b, "hit1")));
    }
    json_decref(demo);
    json_decref(eval);
}

/* Its own rows stand beside the end of its trajectory, in as many steps by the same sampler from other timesteps. */
static void check_teacher_as_model(void *const *state, const places *p)
{
    const char *models[] = {p->teacher};
    const int64_t steps[] = {50};
    char *table;
    splam_eval_options o = splam_eval_defaults();
    o.models = models;
    o.model_count = 1;
    o.teacher = p->teacher;
    o.data = p->data;
    o.output = p->output;
    o.metrics = "frechet,frechet-teacher";
    o.sampler = "ddim";
    o.steps = steps;
    o.step_count = 1;
    o.count = PROMPTS;
    o.seed = 3;
    o.guidance_scale_w = 7;
    o.precision = SPLAM_F32;
    json_t *report;
    assert_done(splam_eval(&o, NULL, &table));
    splam_free(table);
    assert_ok(sp_json_load(in_folder(state, "out/report.json"), &report));
    const json_t *rows = json_object_get(report, "rows"), *first = json_array_get(rows, 0),
                 *second = json_array_get(rows, 1);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(json_string_value(json_object_get(first, "model")), "teacher");
    assert_string_equal(json_string_value(json_object_get(second, "model")), "teacher-model");
    assert_true(number_in(first, "frechet") != number_in(second, "frechet"));
    json_decref(report);
}

static bool stop_when_told(void *context)
{
    return *(bool *)context;
}

static void stop_in_training(void *context, const char *task, int64_t done, int64_t total,
                             const char *detail)
{
    (void)done;
    (void)total;
    (void)detail;
    if (strncmp(task, "distill", 7) == 0) *(bool *)context = true;
}

static void test_demo(void **state)
{
    places p = make_teacher(state);
    char *table;
    splam_demo_options o = splam_demo_defaults();
    o.output = p.output;
    o.teacher = p.teacher;
    o.data = p.data;
    o.max_train_steps = 2;
    o.count = PROMPTS;
    o.seed = 3;
    o.precision = SPLAM_F32;
    bool stop = false;
    const splam_callbacks interrupt = {&stop, stop_in_training, stop_when_told};
    assert_int_equal(splam_demo(&o, &interrupt, &table), SPLAM_CANCELLED);
    assert_non_null(strstr(splam_error_message(), "run the demo again"));
    assert_null(table);
    assert_false(sp_path_exists(in_folder(state, "out/report.json")));

    o.max_train_steps = 1;
    assert_done(splam_demo(&o, NULL, &table));
    assert_non_null(strstr(table, "splam"));
    splam_free(table);
    check_report(p.output);
    check_student(state, &p);
    check_trajectory_error(state, &p);
    check_eval(state, &p);
    check_teacher_as_model(state, &p);
}

static void test_refusals(void **state)
{
    char *table, nowhere[256], output[256];
    snprintf(nowhere, sizeof nowhere, "%s", in_folder(state, "nowhere"));
    snprintf(output, sizeof output, "%s", in_folder(state, "output"));
    const char *models[] = {nowhere};
    splam_eval_options eval = splam_eval_defaults();
    eval.models = models;
    eval.model_count = 1;
    eval.data = "emoji:";
    eval.output = output;
    eval.metrics = "fid";
    assert_int_equal(splam_eval(&eval, NULL, &table), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "`inception` is missing"));
    eval.metrics = "hit,beauty";
    assert_int_equal(splam_eval(&eval, NULL, &table), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "\"beauty\""));
    eval.metrics = "trajectory-error";
    assert_int_equal(splam_eval(&eval, NULL, &table), SPLAM_ARGUMENT);
    assert_non_null(strstr(splam_error_message(), "teacher"));
    eval.metrics = NULL;
    assert_int_equal(splam_eval(&eval, NULL, &table), SPLAM_IO);
    assert_null(table);
    splam_demo_options demo = splam_demo_defaults();
    demo.teacher = nowhere;
    demo.output = output;
    assert_int_equal(splam_demo(&demo, NULL, &table), SPLAM_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_demo, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_frechet_teacher, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_refusals, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
