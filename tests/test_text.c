/* The tokenizer against transformers' CLIPTokenizer (tests/golden/tokenizer.json, made by
 * tools/golden/make_tokenizer.py), learning and saving one, long texts, and what happens without memory. */
#include "text_support.h"
#include "base/progress.h"

#define MOST_IDS 128

static void unhex(const char *hex, char *out)
{
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (char)strtol(digits, NULL, 16);
    }
    out[length] = '\0';
}

/* Encodes one golden case and compares: its ids, then padding to the end. */
static void check_case(const sp_tokenizer *tokenizer, const char *name, const json_t *value)
{
    const char *text = json_string_value(json_object_get(value, "text"));
    const char *hex = json_string_value(json_object_get(value, "hex"));
    char bytes[64];
    if (hex != NULL) {
        assert_true(strlen(hex) < 2 * sizeof bytes);
        unhex(hex, bytes);
    }
    const json_t *expected = json_object_get(value, "ids");
    int32_t ids[MOST_IDS];
    size_t used = 0, length = sp_tokenizer_max_length(tokenizer);
    assert_ok(sp_tokenizer_encode(tokenizer, hex != NULL ? bytes : text, ids, &used));
    if (used != json_array_size(expected))
        fail_msg("%s: \"%s\" has %zu tokens, not %zu", name, hex ? hex : text, used,
                 json_array_size(expected));
    for (size_t i = 0; i < length; i++) {
        json_int_t id = i < used ? json_integer_value(json_array_get(expected, i))
                                 : sp_tokenizer_pad(tokenizer);
        if (ids[i] != id)
            fail_msg("%s: \"%s\": id %zu is %d, not %lld", name, hex ? hex : text, i, ids[i],
                     (long long)id);
    }
}

static void check_cases(const sp_tokenizer *tokenizer, const char *name, const json_t *cases)
{
    assert_true(json_array_size(cases) > 20);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(tokenizer, name, json_array_get(cases, i));
}

static void check_settings(const fixture *f, const json_t *golden, size_t index)
{
    const char *name = json_string_value(json_object_get(golden, "name"));
    char *folder = sp_format("%s/settings-%zu", f->folder, index);
    assert_ok(sp_make_folders(folder));
    link_file(f->clip, folder, "vocab.json");
    link_file(f->clip, folder, "merges.txt");
    const char *file;
    json_t *content;
    json_object_foreach(json_object_get(golden, "files"), file, content)
    {
        char *path = sp_path_join(folder, file);
        assert_ok(sp_json_save(path, content));
        sp_free(path);
    }
    sp_tokenizer *tokenizer = NULL;
    assert_ok(sp_tokenizer_load(folder, &tokenizer));
    assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer),
                     json_integer_value(json_object_get(golden, "size")));
    assert_int_equal(sp_tokenizer_pad(tokenizer),
                     json_integer_value(json_object_get(golden, "pad")));
    assert_int_equal(sp_tokenizer_max_length(tokenizer),
                     json_integer_value(json_object_get(golden, "max_length")));
    check_cases(tokenizer, name, json_object_get(golden, "cases"));

    /* Saved and opened again it must be the same tokenizer. */
    sp_tokenizer *again = NULL;
    char *saved = sp_format("%s/saved-%zu", f->folder, index);
    assert_ok(sp_tokenizer_save(tokenizer, saved));
    assert_ok(sp_tokenizer_load(saved, &again));
    check_cases(again, name, json_object_get(golden, "cases"));
    sp_tokenizer_destroy(tokenizer);
    sp_tokenizer_destroy(again);
    sp_free(saved);
    sp_free(folder);
}

static void test_goldens(void **state)
{
    const fixture *f = *state;
    const json_t *settings = json_object_get(f->golden, "settings");
    assert_true(json_array_size(settings) > 10);
    for (size_t i = 0; i < json_array_size(settings); i++)
        check_settings(f, json_array_get(settings, i), i);
}

/* The built-in tokenizers are those of the published models, which the first two goldens describe. */
static void test_built_in(void **state)
{
    const fixture *f = *state;
    const json_t *settings = json_object_get(f->golden, "settings");
    for (int zero = 0; zero < 2; zero++) {
        const json_t *golden = json_array_get(settings, (size_t)zero);
        sp_tokenizer *tokenizer = NULL;
        assert_string_equal(json_string_value(json_object_get(golden, "name")),
                            zero ? "sd2" : "sd1");
        assert_ok(sp_tokenizer_clip(zero, &tokenizer));
        assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), 49408);
        assert_int_equal(sp_tokenizer_pad(tokenizer), zero ? 0 : 49407);
        assert_int_equal(sp_tokenizer_max_length(tokenizer), 77);
        check_cases(tokenizer, "built-in", json_object_get(golden, "cases"));
        sp_tokenizer_destroy(tokenizer);
    }
}

static void check_saved_merges(const char *folder, const json_t *merges)
{
    char *path = sp_path_join(folder, "merges.txt"), *text = NULL;
    assert_ok(sp_read_file(path, &text, NULL));
    char *rest = NULL, *line = strtok_r(text, "\n", &rest);
    assert_string_equal(line, "#version: 0.2");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        line = strtok_r(NULL, "\n", &rest);
        assert_non_null(line);
        assert_string_equal(line, json_string_value(json_array_get(merges, i)));
    }
    assert_null(strtok_r(NULL, "\n", &rest));
    sp_free(text);
    sp_free(path);
}

/* Merges and ids equal those of the plain Python implementation, also after saving and loading. */
static void test_learning(void **state)
{
    const fixture *f = *state;
    const json_t *learned = json_object_get(f->golden, "learned");
    for (size_t i = 0; i < json_array_size(learned); i++) {
        const json_t *golden = json_array_get(learned, i);
        sp_tokenizer *tokenizer = NULL, *again = NULL;
        assert_ok(learn_golden(golden, (size_t)json_integer_value(json_object_get(golden, "size")),
                               (int)json_integer_value(json_object_get(golden, "max_length")),
                               &tokenizer));
        json_int_t tokens = json_integer_value(json_object_get(golden, "tokens"));
        assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), tokens);
        assert_int_equal(sp_tokenizer_bos(tokenizer), tokens - 2);
        assert_int_equal(sp_tokenizer_eos(tokenizer), tokens - 1);
        check_cases(tokenizer, "learned", json_object_get(golden, "cases"));
        char *folder = sp_format("%s/learned-%zu", f->folder, i);
        assert_ok(sp_tokenizer_save(tokenizer, folder));
        check_saved_merges(folder, json_object_get(golden, "merges"));
        assert_ok(sp_tokenizer_load(folder, &again));
        check_cases(again, "learned and loaded", json_object_get(golden, "cases"));
        sp_tokenizer_destroy(tokenizer);
        sp_tokenizer_destroy(again);
        sp_free(folder);
    }
}

static void test_learned_words_are_whole(void **state)
{
    sp_tokenizer *tokenizer = NULL;
    assert_ok(learn(*state, 4000, 8, &tokenizer));
    int32_t ids[8];
    size_t used = 0;
    assert_ok(sp_tokenizer_encode(tokenizer, "Grinning bandana Ivoire", ids, &used));
    assert_int_equal(used, 5);
    sp_tokenizer_destroy(tokenizer);
}

static void test_learning_refuses(void **state)
{
    sp_tokenizer *tokenizer = NULL;
    assert_int_equal(learn(*state, 513, 8, &tokenizer), SP_ARGUMENT);
    assert_int_equal(learn(*state, 514, 1, &tokenizer), SP_ARGUMENT);
    assert_null(tokenizer);
    assert_ok(sp_tokenizer_train(NULL, 0, 514, 2, false, &tokenizer));
    assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), 514);
    sp_tokenizer_destroy(tokenizer);
}

/* All tokens, and what transformers' decode makes of them. */
static void test_all_tokens(void **state)
{
    (void)state;
    static const char text[] = "red, green (it's) a-b  \xC3\x89t\xC3\xA9 <|endoftext|> x "
                               "\xE6\x97\xA5\xE6\x9C\xAC 12,3 . don't stop! e.g. \xF0\x9F\x98\x80";
    static const int32_t expected[] = {736,   267, 1901,  263,   585, 568, 264, 320, 268, 321, 3459,
                                       39694, 49407, 343, 39121, 19277, 361, 272, 273, 267, 274, 269,
                                       847,   713, 1691,  256,   324, 269, 326, 269, 7334};
    static const char decoded[] = "green ( it 's ) a - b \xC3\xA9t\xC3\xA9 <|endoftext|>x "
                                  "\xE6\x97\xA5\xE6\x9C\xAC 1 2 , 3 . don 't stop ! e . g . "
                                  "\xF0\x9F\x98\x80";
    sp_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    char *out;
    assert_ok(sp_tokenizer_clip(false, &tokenizer));
    assert_ok(sp_tokenizer_encode_all(tokenizer, text, &ids, &count));
    assert_int_equal(count, sizeof expected / sizeof *expected);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_ok(sp_tokenizer_decode(tokenizer, ids + 2, count - 2, &out));
    assert_string_equal(out, decoded);
    sp_free(out);
    sp_free(ids);
    const int32_t strange[] = {-1, 736, 1 << 30};
    assert_ok(sp_tokenizer_decode(tokenizer, strange, 3, &out));
    assert_string_equal(out, "red");
    sp_free(out);
    assert_ok(sp_tokenizer_encode_all(tokenizer, "", &ids, &count));
    assert_int_equal(count, 0);
    assert_ok(sp_tokenizer_decode(tokenizer, ids, count, &out));
    assert_string_equal(out, "");
    sp_free(out);
    sp_free(ids);
    sp_tokenizer_destroy(tokenizer);
}

/* What allocates, one step at a time. `folder` holds a saved tokenizer; `saved` takes another. */
typedef struct {
    const fixture *f;
    const sp_tokenizer *tokenizer;
    const char *folder, *saved;
} memory_case;

static sp_status learn_once(const memory_case *c)
{
    sp_tokenizer *tokenizer = NULL;
    sp_status status = learn(c->f, 530, 16, &tokenizer);
    assert_int_equal(status == SP_OK, tokenizer != NULL);
    sp_tokenizer_destroy(tokenizer);
    return status;
}

static sp_status save_once(const memory_case *c)
{
    return sp_tokenizer_save(c->tokenizer, c->saved);
}

static sp_status load_once(const memory_case *c)
{
    sp_tokenizer *tokenizer = NULL;
    sp_status status = sp_tokenizer_load(c->folder, &tokenizer);
    assert_int_equal(status == SP_OK, tokenizer != NULL);
    sp_tokenizer_destroy(tokenizer);
    return status;
}

static sp_status encode_once(const memory_case *c)
{
    int32_t ids[16];
    return sp_tokenizer_encode(c->tokenizer, "face with a\xCC\x81 <|endoftext|> \xF0\x9F\x98\x80",
                               ids, NULL);
}

static sp_status decode_once(const memory_case *c)
{
    int32_t *ids = NULL;
    size_t count;
    char *text = NULL;
    sp_status status = sp_tokenizer_encode_all(c->tokenizer, "a long enough text of words", &ids, &count);
    if (!status) status = sp_tokenizer_decode(c->tokenizer, ids, count, &text);
    sp_free(ids);
    sp_free(text);
    return status;
}

/* Each allocation fails in turn: always SP_MEMORY, and every block is given back. */
static void fail_each_allocation(const char *name, sp_status (*step)(const memory_case *),
                                 const memory_case *c, long least)
{
    long blocks = sp_alloc_live(), count = 0;
    for (;; count++) {
        sp_alloc_fail_after(count);
        sp_status status = step(c);
        sp_alloc_fail_after(-1);
        assert_int_equal(sp_alloc_live(), blocks);
        if (status == SP_OK) break;
        if (status != SP_MEMORY)
            fail_msg("%s, allocation %ld: %s", name, count, sp_error_message());
    }
    if (count < least) fail_msg("%s makes %ld allocations, not %ld", name, count, least);
}

static void test_allocation_failures(void **state)
{
    const fixture *f = *state;
    sp_tokenizer *tokenizer = NULL;
    assert_ok(learn(f, 530, 16, &tokenizer));
    char *folder = sp_format("%s/memory", f->folder), *saved = sp_format("%s/again", f->folder);
    assert_ok(sp_tokenizer_save(tokenizer, folder));
    const memory_case c = {.f = f, .tokenizer = tokenizer, .folder = folder, .saved = saved};
    fail_each_allocation("learning", learn_once, &c, 100);
    fail_each_allocation("saving", save_once, &c, 100);
    fail_each_allocation("loading", load_once, &c, 100);
    fail_each_allocation("encoding", encode_once, &c, 5);
    fail_each_allocation("decoding", decode_once, &c, 7);
    sp_tokenizer_destroy(tokenizer);
    sp_free(folder);
    sp_free(saved);
}

/* Long words and long runs of marks take time in proportion, not its square. */
static void test_long_texts(void **state)
{
    const fixture *f = *state;
    sp_tokenizer *tokenizer = NULL;
    assert_ok(learn(f, 600, 16, &tokenizer));
    const size_t length = 400000;
    char *text = sp_alloc(length + 1);
    const char *const patterns[] = {"a", "an", "\xCC\x81\xCC\xA3", "!", "\xFF", "\xC4\xB0"};
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        for (size_t i = 0; i < length; i++)
            text[i] = patterns[p][i % strlen(patterns[p])];
        text[length] = '\0';
        int32_t ids[16];
        size_t used = 0;
        double begin = sp_now();
        assert_ok(sp_tokenizer_encode(tokenizer, text, ids, &used));
        assert_int_equal(used, 16);
        /* 0.1 s or so; a quadratic way would take minutes. */
        assert_true(sp_now() - begin < 20);
    }
    sp_free(text);
    sp_tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_goldens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_built_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learned_words_are_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learning_refuses, set_up, tear_down),
        cmocka_unit_test(test_all_tokens),
        cmocka_unit_test_setup_teardown(test_allocation_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_texts, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
