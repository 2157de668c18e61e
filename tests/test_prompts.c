/* Prompts with weights and learned tokens on their way to a conditioning and to pictures: states against sd_embed and
 * diffusers (tools/golden/make_prompts.py), two text encoders, prompts of different length side by side, what pictures
 * say. */
#include <math.h>
#include "generate_support.h"
#include "base/text.h"
#include "pipeline/pipeline.h"

/* ---- states ---- */

typedef struct {
    json_t *cases;
    sp_tensor_file *states;
} goldens;

static goldens open_goldens(void)
{
    goldens g;
    assert_ok(sp_json_load(golden_file("prompts", "cases.json"), &g.cases));
    assert_ok(sp_tensor_file_open(golden_file("prompts", "states.safetensors"), &g.states));
    return g;
}

static void close_goldens(goldens *g)
{
    json_decref(g->cases);
    sp_tensor_file_close(g->states);
}

/* The goldens' model with another tokenizer, in the test's folder. */
static const char *with_tokenizer(void **state, const char *tokenizer)
{
    const char *folder = keep(state, tokenizer);
    char path[640];
    if (sp_path_exists(folder)) return folder;
    static const char *const parts[] = {"text_encoder", "scheduler", "model_index.json"};
    assert_ok(sp_make_folders(folder));
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        assert_ok(sp_copy_tree(golden_file("prompts", parts[i]), path, NULL));
    }
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    assert_ok(sp_copy_tree(golden_file("prompts", tokenizer), path, NULL));
    return folder;
}

static sp_pipeline *open_text(const char *folder, const splam_embedding *embeddings, size_t count)
{
    const sp_model_options options = {.parts = SP_PART_TEXT, .embeddings = embeddings, .embedding_count = count};
    sp_pipeline *p;
    assert_ok(sp_pipeline_open(folder, &options, &p));
    return p;
}

static void check_tensor(const sp_tensor *found, const sp_tensor *expected, const char *prompt, const char *key)
{
    static const double tolerance = 1e-5; /* f32 in three layers: 1e-6 */
    double error = difference(found, expected);
    if (!(error < tolerance)) fail_msg("%s: \"%.60s\" is %g off", key, prompt, error);
}

/* Against f64 of f32 weights, of one prompt; KEY.pooled too where there is one. */
static void check_states(sp_pipeline *p, const goldens *g, const char *prompt, const char *key)
{
    const sp_tensor *expected, *pooled;
    sp_conditioning found;
    char name[64];
    assert_ok(sp_tensor_file_get(g->states, key, &expected));
    sp_pipeline_set_syntax(p, p->syntax, 1);
    sp_pipeline_set_syntax(p, p->syntax, expected->shape.dim[1] / sp_pipeline_tokens(p));
    assert_int_equal(sp_pipeline_tokens(p), expected->shape.dim[1]);
    assert_ok(sp_pipeline_encode(p, &prompt, 1, &found));
    check_tensor(sp_conditioning_find(&found, "encoder_hidden_states"), expected, prompt, key);
    snprintf(name, sizeof name, "%s.pooled", key);
    pooled = sp_tensor_file_find(g->states, name);
    if (pooled) check_tensor(sp_conditioning_find(&found, "text_embeds"), pooled, prompt, name);
    sp_conditioning_free(&found);
}

/* A prompt and the negative one beside it, in as many chunks as the longer takes. */
static void check_pair(sp_pipeline *p, const goldens *g, const json_t *c, const char *key)
{
    const char *prompt = json_string_value(json_object_get(c, "prompt")),
               *negative = json_string_value(json_object_get(c, "negative"));
    int64_t chunks, other = 1;
    char name[64];
    sp_pipeline_set_syntax(p, SP_PROMPT_WEIGHTED, 1);
    assert_ok(sp_pipeline_count_chunks(p, prompt, &chunks));
    if (negative) assert_ok(sp_pipeline_count_chunks(p, negative, &other));
    check_states(p, g, prompt, key);
    assert_int_equal(p->chunks, chunks > other ? chunks : other);
    snprintf(name, sizeof name, "%s.negative", key);
    if (negative) check_states(p, g, negative, name);
}

static void weighted_states_are_those_of_sd_embed(void **state)
{
    goldens g = open_goldens();
    size_t i;
    json_t *c;
    assert_true(json_array_size(json_object_get(g.cases, "weighted")) >= 20);
    json_array_foreach(json_object_get(g.cases, "weighted"), i, c)
    {
        sp_pipeline *p = open_text(
            with_tokenizer(state, json_string_value(json_object_get(c, "tokenizer"))), NULL, 0);
        char key[32];
        snprintf(key, sizeof key, "%zu", i);
        check_pair(p, &g, c, key);
        sp_pipeline_close(p);
    }
    sp_pipeline *p = open_text(golden("sdxl"), NULL, 0);
    assert_true(json_array_size(json_object_get(g.cases, "weighted_xl")) >= 4);
    json_array_foreach(json_object_get(g.cases, "weighted_xl"), i, c)
    {
        char key[32];
        snprintf(key, sizeof key, "xl.%zu", i);
        check_pair(p, &g, c, key);
    }
    sp_pipeline_close(p);
    close_goldens(&g);
}

/* "FILE" or "FILE:TOKEN" of the goldens; the texts live as long as `names`. */
static size_t take_embeddings(const json_t *names, char texts[4][1024], splam_embedding out[4])
{
    size_t count = json_array_size(names);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i)), *colon = strchr(name, ':');
        int length = colon ? (int)(colon - name) : (int)strlen(name);
        snprintf(texts[i], 1024, "%s/%.*s", golden_file("prompts", "embeddings"), length, name);
        out[i] = (splam_embedding){texts[i], colon ? colon + 1 : NULL};
    }
    return count;
}

static void learned_states_are_those_of_diffusers(void **state)
{
    (void)state;
    goldens g = open_goldens();
    size_t i;
    json_t *c;
    assert_true(json_array_size(json_object_get(g.cases, "inverted")) >= 7);
    json_array_foreach(json_object_get(g.cases, "inverted"), i, c)
    {
        char texts[4][1024], key[32];
        splam_embedding embeddings[4];
        size_t count = take_embeddings(json_object_get(c, "embeddings"), texts, embeddings);
        sp_pipeline *p = open_text(golden("prompts"), embeddings, count);
        snprintf(key, sizeof key, "inverted.%zu", i);
        check_states(p, &g, json_string_value(json_object_get(c, "prompt")), key);
        sp_pipeline_close(p);
    }
    close_goldens(&g);
}

static sp_conditioning encoded(sp_pipeline *p, sp_prompt_syntax syntax, int64_t chunks, const char *prompt)
{
    sp_conditioning out;
    sp_pipeline_set_syntax(p, syntax, chunks);
    assert_ok(sp_pipeline_encode(p, &prompt, 1, &out));
    return out;
}

static void prompts_without_syntax_are_plain_ones(void **state)
{
    (void)state;
    static const char *const folders[] = {"prompts", "sdxl"}, *const prompts[] = {"a red apple", ""};
    for (size_t i = 0; i < 4; i++) {
        sp_pipeline *p = open_text(golden(folders[i / 2]), NULL, 0);
        sp_conditioning plain = encoded(p, SP_PROMPT_PLAIN, 1, prompts[i % 2]),
                        weighted = encoded(p, SP_PROMPT_WEIGHTED, 1, prompts[i % 2]);
        assert_true(sp_conditioning_same(&plain, &weighted));
        for (int k = 0; k < plain.count; k++)
            assert_same_bits(&plain.item[k].tensor, &weighted.item[k].tensor);
        sp_conditioning_free(&plain);
        sp_conditioning_free(&weighted);
        sp_pipeline_close(p);
    }
}

static const sp_tensor *states_of(const sp_conditioning *set)
{
    return sp_conditioning_find(set, "encoder_hidden_states");
}

/* Each chunk is a prompt of its own to both text encoders; the pooled text is the first's. */
static void two_encoders_take_chunks(void **state)
{
    (void)state;
    static const char *const chunks[] = {"red apple", "a house", ""};
    sp_pipeline *p = open_text(golden("sdxl"), NULL, 0);
    sp_conditioning all = encoded(p, SP_PROMPT_WEIGHTED, 3, "red apple BREAK a (house:2)"), zeros;
    sp_prompt_chunks ids;
    assert_ok(sp_prompt_chunks_make(p->text[1].tokenizer, SP_PROMPT_WEIGHTED, "red apple BREAK a (house:2) BREAK BREAK",
                                    &ids));
    assert_true(ids.count == 3 && ids.weights[ids.length + 2] == 2 && ids.weights[ids.length + 1] == 1);
    size_t one = sp_tensor_bytes(states_of(&all)) / 3;
    const sp_tensor *states = states_of(&all);
    for (size_t i = 0; i < 3; i++) {
        sp_conditioning alone = encoded(p, SP_PROMPT_PLAIN, 1, chunks[i]);
        const float *weights = ids.weights + i * ids.length;
        const float *expected = states_of(&alone)->data, *found = (const float *)states->data + i * one / sizeof(float);
        int64_t width = states->shape.dim[2], length = states->shape.dim[1] / 3;
        for (int64_t k = 0; k < length * width; k++) {
            if (fabs(found[k] - weights[k / width] * expected[k]) > 1e-5 * (1 + fabs(expected[k])))
                fail_msg("chunk %zu, token %lld: %g, expected %g", i, (long long)(k / width), found[k], expected[k]);
        }
        const sp_tensor *pooled = sp_conditioning_find(&all, "text_embeds"),
                        *own = sp_conditioning_find(&alone, "text_embeds");
        assert_true(sp_shape_equal(pooled->shape, own->shape));
        assert_true((difference(pooled, own) < 1e-5) == (i == 0));
        sp_conditioning_free(&alone);
    }
    sp_pipeline_set_syntax(p, SP_PROMPT_WEIGHTED, 2);
    assert_ok(sp_pipeline_encode_negative(p, NULL, &zeros));
    assert_int_equal(states_of(&zeros)->shape.dim[1], 2 * states->shape.dim[1] / 3);
    sp_prompt_chunks_free(&ids);
    sp_conditioning_free(&zeros);
    sp_conditioning_free(&all);
    sp_pipeline_close(p);
}

/* Copies of the rows that the words of a prompt have, as a file of learned vectors for both text encoders. */
static const char *save_rows(void **state, sp_pipeline *p, const char *prompt)
{
    static const char *const names[] = {"clip_l", "clip_g"};
    sp_tensor tensors[2];
    sp_named_tensor named[2];
    for (int i = 0; i < 2; i++) {
        const sp_tensor *table = sp_weights_find(p->text[i].encoder->weights, "embeddings.token_embedding.weight");
        int64_t width = table->shape.dim[1];
        int32_t *ids;
        size_t count;
        assert_ok(sp_tokenizer_encode_all(p->text[i].tokenizer, prompt, &ids, &count));
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of((int64_t)count, width), &tensors[i]));
        for (size_t k = 0; k < count; k++)
            sp_convert_elements((float *)tensors[i].data + (int64_t)k * width, SP_F32,
                                (const char *)table->data + (size_t)(ids[k] * width) * sp_dtype_size(table->dtype),
                                table->dtype, width);
        named[i] = (sp_named_tensor){names[i], &tensors[i]};
        sp_free(ids);
    }
    const char *path = keep(state, "both.safetensors");
    assert_ok(sp_safetensors_save(path, named, 2, NULL, 0));
    for (int i = 0; i < 2; i++)
        sp_tensor_free(&tensors[i]);
    return path;
}

/* A token that learned what two words are says what they say, to both encoders, and the text ends where it ended: the
 * second's configuration says that this is at the largest id, which is a learned one. */
static void two_encoders_learn_tokens(void **state)
{
    sp_pipeline *plain = open_text(golden("sdxl"), NULL, 0);
    assert_int_equal(plain->text[1].encoder->config.text.end_id, 2);
    const splam_embedding embedding = {save_rows(state, plain, "red apple"), "<toy>"};
    sp_pipeline *p = open_text(golden("sdxl"), &embedding, 1);
    sp_conditioning expected = encoded(plain, SP_PROMPT_PLAIN, 1, "a red apple"),
                    found = encoded(p, SP_PROMPT_PLAIN, 1, "a <TOY>");
    assert_true(found.count == 2 && sp_conditioning_same(&expected, &found));
    for (int k = 0; k < found.count; k++)
        assert_same_bits(&expected.item[k].tensor, &found.item[k].tensor);
    sp_conditioning_free(&found);
    sp_conditioning_free(&expected);
    sp_pipeline_close(p);
    sp_pipeline_close(plain);
}

/* More prompts than are encoded at once, of more than a chunk each. */
static void many_prompts_keep_their_places(void **state)
{
    (void)state;
    enum { COUNT = 2 * SP_TEXT_BATCH - 3 };
    const char *prompts[COUNT];
    char texts[COUNT][64];
    sp_pipeline *p = open_text(golden("sdxl"), NULL, 0);
    for (int i = 0; i < COUNT; i++) {
        snprintf(texts[i], sizeof texts[i], "apple %d BREAK (house:1.%d)", i, i);
        prompts[i] = texts[i];
    }
    sp_conditioning all, one;
    sp_pipeline_set_syntax(p, SP_PROMPT_WEIGHTED, 2);
    assert_ok(sp_pipeline_encode(p, prompts, COUNT, &all));
    for (int i = 0; i < COUNT; i += 7) {
        one = encoded(p, SP_PROMPT_WEIGHTED, 2, prompts[i]);
        for (int k = 0; k < one.count; k++) {
            sp_tensor row = all.item[k].tensor;
            row.owned = false;
            row.data = (char *)row.data + (size_t)i * sp_tensor_bytes(&one.item[k].tensor);
            row.shape.dim[0] = 1;
            assert_true(difference(&row, &one.item[k].tensor) < 1e-5);
        }
        sp_conditioning_free(&one);
    }
    sp_conditioning_free(&all);
    sp_pipeline_close(p);
}

/* ---- pictures ---- */

static splam_generate_options weighted_options(void **state, const char *const *prompts, size_t count)
{
    splam_generate_options o = options_for(state, "teacher");
    o.prompts = prompts;
    o.prompt_count = count;
    o.prompt_syntax = SPLAM_PROMPT_WEIGHTED;
    o.steps = 2;
    o.guidance = 3;
    o.sampler = "ddim";
    return o;
}

/* What is drawn of a prompt does not depend on those beside it, though they have other numbers of chunks (of six
 * tokens) and go through other batches. */
static void pictures_do_not_depend_on_their_neighbours(void **state)
{
    static const char *const prompts[] = {"red apple", "green apple, a small house, a woman office worker",
                                          "(red:1.5) apple", "red BREAK apple BREAK house BREAK office"};
    splam_generate_options o = weighted_options(state, prompts, 4);
    o.negative = "green apple, a small house, green"; /* two chunks */
    o.width = o.height = SIDE;
    sp_tensor all = latents_of(state, o);
    for (size_t i = 0; i < 4; i++) {
        o.prompts = prompts + i;
        o.prompt_count = 1;
        o.seed = i;
        sp_tensor one = latents_of(state, o), row = all;
        row.owned = false;
        row.data = (float *)all.data + i * LATENT_COUNT;
        row.shape.dim[0] = 1;
        assert_same_bits(&row, &one);
        sp_tensor_free(&one);
    }
    sp_tensor_free(&all);
}

static void weights_move_pictures(void **state)
{
    static const char *const prompts[] = {"red apple", "(red) apple", "(red:1.1) apple", "[red] apple",
                                          "red apple BREAK"};
    splam_generate_options o = weighted_options(state, prompts, 5);
    o.noise = NULL;
    sp_tensor latents[5];
    for (size_t i = 0; i < 5; i++) {
        o.prompts = prompts + i;
        o.prompt_count = 1;
        latents[i] = latents_of(state, o);
    }
    assert_same_bits(&latents[1], &latents[2]);
    assert_same_bits(&latents[0], &latents[4]);
    assert_true(difference(&latents[0], &latents[1]) > 1e-4 && difference(&latents[0], &latents[3]) > 1e-4);
    for (size_t i = 0; i < 5; i++)
        sp_tensor_free(&latents[i]);
}

/* The text chunk "parameters" is in the picture as it is. */
static void assert_said(const char *path, const char *words, bool said)
{
    char *bytes;
    size_t size;
    assert_ok(sp_read_file(path, &bytes, &size));
    if (!!memmem(bytes, size, words, strlen(words)) != said) fail_msg("\"%s\" is %sthere", words, said ? "not " : "");
    sp_free(bytes);
}

static const char *save_vectors(void **state, const char *name, int64_t width)
{
    sp_tensor vectors;
    const char *path = keep(state, name);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, width), &vectors));
    for (int64_t i = 0; i < 2 * width; i++)
        ((float *)vectors.data)[i] = (float)(i % 5) - 2;
    assert_ok(sp_safetensors_save(path, &(sp_named_tensor){"emb_params", &vectors}, 1, NULL, 0));
    sp_tensor_free(&vectors);
    return path;
}

static void pictures_say_what_was_read(void **state)
{
    static const char *const prompts[] = {"(red:1.5) my,toy", "red apple"};
    const splam_embedding embeddings[] = {{save_vectors(state, "toy.safetensors", 24), "my,toy"},
                                          {save_vectors(state, "other.safetensors", 24), NULL}};
    splam_generate_options o = weighted_options(state, prompts, 1);
    o.embeddings = embeddings;
    o.embedding_count = 2;
    o.output = keep(state, "said.png");
    generate(&o);
    char *bytes, sum[SP_SHA256_TEXT], hash[64];
    size_t size;
    assert_ok(sp_read_file(embeddings[0].path, &bytes, &size));
    sp_sha256_text(bytes, size, sum);
    sp_free(bytes);
    snprintf(hash, sizeof hash, ", TI hashes: \"mytoy: %.12s\", Emphasis: No norm, Version", sum);
    assert_said(o.output, hash, true);
    assert_said(o.output, "\"prompt_syntax\":\"weighted\"", true);
    assert_said(o.output, "\"embeddings\":\"mytoy: ", true);
    assert_said(o.output, "other", false);
    o.prompt_syntax = SPLAM_PROMPT_PLAIN;
    generate(&o);
    assert_said(o.output, ", Emphasis: None, Version", true);
    assert_said(o.output, "prompt_syntax", false);
    o.prompts = prompts + 1;
    generate(&o);
    assert_said(o.output, "Emphasis", false);
    assert_said(o.output, "TI hashes", false);
    o.negative = "[other]";
    generate(&o);
    assert_said(o.output, "TI hashes: \"other: ", true);
    assert_said(o.output, "Emphasis: None", true);
}

static void draw_quietly(void *options)
{
    generate(options);
}

static void what_is_not_used_is_said(void **state)
{
    static const char *const prompts[] = {"[red:green:0.5] apple, [red|green], [red:3]", "[red] (apple:1.5) [a:b]"};
    const splam_embedding embedding = {save_vectors(state, "toy.safetensors", 24), NULL};
    splam_generate_options o = weighted_options(state, prompts, 1);
    o.embeddings = &embedding;
    o.embedding_count = 1;
    o.save_latents = keep(state, "quiet.safetensors");
    char *said = captured(state, draw_quietly, &o);
    if (!strstr(said, "no prompt has \"toy\", the token of ")) fail_msg("said: %s", said);
    if (!strstr(said, "\"[red:green:0.5]\" in a prompt is read as words: prompts do not change from step to step"))
        fail_msg("said: %s", said);
    sp_free(said);
    o.prompts = prompts + 1;
    o.embedding_count = 0;
    said = captured(state, draw_quietly, &o);
    assert_string_equal(said, "");
    sp_free(said);
}

static void faults_are_found_before_anything_is_drawn(void **state)
{
    static const char *const prompts[] = {"red apple", "(red:1.2.3) apple"};
    const splam_embedding wide = {save_vectors(state, "wide.safetensors", 25), NULL}, none = {NULL, "x"};
    splam_generate_options o = weighted_options(state, prompts, 2);
    o.output = keep(state, "never.png");
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("the prompt \"(red:1.2.3) apple\": a weight is \"1.2.3\", a number such as 1.3 is expected");
    o.prompt_count = 1;
    o.negative = prompts[1];
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    o.guidance = unguided; /* nobody looks at it */
    generate(&o);
    o.embeddings = &wide;
    o.embedding_count = 1;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_SHAPE);
    assert_message("wide.safetensors: its vectors have 25 numbers, and the text encoder takes 24");
    o.embeddings = &none;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("an embedding's file is missing");
    o.prompt_syntax = (splam_prompt_syntax)2;
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("`prompt_syntax` is 2, expected 0 to 1 (plain|weighted)");
}

/* ---- memory ---- */

static sp_status encode_weighted(void *pipeline)
{
    static const char *const prompts[] = {"a (red:1.5) apple", "a BREAK house"};
    sp_conditioning out;
    int64_t chunks;
    bool has;
    SP_TRY(sp_pipeline_count_chunks(pipeline, prompts[1], &chunks));
    SP_TRY(sp_pipeline_has_vectors(pipeline, prompts[0], 3, &has));
    SP_TRY(sp_pipeline_encode(pipeline, prompts, 2, &out));
    sp_conditioning_free(&out);
    return SP_OK;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    sp_pipeline *p = open_text(golden("sdxl"), NULL, 0);
    sp_pipeline_set_syntax(p, SP_PROMPT_WEIGHTED, 2);
    assert_ok(encode_weighted(p)); /* what lives as long as the model */
    assert_true(fail_every_allocation(encode_weighted, p) > 50);
    sp_pipeline_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_states_are_those_of_sd_embed),
        cmocka_unit_test(learned_states_are_those_of_diffusers),
        cmocka_unit_test(prompts_without_syntax_are_plain_ones),
        cmocka_unit_test(two_encoders_take_chunks),
        cmocka_unit_test(two_encoders_learn_tokens),
        cmocka_unit_test(many_prompts_keep_their_places),
        cmocka_unit_test(pictures_do_not_depend_on_their_neighbours),
        cmocka_unit_test(weights_move_pictures),
        cmocka_unit_test(pictures_say_what_was_read),
        cmocka_unit_test(what_is_not_used_is_said),
        cmocka_unit_test(faults_are_found_before_anything_is_drawn),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
