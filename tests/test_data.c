/* Data sets: the emoji of Unicode and Noto, image folders with bad files, the order of samples. */
#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/emoji.h"
#include "image/image.h"
#include "data_support.h"

#define R 64
#define PICTURE (R * R * 3)

static void write_text(void **state, const char *name, const char *text)
{
    assert_ok(sp_write_file(in_folder(state, name), text, strlen(text)));
}

/* ---- emoji ---- */

static sp_dataset *open_emoji(void)
{
    if (!sp_path_exists(sp_emoji_debian_files.font) ||
        !sp_path_exists(sp_emoji_debian_files.names) ||
        !sp_path_exists(sp_emoji_debian_files.keywords)) {
        print_message("skipped: the packages of emoji: are not installed\n");
        skip();
    }
    sp_dataset *ds;
    assert_ok(sp_dataset_open("emoji:", NULL, NULL, &ds));
    return ds;
}

static int64_t find_caption(const sp_dataset *ds, const char *name)
{
    for (int64_t i = 0; i < sp_dataset_count(ds); i++)
        if (!strcmp(sp_dataset_caption(ds, i, 0), name)) return i;
    fail_msg("no emoji \"%s\"", name);
    return -1;
}

static bool has_variant(const sp_dataset *ds, int64_t sample, const char *caption)
{
    for (int v = 0; v < sp_dataset_caption_count(ds, sample); v++)
        if (!strcmp(sp_dataset_caption(ds, sample, v), caption)) return true;
    return false;
}

static void emoji_are_complete(void **state)
{
    (void)state;
    double started = sp_now();
    sp_dataset *ds = open_emoji();
    print_message("opened in %.2f s\n", sp_now() - started);
    sp_rejection rejected[8];
    int64_t count = sp_dataset_count(ds);
    for (size_t i = 0, n = sp_dataset_rejections(ds, rejected, 8); i < n; i++)
        count += rejected[i].count;
    assert_int_equal(count, 3655); /* fully-qualified emoji of Unicode 15.0 */
    assert_true(sp_dataset_count(ds) >= 3600);
    assert_int_equal(sp_dataset_resolution(ds), R);

    sp_dictionary *seen = sp_dictionary_create();
    for (int64_t i = 0; i < sp_dataset_count(ds); i++) {
        assert_null(sp_dictionary_get(seen, sp_dataset_caption(ds, i, 0)));
        assert_ok(sp_dictionary_put(seen, sp_dataset_caption(ds, i, 0), ds));
        assert_null(sp_dictionary_get(seen, sp_dataset_name(ds, i)));
        assert_ok(sp_dictionary_put(seen, sp_dataset_name(ds, i), ds));
    }
    sp_dictionary_destroy(seen);

    int64_t worker = find_caption(ds, "woman office worker: medium skin tone");
    assert_string_equal(sp_dataset_name(ds, worker), "1f469 1f3fd 200d 1f4bc");
    assert_true(has_variant(ds, worker, "woman office worker: medium skin tone, architect"));
    find_caption(ds, "flag: england");
    find_caption(ds, "flag: \xC3\xA5land islands"); /* lower-cased beyond ASCII */
    find_caption(ds, "keycap: #");
    find_caption(ds, "kiss: woman, man, light skin tone, dark skin tone");
    sp_dataset_close(ds);
}

/* A keyword stands alone only where it names one picture; no caption is said twice of one picture. */
static void emoji_captions_identify(void **state)
{
    (void)state;
    sp_dataset *ds = open_emoji();
    sp_dictionary *owner = sp_dictionary_create();
    int64_t alone = 0, all = 0;
    for (int64_t i = 0; i < sp_dataset_count(ds); i++) {
        const char *name = sp_dataset_caption(ds, i, 0);
        for (int v = 0; v < sp_dataset_caption_count(ds, i); v++, all++) {
            const char *caption = sp_dataset_caption(ds, i, v);
            if (sp_dictionary_get(owner, caption)) fail_msg("\"%s\" is said twice", caption);
            assert_ok(sp_dictionary_put(owner, caption, ds));
            alone += !sp_starts_with(caption, name);
        }
    }
    print_message("%lld captions, %lld of them one keyword\n", (long long)all, (long long)alone);
    assert_true(all > 10000 && alone > 500 && alone < all / 2);
    sp_dictionary_destroy(owner);
    sp_dataset_close(ds);
}

static void emoji_are_drawn(void **state)
{
    (void)state;
    sp_dataset *ds = open_emoji();
    uint8_t rgb[PICTURE];
    for (int64_t i = 0; i < sp_dataset_count(ds); i += 7) {
        int64_t used, ink = 0, white = 0;
        assert_ok(sp_dataset_image(ds, i, rgb, &used));
        assert_int_equal(used, i);
        for (int k = 0; k < PICTURE; k += 3) {
            white += rgb[k] == 255 && rgb[k + 1] == 255 && rgb[k + 2] == 255;
            ink += rgb[k] < 200 || rgb[k + 1] < 200 || rgb[k + 2] < 200;
        }
        if (white < 100 || ink < 50) fail_msg("%s is not drawn", sp_dataset_caption(ds, i, 0));
    }
    /* The flag of Japan: a red disc on white. */
    assert_ok(sp_dataset_image(ds, find_caption(ds, "flag: japan"), rgb, NULL));
    const uint8_t *middle = rgb + (R / 2 * R + R / 2) * 3;
    assert_true(middle[0] > 170 && middle[1] < 90 && middle[2] < 90);
    assert_status(sp_dataset_image(ds, sp_dataset_count(ds), rgb, NULL), SP_ARGUMENT);
    sp_dataset_close(ds);
}

/* At sizes above the cached ones pictures are drawn when asked for; halving them must give nearly
 * the same. */
static void emoji_are_drawn_large(void **state)
{
    (void)state;
    sp_dataset *small = open_emoji(), *large;
    sp_dataset_options options = {.resolution = 136};
    assert_ok(sp_dataset_open("emoji:", &options, NULL, &large));
    sp_image image, reduced;
    assert_ok(sp_image_create(136, 136, &image));
    uint8_t rgb[PICTURE];
    for (int64_t i = 0; i < sp_dataset_count(small); i += 371) {
        assert_ok(sp_dataset_image(small, i, rgb, NULL));
        assert_ok(sp_dataset_image(large, i, image.pixels, NULL));
        assert_ok(sp_image_resize(&image, R, R, SP_FILTER_LANCZOS, &reduced));
        assert_memory_equal(rgb, reduced.pixels, PICTURE); /* 136 is the bitmaps' own size */
        sp_image_free(&reduced);
    }
    sp_image_free(&image);
    sp_dataset_close(small);
    sp_dataset_close(large);
}

/* What is held out must not be trained on under another name. */
static void held_out_pictures_are_unseen(void **state)
{
    (void)state;
    sp_dataset *ds = open_emoji();
    uint8_t unseen[PICTURE], seen[PICTURE];
    sp_dictionary *pictures = sp_dictionary_create();
    char key[PICTURE / 16 + 1]; /* every 16th byte, as text without NUL */
    for (int64_t k = 0; k < sp_dataset_training_count(ds); k++) {
        assert_ok(sp_dataset_image(ds, sp_dataset_training_sample(ds, k), seen, NULL));
        for (int i = 0; i < PICTURE / 16; i++)
            key[i] = (char)(seen[i * 16] ? seen[i * 16] : 1);
        key[PICTURE / 16] = 0;
        assert_ok(sp_dictionary_put(pictures, key, ds));
    }
    for (int64_t k = 0; k < sp_dataset_held_out_count(ds); k++) {
        int64_t sample = sp_dataset_held_out_sample(ds, k);
        assert_ok(sp_dataset_image(ds, sample, unseen, NULL));
        for (int i = 0; i < PICTURE / 16; i++)
            key[i] = (char)(unseen[i * 16] ? unseen[i * 16] : 1);
        key[PICTURE / 16] = 0;
        if (sp_dictionary_get(pictures, key)) fail_msg("%s is seen", sp_dataset_caption(ds, sample, 0));
    }
    sp_dictionary_destroy(pictures);
    sp_dataset_close(ds);
}

/* The list is part of what published numbers mean: it may not move by itself. */
static void held_out_is_fixed(void **state)
{
    (void)state;
    static const char *const tones[] = {": light skin tone", ": medium-light skin tone",
                                        ": medium skin tone", ": medium-dark skin tone",
                                        ": dark skin tone"};
    sp_dataset *ds = open_emoji();
    int64_t held_out = sp_dataset_held_out_count(ds), with_tone[5] = {0};
    uint32_t hash = 2166136261u;
    assert_int_equal(held_out + sp_dataset_training_count(ds), sp_dataset_count(ds));
    for (int64_t k = 0; k < held_out; k++) {
        int64_t i = sp_dataset_held_out_sample(ds, k);
        const char *name = sp_dataset_caption(ds, i, 0);
        assert_true(sp_dataset_is_held_out(ds, i));
        assert_non_null(strstr(name, "skin tone"));
        for (const char *c = name; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 16777619u;
        for (int t = 0; t < 5; t++)
            with_tone[t] += strstr(name, tones[t]) != NULL;
        /* The same name in at least one other tone is trained on. */
        const char *colon = strstr(name, ": ");
        int64_t others = 0;
        for (int64_t j = 0; j < sp_dataset_training_count(ds); j++) {
            int64_t other = sp_dataset_training_sample(ds, j);
            assert_false(sp_dataset_is_held_out(ds, other));
            const char *caption = sp_dataset_caption(ds, other, 0);
            others +=
                !strncmp(caption, name, (size_t)(colon + 2 - name)) && strstr(caption, "skin tone");
        }
        assert_true(others >= 4);
    }
    for (int t = 0; t < 5; t++)
        assert_true(with_tone[t] > 0 && with_tone[t] < held_out / 2);
    assert_int_equal(held_out, 178);
    assert_int_equal(hash, 0x339e4603u);
    assert_false(sp_emoji_is_held_out("flag: japan"));
    assert_false(sp_emoji_is_held_out("grinning face"));
    sp_dataset_close(ds);
}

/* Captions of emoji:kinds are subgroups, which many share; pictures and what is held out are emoji:'s. */
static void emoji_kinds_are_shared(void **state)
{
    sp_dataset *named = open_emoji(), *ds;
    assert_ok(sp_dataset_open("emoji:kinds", NULL, NULL, &ds));
    assert_int_equal(sp_dataset_count(ds), sp_dataset_count(named));
    int64_t birds = 0;
    for (int64_t i = 0; i < sp_dataset_count(ds); i++) {
        assert_int_equal(sp_dataset_caption_count(ds, i), 2);
        assert_string_equal(sp_dataset_caption(ds, i, 1), sp_dataset_caption(named, i, 0));
        assert_int_equal(sp_dataset_is_held_out(ds, i), sp_dataset_is_held_out(named, i));
        assert_null(strchr(sp_dataset_caption(ds, i, 0), '-'));
        birds += !strcmp(sp_dataset_caption(ds, i, 0), "animal bird");
    }
    assert_int_equal(birds, 21);
    sp_dataset_close(ds);
    sp_dataset_close(named);

    write_text(state, "names.txt", "1F603 ; fully-qualified # x E1.0 Big Face\n");
    sp_emoji_files files = sp_emoji_debian_kinds;
    files.names = in_folder(state, "names.txt");
    assert_status(sp_dataset_open_kind("emoji:kinds", NULL, sp_emoji_fill, &files, NULL, &ds), SP_FORMAT);
    assert_message("names.txt");
    assert_message("subgroup");
}

/* An absent file is one sentence that names the package to install; a malformed one names the file. */
static void emoji_files_are_named(void **state)
{
    sp_dataset *ds = open_emoji();
    sp_dataset_close(ds);
    static const char *const packages[] = {"fonts-noto-color-emoji", "unicode-data",
                                           "unicode-cldr-core", "unicode-cldr-core"};
    for (int i = 0; i < 4; i++) {
        sp_emoji_files files = sp_emoji_debian_files;
        const char **paths[] = {&files.font, &files.names, &files.keywords,
                                &files.derived_keywords};
        *paths[i] = in_folder(state, "absent");
        assert_status(sp_dataset_open_kind("emoji:", NULL, sp_emoji_fill, &files, NULL, &ds),
                      SP_IO);
        assert_message(packages[i]);
        assert_message(*paths[i]);
    }
    static const char *const bad[] = {
        "1F600 G ; fully-qualified # x E1.0 name\n", "1F600 ; fully-qualified # x E1.0\n",
        "110000 ; fully-qualified # x E1.0 name\n", "1F600 ; fully-qualified # x E1.0 \xFF\n"};
    for (int i = 0; i < 4; i++) {
        write_text(state, "bad.txt", bad[i]);
        sp_emoji_files files = sp_emoji_debian_files;
        files.names = in_folder(state, "bad.txt");
        assert_status(sp_dataset_open_kind("emoji:", NULL, sp_emoji_fill, &files, NULL, &ds),
                      SP_FORMAT);
        assert_message("bad.txt");
    }
    sp_emoji_files files = sp_emoji_debian_files;
    files.font = in_folder(state, "bad.txt");
    assert_status(sp_dataset_open_kind("emoji:", NULL, sp_emoji_fill, &files, NULL, &ds),
                  SP_FORMAT);
    assert_message("bad.txt");
}

/* Two pictures that do not join, a private character, and one that is fine. */
static void emoji_without_one_glyph_are_rejected(void **state)
{
    sp_dataset_close(open_emoji());
    write_text(state, "names.txt",
               "1F600 1F603 ; fully-qualified # x E1.0 two faces\n"
               "E000 ; fully-qualified # x E1.0 private character\n"
               "1F603 ; fully-qualified # x E1.0 Big Face\n"
               "1F604 ; unqualified # x E1.0 not listed\n");
    sp_emoji_files files = sp_emoji_debian_files;
    files.names = in_folder(state, "names.txt");
    sp_dataset *ds;
    assert_ok(sp_dataset_open_kind("emoji:", NULL, sp_emoji_fill, &files, NULL, &ds));
    assert_int_equal(sp_dataset_count(ds), 1);
    assert_string_equal(sp_dataset_caption(ds, 0, 0), "big face");
    assert_int_equal(rejected(ds, "not one glyph in the font"), 2);
    uint8_t rgb[PICTURE];
    assert_ok(sp_dataset_image(ds, 0, rgb, NULL));
    assert_true(rgb[(R / 2 * R + R / 2) * 3] > 100 &&
                rgb[0] == 255); /* its own picture, moved up */
    sp_dataset_close(ds);
}

/* ---- folder ---- */

/* A picture of one colour, so that a test can tell which file it came from. */
static void write_picture(void **state, const char *name, int width, int height, uint8_t shade)
{
    sp_image image;
    assert_ok(sp_image_create(width, height, &image));
    memset(image.pixels, shade, (size_t)width * (size_t)height * 3);
    assert_ok(sp_image_save_png(&image, in_folder(state, name), NULL, 0));
    sp_image_free(&image);
}

static void cut_file(void **state, const char *name, size_t size)
{
    assert_int_equal(truncate(in_folder(state, name), (off_t)size), 0);
}

static sp_status open_folder(void **state, sp_dataset **out)
{
    char *spec = sp_format("folder:%s", (const char *)*state);
    if (!spec) return SP_MEMORY;
    sp_dataset_options options = {.resolution = R};
    sp_status status = sp_dataset_open(spec, &options, NULL, out);
    sp_free(spec);
    return status;
}

static void folder_takes_and_rejects(void **state)
{
    write_picture(state, "a.png", 80, 100, 10);
    write_text(state, "a.txt", "\n  a grey wall \r\nthe same wall\n");
    write_picture(state, "b.PNG", 64, 64, 20);
    write_picture(state, "c.png", 64, 64, 30); /* no caption */
    write_picture(state, "small.png", 31, 400, 40);
    write_text(state, "small.txt", "small");
    write_text(state, "noise.jpg", "this is not a picture");
    write_text(state, "empty.webp", "");
    write_text(state, "animation.gif", "GIF89a");
    write_picture(state, "latin.png", 64, 64, 50);
    write_text(state, "latin.txt", "caf\xE9");
    write_text(state, ".hidden.png", "");
    assert_ok(sp_make_folders(in_folder(state, "sub/deep")));
    write_picture(state, "sub/deep/d.png", 200, 64, 60);
    assert_int_equal(symlink("..", in_folder(state, "sub/loop")), 0);
    write_text(state, "metadata.jsonl",
               "{\"file_name\": \"./b.PNG\", \"text\": \"b from metadata\"}\n"
               "\n"
               "{\"file_name\": \"b.PNG\", \n"
               "[1, 2]\n"
               "{\"file_name\": \"gone.png\", \"text\": \"nothing\"}\n"
               "{\"file_name\": \"c.png\", \"text\": 7}\n");
    write_text(state, "sub/metadata.jsonl",
               "{\"file_name\": \"deep/d.png\", \"text\": [\"one\", 2, \"two\"]}");
    sp_dataset *ds;
    assert_ok(open_folder(state, &ds));
    assert_int_equal(sp_dataset_count(ds), 3);
    assert_string_equal(sp_dataset_name(ds, 0), "a.png");
    assert_string_equal(sp_dataset_name(ds, 1), "b.PNG");
    assert_string_equal(sp_dataset_name(ds, 2), "sub/deep/d.png");
    assert_int_equal(sp_dataset_caption_count(ds, 0), 2);
    assert_string_equal(sp_dataset_caption(ds, 0, 0), "a grey wall");
    assert_string_equal(sp_dataset_caption(ds, 0, 1), "the same wall");
    assert_string_equal(sp_dataset_caption(ds, 1, 0), "b from metadata");
    assert_int_equal(sp_dataset_caption_count(ds, 2), 2);
    assert_string_equal(sp_dataset_caption(ds, 2, 1), "two");
    assert_int_equal(rejected(ds, "no caption"), 1);
    assert_int_equal(rejected(ds, "too small"), 1);
    assert_int_equal(rejected(ds, "unreadable picture"), 2);
    assert_int_equal(rejected(ds, "unreadable caption or .json"), 1);
    assert_int_equal(rejected(ds, "neither JPEG, PNG nor WebP"), 1);
    assert_int_equal(rejected(ds, "malformed metadata.jsonl line"), 3);
    assert_int_equal(rejected(ds, "absent picture named in the metadata"), 1);
    assert_int_equal(sp_dataset_held_out_count(ds), 0);
    uint8_t rgb[PICTURE];
    static const uint8_t shade[] = {10, 20, 60};
    for (int64_t i = 0; i < 3; i++) {
        assert_ok(sp_dataset_image(ds, i, rgb, NULL));
        for (int k = 0; k < PICTURE; k++)
            assert_int_equal(rgb[k], shade[i]);
    }
    sp_string summary = {0};
    sp_dataset_summary(ds, &summary);
    assert_non_null(strstr(sp_string_text(&summary), "10 rejected"));
    assert_non_null(strstr(sp_string_text(&summary), "31x400"));
    sp_string_free(&summary);
    sp_dataset_close(ds);
}

static void folder_replaces_damaged_pictures(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) {
        char picture[16], text[16];
        snprintf(picture, sizeof picture, "%s.png", names[i]);
        snprintf(text, sizeof text, "%s.txt", names[i]);
        write_picture(state, picture, R, R, (uint8_t)(i * 10));
        write_text(state, text, names[i]);
    }
    cut_file(state, "b.png", 60); /* the header stays whole */
    cut_file(state, "d.png", 60);
    sp_dataset *ds;
    assert_ok(open_folder(state, &ds));
    assert_int_equal(sp_dataset_count(ds), 4);
    static const int64_t stand_in[] = {0, 2, 2, 0};
    uint8_t rgb[PICTURE];
    for (int round = 0; round < 2; round++)
        for (int64_t i = 3; i >= 0; i--) {
            int64_t used;
            assert_ok(sp_dataset_image(ds, i, rgb, &used));
            assert_int_equal(used, stand_in[i]);
            assert_int_equal(rgb[0], used * 10);
        }
    assert_int_equal(rejected(ds, "damaged picture (another stands in)"), 2); /* not one per look */
    cut_file(state, "a.png", 0);
    assert_int_equal(unlink(in_folder(state, "c.png")), 0);
    assert_status(sp_dataset_image(ds, 1, rgb, NULL), SP_FORMAT);
    assert_int_equal(rejected(ds, "damaged picture (another stands in)"), 4);
    sp_dataset_close(ds);
}

static void folder_crops_at_random(void **state)
{
    sp_image image;
    assert_ok(sp_image_create(R * 4, R, &image));
    for (int i = 0; i < R * R * 4; i++)
        memset(image.pixels + i * 3, i % (R * 4), 3);
    assert_ok(sp_image_save_png(&image, in_folder(state, "ramp.png"), NULL, 0));
    sp_image_free(&image);
    write_text(state, "ramp.txt", "ramp");
    char *spec = sp_format("folder:%s", (const char *)*state);
    uint8_t rgb[PICTURE], again[PICTURE], first[8];
    for (int seed = 0; seed < 8; seed++) {
        sp_dataset_options options = {.resolution = R, .random_crop = true, .seed = (uint64_t)seed};
        sp_dataset *ds;
        assert_ok(sp_dataset_open(spec, &options, NULL, &ds));
        assert_ok(sp_dataset_image(ds, 0, rgb, NULL));
        assert_ok(sp_dataset_image(ds, 0, again, NULL));
        assert_memory_equal(rgb, again, PICTURE);
        assert_int_equal(rgb[(R - 1) * 3], rgb[0] + R - 1); /* one square of the ramp */
        first[seed] = rgb[0];
        sp_dataset_close(ds);
    }
    int different = 0;
    for (int seed = 1; seed < 8; seed++)
        different += first[seed] != first[0];
    assert_true(different >= 4);
    sp_free(spec);
}

static void folder_without_samples_says_why(void **state)
{
    sp_dataset *ds;
    assert_status(open_folder(state, &ds), SP_FORMAT);
    assert_message("no pictures");
    write_picture(state, "a.png", R, R, 1);
    assert_status(open_folder(state, &ds), SP_FORMAT);
    assert_message("1 no caption");
    assert_null(ds);
}

static sp_status open_and_close(void *state)
{
    sp_dataset *ds;
    sp_status status = open_folder(state, &ds);
    uint8_t rgb[PICTURE];
    if (status != SP_OK) return status;
    status = sp_dataset_image(ds, 0, rgb, NULL);
    sp_dataset_close(ds);
    return status;
}

static void folder_survives_lack_of_memory(void **state)
{
    write_picture(state, "a.png", R, 2 * R, 1);
    write_text(state, "a.txt", "a");
    write_picture(state, "b.png", R, R, 1);
    write_text(state, "metadata.jsonl", "{\"file_name\": \"b.png\", \"text\": [\"b\"]}\n");
    sp_set_threads(1); /* failures are counted per thread */
    assert_true(fail_every_allocation(open_and_close, state) > 20);
    sp_set_threads(0);
}

/* ---- specs and order ---- */

static void specs_are_checked(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "emoji", "emoji:x", "folder:", "wds:", "coco:", "s3://bucket"};
    sp_dataset *ds;
    assert_status(sp_dataset_open("latents:d", NULL, NULL, &ds), SP_UNSUPPORTED);
    assert_message("latents:d");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_status(sp_dataset_open(wrong[i], NULL, NULL, &ds), SP_ARGUMENT);
        assert_message("folder:DIR");
    }
    assert_status(sp_dataset_open("folder:/nonexistent", NULL, NULL, &ds), SP_IO);
    assert_message("/nonexistent");
    sp_dataset_options options = {.resolution = -1};
    assert_status(sp_dataset_open("emoji:", &options, NULL, &ds), SP_ARGUMENT);
    options = (sp_dataset_options){.max_watermark = 0.5};
    assert_status(sp_dataset_open("emoji:", &options, NULL, &ds), SP_ARGUMENT);
    assert_message("`max_watermark`");
}

static bool stop_at_once(void *unused)
{
    (void)unused;
    return true;
}

static void opening_can_be_cancelled(void **state)
{
    sp_callbacks callbacks = {.cancelled = stop_at_once};
    sp_dataset *ds = open_emoji();
    sp_dataset_close(ds);
    assert_status(sp_dataset_open("emoji:", NULL, &callbacks, &ds), SP_CANCELLED);
    assert_null(ds);
    (void)state;
}

static void order_is_a_permutation_per_epoch(void **state)
{
    (void)state;
    enum { COUNT = 101 };
    sp_dataset_order *order, *other;
    assert_ok(sp_dataset_order_create(5, COUNT, &order));
    assert_ok(sp_dataset_order_create(6, COUNT, &other));
    int64_t kept[3 * COUNT];
    int as_other = 0, as_before = 0;
    for (int epoch = 0; epoch < 3; epoch++) {
        bool seen[COUNT] = {0};
        for (int i = 0; i < COUNT; i++) {
            uint64_t position = (uint64_t)(epoch * COUNT + i);
            int64_t at = kept[position] = sp_dataset_order_at(order, position);
            assert_in_range(at, 0, COUNT - 1);
            assert_false(seen[at]);
            seen[at] = true;
            as_other += at == sp_dataset_order_at(other, position);
            as_before += epoch > 0 && at == kept[position - COUNT];
        }
    }
    assert_true(as_other < 20 && as_before < 20);
    for (int position = 3 * COUNT - 1; position >= 0; position -= 37) /* any way through it */
        assert_int_equal(sp_dataset_order_at(order, (uint64_t)position), kept[position]);
    sp_dataset_order_destroy(order);
    sp_dataset_order_destroy(other);
    assert_status(sp_dataset_order_create(0, 0, &order), SP_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emoji_are_complete),
        cmocka_unit_test(emoji_captions_identify),
        cmocka_unit_test(emoji_are_drawn),
        cmocka_unit_test(emoji_are_drawn_large),
        cmocka_unit_test(held_out_is_fixed),
        cmocka_unit_test(held_out_pictures_are_unseen),
        cmocka_unit_test_setup_teardown(emoji_kinds_are_shared, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(emoji_files_are_named, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(emoji_without_one_glyph_are_rejected, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test(opening_can_be_cancelled),
        cmocka_unit_test_setup_teardown(folder_takes_and_rejects, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(folder_replaces_damaged_pictures, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(folder_crops_at_random, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(folder_without_samples_says_why, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(folder_survives_lack_of_memory, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test(specs_are_checked),
        cmocka_unit_test(order_is_a_permutation_per_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
