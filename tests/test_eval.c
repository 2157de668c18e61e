/* Measures: the Frechet distance, caption hit rates, features, the list of metrics. */
#include "support.h"
#include <math.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "backend/registry.h"
#include "base/random.h"
#include "base/system.h"
#include "eval/vae_features.h"
#include "report/chart.h"
#include "eval/evaluation.h"
#include "eval/kid.h"
#include "eval/frechet.h"
#include "eval/hit_rate.h"

/* Values in [0,1) that NumPy can repeat exactly: ((7919 i + 104729 j + i j twist) mod 1009) / 1009. */
static sp_tensor made_features(int64_t count, int64_t dim, int64_t twist, float scale, float shift)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(count, dim), &t));
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < dim; j++) {
            float x = (float)((i * 7919 + j * 104729 + i * j * twist) % 1009) / 1009.0f;
            ((float *)t.data)[i * dim + j] = x * scale + shift;
        }
    return t;
}

/* Expected values: NumPy, |mu_a - mu_b|^2 + tr C_a + tr C_b - 2 sum sqrt(eigvals(C_a C_b)) with
 * numpy.cov. The second pair has fewer rows than features, so its covariances are singular: there
 * the square roots of eigenvalues that should be 0 leave about 1e-8 in NumPy's value. */
static void test_frechet_equals_numpy(void **state)
{
    (void)state;
    const struct {
        int64_t a, b, dim;
        double expected, tolerance;
    } cases[] = {{40, 50, 6, 0.2519088435975576, 1e-9}, {12, 20, 16, 1.286436048701428, 1e-6}};
    for (size_t i = 0; i < 2; i++) {
        sp_tensor a = made_features(cases[i].a, cases[i].dim, 31, 1, 0);
        sp_tensor b = made_features(cases[i].b, cases[i].dim, 57, 0.5f, 0.25f);
        double d, back, self;
        assert_ok(sp_frechet_distance(&a, &b, &d));
        assert_ok(sp_frechet_distance(&b, &a, &back));
        assert_ok(sp_frechet_distance(&a, &a, &self));
        assert_true(fabs(d - cases[i].expected) < cases[i].tolerance);
        assert_true(fabs(back - d) < cases[i].tolerance);
        /* The square root of an error of rounding. */
        assert_true(self < 1e-6);
        sp_tensor_free(&a);
        sp_tensor_free(&b);
    }
}

/* With equal covariances all that is left is the shift. */
static void test_frechet_of_a_shift(void **state)
{
    (void)state;
    sp_tensor a = made_features(64, 8, 31, 1, 0), b = made_features(64, 8, 31, 1, 0.5f);
    double d;
    assert_ok(sp_frechet_distance(&a, &b, &d));
    assert_true(fabs(d - 8 * 0.25) < 1e-6);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* OpenBLAS asks for its buffers for ever where it cannot have them: said before it is loaded. Nothing before this test
 * may have loaded it, and AddressSanitizer's own addresses are beyond any limit. */
static void test_frechet_without_memory(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip();
#else
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sp_tensor a = made_features(12, 4, 31, 1, 0);
        double d;
        rlim_t bytes = (rlim_t)sp_proc_bytes("/proc/self/status", "VmSize") + ((rlim_t)64 << 20);
        alarm(60);
        if (setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}) != 0) _exit(2);
        sp_status status = sp_frechet_distance(&a, &a, &d);
        _exit(status == SP_MEMORY && strstr(sp_error_message(), "OpenBLAS") ? 0 : 1);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code));
    assert_int_equal(WEXITSTATUS(code), 0);
#endif
}

static void test_frechet_refuses(void **state)
{
    (void)state;
    double d;
    sp_tensor a = made_features(4, 3, 1, 1, 0), b = made_features(4, 5, 1, 1, 0),
              one = made_features(1, 3, 1, 1, 0);
    assert_status(sp_frechet_distance(&a, &b, &d), SP_SHAPE);
    assert_status(sp_frechet_distance(&a, &one, &d), SP_SHAPE);
    ((float *)a.data)[5] = NAN;
    assert_status(sp_frechet_distance(&a, &a, &d), SP_NUMERIC);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&one);
}

/* Real pictures on a line; 3 and 4 look alike, and their features differ as little as rounding
 * makes them; 6 looks like 0. */
static void test_caption_ranks(void **state)
{
    (void)state;
    float where[] = {0, 1, 2, 3.0001f, 3, 5, 0};
    sp_real_picture pictures[] = {{70, 1}, {1, 2}, {2, 3}, {33, 4}, {33, 5}, {5, 6}, {70, 7}};
    float generated_at[] = {0.1f, 0.1f, 1.2f, 3.4f, 4.4f, 3.0f, 4.6f};
    int64_t named[] = {0, 6, 0, 4, 2, 1, 3};
    /* a hit; a hit of its like; 1 and 2 nearer; a hit of its like; {3,4} and 5; {3,4} and 2, while
     * 5 is as far; 5 */
    int64_t expected[] = {0, 0, 2, 0, 2, 2, 1};
    sp_tensor real = {SP_F32, sp_shape_of(7, 1), where, false};
    sp_tensor generated = {SP_F32, sp_shape_of(7, 1), generated_at, false};
    int64_t rank[7];
    assert_ok(sp_caption_ranks(&generated, &real, pictures, named, rank));
    for (int i = 0; i < 7; i++)
        assert_int_equal(rank[i], expected[i]);

    bool held_out[] = {false, false, false, false, true, true, true};
    assert_true(fabs(sp_hit_rate(rank, held_out, false, 7, 1) - 0.75) < 1e-12);
    assert_true(sp_hit_rate(rank, held_out, false, 7, 5) == 1);
    assert_true(sp_hit_rate(rank, held_out, true, 7, 1) == 0);
    assert_true(fabs(sp_hit_rate(rank, held_out, true, 7, 2) - 1.0 / 3) < 1e-12);
    assert_true(isnan(sp_hit_rate(rank, held_out, true, 4, 1)));

    pictures[2].caption = pictures[0].caption; /* so that of the third only 1 is nearer */
    pictures[5].caption = pictures[3].caption; /* and the last is nearest to what has its caption */
    expected[2] = 1, expected[6] = 0;
    assert_ok(sp_caption_ranks(&generated, &real, pictures, named, rank));
    for (int i = 0; i < 7; i++)
        assert_int_equal(rank[i], expected[i]);

    named[2] = 7;
    assert_status(sp_caption_ranks(&generated, &real, pictures, named, rank), SP_ARGUMENT);
    generated.shape = sp_shape_of(1, 7);
    assert_status(sp_caption_ranks(&generated, &real, pictures, named, rank), SP_SHAPE);
}

/* Whole cells, and cells that overlap because 3 does not divide by 2: rows 0..1 and 1..2. */
static void test_pooling(void **state)
{
    (void)state;
    float whole[16], odd[9];
    for (int i = 0; i < 16; i++)
        whole[i] = (float)i;
    for (int i = 0; i < 9; i++)
        odd[i] = (float)i;
    sp_tensor in = {SP_F32, sp_shape_of(1, 1, 4, 4), whole, false}, out;
    assert_ok(sp_features_pool(&in, 2, &out));
    const float expected[] = {2.5f, 4.5f, 10.5f, 12.5f};
    assert_true(sp_shape_equal(out.shape, sp_shape_of(1, 4)));
    assert_memory_equal(out.data, expected, sizeof expected);
    sp_tensor_free(&out);
    in = (sp_tensor){SP_F32, sp_shape_of(1, 1, 3, 3), odd, false};
    assert_ok(sp_features_pool(&in, 2, &out));
    const float overlapping[] = {2, 3, 5, 6};
    assert_memory_equal(out.data, overlapping, sizeof overlapping);
    sp_tensor_free(&out);
}

static void test_quantising(void **state)
{
    (void)state;
    float x[] = {-1.5f, 0.001f, 0.999f, 1.0f, -1.0f, 0.5f};
    sp_tensor images = {SP_F32, sp_shape_of(2, 3, 1, 1), x, false};
    sp_features_quantise(&images);
    for (int i = 0; i < 6; i++) {
        double level = ((double)x[i] + 1) * 127.5;
        assert_true(fabs(level - round(level)) < 1e-4); /* floats around 1 are 6e-8 apart */
    }
    assert_true(x[0] == -1 && x[3] == 1 && fabsf(x[5] - 0.5f) < 0.005f);
}

/* ---- choosing prompts ---- */

static sp_evaluation *choose(sp_dataset *emoji, int64_t count, uint64_t seed)
{
    static const char *const wanted[] = {"red apple", "no such emoji",
                                         "man astronaut: medium-dark skin tone", "red apple"};
    const sp_evaluation_options options = {.count = count,
                                           .seed = seed,
                                           .metrics = sp_metrics_all() & ~sp_metrics_of_real_pictures(),
                                           .wanted = wanted,
                                           .wanted_count = 4};
    sp_evaluation *e;
    assert_ok(sp_evaluation_create(emoji, NULL, sp_default_device(), &options, NULL, &e));
    return e;
}

static void test_choice_of_prompts(void **state)
{
    (void)state;
    sp_dataset *emoji;
    assert_ok(sp_dataset_open("emoji:", NULL, NULL, &emoji));
    sp_evaluation *e = choose(emoji, 40, 1), *again = choose(emoji, 40, 1),
                  *other = choose(emoji, 40, 2), *most = choose(emoji, 2000, 1);
    assert_string_equal(e->prompt[0], "red apple");
    assert_string_equal(e->prompt[1], "man astronaut: medium-dark skin tone");
    assert_true(e->held_out[1] && !e->held_out[0]);
    assert_int_equal(e->held_out_count, 10);
    assert_int_equal(most->held_out_count, sp_dataset_held_out_count(emoji));
    assert_memory_equal(e->sample, again->sample, 40 * sizeof *e->sample);
    assert_memory_not_equal(e->sample, other->sample, 40 * sizeof *e->sample);
    for (int i = 0; i < 40; i++) {
        assert_true(e->held_out[i] == sp_dataset_is_held_out(emoji, e->sample[i]));
        for (int k = 0; k < i; k++)
            assert_true(e->sample[i] != e->sample[k]);
    }
    sp_evaluation_destroy(e);
    sp_evaluation_destroy(again);
    sp_evaluation_destroy(other);
    sp_evaluation_destroy(most);
    const sp_evaluation_options too_many = {.count = 100000, .metrics = 1};
    assert_status(sp_evaluation_create(emoji, NULL, sp_default_device(), &too_many, NULL, &e),
                  SP_ARGUMENT);
    sp_dataset_close(emoji);
}

/* A held-out picture of emoji:kinds has a caption that training has, so that none of its prompts is unseen. */
static void prompts_of_many_pictures(void **state)
{
    (void)state;
    sp_dataset *kinds;
    assert_ok(sp_dataset_open("emoji:kinds", NULL, NULL, &kinds));
    sp_evaluation *e = choose(kinds, 400, 1);
    assert_true(sp_dataset_held_out_count(kinds) > 0);
    assert_int_equal(e->held_out_count, 0);
    for (int i = 0; i < 400; i++)
        assert_true(!e->held_out[i] && !sp_dataset_is_held_out(kinds, e->sample[i]));
    sp_evaluation_destroy(e);
    sp_dataset_close(kinds);
}

/* ---- charts ---- */

static void test_charts(void **state)
{
    (void)state;
    const double x[] = {1, 2, 4}, y[] = {0.5, NAN, 0}, nothing[] = {NAN, NAN, NAN};
    sp_series series = {
        .name = "<a & \"b\">", .colour = "#000", .marked = true, .x = x, .y = nothing, .count = 3};
    const sp_chart chart = {.title = "t",
                            .x_label = "steps",
                            .log_x = true,
                            .log_y = true,
                            .x_ticks = x,
                            .x_tick_count = 3,
                            .series = &series,
                            .count = 1};
    sp_string out = {0};
    sp_chart_append_svg(&chart, &out);
    assert_int_equal(out.length, 0);
    series.y = y; /* on a log axis one point is left of the three */
    sp_chart_append_svg(&chart, &out);
    const char *circle = strstr(out.data, "<circle");
    assert_non_null(circle);
    assert_null(strstr(circle + 1, "<circle"));
    assert_non_null(strstr(out.data, "&lt;a &amp; &quot;b&quot;&gt;"));
    assert_null(strstr(out.data, "nan"));
    assert_null(strstr(out.data, "inf"));
    sp_html_append(&out, "\xe2\x80\xae<\x1b\xff");
    assert_non_null(strstr(out.data, "\\u202e&lt;\\x1b\\xff"));
    sp_string_free(&out);
}

/* Names are asked for one by one and together, keys of columns are told apart, and what is not measured is NaN. */
static void test_metrics_by_name(void **state)
{
    (void)state;
    const sp_metric *metric, *owner = NULL;
    sp_metric_set set, all = 0;
    int columns = 0;
    bool scores[SP_PICTURE_SCORES];
    for (int i = 0; (metric = sp_metric_at(i)); i++) {
        assert_ok(sp_metrics_parse(metric->name, &set, scores));
        assert_int_equal(set, 1u << i);
        assert_true((metric->reference == SP_REFERENCE_TRAJECTORY) == (metric->features == NULL));
        assert_true((set & sp_metrics_of(metric->reference)) == set);
        for (int k = 0; k < metric->column_count; k++, columns++) {
            assert_ptr_equal(sp_column_at(columns, &owner), &metric->columns[k]);
            assert_ptr_equal(owner, metric);
            sp_scores scores = sp_scores_none();
            assert_true(isnan(sp_score(&scores, metric->columns[k].key)));
            scores.value[columns] = columns + 1;
            assert_true(sp_score(&scores, metric->columns[k].key) == columns + 1);
        }
        all |= set;
    }
    assert_null(sp_column_at(columns, NULL));
    assert_true(columns <= SP_COLUMNS_MAX);
    assert_int_equal(all, sp_metrics_all());
    assert_ok(sp_metrics_parse("hit,trajectory-error", &set, scores));
    assert_int_equal(set, 33);
    assert_ok(sp_metrics_parse("hit,frechet,kernel,precision-recall", &set, scores));
    assert_int_equal(set, sp_metrics_of_real_pictures());
    assert_status(sp_metrics_parse("", &set, scores), SP_ARGUMENT);
    assert_status(sp_metrics_parse("hi", &set, scores), SP_ARGUMENT);
    for (int i = 0; i < SP_PICTURE_SCORES; i++) {
        assert_ok(sp_metrics_parse(sp_picture_score_at(i)->name, &set, scores));
        for (int k = 0; k < SP_PICTURE_SCORES; k++)
            assert_true(scores[k] == (i == k));
        assert_int_equal(set, 0);
    }
    assert_ok(sp_metrics_parse("frechet,kid", &set, scores));
    assert_int_equal(set, 2);
    assert_status(sp_metrics_parse("frechet,lpips", &set, scores), SP_ARGUMENT);
    assert_non_null(strstr(sp_error_message(), "no metric \"lpips\"; there are trajectory-error, frechet, "
                                               "frechet-teacher, kernel, precision-recall, hit, fid, "));
}

/* The numbers of a metric of pictures whose features are `features`, beside `reference`. */
static void measure(const char *name, const sp_tensor *features, const sp_tensor *reference, double out[4])
{
    const sp_metric *metric = NULL;
    for (int i = 0; !metric || strcmp(metric->name, name); i++)
        assert_non_null(metric = sp_metric_at(i));
    const sp_measured measured = {.features = features, .reference = reference};
    assert_ok(metric->score(&measured, out));
}

/* 40 rows of 3 normal numbers around `middle`. */
static sp_tensor normal_rows(uint64_t seed, float middle)
{
    sp_tensor out;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(40, 3), &out));
    sp_random_normal((sp_random_key){seed, SP_STREAM_NOISE, 0, 0}, out.data, 120);
    for (int i = 0; i < 120; i++)
        ((float *)out.data)[i] += middle;
    return out;
}

/* Pictures of one kind and of two: what is 0 of equal ones lies in its interval, and what tells them apart does not. */
static void metrics_with_intervals(void **state)
{
    (void)state;
    sp_tensor a = normal_rows(1, 0), b = normal_rows(2, 0), far = normal_rows(3, 4);
    double same[4], other[4];
    measure("kernel", &a, &b, same);
    measure("kernel", &far, &b, other);
    assert_true(same[1] > 0 && fabs(same[0]) < same[1] && other[0] > other[1]);
    measure("frechet", &a, &b, same);
    measure("frechet", &far, &b, other);
    assert_true(same[1] > 0 && other[0] - other[1] > same[0] + same[1]);
    assert_true(fabs(other[0] - 48) < 3 * other[1]);
    measure("precision-recall", &a, &a, same);
    assert_true(same[0] == 1 && same[1] == 1 && same[3] == 1);
    measure("precision-recall", &far, &b, other);
    assert_true(other[0] < .5 && other[3] < .5);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&far);
}

/* The numbers are those of eval/kid.h and eval/prdc.h, with the drawn pictures first; of too few there are none. */
static void test_metrics_are_their_measures(void **state)
{
    (void)state;
    sp_tensor real = normal_rows(1, 0), drawn = normal_rows(2, 0);
    for (int i = 0; i < 120; i++)
        ((float *)drawn.data)[i] *= .2f;
    double found[4] = {NAN, NAN, NAN, NAN}, mean, deviation;
    measure("kernel", &drawn, &real, found);
    assert_ok(sp_kid(&drawn, &real, &(sp_kid_options){100, 20, 2020}, NULL, &mean, &deviation));
    assert_true(found[0] == mean && found[1] == 1.96 * deviation);
    measure("precision-recall", &drawn, &real, found);
    assert_true(found[0] == 1 && found[1] < .5 && found[2] > 1 && found[3] < 1);
    drawn.shape.dim[0] = real.shape.dim[0] = 5;
    found[0] = found[3] = NAN;
    measure("precision-recall", &drawn, &real, found);
    assert_true(isnan(found[0]) && isnan(found[3]));
    drawn.shape.dim[0] = real.shape.dim[0] = 3;
    measure("kernel", &drawn, &real, found);
    assert_true(isnan(found[0]));
    drawn.shape.dim[0] = real.shape.dim[0] = 40;
    sp_tensor_free(&real);
    sp_tensor_free(&drawn);
}

/* A row has its own mean, and that over the curve. */
static void test_trajectory_columns(void **state)
{
    (void)state;
    sp_dataset *emoji;
    assert_ok(sp_dataset_open("emoji:", NULL, NULL, &emoji));
    sp_evaluation *e = choose(emoji, 4, 1);
    sp_error_curve curve;
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++)
        curve.error[i] = i;
    sp_scores scores = sp_scores_none();
    assert_ok(sp_evaluation_score_map(e, &curve, 3, &scores));
    assert_true(sp_score(&scores, "trajectory_error") == 3);
    assert_true(sp_score(&scores, "trajectory_error_mean") == 24.5);
    assert_true(isnan(sp_score(&scores, "frechet")));
    sp_evaluation_destroy(e);
    sp_dataset_close(emoji);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_by_name),
        cmocka_unit_test(test_trajectory_columns),
        cmocka_unit_test(test_frechet_without_memory),
        cmocka_unit_test(test_metrics_are_their_measures),
        cmocka_unit_test(test_frechet_equals_numpy),
        cmocka_unit_test(test_frechet_of_a_shift),
        cmocka_unit_test(test_frechet_refuses),
        cmocka_unit_test(test_caption_ranks),
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_quantising),
        cmocka_unit_test(test_choice_of_prompts),
        cmocka_unit_test(prompts_of_many_pictures),
        cmocka_unit_test(test_charts),
        cmocka_unit_test(metrics_with_intervals), /* after what forks: it begins threads */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
