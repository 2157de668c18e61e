/* Where captions come from: text files with byte order marks, and captions that are cut. */
#include "base/log.h"
#include "data/caption_length.h"
#include "data_support.h"

static void write_text(void **state, const char *name, const char *text)
{
    assert_ok(sp_write_file(in_folder(state, name), text, strlen(text)));
}

static void write_picture(void **state, const char *name)
{
    size_t size;
    uint8_t *png = grey_png(40, 40, 90, &size);
    assert_ok(sp_write_file(in_folder(state, name), png, size));
    sp_free(png);
}

static sp_dataset *open_with(const char *spec, sp_dataset_options options)
{
    sp_dataset *ds;
    options.resolution = 32;
    assert_ok(sp_dataset_open(spec, &options, NULL, &ds));
    return ds;
}

static sp_dataset *open_spec(const char *spec)
{
    return open_with(spec, (sp_dataset_options){0});
}

static const char *folder_spec(void **state)
{
    static char spec[512];
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, ""));
    return spec;
}

static sp_dataset *open_folder(void **state)
{
    return open_spec(folder_spec(state));
}

/* The captions of the sample whose name ends in `name`, with a bar between them. */
static const char *captions_of(const sp_dataset *ds, const char *name)
{
    static char text[512];
    for (int64_t i = 0; i < sp_dataset_count(ds); i++) {
        if (!sp_ends_with(sp_dataset_name(ds, i), name)) continue;
        text[0] = 0;
        for (int v = 0; v < sp_dataset_caption_count(ds, i); v++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", v ? "|" : "",
                     sp_dataset_caption(ds, i, v));
        return text;
    }
    return "";
}

/* ---- byte order marks ---- */

#define MARK "\xEF\xBB\xBF"

static void folders_have_marks(void **state)
{
    const char *const pictures[] = {"a.png", "b.png", "c.png", "d.png", "e.png"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        write_picture(state, pictures[i]);
    write_text(state, "a.txt", MARK "one\r\ntwo\n");
    write_text(state, "b.json", MARK "{\"caption\": \"three\"}");
    write_text(state, "metadata.jsonl",
               MARK "{\"file_name\": \"c.png\", \"text\": \"four\"}\n"
                    "{\"file_name\": \"d.png\", \"text\": \"five\"}\n");
    assert_ok(sp_write_file(in_folder(state, "e.txt"), "\xFF\xFE" "x\0", 4));
    sp_dataset *ds = open_folder(state);
    assert_int_equal(sp_dataset_count(ds), 4);
    assert_string_equal(captions_of(ds, "a.png"), "one|two");
    assert_string_equal(captions_of(ds, "b.png"), "three");
    assert_string_equal(captions_of(ds, "c.png"), "four");
    assert_string_equal(captions_of(ds, "d.png"), "five");
    assert_int_equal(rejected(ds, "unreadable caption or .json"), 1);
    sp_dataset_close(ds);
    assert_ok(sp_write_file(in_folder(state, "metadata.jsonl"), "\xFF\xFE{\0", 4));
    char spec[512];
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, ""));
    assert_status(sp_dataset_open(spec, NULL, NULL, &ds), SP_FORMAT);
    assert_message("metadata.jsonl: is UTF-16 by its byte order mark");
}

static void shards_have_marks(void **state)
{
    sp_string tar = {0};
    tar_picture(&tar, "a.png", 40, 40, 1);
    tar_text(&tar, "a.txt", MARK "one");
    tar_picture(&tar, "b.png", 40, 40, 2);
    tar_text(&tar, "b.json", MARK "{\"caption\": \"two\"}");
    tar_picture(&tar, "c.png", 40, 40, 3);
    tar_add(&tar, "c.txt", '0', "\xFE\xFF\0x", 4);
    tar_write(&tar, in_folder(state, "0.tar"));
    char spec[512];
    snprintf(spec, sizeof spec, "wds:%s", in_folder(state, "0.tar"));
    sp_dataset *ds = open_spec(spec);
    assert_int_equal(sp_dataset_count(ds), 2);
    assert_string_equal(captions_of(ds, "a.png"), "one");
    assert_string_equal(captions_of(ds, "b.png"), "two");
    assert_int_equal(rejected(ds, "unreadable caption or .json"), 1);
    sp_dataset_close(ds);
}

static void coco_has_marks(void **state)
{
    char spec[512];
    write_picture(state, "a.png");
    write_text(state, "c.json",
               MARK "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}],"
                    " \"annotations\": [{\"image_id\": 1, \"caption\": \"one\"}]}");
    snprintf(spec, sizeof spec, "coco:%s,%s", in_folder(state, "c.json"), in_folder(state, ""));
    sp_dataset *ds = open_spec(spec);
    assert_string_equal(captions_of(ds, "a.png"), "one");
    sp_dataset_close(ds);
}

/* ---- names and columns ---- */

static void ends_in_any_case(void **state)
{
    const char *const pictures[] = {"a.jfif", "b.JPE", "c.Jfif", "d.png", "e.png", "f.png", "g.jpe"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        write_picture(state, pictures[i]);
    write_text(state, "a.TXT", "one");
    write_text(state, "b.caption", "two\nsecond");
    write_text(state, "c.Caption", "three");
    write_text(state, "d.JSON", "{\"caption\": \"four\"}");
    write_text(state, "e.TXT", "not this");
    write_text(state, "e.txt", "five");
    write_text(state, "f.txt", "six");
    write_text(state, "f.caption", "not this either");
    sp_dataset *ds = open_folder(state);
    assert_int_equal(sp_dataset_count(ds), 6);
    assert_string_equal(captions_of(ds, "a.jfif"), "one");
    assert_string_equal(captions_of(ds, "b.JPE"), "two|second");
    assert_string_equal(captions_of(ds, "c.Jfif"), "three");
    assert_string_equal(captions_of(ds, "d.png"), "four");
    assert_string_equal(captions_of(ds, "e.png"), "five");
    assert_string_equal(captions_of(ds, "f.png"), "six");
    assert_int_equal(rejected(ds, "no caption"), 1);
    sp_dataset_close(ds);
}

static void shards_have_them_too(void **state)
{
    sp_string tar = {0};
    tar_picture(&tar, "a.jfif", 40, 40, 1);
    tar_text(&tar, "a.caption", "one");
    tar_picture(&tar, "b.JPE", 40, 40, 2);
    tar_text(&tar, "b.TXT", "two");
    tar_text(&tar, "b.caption", "not this");
    tar_picture(&tar, "c.png", 40, 40, 3);
    tar_text(&tar, "c.json", "{\"prompt\": \"three\", \"long\": \"a longer one\"}");
    tar_write(&tar, in_folder(state, "0.tar"));
    char spec[512];
    snprintf(spec, sizeof spec, "wds:%s", in_folder(state, "0.tar"));
    sp_dataset *ds = open_spec(spec);
    assert_int_equal(sp_dataset_count(ds), 3);
    assert_string_equal(captions_of(ds, "a.jfif"), "one");
    assert_string_equal(captions_of(ds, "b.JPE"), "two");
    assert_string_equal(captions_of(ds, "c.png"), "three");
    sp_dataset_close(ds);
    ds = open_with(spec, (sp_dataset_options){.caption_column = "long"});
    assert_int_equal(sp_dataset_count(ds), 1);
    assert_string_equal(captions_of(ds, "c.png"), "a longer one");
    assert_int_equal(rejected(ds, "no caption"), 2);
    sp_dataset_close(ds);
}

static void columns_are_found(void **state)
{
    const char *const pictures[] = {"a.png", "b.png", "c.png", "d.png", "e.png"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        write_picture(state, pictures[i]);
    write_text(state, "metadata.jsonl",
               "{\"file_name\": \"a.png\", \"prompt\": \"p\", \"caption\": \"c\", \"text\": \"t\"}\n"
               "{\"file_name\": \"b.png\", \"prompt\": \"p\", \"Caption\": [\"c\", \"d\"]}\n"
               "{\"file_name\": \"c.png\", \"additional_feature\": \"f\", \"prompt\": \"p\"}\n"
               "{\"file_name\": \"d.png\", \"additional_feature\": \"f\", \"mine\": \"m\"}\n");
    write_text(state, "e.json", "{\"text\": \"t\", \"caption\": \"c\", \"mine\": \"m\"}");
    sp_dataset *ds = open_folder(state);
    assert_string_equal(captions_of(ds, "a.png"), "t");
    assert_string_equal(captions_of(ds, "b.png"), "c|d");
    assert_string_equal(captions_of(ds, "c.png"), "p");
    assert_string_equal(captions_of(ds, "d.png"), "f");
    assert_string_equal(captions_of(ds, "e.png"), "c");
    sp_dataset_close(ds);
    write_text(state, "e.txt", "not asked for");
    char column[] = "mine";
    ds = open_with(folder_spec(state), (sp_dataset_options){.caption_column = column});
    column[0] = 'x'; /* the data set has its own copy */
    assert_int_equal(sp_dataset_count(ds), 2);
    assert_string_equal(captions_of(ds, "d.png"), "m");
    assert_string_equal(captions_of(ds, "e.png"), "m");
    assert_int_equal(rejected(ds, "malformed metadata.jsonl line"), 3);
    assert_string_equal(sp_dataset_get_options(ds)->caption_column, "mine");
    sp_dataset_close(ds);
    const sp_dataset_options odd = {.caption_column = "mine"}, empty = {.caption_column = ""};
    assert_status(sp_dataset_open("emoji:", &odd, NULL, &ds), SP_ARGUMENT);
    assert_message("`caption_column` is for sets of picture files");
    assert_status(sp_dataset_open(folder_spec(state), &empty, NULL, &ds), SP_ARGUMENT);
}

static void coco_has_columns(void **state)
{
    char spec[512];
    write_picture(state, "a.png");
    write_text(state, "c.json",
               "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\", \"aesthetic\": NaN}],"
               " \"annotations\": [{\"image_id\": 1, \"caption\": \"one\", \"long\": \"one more\"}]}");
    snprintf(spec, sizeof spec, "coco:%s,%s", in_folder(state, "c.json"), in_folder(state, ""));
    sp_dataset *ds = open_with(spec, (sp_dataset_options){.caption_column = "long"});
    assert_string_equal(captions_of(ds, "a.png"), "one more");
    sp_dataset_close(ds);
}

/* ---- metadata.csv ---- */

static void tables_are_read(void **state)
{
    const char *const pictures[] = {"a.png", "b.png", "c.png", "d.png", "e.png"};
    for (size_t i = 0; i < 5; i++)
        write_picture(state, pictures[i]);
    write_text(state, "metadata.csv",
               MARK "aesthetic,file_name,text\r\n"
                    "6.5,a.png,\"one, \"\"two\"\"\r\nthree\"\r\n"
                    "\r\n"
                    "nan,\"./b.png\",7\r\n"
                    "4,c.png,\"\"\n"
                    "5,d.png\n"
                    "1e1,e.png,caf\xC3\xA9\n"
                    "5,gone.png,x\n"
                    "5,e.png,caf\xE9\n");
    sp_dataset *ds = open_folder(state);
    assert_int_equal(sp_dataset_count(ds), 3);
    assert_string_equal(captions_of(ds, "a.png"), "one, \"two\"  three");
    assert_string_equal(captions_of(ds, "b.png"), "7");
    assert_string_equal(captions_of(ds, "e.png"), "caf\xC3\xA9");
    assert_int_equal(rejected(ds, "malformed metadata.csv row"), 2);
    assert_int_equal(rejected(ds, "no caption"), 2); /* c and d */
    assert_int_equal(rejected(ds, "absent picture named in the metadata"), 1);
    sp_rejection list[SP_MAX_REASONS];
    sp_dataset_rejections(ds, list, SP_MAX_REASONS);
    assert_non_null(strstr(list[0].example, "metadata.csv:7: 2 fields, and the header has 3"));
    sp_dataset_close(ds);
    ds = open_with(folder_spec(state), (sp_dataset_options){.min_aesthetic = 6});
    assert_int_equal(sp_dataset_count(ds), 2);
    assert_int_equal(rejected(ds, "no aesthetic score"), 2); /* "nan" is a text; d has no row */
    assert_int_equal(rejected(ds, "aesthetic score too low"), 1);
    sp_dataset_close(ds);
}

static void tables_may_be_wrong(void **state)
{
    sp_dataset *ds;
    write_picture(state, "a.png");
    write_text(state, "metadata.csv", "file,text\na.png,one\n");
    assert_status(sp_dataset_open(folder_spec(state), NULL, NULL, &ds), SP_FORMAT);
    assert_message("metadata.csv without a column \"file_name\"");
    write_text(state, "metadata.csv", "file_name,text\na.png,one\nb.png,\"two\nc.png,three\n");
    ds = open_folder(state);
    assert_string_equal(captions_of(ds, "a.png"), "one");
    assert_int_equal(rejected(ds, "malformed metadata.csv row"), 1);
    sp_dataset_close(ds);
    write_text(state, "metadata.csv", "");
    write_text(state, "metadata.jsonl", "");
    assert_status(sp_dataset_open(folder_spec(state), NULL, NULL, &ds), SP_FORMAT);
    assert_message("metadata.jsonl and metadata.csv are both there");
}

/* ---- numbers that Python writes ---- */

static void odd_numbers_are_absent(void **state)
{
    const char *const fields[] = {
        "{\"caption\": \"a NaN 99999999999999999999 \\\" -Infinity\", \"aesthetic\": NaN, \"x\": [-Infinity,Infinity]}",
        "{\"caption\": \"b\", \"aesthetic\": 7, \"id\": 99999999999999999999}",
        "{\"caption\": \"c\", \"aesthetic\": 1e999, \"id\": -9223372036854775808}",
        "{\"caption\": \"d \\ud83d \\ude00\\ud83d\\ude00 \\u0000\", \"aesthetic\": 7}",
        "{\"caption\": \"e\", \"aesthetic\": Nan}",
    };
    sp_string tar = {0}, lines = {0};
    char name[16], spec[512];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%c.png", 'a' + i);
        write_picture(state, name);
        tar_picture(&tar, name, 40, 40, 1);
        snprintf(name, sizeof name, "%c.json", 'a' + i);
        write_text(state, name, fields[i]);
        tar_text(&tar, name, fields[i]);
    }
    tar_write(&tar, in_folder(state, "0.tar"));
    snprintf(spec, sizeof spec, "wds:%s", in_folder(state, "0.tar"));
    const char *const specs[] = {folder_spec(state), spec};
    for (int k = 0; k < 2; k++) {
        sp_dataset *ds = open_spec(specs[k]);
        assert_int_equal(sp_dataset_count(ds), 4);
        assert_string_equal(captions_of(ds, "a.png"), "a NaN 99999999999999999999 \" -Infinity");
        assert_string_equal(captions_of(ds, "d.png"),
                            "d \xEF\xBF\xBD \xEF\xBF\xBD\xF0\x9F\x98\x80 \xEF\xBF\xBD");
        assert_int_equal(rejected(ds, "unreadable caption or .json"), 1);
        sp_dataset_close(ds);
        ds = open_with(specs[k], (sp_dataset_options){.min_aesthetic = 5});
        assert_int_equal(sp_dataset_count(ds), 2);
        assert_int_equal(rejected(ds, "no aesthetic score"), 2);
        sp_dataset_close(ds);
    }
    for (int i = 0; i < 2; i++)
        sp_string_append_format(&lines, "{\"file_name\": \"%c.png\", \"text\": \"line\", \"x\": %s}\n",
                                'a' + i, i ? "123456789012345678901" : "NaN");
    assert_ok(sp_write_file(in_folder(state, "metadata.jsonl"), lines.data, lines.length));
    sp_string_free(&lines);
    sp_dataset *ds = open_folder(state);
    assert_string_equal(captions_of(ds, "a.png"), "line");
    assert_string_equal(captions_of(ds, "b.png"), "line");
    sp_dataset_close(ds);
}

/* ---- want of memory ---- */

static sp_status open_once(void *context)
{
    const sp_dataset_options options = {.resolution = 32, .caption_column = "long"};
    sp_dataset *ds;
    sp_status status = sp_dataset_open(context, &options, NULL, &ds);
    if (!status) sp_dataset_close(ds);
    return status;
}

static void lack_of_memory_is_survived(void **state)
{
    write_picture(state, "a.png");
    write_picture(state, "b.png");
    write_text(state, "b.TXT", "two");
    write_text(state, "b.json", "{\"long\": \"three\", \"x\": NaN}");
    write_text(state, "metadata.csv", "file_name,long,x\na.png,\"o\"\"ne\",4\na.png\n");
    fail_every_allocation(open_once, (void *)(uintptr_t)folder_spec(state));
    char spec[512];
    write_text(state, "c.json",
               "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}, {\"id\": 2, \"file_name\": \"b.png\"}],"
               " \"annotations\": [{\"image_id\": 2, \"long\": \"two\"}, {\"image_id\": 1, \"long\": \"one\"},"
               " {\"image_id\": 9}, {\"image_id\": 1, \"long\": \"another\"}]}");
    snprintf(spec, sizeof spec, "coco:%s,%s", in_folder(state, "c.json"), in_folder(state, ""));
    fail_every_allocation(open_once, spec);
}

/* ---- captions that are cut ---- */

static void warn(void *context)
{
    sp_tokenizer *tokenizer;
    sp_caption_cuts cuts;
    assert_ok(sp_tokenizer_clip(false, &tokenizer));
    assert_ok(sp_warn_of_cut_captions(context, tokenizer, true, &cuts));
    assert_int_equal(cuts.captions, 3);
    assert_int_equal(cuts.cut, 1);
    assert_ok(sp_count_cut_captions(context, tokenizer, false, &cuts));
    assert_int_equal(cuts.captions, 4);
    assert_int_equal(cuts.cut, 2);
    assert_int_equal(cuts.tokens, 75);
    sp_tokenizer_destroy(tokenizer);
}

static void cut_captions_are_counted(void **state)
{
    char fits[75 * 6 + 1] = "", longer[76 * 6 + 1] = "", both[1024];
    for (int i = 0; i < 75; i++)
        strcat(fits, "apple ");
    snprintf(longer, sizeof longer, "%spear", fits);
    snprintf(both, sizeof both, "%s\n%s", fits, longer);
    write_picture(state, "a.png");
    write_text(state, "a.txt", fits);
    write_picture(state, "b.png");
    write_text(state, "b.txt", longer);
    write_picture(state, "c.png");
    write_text(state, "c.txt", both);
    sp_dataset *ds = open_folder(state);
    char *said = captured(state, warn, ds);
    assert_string_equal(said, "warning: 1 of 3 captions have more than the 75 tokens that the text "
                              "encoder takes, and are cut\n");
    sp_free(said);
    sp_dataset_close(ds);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(folders_have_marks),
        with_folder(shards_have_marks),
        with_folder(coco_has_marks),
        with_folder(ends_in_any_case),
        with_folder(shards_have_them_too),
        with_folder(columns_are_found),
        with_folder(coco_has_columns),
        with_folder(tables_are_read),
        with_folder(tables_may_be_wrong),
        with_folder(odd_numbers_are_absent),
        with_folder(lack_of_memory_is_survived),
        with_folder(cut_captions_are_counted),
    };
    return cmocka_run_group_tests_name("captions", tests, NULL, NULL);
}
