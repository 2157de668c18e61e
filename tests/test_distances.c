/* Distances of sets of features, and scores of single embeddings, against numpy, scipy and the authors' programs. */
#include "score_support.h"
#include <math.h>
#include <splam/splam.h>
#include <sys/stat.h>
#include "base/json.h"
#include "base/parallel.h"
#include "eval/bootstrap.h"
#include "eval/cmmd.h"
#include "eval/embedding_scores.h"
#include "eval/fd_infinity.h"
#include "eval/prdc.h"

static int open_distances(void **state)
{
    if (sp_tensor_file_open(golden("distances.safetensors"), &file)) return -1;
    return make_test_folder(state);
}

static double number(const char *name)
{
    return *(const double *)expected(name)->data;
}

static bool stop(void *unused)
{
    (void)unused;
    return true;
}
static const sp_callbacks stopping = {.cancelled = stop};

/* ---- Frechet distances ---- */

static sp_frechet_side of(const sp_tensor *features)
{
    return (sp_frechet_side){.features = features};
}

static void test_rows_that_count_more_than_once(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    uint32_t times_a[60], times_b[50];
    for (uint32_t i = 0; i < 60; i++)
        times_a[i] = i % 3;
    for (uint32_t i = 0; i < 50; i++)
        times_b[i] = (i + 1) % 4;
    const sp_frechet_side x = {.features = &a, .times = times_a}, y = {.features = &b, .times = times_b};
    double d, wanted = number("frechet.times");
    assert_ok(sp_frechet_of_sides(&x, &y, &d));
    assert_near(d, wanted, 1e-10 * wanted);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

static void set_column(sp_tensor *t, int column, float value)
{
    for (int64_t i = 0; i < t->shape.dim[0]; i++)
        ((float *)t->data)[i * t->shape.dim[1] + column] = value;
}

static void copy_column(sp_tensor *t, int from, int to)
{
    for (int64_t i = 0; i < t->shape.dim[0]; i++)
        ((float *)t->data)[i * t->shape.dim[1] + to] = ((float *)t->data)[i * t->shape.dim[1] + from];
}

/* Both ways round, of features, and of their means and covariances, which say less where the rank is not full: an
 * eigenvalue that should be 0 is rounding, 1e-16, and its root 1e-8. */
static void check_ranks(const sp_tensor *a, const sp_tensor *b, const char *name)
{
    sp_gaussian one, two;
    double d, wanted = number(name);
    const sp_frechet_side x = of(a), y = of(b), u = {.gaussian = &one}, v = {.gaussian = &two};
    const sp_frechet_side *const pairs[][2] = {{&x, &y}, {&y, &x}, {&u, &v}, {&v, &u}, {&x, &v}, {&u, &y}};
    assert_ok(sp_gaussian_fit(a, &one));
    assert_ok(sp_gaussian_fit(b, &two));
    for (int i = 0; i < 6; i++) {
        assert_ok(sp_frechet_of_sides(pairs[i][0], pairs[i][1], &d));
        assert_near(d, wanted, (i < 2 ? 1e-10 : 1e-7) * wanted);
    }
    for (int i = 0; i < 4; i++) {
        const sp_frechet_side *const each[] = {&x, &y, &u, &v};
        assert_ok(sp_frechet_of_sides(each[i], each[i], &d));
        assert_near(d, 0, 1e-12);
    }
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
}

static void test_frechet_of_any_rank(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t a, b, width;
    } cases[] = {{"frechet.mixed", 200, 9, 24}, {"frechet.few", 9, 14, 24}, {"frechet.constant", 60, 50, 12},
                 {"frechet.twice", 60, 50, 12}};
    for (int i = 0; i < 4; i++) {
        sp_tensor a = rows("a", cases[i].a, cases[i].width, 1), b = rows("b", cases[i].b, cases[i].width, 0.5);
        for (int side = 0; side < 2 && i >= 2; side++) {
            set_column(side ? &b : &a, 3, 0.1f);
            set_column(side ? &b : &a, 7, 0);
            if (i == 3) copy_column(side ? &b : &a, 5, 7);
        }
        check_ranks(&a, &b, cases[i].name);
        sp_tensor_free(&a);
        sp_tensor_free(&b);
    }
}

/* What is left is the means and the other's trace. */
static void test_frechet_of_a_point(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), point = rows("b", 40, 12, 1);
    for (int i = 0; i < 12; i++)
        set_column(&point, i, (float)i);
    const sp_frechet_side x = of(&a), y = of(&point);
    sp_gaussian g;
    double d, wanted = 0;
    assert_ok(sp_gaussian_fit(&a, &g));
    for (int i = 0; i < 12; i++)
        wanted += (g.mean[i] - i) * (g.mean[i] - i) + g.covariance[i * 13];
    assert_ok(sp_frechet_of_sides(&x, &y, &d));
    assert_near(d, wanted, 1e-12 * wanted);
    sp_gaussian_free(&g);
    sp_tensor_free(&a);
    sp_tensor_free(&point);
}

static void test_frechet_refuses_what_is_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int64_t count = 9; count <= 60; count += 51)
        for (int i = 0; i < 3; i++) {
            sp_tensor a = rows("a", count, 12, 1), b = rows("b", 50, 12, 1);
            const sp_frechet_side x = of(&a), y = of(&b);
            sp_gaussian g;
            double d;
            ((float *)a.data)[17] = bad[i];
            assert_status(sp_frechet_of_sides(&y, &x, &d), SP_NUMERIC);
            assert_message("element 17");
            assert_status(sp_gaussian_fit(&a, &g), SP_NUMERIC);
            assert_message("element 17");
            assert_ok(sp_gaussian_fit(&b, &g));
            g.covariance[13] = (double)bad[i];
            const sp_frechet_side statistics = {.gaussian = &g};
            assert_status(sp_frechet_of_sides(&y, &statistics, &d), SP_NUMERIC);
            sp_gaussian_free(&g);
            sp_tensor_free(&a);
            sp_tensor_free(&b);
        }
}

/* Covariances have the same bits with any number, and LAPACK's eigenvalues all but the last. */
static void test_frechet_with_any_threads(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 900, 260, 1), b = rows("b", 700, 260, 0.5), few = rows("c", 200, 260, 0.5);
    const sp_frechet_side x = of(&a), y = of(&b), z = of(&few);
    double d[2][2];
    for (int i = 0; i < 2; i++) {
        sp_set_threads(1 + i);
        assert_ok(sp_frechet_of_sides(&x, &y, &d[i][0]));
        assert_ok(sp_frechet_of_sides(&x, &z, &d[i][1]));
    }
    sp_set_threads(0);
    assert_near(d[0][0], d[1][0], 1e-12 * d[0][0]);
    assert_near(d[0][1], d[1][1], 1e-12 * d[0][1]);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&few);
}

/* ---- its interval ---- */

static sp_tensor drawn(const sp_tensor *from, uint64_t resample, uint64_t which)
{
    int64_t count = from->shape.dim[0], width = from->shape.dim[1];
    uint32_t bits[64];
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, from->shape, &t));
    sp_random_bits((sp_random_key){0, SP_STREAM_BOOTSTRAP, resample, which}, bits, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        memcpy((float *)t.data + i * width,
               (float *)from->data + (int64_t)((uint64_t)bits[i] * (uint64_t)count >> 32) * width,
               (size_t)width * sizeof(float));
    return t;
}

/* Counting rows is drawing them. Both of many rows and of few. */
static void check_interval(int64_t count_a, int64_t count_b, int64_t width)
{
    enum { RESAMPLES = 11 };
    sp_tensor a = rows("a", count_a, width, 1), b = rows("b", count_b, width, 0.5);
    const sp_frechet_side x = of(&a), y = of(&b);
    double d[RESAMPLES], mean = 0, square = 0;
    sp_interval found;
    for (uint64_t r = 0; r < RESAMPLES; r++) {
        sp_tensor one = drawn(&a, r, 0), two = drawn(&b, r, 1);
        assert_ok(sp_frechet_distance(&one, &two, &d[r]));
        mean += d[r] / RESAMPLES;
        sp_tensor_free(&one);
        sp_tensor_free(&two);
    }
    for (int r = 0; r < RESAMPLES; r++)
        square += (d[r] - mean) * (d[r] - mean);
    assert_ok(sp_bootstrap_frechet(&x, &y, 5, RESAMPLES, NULL, &found));
    assert_near(found.low + found.high, 10, 1e-12);
    assert_near((found.high - found.low) / 2, 1.959963984540054 * sqrt(square / (RESAMPLES - 1)), 1e-9);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

static void test_interval_is_of_drawn_rows(void **state)
{
    (void)state;
    check_interval(60, 50, 6);
    check_interval(9, 14, 24);
    check_interval(60, 9, 24);
}

static void test_interval_can_be_stopped(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1);
    const sp_frechet_side x = of(&a);
    sp_interval interval;
    assert_status(sp_bootstrap_frechet(&x, &x, 0, 10, &stopping, &interval), SP_CANCELLED);
    sp_tensor_free(&a);
}

/* ---- of infinitely many ---- */

static void test_fd_infinity_is_dgm_evals(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 300, 12, 1), b = rows("b", 200, 12, 0.5);
    sp_gaussian g;
    const sp_frechet_side real = of(&b), statistics = {.gaussian = &g};
    double d, wanted = number("fd_infinity.many");
    assert_ok(sp_fd_infinity(&a, &real, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    assert_ok(sp_gaussian_fit(&b, &g));
    assert_ok(sp_fd_infinity(&a, &statistics, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    assert_ok(sp_fd_infinity(&a, &real, 2021, NULL, &d));
    assert_true(fabs(d - wanted) > 1e-6);
    assert_status(sp_fd_infinity(&a, &real, 2020, &stopping, &d), SP_CANCELLED);
    ((float *)a.data)[7] = NAN;
    assert_status(sp_fd_infinity(&a, &real, 2020, NULL, &d), SP_NUMERIC);
    sp_gaussian_free(&g);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    a = rows("a", 80, 24, 1), b = rows("b", 20, 24, 0.5);
    wanted = number("fd_infinity.few");
    assert_ok(sp_fd_infinity(&a, &real, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    a.shape.dim[0] = 2;
    assert_status(sp_fd_infinity(&a, &real, 2020, NULL, &d), SP_SHAPE);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* ---- CMMD ---- */

/* Against a kernel of every pair in fp64, which is good to 1e-12; more rows than a block has, and columns. */
static void test_cmmd_is_its_formula(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    double d;
    assert_ok(sp_cmmd(&a, &b, NULL, &d));
    assert_near(d, number("cmmd.small"), 1e-10);
    for (int i = 0; i < 12; i++) /* another length, the same direction */
        ((float *)a.data)[i] *= 4;
    assert_ok(sp_cmmd(&b, &a, NULL, &d));
    assert_near(d, number("cmmd.small"), 1e-10);
    assert_ok(sp_cmmd(&a, &a, NULL, &d));
    assert_near(d, 0, 1e-10);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    a = rows("a", 2600, 9, 1), b = rows("b", 530, 9, 0.9);
    assert_ok(sp_cmmd(&a, &b, NULL, &d));
    assert_near(d, number("cmmd.blocks"), 1e-10);
    assert_ok(sp_cmmd(&b, &a, NULL, &d));
    assert_near(d, number("cmmd.blocks"), 1e-10);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

static void test_cmmd_refuses(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 1), other = rows("c", 50, 11, 1);
    double d;
    assert_status(sp_cmmd(&a, &other, NULL, &d), SP_SHAPE);
    assert_status(sp_cmmd(&a, &b, &stopping, &d), SP_CANCELLED);
    memset((float *)b.data + 5 * 12, 0, 12 * sizeof(float));
    assert_status(sp_cmmd(&a, &b, NULL, &d), SP_NUMERIC);
    assert_message("embedding 5 is 0");
    ((float *)b.data)[3] = NAN;
    assert_status(sp_cmmd(&a, &b, NULL, &d), SP_NUMERIC);
    assert_message("element 3");
    b.shape.dim[0] = 0;
    assert_status(sp_cmmd(&a, &b, NULL, &d), SP_SHAPE);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&other);
}

/* ---- neighbours ---- */

/* Several blocks of rows and of columns, which have each pair of their own set once. */
static void test_prdc_of_blocks(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 600, 7, 1), b = rows("b", 1300, 7, 0.9);
    const double *wanted = expected("prdc")->data;
    sp_prdc found;
    assert_ok(sp_prdc_of(&a, &b, 5, NULL, &found));
    for (int i = 0; i < SP_PRDC_COUNT; i++)
        assert_near(found.mean[i], wanted[i], 1e-14);
    sp_prdc_free(&found);
    assert_status(sp_prdc_of(&a, &b, 5, &stopping, &found), SP_CANCELLED);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* ---- embeddings ---- */

enum { LAYERS = 5 };
static const int head_widths[LAYERS + 1] = {768, 1024, 128, 64, 16, 1}, head_numbers[LAYERS] = {0, 2, 4, 6, 7};

static sp_tensor formula(const char *name, sp_shape shape, double factor, double divisor)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    for (int64_t i = 0; i < sp_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(factor * formula_number(name, (uint32_t)i) / divisor);
    return t;
}

/* A head's file, of which layer `spoilt` (-1: none) has another name, or value `bad` in its bias. */
static void save_head(const char *path, int spoilt, float bad)
{
    sp_weights *weights;
    char name[64];
    assert_ok(sp_weights_create(&weights));
    for (int i = 0; i < LAYERS; i++) {
        int number = head_numbers[i] + (i == spoilt && bad == 0);
        snprintf(name, sizeof name, "layers.%d.weight", number);
        assert_ok(sp_weights_add(weights, name, formula(name, sp_shape_of(head_widths[i + 1], head_widths[i]), 4,
                                                        sqrt(head_widths[i]))));
        snprintf(name, sizeof name, "layers.%d.bias", number);
        sp_tensor bias = formula(name, sp_shape_of(head_widths[i + 1]), 1, 1);
        if (i == spoilt && bad != 0) ((float *)bias.data)[0] = bad;
        assert_ok(sp_weights_add(weights, name, bias));
    }
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static void test_aesthetic_head_is_its_layers(void **state)
{
    const char *path = in_folder(state, "head.safetensors");
    sp_tensor embeddings = rows("embeddings", 5, 768, 1), other = rows("embeddings", 5, 512, 1);
    sp_aesthetic_file head;
    double scores[5];
    save_head(path, -1, 0);
    assert_ok(sp_aesthetic_file_open(path, &head));
    assert_int_equal(head.dim, 768);
    assert_int_equal(strlen(head.sha256), 64);
    assert_ok(sp_aesthetic_scores(&head, &embeddings, scores));
    for (int i = 0; i < 5; i++)
        assert_near(scores[i], ((const double *)expected("aesthetic")->data)[i], 1e-13);
    assert_status(sp_aesthetic_scores(&head, &other, scores), SP_SHAPE);
    ((float *)embeddings.data)[768 * 2] = NAN;
    assert_status(sp_aesthetic_scores(&head, &embeddings, scores), SP_NUMERIC);
    assert_message("embedding 2");
    sp_aesthetic_file_free(&head);
    sp_tensor_free(&embeddings);
    sp_tensor_free(&other);
}

static void save_single(const char *path, sp_shape weight, sp_shape bias)
{
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add(weights, "weight", formula("w", weight, 1, 1)));
    assert_ok(sp_weights_add(weights, "bias", formula("b", bias, 1, 1)));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static void test_aesthetic_head_of_one_layer(void **state)
{
    const char *path = in_folder(state, "single.safetensors");
    sp_tensor embedding = rows("embeddings", 1, 2, 1);
    sp_aesthetic_file head;
    double score;
    save_single(path, sp_shape_of(1, 2), sp_shape_of(1));
    assert_ok(sp_aesthetic_file_open(path, &head));
    memcpy(embedding.data, (float[]){3, 4}, 2 * sizeof(float));
    assert_ok(sp_aesthetic_scores(&head, &embedding, &score));
    assert_near(score, 0.6 * formula_number("w", 0) + 0.8 * formula_number("w", 1) + formula_number("b", 0), 1e-15);
    sp_aesthetic_file_free(&head);
    save_single(path, sp_shape_of(1, 2), sp_shape_of(2));
    assert_status(sp_aesthetic_file_open(path, &head), SP_SHAPE);
    save_single(path, sp_shape_of(2, 2), sp_shape_of(2));
    assert_status(sp_aesthetic_file_open(path, &head), SP_UNSUPPORTED);
    sp_tensor_free(&embedding);
}

static sp_status open_head(void *path)
{
    sp_aesthetic_file head;
    SP_TRY(sp_aesthetic_file_open(path, &head));
    sp_aesthetic_file_free(&head);
    return SP_OK;
}

static void test_other_heads_are_refused(void **state)
{
    char path[600];
    snprintf(path, sizeof path, "%s", in_folder(state, "spoilt.safetensors"));
    save_head(path, 0, 0);
    assert_status(open_head(path), SP_UNSUPPORTED);
    assert_message("activations");
    save_head(path, LAYERS - 1, 0);
    assert_status(open_head(path), SP_UNSUPPORTED);
    save_head(path, 1, 0);
    assert_status(open_head(path), SP_FORMAT);
    assert_message("layers.2.weight");
    save_head(path, 2, NAN);
    assert_status(open_head(path), SP_NUMERIC);
    assert_message("layers.4.bias");
    save_single(path, sp_shape_of(1, 2), sp_shape_of(1));
    assert_true(fail_every_allocation(open_head, path) > 10);
}

static void test_cosines_are_scores(void **state)
{
    (void)state;
    sp_tensor images = rows("images", 6, 40, 1), texts = rows("texts", 6, 40, 1), fewer = rows("texts", 5, 40, 1);
    double scores[6];
    assert_ok(sp_cosine_scores(&images, &texts, exp(4.6052), scores));
    for (int i = 0; i < 6; i++)
        assert_near(scores[i], exp(4.6052) * ((const double *)expected("cosines")->data)[i], 1e-12);
    assert_status(sp_cosine_scores(&images, &fewer, 1, scores), SP_SHAPE);
    memset((float *)texts.data + 40 * 4, 0, 40 * sizeof(float));
    assert_status(sp_cosine_scores(&images, &texts, 1, scores), SP_NUMERIC);
    assert_message("embedding 4");
    sp_tensor_free(&images);
    sp_tensor_free(&texts);
    sp_tensor_free(&fewer);
}

/* ---- files ---- */

/* numpy's header of f4 [count,width] in C order, and the elements. */
static void save_npy(const char *path, const sp_tensor *t)
{
    char bytes[128 + 60 * 12 * sizeof(float)];
    int length = snprintf(bytes + 10, 118, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                          (long long)t->shape.dim[0], (long long)t->shape.dim[1]);
    memcpy(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    memset(bytes + 10 + length, ' ', (size_t)(118 - length));
    bytes[127] = '\n';
    memcpy(bytes + 128, t->data, sp_tensor_bytes(t));
    assert_ok(sp_write_file(path, bytes, 128 + sp_tensor_bytes(t)));
}

static void save_safetensors(const char *path, const char *name, const sp_tensor *t)
{
    sp_weights *weights;
    sp_tensor copy;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_tensor_convert(t, SP_F32, &copy));
    assert_ok(sp_weights_add(weights, name, copy));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static double score_of(const char *a, const char *b, const char *metric)
{
    splam_score_options o = splam_score_defaults();
    char *report = NULL;
    o.a = a;
    o.b = b;
    o.metrics = metric;
    o.json = true;
    assert_ok(splam_score(&o, NULL, &report));
    json_t *json = json_loads(report, 0, NULL);
    assert_true(json_is_real(json_object_get(json, metric)));
    double value = json_real_value(json_object_get(json, metric));
    json_decref(json);
    splam_free(report);
    return value;
}

/* The same rows in every kind of file, by the library's own door. */
static void test_features_of_files_are_scored(void **state)
{
    const char *npy = in_folder(state, "a.npy"), *npz = in_folder(state, "b.npz");
    const char *safetensors = in_folder(state, "a.safetensors"), *infinity = in_folder(state, "reps.safetensors");
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5), many = rows("a", 300, 12, 1),
              real = rows("b", 200, 12, 0.5), wide;
    double d;
    assert_ok(sp_tensor_convert(&b, SP_F64, &wide));
    save_npy(npy, &a);
    save_arrays(npz, "hparams", &a, "reps", &wide);
    save_safetensors(safetensors, "feats", &a);
    assert_near(score_of(npy, npz, "cmmd"), number("cmmd.small"), 1e-10);
    assert_near(score_of(npz, safetensors, "cmmd"), number("cmmd.small"), 1e-10);
    assert_ok(sp_frechet_distance(&a, &b, &d));
    assert_near(score_of(safetensors, npz, "fd"), d, 1e-12);
    assert_near(score_of(npy, npz, "fid"), d, 1e-12);
    save_safetensors(safetensors, "feats", &many);
    save_safetensors(infinity, "reps", &real);
    assert_near(score_of(safetensors, infinity, "fd_infinity"), number("fd_infinity.many"), 1e-9);
    assert_near(score_of(safetensors, infinity, "fid_infinity"), number("fd_infinity.many"), 1e-9);
    sp_tensor *const all[] = {&a, &b, &many, &real, &wide};
    for (int i = 0; i < 5; i++)
        sp_tensor_free(all[i]);
}

static void refuse(const char *a, const char *b, const char *metric, const char *words)
{
    splam_score_options o = splam_score_defaults();
    char *report = NULL;
    o.a = a;
    o.b = b;
    o.metrics = metric;
    assert_status(splam_score(&o, NULL, &report), SP_ARGUMENT);
    assert_message(words);
    assert_null(report);
}

static void test_what_has_no_rows_is_refused(void **state)
{
    const char *statistics = in_folder(state, "statistics.safetensors");
    char folder[600];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "pictures"));
    sp_weights *weights;
    sp_image image = formula_picture(5, 4);
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add(weights, "mu", formula("m", sp_shape_of(3), 1, 1)));
    assert_ok(sp_weights_add(weights, "sigma", formula("s", sp_shape_of(3, 3), 1, 1)));
    assert_ok(sp_weights_save(weights, statistics, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    refuse(statistics, statistics, "cmmd", "mean and covariance alone");
    refuse(statistics, statistics, "fd_infinity", "of A, and the file holds mean and covariance");
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; i < 2; i++)
        assert_ok(sp_image_save_png(&image, in(folder, i ? "b.png" : "a.png"), NULL, 0));
    refuse(folder, folder, "fd", "`dino` is missing");
    sp_image_free(&image);
}

/* Cut short anywhere, or with any byte changed, it is read or refused. */
static void test_damaged_npy(void **state)
{
    const char *good = in_folder(state, "good.npy"), *bad = in_folder(state, "bad.npy");
    sp_tensor a = rows("a", 3, 4, 1), read;
    char *bytes;
    size_t size;
    save_npy(good, &a);
    assert_ok(sp_read_file(good, &bytes, &size));
    assert_ok(sp_npy_load(good, &read));
    assert_true(sp_shape_equal(read.shape, a.shape));
    assert_memory_equal(read.data, a.data, sp_tensor_bytes(&a));
    sp_tensor_free(&read);
    for (size_t i = 0; i < size; i++) {
        overwrite(bad, bytes, i);
        assert_true(sp_npy_load(bad, &read) != SP_OK);
        bytes[i] ^= 0x15;
        overwrite(bad, bytes, size);
        if (sp_npy_load(bad, &read) == SP_OK) sp_tensor_free(&read);
        bytes[i] ^= 0x15;
    }
    sp_free(bytes);
    sp_tensor_free(&a);
}

/* ---- memory ---- */

typedef struct {
    sp_tensor a, b, narrow; /* few rows, more than features, rank not full */
} sets;

static sp_status attempt_distances(void *context)
{
    sets *s = context;
    const sp_frechet_side a = of(&s->a), b = of(&s->b), narrow = of(&s->narrow);
    double d;
    SP_TRY(sp_frechet_of_sides(&a, &a, &d));
    SP_TRY(sp_frechet_of_sides(&b, &b, &d));
    SP_TRY(sp_frechet_of_sides(&a, &narrow, &d));
    SP_TRY(sp_fd_infinity(&s->b, &b, 1, NULL, &d));
    return sp_cmmd(&s->a, &s->b, NULL, &d);
}

static void test_distances_starve(void **state)
{
    (void)state;
    sets s = {rows("a", 5, 8, 1), rows("b", 12, 8, 1), rows("c", 12, 8, 1)};
    set_column(&s.narrow, 3, 1);
    assert_true(fail_every_allocation(attempt_distances, &s) > 40);
    sp_tensor_free(&s.a);
    sp_tensor_free(&s.b);
    sp_tensor_free(&s.narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_that_count_more_than_once),
        cmocka_unit_test(test_frechet_of_any_rank),
        cmocka_unit_test(test_frechet_of_a_point),
        cmocka_unit_test(test_frechet_refuses_what_is_not_finite),
        cmocka_unit_test(test_frechet_with_any_threads),
        cmocka_unit_test(test_interval_is_of_drawn_rows),
        cmocka_unit_test(test_interval_can_be_stopped),
        cmocka_unit_test(test_fd_infinity_is_dgm_evals),
        cmocka_unit_test(test_cmmd_is_its_formula),
        cmocka_unit_test(test_cmmd_refuses),
        cmocka_unit_test(test_prdc_of_blocks),
        cmocka_unit_test(test_aesthetic_head_is_its_layers),
        cmocka_unit_test(test_aesthetic_head_of_one_layer),
        cmocka_unit_test(test_other_heads_are_refused),
        cmocka_unit_test(test_cosines_are_scores),
        cmocka_unit_test(test_features_of_files_are_scored),
        cmocka_unit_test(test_what_has_no_rows_is_refused),
        cmocka_unit_test(test_damaged_npy),
        cmocka_unit_test(test_distances_starve),
    };
    return cmocka_run_group_tests(tests, open_distances, close_golden);
}
