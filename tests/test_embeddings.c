/* Learned tokens: every form of their files, what is refused, and the table of a text encoder that gets them. */
#include "tensor_support.h"
#include "base/text.h"
#include "checkpoints/embedding.h"
#include "formats/safetensors.h"

static const char *embedding(const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", golden_file("prompts", "embeddings"), name);
    return path;
}

static sp_status open_at(const char *path, const char *token, sp_learned *out)
{
    return sp_learned_open(&(splam_embedding){path, token}, out);
}

/* ---- files ---- */

static void every_form_is_read(void **state)
{
    static const struct {
        const char *name, *token;
        int64_t count;
        sp_dtype dtype;
    } cases[] = {
        {"a1111.pt", "A1111-Style", 2, SP_F32},
        {"older.pt", "older", 3, SP_F32},
        {"learned_embeds.bin", "<cat-toy>", 1, SP_F32},
        {"half.bin", "<many>", 4, SP_F16},
        {"Easy.safetensors", "Easy", 5, SP_F32},
        {"learned_embeds.safetensors", "<safe>", 1, SP_F32},
        {"", "<safe>", 1, SP_F32}, /* the folder */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_learned e;
        assert_ok(open_at(embedding(cases[i].name), NULL, &e));
        assert_string_equal(e.token, cases[i].token);
        assert_int_equal(e.count, cases[i].count);
        assert_int_equal(e.vectors[0].dtype, cases[i].dtype);
        assert_true(sp_shape_equal(e.vectors[0].shape, sp_shape_of(cases[i].count, 8)));
        assert_null(e.vectors[1].data);
        sp_learned_free(&e);
        assert_ok(open_at(embedding(cases[i].name), "mine", &e));
        assert_string_equal(e.token, "mine");
        sp_learned_free(&e);
    }
}

static void two_encoders_have_two_tensors(void **state)
{
    (void)state;
    sp_learned e;
    char sum[SP_SHA256_TEXT];
    assert_ok(open_at(embedding("two.safetensors"), NULL, &e));
    assert_string_equal(e.token, "two");
    assert_true(sp_shape_equal(e.vectors[0].shape, sp_shape_of(3, 8)));
    assert_true(sp_shape_equal(e.vectors[1].shape, sp_shape_of(3, 16)));
    assert_ok(sp_learned_sha256(&e, sum));
    assert_int_equal(strlen(sum), 64);
    sp_learned_free(&e);
}

/* The tensor that cases are made of, and the file that holds it. */
typedef struct {
    const char *name[3];
    sp_shape shape[3];
    sp_dtype dtype;
    float value;
    sp_status status;
    const char *message;
} refusal;

static const char *write_case(void *const *state, const refusal *r)
{
    sp_tensor tensors[3] = {0};
    sp_named_tensor named[3];
    size_t count = 0;
    for (; count < 3 && r->name[count]; count++) {
        assert_ok(sp_tensor_create(r->dtype, r->shape[count], &tensors[count]));
        if (r->value != 0 && sp_tensor_count(&tensors[count])) *(float *)tensors[count].data = r->value;
        named[count] = (sp_named_tensor){r->name[count], &tensors[count]};
    }
    const char *path = in_folder(state, "case.safetensors");
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
    for (size_t i = 0; i < count; i++)
        sp_tensor_free(&tensors[i]);
    return path;
}

static void other_files_are_refused(void **state)
{
    const refusal cases[] = {
        {{"clip_g"}, {sp_shape_of(2, 8)}, SP_F32, 0, SP_FORMAT, "has 1 tensors, and an embedding has one of any name"},
        {{"a", "b"}, {sp_shape_of(2, 8), sp_shape_of(2, 8)}, SP_F32, 0, SP_FORMAT, "has 2 tensors"},
        {{"clip_l", "clip_g", "x"}, {sp_shape_of(2, 8), sp_shape_of(2, 8), sp_shape_of(1)}, SP_F32, 0, SP_FORMAT,
         "has 3 tensors"},
        {{"clip_l", "clip_g"}, {sp_shape_of(2, 8), sp_shape_of(3, 8)}, SP_F32, 0, SP_SHAPE,
         "clip_l has 2 vectors and clip_g 3"},
        {{"lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"}, {sp_shape_of(2, 8), sp_shape_of(2, 8)}, SP_F32,
         0, SP_FORMAT, "is a LoRA, and an embedding (textual inversion) was expected"},
        {{"emb_params"}, {sp_shape_of(2, 2, 8)}, SP_F32, 0, SP_SHAPE, "is F32 [2,2,8], expected floats [n,width]"},
        {{"emb_params"}, {{.rank = 0}}, SP_F32, 0, SP_SHAPE, "expected floats"},
        {{"emb_params"}, {sp_shape_of(0, 8)}, SP_F32, 0, SP_SHAPE, "expected floats"},
        {{"emb_params"}, {sp_shape_of(1001, 1)}, SP_F32, 0, SP_SHAPE, "n at most 1000"},
        {{"emb_params"}, {sp_shape_of(2, 8)}, SP_I32, 0, SP_SHAPE, "is I32 [2,8], expected floats"},
        {{"emb_params"}, {sp_shape_of(2, 8)}, SP_F32, 1.0f / 0.0f, SP_NUMERIC, "case.safetensors: emb_params"},
        {{NULL}, {{.rank = 0}}, SP_F32, 0, SP_FORMAT, "is a file without tensors, and an embedding"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_learned e;
        assert_status(open_at(write_case(state, &cases[i]), NULL, &e), cases[i].status);
        assert_message(cases[i].message);
        sp_learned_free(&e);
    }
    sp_learned e;
    assert_status(open_at(in_folder(state, "nowhere.pt"), NULL, &e), SP_IO);
    sp_learned_free(&e);
    assert_status(open_at(*state, NULL, &e), SP_IO);
    assert_message("has neither learned_embeds.safetensors nor learned_embeds.bin");
    sp_learned_free(&e);
}

/* Each byte of a file in turn is another one: whatever is said, nothing may break. */
static void damaged_files_do_no_harm(void **state)
{
    static const char *const names[] = {"a1111.pt", "older.pt", "half.bin", "two.safetensors"};
    char *path = sp_strdup(in_folder(state, "damaged"));
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        char *bytes;
        size_t size;
        assert_ok(sp_read_file(embedding(names[n]), &bytes, &size));
        for (size_t i = 0; i < size; i++) {
            static const unsigned char changes[] = {0x01, 0x80, 0xFF};
            sp_learned e;
            unsigned char change = changes[i % sizeof changes];
            bytes[i] = (char)(bytes[i] ^ change);
            overwrite(path, bytes, size);
            open_at(path, NULL, &e);
            sp_learned_free(&e);
            bytes[i] = (char)(bytes[i] ^ change);
        }
        sp_free(bytes);
    }
    sp_free(path);
}

/* ---- in a text encoder ---- */

typedef struct {
    sp_component *text;
    sp_tokenizer *tokenizer;
} parts;

static void open_parts(parts *p)
{
    assert_ok(sp_component_open(golden("prompts"), "text_encoder", &p->text));
    assert_ok(sp_tokenizer_load(golden_file("prompts", "tokenizer"), &p->tokenizer));
}

static void close_parts(parts *p)
{
    sp_component_close(p->text);
    sp_tokenizer_destroy(p->tokenizer);
}

static sp_status add_all(const splam_embedding *sources, size_t count, parts *p, int encoders, bool exact)
{
    sp_learned_list list;
    const sp_learned_place place = {.encoders = encoders, .tokenizer = p->tokenizer, .text = p->text};
    SP_TRY(sp_learned_list_open(sources, count, &list));
    sp_status status = sp_learned_list_add(&list, &place, exact);
    sp_learned_list_close(&list);
    return status;
}

static const sp_tensor *table_of(const parts *p)
{
    return sp_weights_find(p->text->weights, "embeddings.token_embedding.weight");
}

static void vectors_follow_the_table(void **state)
{
    (void)state;
    const splam_embedding sources[] = {{embedding("half.bin"), NULL}, {embedding("a1111.pt"), "toy"}};
    parts plain, p;
    sp_learned toy;
    int32_t *ids;
    size_t count;
    open_parts(&plain);
    open_parts(&p);
    assert_ok(add_all(sources, 2, &p, 1, true));
    assert_ok(open_at(embedding("a1111.pt"), NULL, &toy));
    assert_true(sp_shape_equal(table_of(&p)->shape, sp_shape_of(566, 8)));
    assert_int_equal(p.text->config.text.vocabulary, 566);
    assert_memory_equal(table_of(&p)->data, table_of(&plain)->data, sp_tensor_bytes(table_of(&plain)));
    assert_memory_equal((float *)table_of(&p)->data + (560 + 4) * 8, toy.vectors[0].data, 2 * 8 * sizeof(float));
    assert_ok(sp_tokenizer_encode_all(p.tokenizer, "toy <MANY>", &ids, &count));
    const int32_t expected[] = {564, 565, 560, 561, 562, 563};
    assert_int_equal(count, 6);
    assert_memory_equal(ids, expected, sizeof expected);
    sp_free(ids);
    sp_learned_free(&toy);
    close_parts(&plain);
    close_parts(&p);
}

static void the_table_keeps_its_type_where_that_is_asked_for(void **state)
{
    static const struct {
        sp_dtype table;
        const char *file;
        bool exact;
        sp_dtype expected;
    } cases[] = {
        {SP_F16, "half.bin", true, SP_F16},        {SP_F16, "a1111.pt", true, SP_F32},
        {SP_F16, "a1111.pt", false, SP_F16},       {SP_BF16, "half.bin", false, SP_BF16},
        {SP_BF16, "half.bin", true, SP_F32},       {SP_F32, "half.bin", false, SP_F32},
        {SP_F8_E4M3, "half.bin", false, SP_BF16}, {SP_F8_E4M3, "half.bin", true, SP_F32},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const splam_embedding source = {embedding(cases[i].file), NULL};
        parts p;
        sp_tensor table;
        open_parts(&p);
        assert_ok(sp_tensor_convert(table_of(&p), cases[i].table, &table));
        assert_ok(sp_weights_add(p.text->weights, "embeddings.token_embedding.weight", table));
        assert_ok(add_all(&source, 1, &p, 1, cases[i].exact));
        assert_int_equal(table_of(&p)->dtype, cases[i].expected);
        close_parts(&p);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct {
        const char *first, *second, *token;
        int encoders;
        sp_status status;
        const char *message;
    } cases[] = {
        {"wide.safetensors", NULL, NULL, 1, SP_SHAPE,
         "wide.safetensors: its vectors have 16 numbers, and the text encoder takes 8"},
        {"two.safetensors", NULL, NULL, 1, SP_ARGUMENT,
         "two.safetensors: has vectors for two text encoders, clip_l and clip_g, and the model has one"},
        {"half.bin", NULL, NULL, 2, SP_ARGUMENT,
         "half.bin: has vectors for one text encoder, and the model has two, which take clip_l and clip_g"},
        {"half.bin", "a1111.pt", "<many>", 1, SP_ARGUMENT,
         "a1111.pt: the tokenizer has the token \"<many>\" already, and needs another name for this"},
        {"a1111.pt", NULL, "apple</w>", 1, SP_ARGUMENT, "the tokenizer has the token \"apple</w>\" already"},
        {"a1111.pt", NULL, "", 1, SP_ARGUMENT, "\"\" is no token"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        splam_embedding sources[2] = {{embedding(cases[i].first), NULL}};
        size_t count = cases[i].second ? 2 : 1;
        if (count == 2) sources[1].path = embedding(cases[i].second);
        sources[count - 1].token = cases[i].token;
        parts p;
        open_parts(&p);
        assert_status(add_all(sources, count, &p, cases[i].encoders, true), cases[i].status);
        assert_message(cases[i].message);
        close_parts(&p);
    }
}

static sp_status open_and_add(void *context)
{
    (void)context;
    const splam_embedding sources[] = {{embedding("older.pt"), NULL}, {embedding(""), "toy"}};
    parts p = {0};
    sp_status status = sp_component_open(golden("prompts"), "text_encoder", &p.text);
    if (!status) status = sp_tokenizer_load(golden_file("prompts", "tokenizer"), &p.tokenizer);
    if (!status) status = add_all(sources, 2, &p, 1, true);
    close_parts(&p);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    assert_true(fail_every_allocation(open_and_add, NULL) > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_read),
        cmocka_unit_test(two_encoders_have_two_tensors),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(vectors_follow_the_table),
        cmocka_unit_test(the_table_keeps_its_type_where_that_is_asked_for),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
