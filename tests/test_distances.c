/* Distances of sets of features by kernels and neighbours, and files of features, against numpy and the authors'
 * programs. */
#include "score_support.h"
#include <math.h>
#include <splam/splam.h>
#include <sys/stat.h>
#include "base/json.h"
#include "eval/cmmd.h"
#include "eval/prdc.h"

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
    sp_tensor sigma = formula("s", sp_shape_of(3, 3), 1, 1);
    memcpy(sigma.data, (const float[]){2, 1, 0, 1, 2, 0, 0, 0, 2}, 9 * sizeof(float));
    assert_ok(sp_weights_add(weights, "sigma", sigma));
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

static sp_status attempt_cmmd(void *context)
{
    const sp_tensor *sets = context;
    double d;
    return sp_cmmd(&sets[0], &sets[1], NULL, &d);
}

static void test_cmmd_starves(void **state)
{
    (void)state;
    sp_tensor sets[2] = {rows("a", 5, 8, 1), rows("b", 12, 8, 1)};
    assert_true(fail_every_allocation(attempt_cmmd, sets) > 5);
    sp_tensor_free(&sets[0]);
    sp_tensor_free(&sets[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmmd_is_its_formula),
        cmocka_unit_test(test_cmmd_refuses),
        cmocka_unit_test(test_prdc_of_blocks),
        cmocka_unit_test(test_features_of_files_are_scored),
        cmocka_unit_test(test_what_has_no_rows_is_refused),
        cmocka_unit_test(test_damaged_npy),
        cmocka_unit_test(test_cmmd_starves),
    };
    return cmocka_run_group_tests(tests, open_distances, close_golden);
}
