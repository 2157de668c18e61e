/* Protocols of measuring: lists of captions, what a protocol says, and what reports say of it. */
#include "eval_support.h"
#include "fontconfig_leak.h"
#include "eval/preparation.h"
#include "eval/prompt_list.h"
#include "report/extremes.h"
#include "report/protocol.h"

/* ---- lists of captions ---- */

static void test_lines(void **state)
{
    sp_prompt_list list;
    const char *path = in_folder(state, "lines.txt");
    write_text(path, "\xef\xbb\xbf" "a red apple \nb\r\n\xc3\xa4pfel");
    assert_ok(sp_prompt_list_load(path, &list));
    assert_int_equal(list.count, 3);
    assert_false(list.coco);
    assert_string_equal(list.prompt[0], "a red apple ");
    assert_string_equal(list.prompt[1], "b\r");
    assert_string_equal(list.prompt[2], "\xc3\xa4pfel");
    sp_prompt_list_free(&list);
    write_text(path, "a\n\nb\n");
    assert_status(sp_prompt_list_load(path, &list), SP_FORMAT);
    assert_message("line 2: is blank");
    write_text(path, "a\n\xff\n");
    assert_status(sp_prompt_list_load(path, &list), SP_FORMAT);
    assert_status(sp_prompt_list_load(in_folder(state, "nowhere"), &list), SP_IO);
}

static const char annotations[] =
    " {\"images\": [], \"annotations\": ["
    "{\"image_id\": 9, \"id\": 12, \"caption\": \"nine, later\"}, {\"image_id\": 2, \"id\": 40, \"caption\": \"two\"},"
    "{\"image_id\": 9, \"id\": 3, \"caption\": \"nine\\nat once\"},"
    "{\"image_id\": 5, \"id\": 7, \"caption\": \"five\"},"
    "{\"image_id\": 9, \"id\": 8, \"caption\": \"nine again\"}]}";

/* By pictures' ids, of each the lowest annotation, wherever it stands. */
static void test_coco(void **state)
{
    static const char *const wanted[] = {"two", "five", "nine\nat once"};
    sp_prompt_list list;
    const char *path = in_folder(state, "coco.json");
    write_text(path, annotations);
    assert_ok(sp_prompt_list_load(path, &list));
    assert_true(list.coco);
    assert_int_equal(list.count, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(list.prompt[i], wanted[i]);
    sp_prompt_list_free(&list);
}

static void test_hostile_coco(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{", "coco.json"},
        {"{\"annotations\": 3}", "a list \"annotations\""},
        {"{\"annotations\": []}", "a list \"annotations\""},
        {"{\"annotations\": [7]}", "annotation 0 lacks"},
        {"{\"annotations\": [{\"image_id\": 1e400, \"id\": 1, \"caption\": \"a\"}]}", "annotation 0 lacks"},
        {"{\"annotations\": [{\"image_id\": 1, \"id\": 1.5, \"caption\": \"a\"}]}", "annotation 0 lacks"},
        {"{\"annotations\": [{\"image_id\": 1, \"id\": 1, \"caption\": \" \\n\"}]}", "annotation 1 of picture 1 is"},
    };
    sp_prompt_list list;
    const char *path = in_folder(state, "coco.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(path, cases[i].text);
        if (sp_prompt_list_load(path, &list) != SP_FORMAT) fail_msg("case %zu", i);
        if (!strstr(sp_error_message(), cases[i].words)) fail_msg("case %zu: %s", i, sp_error_message());
    }
}

static sp_status load_list(void *context)
{
    sp_prompt_list list;
    SP_TRY(sp_prompt_list_load(context, &list));
    sp_prompt_list_free(&list);
    return SP_OK;
}

static void test_lists_starve(void **state)
{
    char path[600];
    snprintf(path, sizeof path, "%s", in_folder(state, "list"));
    write_text(path, annotations);
    assert_true(fail_every_allocation(load_list, path) > 5);
    write_text(path, "a\nb\n");
    assert_true(fail_every_allocation(load_list, path) > 1);
}

/* ---- what a protocol says ---- */

static splam_eval_options asked(const char *protocol)
{
    splam_eval_options o = splam_eval_defaults();
    o.protocol = protocol;
    o.captions = "captions";
    o.real = "real";
    return o;
}

static sp_status apply(splam_eval_options *o)
{
    return sp_protocol_apply(sp_protocol_find(o->protocol), o);
}

static void test_settings(void **state)
{
    (void)state;
    splam_eval_options o = asked("coco2014-30k");
    o.clip = "clip";
    assert_ok(apply(&o));
    assert_int_equal(o.count, 30000);
    assert_string_equal(o.convention, "clean");
    assert_string_equal(o.transform, "center-crop-256");
    assert_string_equal(o.metrics, "fid,clip");
    assert_string_equal(o.clip_prefix, "A photo depicts ");
    o = asked("coco2014-30k");
    o.count = 40;
    o.metrics = "kid";
    assert_ok(apply(&o));
    assert_int_equal(o.count, 40);
    assert_string_equal(o.metrics, "kid");
    o = asked("coco2017-5k");
    o.transform = "center-crop-512";
    assert_ok(apply(&o));
    assert_int_equal(o.count, 5000);
    assert_string_equal(o.transform, "center-crop-512");
    assert_string_equal(o.metrics, "fid");
    assert_null(o.clip_prefix);
    o = asked("laion");
    o.captions = NULL;
    o.data = "wds:a.tar";
    assert_ok(apply(&o));
    assert_int_equal(o.count, 30000);
    assert_null(sp_protocol_find("coco"));
}

static void assert_refused(splam_eval_options o, const char *words)
{
    assert_status(apply(&o), SP_ARGUMENT);
    if (!strstr(sp_error_message(), words)) fail_msg("\"%s\" is not in: %s", words, sp_error_message());
}

static void test_refusals(void **state)
{
    (void)state;
    splam_eval_options o = asked("coco2014-30k");
    o.convention = "pytorch";
    assert_refused(o, "`convention` is pytorch, and coco2014-30k is measured with clean");
    o = asked("coco2014-30k");
    o.transform = "none";
    assert_refused(o, "`transform` is none");
    o = asked("coco2017-5k");
    o.transform = "none";
    assert_refused(o, "with center-crop-256 or center-crop-512");
    o = asked("coco2017-5k");
    o.count = 5001;
    assert_refused(o, "`count` is 5001, and coco2017-5k has 5000");
    o = asked("coco2014-30k");
    o.captions = NULL;
    assert_refused(o, "captions_coco14_test.txt");
    o.data = "emoji:";
    assert_refused(o, "without `data`");
    o = asked("coco2017-5k");
    o.real = NULL;
    assert_refused(o, "`real` is missing");
    assert_refused(asked("laion"), "`data` is missing");
}

/* ---- runs ---- */

static void write_lines(const char *path, int count)
{
    sp_string text = {0};
    for (int i = 0; i < count; i++)
        sp_string_append_format(&text, "red apple %d\n", i);
    write_text(path, text.data);
    sp_string_free(&text);
}

static splam_eval_options run_options(const eval_places *p, const char *const *model, const char *output)
{
    splam_eval_options o = eval_options(p, model);
    o.metrics = NULL;
    o.data = NULL;
    o.output = output;
    o.step_count = 1;
    o.resolution = 32;
    return o;
}

static json_t *report_of(const splam_eval_options *o)
{
    json_t *report;
    must_eval(o);
    assert_ok(sp_json_load(in(o->output, "report.json"), &report));
    return report;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) fail_msg("there is no text \"%s\"", key);
    return text;
}

/* Fewer captions of another file, and another real side: all of it is said. */
static void test_coco2014_is_run(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    char output[600], captions[600], sha256[SP_SHA256_TEXT], *text;
    size_t size;
    snprintf(output, sizeof output, "%s", in_folder(state, "coco2014"));
    snprintf(captions, sizeof captions, "%s", in_folder(state, "captions.txt"));
    write_lines(captions, COUNT + 2);
    splam_eval_options o = run_options(&p, &model, output);
    o.protocol = "coco2014-30k";
    o.captions = captions;
    o.real = p.real;
    json_t *report = report_of(&o);
    const json_t *about = json_object_get(report, "pictures"), *notes = json_object_get(about, "notes");
    const json_t *scores = json_object_get(json_array_get(json_object_get(report, "rows"), 0), "scores");
    assert_ok(sp_read_file(captions, &text, &size));
    sp_sha256_text(text, size, sha256);
    sp_free(text);
    assert_string_equal(text_at(about, "protocol"), "coco2014-30k");
    assert_string_equal(text_at(about, "captions_sha256"), sha256);
    assert_string_equal(text_at(scores, "convention"), "clean");
    assert_string_equal(text_at(scores, "transform"), "center-crop-256");
    assert_int_equal(json_integer_value(json_object_get(scores, "count_b")), REAL);
    assert_true(json_is_real(json_object_get(scores, "fid")));
    assert_int_equal(json_array_size(notes), 4);
    static const char *const words[] = {"10 pictures are not the protocol's n, which is 30000", "edabd2a556026cbf",
                                        "12 pictures, and the protocol's has 40504", "fewer than 2048"};
    for (size_t i = 0; i < 4; i++)
        if (!strstr(json_string_value(json_array_get(notes, i)), words[i])) fail_msg("note %zu lacks %s", i, words[i]);
    json_decref(report);
    assert_ok(sp_read_file(in(output, "report.html"), &text, NULL));
    assert_non_null(strstr(text, "SPLAM (Xu et al. 2024)"));
    assert_non_null(strstr(text, "10 pictures are not the protocol"));
    assert_non_null(strstr(text, sha256));
    sp_free(text);
    o.count = COUNT + 2; /* more of the same list, in a batch that is another: refused, not mixed */
    assert_eval(&o, SPLAM_ARGUMENT, "drawn with the batch 10, and these would be with 12");
    o.count = COUNT + 3;
    assert_eval(&o, SPLAM_ARGUMENT, "has captions for 2 to 12");
    o.count = COUNT;
    o.metrics = "fid,hit";
    assert_eval(&o, SPLAM_ARGUMENT, "`data` is missing: hit");
}

static void test_coco2017_is_run(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    char output[600], captions[600], *text;
    snprintf(output, sizeof output, "%s", in_folder(state, "coco2017"));
    snprintf(captions, sizeof captions, "%s", in_folder(state, "captions_val2017.json"));
    write_text(captions, annotations);
    splam_eval_options o = run_options(&p, &model, output);
    o.protocol = "coco2017-5k";
    o.captions = captions;
    o.real = p.real;
    o.count = 3;
    must_eval(&o);
    assert_ok(sp_read_file(in(output, "captions.txt"), &text, NULL));
    assert_string_equal(text, "two\nfive\nnine at once\n");
    sp_free(text);
    o.protocol = "coco2014-30k";
    assert_eval(&o, SPLAM_ARGUMENT, "is COCO's annotations, and coco2014-30k takes a list");
}

/* Three pictures of each caption, in the data set's order. */
static void test_laion_is_run(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    char output[600], *text;
    snprintf(output, sizeof output, "%s", in_folder(state, "laion"));
    splam_eval_options o = run_options(&p, &model, output);
    o.protocol = "laion";
    o.data = p.data;
    o.count = 7;
    json_t *report = report_of(&o);
    assert_ok(sp_read_file(in(output, "captions.txt"), &text, NULL));
    assert_string_equal(text, "red apple 0\nred apple 0\nred apple 0\ngreen apple 1\ngreen apple 1\ngreen apple 1\n"
                              "blue apple 2\n");
    const json_t *scores = json_object_get(json_array_get(json_object_get(report, "rows"), 0), "scores");
    assert_string_equal(text_at(scores, "transform"), "center-crop-512");
    assert_string_equal(text_at(json_object_get(report, "pictures"), "real"), p.data);
    sp_free(text);
    json_decref(report);
}

/* Of pictures of one shade each, those of the highest and the lowest terms, whatever their order. */
static void test_extremes(void **state)
{
    (void)state;
    enum { PICTURES = 20, PIXELS = 8 };
    const char *prompts[PICTURES];
    double terms[PICTURES];
    uint8_t rgb[PIXELS * PIXELS * 3];
    sp_drawn drawn;
    sp_image sheet;
    bool found[256] = {false};
    assert_ok(sp_drawn_open(NULL, PICTURES, PIXELS, &drawn));
    for (int i = 0; i < PICTURES; i++) {
        int rank = i * 7 % PICTURES; /* 0 is the lowest */
        prompts[i] = "a";
        terms[i] = rank / 10.0;
        memset(rgb, 60 + rank, sizeof rgb);
        assert_ok(sp_drawn_put(&drawn, i, rgb));
    }
    const sp_evaluation e = {.count = PICTURES, .prompt = prompts, .size = PIXELS};
    assert_ok(sp_extremes_draw(&e, &drawn, terms, &sheet));
    for (int i = 0; i < sheet.width * sheet.height; i++) {
        const uint8_t *p = sheet.pixels + 3 * i;
        const int next = i + 1 < sheet.width * sheet.height ? p[3] : 0;
        found[p[0]] |= p[0] == p[1] && p[1] == p[2] && p[0] == next; /* letters have no runs of one shade so often */
    }
    for (int rank = 0; rank < 8; rank++)
        assert_true(found[60 + rank] && found[60 + PICTURES - 1 - rank]);
    sp_image_free(&sheet);
    sp_drawn_close(&drawn);
}

static void test_the_middle_at_512(void **state)
{
    (void)state;
    sp_image image = formula_picture(60, 41);
    assert_ok(sp_transform_apply(SP_TRANSFORM_CENTER_CROP_512, &image));
    assert_int_equal(image.width, 512);
    assert_int_equal(image.height, 512);
    sp_image_free(&image);
}

static void test_captions_or_data(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = run_options(&p, &model, in_folder(state, "never"));
    assert_eval(&o, SPLAM_ARGUMENT, "`data` is missing");
    o.captions = "captions";
    assert_eval(&o, SPLAM_ARGUMENT, "`metrics` is missing");
    o.data = p.data;
    o.metrics = "fid";
    assert_eval(&o, SPLAM_ARGUMENT, "both say what is drawn");
    assert_false(sp_path_exists(o.output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_coco),
        cmocka_unit_test(test_hostile_coco),
        cmocka_unit_test(test_lists_starve),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_the_middle_at_512),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_captions_or_data),
        cmocka_unit_test(test_coco2014_is_run),
        cmocka_unit_test(test_coco2017_is_run),
        cmocka_unit_test(test_laion_is_run),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
