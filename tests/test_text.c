/* The tokenizer against transformers' CLIPTokenizer (tests/golden/tokenizer.json, made by
 * tools/golden/make_tokenizer.py), learning and saving one, and what happens with bad files and no
 * memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/progress.h"
#include "text/tokenizer.h"

#define MOST_IDS 128
#ifdef __SANITIZE_ADDRESS__
#define SLOWEST_LOAD 5.0 /* seconds */
#else
#define SLOWEST_LOAD 0.2
#endif

typedef struct {
    char folder[64]; /* a temporary folder */
    char *clip;      /* a folder with CLIP's vocabulary */
    json_t *golden;
} fixture;

static char *source_path(const char *name)
{
    const char *source = getenv("SPLAM_SOURCE");
    return sp_path_join(source != NULL ? source : ".", name);
}

/* vocab.json and merges.txt of the built-in vocabulary. */
static char *save_clip_vocabulary(const char *folder)
{
    sp_tokenizer *tokenizer = NULL;
    char *path = sp_path_join(folder, "clip");
    if (sp_tokenizer_clip(false, &tokenizer) || sp_tokenizer_save(tokenizer, path)) {
        print_error("%s\n", sp_error_message());
        sp_free(path);
        path = NULL;
    }
    sp_tokenizer_destroy(tokenizer);
    return path;
}

static int set_up(void **state)
{
    fixture *f = sp_alloc_zero(sizeof *f);
    strcpy(f->folder, "/tmp/splam-test-text-XXXXXX");
    if (mkdtemp(f->folder) == NULL) return -1;
    f->clip = save_clip_vocabulary(f->folder);
    if (f->clip == NULL) return -1;
    char *path = source_path("tests/golden/tokenizer.json");
    sp_status status = sp_json_load(path, &f->golden);
    if (status != SP_OK) print_error("%s\n", sp_error_message());
    sp_free(path);
    *state = f;
    return status == SP_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    sp_remove_tree(f->folder);
    json_decref(f->golden);
    sp_free(f->clip);
    sp_free(f);
    return 0;
}

static void assert_ok(sp_status status)
{
    if (status != SP_OK) fail_msg("%s", sp_error_message());
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char *path = sp_path_join(folder, name);
    assert_ok(sp_write_file(path, text, strlen(text)));
    sp_free(path);
}

static void link_file(const char *from, const char *to, const char *name)
{
    char *target = sp_path_join(from, name), *path = sp_path_join(to, name);
    char *absolute = realpath(target, NULL);
    assert_non_null(absolute);
    assert_int_equal(symlink(absolute, path), 0);
    free(absolute);
    sp_free(target);
    sp_free(path);
}

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

static void test_loading_is_quick(void **state)
{
    const fixture *f = *state;
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        clock_t begin = clock();
        sp_tokenizer *tokenizer = NULL;
        assert_ok(sp_tokenizer_load(f->clip, &tokenizer));
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (seconds < best) best = seconds;
        sp_tokenizer_destroy(tokenizer);
    }
    print_message("loading CLIP's vocabulary: %.3f s\n", best);
    /* About 0.04 s of processor time in a release build, which other work does not stretch much. */
    assert_true(best < SLOWEST_LOAD);
}

/* Learns from a golden's captions. */
static sp_status learn_golden(const json_t *golden, size_t size, int max_length, sp_tokenizer **out)
{
    const json_t *captions = json_object_get(golden, "captions");
    const char *texts[64];
    size_t count = json_array_size(captions);
    assert_true(count > 10 && count <= sizeof texts / sizeof texts[0]);
    for (size_t i = 0; i < count; i++)
        texts[i] = json_string_value(json_array_get(captions, i));
    return sp_tokenizer_train(texts, count, size, max_length, out);
}

static sp_status learn(const fixture *f, size_t size, int max_length, sp_tokenizer **out)
{
    return learn_golden(json_array_get(json_object_get(f->golden, "learned"), 0), size, max_length,
                        out);
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
    assert_ok(sp_tokenizer_train(NULL, 0, 514, 2, &tokenizer));
    assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), 514);
    sp_tokenizer_destroy(tokenizer);
}

/* transformers 5 saves tokenizer.json instead of vocab.json and merges.txt. */
static void write_whole(const char *folder, const char *merges)
{
    char *path = sp_path_join(folder, "vocab.json"), *vocabulary = NULL;
    assert_ok(sp_read_file(path, &vocabulary, NULL));
    char *whole = sp_format(
        "{\"model\": {\"type\": \"BPE\", \"vocab\": %s, \"merges\": %s}, \"added_tokens\": "
        "[{\"id\": 513, \"content\": \"<|endoftext|>\", \"special\": true}]}",
        vocabulary, merges);
    write_text(folder, "tokenizer.json", whole);
    assert_int_equal(unlink(path), 0);
    sp_free(whole);
    sp_free(vocabulary);
    sp_free(path);
}

static void test_tokenizer_json(void **state)
{
    const fixture *f = *state;
    sp_tokenizer *tokenizer = NULL;
    assert_ok(learn(f, 514, 6, &tokenizer));
    char *folder = sp_format("%s/whole", f->folder);
    assert_ok(sp_tokenizer_save(tokenizer, folder));
    sp_tokenizer_destroy(tokenizer);
    write_whole(folder, "[]");
    assert_ok(sp_tokenizer_load(folder, &tokenizer));
    int32_t ids[6];
    assert_ok(sp_tokenizer_encode(tokenizer, "<|endoftext|>!", ids, NULL));
    const int32_t expected[6] = {512, 513, 256, 513, 513, 513};
    assert_memory_equal(ids, expected, sizeof ids);
    sp_tokenizer_destroy(tokenizer);
    sp_free(folder);
}

/* A small vocabulary, written anew for each bad folder. */
static const char small_vocabulary[] =
    "{\"a\": 0, \"b\": 1, \"a</w>\": 2, \"b</w>\": 3, \"ab</w>\": 4, \"<|startoftext|>\": 5, \"<|endoftext|>\": 6}";
static const char small_merges[] = "#version: 0.2\na b</w>\n";

static const struct bad_folder {
    const char *vocabulary, *merges, *config, *map, *added;
    sp_status status;
    const char *names; /* what the message must speak of */
} bad_folders[] = {
    {"{\"a\": 0, \"b", small_merges, NULL, NULL, NULL, SP_FORMAT, "vocab.json"},
    {"", small_merges, NULL, NULL, NULL, SP_FORMAT, "vocab.json"},
    {"[1, 2]", small_merges, NULL, NULL, NULL, SP_FORMAT, "no tokens"},
    {"{}", small_merges, NULL, NULL, NULL, SP_FORMAT, "no tokens"},
    {"{\"a\": 0, \"b\": 0}", small_merges, NULL, NULL, NULL, SP_FORMAT, "both have the id 0"},
    {"{\"a\": 0, \"b\": 2000000000}", small_merges, NULL, NULL, NULL, SP_FORMAT, "\"b\""},
    {"{\"a\": 0, \"b\": -1}", small_merges, NULL, NULL, NULL, SP_FORMAT, "\"b\""},
    {"{\"a\": 0, \"b\": 0.5}", small_merges, NULL, NULL, NULL, SP_FORMAT, "\"b\""},
    {"{\"a\": 0, \"b\": \"1\"}", small_merges, NULL, NULL, NULL, SP_FORMAT, "\"b\""},
    {"{\"a\": 99999999999999999999999999}", small_merges, NULL, NULL, NULL, SP_FORMAT,
     "vocab.json"},
    {small_vocabulary, "a c\n", NULL, NULL, NULL, SP_FORMAT, "\"c\""},
    {small_vocabulary, "b a</w>\n", NULL, NULL, NULL, SP_FORMAT, "lacks"},
    {small_vocabulary, "ab\n", NULL, NULL, NULL, SP_FORMAT, "\"ab\""},
    {small_vocabulary, "a b b\n", NULL, NULL, NULL, SP_FORMAT, "\"a b b\""},
    {small_vocabulary, "\n", NULL, NULL, NULL, SP_FORMAT, "merge 1"},
    {small_vocabulary, NULL, NULL, NULL, NULL, SP_IO, "merges.txt"},
    {NULL, small_merges, NULL, NULL, NULL, SP_IO, "vocab.json"},
    {small_vocabulary, small_merges, "{", NULL, NULL, SP_FORMAT, "tokenizer_config.json"},
    {small_vocabulary, small_merges, "[]", NULL, NULL, SP_FORMAT, "tokenizer_config.json"},
    {small_vocabulary, small_merges, "{\"model_max_length\": 1}", NULL, NULL, SP_FORMAT,
     "model_max_length"},
    {small_vocabulary, small_merges, "{\"model_max_length\": -1e300}", NULL, NULL, SP_FORMAT,
     "model_max_length"},
    {small_vocabulary, small_merges, "{\"model_max_length\": \"77\"}", NULL, NULL, SP_FORMAT,
     "model_max_length"},
    {small_vocabulary, small_merges, "{\"tokenizer_class\": \"T5Tokenizer\"}", NULL, NULL,
     SP_UNSUPPORTED, "T5"},
    {small_vocabulary, small_merges, "{\"padding_side\": \"left\"}", NULL, NULL, SP_UNSUPPORTED,
     "padding_side"},
    {small_vocabulary, small_merges, "{\"pad_token\": 7}", NULL, NULL, SP_FORMAT, "pad_token"},
    {small_vocabulary, small_merges, "{\"eos_token\": null}", NULL, NULL, SP_FORMAT, "eos_token"},
    {small_vocabulary, small_merges, "{\"bos_token\": \"\"}", NULL, NULL, SP_FORMAT, "bos_token"},
    {small_vocabulary, small_merges, NULL, "{\"pad_token\": {}}", NULL, SP_FORMAT, "pad_token"},
    {small_vocabulary, small_merges, NULL,
     "{\"pad_token\": {\"content\": \"!\", \"lstrip\": true}}", NULL, SP_UNSUPPORTED, "lstrip"},
    {small_vocabulary, small_merges, NULL, NULL, "{\"<c>\": 8}", SP_FORMAT, "<c>"},
    {small_vocabulary, small_merges, NULL, NULL, "{\"<c>\": 1e300}", SP_FORMAT, "<c>"},
    {small_vocabulary, small_merges, NULL, NULL, "{\"<c>\": \"7\"}", SP_FORMAT, "<c>"},
    {small_vocabulary, small_merges, NULL, NULL, "{\"<c>\": 7, \"<d>\": 7}", SP_FORMAT,
     "its place is 8"},
    {small_vocabulary, small_merges,
     "{\"added_tokens_decoder\": {\"0x7\": {\"content\": \"<c>\"}}}", NULL, NULL, SP_FORMAT, "<c>"},
    {small_vocabulary, small_merges, "{\"added_tokens_decoder\": {\"7\": []}}", NULL, NULL,
     SP_FORMAT, "added_tokens_decoder"},
};

static void write_bad_folder(const struct bad_folder *bad, const char *folder)
{
    const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                 "special_tokens_map.json", "added_tokens.json"};
    const char *const texts[] = {bad->vocabulary, bad->merges, bad->config, bad->map, bad->added};
    assert_ok(sp_remove_tree(folder));
    assert_ok(sp_make_folders(folder));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (texts[i] != NULL) write_text(folder, names[i], texts[i]);
    }
}

static void test_bad_files(void **state)
{
    const fixture *f = *state;
    char *folder = sp_format("%s/bad", f->folder);
    for (size_t i = 0; i < sizeof bad_folders / sizeof bad_folders[0]; i++) {
        write_bad_folder(&bad_folders[i], folder);
        sp_tokenizer *tokenizer = NULL;
        sp_status status = sp_tokenizer_load(folder, &tokenizer);
        assert_null(tokenizer);
        if (status != bad_folders[i].status ||
            strstr(sp_error_message(), bad_folders[i].names) == NULL)
            fail_msg("folder %zu: status %d, \"%s\"", i, (int)status, sp_error_message());
    }
    sp_free(folder);
}

/* Every prefix of good files: refused or opened, never a crash. */
static void test_truncated_files(void **state)
{
    const fixture *f = *state;
    const char config[] =
        "{\"model_max_length\": 8, \"added_tokens_decoder\": {\"6\": {\"content\": "
        "\"<|endoftext|>\", \"normalized\": false, \"special\": true}}}";
    char *folder = sp_format("%s/truncated", f->folder);
    const char *const whole[] = {small_vocabulary, small_merges, config};
    for (int file = 0; file < 3; file++) {
        for (size_t length = 0; length <= strlen(whole[file]); length++) {
            char *part = sp_strdup(whole[file]);
            part[length] = '\0';
            struct bad_folder folder_parts = {
                .vocabulary = small_vocabulary, .merges = small_merges, .config = config};
            *(file == 0   ? &folder_parts.vocabulary
              : file == 1 ? &folder_parts.merges
                          : &folder_parts.config) = part;
            write_bad_folder(&folder_parts, folder);
            sp_tokenizer *tokenizer = NULL;
            sp_status status = sp_tokenizer_load(folder, &tokenizer);
            if (length == strlen(whole[file])) assert_ok(status);
            assert_int_equal(status == SP_OK, tokenizer != NULL);
            sp_tokenizer_destroy(tokenizer);
            sp_free(part);
        }
    }
    sp_free(folder);
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

/* Bytes that the vocabulary has no token for become the unknown token. */
static void test_unknown_bytes(void **state)
{
    const fixture *f = *state;
    char *folder = sp_format("%s/small", f->folder);
    write_bad_folder(&(struct bad_folder){.vocabulary = small_vocabulary, .merges = small_merges},
                     folder);
    sp_tokenizer *tokenizer = NULL;
    assert_ok(sp_tokenizer_load(folder, &tokenizer));
    int32_t ids[77];
    size_t used = 0;
    assert_ok(sp_tokenizer_encode(tokenizer, "ab aab cab", ids, &used));
    const int32_t expected[] = {5, 4, 0, 4, 6, 4, 6};
    assert_int_equal(used, sizeof expected / sizeof expected[0]);
    assert_memory_equal(ids, expected, sizeof expected);
    sp_tokenizer_destroy(tokenizer);
    sp_free(folder);
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

enum { MANY = 40000, FIRST = 514 };

/* As {"<a>": 514, ...}, ["<a>", ...] or {"514": {"content": "<a>"}, ...}: what files list. */
static json_t *many_tokens(int form)
{
    json_t *out = form == 1 ? json_array() : json_object();
    for (int i = 0; i < MANY; i++) {
        char name[32], id[16];
        snprintf(name, sizeof name, "<Token%05d>", i);
        snprintf(id, sizeof id, "%d", FIRST + i);
        if (form == 0) json_object_set_new(out, name, json_integer(FIRST + i));
        if (form == 1) json_array_append_new(out, json_string(name));
        if (form == 2)
            json_object_set_new(out, id, json_pack("{s:s, s:b}", "content", name, "normalized", i % 2));
    }
    return out;
}

static void check_many(const char *folder, int form)
{
    static char text[20 * MANY + 1];
    sp_tokenizer *tokenizer = NULL;
    double begin = sp_now();
    assert_ok(sp_tokenizer_load(folder, &tokenizer));
    for (int i = 0; i < MANY; i++)
        snprintf(text + 12 * i, 13, "<Token%05d>", MANY - 1 - i);
    int32_t *ids;
    size_t count;
    assert_ok(sp_tokenizer_encode_all(tokenizer, text, &ids, &count));
    /* 0.1 s or so; looking at all tokens for each took minutes. */
    if (sp_now() - begin > 20) fail_msg("form %d took %g s", form, sp_now() - begin);
    assert_int_equal(count, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(ids[i], FIRST + MANY - 1 - i);
    char *decoded;
    assert_ok(sp_tokenizer_decode(tokenizer, ids, count, &decoded));
    assert_string_equal(decoded, text);
    sp_free(decoded);
    sp_free(ids);
    memset(text, '<', sizeof text - 1); /* each could begin a token */
    assert_ok(sp_tokenizer_encode_all(tokenizer, text, &ids, &count));
    sp_free(ids);
    if (sp_now() - begin > 40) fail_msg("form %d took %g s", form, sp_now() - begin);
    sp_tokenizer_destroy(tokenizer);
}

static void test_many_added_tokens(void **state)
{
    const fixture *f = *state;
    sp_tokenizer *tokenizer = NULL;
    assert_ok(learn(f, FIRST, 16, &tokenizer));
    for (int form = 0; form < 3; form++) {
        char *folder = sp_format("%s/many%d", f->folder, form), *path;
        assert_ok(sp_tokenizer_save(tokenizer, folder));
        json_t *config = json_pack("{s:s}", "tokenizer_class", "CLIPTokenizer"), *many = many_tokens(form);
        if (form == 1) json_object_set(config, "additional_special_tokens", many);
        if (form == 2) json_object_set(config, "added_tokens_decoder", many);
        path = sp_path_join(folder, "tokenizer_config.json");
        assert_ok(sp_json_save(path, config));
        sp_free(path);
        path = sp_path_join(folder, "added_tokens.json");
        if (form == 0) assert_ok(sp_json_save(path, many));
        check_many(folder, form);
        json_decref(config);
        json_decref(many);
        sp_free(path);
        sp_free(folder);
    }
    sp_tokenizer_destroy(tokenizer);
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
        cmocka_unit_test_setup_teardown(test_loading_is_quick, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learned_words_are_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_learning_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokenizer_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated_files, set_up, tear_down),
        cmocka_unit_test(test_all_tokens),
        cmocka_unit_test_setup_teardown(test_unknown_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_allocation_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_added_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_texts, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
