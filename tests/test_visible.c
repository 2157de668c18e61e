/* What reaches a terminal: text from files with its control characters made visible, at every edge where the
 * library speaks. */
#include "support.h"

#include <sys/stat.h>

#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"
#include "base/visible.h"

static const char *visible(const char *text)
{
    static char out[256];
    size_t length = sp_visible(text, strlen(text), out, sizeof out);
    assert_int_equal(length, strlen(out));
    return out;
}

static void test_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", ""},
        {"plain ~ text \\x1b", "plain ~ text \\x1b"},
        {"\x1b]0;title\x07", "\\x1b]0;title\\x07"},
        {"a\nb\tc\rd\x7f", "a\\x0ab\\x09c\\x0dd\\x7f"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        /* C1: CSI as one character, the first and last of them, and what follows */
        {"\xc2\x9b\x33\x31m \xc2\x80 \xc2\x9f \xc2\xa0", "\\u009b31m \\u0080 \\u009f \xc2\xa0"},
        /* direction, separators, marks that are not seen; a joiner stays */
        {"\xe2\x80\xae \xe2\x81\xa6 \xe2\x80\x8f \xd8\x9c \xe2\x80\xa8 \xef\xbb\xbf",
         "\\u202e \\u2066 \\u200f \\u061c \\u2028 \\ufeff"},
        {"\xe2\x80\x8d", "\xe2\x80\x8d"},
        /* bytes that are no UTF-8: alone, cut off, overlong, a surrogate, beyond the last character */
        {"\x80\xff", "\\x80\\xff"},
        {"\x9b\x33\x31m", "\\x9b31m"},
        {"\xe2\x82", "\\xe2\\x82"},
        {"\xe2\x82z", "\\xe2\\x82z"},
        {"\xc0\x80\xc1\xbf", "\\xc0\\x80\\xc1\\xbf"},
        {"\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"},
        {"\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"\xf4\x90\x80\x80\xf5", "\\xf4\\x90\\x80\\x80\\xf5"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(visible(cases[i].text), cases[i].expected);
        char again[256]; /* what is visible stays as it is */
        sp_visible(cases[i].expected, strlen(cases[i].expected), again, sizeof again);
        assert_string_equal(again, cases[i].expected);
    }
    char zero[16];
    assert_int_equal(sp_visible("a\0b", 3, zero, sizeof zero), 6);
    assert_string_equal(zero, "a\\x00b");
}

/* No more than there is room for, and no half of anything. */
static void test_room(void **state)
{
    (void)state;
    char out[8];
    memset(out, '#', sizeof out);
    assert_int_equal(sp_visible("abc\x1b", 4, out, 7), 3);
    assert_memory_equal(out, "abc\0####", 8);
    assert_int_equal(sp_visible("abc\x1b", 4, out, 8), 7);
    assert_string_equal(out, "abc\\x1b");
    assert_int_equal(sp_visible("ab\xe2\x82\xac", 5, out, 5), 2);
    assert_string_equal(out, "ab");
    assert_int_equal(sp_visible("ab", 2, out, 1), 0);
    assert_string_equal(out, "");
    out[0] = '#';
    assert_int_equal(sp_visible("ab", 2, out, 0), 0);
    assert_int_equal(out[0], '#');
}

static void test_pieces(void **state)
{
    (void)state;
    char many[300];
    assert_string_equal(sp_shown("abcdef", 3), "abc");
    assert_string_equal(sp_shown("a\x1b", 2), "a\\x1b");
    memset(many, 1, sizeof many);
    const char *all = sp_shown(many, sizeof many);
    assert_int_equal(strlen(all), 4 * 128 + 3);
    assert_true(sp_ends_with(all, "\\x01..."));
    for (int i = 0; i < 100; i++)
        memcpy(many + 3 * i, "\xe2\x82\xac", 3);
    assert_true(sp_ends_with(sp_shown(many, sizeof many), "\xe2\x82\xac...")); /* a whole one */
    assert_string_equal(sp_shown(NULL, 0), "");
}

/* ---- the edges ---- */

static void test_errors(void **state)
{
    (void)state;
    sp_fail(SP_FORMAT, "%s: %s", "a\x1b[2J", "line\nforged");
    assert_string_equal(sp_error_message(), "a\\x1b[2J: line\\x0aforged");
    sp_fail_within(SP_FORMAT, "in\x07");
    assert_string_equal(sp_error_message(), "in\\x07: a\\x1b[2J: line\\x0aforged");
    char words[5000];
    memset(words, 27, sizeof words);
    words[sizeof words - 1] = '\0';
    sp_fail(SP_IO, "%s", words);
    assert_in_range(strlen(sp_error_message()), 2000, 2047);
    assert_true(sp_ends_with(sp_error_message(), "\\x1b\\x1b"));
}

static void test_lines(void **state)
{
    (void)state;
    sp_string s = {0};
    sp_string_say(&s, "name  %s\n", "a\nforged line\x1b");
    sp_string_say(&s, "\nsecond %d", 2);
    sp_string_say(&s, "%s", "\n");
    sp_string_say(&s, "\n");
    assert_string_equal(s.data, "name  a\\x0aforged line\\x1b\n\nsecond 2\\x0a\n");
    sp_string_append_visible(&s, "\0", 1);
    assert_true(sp_ends_with(s.data, "\n\\x00"));
    sp_string_free(&s);
}

/* What `say` prints on stderr. */
static char *printed(void **state, void (*say)(void))
{
    char *text;
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    assert_non_null(freopen(in_folder(state, "stderr"), "w", stderr));
    say();
    fflush(stderr);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    assert_ok(sp_read_file(in_folder(state, "stderr"), &text, NULL));
    return text;
}

static void log_everything(void)
{
    sp_log_warn("%s", "\x1b[1mbold\nwarning: forged");
    sp_log_lines("a table\n  \x1b row\n");
    sp_log_lines("");
}

static void report_progress(void)
{
    sp_progress progress = {.terminal = false};
    sp_progress_report(&progress, "ta\x1bsk", 1, 1, "loss\n1 \xe2\x80\xae");
}

static void test_logs(void **state)
{
    char *text = printed(state, log_everything);
    assert_string_equal(text, "warning: \\x1b[1mbold\\x0awarning: forged\na table\n  \\x1b row\n");
    sp_free(text);
    text = printed(state, report_progress);
    assert_true(sp_starts_with(text, "ta\\x1bsk 1/1  loss\\x0a1 \\u202e"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    sp_free(text);
}

/* ---- others' memory ---- */

static int released;
static void *their_alloc(size_t size)
{
    return malloc(size);
}
static void their_free(void *pointer)
{
    released += pointer != NULL;
    free(pointer);
}

/* A program around the library may choose Jansson's allocator: texts are its own then. */
static void test_json_texts(void **state)
{
    (void)state;
    json_malloc_t alloc;
    json_free_t release;
    json_get_alloc_funcs(&alloc, &release);
    long live = sp_alloc_live();
    json_t *number = json_integer(3);
    sp_json_text_free(json_dumps(number, JSON_ENCODE_ANY));
    json_decref(number);
    assert_int_equal(sp_alloc_live(), live);
    json_set_alloc_funcs(their_alloc, their_free);
    number = json_integer(3);
    char *text = json_dumps(number, JSON_ENCODE_ANY);
    json_decref(number);
    int before = released;
    sp_json_text_free(text);
    sp_json_text_free(NULL);
    json_set_alloc_funcs(alloc, release);
    assert_int_equal(released, before + 1);
    assert_int_equal(sp_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_lines),
        cmocka_unit_test_setup_teardown(test_logs, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_json_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
