/* Tar shards and COCO's captions, the filters on their fields, and everything that may be wrong
 * with them. */
#include "base/log.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/dataset.h"
#include "data/shard_names.h"
#include "data_support.h"

#define R 32
#define PICTURE (R * R * 3)

static sp_status open_with(void **state, const char *format, sp_dataset_options options,
                           sp_dataset **out)
{
    char spec[1024];
    snprintf(spec, sizeof spec, format, (const char *)*state, (const char *)*state);
    options.resolution = R;
    return sp_dataset_open(spec, &options, NULL, out);
}

static sp_status open_shards(void **state, const char *names, sp_dataset **out)
{
    char format[512];
    snprintf(format, sizeof format, "wds:%%s/%s", names);
    return open_with(state, format, (sp_dataset_options){0}, out);
}

static void assert_shade(sp_dataset *ds, int64_t sample, int shade)
{
    uint8_t rgb[PICTURE];
    int64_t used;
    assert_ok(sp_dataset_image(ds, sample, rgb, &used));
    assert_int_equal(used, sample);
    for (int i = 0; i < PICTURE; i++)
        assert_int_equal(rgb[i], shade);
}

/* ---- shards ---- */

static void samples_are_taken(void **state)
{
    sp_string tar = {0};
    tar_add(&tar, "folder", '5', "", 0);
    tar_picture(&tar, "000.png", R, 2 * R, 10);
    tar_text(&tar, "000.txt", " a wall\nof two lines\x1b[31m\n");
    tar_text(&tar, "000.json", "{\"caption\": \"not this\"}");
    tar_text(&tar, "001.json", "{\"caption\": \"from json\", \"width\": 40, \"height\": 50}");
    tar_picture(&tar, "001.jpg", R, R, 20);
    tar_text(&tar, "001.cls", "7");
    tar_text(&tar, "001.txt", "");
    tar_picture(&tar, "../../etc/passwd.webp", R, R, 30); /* a name is no path */
    tar_text(&tar, "../../etc/passwd.txt", "traversal");
    tar_picture(&tar, "/b.c/two.PNG", R, R, 40); /* the key ends behind the last slash */
    tar_text(&tar, "/b.c/two.TXT", "two");
    tar_write(&tar, in_folder(state, "a.tar"));
    sp_dataset *ds;
    assert_ok(open_shards(state, "a.tar", &ds));
    assert_int_equal(sp_dataset_count(ds), 4);
    assert_int_equal(sp_dataset_rejected(ds), 0);
    assert_string_equal(sp_dataset_caption(ds, 0, 0), "a wall of two lines [31m");
    assert_int_equal(sp_dataset_caption_count(ds, 0), 1);
    assert_string_equal(sp_dataset_caption(ds, 1, 0), "from json");
    assert_string_equal(sp_dataset_caption(ds, 2, 0), "traversal");
    assert_string_equal(sp_dataset_caption(ds, 3, 0), "two");
    assert_true(sp_ends_with(sp_dataset_name(ds, 3), "a.tar//b.c/two.PNG"));
    for (int i = 3; i >= 0; i--)
        assert_shade(ds, i, 10 * (i + 1));
    sp_dataset_close(ds);
}

static void samples_are_rejected(void **state)
{
    static const char *const broken[] = {"{\"caption\": ", "[1]", "{\"a\": 1e}",
                                         "{\"a\": nan}", "\xff"};
    sp_string tar = {0};
    char name[32];
    tar_picture(&tar, "nothing.png", R, R, 1);
    tar_text(&tar, "alone.txt", "no picture");
    tar_picture(&tar, "small.png", R / 2 - 1, 200, 1);
    tar_text(&tar, "small.txt", "small");
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "json%d.png", i);
        tar_picture(&tar, name, R, R, 1);
        snprintf(name, sizeof name, "json%d.txt", i);
        tar_text(&tar, name, "text");
        snprintf(name, sizeof name, "json%d.json", i);
        tar_text(&tar, name, broken[i]);
    }
    tar_picture(&tar, "latin.png", R, R, 1);
    tar_text(&tar, "latin.txt", "caf\xE9");
    tar_text(&tar, "noise.jpg", "this is not a picture");
    tar_text(&tar, "noise.txt", "noise");
    tar_add(&tar, "link.png", '2', "", 0);
    tar_text(&tar, "link.txt", "a link to a file outside");
    tar_picture(&tar, "twice.png", R, R, 77);
    tar_text(&tar, "twice.txt", "twice");
    tar_picture(&tar, "twice.jpg", R, R, 88);
    tar_text(&tar, ".hidden.png", "begins with a dot");
    tar_text(&tar, "bad\x1b]0;name.txt", "escape sequences in names stay out of reports");
    tar_write(&tar, in_folder(state, "a.tar"));
    sp_dataset *ds;
    assert_ok(open_shards(state, "a.tar", &ds));
    assert_int_equal(sp_dataset_count(ds), 1);
    assert_shade(ds, 0, 77);
    assert_int_equal(rejected(ds, "no caption"), 1);
    assert_int_equal(rejected(ds, "no picture"), 3);
    assert_int_equal(rejected(ds, "too small"), 1);
    assert_int_equal(rejected(ds, "unreadable caption or .json"), 6);
    assert_int_equal(rejected(ds, "unreadable picture"), 1);
    assert_int_equal(rejected(ds, "second file of a kind in one sample"), 1);
    assert_int_equal(sp_dataset_rejected(ds), 13);
    sp_string summary = {0};
    sp_dataset_summary(ds, &summary);
    assert_null(strchr(sp_string_text(&summary), '\x1b'));
    sp_string_free(&summary);
    sp_dataset_close(ds);
}

/* name.tar with one sample of this shade. */
static void write_shard(void **state, const char *name, uint8_t shade)
{
    sp_string tar = {0};
    tar_picture(&tar, "k.png", R, R, shade);
    tar_text(&tar, "k.txt", name);
    tar_write(&tar, in_folder(state, name));
}

static void bad_shards_are_named(void **state)
{
    static const char zeros[1024];
    sp_string tar = {0};
    write_shard(state, "00.tar", 10);
    write_shard(state, "05.tar", 50);
    assert_ok(sp_write_file(in_folder(state, "01.tar"), "", 0));
    assert_ok(sp_write_file(in_folder(state, "02.tar"), zeros, sizeof zeros));
    assert_ok(sp_write_file(in_folder(state, "03.tar"), "garbage", 7));
    assert_ok(sp_write_file(in_folder(state, "04.tar"), "\x1f\x8b\x08 packed", 10));
    assert_ok(sp_make_folders(in_folder(state, "06.tar")));
    tar_picture(&tar, "first.png", R, R, 70);
    tar_text(&tar, "first.txt", "whole");
    tar_picture(&tar, "second.png", 300, 300, 71);
    size_t cut = tar.length - 600;
    tar_write(&tar, in_folder(state, "07.tar"));
    assert_int_equal(truncate(in_folder(state, "07.tar"), (off_t)cut), 0);
    sp_dataset *ds;
    assert_ok(open_shards(state, "{00..08}.tar", &ds));
    assert_int_equal(sp_dataset_count(ds), 3);
    for (int i = 0; i < 3; i++)
        assert_shade(ds, i, ((int[]){10, 50, 70})[i]);
    assert_int_equal(rejected(ds, "empty shard"), 2);
    assert_int_equal(rejected(ds, "shard that is no plain tar file"), 2);
    assert_int_equal(rejected(ds, "shard that cannot be opened"), 2); /* a folder, and 08 */
    assert_int_equal(rejected(ds, "damaged shard (what stands before is kept)"), 1);
    sp_dataset_close(ds);
    assert_status(open_shards(state, "{01..04}.tar", &ds), SP_FORMAT);
    assert_message("2 empty shard, 2 shard that is no plain tar file");
    assert_status(open_shards(state, "x*.tar", &ds), SP_ARGUMENT);
    assert_message("no file matches");
}

static void pictures_may_be_damaged_later(void **state)
{
    sp_string tar = {0};
    size_t size, before[3];
    for (int i = 0; i < 3; i++) {
        char name[16];
        uint8_t *png = grey_png(R, R, (uint8_t)(10 * i), &size);
        before[i] = tar.length + 512;
        if (i == 1) png[size - 20] ^= 1; /* the header stays whole */
        snprintf(name, sizeof name, "%d.png", i);
        tar_add(&tar, name, '0', png, size);
        snprintf(name, sizeof name, "%d.txt", i);
        tar_text(&tar, name, name);
        sp_free(png);
    }
    tar_write(&tar, in_folder(state, "a.tar"));
    sp_dataset *ds;
    uint8_t rgb[PICTURE];
    int64_t used;
    assert_ok(open_shards(state, "a.tar", &ds));
    assert_int_equal(sp_dataset_count(ds), 3);
    for (int round = 0; round < 2; round++) {
        assert_ok(sp_dataset_image(ds, 1, rgb, &used));
        assert_int_equal(used, 2);
        assert_int_equal(rgb[0], 20);
    }
    assert_int_equal(rejected(ds, "damaged picture (another stands in)"), 1);
    assert_int_equal(truncate(in_folder(state, "a.tar"), (off_t)before[2]), 0);
    assert_ok(sp_dataset_image(ds, 2, rgb, &used));
    assert_int_equal(used, 0);
    sp_dataset_close(ds);
}

static void shard_patterns_expand(void **state)
{
    static const struct {
        const char *pattern, *expected;
    } cases[] = {
        {"a.tar", "a.tar"},
        {"{8..11}", "8 9 10 11"},
        {"{008..010}.tar", "008.tar 009.tar 010.tar"},
        {"{2..0}", "2 1 0"},
        {"x{a,b{1..2},}y", "xay xb1y xb2y xy"},
        {"{1..2}{a,b}", "1a 1b 2a 2b"},
        {"{a}", "a"},
        {"{1..x}", "1..x"},
    };
    char **names;
    size_t count;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_string all = {0};
        assert_ok(sp_shard_names(cases[i].pattern, &names, &count));
        for (size_t k = 0; k < count; k++) {
            sp_string_append_format(&all, "%s%s", k ? " " : "", names[k]);
            sp_free(names[k]);
        }
        sp_free(names);
        assert_string_equal(sp_string_text(&all), cases[i].expected);
        sp_string_free(&all);
    }
    static const char *const wrong[] = {
        "{a", "a}", "{{a}", "{0..999999999}", "{0..999}{0..9999}", "/nonexistent/*"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_status(sp_shard_names(wrong[i], &names, &count), SP_ARGUMENT);
    char deep[1000];
    memset(deep, '{', 400);
    memset(deep + 400, '}', 400);
    deep[800] = 0;
    assert_status(sp_shard_names(deep, &names, &count), SP_ARGUMENT);
    write_shard(state, "b.tar", 1);
    write_shard(state, "a.tar", 1);
    assert_ok(sp_shard_names(in_folder(state, "?.tar"), &names, &count));
    assert_int_equal(count, 2);
    assert_true(sp_ends_with(names[0], "/a.tar") && sp_ends_with(names[1], "/b.tar"));
    sp_free(names[0]);
    sp_free(names[1]);
    sp_free(names);
}

/* Every byte of a shard changed in turn, and every length: no crash, and what comes back is a
 * sample or a reason. */
static void damage_is_survived(void **state)
{
    sp_string tar = {0};
    tar_picture(&tar, "1.png", R, R, 50);
    tar_text(&tar, "1.txt", "text");
    tar_text(&tar, "1.json", "{\"width\": 32, \"height\": 32, \"AESTHETIC_SCORE\": 5}");
    tar_text(&tar, "2.txt", "alone");
    static const char zeros[1024];
    sp_string_append(&tar, zeros, sizeof zeros);
    const char *path = in_folder(state, "a.tar");
    uint8_t rgb[PICTURE];
    sp_log_set_level(SP_LOG_QUIET);
    for (size_t i = 0; i < 2 * tar.length; i++) {
        bool cut = i >= tar.length;
        size_t at = i % tar.length, size = cut ? at : tar.length;
        if (at % 512 > 300 && at % 7) continue; /* padding, mostly */
        char kept = tar.data[at];
        if (!cut) tar.data[at] = (char)(kept ^ (at % 2 ? 0x80 : 0x11));
        overwrite(path, tar.data, size);
        tar.data[at] = kept;
        sp_dataset *ds;
        sp_status status = open_shards(state, "a.tar", &ds);
        if (status) {
            assert_status(status, SP_FORMAT);
            continue;
        }
        status = sp_dataset_image(ds, 0, rgb, NULL);
        if (status) assert_status(status, SP_FORMAT);
        sp_dataset_close(ds);
    }
    sp_log_set_level(SP_LOG_INFO);
    sp_string_free(&tar);
}

/* Sizes that no file has, in the two ways a header can say them. */
static void absurd_sizes_are_survived(void **state)
{
    for (int way = 0; way < 3; way++) {
        sp_string tar = {0};
        tar_picture(&tar, "1.png", R, R, 50);
        tar_text(&tar, "1.txt", "text");
        size_t second = tar.length;
        tar_text(&tar, "2.png", "x");
        char *size = tar.data + second + 124, *header = tar.data + second;
        if (way == 0) memcpy(size, "77777777777", 11);
        if (way == 1) memset(size, 0xff, 12);
        if (way == 2) memcpy(size, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
        unsigned sum = 8 * ' ';
        for (int i = 0; i < 512; i++)
            if (i < 148 || i >= 156) sum += (unsigned char)header[i];
        snprintf(header + 148, 8, "%06o", sum);
        tar_write(&tar, in_folder(state, "a.tar"));
        sp_dataset *ds;
        assert_ok(open_shards(state, "a.tar", &ds));
        assert_int_equal(sp_dataset_count(ds), 1);
        assert_shade(ds, 0, 50);
        assert_true(sp_dataset_rejected(ds) > 0);
        sp_dataset_close(ds);
    }
}

static sp_status open_and_look(void *state)
{
    sp_dataset *ds;
    uint8_t rgb[PICTURE];
    sp_status status = open_shards(state, "{a,b}.tar", &ds);
    if (status) return status;
    status = sp_dataset_image(ds, 1, rgb, NULL);
    sp_dataset_close(ds);
    return status;
}

static void lack_of_memory_is_survived(void **state)
{
    write_shard(state, "a.tar", 1);
    sp_string tar = {0};
    tar_picture(&tar, "k.png", R, R, 2);
    tar_text(&tar, "k.json", "{\"caption\": [\"one\", \"two\"], \"width\": 64, \"height\": 64}");
    tar_write(&tar, in_folder(state, "b.tar"));
    sp_set_threads(1);
    assert_true(fail_every_allocation(open_and_look, state) > 30);
    sp_set_threads(0);
}

/* ---- filters ---- */

typedef struct {
    const char *fields, *reason; /* NULL: accepted */
} filter_case;

static void check_filters(void **state, const char *kind, const filter_case *cases, size_t count,
                          sp_dataset_options options)
{
    for (size_t i = 0; i < count; i++) {
        sp_string tar = {0};
        tar_picture(&tar, "k.png", R, R, 9);
        tar_text(&tar, "k.txt", "text");
        if (cases[i].fields) tar_text(&tar, "k.json", cases[i].fields);
        tar_picture(&tar, "z.png", 999, 999, 9);
        tar_text(&tar, "z.txt", "is accepted, so that the set is not empty");
        tar_text(
            &tar, "z.json",
            "{\"aesthetic\": 10, \"pwatermark\": 0, \"similarity\": 1, \"width\": 999, \"height\": 999}");
        tar_write(&tar, in_folder(state, "k.tar"));
        sp_dataset *ds;
        assert_ok(open_with(state, kind, options, &ds));
        const char *reason = cases[i].reason;
        if (reason ? rejected(ds, reason) != 1 || sp_dataset_count(ds) != 1
                   : sp_dataset_count(ds) != 2)
            fail_msg("%s: expected %s, accepted %lld",
                     cases[i].fields ? cases[i].fields : "no json", reason ? reason : "acceptance",
                     (long long)sp_dataset_count(ds));
        sp_dataset_close(ds);
    }
}

static void fields_are_filtered(void **state)
{
    static const filter_case aesthetic[] = {
        {"{\"aesthetic\": 5.5}", NULL},
        {"{\"AESTHETIC_SCORE\": 6}", NULL},
        {"{\"aesthetic_score\": 5.4}", "aesthetic score too low"},
        {"{\"aesthetic\": null, \"AESTHETIC_SCORE\": 1e300}", NULL},
        {"{\"aesthetic\": -1e300}", "aesthetic score too low"},
        {"{\"aesthetic\": \"6\"}", "no aesthetic score"},
        {"{}", "no aesthetic score"},
        {NULL, "no aesthetic score"},
    };
    static const filter_case watermark[] = {
        {"{\"pwatermark\": 0.5}", NULL},
        {"{\"WATERMARK\": 0.51}", "watermark probability too high"},
        {"{\"pwatermark\": 0}", NULL},
        {"{\"pwatermark\": null}", "no watermark probability"},
    };
    static const filter_case similarity[] = {
        {"{\"similarity\": 0.3}", NULL},
        {"{\"SIMILARITY\": 0.29}", "similarity too low"},
        {"{\"clip_similarity_vitb32\": 0.31}", NULL},
        {"{\"pwatermark\": 0.3}", "no similarity"},
    };
    static const filter_case size[] = {
        {NULL, "too small"}, /* the header says 32x32 */
        {"{\"width\": 200, \"height\": 200}", NULL},
        {"{\"width\": 200, \"height\": 199}", "too small"},
        {"{\"original_width\": 200, \"original_height\": 300}", NULL},
        {"{\"width\": 100, \"height\": 100, \"original_width\": 999, \"original_height\": 999}",
         "too small"},
        {"{\"WIDTH\": 200, \"HEIGHT\": 200}", NULL},
        {"{\"width\": null, \"height\": 200}", "too small"},
        {"{\"width\": -5, \"height\": 200}", "too small"},
        {"{\"width\": 1e18, \"height\": 1e18}", "too small"}, /* nonsense: the header counts */
        {"{\"width\": 100000, \"height\": 100000}", "too large"},
        {"{\"width\": 32000, \"height\": 200}", NULL},
    };
    const char *const kind = "wds:%s/k.tar";
    check_filters(state, kind, aesthetic, 8, (sp_dataset_options){.min_aesthetic = 5.5});
    check_filters(state, kind, watermark, 4, (sp_dataset_options){.max_watermark = 0.5});
    check_filters(state, kind, similarity, 4, (sp_dataset_options){.min_similarity = 0.3});
    check_filters(state, kind, size, 11, (sp_dataset_options){.min_size = 200});
}

static void folders_have_fields_too(void **state)
{
    size_t size;
    uint8_t *png = grey_png(R, R, 5, &size);
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        assert_ok(sp_write_file(in_folder(state, name), png, size));
    }
    sp_free(png);
    static const char zero[] = "{\"caption\": \"zero\", \"aesthetic\": 7}",
                      one[] = "{\"caption\": \"one\", \"aesthetic\": 3}",
                      lines[] = "{\"file_name\": \"2.png\", \"text\": \"two\", \"aesthetic\": 8}\n"
                                "{\"file_name\": \"3.png\", \"text\": \"three\"}\n";
    assert_ok(sp_write_file(in_folder(state, "0.json"), zero, strlen(zero)));
    assert_ok(sp_write_file(in_folder(state, "1.json"), one, strlen(one)));
    assert_ok(sp_write_file(in_folder(state, "metadata.jsonl"), lines, strlen(lines)));
    sp_dataset *ds;
    assert_ok(open_with(state, "folder:%s", (sp_dataset_options){0}, &ds));
    assert_int_equal(sp_dataset_count(ds), 4);
    sp_dataset_close(ds);
    assert_ok(open_with(state, "folder:%s", (sp_dataset_options){.min_aesthetic = 5}, &ds));
    assert_int_equal(sp_dataset_count(ds), 2);
    assert_string_equal(sp_dataset_caption(ds, 0, 0), "zero");
    assert_string_equal(sp_dataset_caption(ds, 1, 0), "two");
    assert_int_equal(rejected(ds, "aesthetic score too low"), 1);
    assert_int_equal(rejected(ds, "no aesthetic score"), 1);
    sp_dataset_close(ds);
    sp_dataset_options negative = {.min_aesthetic = -1};
    assert_status(open_with(state, "folder:%s", negative, &ds), SP_ARGUMENT);
}

/* ---- COCO ---- */

static void write_text(void **state, const char *name, const char *text)
{
    assert_ok(sp_write_file(in_folder(state, name), text, strlen(text)));
}

static void coco_is_read(void **state)
{
    size_t size;
    assert_ok(sp_make_folders(in_folder(state, "train2014")));
    for (int i = 1; i <= 3; i++) {
        char name[32];
        uint8_t *png = grey_png(R, R, (uint8_t)(10 * i), &size);
        snprintf(name, sizeof name, "train2014/%d.jpg", i);
        assert_ok(sp_write_file(in_folder(state, name), png, size));
        sp_free(png);
    }
    write_text(
        state, "captions_train2014.json",
        "{\"info\": {}, \"licenses\": [],"
        " \"images\": [{\"id\": 300, \"file_name\": \"3.jpg\", \"width\": 640, \"height\": 480},"
        "  {\"id\": 100, \"file_name\": \"1.jpg\", \"width\": 640, \"height\": 480},"
        "  {\"id\": 200, \"file_name\": \"2.jpg\"},"
        "  {\"id\": 400, \"file_name\": \"gone.jpg\", \"width\": 640, \"height\": 480},"
        "  {\"id\": 500, \"file_name\": \"../captions_train2014.json\", \"width\": 640, \"height\": 480},"
        "  {\"id\": 600, \"file_name\": \"/etc/passwd\"}, {\"id\": 700, \"file_name\": \"..\"},"
        "  {\"id\": 800, \"file_name\": \"a/../../b\"}, {\"id\": 850, \"file_name\": \"\"},"
        "  {\"id\": \"900\"}, {}, 7],"
        " \"annotations\": [{\"image_id\": 100, \"id\": 1, \"caption\": \"first of one\"},"
        "  {\"image_id\": 200, \"id\": 2, \"caption\": \"first of two.\\n\"},"
        "  {\"image_id\": 100, \"id\": 3, \"caption\": \"second of one\"},"
        "  {\"image_id\": 999, \"id\": 4, \"caption\": \"of nothing\"},"
        "  {\"image_id\": 200, \"caption\": 5}, {}, [],"
        "  {\"image_id\": 100, \"id\": 5, \"caption\": \"third of one\"}]}");
    const char *spec = "coco:%s/captions_train2014.json,%s/train2014";
    sp_dataset *ds;
    assert_ok(open_with(state, spec, (sp_dataset_options){0}, &ds));
    assert_int_equal(sp_dataset_count(ds), 2);
    assert_string_equal(sp_dataset_name(ds, 0), "1.jpg"); /* the file's order; 3 has no caption */
    assert_int_equal(sp_dataset_caption_count(ds, 0), 3);
    assert_string_equal(sp_dataset_caption(ds, 0, 0), "first of one");
    assert_string_equal(sp_dataset_caption(ds, 0, 2), "third of one");
    assert_string_equal(sp_dataset_caption(ds, 1, 0), "first of two.");
    assert_shade(ds, 0, 10);
    assert_shade(ds, 1, 20);
    assert_int_equal(rejected(ds, "no caption"), 1);
    assert_int_equal(rejected(ds, "absent picture named in the annotations"), 1);
    assert_int_equal(rejected(ds, "file name that leaves the folder"), 5);
    assert_int_equal(rejected(ds, "image without \"id\" or \"file_name\""), 3);
    assert_int_equal(rejected(ds, "annotation without a picture or caption"), 4);
    sp_dataset_close(ds);
    assert_ok(open_with(state, spec, (sp_dataset_options){.min_size = 100}, &ds));
    assert_int_equal(sp_dataset_count(ds), 1); /* the sizes are the file's, then the header's */
    assert_int_equal(rejected(ds, "too small"), 1);
    sp_dataset_close(ds);
}

static void coco_may_be_wrong(void **state)
{
    sp_dataset *ds;
    const char *spec = "coco:%s/c.json,%s";
    assert_status(open_with(state, spec, (sp_dataset_options){0}, &ds), SP_IO);
    write_text(state, "c.json", "{\"images\": [{\"id\": 1, \"file_name\": ");
    assert_status(open_with(state, spec, (sp_dataset_options){0}, &ds), SP_FORMAT);
    assert_message("c.json");
    write_text(state, "c.json", "{\"images\": {}}");
    assert_status(open_with(state, spec, (sp_dataset_options){0}, &ds), SP_FORMAT);
    assert_message("\"annotations\"");
    assert_status(open_with(state, "coco:%s/c.json,%s/absent", (sp_dataset_options){0}, &ds),
                  SP_IO);
    assert_status(open_with(state, "coco:%s/c.json,", (sp_dataset_options){0}, &ds), SP_ARGUMENT);
    assert_status(open_with(state, "coco:%s/c", (sp_dataset_options){0}, &ds), SP_ARGUMENT);
}

/* ---- flips ---- */

static void flips_are_drawn(void **state)
{
    (void)state;
    sp_dataset_options options = {.seed = 3}, other = {.seed = 4, .random_flip = true};
    int flips = 0, as_other = 0, as_next = 0;
    for (int64_t i = 0; i < 1000; i++) {
        options.random_flip = false;
        assert_false(sp_dataset_flips(&options, 0, i));
        options.random_flip = true;
        bool flip = sp_dataset_flips(&options, 0, i);
        flips += flip;
        as_next += flip == sp_dataset_flips(&options, 1, i);
        as_other += flip == sp_dataset_flips(&other, 0, i);
        assert_true(flip == sp_dataset_flips(&options, 0, i));
    }
    /* Six standard deviations of a fair coin. */
    assert_in_range(flips, 405, 595);
    assert_in_range(as_next, 405, 595);
    assert_in_range(as_other, 405, 595);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(samples_are_taken),
        IN_FOLDER(samples_are_rejected),
        IN_FOLDER(bad_shards_are_named),
        IN_FOLDER(pictures_may_be_damaged_later),
        IN_FOLDER(shard_patterns_expand),
        IN_FOLDER(damage_is_survived),
        IN_FOLDER(absurd_sizes_are_survived),
        IN_FOLDER(lack_of_memory_is_survived),
        IN_FOLDER(fields_are_filtered),
        IN_FOLDER(folders_have_fields_too),
        IN_FOLDER(coco_is_read),
        IN_FOLDER(coco_may_be_wrong),
        cmocka_unit_test(flips_are_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
