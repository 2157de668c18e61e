/* Files that scores are made of, which anybody may have written: statistics, folders, Inception's weights. */
#include "score_support.h"
#include <splam/splam.h>

/* ---- weights ---- */

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
    assert_ok(add_formula(weights, "Mixed_7c.branch1x1.conv.weight", sp_shape_of(320, 2048, 1, 1), 1, 0));
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

/* A file of the first layer alone, its batch norm's scales and variances being these. */
static void save_first_layer(const char *path, double scale, double variance)
{
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    char name[64];
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    assert_ok(add_formula(weights, "Conv2d_1a_3x3.conv.weight", sp_shape_of(32, 3, 3, 3), 1, 0));
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "Conv2d_1a_3x3.bn.%s", parts[i]);
        assert_ok(add_formula(weights, name, sp_shape_of(32), 0, i == 0 ? scale : i == 3 ? variance : 0));
    }
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static void test_impossible_norms_are_refused(void **state)
{
    const char *path = in_folder(state, "norm.safetensors");
    sp_inception_file inception;
    save_first_layer(path, 1, -1);
    assert_status(sp_inception_file_open(path, &inception), SP_FORMAT);
    assert_message("\"Conv2d_1a_3x3\" has a variance of -1");
    save_first_layer(path, 1e38, 0);
    assert_status(sp_inception_file_open(path, &inception), SP_NUMERIC);
    assert_message("Conv2d_1a_3x3: element");
}

/* Up to the second layer, which is missing: all others are read by the same functions. */
static sp_status open_first_layer(void *path)
{
    sp_inception_file inception;
    sp_status status = sp_inception_file_open(path, &inception);
    assert_true(status != SP_OK);
    return status == SP_FORMAT ? SP_OK : status;
}

static void test_weights_starve(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "first.safetensors"));
    save_first_layer(path, 1, 1);
    assert_true(fail_every_allocation(open_first_layer, path) > 20);
}

/* ---- statistics ---- */

static void test_statistics_come_back(void **state)
{
    const char *path = in_folder(state, "saved.npz");
    sp_picture_set set = {.count = 60, .feats = rows("a", 60, 12, 1)}, read;
    assert_ok(sp_picture_set_fit(&set, SP_EXTRACTOR_INCEPTION));
    assert_ok(sp_picture_set_save(&set, &clean_origin, path));
    assert_ok(open_set(path, &read));
    assert_int_equal(read.count, 60);
    assert_memory_equal(read.gaussian.mean, set.gaussian.mean, 12 * sizeof(double));
    assert_memory_equal(read.gaussian.covariance, set.gaussian.covariance, 144 * sizeof(double));
    const sp_feature_origin other = {"inception", "pytorch", "none", NULL};
    const sp_feature_origin cropped = {"inception", "clean", "center-crop-256", NULL};
    assert_ok(sp_picture_set_check(&read, &clean_origin));
    assert_status(sp_picture_set_check(&read, &other), SP_ARGUMENT);
    assert_message("of the convention \"clean\", not \"pytorch\"");
    assert_status(sp_picture_set_check(&read, &cropped), SP_ARGUMENT);
    assert_message("with the transform \"none\", not \"center-crop-256\"");
    sp_picture_set_free(&read);
    sp_picture_set_free(&set);
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

/* Finite numbers that no set of pictures has: the distance to them would be 0 as soon as anything. */
static void test_no_covariances_are_refused(void **state)
{
    static const struct {
        float sigma[9];
        const char *words;
    } cases[] = {
        {{-1, 0, 0, 0, -1, 0, 0, 0, -1}, "the variance -1 at 0"},
        {{1, 5, 0, 0, 1, 0, 0, 0, 1}, "it has 0 at 1, 0 and 5 at 0, 1"},
        {{1, 2, 0, 2, 1, 0, 0, 0, 1}, "eigenvalues below 0"},
        {{1, 1, 0, 1, 1, 0, 0, 0, 0}, NULL}, /* of pictures that are alike */
        {{0, 0, 0, 0, 0, 0, 0, 0, 0}, NULL},
    };
    const char *path = in_folder(state, "sigma.npz");
    sp_tensor x = rows("a", 1, 3, 1), y = rows("b", 3, 3, 1);
    x.shape = sp_shape_of(3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_picture_set set;
        memcpy(y.data, cases[i].sigma, sizeof cases[i].sigma);
        save_arrays(path, "mu", &x, "sigma", &y);
        if (cases[i].words) {
            assert_status(open_set(path, &set), SP_FORMAT);
            assert_message("sigma.npz: array \"sigma\" is no covariance");
            assert_message(cases[i].words);
        } else {
            assert_ok(open_set(path, &set));
            sp_picture_set_free(&set);
        }
    }
    sp_tensor_free(&x);
    sp_tensor_free(&y);
}

static void test_the_first_rows_are_taken(void **state)
{
    const char *path = in_folder(state, "first.npz");
    sp_tensor x = rows("a", 9, 4, 1);
    sp_picture_set set;
    save_arrays(path, "feats", &x, "reps", &x);
    assert_ok(sp_picture_set_open(path, 5, 0, NULL, &set));
    assert_int_equal(set.count, 5);
    assert_true(sp_shape_equal(set.feats.shape, sp_shape_of(5, 4)));
    assert_memory_equal(set.feats.data, x.data, 5 * 4 * sizeof(float));
    sp_picture_set_free(&set);
    sp_tensor_free(&x);
}

/* Every file cut short, and every byte of one changed, is read or refused, and nothing else. */
static void test_damaged_archives(void **state)
{
    const char *path = in_folder(state, "good.npz"), *bad = in_folder(state, "bad.npz");
    static const float sigma[] = {2, 1, 0, 1, 2, 0, 0, 0, 2};
    sp_tensor x = rows("a", 1, 3, 1), y = rows("b", 3, 3, 1);
    sp_picture_set set;
    char *bytes;
    size_t size;
    memcpy(y.data, sigma, sizeof sigma);
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

/* What numpy could have written and means harm, or is nothing that scores are made of (tests/malformed). */
static void test_hostile_archives(void **state)
{
    static const struct {
        const char *name, *message;
        sp_status status;
    } cases[] = {
        {"shape.npz", "too large", SP_FORMAT},       {"shapeless.npz", "cannot be read", SP_FORMAT},
        {"header.npz", "header that is too long", SP_FORMAT}, {"twice.npz", "is there twice", SP_FORMAT},
        {"fortran.npz", "C order", SP_UNSUPPORTED},  {"objects.npz", "another type", SP_UNSUPPORTED},
        {"short.npz", "more elements than the file can hold", SP_FORMAT}, {"cut.npz", "ends before", SP_FORMAT},
        {"long.npz", "goes on behind", SP_FORMAT},   {"empty.npz", "[0]", SP_SHAPE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_picture_set set;
        const char *path = source_path("tests/malformed", cases[i].name, NULL);
        if (sp_picture_set_of_file(path, &set) != cases[i].status || !strstr(sp_error_message(), cases[i].message))
            fail_msg("%s: \"%s\"", cases[i].name, sp_error_message());
        assert_message(cases[i].name);
    }
}

static sp_status load_statistics(void *path)
{
    sp_picture_set set;
    SP_TRY(sp_picture_set_of_file(path, &set));
    sp_picture_set_free(&set);
    return SP_OK;
}

typedef struct {
    const sp_picture_set *set;
    const char *path;
} saving;

static sp_status save_set(void *context)
{
    const saving *s = context;
    return sp_picture_set_save(s->set, &clean_origin, s->path);
}

static sp_status inspect_once(void *path)
{
    splam_inspect_options o = splam_inspect_defaults();
    char *text;
    o.path = path;
    SP_TRY(splam_inspect(&o, &text));
    splam_free(text);
    return SP_OK;
}

static void test_statistics_starve(void **state)
{
    char path[512], other[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "starved.npz"));
    snprintf(other, sizeof other, "%s", in_folder(state, "feats.npz"));
    sp_picture_set set = {.count = 60, .feats = rows("a", 60, 12, 1)};
    sp_tensor *feats = &set.feats;
    assert_ok(sp_picture_set_fit(&set, SP_EXTRACTOR_INCEPTION));
    fail_every_allocation(save_set, &(saving){&set, path});
    assert_true(fail_every_allocation(load_statistics, path) > 5);
    assert_true(fail_every_allocation(inspect_once, path) > 5);
    save_arrays(other, "feats", feats, "more", feats);
    assert_true(fail_every_allocation(load_statistics, other) > 2);
    sp_picture_set_free(&set);
}

static void assert_inspected(const char *path, const char *words)
{
    splam_inspect_options o = splam_inspect_defaults();
    char *text;
    o.path = path;
    if (splam_inspect(&o, &text) != SPLAM_OK) fail_msg("%s", splam_error_message());
    if (!strstr(text, words)) fail_msg("\"%s\" is not in:\n%s", words, text);
    splam_free(text);
}

static void test_they_are_inspected(void **state)
{
    const char *path = in_folder(state, "saved.npz"), *weights = in_folder(state, "few.safetensors");
    sp_tensor convention = rows("a", 1, 12, 1), feats = rows("b", 4, 12, 1);
    sp_weights *few;
    convention.dtype = SP_U8, convention.shape = sp_shape_of(8);
    memcpy(convention.data, "cle\033[2J!", 8);
    save_arrays(path, "feats", &feats, "splam_convention", &convention);
    assert_inspected(path, "rows of 12 features, of 4 pictures\n  convention cle\\x1b[2J!\n");
    assert_ok(sp_weights_create(&few));
    assert_ok(add_formula(few, "layers.mixed_10.conv.weight", sp_shape_of(1), 1, 0));
    assert_ok(sp_weights_save(few, weights, SP_F32, NULL, 0, NULL));
    assert_inspected(weights, "as NVIDIA and clean-fid have them");
    sp_weights_destroy(few);
    assert_ok(sp_weights_create(&few));
    assert_ok(add_formula(few, "Mixed_7c.branch1x1.conv.weight", sp_shape_of(1), 1, 0));
    assert_ok(sp_weights_save(few, weights, SP_F32, NULL, 0, NULL));
    assert_inspected(weights, "as pytorch-fid has them");
    assert_ok(add_formula(few, "AuxLogits.fc.weight", sp_shape_of(1), 1, 0));
    assert_ok(sp_weights_save(few, weights, SP_F32, NULL, 0, NULL));
    assert_inspected(weights, "torchvision's Inception");
    sp_weights_destroy(few);
    sp_tensor_free(&convention);
    sp_tensor_free(&feats);
}

/* ---- features ---- */

enum { WIDTH = 6, CLASSES = 3 };
static const sp_extractor small = {
    .kind = &sp_inception_extractor,
    .sha256 = "abc",
    .side = 8,
    .batch = 2,
    .feature_count = 2,
    .feature = {{"features", WIDTH}, {"logits", CLASSES}},
};

static sp_status begin_store(const char *path, const sp_extractor *extractor, const sp_preparation *preparation,
                             sp_feature_store *out)
{
    SP_TRY(sp_feature_store_open(path, out));
    sp_status status = sp_feature_store_begin(out, SP_EXTRACTOR_INCEPTION, extractor, preparation);
    if (status) sp_feature_store_close(out);
    return status;
}

static float value_of(int row, int feature, int column)
{
    return (float)(row * 100 + feature * 10 + column);
}

/* Adds rows first..end-1 of those by the numbers above. */
static sp_status add_rows(sp_feature_store *s, int first, int end)
{
    SP_TRY(sp_feature_store_reserve(s, end - first));
    for (int i = first; i < end; i++) {
        const sp_picture_key key = sp_picture_key_of(&i, sizeof i);
        int64_t row = sp_feature_store_claim(s, &key);
        for (int k = 0; k < 2; k++)
            for (int c = 0; c < small.feature[k].width; c++)
                sp_feature_store_values(s, k, row)[c] = value_of(i, k, c);
    }
    sp_feature_store_fill(s);
    return SP_OK;
}

static sp_status save_rows(const char *path, int first, int end)
{
    sp_feature_store s;
    SP_TRY(begin_store(path, &small, &cleanly, &s));
    sp_status status = sp_feature_store_end(&s, add_rows(&s, first, end));
    sp_feature_store_close(&s);
    return status;
}

static void test_features_come_back(void **state)
{
    const char *path = in_folder(state, "features.safetensors");
    sp_feature_store s;
    sp_tensor rows;
    assert_ok(save_rows(path, 0, 3));
    assert_ok(save_rows(path, 3, 40));
    assert_ok(begin_store(path, &small, &cleanly, &s));
    assert_int_equal(s.filled, 40);
    for (int i = 0; i < 40; i++) {
        const sp_picture_key key = sp_picture_key_of(&i, sizeof i);
        int64_t row = sp_feature_store_find(&s, &key);
        assert_true(row == i && sp_feature_store_values(&s, 1, row)[2] == value_of(i, 1, 2));
    }
    const sp_picture_key none = sp_picture_key_of("", 0);
    assert_true(sp_feature_store_find(&s, &none) == -1);
    assert_ok(sp_feature_store_gather(&s, 0, (int64_t[]){7, -1, 2, 7}, 4, &rows));
    assert_true(sp_shape_equal(rows.shape, sp_shape_of(3, WIDTH)));
    assert_true(((float *)rows.data)[WIDTH] == value_of(2, 0, 0));
    sp_tensor_free(&rows);
    sp_feature_store_close(&s);
    assert_inspected(path, "inception: 40 pictures, convention clean, transform none\n    sha256 abc\n");
}

/* A row that was claimed and not filled is not saved, whatever went wrong, and the first fault is what is said. */
static void test_half_a_batch_is_not_kept(void **state)
{
    const char *path = in_folder(state, "half.safetensors");
    const sp_picture_key key = sp_picture_key_of("x", 1);
    sp_feature_store s;
    assert_ok(begin_store(path, &small, &cleanly, &s));
    assert_ok(add_rows(&s, 0, 4));
    assert_ok(sp_feature_store_reserve(&s, 1));
    sp_feature_store_claim(&s, &key);
    assert_status(sp_feature_store_end(&s, sp_fail(SP_CANCELLED, "interrupted")), SP_CANCELLED);
    assert_message("interrupted");
    sp_feature_store_close(&s);
    assert_ok(begin_store(path, &small, &cleanly, &s));
    assert_int_equal(s.count, 4);
    sp_feature_store_close(&s);
}

static void test_other_features_are_refused(void **state)
{
    const char *path = in_folder(state, "others.safetensors"), *bad = in_folder(state, "other.safetensors");
    const sp_preparation other = {.convention = SP_CONVENTION_PYTORCH};
    sp_extractor wider = small, trained = small;
    sp_feature_store s;
    wider.feature[1].width++;
    snprintf(trained.sha256, sizeof trained.sha256, "def");
    assert_ok(save_rows(path, 0, 5));
    assert_status(begin_store(path, &small, &other, &s), SP_ARGUMENT);
    assert_message("has features of inception with the convention clean, and these would be with pytorch");
    assert_status(begin_store(path, &trained, &cleanly, &s), SP_ARGUMENT);
    assert_message("with the weights abc, and these would be with def");
    assert_status(begin_store(path, &wider, &cleanly, &s), SP_SHAPE);
    assert_message("\"inception.logits\" is F32 [5,3], expected F32 [5,4]");
    sp_tensor one = rows("a", 1, 12, 1);
    const sp_named_tensor named[] = {{"diffusion.features", &one}};
    static const char *const format[][2] = {{"format", "splam features 1"}};
    static const char *const later[][2] = {{"format", "splam features 2"}};
    assert_ok(sp_safetensors_save(bad, named, 1, format, 1));
    assert_status(begin_store(bad, &small, &cleanly, &s), SP_UNSUPPORTED);
    assert_message("of no network that is known");
    assert_ok(sp_safetensors_save(bad, named, 1, later, 1));
    assert_status(begin_store(bad, &small, &cleanly, &s), SP_UNSUPPORTED);
    assert_ok(sp_safetensors_save(bad, named, 1, NULL, 0));
    assert_status(begin_store(bad, &small, &cleanly, &s), SP_FORMAT);
    assert_message("is no file of features");
    assert_status(begin_store(*state, &small, &cleanly, &s), SP_IO);
    sp_tensor_free(&one);
}

/* Cut short or with a byte changed, the file is refused, or what it says of features is what was saved. */
static void test_damaged_features(void **state)
{
    const char *path = in_folder(state, "whole.safetensors"), *bad = in_folder(state, "cut.safetensors");
    sp_feature_store s;
    char *bytes;
    size_t size, read = 0;
    assert_ok(save_rows(path, 0, 3));
    assert_ok(sp_read_file(path, &bytes, &size));
    for (size_t i = 0; i < size; i++) {
        overwrite(bad, bytes, i);
        assert_true(begin_store(bad, &small, &cleanly, &s) != SP_OK);
    }
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x11;
        overwrite(bad, bytes, size);
        if (begin_store(bad, &small, &cleanly, &s) == SP_OK) {
            read++;
            for (int64_t row = 0; row < s.count; row++)
                assert_true(sp_feature_store_values(&s, 0, row)[1] == value_of((int)row, 0, 1));
            sp_feature_store_close(&s);
        }
        bytes[i] ^= 0x11;
    }
    print_message("%zu of %zu changes are read\n", read, size);
    sp_free(bytes);
}

/* Two rows of one picture are refused; and a key that is not there is not looked for without end where rows are as many
 * as slots once were. */
static void test_rows_of_one_picture(void **state)
{
    const char *path = in_folder(state, "twice.safetensors");
    const sp_picture_key none = sp_picture_key_of("", 0);
    sp_feature_store s;
    assert_ok(save_rows(path, 0, 3));
    assert_ok(save_rows(path, 2, 4));
    assert_status(begin_store(path, &small, &cleanly, &s), SP_FORMAT);
    assert_message("two rows of inception are of one picture");
    path = in_folder(state, "sixteen.safetensors");
    assert_ok(save_rows(path, 0, 16));
    assert_ok(begin_store(path, &small, &cleanly, &s));
    alarm(60);
    assert_true(sp_feature_store_find(&s, &none) == -1);
    alarm(0);
    sp_feature_store_close(&s);
}

static sp_status keep_features(void *path)
{
    unlink(path);
    SP_TRY(save_rows(path, 0, 3));
    return save_rows(path, 3, 30);
}

static void test_features_starve(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "hungry.safetensors"));
    assert_true(fail_every_allocation(keep_features, path) > 40);
    assert_true(fail_every_allocation(inspect_once, path) > 5);
}

/* ---- folders ---- */

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
    assert_true(sp_ends_with(sp_pictures_name(&set.pictures, 0), "/b-a.png"));
    assert_true(sp_ends_with(sp_pictures_name(&set.pictures, 2), "/c.PNG"));
    sp_picture_set_free(&set);
    assert_status(sp_picture_set_open(folder, 4, 0, NULL, &set), SP_ARGUMENT);
    assert_ok(sp_write_file(in_folder(state, "set/x.tif"), "x", 1));
    assert_status(open_set(folder, &set), SP_UNSUPPORTED);
    assert_message("x.tif");
    assert_status(open_set(in_folder(state, "nothing"), &set), SP_IO);
    sp_image_free(&image);
}

static sp_status list_folder(void *path)
{
    sp_picture_set set;
    SP_TRY(open_set(path, &set));
    sp_picture_set_free(&set);
    return SP_OK;
}

static void test_folders_starve(void **state)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "starved"));
    assert_ok(sp_make_folders(in(folder, "below")));
    assert_ok(sp_write_file(in(folder, "a.png"), "x", 1));
    assert_ok(sp_write_file(in(folder, "below/b.png"), "x", 1));
    assert_true(fail_every_allocation(list_folder, folder) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torchscript_is_read),
        cmocka_unit_test(test_other_networks_are_refused),
        cmocka_unit_test(test_impossible_norms_are_refused),
        cmocka_unit_test(test_weights_starve),
        cmocka_unit_test(test_statistics_come_back),
        cmocka_unit_test(test_no_covariances_are_refused),
        cmocka_unit_test(test_the_first_rows_are_taken),
        cmocka_unit_test(test_wrong_arrays_are_refused),
        cmocka_unit_test(test_damaged_archives),
        cmocka_unit_test(test_hostile_archives),
        cmocka_unit_test(test_statistics_starve),
        cmocka_unit_test(test_they_are_inspected),
        cmocka_unit_test(test_features_come_back),
        cmocka_unit_test(test_half_a_batch_is_not_kept),
        cmocka_unit_test(test_other_features_are_refused),
        cmocka_unit_test(test_damaged_features),
        cmocka_unit_test(test_rows_of_one_picture),
        cmocka_unit_test(test_features_starve),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_folders_starve),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
