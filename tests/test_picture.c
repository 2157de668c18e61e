/* Pictures handed out in memory as the files that would be written, and files of pictures in memory: size, pixels and
 * text; hostile bytes. */
#include <spng.h>
#include "generate_support.h"
#include "image/image.h"

/* ---- what `receive` gets ---- */

typedef struct {
    int count;
    uint8_t *file[4];
    size_t size[4];
    uint64_t seed[4];
    char *parameters[4];
} received;

static void take(void *context, const splam_drawn *drawn)
{
    received *r = context;
    int i = r->count++;
    assert_true(i < 4);
    assert_int_equal(drawn->number, i);
    r->file[i] = sp_alloc(drawn->file_size);
    memcpy(r->file[i], drawn->file, drawn->file_size);
    r->size[i] = drawn->file_size;
    r->seed[i] = drawn->seed;
    r->parameters[i] = sp_strdup(drawn->parameters);
    assert_non_null(strstr(drawn->json, "\"prompt\":\"red apple\""));
    assert_int_equal(drawn->picture.width, SIDE);
}

static void release(received *r)
{
    for (int i = 0; i < r->count; i++) {
        sp_free(r->file[i]);
        sp_free(r->parameters[i]);
    }
    *r = (received){0};
}

static splam_session *open_session(void **state, splam_model **model)
{
    splam_model_options options = splam_model_defaults();
    splam_session *session;
    options.precision = SPLAM_F32;
    assert_ok(splam_model_open(keep(state, "teacher"), &options, NULL, model));
    assert_ok(splam_session_create(*model, NULL, &session));
    return session;
}

/* Byte for byte what is written, in each format, with files beside and without. */
static void received_files_are_the_written_ones(void **state)
{
    static const char *const formats[] = {"png", "jpg", "webp"};
    splam_model *model;
    splam_session *session = open_session(state, &model);
    for (int f = 0; f < 3; f++)
        for (int both = 0; both < 2; both++) {
            char path[600];
            received got = {0};
            splam_generate_options o = options_for(state, "teacher");
            o.steps = 2, o.count = 2, o.seed = 5, o.format = formats[f];
            o.output = keep(state, "written");
            generate(&o);
            o.model = NULL, o.precision = SPLAM_PRECISION_DEFAULT;
            if (!both) o.output = NULL;
            o.receive = take, o.receiver = &got;
            splam_status status = splam_session_generate(session, &o, NULL, NULL);
            if (status) fail_msg("%s", splam_error_message());
            assert_int_equal(got.count, 2);
            for (int i = 0; i < 2; i++) {
                char *bytes;
                size_t size;
                snprintf(path, sizeof path, "%s-%d.%s", keep(state, "written"), i, formats[f]);
                assert_ok(sp_read_file(path, &bytes, &size));
                assert_int_equal(size, got.size[i]);
                assert_memory_equal(bytes, got.file[i], size);
                assert_int_equal(got.seed[i], 5 + i);
                sp_free(bytes);
            }
            release(&got);
        }
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- files in memory ---- */

/* What was drawn is read back: size, text and, of PNG, pixels. */
static void drawn_files_are_read(void **state)
{
    static const char *const formats[] = {"png", "jpg", "webp"};
    splam_model *model;
    splam_session *session = open_session(state, &model);
    for (int f = 0; f < 3; f++) {
        received got = {0};
        splam_pictures drawn, decoded;
        char *text;
        int64_t width, height;
        static const char *const prompts[] = {"red apple"};
        splam_generate_options o = splam_generate_defaults();
        o.prompts = prompts, o.prompt_count = 1;
        o.steps = 1, o.format = formats[f], o.negative = "blurry \xc3\xa9 \xf0\x9f\x8d\x8e";
        o.receive = take, o.receiver = &got;
        assert_ok(splam_session_generate(session, &o, NULL, &drawn));
        assert_ok(splam_picture_size(got.file[0], got.size[0], &width, &height));
        assert_true(width == SIDE && height == SIDE);
        assert_ok(splam_picture_decode(got.file[0], got.size[0], &decoded));
        assert_true(decoded.count == 1 && decoded.width == SIDE && decoded.height == SIDE);
        if (f == 0) assert_memory_equal(decoded.rgb, drawn.rgb, SIDE * SIDE * 3);
        assert_ok(splam_picture_parameters(got.file[0], got.size[0], &text));
        assert_non_null(text);
        assert_string_equal(text, got.parameters[0]);
        splam_free(text);
        splam_pictures_free(&drawn);
        splam_pictures_free(&decoded);
        release(&got);
    }
    splam_session_destroy(session);
    splam_model_close(model);
}

/* A PNG of one pixel with one text. */
static void write_png(struct spng_text *text, uint8_t **out, size_t *size)
{
    struct spng_ihdr header = {.width = 1, .height = 1, .bit_depth = 8, .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    int error = 0;
    spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_ihdr(png, &header);
    if (text) spng_set_text(png, text, 1);
    assert_int_equal(spng_encode_image(png, "abc", 3, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    uint8_t *bytes = spng_get_png_buffer(png, size, &error);
    assert_non_null(bytes);
    *out = sp_alloc(*size);
    memcpy(*out, bytes, *size);
    free(bytes);
    spng_ctx_free(png);
}

static void expect_text(const uint8_t *file, size_t size, const char *expected)
{
    char *text;
    assert_ok(splam_picture_parameters(file, size, &text));
    if (expected)
        assert_string_equal(text, expected);
    else
        assert_null(text);
    splam_free(text);
}

/* Latin-1, packed text, UTF-8 where Latin-1 should be, and none. */
static void texts_of_other_writers(void **state)
{
    (void)state;
    static const struct {
        int type;
        const char *key, *value, *expected;
    } cases[] = {
        {SPNG_TEXT, "parameters", "caf\xe9\nSteps: 20", "caf\xc3\xa9\nSteps: 20"},
        {SPNG_TEXT, "parameters", "caf\xc3\xa9", "caf\xc3\xa9"},
        {SPNG_ZTXT, "parameters", "a cat\nSteps: 20, Sampler: Euler a", "a cat\nSteps: 20, Sampler: Euler a"},
        {SPNG_ITXT, "parameters", "\xf0\x9f\x8d\x8e", "\xf0\x9f\x8d\x8e"},
        {SPNG_TEXT, "prompt", "a cat", NULL},
    };
    static char none[] = "";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct spng_text text = {.type = cases[i].type, .text = (char *)(uintptr_t)cases[i].value};
        uint8_t *file;
        size_t size;
        text.length = strlen(cases[i].value);
        text.language_tag = text.translated_keyword = none;
        snprintf(text.keyword, sizeof text.keyword, "%s", cases[i].key);
        write_png(&text, &file, &size);
        expect_text(file, size, cases[i].expected);
        sp_free(file);
    }
    uint8_t *file;
    size_t size;
    write_png(NULL, &file, &size);
    expect_text(file, size, NULL);
    sp_free(file);
}

/* EXIF with UserComment in both orders of bytes, and in letters. */
static void comments_in_either_order(void **state)
{
    (void)state;
    static const uint8_t little[] = {'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0,
                                     1, 0, 0x69, 0x87, 4, 0, 1, 0, 0, 0, 26, 0, 0, 0, 0, 0, 0, 0,
                                     1, 0, 0x86, 0x92, 7, 0, 12, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0};
    static const struct {
        const char comment[13], *expected;
    } cases[] = {
        {"UNICODE\0a\0b\0", "ab"}, /* little-endian, as the file */
        {"UNICODE\0\0a\0b", "ab"}, /* big-endian all the same */
        {"ASCII\0\0\0abcd", "abcd"},
        {"UNICODE\0\x3c\xd8\x4e\xdf", "\xf0\x9f\x8d\x8e"},
        {"UNICODE\0\x3c\xd8z\0", "\xef\xbf\xbdz"}, /* half a pair */
        {"JIS\0\0\0\0\0abcd", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t file[128] = {0xFF, 0xD8, 0xFF, 0xE1, 0, 2 + sizeof little + 12};
        memcpy(file + 6, little, sizeof little);
        memcpy(file + 6 + sizeof little, cases[i].comment, 12);
        size_t end = 6 + sizeof little + 12;
        expect_text(file, end, cases[i].expected);
        file[5] = 0xFF; /* longer than the file */
        expect_text(file, end, NULL);
    }
}

/* Whatever the bytes: an answer or a refusal. */
static void hostile_bytes(void **state)
{
    (void)state;
    struct spng_text text = {.type = SPNG_ZTXT, .text = (char *)"a cat", .length = 5, .keyword = "parameters"};
    uint8_t *file;
    size_t size;
    int64_t width, height;
    splam_pictures picture;
    char *found;
    enum { IEND = 12 }; /* bytes of the last chunk, which may be cut */
    write_png(&text, &file, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = sp_alloc(cut + 1);
        memcpy(part, file, cut);
        if (splam_picture_parameters(part, cut, &found) == SPLAM_OK) splam_free(found);
        splam_status status = splam_picture_decode(part, cut, &picture);
        if (cut < size - IEND) assert_int_not_equal(status, SPLAM_OK);
        if (status) assert_null(picture.rgb);
        splam_pictures_free(&picture);
        sp_free(part);
    }
    for (size_t at = 0; at < size; at++)
        for (int bit = 0; bit < 8; bit++) {
            file[at] ^= (uint8_t)(1 << bit);
            if (splam_picture_parameters(file, size, &found) == SPLAM_OK) splam_free(found);
            if (splam_picture_decode(file, size, &picture) == SPLAM_OK) splam_pictures_free(&picture);
            splam_picture_size(file, size, &width, &height);
            file[at] ^= (uint8_t)(1 << bit);
        }
    sp_free(file);
    assert_status(splam_picture_size("GIF89a", 6, &width, &height), SP_FORMAT);
    assert_message("neither JPEG, PNG nor WebP");
    assert_status(splam_picture_parameters("GIF89a", 6, &found), SP_FORMAT);
}

/* ---- models ---- */

static void a_model_describes_itself(void **state)
{
    splam_model *model;
    splam_session *session = open_session(state, &model);
    splam_model_facts facts = {.size = sizeof facts};
    char hash[17];
    received got = {0};
    assert_ok(splam_model_describe(model, &facts));
    assert_string_equal(facts.name, "teacher");
    assert_true(facts.width == SIDE && facts.height == SIDE && facts.multiple == 4);
    assert_string_equal(facts.sampler, "dpm++2m");
    assert_true(facts.steps == 20 && facts.guidance == 7.5);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)facts.hash);
    splam_generate_options o = splam_generate_defaults();
    o.prompt = "red apple", o.steps = 1, o.receive = take, o.receiver = &got;
    assert_ok(splam_session_generate(session, &o, NULL, NULL));
    hash[10] = 0;
    assert_non_null(strstr(got.parameters[0], hash));
    release(&got);
    struct {
        splam_model_facts facts;
        int64_t later;
    } larger = {.facts.size = sizeof larger, .later = 7};
    assert_ok(splam_model_describe(model, &larger.facts));
    assert_true(larger.later == 0 && larger.facts.multiple == 4);
    facts.size = 0;
    assert_status(splam_model_describe(model, &facts), SP_ARGUMENT);
    splam_session_destroy(session);
    splam_model_close(model);
}

static void samplers_have_labels(void **state)
{
    (void)state;
    assert_string_equal(splam_sampler_label("dpm++2m-sde"), "DPM++ 2M SDE");
    assert_string_equal(splam_sampler_label("lcm"), "LCM");
    assert_null(splam_sampler_label("DDIM"));
    assert_null(splam_sampler_label(""));
}

/* Names, formats and refusals are those of generate. */
static void files_from_elsewhere_are_written(void **state)
{
    splam_picture_output *out;
    char *bytes;
    size_t size;
    assert_ok(splam_picture_output_open(keep(state, "elsewhere.webp"), NULL, 2, &out));
    assert_string_equal(splam_picture_output_format(out), "webp");
    assert_ok(splam_picture_output_write(out, 1, "abc", 3));
    assert_status(splam_picture_output_write(out, 2, "abc", 3), SP_ARGUMENT);
    splam_picture_output_close(out);
    assert_ok(sp_read_file(keep(state, "elsewhere-1.webp"), &bytes, &size));
    assert_true(size == 3 && memcmp(bytes, "abc", 3) == 0);
    sp_free(bytes);
    assert_status(splam_picture_output_open(keep(state, "x.gif"), NULL, 1, &out), SP_ARGUMENT);
    assert_null(out);
    assert_status(splam_picture_output_open(keep(state, "x.png"), "jpg", 1, &out), SP_ARGUMENT);
    assert_status(splam_picture_output_open(keep(state, "x.png"), NULL, 0, &out), SP_ARGUMENT);
    assert_status(splam_picture_output_open(NULL, NULL, 1, &out), SP_ARGUMENT);
    splam_picture_output_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(received_files_are_the_written_ones), cmocka_unit_test(drawn_files_are_read),
        cmocka_unit_test(texts_of_other_writers),              cmocka_unit_test(comments_in_either_order),
        cmocka_unit_test(hostile_bytes),                       cmocka_unit_test(a_model_describes_itself),
        cmocka_unit_test(samplers_have_labels),
        cmocka_unit_test(files_from_elsewhere_are_written),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
