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

static sp_dataset *open_spec(const char *spec)
{
    const sp_dataset_options options = {.resolution = 32};
    sp_dataset *ds;
    assert_ok(sp_dataset_open(spec, &options, NULL, &ds));
    return ds;
}

static sp_dataset *open_folder(void **state)
{
    char spec[512];
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, ""));
    return open_spec(spec);
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
        with_folder(cut_captions_are_counted),
    };
    return cmocka_run_group_tests_name("captions", tests, NULL, NULL);
}
