/* Several models, adapters and learned tokens of the server, by name; pictures that it saves; lists that change. */
#include <glob.h>
#include "server_support.h"
#include "server/models.h"

/* ---- files ---- */

static void save_tensor_file(const char *path, const char *const *names, sp_shape *shapes, int count)
{
    float values[2][64];
    sp_tensor tensors[2];
    sp_named_tensor named[2];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 64; k++)
            values[i][k] = (float)((k * 7 + i * 3) % 11 - 5) / 2;
        tensors[i] = (sp_tensor){.shape = shapes[i], .data = values[i]};
        named[i] = (sp_named_tensor){names[i], &tensors[i]};
    }
    assert_ok(sp_safetensors_save(path, named, (size_t)count, NULL, 0));
}

/* Of one layer of the tiny models' text encoder, of rank 1 and width 24. */
static void save_lora(void **state, const char *name, const char *layer, int64_t width)
{
    char text[2][256];
    for (int i = 0; i < 2; i++)
        snprintf(text[i], sizeof text[i], "text_encoder.text_model.encoder.layers.0.self_attn.%s.lora_%c.weight",
                 layer, "AB"[i]);
    const char *const names[] = {text[0], text[1]};
    sp_shape shapes[] = {sp_shape_of(1, width), sp_shape_of(width, 1)};
    save_tensor_file(keep(state, name), names, shapes, 2);
}

static void save_embedding(void **state, const char *name, int64_t width)
{
    static const char *const names[] = {"emb_params"};
    sp_shape shapes[] = {sp_shape_of(1, width)};
    save_tensor_file(keep(state, name), names, shapes, 1);
}

static int set_up_files(void **state)
{
    if (set_up(state) != 0) return -1;
    assert_ok(sp_make_folders(keep(state, "loras")));
    assert_ok(sp_make_folders(keep(state, "tokens")));
    assert_ok(sp_make_folders(keep(state, "saved")));
    save_lora(state, "loras/query.safetensors", "q_proj", 24);
    save_lora(state, "loras/value.safetensors", "v_proj", 24);
    save_lora(state, "loras/wide.safetensors", "v_proj", 32);
    write_text(keep(state, "loras/notes.txt"), "none");
    write_text(keep(state, "loras/.hidden.safetensors"), "none");
    assert_ok(sp_make_folders(keep(state, "loras/folder.safetensors")));
    save_embedding(state, "tokens/Easy.safetensors", 24);
    save_embedding(state, "tokens/Broad.safetensors", 32);
    return 0;
}

static sv_settings settings_with_all(void **state)
{
    static const char *models[2];
    sv_settings s = settings_for(state);
    models[0] = keep(state, "teacher");
    models[1] = keep(state, "student/");
    s.models = models;
    s.model_count = 2;
    s.lora_folder = keep(state, "loras");
    s.embedding_folder = keep(state, "tokens");
    s.output_folder = keep(state, "saved");
    return s;
}

/* The picture of an answer of OpenAI's interface is the one that `o` draws. */
static void expect_drawn(void **state, const sv_server *server, const char *body, splam_generate_options o)
{
    size_t size;
    char *file = drawn_file(state, o, "expected.png", &size);
    json_t *json = expect_json(post(server, "/v1/images/generations", body), 200);
    expect_file(json_object_get(json_array_get(json_object_get(json, "data"), 0), "b64_json"), file, size);
    json_decref(json);
    sp_free(file);
}

/* ---- models ---- */

static void models_are_named(void **state)
{
    const sv_settings settings = settings_with_all(state);
    sv_server *server = start_with(&settings);
    splam_generate_options teacher = options_for(state, "teacher"), student = options_for(state, "student");
    teacher.steps = student.steps = 2;
    for (int i = 0; i < 2; i++) {
        expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2}", teacher);
        expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2, \"model\": \"student\"}", student);
    }
    assert_true(metric(server, "splam_models_open") == 2);
    json_t *json = expect_json(get(server, "/v1/models"), 200);
    json_t *second = json_array_get(json_object_get(json, "data"), 1), *usual = json_object_get(second, "defaults");
    assert_string_equal(text_at(second, "id"), "student");
    assert_string_equal(text_at(usual, "sampler"), "lcm");
    assert_true(number_at(usual, "steps") == 4 && number_at(usual, "guidance") == 1);
    assert_true(number_at(usual, "width") == 32 && number_at(usual, "height") == 32);
    json_decref(json);
    json_t *models = expect_json(get(server, "/sdapi/v1/sd-models"), 200);
    char *body = NULL;
    assert_true(asprintf(&body, "{\"sd_model_checkpoint\": \"%s\"}", text_at(json_array_get(models, 1), "title")) >
                0);
    json_decref(expect_json(post(server, "/sdapi/v1/txt2img",
                                 "{\"steps\": 1, \"override_settings\": {\"sd_model_checkpoint\": \"student\"}}"),
                            200));
    expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2}", teacher); /* for that request alone */
    expect_refusal(post(server, "/sdapi/v1/options", body), 200, "null");
    expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2}", student);
    json = expect_json(get(server, "/sdapi/v1/options"), 200);
    assert_string_equal(text_at(json, "sd_model_checkpoint"), text_at(json_array_get(models, 1), "title"));
    json_decref(json);
    json_decref(models);
    free(body);
    expect_refusal(post(server, "/sdapi/v1/options", "{\"sd_model_checkpoint\": \"/etc\"}"), 404, "sd-models");
    expect_refusal(post(server, "/sdapi/v1/options", "{\"sd_model_checkpoint\": 5}"), 404, "no text");
    expect_refusal(post(server, "/sdapi/v1/options", "{\"outdir_samples\": \"/etc\"}"), 422, "cannot be set");
    expect_refusal(post(server, "/sdapi/v1/options", "{\"samples_format\": \"png\"}"), 200, "null");
    expect_refusal(post(server, "/sdapi/v1/options", "[]"), 422, "no object");
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"model\": \"student/\"}"), 404, "no such model");
    sv_server_free(server);
}

static void models_of_one_name_are_refused(void **state)
{
    static const char *models[2];
    char error[SV_ERROR] = "";
    sv_settings s = settings_for(state);
    sv_server *server;
    assert_ok(sp_make_folders(keep(state, "other")));
    assert_ok(sp_copy_tree(keep(state, "teacher"), keep(state, "other/teacher"), NULL));
    models[0] = keep(state, "teacher");
    models[1] = keep(state, "other/teacher");
    s.models = models;
    s.model_count = 2;
    assert_status(sv_server_start(&s, &server, error), SP_ARGUMENT);
    assert_non_null(strstr(error, "both called \"teacher\""));
    models[1] = keep(state, "absent");
    assert_status(sv_server_start(&s, &server, error), SP_IO);
    s.model_count = 1;
    s.lora_folder = keep(state, "absent");
    assert_status(sv_server_start(&s, &server, error), SP_IO);
    s.lora_folder = NULL;
    s.output_folder = keep(state, "absent");
    assert_status(sv_server_start(&s, &server, error), SP_IO);
    assert_non_null(strstr(error, "cannot be written there"));
}

/* What is open is bounded, is closed in the order of use, and is the same when it is opened again. */
/* A file whose name no list could carry is refused, and a model's is shown as far as it can be. */
static void names_are_utf8(void **state)
{
    const char *model = keep(state, "bytes\xff");
    char error[SV_ERROR] = "";
    sv_settings s = settings_for(state);
    sv_server *server;
    assert_ok(sp_copy_tree(keep(state, "teacher"), model, NULL));
    assert_ok(sp_make_folders(keep(state, "strange")));
    write_text(keep(state, "strange/a\xff.safetensors"), "none");
    s.lora_folder = keep(state, "strange");
    assert_status(sv_server_start(&s, &server, error), SP_IO);
    assert_non_null(strstr(error, "the name \"a\xff\" is no UTF-8"));
    s.lora_folder = NULL;
    s.models = &model;
    server = start_with(&s);
    json_t *json = expect_json(get(server, "/v1/models"), 200);
    assert_string_equal(text_at(json_array_get(json_object_get(json, "data"), 0), "id"), "bytes\xef\xbf\xbd");
    json_decref(json);
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"model\": \"bytes\\ufffd\", \"steps\": 1}"), 202,
                   "id");
    sv_server_free(server);
}

static void models_are_dropped(void **state)
{
    char error[SV_ERROR] = "";
    const sv_settings server = settings_with_all(state);
    const sv_models_settings settings = {.models = server.models,
                                         .model_count = 2,
                                         .options = &server.model_options,
                                         .lora_folder = server.lora_folder};
    sv_adapters none = {0}, many = {.count = 1, .item = {{.name = "query"}}};
    splam_session *first, *second;
    sv_models *m;
    assert_ok(sv_models_create(&settings, &m, error, sizeof error));
    assert_int_equal(sv_models_open_count(m), 1);
    assert_ok(sv_models_take(m, 0, &none, NULL, &first));
    assert_int_equal(sv_models_open_count(m), 1);
    assert_false(sv_models_drop(m)); /* the one in use */
    assert_ok(sv_models_take(m, 1, &none, NULL, &second));
    assert_int_equal(sv_models_open_count(m), 2);
    assert_ok(sv_models_take(m, 0, &none, NULL, &second));
    assert_ptr_equal(first, second);
    assert_true(sv_models_drop(m));
    assert_int_equal(sv_models_open_count(m), 1);
    assert_ok(sv_models_take(m, 0, &none, NULL, &second));
    assert_ptr_equal(first, second);
    many.item[0].path = sv_models_find_adapter(m, "query");
    assert_non_null(many.item[0].path);
    for (int i = 0; i < 9; i++) {
        many.item[0].weight = i;
        assert_ok(sv_models_take(m, 0, &many, NULL, &second));
        assert_true(sv_models_open_count(m) <= 4);
    }
    sv_adapters_free(&many);
    sv_models_free(m);
}

/* ---- adapters and learned tokens ---- */

static void loras_are_named(void **state)
{
    const sv_settings settings = settings_with_all(state);
    sv_server *server = start_with(&settings);
    const splam_lora two[] = {{keep(state, "loras/query.safetensors"), .5},
                              {keep(state, "loras/value.safetensors"), 1}};
    splam_generate_options plain = options_for(state, "teacher"), o = plain;
    static const char *const prompts[] = {"red apple "};
    size_t size;
    plain.steps = o.steps = 2;
    o.loras = two, o.lora_count = 2;
    expect_drawn(state, server,
                 "{\"prompt\": \"red apple\", \"steps\": 2, \"loras\": [{\"name\": \"query\", \"weight\": 0.5},"
                 " {\"name\": \"value\"}]}",
                 o);
    expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2}", plain);
    o.prompts = prompts, o.prompt_syntax = SPLAM_PROMPT_WEIGHTED;
    char *file = drawn_file(state, o, "expected.png", &size);
    json_t *json = expect_json(post(server, "/sdapi/v1/txt2img",
                                    "{\"prompt\": \"red apple <lora:query:0.5><lora:value>\","
                                    " \"steps\": 2}"),
                               200);
    expect_file(json_array_get(json_object_get(json, "images"), 0), file, size);
    assert_non_null(strstr(text_at(json, "info"), "query:0.5, value:1"));
    assert_null(strstr(text_at(json, "info"), keep(state, "loras")));
    json_decref(json);
    sp_free(file);
    json = expect_json(get(server, "/sdapi/v1/loras"), 200);
    assert_int_equal(json_array_size(json), 3); /* no text, nothing hidden, no folder */
    assert_string_equal(text_at(json_array_get(json, 0), "name"), "query");
    assert_string_equal(text_at(json_array_get(json, 0), "path"), "query");
    json_decref(json);
    static const struct {
        const char *path, *body;
        int code;
        const char *words;
    } cases[] = {
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:../teacher:1>\"}", 404, "no LoRA"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:query.safetensors:1>\"}", 404, "no LoRA"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:notes:1>\"}", 404, "no LoRA"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:.hidden:1>\"}", 404, "no LoRA"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora::1>\"}", 404, "no LoRA"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:query:1:2>\"}", 422, "one weight"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:query:>\"}", 422, "one weight"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:query:nan>\"}", 422, "one weight"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<lora:query:1e9>\"}", 422, "a weight of"},
        {"/sdapi/v1/txt2img", "{\"prompt\": \"<hypernet:x:1>\"}", 422, "hypernetworks"},
        {"/v1/jobs", "{\"prompt\": \"x\", \"loras\": \"query\"}", 400, "no list"},
        {"/v1/jobs", "{\"prompt\": \"x\", \"loras\": [\"query\"]}", 400, "is expected"},
        {"/v1/jobs", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"query\", \"path\": \"/etc\"}]}", 400,
         "is expected"},
        {"/v1/jobs", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"x\"}]}", 404, "no LoRA"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(post(server, cases[i].path, cases[i].body), cases[i].code, cases[i].words);
    /* One that does not fit: without a word of where it lies. */
    answer a = post(server, "/v1/images/generations", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"wide\"}]}");
    assert_int_equal(a.code, 400);
    assert_non_null(strstr(a.body, "the model teacher with the LoRA wide cannot be opened"));
    assert_null(strstr(a.body, keep(state, "loras")));
    release(&a);
    expect_drawn(state, server, "{\"prompt\": \"red apple\", \"steps\": 2}", plain);
    sv_server_free(server);
}

static void learned_tokens_are_there(void **state)
{
    const sv_settings settings = settings_with_all(state);
    sv_server *server = start_with(&settings);
    const splam_embedding easy = {keep(state, "tokens/Easy.safetensors"), "Easy"};
    static const char *const prompts[] = {"red easy"};
    splam_generate_options o = options_for(state, "teacher"), plain = o;
    size_t size, other_size;
    o.prompts = plain.prompts = prompts, o.steps = plain.steps = 2, o.embeddings = &easy, o.embedding_count = 1;
    expect_drawn(state, server, "{\"prompt\": \"red easy\", \"steps\": 2}", o);
    char *with = drawn_file(state, o, "with.png", &size),
         *without = drawn_file(state, plain, "without.png", &other_size);
    assert_true(size != other_size || memcmp(with, without, size) != 0);
    sp_free(with);
    sp_free(without);
    json_t *json = expect_json(get(server, "/sdapi/v1/embeddings"), 200);
    assert_non_null(json_object_get(json_object_get(json, "loaded"), "Easy"));
    assert_non_null(json_object_get(json_object_get(json, "skipped"), "Broad"));
    json_decref(json);
    json = expect_json(post(server, "/v1/images/generations", "{\"prompt\": \"red apple\", \"steps\": 1}"), 200);
    assert_int_equal(json_array_size(json_object_get(json, "warnings")), 0); /* of tokens that this prompt has not */
    json_decref(json);
    sv_server_free(server);
}

/* What is new is found, what is gone is not; a folder that cannot be read changes nothing. */
/* Another file under the name of one that a model is open with. */
static void lora_is_replaced(void **state, sv_server *server)
{
    static const char body[] = "{\"prompt\": \"x\", \"steps\": 2, \"loras\": [{\"name\": \"query\", \"weight\": 2}]}";
    char path[64];
    char *picture[2];
    save_lora(state, "query.safetensors", "v_proj", 24);
    for (int i = 0; i < 2; i++) {
        json_decref(submit(server, body, path));
        json_t *json = wait_for_end(server, path);
        picture[i] = strdup(text_at(json_array_get(json_object_get(json, "pictures"), 0), "b64_json"));
        json_decref(json);
        if (i) break;
        assert_int_equal(rename(keep(state, "query.safetensors"), keep(state, "loras/query.safetensors")), 0);
        reload(server, true, "read anew");
    }
    assert_string_not_equal(picture[0], picture[1]);
    free(picture[0]);
    free(picture[1]);
}

static void lists_are_read_anew(void **state)
{
    static const char with_late[] = "{\"prompt\": \"red late\", \"steps\": 2}";
    sv_settings settings = settings_with_all(state);
    settings.log = keep_log;
    sv_server *server = start_with(&settings);
    const splam_embedding late = {keep(state, "tokens/Late.safetensors"), "Late"};
    static const char *const prompts[] = {"red late"};
    splam_generate_options o = options_for(state, "teacher"), plain = o;
    o.prompts = plain.prompts = prompts, o.steps = plain.steps = 2, o.embeddings = &late, o.embedding_count = 1;
    expect_drawn(state, server, with_late, plain);
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"new\"}]}"), 404, "no LoRA");
    save_embedding(state, "tokens/Late.safetensors", 24);
    save_lora(state, "loras/new.safetensors", "k_proj", 24);
    assert_int_equal(unlink(keep(state, "loras/wide.safetensors")), 0);
    expect_drawn(state, server, with_late, plain); /* not yet */
    reload(server, true, "the lists of LoRAs and learned tokens were read anew\n");
    expect_drawn(state, server, with_late, o);
    json_decref(expect_json(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"new\"}]}"), 202));
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\", \"loras\": [{\"name\": \"wide\"}]}"), 404,
                   "no LoRA");
    lora_is_replaced(state, server);
    assert_int_equal(rename(keep(state, "loras"), keep(state, "moved")), 0);
    reload(server, false, "stay as they were: ");
    assert_non_null(strstr(logged, "loras: cannot be opened"));
    json_t *json = expect_json(get(server, "/sdapi/v1/loras"), 200);
    assert_int_equal(json_array_size(json), 3);
    json_decref(json);
    assert_int_equal(rename(keep(state, "moved"), keep(state, "loras")), 0);
    sv_server_free(server);
}

/* ---- saving ---- */

static void pictures_are_saved(void **state)
{
    const sv_settings settings = settings_with_all(state);
    sv_server *server = start_with(&settings);
    for (int i = 0; i < 2; i++) {
        json_t *json = expect_json(
            post(server, "/sdapi/v1/txt2img", "{\"steps\": 1, \"seed\": 7, \"n_iter\": 2, \"save_images\": true}"),
            200);
        json_decref(json);
    }
    json_decref(expect_json(post(server, "/sdapi/v1/txt2img", "{\"steps\": 1, \"save_images\": false}"), 200));
    glob_t found;
    assert_int_equal(glob(keep(state, "saved/*/*"), 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 4);
    static const char *const ends[] = {"/00000-7.png", "/00001-8.png", "/00002-7.png", "/00003-8.png"};
    for (size_t i = 0; i < 4; i++)
        assert_true(sp_ends_with(found.gl_pathv[i], ends[i]));
    char *bytes;
    size_t size;
    json_t *json = expect_json(post(server, "/sdapi/v1/txt2img", "{\"steps\": 1, \"seed\": 8}"), 200);
    assert_ok(sp_read_file(found.gl_pathv[1], &bytes, &size));
    expect_file(json_array_get(json_object_get(json, "images"), 0), bytes, size);
    sp_free(bytes);
    json_decref(json);
    globfree(&found);
    sv_server_free(server);
    server = start_with(&settings); /* goes on behind what is there */
    json_decref(expect_json(post(server, "/sdapi/v1/txt2img", "{\"steps\": 1, \"save_images\": true}"), 200));
    assert_int_equal(glob(keep(state, "saved/*/00004-0.png"), 0, NULL, &found), 0);
    globfree(&found);
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_named),         cmocka_unit_test(models_of_one_name_are_refused),
        cmocka_unit_test(models_are_dropped),       cmocka_unit_test(loras_are_named),
        cmocka_unit_test(learned_tokens_are_there), cmocka_unit_test(lists_are_read_anew),
        cmocka_unit_test(pictures_are_saved),       cmocka_unit_test(names_are_utf8),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up_files, remove_test_folder);
}
