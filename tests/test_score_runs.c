/* Runs of splam score: features that are kept, stops, sources of pictures, pictures that cannot be read. */
#include "score_support.h"
#include <splam/splam.h>
#include "backend/registry.h"
#include "base/json.h"
#include "data_support.h"
#include "eval/feature_store.h"
#include "models/runner.h"

/* ---- what all of them have: weights, and two folders of pictures ---- */

enum { DRAWN = 12, REAL = 8, BOTH = 3 }; /* BOTH are in both */
static const char *weights, *drawn, *real;
static const char *kept; /* features of all of them, once the stops are tested */

static sp_image numbered_picture(int number)
{
    sp_image image = formula_picture(31 + number % 5, 24 + number % 3);
    for (int i = 0; i < image.width * image.height * 3; i += 1 + number % 4)
        image.pixels[i] = (uint8_t)(image.pixels[i] + 37 * number);
    return image;
}

static void save_picture(const char *path, int number)
{
    sp_image image = numbered_picture(number);
    assert_ok(sp_image_save_png(&image, path, NULL, 0));
    sp_image_free(&image);
}

static const char *make_pictures(const char *folder, int first, int count)
{
    char name[32];
    assert_ok(sp_make_folders(folder));
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "p%04d.png", i);
        save_picture(in(folder, name), first + i);
    }
    return folder;
}

static int make_all(void **state)
{
    static char paths[4][600];
    if (open_golden(state)) return -1;
    const char *const names[] = {"inception.safetensors", "drawn", "real", "kept.safetensors"};
    for (int i = 0; i < 4; i++)
        snprintf(paths[i], sizeof paths[i], "%s", in_folder(state, names[i]));
    weights = paths[0], drawn = paths[1], real = paths[2], kept = paths[3];
    if (write_formula_inception(weights)) return -1;
    make_pictures(drawn, 0, DRAWN);
    make_pictures(real, DRAWN - BOTH, REAL);
    return 0;
}

static splam_score_options all_scores(void)
{
    splam_score_options o = splam_score_defaults();
    o.a = drawn;
    o.b = real;
    o.metrics = "fid,kid,is,prdc";
    o.inception = weights;
    o.json = true;
    return o;
}

/* The report, which splam_free releases. */
static char *scored(const splam_score_options *o)
{
    char *report;
    if (splam_score(o, NULL, &report)) fail_msg("%s", splam_error_message());
    return report;
}

static void assert_report(const splam_score_options *o, const char *wanted)
{
    char *found = scored(o);
    assert_string_equal(found, wanted);
    splam_free(found);
}

/* ---- rows ---- */

static void extract_alone(const sp_extractor *inception, const char *folder, sp_feature_store *store)
{
    sp_extraction e = {.extractor = inception, .preparation = &cleanly, .device = sp_default_device()};
    sp_rejections *left_out = sp_rejections_create();
    int64_t row[DRAWN];
    sp_pictures pictures;
    assert_ok(sp_pictures_open(folder, 0, 0, NULL, &pictures));
    assert_ok(sp_feature_store_open(NULL, store));
    assert_ok(sp_feature_store_begin(store, SP_EXTRACTOR_INCEPTION, inception, &cleanly));
    assert_ok(sp_extract(&e, &pictures, store, row, left_out));
    sp_extraction_free(&e);
    sp_pictures_close(&pictures);
    sp_rejections_destroy(left_out);
}

/* A picture's features do not depend on where in a batch it is, nor on what else is in it: without that, a run that
 * goes on would have other bits. */
static void test_rows_stand_alone(void **state)
{
    char folder[600], name[32];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "turned"));
    assert_ok(sp_make_folders(folder));
    for (int i = 0; i < DRAWN - 1; i++) {
        snprintf(name, sizeof name, "p%04d.png", i);
        save_picture(in(folder, name), DRAWN - 2 - i);
    }
    sp_extractor inception;
    sp_feature_store whole, turned;
    assert_ok(sp_extractor_open(SP_EXTRACTOR_INCEPTION, weights, NULL, &inception));
    extract_alone(&inception, drawn, &whole);
    extract_alone(&inception, folder, &turned);
    for (int64_t i = 0; i < DRAWN - 1; i++) {
        int64_t there = sp_feature_store_find(&whole, &turned.keys[i]);
        assert_true(there == DRAWN - 2 - i);
        for (int k = 0; k < inception.feature_count; k++)
            assert_memory_equal(sp_feature_store_values(&whole, k, there), sp_feature_store_values(&turned, k, i),
                                (size_t)inception.feature[k].width * sizeof(float));
    }
    sp_feature_store_close(&whole);
    sp_feature_store_close(&turned);
    sp_extractor_close(&inception);
}

/* ---- stops ---- */

typedef struct {
    int64_t first, done, stop_at;    /* pictures that are known when something is computed; computed then */
    const char *copy_from, *copy_to; /* the file as a kill would leave it */
} watcher;

static void watch(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    watcher *w = context;
    (void)total, (void)detail;
    if (strcmp(task, "pictures") != 0) return;
    if (!w->first) w->first = done + 1;
    w->done = done + 1 - w->first;
    if (!w->copy_to || w->done < w->stop_at) return;
    assert_ok(sp_copy_file(w->copy_from, w->copy_to, NULL));
    w->copy_to = NULL;
}

static bool stops(void *context)
{
    const watcher *w = context;
    return w->stop_at && w->done >= w->stop_at;
}

/* Stopped after each batch, once more when the scores are measured, and gone on with from the file of a while ago,
 * which a kill leaves. */
static void test_resumed_equals_undisturbed(void **state)
{
    splam_score_options o = all_scores();
    char *whole = scored(&o), *report = NULL, killed[600];
    snprintf(killed, sizeof killed, "%s", in_folder(state, "killed.safetensors"));
    o.features = kept;
    int stopped = 0;
    for (splam_status status = SPLAM_CANCELLED; status == SPLAM_CANCELLED; stopped++) {
        watcher w = {.stop_at = 4, .copy_from = kept, .copy_to = stopped ? NULL : killed};
        const splam_callbacks callbacks = {.context = &w, .report = watch, .cancelled = stops};
        assert_in_range(stopped, 0, 5);
        status = splam_score(&o, &callbacks, &report);
        if (status == SPLAM_OK) break;
        assert_int_equal(status, SPLAM_CANCELLED);
        assert_message("interrupted");
        assert_true(sp_path_exists(kept));
    }
    assert_int_equal(stopped, 3);
    assert_string_equal(report, whole);
    splam_free(report);
    o.features = killed;
    assert_report(&o, whole);
    assert_same_file(killed, kept);
    splam_free(whole);
}

static void test_known_features_cost_nothing(void **state)
{
    (void)state;
    splam_score_options o = all_scores();
    sp_tensor_file *file;
    char *report;
    unsigned long runners = sp_runners_made();
    o.features = kept;
    o.metrics = "kid,prdc";
    o.count = DRAWN - 5;
    splam_free(scored(&o));
    o.b = NULL;
    o.count = SPLAM_UNSET;
    o.metrics = "is";
    splam_free(scored(&o));
    assert_int_equal(sp_runners_made(), runners);
    assert_ok(sp_tensor_file_open(kept, &file));
    const sp_tensor *features = sp_tensor_file_find(file, "inception.features");
    assert_non_null(features);
    assert_int_equal(features->shape.dim[0], DRAWN + REAL - BOTH);
    sp_tensor_file_close(file);
    o.convention = "pytorch";
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_ARGUMENT);
    assert_message("with the convention clean, and these would be with pytorch");
    o.convention = "clean";
    o.transform = "center-crop-256";
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_ARGUMENT);
    assert_message("with the transform none, and these would be with center-crop-256");
}

/* A row of which any byte is another's is refused: of what the network gave, and of the picture that it is of. */
static void test_damaged_rows_are_refused(void **state)
{
    static const char *const parts[] = {"inception.picture", "inception.features", "inception.checksum"};
    splam_score_options o = all_scores();
    char *bytes, *report, *path = sp_strdup(in_folder(state, "damaged.safetensors"));
    size_t size;
    sp_tensor_file *file;
    assert_ok(sp_read_file(kept, &bytes, &size));
    assert_ok(sp_tensor_file_open(kept, &file));
    o.features = path;
    for (int i = 0; i < 3; i++) {
        const sp_tensor *t = sp_tensor_file_find(file, parts[i]);
        char *at = memmem(bytes, size, t->data, sp_tensor_bytes(t));
        assert_non_null(at);
        at[16] ^= 1;
        overwrite(path, bytes, size);
        assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT);
        assert_message("is damaged: row");
        at[16] ^= 1;
    }
    sp_tensor_file_close(file);
    sp_free(bytes);
    sp_free(path);
}

/* ---- sources ---- */

static void add_file(sp_string *tar, const char *folder, int number)
{
    char name[32], *bytes;
    size_t size;
    snprintf(name, sizeof name, "p%04d.png", number);
    assert_ok(sp_read_file(in(folder, name), &bytes, &size));
    tar_add(tar, name, '0', bytes, size);
    sp_free(bytes);
}

static void write_coco(const char *path, int count)
{
    sp_string s = {0};
    sp_string_append_format(&s, "{\"annotations\": [{\"image_id\": 99, \"caption\": \"of none\"}], \"images\": [");
    for (int i = 0; i < count; i++)
        sp_string_append_format(&s, "%s{\"id\": %d, \"file_name\": \"p%04d.png\"}", i ? "," : "", 1000 - i, i);
    sp_string_append_format(&s, "]}");
    assert_ok(sp_write_file(path, s.data, s.length));
    sp_string_free(&s);
}

static char *spec(const char *kind, const char *path, const char *rest)
{
    return sp_format("%s:%s%s", kind, path, rest);
}

/* Tiny pictures without captions, which no data set would take for training. */
static void test_data_sets_are_scored(void **state)
{
    splam_score_options o = all_scores();
    o.metrics = "fid,kid,prdc";
    char *tar_path = sp_strdup(in_folder(state, "real.tar")), *json_path = sp_strdup(in_folder(state, "real.json"));
    o.features = kept;
    char *whole = scored(&o);
    o.count = 7;
    char *few = scored(&o);
    sp_string tar = {0};
    for (int i = 0; i < REAL; i++)
        add_file(&tar, real, i);
    tar_write(&tar, tar_path);
    write_coco(json_path, REAL);
    char *rest = sp_format(",%s", real);
    char *const specs[] = {spec("folder", real, ""), spec("wds", tar_path, ""), spec("coco", json_path, rest)};
    for (int i = 0; i < 3; i++) {
        o.b = specs[i];
        o.count = SPLAM_UNSET;
        assert_report(&o, whole);
        o.count = 7;
        assert_report(&o, few);
        sp_free(specs[i]);
    }
    splam_free(whole);
    splam_free(few);
    sp_free(rest);
    sp_free(tar_path);
    sp_free(json_path);
}

/* emoji: is scored as a folder of its pictures would be, at the size that is asked for. */
static void test_sets_without_files(void **state)
{
    enum { WANTED = 6, SIDE = 40 };
    const sp_dataset_options options = {.resolution = SIDE};
    char folder[600], name[32], *report;
    sp_dataset *emoji;
    sp_image image;
    snprintf(folder, sizeof folder, "%s", in_folder(state, "emoji"));
    assert_ok(sp_make_folders(folder));
    assert_ok(sp_dataset_open("emoji:", &options, NULL, &emoji));
    assert_ok(sp_image_create(SIDE, SIDE, &image));
    for (int i = 0; i < WANTED; i++) {
        snprintf(name, sizeof name, "%02d.png", i);
        assert_ok(sp_dataset_image(emoji, i, image.pixels, NULL));
        assert_ok(sp_image_save_png(&image, in(folder, name), NULL, 0));
    }
    sp_image_free(&image);
    sp_dataset_close(emoji);
    splam_score_options o = all_scores();
    o.b = folder;
    o.metrics = "fid,kid";
    o.count = WANTED;
    char *wanted = scored(&o);
    o.resolution = SIDE;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_ARGUMENT);
    assert_message("`resolution` is for emoji:");
    o.b = "emoji:";
    assert_report(&o, wanted);
    splam_free(wanted);
}

static void test_sources_that_cannot_be_scored(void **state)
{
    splam_score_options o = all_scores();
    char *report, *tar_path = sp_strdup(in_folder(state, "cut.tar"));
    o.b = "latents:there";
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_UNSUPPORTED);
    char *cut = spec("wds", tar_path, ""), *bytes;
    o.b = cut;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT); /* a shard that is not there */
    assert_message("cut.tar");
    sp_string tar = {0};
    size_t size;
    for (int i = 0; i < 4; i++)
        add_file(&tar, real, i);
    tar_write(&tar, tar_path);
    assert_ok(sp_read_file(tar_path, &bytes, &size));
    overwrite(tar_path, bytes, size / 2 + 100);
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT);
    assert_message("damaged");
    sp_free(bytes);
    sp_free(cut);
    sp_free(tar_path);
}

/* ---- pictures that cannot be read ---- */

enum { COPIES = 160 };

/* Copies of four pictures, which cost what four do, and `broken` that are none. */
static void make_mixed(const char *folder, int broken)
{
    char name[32];
    assert_ok(sp_make_folders(folder));
    for (int i = 0; i < COPIES; i++) {
        snprintf(name, sizeof name, "p%04d.png", i);
        if (i < 4)
            save_picture(in(folder, name), i);
        else
            assert_ok(sp_copy_file(in(folder, i % 4 == 0 ? "p0000.png" : i % 4 == 1 ? "p0001.png" :
                                   i % 4 == 2 ? "p0002.png" : "p0003.png"), in(folder, name), NULL));
    }
    for (int i = 0; i < broken; i++) {
        snprintf(name, sizeof name, "broken%d.png", i);
        assert_ok(sp_write_file(in(folder, name), i ? "\x89PNG\r\n\x1a\n and then" : "words", 12));
    }
}

static void test_a_broken_picture_is_said(void **state)
{
    splam_score_options o = all_scores();
    char *folder = sp_strdup(in_folder(state, "mixed")), *report;
    make_mixed(folder, 1);
    o.features = kept;
    o.a = folder;
    o.b = NULL;
    o.metrics = "is";
    report = scored(&o);
    json_t *json = json_loads(report, 0, NULL), *list = json_object_get(json, "unreadable_a");
    assert_int_equal(json_integer_value(json_object_get(json, "count_a")), COPIES);
    assert_int_equal(json_array_size(list), 1);
    const json_t *one = json_array_get(list, 0);
    assert_int_equal(json_integer_value(json_object_get(one, "count")), 1);
    assert_string_equal(json_string_value(json_object_get(one, "reason")), "damaged, or no picture");
    assert_non_null(strstr(json_string_value(json_object_get(one, "example")), "broken0.png"));
    json_decref(json);
    splam_free(report);
    o.json = false;
    report = scored(&o);
    assert_non_null(strstr(report, "A: 160 pictures"));
    assert_non_null(strstr(report, "A, left out: 1 damaged, or no picture ("));
    splam_free(report);
    o.strict = true;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT);
    assert_message("1 of 161 pictures cannot be scored, and `strict` allows none");
    assert_message("broken0.png");
    sp_free(folder);
}

static void test_many_broken_pictures_are_an_error(void **state)
{
    splam_score_options o = all_scores();
    char *folder = sp_strdup(in_folder(state, "broken")), *report;
    char *path = sp_strdup(in_folder(state, "of_broken.safetensors"));
    make_mixed(folder, 3);
    o.a = folder;
    o.b = NULL;
    o.metrics = "is";
    o.features = path;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT);
    assert_message("3 of 163 pictures cannot be scored, and 1 in 100 may be: 3 damaged, or no picture (");
    assert_true(sp_path_exists(path)); /* the others' features are kept */
    unsigned long runners = sp_runners_made();
    assert_ok(sp_remove_tree(in(folder, "broken0.png")));
    assert_ok(sp_remove_tree(in(folder, "broken1.png")));
    splam_free(scored(&o));
    assert_int_equal(sp_runners_made(), runners);
    sp_free(folder);
    sp_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_stand_alone),
        cmocka_unit_test(test_resumed_equals_undisturbed),
        cmocka_unit_test(test_known_features_cost_nothing),
        cmocka_unit_test(test_damaged_rows_are_refused),
        cmocka_unit_test(test_data_sets_are_scored),
        cmocka_unit_test(test_sets_without_files),
        cmocka_unit_test(test_sources_that_cannot_be_scored),
        cmocka_unit_test(test_a_broken_picture_is_said),
        cmocka_unit_test(test_many_broken_pictures_are_an_error),
    };
    return cmocka_run_group_tests(tests, make_all, close_golden);
}
