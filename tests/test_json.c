/* JSON and text files: values, faults, numbers as they are written, byte order marks, UTF-8. */
#include "support.h"

#include <math.h>

#include "base/json.h"
#include "base/text.h"
#include "base/text_file.h"

/* ---- json ---- */

static const char config_text[] =
    "{\"width\": 64, \"rate\": 0.5, \"flag\": true, \"name\": \"unet\", "
    "\"none\": null, \"list\": [1, 2, 3], \"bad\": [1, \"x\"]}";

static void test_json_values(void **state)
{
    (void)state;
    json_t *config;
    assert_ok(sp_json_parse(config_text, strlen(config_text), "config.json", &config));
    int64_t number, list[3];
    double real;
    bool flag;
    const char *text;
    assert_ok(sp_json_int(config, "width", 1, "config.json", &number));
    assert_int_equal(number, 64);
    assert_ok(sp_json_int(config, "absent", 5, "config.json", &number));
    assert_int_equal(number, 5);
    assert_ok(sp_json_int(config, "none", 6, "config.json", &number));
    assert_int_equal(number, 6);
    assert_status(sp_json_int(config, "rate", 1, "config.json", &number), SP_FORMAT);
    assert_string_equal(sp_error_message(),
                        "config.json: \"rate\" must be an integer, found a number");
    assert_ok(sp_json_double(config, "rate", 1, "config.json", &real));
    assert_true(real == 0.5);
    assert_ok(sp_json_double(config, "width", 1, "config.json", &real));
    assert_true(real == 64);
    assert_status(sp_json_double(config, "name", 1, "config.json", &real), SP_FORMAT);
    assert_ok(sp_json_bool(config, "flag", false, "config.json", &flag));
    assert_true(flag);
    assert_status(sp_json_bool(config, "width", false, "config.json", &flag), SP_FORMAT);
    assert_ok(sp_json_text(config, "name", NULL, "config.json", &text));
    assert_string_equal(text, "unet");
    assert_ok(sp_json_text(config, "absent", NULL, "config.json", &text));
    assert_null(text);
    assert_status(sp_json_text(config, "list", NULL, "config.json", &text), SP_FORMAT);
    assert_ok(sp_json_int_list(config, "list", 0, "config.json", 3, list));
    assert_int_equal(list[2], 3);
    assert_ok(sp_json_int_list(config, "width", 0, "config.json", 3, list));
    assert_int_equal(list[2], 64);
    assert_ok(sp_json_int_list(config, "absent", 9, "config.json", 3, list));
    assert_int_equal(list[0], 9);
    assert_status(sp_json_int_list(config, "list", 0, "config.json", 2, list), SP_FORMAT);
    assert_message("must have 2 entries, found 3");
    assert_status(sp_json_int_list(config, "bad", 0, "config.json", 2, list), SP_FORMAT);
    json_decref(config);
}

/* Values of every length around the room for them: whole, or cut with "..." between characters. */
static void test_json_brief(void **state)
{
    (void)state;
    enum { SIZE = 16, MOST = 40 };
    for (size_t count = 0; count < MOST; count++) {
        char text[4 * MOST] = "", buffer[SIZE + 4];
        for (size_t i = 0; i < count; i++)
            strcat(text, i % 3 ? "\xe6\x97\xa5" : "a");
        json_t *value = json_string(text);
        memset(buffer, '#', sizeof buffer);
        assert_ptr_equal(sp_json_brief(value, buffer, SIZE), buffer);
        size_t length = strlen(buffer);
        assert_true(length < SIZE);
        assert_memory_equal(buffer + SIZE, "####", 4);
        if (strlen(text) + 2 < SIZE) { /* two quotes and a NUL */
            assert_memory_equal(buffer + 1, text, strlen(text));
        } else {
            assert_string_equal(buffer + length - 3, "...");
            assert_memory_equal(buffer + 1, text, length - 4);
            assert_true(length >= SIZE - 3);
            assert_int_not_equal((unsigned char)text[length - 4] & 0xc0, 0x80);
        }
        json_decref(value);
    }
    json_t *list = json_array();
    char buffer[64];
    for (int i = 0; i < 1000; i++)
        assert_int_equal(json_array_append_new(list, json_integer(i)), 0);
    sp_json_brief(list, buffer, sizeof buffer);
    assert_string_equal(buffer, "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,...");
    json_decref(list);
}

static void test_json_bad_text(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,}",
                                      "[1 2]",
                                      "{\"a\":1,\"a\":2}",
                                      "nul",
                                      "\"\xff\"",
                                      "{} x",
                                      "[1e999]",
                                      "{\"a\\u0000\":1}",
                                      "99999999999999999999"};
    json_t *value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(sp_json_parse(bad[i], strlen(bad[i]), "bad.json", &value), SP_FORMAT);
        assert_message("bad.json: line ");
        assert_null(value);
    }
    enum { DEPTH = 60000 };
    char *deep = sp_alloc(DEPTH);
    memset(deep, '[', DEPTH);
    assert_status(sp_json_parse(deep, DEPTH, "deep.json", &value), SP_FORMAT);
    sp_free(deep);
    for (size_t length = 0; length < strlen(config_text); length++)
        assert_status(sp_json_parse(config_text, length, "cut.json", &value), SP_FORMAT);
}

/* Brackets take a hundred times their bytes of memory. */
static void test_json_brackets(void **state)
{
    (void)state;
    enum { MANY = 120000 };
    char *text = malloc(3 * MANY + 3), *end = text;
    json_t *value;
    assert_non_null(text);
    *end++ = '[';
    for (int i = 0; i < MANY; i++, end += 3)
        memcpy(end, "[],", 3);
    memcpy(end, "0]", 2);
    size_t size = (size_t)(end + 2 - text);
    assert_status(sp_json_parse(text, size, "many.json", &value), SP_UNSUPPORTED);
    assert_message("many.json: 360003 bytes of JSON have 120001 brackets, at most 110536 are read");
    free(text);
}

static void test_json_large_file(void **state)
{
    const char *path = in_folder(state, "large.json");
    json_t *value;
    assert_ok(sp_write_file(path, "{}", 2));
    assert_int_equal(truncate(path, (64 << 20) + 1), 0);
    assert_status(sp_json_load(path, &value), SP_UNSUPPORTED);
    assert_message("at most 67108864");
}

static void test_json_files(void **state)
{
    const char *path = in_folder(state, "config.json");
    json_t *config, *again;
    assert_ok(sp_json_parse(config_text, strlen(config_text), "text", &config));
    assert_ok(sp_json_save(path, config));
    assert_ok(sp_json_load(path, &again));
    assert_true(json_equal(config, again));
    json_decref(config);
    json_decref(again);
    char *text;
    assert_ok(sp_read_file(path, &text, NULL));
    assert_true(sp_ends_with(text, "}\n"));
    sp_free(text);
    assert_status(sp_json_load(in_folder(state, "absent.json"), &again), SP_IO);
    assert_message("absent.json");
}

static sp_status load_and_drop(void *path)
{
    json_t *value;
    SP_TRY(sp_json_load(path, &value));
    json_decref(value);
    return SP_OK;
}

static void test_json_allocation_failure(void **state)
{
    const char *path = in_folder(state, "config.json");
    assert_ok(sp_write_file(path, config_text, strlen(config_text)));
    assert_in_range(fail_every_allocation(load_and_drop, (void *)(uintptr_t)path), 20, 1000);
}

/* ---- text files ---- */

static void test_byte_order_marks(void **state)
{
    const char *path = in_folder(state, "text");
    char *text;
    size_t size;
    assert_ok(sp_write_file(path, "\xEF\xBB\xBF" "a\0b", 6));
    assert_ok(sp_read_text(path, &text, &size));
    assert_int_equal(size, 3);
    assert_memory_equal(text, "a\0b", 4);
    sp_free(text);
    assert_ok(sp_write_file(path, "\xEF\xBB", 2)); /* half of one is none */
    assert_ok(sp_read_text(path, &text, &size));
    assert_int_equal(size, 2);
    sp_free(text);
    assert_ok(sp_write_file(path, "\xEF\xBB\xBF{\"a\": 1}", 11));
    json_t *json;
    assert_ok(sp_json_load(path, &json));
    json_decref(json);
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } refused[] = {{"\xFF\xFE" "a\0", 4, "text: is UTF-16 by its byte order mark"},
                   {"\xFE\xFF\0a", 4, "UTF-16"},
                   {"\xFF\xFE\0\0a\0\0\0", 8, "UTF-32"},
                   {"\0\0\xFE\xFF\0\0\0a", 8, "UTF-32"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_ok(sp_write_file(path, refused[i].bytes, refused[i].size));
        assert_status(sp_read_text(path, &text, &size), SP_FORMAT);
        assert_null(text);
        assert_message(refused[i].words);
        assert_status(sp_json_load(path, &json), SP_FORMAT);
        assert_message("by its byte order mark");
    }
}

static void test_text_stream(void **state)
{
    const char *path = in_folder(state, "stream");
    char bytes[10003] = "\xEF\xBB\xBF", *text;
    size_t size;
    memset(bytes + 3, 'x', sizeof bytes - 3);
    assert_ok(sp_write_file(path, bytes, sizeof bytes));
    int file = open(path, O_RDONLY);
    assert_ok(sp_read_text_stream(file, "standard input", &text, &size));
    assert_int_equal(size, 10000);
    assert_int_equal(strlen(text), 10000);
    sp_free(text);
    assert_ok(sp_read_text_stream(file, "standard input", &text, &size)); /* at its end */
    assert_int_equal(size, 0);
    assert_string_equal(text, "");
    sp_free(text);
    close(file);
    assert_status(sp_read_text_stream(file, "standard input", &text, &size), SP_IO);
    assert_message("standard input: cannot read");
}

static void test_utf8(void **state)
{
    (void)state;
    static const char good[] = "one\n\xC3\xA9 \xF0\x9F\x98\x80\r\n";
    assert_ok(sp_check_utf8("list", good, sizeof good - 1));
    assert_status(sp_check_utf8("list", "one\ncaf\xE9 x", 11), SP_FORMAT);
    assert_string_equal(sp_error_message(), "list: line 2, byte 4: 0xE9 is not UTF-8 text");
    assert_status(sp_check_utf8("list", "a\0b", 3), SP_FORMAT);
    assert_message("line 1, byte 2: 0x00");
    assert_status(sp_check_utf8("list", "\xC3", 1), SP_FORMAT); /* cut */
    assert_status(sp_check_utf8("list", "\xED\xA0\x80", 3), SP_FORMAT); /* half a surrogate pair */
}

static void check_number(double value, const char *expected)
{
    char text[SP_NUMBER_TEXT];
    assert_string_equal(sp_number_text(value, text), expected);
    if (isfinite(value)) assert_true(strtod(text, NULL) == value);
}

/* The digits of Python's repr, exponents as JSON's writers have them. */
static void test_numbers_are_short(void **state)
{
    (void)state;
    check_number(8e-6, "8e-6");
    check_number(0, "0");
    check_number(-0.0, "-0");
    check_number(100, "100");
    check_number(-7.5, "-7.5");
    check_number(0.95, "0.95");
    check_number(0.1 + 0.2, "0.30000000000000004");
    check_number(1e-4, "0.0001");
    check_number(9.9999e-5, "9.9999e-5");
    check_number(123456789012345678, "1.2345678901234568e17");
    check_number(1e15, "1000000000000000");
    check_number(1e16, "1e16");
    check_number(5e-324, "5e-324");
    check_number(1.7976931348623157e308, "1.7976931348623157e308");
    check_number(INFINITY, "inf");
    json_t *json = json_pack("{s:f, s:f, s:I, s:s, s:[f, f]}", "a", 8e-6, "b", 1.0, "c",
                             INT64_C(1234567890123456789), "d", "7.9999999999999996e-6 \"0.10000000000000001",
                             "e", 0.00085, 1e22);
    char *text = sp_json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, "{\"a\":8e-6,\"b\":1.0,\"c\":1234567890123456789,"
                              "\"d\":\"7.9999999999999996e-6 \\\"0.10000000000000001\","
                              "\"e\":[0.00085,1e22]}");
    json_t *back;
    assert_ok(sp_json_parse(text, strlen(text), "text", &back));
    assert_true(json_equal(json, back));
    json_decref(back);
    json_decref(json);
    sp_free(text);
}

static void check_seed(uint64_t seed, const char *text)
{
    json_t *json = sp_json_seed(seed);
    char *written = json_dumps(json, JSON_ENCODE_ANY);
    assert_string_equal(written, text);
    sp_free(written);
    json_decref(json);
}

static void test_json_seeds(void **state)
{
    (void)state;
    check_seed(0, "0");
    check_seed(INT64_MAX, "9223372036854775807");
    check_seed(UINT64_C(1) << 63, "\"9223372036854775808\"");
    check_seed(UINT64_MAX, "\"18446744073709551615\"");
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_values),
        cmocka_unit_test(test_json_brief),
        cmocka_unit_test(test_json_bad_text),
        cmocka_unit_test(test_json_brackets),
        with_folder(test_json_files),
        with_folder(test_json_large_file),
        with_folder(test_json_allocation_failure),
        cmocka_unit_test(test_json_seeds),
        cmocka_unit_test(test_numbers_are_short),
        with_folder(test_byte_order_marks),
        with_folder(test_text_stream),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
