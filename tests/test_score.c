/* Scores of pictures against the tools of the field: decoding, resizes, Inception, distances, files of statistics. */
#include "support.h"
#include <math.h>
#include <splam/splam.h>
#include "base/json.h"
#include "backend/registry.h"
#include "eval/inception_score.h"
#include "eval/kid.h"
#include "eval/numpy_random.h"
#include "eval/picture_set.h"
#include "formats/npz.h"
#include "image/resize_float.h"
#include "inception_support.h"

static sp_tensor_file *file; /* the golden one */

static int open_golden(void **state)
{
    if (sp_tensor_file_open(golden("inception.safetensors"), &file)) return -1;
    return make_test_folder(state);
}

static int close_golden(void **state)
{
    sp_tensor_file_close(file);
    return remove_test_folder(state);
}

static const sp_tensor *expected(const char *name)
{
    const sp_tensor *t;
    assert_ok(sp_tensor_file_get(file, name, &t));
    return t;
}

static sp_image formula_picture(int width, int height)
{
    sp_image image;
    assert_ok(sp_image_create(width, height, &image));
    for (int i = 0; i < width * height * 3; i++) {
        int c = i % 3, x = i / 3 % width, y = i / 3 / width;
        image.pixels[i] = (uint8_t)((x * 7 + y * 13 + c * 50) ^ (x * y));
    }
    return image;
}

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

static void test_resizes_are_the_tools(void **state)
{
    (void)state;
    static const int sizes[][2] = {{41, 53}, {640, 357}, {299, 200}};
    static const struct {
        const char *name;
        sp_float_resize how;
        double most; /* grey levels apart */
    } ways[] = {{"clean", SP_RESIZE_PILLOW_BICUBIC, 0},
                {"pytorch", SP_RESIZE_TORCH_BILINEAR, 255e-5},
                {"tensorflow", SP_RESIZE_TF1_BILINEAR, 255e-5},
                {"torchmetrics", SP_RESIZE_TORCH_ANTIALIAS, 255e-5}};
    float *out = sp_alloc(3 * 299 * 299 * sizeof *out);
    for (int w = 0; w < 4; w++)
        for (int s = 0; s < 3; s++) {
            char name[64];
            snprintf(name, sizeof name, "resize.%s.%dx%d", ways[w].name, sizes[s][0], sizes[s][1]);
            const sp_tensor *values = expected(name);
            sp_image image = formula_picture(sizes[s][0], sizes[s][1]);
            assert_ok(sp_image_resize_float(&image, 299, ways[w].how, out));
            sp_image_free(&image);
            double most = 0;
            for (int64_t i = 0; i < sp_tensor_count(values); i++)
                most = fmax(most, fabs((double)out[i * 1009] - (double)((float *)values->data)[i]));
            if (!(most <= ways[w].most)) fail_msg("%s is %g grey levels apart", name, most);
        }
    sp_free(out);
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
    const char *weights = in_folder(state, "inception.safetensors"), *picture = in_folder(state, "a.png");
    const char *const paths[] = {picture, picture};
    sp_inception_file inception;
    sp_inception_features found;
    sp_image image = formula_picture(41, 53);
    assert_ok(write_formula_inception(weights));
    assert_ok(sp_image_save_png(&image, picture, NULL, 0));
    sp_image_free(&image);
    assert_ok(sp_inception_file_open(weights, &inception));
    assert_ok(sp_inception_features_of(&inception, SP_CONVENTION_CLEAN, paths, 2, sp_default_device(), NULL, &found));
    const float *f = found.features.data, *l = found.logits.data;
    double features = apart(f, expected("features")->data, SP_INCEPTION_FEATURES, 1);
    double logits = apart(l, expected("logits")->data, SP_INCEPTION_CLASSES / 7, 7);
    print_message("relative max error: features %.2e, logits %.2e\n", features, logits);
    assert_true(features < 1e-5);
    assert_true(logits < 1e-5);
    assert_memory_equal(f, f + SP_INCEPTION_FEATURES, SP_INCEPTION_FEATURES * sizeof *f);
    sp_inception_features_free(&found);
    sp_inception_file_free(&inception);
}

/* Objects are folders of names; a tensor that is not contiguous is copied. */
static void test_torchscript_is_read(void **state)
{
    const char *path = in_folder(state, "script.pt");
    const sp_tensor *bytes = expected("script.pt"), *weight, *odd, *bias;
    sp_tensor_file *script;
    assert_ok(sp_write_file(path, bytes->data, sp_tensor_bytes(bytes)));
    assert_ok(sp_tensor_file_open(path, &script));
    assert_ok(sp_tensor_file_get(script, "layers.conv.weight", &weight));
    assert_ok(sp_tensor_file_get(script, "layers.conv.odd", &odd));
    assert_ok(sp_tensor_file_get(script, "bias", &bias));
    assert_true(sp_shape_equal(weight->shape, sp_shape_of(2, 3)));
    assert_true(((const float *)weight->data)[5] == 5);
    assert_true(((const float *)odd->data)[1] == 2);
    assert_true(((const float *)bias->data)[1] == -2);
    sp_tensor_file_close(script);
    char *changed = sp_alloc(sp_tensor_bytes(bytes));
    memcpy(changed, bytes->data, sp_tensor_bytes(bytes));
    for (size_t i = 0; i < sp_tensor_bytes(bytes); i += 3) { /* damaged: read or refused */
        changed[i] ^= 0x15;
        assert_ok(sp_write_file(path, changed, sp_tensor_bytes(bytes)));
        if (sp_tensor_file_open(path, &script) == SP_OK) sp_tensor_file_close(script);
        changed[i] ^= 0x15;
    }
    sp_free(changed);
}

static void test_other_networks_are_refused(void **state)
{
    const char *path = in_folder(state, "other.safetensors");
    sp_inception_file inception;
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    assert_ok(add_formula(weights, "fc.weight", sp_shape_of(1000, 2048), 1, 0));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_inception_file_open(path, &inception), SP_UNSUPPORTED);
    assert_message("torchvision");
    assert_ok(add_formula(weights, "fc.weight", sp_shape_of(1008, 2048), 1, 0));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_inception_file_open(path, &inception), SP_FORMAT);
    assert_message("\"Conv2d_1a_3x3.conv.weight\" is missing");
    sp_weights_destroy(weights);
}

/* ---- distances ---- */

/* factor u + v^2 of the numbers of NAME and NAME'. */
static sp_tensor rows(const char *name, int64_t count, int64_t width, double factor)
{
    char other[32];
    sp_tensor t;
    snprintf(other, sizeof other, "%s'", name);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(count, width), &t));
    for (int64_t i = 0; i < count * width; i++) {
        double v = formula_number(other, (uint32_t)i);
        ((float *)t.data)[i] = (float)(factor * formula_number(name, (uint32_t)i) + v * v);
    }
    return t;
}

static double distance_of(const sp_tensor *a, const sp_tensor *b)
{
    sp_gaussian one, two;
    double d;
    assert_ok(sp_gaussian_fit(a, &one));
    assert_ok(sp_gaussian_fit(b, &two));
    assert_ok(sp_gaussian_distance(&one, &two, &d));
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
    return d;
}

static void assert_near(double found, double wanted, double tolerance)
{
    if (!(fabs(found - wanted) <= tolerance)) fail_msg("%.15g is not %.15g within %g", found, wanted, tolerance);
}

static void test_frechet_is_pytorch_fids(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    double wanted = *(double *)expected("frechet.many")->data, d;
    assert_near(distance_of(&a, &b), wanted, 1e-10 * wanted);
    assert_ok(sp_frechet_distance(&a, &b, &d));
    assert_near(d, wanted, 1e-10 * wanted);
    assert_ok(sp_frechet_of_few(&a, &b, &d));
    assert_near(d, wanted, 1e-10 * wanted);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    a = rows("a", 9, 24, 1), b = rows("b", 14, 24, 0.5);
    wanted = *(double *)expected("frechet.few")->data;
    assert_near(distance_of(&a, &b), wanted, 1e-6 * wanted);
    assert_ok(sp_frechet_of_few(&a, &b, &d));
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

static sp_status open_set(const char *path, sp_picture_set *out)
{
    return sp_picture_set_open(path, 0, SP_CONVENTION_CLEAN, NULL, out);
}

static void test_statistics_come_back(void **state)
{
    const char *path = in_folder(state, "saved.npz");
    sp_picture_set set = {.count = 60, .features = {.features = rows("a", 60, 12, 1)}}, read;
    assert_ok(sp_picture_set_fit(&set));
    assert_ok(sp_picture_set_save(&set, SP_CONVENTION_CLEAN, "abc", path));
    assert_ok(open_set(path, &read));
    assert_int_equal(read.count, 60);
    assert_memory_equal(read.gaussian.mean, set.gaussian.mean, 12 * sizeof(double));
    assert_memory_equal(read.gaussian.covariance, set.gaussian.covariance, 144 * sizeof(double));
    sp_picture_set_free(&read);
    assert_status(sp_picture_set_open(path, 0, SP_CONVENTION_PYTORCH, NULL, &read), SP_ARGUMENT);
    assert_message("convention");
    set.count = 0;
    sp_picture_set_free(&set);
}

static void save_arrays(const char *path, const char *one, sp_tensor *x, const char *two, sp_tensor *y)
{
    const sp_named_tensor named[] = {{one, x}, {two, y}};
    assert_ok(sp_npz_save(path, named, 2));
}

static void test_wrong_arrays_are_refused(void **state)
{
    const char *path = in_folder(state, "wrong.npz");
    sp_picture_set set;
    sp_tensor x = rows("a", 1, 12, 1), y = rows("b", 11, 12, 1);
    save_arrays(path, "mu", &x, "sigma", &y);
    assert_status(open_set(path, &set), SP_SHAPE);
    x.shape = sp_shape_of(12);
    save_arrays(path, "mu", &x, "sigma", &y);
    assert_status(open_set(path, &set), SP_SHAPE);
    assert_message("[11,12]");
    save_arrays(path, "mean", &x, "covariance", &y);
    assert_status(open_set(path, &set), SP_SHAPE);
    assert_message("missing");
    ((float *)y.data)[5] = NAN;
    save_arrays(path, "mu", &x, "feats", &y);
    assert_status(open_set(path, &set), SP_NUMERIC);
    y.shape = sp_shape_of(132);
    save_arrays(path, "mu", &x, "feats", &y);
    assert_status(open_set(path, &set), SP_SHAPE);
    sp_tensor_free(&x);
    sp_tensor_free(&y);
}

/* Every file cut short, and every byte of one changed, is read or refused, and nothing else. */
static void test_damaged_archives(void **state)
{
    const char *path = in_folder(state, "good.npz"), *bad = in_folder(state, "bad.npz");
    sp_tensor x = rows("a", 1, 3, 1), y = rows("b", 3, 3, 1);
    sp_picture_set set;
    char *bytes;
    size_t size;
    x.shape = sp_shape_of(3);
    save_arrays(path, "mu", &x, "sigma", &y);
    assert_ok(sp_read_file(path, &bytes, &size));
    for (size_t i = 0; i < size; i++) {
        assert_ok(sp_write_file(bad, bytes, i));
        assert_true(open_set(bad, &set) != SP_OK);
    }
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x41;
        assert_ok(sp_write_file(bad, bytes, size));
        if (open_set(bad, &set) == SP_OK) sp_picture_set_free(&set);
        bytes[i] ^= 0x41;
    }
    sp_free(bytes);
    sp_tensor_free(&x);
    sp_tensor_free(&y);
}

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

static void test_folders(void **state)
{
    const char *folder = in_folder(state, "set"), *deep = in_folder(state, "set/b");
    sp_image image = formula_picture(5, 4);
    sp_picture_set set;
    assert_ok(sp_make_folders(deep));
    assert_ok(sp_image_save_png(&image, in_folder(state, "set/c.PNG"), NULL, 0));
    assert_status(open_set(folder, &set), SP_IO);
    assert_message("1 pictures");
    assert_ok(sp_image_save_png(&image, in_folder(state, "set/b/a.png"), NULL, 0));
    assert_ok(sp_image_save_png(&image, in_folder(state, "set/b-a.png"), NULL, 0));
    assert_ok(sp_write_file(in_folder(state, "set/words.txt"), "x", 1));
    assert_ok(open_set(folder, &set));
    assert_int_equal(set.count, 3);
    assert_true(sp_ends_with(set.paths[0], "/b-a.png"));
    assert_true(sp_ends_with(set.paths[2], "/c.PNG"));
    sp_picture_set_free(&set);
    assert_status(sp_picture_set_open(folder, 4, SP_CONVENTION_CLEAN, NULL, &set), SP_ARGUMENT);
    assert_ok(sp_write_file(in_folder(state, "set/x.tif"), "x", 1));
    assert_status(open_set(folder, &set), SP_UNSUPPORTED);
    assert_message("x.tif");
    assert_status(open_set(in_folder(state, "nothing"), &set), SP_IO);
    sp_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_decoding_is_pillows),
        cmocka_unit_test(test_resizes_are_the_tools),
        cmocka_unit_test(test_features_are_pytorchs),
        cmocka_unit_test(test_torchscript_is_read),
        cmocka_unit_test(test_other_networks_are_refused),
        cmocka_unit_test(test_frechet_is_pytorch_fids),
        cmocka_unit_test(test_blocks_of_rows),
        cmocka_unit_test(test_kid_and_is_are_torch_fidelitys),
        cmocka_unit_test(test_permutation_is_numpys),
        cmocka_unit_test(test_statistics_come_back),
        cmocka_unit_test(test_wrong_arrays_are_refused),
        cmocka_unit_test(test_damaged_archives),
        cmocka_unit_test(test_statistics_are_scored),
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
