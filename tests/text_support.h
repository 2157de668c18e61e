/* What the tests of tokenizers share: goldens, a temporary folder with CLIP's vocabulary, learned vocabularies. */
#ifndef SP_TESTS_TEXT_SUPPORT_H
#define SP_TESTS_TEXT_SUPPORT_H
#include "support.h"
#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer.h"

typedef struct {
    char folder[64]; /* a temporary folder */
    char *clip;      /* a folder with CLIP's vocabulary */
    json_t *golden;
} fixture;

/* vocab.json and merges.txt of the built-in vocabulary. */
static inline char *save_clip_vocabulary(const char *folder)
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

static inline int set_up(void **state)
{
    fixture *f = sp_alloc_zero(sizeof *f);
    strcpy(f->folder, "/tmp/splam-test-text-XXXXXX");
    if (mkdtemp(f->folder) == NULL) return -1;
    f->clip = save_clip_vocabulary(f->folder);
    if (f->clip == NULL) return -1;
    sp_status status = sp_json_load(golden("tokenizer.json"), &f->golden);
    if (status != SP_OK) print_error("%s\n", sp_error_message());
    *state = f;
    return status == SP_OK ? 0 : -1;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    sp_remove_tree(f->folder);
    json_decref(f->golden);
    sp_free(f->clip);
    sp_free(f);
    return 0;
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
    char *path = sp_path_join(folder, name);
    assert_ok(sp_write_file(path, text, strlen(text)));
    sp_free(path);
}

static inline void link_file(const char *from, const char *to, const char *name)
{
    char *target = sp_path_join(from, name), *path = sp_path_join(to, name);
    char *absolute = realpath(target, NULL);
    assert_non_null(absolute);
    assert_int_equal(symlink(absolute, path), 0);
    free(absolute);
    sp_free(target);
    sp_free(path);
}

/* Learns from a golden's captions. */
static inline sp_status learn_golden(const json_t *golden, size_t size, int max_length, sp_tokenizer **out)
{
    const json_t *captions = json_object_get(golden, "captions");
    const char *texts[64];
    size_t count = json_array_size(captions);
    assert_true(count > 10 && count <= sizeof texts / sizeof texts[0]);
    for (size_t i = 0; i < count; i++)
        texts[i] = json_string_value(json_array_get(captions, i));
    return sp_tokenizer_train(texts, count, size, max_length, false, out);
}

static inline sp_status learn(const fixture *f, size_t size, int max_length, sp_tokenizer **out)
{
    return learn_golden(json_array_get(json_object_get(f->golden, "learned"), 0), size, max_length,
                        out);
}

#endif
