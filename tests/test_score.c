/* Scores of pictures against the tools of the field: decoding, resizes, Inception, distances. */
#include "score_support.h"
#include "eval/picture_score.h"
#include <math.h>
#include <splam/splam.h>
#include "base/json.h"
#include "backend/registry.h"
#include "eval/bootstrap.h"
#include "eval/inception_score.h"
#include "eval/kid.h"
#include "eval/numpy_random.h"
#include "eval/prdc.h"
#include "image/resize_float.h"

/* ---- pictures ---- */

static void test_plain_decoding_is_pillows(void **state)
{
    (void)state;
    static const char *const names[] = {"rgba.png",   "la.png",   "palette.png", "grey16.png",
                                        "grey.jpg",   "turned.jpg", "cmyk.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "file.%s", names[i]);
        const sp_tensor *bytes = expected(name);
        snprintf(name, sizeof name, "rgb.%s", names[i]);
        const sp_tensor *rgb = expected(name);
        sp_image image;
        assert_ok(sp_image_decode_plain(bytes->data, sp_tensor_bytes(bytes), names[i], &image));
        assert_int_equal(image.height, rgb->shape.dim[0]);
        assert_int_equal(image.width, rgb->shape.dim[1]);
        if (memcmp(image.pixels, rgb->data, sp_tensor_bytes(rgb))) fail_msg("%s is not as Pillow reads it", names[i]);
        sp_image_free(&image);
    }
}

/* Resize and scale, as the tools feed their networks: tolerances are in grey levels. */
static void test_conventions_are_the_tools(void **state)
{
    (void)state;
    static const int sizes[][2] = {{41, 53}, {640, 357}, {299, 200}};
    static const double most[] = {[SP_CONVENTION_CLEAN] = 0,
                                  [SP_CONVENTION_PYTORCH] = 255e-5,
                                  [SP_CONVENTION_TENSORFLOW] = 255e-5,
                                  [SP_CONVENTION_TORCHMETRICS] = 255e-5};
    const sp_extractor inception = {.kind = &sp_inception_extractor, .side = 299};
    float *out = sp_alloc(3 * 299 * 299 * sizeof *out);
    for (size_t c = 0; c < sizeof most / sizeof *most; c++)
        for (int s = 0; s < 3; s++) {
            const sp_preparation preparation = {(sp_convention)c, SP_TRANSFORM_NONE};
            bool symmetric = c == SP_CONVENTION_PYTORCH;
            char name[64];
            snprintf(name, sizeof name, "resize.%s.%dx%d", sp_convention_name((sp_convention)c), sizes[s][0],
                     sizes[s][1]);
            const sp_tensor *values = expected(name);
            sp_image image = formula_picture(sizes[s][0], sizes[s][1]);
            assert_ok(sp_extractor_prepare(&inception, &preparation, &image, out));
            sp_image_free(&image);
            double apart = 0, scale = symmetric ? 127.5 : 128;
            for (int64_t i = 0; i < sp_tensor_count(values); i++) {
                float v = ((const float *)values->data)[i], wanted = symmetric ? v / 127.5f - 1 : (v - 128) / 128;
                apart = fmax(apart, fabs((double)out[i * 1009] - (double)wanted) * scale);
            }
            if (!(apart <= most[c])) fail_msg("%s is %g grey levels apart", name, apart);
        }
    sp_free(out);
}

/* The crop's offset of an odd surplus is rounded to even, and what is left is made 256 wide in 8 bits. */
static void test_the_middle_is_cut_out(void **state)
{
    (void)state;
    enum { PIXELS = 3 * 299 * 299 };
    const sp_preparation cropped = {SP_CONVENTION_TENSORFLOW, SP_TRANSFORM_CENTER_CROP_256};
    const sp_preparation plain = {SP_CONVENTION_TENSORFLOW, SP_TRANSFORM_NONE};
    const sp_extractor inception = {.kind = &sp_inception_extractor, .side = 299};
    sp_image image = formula_picture(60, 53), square, small;
    float *found = sp_alloc(PIXELS * sizeof *found), *wanted = sp_alloc(PIXELS * sizeof *wanted);
    assert_ok(sp_image_crop(&image, 4, 0, 53, 53, &square)); /* 3.5 */
    assert_ok(sp_image_resize(&square, 256, 256, SP_FILTER_LANCZOS, &small));
    assert_ok(sp_extractor_prepare(&inception, &cropped, &image, found));
    assert_ok(sp_extractor_prepare(&inception, &plain, &small, wanted));
    assert_memory_equal(found, wanted, PIXELS * sizeof *found);
    sp_free(found);
    sp_free(wanted);
    sp_image_free(&image);
    sp_image_free(&square);
    sp_image_free(&small);
}

/* ---- the network ---- */

static double apart(const float *found, const float *wanted, int64_t count, int64_t step)
{
    double most = 0, scale = 0;
    for (int64_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)found[i * step] - (double)wanted[i]));
        scale = fmax(scale, fabs((double)wanted[i]));
    }
    return most / scale;
}

static void test_features_are_pytorchs(void **state)
{
    const char *weights = in_folder(state, "inception.safetensors");
    char folder[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "pictures"));
    sp_extractor inception;
    sp_pictures pictures;
    sp_feature_store store;
    int64_t row[2];
    sp_image image = formula_picture(41, 53);
    assert_ok(write_formula_inception(weights));
    assert_ok(sp_make_folders(folder));
    assert_ok(sp_image_save_png(&image, in(folder, "a.png"), NULL, 0));
    assert_ok(sp_image_save_png(&image, in(folder, "b.png"), NULL, 0));
    sp_image_free(&image);
    assert_ok(sp_extractor_open(SP_EXTRACTOR_INCEPTION, weights, NULL, &inception));
    assert_ok(sp_pictures_open(folder, 0, 0, NULL, &pictures));
    sp_extraction e = {.extractor = &inception, .preparation = &cleanly, .device = sp_default_device()};
    assert_ok(sp_feature_store_open(NULL, &store));
    assert_ok(sp_feature_store_begin(&store, SP_EXTRACTOR_INCEPTION, &inception, &cleanly));
    assert_ok(sp_extract(&e, &pictures, &store, row, NULL));
    const float *f = sp_feature_store_values(&store, 0, row[0]), *l = sp_feature_store_values(&store, 1, row[0]);
    double features = apart(f, expected("features")->data, SP_INCEPTION_FEATURES, 1);
    double logits = apart(l, expected("logits")->data, SP_INCEPTION_CLASSES / 7, 7);
    print_message("relative max error: features %.2e, logits %.2e\n", features, logits);
    assert_true(features < 1e-5);
    assert_true(logits < 1e-5);
    assert_int_equal(row[1], row[0]);
    sp_extraction_free(&e);
    sp_feature_store_close(&store);
    sp_pictures_close(&pictures);
    sp_extractor_close(&inception);
}

/* ---- distances ---- */

static double distance_of(const sp_tensor *a, const sp_tensor *b)
{
    sp_gaussian one, two;
    double d;
    assert_ok(sp_gaussian_fit(a, &one));
    assert_ok(sp_gaussian_fit(b, &two));
    const sp_frechet_side x = {.gaussian = &one}, y = {.gaussian = &two};
    assert_ok(sp_frechet_of_sides(&x, &y, &d));
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
    return d;
}

static void test_frechet_is_pytorch_fids(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    double wanted = *(double *)expected("frechet.many")->data, d;
    assert_near(distance_of(&a, &b), wanted, 1e-10 * wanted);
    assert_ok(sp_frechet_distance(&a, &b, &d));
    assert_near(d, wanted, 1e-10 * wanted);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    a = rows("a", 9, 24, 1), b = rows("b", 14, 24, 0.5);
    wanted = *(double *)expected("frechet.few")->data;
    assert_near(distance_of(&a, &b), wanted, 1e-6 * wanted);
    assert_ok(sp_frechet_distance(&a, &b, &d));
    assert_near(d, wanted, 1e-6 * wanted);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* Covariances over several blocks are those of one pass. */
static void test_blocks_of_rows(void **state)
{
    (void)state;
    sp_tensor all = rows("a", 9000, 3, 1);
    const float *x = all.data;
    sp_gaussian g;
    assert_ok(sp_gaussian_fit(&all, &g));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double sum = 0;
            for (int n = 0; n < 9000; n++)
                sum += ((double)x[3 * n + i] - g.mean[i]) * ((double)x[3 * n + j] - g.mean[j]) / 8999;
            assert_near(g.covariance[3 * i + j], sum, 1e-12);
        }
    sp_gaussian_free(&g);
    sp_tensor_free(&all);
}

static void test_kid_and_is_are_torch_fidelitys(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5), logits = rows("logits", 47, 30, 4);
    const double *kid = expected("kid")->data, *is = expected("is")->data;
    const sp_kid_options options = {7, 20, 2020}, many = {7, 51, 2020};
    double mean, deviation;
    assert_ok(sp_kid(&a, &b, &options, NULL, &mean, &deviation));
    assert_near(mean, kid[0], 1e-12);
    assert_near(deviation, kid[1], 1e-12);
    assert_status(sp_kid(&a, &b, &many, NULL, &mean, &deviation), SP_SHAPE);
    assert_ok(sp_inception_score(&logits, &mean, &deviation));
    assert_near(mean, is[0], 1e-6);
    assert_near(deviation, is[1], 1e-6);
    ((float *)a.data)[17] = NAN;
    assert_status(sp_kid(&a, &b, &options, NULL, &mean, &deviation), SP_NUMERIC);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&logits);
}

static void test_prdc_is_its_authors(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    const double *wanted = expected("prdc")->data;
    sp_prdc found;
    assert_ok(sp_prdc_of(&a, &b, 5, NULL, &found));
    for (int i = 0; i < SP_PRDC_COUNT; i++)
        assert_near(found.mean[i], wanted[i], 1e-15);
    assert_int_equal(found.count[SP_PRDC_DENSITY], 60);
    assert_int_equal(found.count[SP_PRDC_COVERAGE], 50);
    sp_prdc_free(&found);
    assert_status(sp_prdc_of(&a, &b, 50, NULL, &found), SP_SHAPE);
    ((float *)b.data)[7] = INFINITY;
    assert_status(sp_prdc_of(&a, &b, 5, NULL, &found), SP_NUMERIC);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* Of a set and itself each picture has as many within its radius as that is counted in, itself for the one that it
 * reaches to and not beyond: the density is 1, whatever rounding does. More rows than a block has. */
static void test_equal_sets_have_density_one(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 1100, 7, 1);
    float *x = a.data;
    sp_prdc found;
    assert_ok(sp_prdc_of(&a, &a, 3, NULL, &found));
    assert_near(found.mean[SP_PRDC_DENSITY], 1, 1e-12);
    assert_near(found.mean[SP_PRDC_PRECISION] + found.mean[SP_PRDC_RECALL] + found.mean[SP_PRDC_COVERAGE], 3, 0);
    sp_prdc_free(&found);
    for (int i = 1; i < 9; i++)
        memcpy(x + i * 7, x, 7 * sizeof *x); /* nine: their radii are 0, and nothing is nearer */
    assert_ok(sp_prdc_of(&a, &a, 3, NULL, &found));
    assert_near(found.mean[SP_PRDC_COVERAGE], 1091.0 / 1100, 1e-12);
    sp_prdc_free(&found);
    sp_tensor_free(&a);
}

/* ---- intervals ---- */

static void test_interval_of_a_mean(void **state)
{
    (void)state;
    double terms[400];
    sp_interval interval;
    for (int i = 0; i < 400; i++)
        terms[i] = i % 4 == 0;
    assert_ok(sp_bootstrap_mean(terms, 400, 4000, &interval));
    double half = 1.96 * sqrt(0.25 * 0.75 / 400); /* within 5 %: the tails of 4000 resamples */
    assert_near(0.25 - interval.low, half, 0.05 * half);
    assert_near(interval.high - 0.25, half, 0.05 * half);
}

static sp_status attempt_scores(void *context)
{
    const sp_tensor *set = context;
    sp_interval interval;
    sp_prdc prdc;
    SP_TRY(sp_prdc_of(set, set, 3, NULL, &prdc));
    sp_status status = sp_bootstrap_mean(prdc.terms[0], prdc.count[0], 10, &interval);
    sp_prdc_free(&prdc);
    return status;
}

/* Each value has an interval of its own. */
static void test_intervals_belong_to_values(void **state)
{
    (void)state;
    sp_score_result result = {0};
    for (int i = 0; i < 3; i++) {
        sp_score_add(&result, "value", i);
        *sp_score_add_interval(&result) = (sp_interval){i - .5, i + .5};
    }
    for (int i = 0; i < 3; i++)
        assert_true(result.value[i].interval->low == i - .5 && result.value[i].interval->high == i + .5);
    assert_true(isnan(result.value[0].deviation));
    sp_score_result_free(&result);
}

static void test_scores_starve(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 9, 4, 1);
    assert_true(fail_every_allocation(attempt_scores, &a) > 10);
    sp_tensor_free(&a);
}

static void test_permutation_is_numpys(void **state)
{
    (void)state;
    int64_t order[10];
    sp_torch_generator generator;
    sp_torch_seed(&generator, 2020);
    sp_numpy_permutation(&generator, order, 10);
    assert_memory_equal(order, expected("permutation")->data, sizeof order);
}

/* ---- files ---- */

/* mu and sigma = `scale` I of three features. */
static void save_statistics(const char *path, const float mean[3], float scale)
{
    sp_tensor mu, sigma;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(3), &mu));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(3, 3), &sigma));
    for (int i = 0; i < 9; i++)
        ((float *)sigma.data)[i] = i % 4 ? 0 : scale;
    memcpy(mu.data, mean, 3 * sizeof(float));
    save_arrays(path, "mu", &mu, "sigma", &sigma);
    sp_tensor_free(&mu);
    sp_tensor_free(&sigma);
}

/* |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) = 9 + 3 (1 + 4 - 4), by the library's own door. */
static void test_statistics_are_scored(void **state)
{
    splam_score_options o = splam_score_defaults();
    char *report = NULL;
    o.a = in_folder(state, "near.npz");
    o.b = in_folder(state, "far.npz");
    o.json = true;
    save_statistics(o.a, (float[]){0, 0, 0}, 1);
    save_statistics(o.b, (float[]){1, 2, 2}, 4);
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_OK);
    json_t *json = json_loads(report, 0, NULL);
    assert_near(json_number_value(json_object_get(json, "fid")), 12, 1e-12);
    json_decref(json);
    splam_free(report);
    o.metrics = "fid,clip";
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_ARGUMENT);
    assert_null(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_decoding_is_pillows),
        cmocka_unit_test(test_conventions_are_the_tools),
        cmocka_unit_test(test_the_middle_is_cut_out),
        cmocka_unit_test(test_features_are_pytorchs),
        cmocka_unit_test(test_frechet_is_pytorch_fids),
        cmocka_unit_test(test_blocks_of_rows),
        cmocka_unit_test(test_kid_and_is_are_torch_fidelitys),
        cmocka_unit_test(test_prdc_is_its_authors),
        cmocka_unit_test(test_equal_sets_have_density_one),
        cmocka_unit_test(test_interval_of_a_mean),
        cmocka_unit_test(test_intervals_belong_to_values),
        cmocka_unit_test(test_scores_starve),
        cmocka_unit_test(test_permutation_is_numpys),
        cmocka_unit_test(test_statistics_are_scored),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
