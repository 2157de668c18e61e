/* T5, the third text encoder of Stable Diffusion 3, against transformers: ids of awkward prompts, buckets of distances,
 * hidden states, and files that are damaged or others (tools/golden/make_t5.py). */
#include "support.h"

#include <math.h>
#include "backend/registry.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoints/t5_file.h"
#include "graph/run.h"
#include "text/charsmap.h"
#include "text/unigram.h"

/* fp32 against float64: sums of some fifty terms, three layers deep; the worst seen is below 2e-6. */
static const double state_tolerance = 1e-5;

/* ---- the tokenizer ---- */

enum { MOST_IDS = 256 };

/* The list has what is no padding, which is 0. */
static void check_ids(const sp_unigram *tokenizer, const char *text, size_t length, const json_t *wanted)
{
    int32_t ids[MOST_IDS];
    size_t used, all, count = json_array_size(wanted);
    assert_ok(sp_unigram_encode(tokenizer, text, length, ids, &used, &all));
    assert_true(used <= length && used <= all);
    for (size_t i = 0; i < length; i++) {
        int32_t id = i < count ? (int32_t)json_integer_value(json_array_get(wanted, i)) : 0;
        if (ids[i] != id) fail_msg("\"%s\": id %zu is %d, expected %d", text, i, ids[i], id);
    }
}

static void ids_are_those_of_transformers(void **state)
{
    json_t *json, *one;
    size_t i;
    sp_unigram *tokenizer;
    (void)state;
    assert_ok(sp_json_load(golden_file("t5", "ids.json"), &json));
    assert_ok(sp_unigram_load(golden_file("t5", "tokenizer_3"), &tokenizer));
    assert_int_equal(sp_unigram_size(tokenizer), 150);
    size_t length = (size_t)json_integer_value(json_object_get(json, "length")),
           less = (size_t)json_integer_value(json_object_get(json, "short_length"));
    assert_true(length <= MOST_IDS && json_array_size(json_object_get(json, "cases")) > 30);
    json_array_foreach(json_object_get(json, "cases"), i, one)
    {
        const char *text = json_string_value(json_object_get(one, "text"));
        check_ids(tokenizer, text, length, json_object_get(one, "ids"));
        check_ids(tokenizer, text, less, json_array_get(json_object_get(json, "short"), i));
    }
    sp_unigram_destroy(tokenizer);
    json_decref(json);
}

static sp_status load_and_encode(void *context)
{
    int32_t ids[MOST_IDS];
    sp_unigram *tokenizer;
    SP_TRY(sp_unigram_load(context, &tokenizer));
    sp_status status = sp_unigram_encode(tokenizer, "  a red</s> fox ", MOST_IDS, ids, NULL, NULL);
    sp_unigram_destroy(tokenizer);
    return status;
}

static void no_allocation_is_taken_for_granted(void **state)
{
    (void)state;
    fail_every_allocation(load_and_encode, (void *)(uintptr_t)golden_file("t5", "tokenizer_3"));
}

/* A byte that is no UTF-8 is U+FFFD, which no piece has. */
static void any_bytes_are_read(void **state)
{
    sp_unigram *tokenizer;
    int32_t ids[8], one[1];
    size_t used, all;
    (void)state;
    assert_ok(sp_unigram_load(golden_file("t5", "tokenizer_3"), &tokenizer));
    assert_ok(sp_unigram_encode(tokenizer, "\xff\xfe\xf0\x9f", 8, ids, &used, &all));
    assert_int_equal(used, 3);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 2);
    assert_int_equal(ids[2], 1);
    assert_ok(sp_unigram_encode(tokenizer, "a red fox", 1, one, &used, &all));
    assert_int_equal(one[0], 1);
    assert_int_equal(all, 8);
    sp_unigram_destroy(tokenizer);
}

/* tokenizer.json with one member of an object replaced; path: the members that lead to it. */
static void refuse_changed(void **state, const char *const *path, json_t *value, sp_status wanted, const char *words)
{
    json_t *json, *at;
    sp_unigram *tokenizer;
    int depth = 0;
    assert_ok(sp_json_load(golden_file("t5", "tokenizer_3/tokenizer.json"), &json));
    for (at = json; path[depth + 1]; depth++)
        at = json_object_get(at, path[depth]);
    assert_int_equal(json_object_set_new(at, path[depth], value), 0);
    assert_ok(sp_json_save(in_folder(state, "tokenizer.json"), json));
    json_decref(json);
    sp_status found = sp_unigram_load(*state, &tokenizer);
    if (found != wanted || !strstr(sp_error_message(), words)) fail_msg("%d: %s", found, sp_error_message());
}

#define PATH(...) (const char *const[]){__VA_ARGS__, NULL}
static void damaged_tokenizers_are_refused(void **state)
{
    sp_unigram *tokenizer;
    assert_status(sp_unigram_load(in_folder(state, "nowhere"), &tokenizer), SP_IO);
    refuse_changed(state, PATH("model", "type"), json_string("BPE"), SP_UNSUPPORTED, "the model is \"BPE\"");
    refuse_changed(state, PATH("model", "vocab"), json_array(), SP_FORMAT, "\"vocab\" has 0 tokens");
    refuse_changed(state, PATH("model", "vocab"), json_pack("[[s,f],[s,f]]", "a", 0.0, "a", 0.0), SP_FORMAT,
                   "\"unk_id\" must be one of the 2 tokens");
    refuse_changed(state, PATH("model", "vocab"), json_pack("[[s,f],[s,f],[s,f]]", "a", 0.0, "b", 0.0, "a", 0.0),
                   SP_FORMAT, "token 2 is there twice");
    refuse_changed(state, PATH("model", "vocab"), json_pack("[[s,f],[s,f],[s,s]]", "a", 0.0, "b", 0.0, "c", "d"),
                   SP_FORMAT, "token 2 must be a text and a number");
    refuse_changed(state, PATH("model", "unk_id"), json_integer(-1), SP_FORMAT, "\"unk_id\"");
    refuse_changed(state, PATH("normalizer", "type"), json_string("NFKC"), SP_UNSUPPORTED, "the normalizer is");
    refuse_changed(state, PATH("normalizer", "precompiled_charsmap"), json_string("AAAA"), SP_FORMAT,
                   "a table of character replacements");
    refuse_changed(state, PATH("normalizer", "precompiled_charsmap"), json_string("A*AA"), SP_FORMAT, "is no base64");
    refuse_changed(state, PATH("pre_tokenizer", "type"), json_string("ByteLevel"), SP_UNSUPPORTED, "pre_tokenizer");
    refuse_changed(state, PATH("added_tokens"), json_pack("[{s:s}]", "content", "x"), SP_FORMAT, "an added token");
}

/* Whatever stands in the array, nothing outside of it is looked at. */
static void any_table_of_replacements_is_read_within(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { SIZE = 400 };
    uint32_t random = 1;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        char base64[SIZE + 1] = {0}, *normal;
        sp_charsmap map;
        size_t length;
        for (int i = 0; i < SIZE; i++)
            base64[i] = digits[(random = random * 1664525 + 1013904223) >> 26];
        memcpy(base64, "AAEAAA", 6); /* an array of 256 bytes, or 257 and more */
        memcpy(base64 + SIZE - 4, "AAAA", 4);
        if (sp_charsmap_read(base64, SIZE, &map)) continue;
        assert_ok(sp_charsmap_apply(&map, "a red\xcc\x81 fox \xf0\x9f\xa6\x8a", 17, &normal, &length));
        sp_free(normal);
        sp_charsmap_free(&map);
    }
}

/* ---- the network ---- */

static void buckets_are_those_of_transformers(void **state)
{
    enum { LENGTH = 301 };
    const sp_t5_config config = {.buckets = 32, .max_distance = 128};
    sp_tensor_file *file;
    const sp_tensor *wanted;
    (void)state;
    assert_ok(sp_safetensors_open(golden_file("t5", "states.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, "buckets", &wanted));
    assert_int_equal(sp_tensor_count(wanted), 2 * LENGTH - 1);
    int32_t *found = sp_alloc((size_t)LENGTH * LENGTH * sizeof *found);
    sp_t5_buckets(&config, LENGTH, found);
    for (int i = 0; i < LENGTH; i++)
        for (int j = 0; j < LENGTH; j++)
            assert_int_equal(found[i * LENGTH + j], ((const int32_t *)wanted->data)[j - i + LENGTH - 1]);
    sp_free(found);
    sp_tensor_file_close(file);
}

static sp_run *run_on(const sp_t5_file *t5, const sp_tensor *ids, sp_dtype precision, sp_plan **plan)
{
    sp_builder *b;
    sp_graph *graph;
    sp_run *run;
    sp_tensor own, buckets, identity;
    int64_t length = ids->shape.dim[1];
    const sp_weight_set set = {.name = "t5", .rate = SP_RATE_RUN, .weights = t5->weights};
    const sp_network_use use = {.network = &sp_t5_network, .config = &t5->config, .set = &set};
    const sp_network_sizes sizes = {.batch = ids->shape.dim[0], .tokens = length, .ids = SP_I32};
    assert_ok(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_default_device(), precision, plan));
    assert_ok(sp_run_create(*plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "t5", t5->weights));
    assert_ok(sp_tensor_create(SP_I32, ids->shape, &own));
    for (int64_t i = 0; i < sp_tensor_count(ids); i++)
        ((int32_t *)own.data)[i] = (int32_t)((const int64_t *)ids->data)[i];
    assert_ok(sp_tensor_create(SP_I32, sp_shape_of(length, length), &buckets));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(length, length), &identity));
    sp_t5_buckets(&t5->config, length, buckets.data);
    for (int64_t i = 0; i < length * length; i++)
        ((float *)identity.data)[i] = i % (length + 1) == 0;
    assert_ok(sp_run_set_input(run, "input_ids", &own));
    assert_ok(sp_run_set_input(run, "position_buckets", &buckets));
    assert_ok(sp_run_set_input(run, "identity", &identity));
    assert_ok(sp_run_execute(run, NULL));
    sp_tensor_free(&own);
    sp_tensor_free(&buckets);
    sp_tensor_free(&identity);
    return run;
}

/* Every `step`-th token. */
static double error_of(const sp_t5_file *t5, const char *ids, const char *states, int64_t step, sp_dtype precision)
{
    sp_tensor_file *file;
    const sp_tensor *given, *wanted;
    sp_tensor out;
    sp_plan *plan;
    double most = 0, largest = 0;
    assert_ok(sp_safetensors_open(golden_file("t5", "states.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, ids, &given));
    assert_ok(sp_tensor_file_get(file, states, &wanted));
    sp_run *run = run_on(t5, given, precision, &plan);
    assert_ok(sp_run_get_output(run, "last_hidden_state", &out));
    int64_t width = out.shape.dim[2], rows = sp_tensor_count(wanted) / width;
    assert_int_equal(rows * step, out.shape.dim[0] * out.shape.dim[1]);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < width; c++) {
            double x = ((const float *)wanted->data)[i * width + c];
            most = fmax(most, fabs(sp_load(out.data, out.dtype, i * step * width + c) - x));
            largest = fmax(largest, fabs(x));
        }
    sp_tensor_free(&out);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_tensor_file_close(file);
    print_message("%s: %.2e\n", states, most / largest);
    return most / largest;
}

static void check_states(const char *path)
{
    sp_t5_file t5;
    assert_ok(sp_t5_file_open(path, &t5));
    assert_true(error_of(&t5, "ids", "states", 1, SP_F32) <= state_tolerance);
    assert_true(error_of(&t5, "long_ids", "long_states", 16, SP_F32) <= state_tolerance);
    assert_true(error_of(&t5, "ids", "states", 1, SP_BF16) <= 7e-2); /* 8 bits of all that is stored; seen 4.6e-2 */
    sp_t5_file_close(&t5);
}

/* From a model's folder, from its own, and from one file, under the name that files of everything have before it. */
static void states_are_those_of_transformers(void **state)
{
    enum { MOST = 64 };
    sp_named_tensor tensors[MOST];
    static char names[MOST][256];
    sp_tensor_file *file;
    check_states(golden("t5"));
    check_states(golden_file("t5", "text_encoder_3"));
    assert_ok(sp_safetensors_open(golden_file("t5", "text_encoder_3/model.safetensors"), &file));
    size_t count = sp_tensor_file_count(file);
    assert_true(count <= MOST);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "text_encoders.t5xxl.transformer.%s", sp_tensor_file_name(file, i));
        tensors[i] = (sp_named_tensor){names[i], sp_tensor_file_at(file, i)};
    }
    assert_ok(sp_safetensors_save(in_folder(state, "all.safetensors"), tensors, count, NULL, 0));
    check_states(in_folder(state, "all.safetensors"));
    /* damaged and others */
    sp_t5_file t5;
    assert_ok(sp_safetensors_save(in_folder(state, "less.safetensors"), tensors, count - 1, NULL, 0));
    assert_status(sp_t5_file_open(in_folder(state, "less.safetensors"), &t5), SP_FORMAT);
    assert_message("of T5's encoder is missing");
    sp_tensor factor = {.dtype = SP_F32, .shape = sp_shape_of(1), .data = &(float){1}};
    tensors[count - 1] = (sp_named_tensor){"text_encoders.t5xxl.transformer.scaled_fp8", &factor};
    assert_ok(sp_safetensors_save(in_folder(state, "scaled.safetensors"), tensors, count, NULL, 0));
    sp_status found = sp_t5_file_open(in_folder(state, "scaled.safetensors"), &t5);
    assert_true(found == SP_UNSUPPORTED || found == SP_FORMAT);
    sp_tensor_file_close(file);
    assert_status(sp_t5_file_open(golden_file("sd3", "text_encoder/model.safetensors"), &t5), SP_FORMAT);
    assert_message("has no T5 encoder");
    assert_status(sp_t5_file_open(golden_file("sd3", "text_encoder"), &t5), SP_UNSUPPORTED);
    assert_message("expected a T5EncoderModel");
}

static void other_configs_are_refused(void **state)
{
    static const struct {
        const char *json, *words;
        sp_status status;
    } cases[] = {
        {"{}", "\"feed_forward_proj\" is \"relu\"", SP_UNSUPPORTED},
        {"{\"feed_forward_proj\": \"gated-gelu\", \"num_layers\": 0}", "num_layers", SP_FORMAT},
        {"{\"feed_forward_proj\": \"gated-gelu\", \"relative_attention_num_buckets\": 6}", "a multiple of 4",
         SP_FORMAT},
        {"{\"feed_forward_proj\": \"gated-gelu\", \"relative_attention_max_distance\": 8}", "up to the distance 8",
         SP_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json = json_loads(cases[i].json, 0, NULL);
        sp_t5_config config;
        assert_status(sp_t5_config_read(json, "config.json", &config), cases[i].status);
        assert_message(cases[i].words);
        json_decref(json);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_test_folder, remove_test_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ids_are_those_of_transformers),
        TEST(no_allocation_is_taken_for_granted),
        TEST(any_bytes_are_read),
        TEST(damaged_tokenizers_are_refused),
        TEST(any_table_of_replacements_is_read_within),
        TEST(buckets_are_those_of_transformers),
        TEST(states_are_those_of_transformers),
        TEST(other_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
