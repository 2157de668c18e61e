/* The server over loopback: pictures of each interface bit for bit those of splam_generate, and its lists. */
#include "server_support.h"
#include "server/internal.h"

static void openai_pictures_are_those_of_generate(void **state)
{
    sv_server *server = start(state);
    json_t *json = expect_json(post(server, "/v1/images/generations",
                                    "{\"prompt\": \"red apple\", \"n\": 2, \"size\": \"32x40\", \"seed\": 7,"
                                    " \"steps\": 3, \"negative_prompt\": \"blue\", \"guidance\": 3,"
                                    " \"response_format\": \"b64_json\", \"model\": \"teacher\"}"),
                               200);
    json_t *data = json_object_get(json, "data");
    assert_int_equal(json_array_size(data), 2);
    for (size_t i = 0; i < 2; i++) {
        splam_generate_options o = options_for(state, "teacher");
        size_t size;
        o.width = 32, o.height = 40, o.steps = 3, o.seed = 7 + i, o.negative = "blue", o.guidance = 3;
        char *file = drawn_file(state, o, "one.png", &size);
        expect_file(json_object_get(json_array_get(data, i), "b64_json"), file, size);
        json_t *info = json_object_get(json_array_get(data, i), "info");
        assert_true(number_at(info, "seed") == 7 + (double)i);
        assert_string_equal(text_at(info, "sampler"), "dpm++2m");
        sp_free(file);
    }
    json_decref(json);
    sv_server_free(server);
}

static void sdapi_pictures_are_those_of_generate(void **state)
{
    sv_server *server = start(state);
    json_t *json = expect_json(
        post(server, "/sdapi/v1/txt2img",
             "{\"prompt\": \"(red:1.3) apple\", \"batch_size\": 1, \"n_iter\": 2.0, \"seed\": 7, \"steps\": 3,"
             " \"cfg_scale\": 3, \"sampler_name\": \"DPM++ 2M Karras\", \"eta\": 1.0, \"width\": 32, \"height\": 32,"
             " \"override_settings\": {\"sd_model_checkpoint\": \"teacher [0123456789]\"}, \"styles\": [],"
             " \"enable_hr\": false, \"subseed\": -1, \"some_extension\": 5}"),
        200);
    json_t *images = json_object_get(json, "images"), *info = json_loads(text_at(json, "info"), 0, NULL);
    assert_int_equal(json_array_size(images), 2);
    for (size_t i = 0; i < 2; i++) {
        static const char *const prompts[] = {"(red:1.3) apple"};
        splam_generate_options o = options_for(state, "teacher");
        size_t size;
        char *parameters;
        o.prompts = prompts, o.prompt_syntax = SPLAM_PROMPT_WEIGHTED, o.sampler = "dpm++2m", o.sigmas = "karras";
        o.steps = 3, o.seed = 7 + i, o.guidance = 3;
        char *file = drawn_file(state, o, "one.png", &size);
        expect_file(json_array_get(images, i), file, size);
        assert_ok(splam_picture_parameters(file, size, &parameters));
        assert_string_equal(json_string_value(json_array_get(json_object_get(info, "infotexts"), i)), parameters);
        splam_free(parameters);
        sp_free(file);
    }
    assert_true(number_at(info, "batch_size") == 1); /* of two rounds */
    assert_string_equal(text_at(info, "sampler_name"), "DPM++ 2M");
    assert_true(number_at(info, "cfg_scale") == 3 && number_at(info, "steps") == 3 && number_at(info, "seed") == 7);
    assert_true(number_at(json_object_get(json, "parameters"), "some_extension") == 5);
    json_decref(info);
    json_decref(json);
    json = expect_json(post(server, "/sdapi/v1/txt2img", "{\"steps\": 1, \"send_images\": false}"), 200);
    assert_int_equal(json_array_size(json_object_get(json, "images")), 0);
    info = json_loads(text_at(json, "info"), 0, NULL);
    assert_int_equal(json_array_size(json_object_get(info, "infotexts")), 1); /* of the empty prompt */
    json_decref(info);
    json_decref(json);
    sv_server_free(server);
}

/* Whoever says nothing of eta gets what A1111 has: DDIM draws nothing anew. */
static void ddim_draws_as_much_as_eta_says(void **state)
{
    static const char *const etas[] = {", \"eta\": 1.0", ", \"eta\": 0", ", \"eta\": null", ""};
    sv_server *server = start(state);
    for (int i = 0; i < 4; i++) {
        char body[256];
        size_t size;
        splam_generate_options o = options_for(state, "teacher");
        snprintf(body, sizeof body,
                 "{\"prompt\": \"red apple\", \"seed\": 7, \"steps\": 4, \"sampler_name\": \"DDIM\"%s}", etas[i]);
        json_t *json = expect_json(post(server, "/sdapi/v1/txt2img", body), 200),
               *info = json_loads(text_at(json, "info"), 0, NULL);
        const char *text = json_string_value(json_array_get(json_object_get(info, "infotexts"), 0));
        o.sampler = "ddim", o.steps = 4, o.seed = 7, o.prompt_syntax = SPLAM_PROMPT_WEIGHTED;
        if (i == 0) o.eta = 1;
        char *file = drawn_file(state, o, "one.png", &size);
        expect_file(json_array_get(json_object_get(json, "images"), 0), file, size);
        assert_int_equal(strstr(text, ", Eta DDIM: 1,") != NULL, i == 0);
        assert_int_equal(json_object_size(json_object_get(info, "extra_generation_params")), i == 0);
        sp_free(file);
        json_decref(info);
        json_decref(json);
    }
    sv_server_free(server);
}

static void pictures_from_pictures(void **state)
{
    sv_server *server = start(state);
    char *start_text = start_picture(state, "start.png"), *body = NULL;
    splam_generate_options o = options_for(state, "teacher");
    splam_pictures expected, drawn;
    size_t size;
    o.init_image = keep(state, "start.png"), o.strength = .75, o.steps = 4, o.seed = 3;
    char *file = drawn_file(state, o, "one.png", &size);
    assert_ok(splam_picture_decode(file, size, &expected));
    assert_true(asprintf(&body, "{\"prompt\": \"red apple\", \"steps\": 4, \"seed\": 3, \"init_images\":"
                                " [\"data:image/png;base64,%s\"]}", start_text) > 0);
    json_t *json = expect_json(post(server, "/sdapi/v1/img2img", body), 200);
    uint8_t *bytes = decode(json_array_get(json_object_get(json, "images"), 0), &size);
    assert_ok(splam_picture_decode(bytes, size, &drawn));
    assert_true(drawn.width == 40 && drawn.height == 36);
    assert_memory_equal(drawn.rgb, expected.rgb, 40 * 36 * 3);
    assert_null(json_object_get(json_object_get(json, "parameters"), "init_images"));
    free(bytes);
    free(body);
    json_decref(json);
    splam_pictures_free(&drawn);
    splam_pictures_free(&expected);
    sp_free(file);
    assert_true(asprintf(&body, "{\"prompt\": \"x\", \"width\": 64, \"height\": 32, \"resize_mode\": 0,"
                                " \"init_images\": [\"%s\"]}", start_text) > 0);
    expect_refusal(post(server, "/sdapi/v1/img2img", body), 422, "other proportions");
    free(body);
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"prompt\": \"x\"}"), 404, "Init image not found");
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"init_images\": [\"AAAA\"]}"), 422, "neither JPEG, PNG");
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"init_images\": [\"*\"]}"), 422, "no base64");
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"init_images\": []}"), 422, "list of one picture");
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"init_images\": [\"AA\\nAA\\n\"]}"), 422, "neither JPEG, PNG");
    expect_refusal(post(server, "/sdapi/v1/img2img", "{\"init_images\": [\"AA=A\"]}"), 422, "no base64");
    free(start_text);
    sv_server_free(server);
}

static void texts_of_pictures(void **state)
{
    sv_server *server = start(state);
    json_t *json = expect_json(post(server, "/sdapi/v1/txt2img", "{\"prompt\": \"red apple\", \"steps\": 1}"), 200);
    const char *image = json_string_value(json_array_get(json_object_get(json, "images"), 0));
    char *body = NULL;
    assert_true(asprintf(&body, "{\"image\": \"%s\"}", image) > 0);
    json_t *told = expect_json(post(server, "/sdapi/v1/png-info", body), 200);
    assert_int_equal(strncmp(text_at(told, "info"), "red apple\nSteps: 1, Sampler: DPM++ 2M", 36), 0);
    json_decref(told);
    json_decref(json);
    free(body);
    body = start_picture(state, "start.png");
    char *without = NULL;
    assert_true(asprintf(&without, "{\"image\": \"%s\"}", body) > 0);
    told = expect_json(post(server, "/sdapi/v1/png-info", without), 200);
    assert_string_equal(text_at(told, "info"), "");
    json_decref(told);
    free(without);
    free(body);
    expect_refusal(post(server, "/sdapi/v1/png-info", "{\"image\": \"R0lGODlh\"}"), 422, "neither JPEG");
    expect_refusal(post(server, "/sdapi/v1/png-info", "{}"), 422, "no picture");
    sv_server_free(server);
}

/* Every sampler of the library has the name that its pictures have. */
static void samplers_have_names(void **state)
{
    sv_server *server = start(state);
    json_t *list = expect_json(get(server, "/sdapi/v1/samplers"), 200), *entry;
    size_t i, choices = 1;
    for (const splam_option *o; (o = splam_option_at("generate", choices - 1)) && strcmp(o->name, "sampler"); choices++)
        ;
    const splam_option *samplers = splam_option_at("generate", choices - 1);
    choices = 1;
    for (const char *c = samplers->choices; *c; c++)
        choices += *c == '|';
    assert_int_equal(json_array_size(list), choices);
    json_array_foreach(list, i, entry) {
        char body[256], words[64];
        const char *name = text_at(entry, "name");
        snprintf(body, sizeof body, "{\"steps\": 1, \"sampler_name\": \"%s\"}", name);
        snprintf(words, sizeof words, "Sampler: %s,", name);
        json_t *json = expect_json(post(server, "/sdapi/v1/txt2img", body), 200);
        if (!strstr(text_at(json, "info"), words)) fail_msg("no \"%s\" in %s", words, text_at(json, "info"));
        json_decref(json);
    }
    json_decref(list);
    sv_server_free(server);
}

static void lists_and_state(void **state)
{
    sv_server *server = start(state);
    json_t *json = expect_json(get(server, "/health"), 200);
    assert_string_equal(text_at(json, "status"), "ok");
    json_decref(json);
    json = expect_json(get(server, "/v1/models"), 200);
    assert_string_equal(text_at(json_array_get(json_object_get(json, "data"), 0), "id"), "teacher");
    json_decref(json);
    json_t *models = expect_json(get(server, "/sdapi/v1/sd-models"), 200);
    json = expect_json(get(server, "/sdapi/v1/options"), 200);
    assert_string_equal(text_at(json, "sd_model_checkpoint"), text_at(json_array_get(models, 0), "title"));
    json_decref(models);
    json_decref(json);
    json = expect_json(get(server, "/sdapi/v1/progress?skip_current_image=true"), 200);
    assert_true(number_at(json, "progress") == 0);
    json_decref(json);
    json = expect_json(get(server, "/sdapi/v1/memory"), 200);
    const json_t *ram = json_object_get(json, "ram");
    assert_true(number_at(ram, "used") > 1e6);
    assert_true(number_at(ram, "used") + number_at(ram, "free") == number_at(ram, "total"));
    json_decref(json);
    json = expect_json(get(server, "/sdapi/v1/schedulers"), 200);
    assert_true(json_array_size(json) >= 4);
    json_decref(json);
    json = expect_json(ask_with(server, "POST", "/sdapi/v1/interrupt", NULL, ""), 200); /* of nothing */
    json_decref(json);
    assert_true(metric(server, "splam_http_requests_total{code=\"200\"}") >= 6);
    answer a = ask_with(server, "HEAD", "/health", NULL, NULL);
    assert_true(a.code == 200 && a.length == 0);
    release(&a);
    sv_server_free(server);
}

/* The page's script and style carry a nonce that the policy names, another one at each answer. */
static void the_page_has_a_nonce_of_its_own(void **state)
{
    sv_server *server = start(state);
    char nonce[2][33], mark[128];
    for (int i = 0; i < 2; i++) {
        answer a = get(server, "/");
        assert_int_equal(a.code, 200);
        assert_non_null(strstr(a.text, "Content-Type: text/html; charset=utf-8"));
        const char *policy = strstr(a.text, "Content-Security-Policy: default-src 'none'; script-src 'nonce-");
        assert_non_null(policy);
        assert_int_equal(sscanf(strstr(policy, "nonce-"), "nonce-%32[0-9a-f]'", nonce[i]), 1);
        assert_int_equal(strlen(nonce[i]), 32);
        snprintf(mark, sizeof mark, "<script nonce=\"%s\">", nonce[i]);
        assert_non_null(strstr(a.body, mark));
        snprintf(mark, sizeof mark, "<style nonce=\"%s\">", nonce[i]);
        assert_non_null(strstr(a.body, mark));
        assert_null(strstr(a.body, "@NONCE@"));
        assert_string_equal(a.body + a.length - 8, "</html>\n");
        release(&a);
    }
    assert_string_not_equal(nonce[0], nonce[1]);
    sv_server_free(server);
}

/* ---- the description ---- */

static void expect_fields(const json_t *operation, const sv_interface *interface)
{
    const json_t *content = json_object_get(json_object_get(operation, "requestBody"), "content");
    const json_t *schema = json_object_get(json_object_get(content, "application/json"), "schema");
    const json_t *properties = json_object_get(schema, "properties");
    const sv_field *field;
    size_t count = 0;
    for (; (field = sv_field_at(interface, count)); count++)
        if (!json_object_size(json_object_get(properties, field->name))) fail_msg("%s has no schema", field->name);
    assert_int_equal(json_object_size(properties), count);
}

/* Every route and every field of its body is in it, and nothing else. */
static void all_is_described(void **state)
{
    sv_server *server = start(state);
    json_t *json = expect_json(get(server, "/openapi.json"), 200), *paths = json_object_get(json, "paths");
    size_t count = 0, described = 0;
    const char *path;
    const json_t *methods;
    assert_string_equal(text_at(json, "openapi"), "3.1.0");
    for (const sv_route *r = sv_routes; r->path; r++, count++) {
        char name[128], method[16] = "";
        const char *star = strchr(r->path, '*');
        snprintf(name, sizeof name, "%.*s%s%s", (int)strcspn(r->path, "*"), r->path, star ? "{id}" : "",
                 star ? star + 1 : "");
        for (size_t i = 0; r->method[i]; i++)
            method[i] = (char)(r->method[i] + 32);
        const json_t *operation = json_object_get(json_object_get(paths, name), method);
        if (!operation) fail_msg("%s %s is not described", method, name);
        assert_true(strlen(text_at(operation, "summary")) > 3);
        assert_int_equal(json_object_get(operation, "requestBody") != NULL, r->body > 0);
        if (r->about.body) expect_fields(operation, r->about.body);
    }
    json_t *generations = json_object_get(json_object_get(paths, "/v1/images/generations"), "post"),
           *content = json_object_get(json_object_get(json_object_get(generations, "responses"), "2XX"), "content");
    assert_int_equal(json_object_size(content), 2);
    assert_true(json_object_get(content, "application/json") && json_object_get(content, "text/event-stream"));
    json_object_foreach(paths, path, methods)
        described += json_object_size(methods);
    assert_int_equal(described, count);
    json_decref(json);
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openai_pictures_are_those_of_generate),
        cmocka_unit_test(sdapi_pictures_are_those_of_generate),
        cmocka_unit_test(ddim_draws_as_much_as_eta_says),
        cmocka_unit_test(pictures_from_pictures),
        cmocka_unit_test(texts_of_pictures),
        cmocka_unit_test(samplers_have_names),
        cmocka_unit_test(lists_and_state),
        cmocka_unit_test(the_page_has_a_nonce_of_its_own),
        cmocka_unit_test(all_is_described),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
