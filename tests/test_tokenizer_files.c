/* Files of tokenizers: tokenizer.json, what is refused, every prefix, many added tokens, how long opening takes. */
#include <time.h>
#include "text_support.h"
#include "base/progress.h"

#ifdef __SANITIZE_ADDRESS__
#define SLOWEST_LOAD 5.0 /* seconds */
#else
#define SLOWEST_LOAD 0.2
#endif

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loading_is_quick, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokenizer_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_added_tokens, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
