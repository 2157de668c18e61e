/* A1111's fields: what may be sent of what is not there, what goes before what, and that docs/server.md says so. */
#include "server_support.h"
#include "server/request.h"

/* A request that is refused for its width, once all fields have been read. */
static answer probe(const sv_server *server, const sv_interface *interface, const char *field, const char *value)
{
    char *body = NULL;
    bool txt2img = interface == &sv_txt2img_interface;
    assert_true(asprintf(&body, "{\"width\": 33, \"%s\": %s}", field, value) > 0);
    answer a = post(server, txt2img ? "/sdapi/v1/txt2img" : "/sdapi/v1/img2img", body);
    free(body);
    return a;
}

static void expect_taken(const sv_server *server, const sv_interface *interface, const char *field, const char *value)
{
    answer a = probe(server, interface, field, value);
    bool read = strstr(a.body, "a multiple of") || strstr(a.body, "Init image not found");
    if (!read) fail_msg("%s: %s is refused: %s", field, value, a.body);
    release(&a);
}

static void expect_field_refused(const sv_server *server, const sv_interface *interface, const char *field,
                                 const char *value)
{
    char words[128];
    snprintf(words, sizeof words, "%s is not supported: ", field);
    expect_refusal(probe(server, interface, field, value), 422, words);
}

/* What asks for nothing is taken, what asks for something is refused by name. */
static void fields_are_as_the_table_says(void **state)
{
    static const sv_interface *const interfaces[] = {&sv_txt2img_interface, &sv_img2img_interface};
    static const char *const anything[] = {"12345", "\"x\"", "[1]", "{\"x\": 1}", "true"};
    sv_server *server = start(state);
    const sv_field *field;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; (field = sv_field_at(interfaces[k], i)); i++) {
            if (strcmp(field->name, "width")) expect_taken(server, interfaces[k], field->name, "null");
            if (!field->neutral) continue;
            size_t n;
            json_t *value, *list = json_loads(field->neutral, JSON_DECODE_ANY, NULL);
            json_array_foreach(list, n, value) {
                char *text = json_dumps(value, JSON_ENCODE_ANY);
                expect_taken(server, interfaces[k], field->name, text);
                free(text);
            }
            json_decref(list);
            for (n = 0; n < SV_COUNT_OF(anything); n++)
                if (strcmp(field->neutral, "*") == 0)
                    expect_taken(server, interfaces[k], field->name, anything[n]);
                else if (strcmp(field->neutral, "[true]") || n != 4)
                    expect_field_refused(server, interfaces[k], field->name, anything[n]);
        }
    expect_taken(server, &sv_txt2img_interface, "some_extension", "5");
    expect_taken(server, &sv_txt2img_interface, "mask", "\"of img2img alone\"");
    expect_taken(server, &sv_txt2img_interface, "subseed_strength", "0.0"); /* which 0 is */
    sv_server_free(server);
}

/* ---- what clients send ---- */

/* All that webuiapi 0.9.17 sends with txt2img(sampler_name="DPM++ 2M"). */
static const char webuiapi[] =
    "{\"enable_hr\": false, \"hr_scale\": 2, \"hr_upscaler\": \"Latent\", \"hr_second_pass_steps\": 0,"
    " \"hr_resize_x\": 0, \"hr_resize_y\": 0, \"denoising_strength\": 0.7, \"firstphase_width\": 0,"
    " \"firstphase_height\": 0, \"prompt\": \"red apple\", \"styles\": [], \"seed\": 7, \"subseed\": -1,"
    " \"subseed_strength\": 0.0, \"seed_resize_from_h\": 0, \"seed_resize_from_w\": 0, \"batch_size\": 1,"
    " \"n_iter\": 1, \"steps\": 3, \"cfg_scale\": 7.0, \"width\": 32, \"height\": 32, \"restore_faces\": false,"
    " \"tiling\": false, \"do_not_save_samples\": false, \"do_not_save_grid\": false, \"negative_prompt\": \"\","
    " \"eta\": 1.0, \"s_churn\": 0, \"s_tmax\": 0, \"s_tmin\": 0, \"s_noise\": 1, \"override_settings\": {},"
    " \"override_settings_restore_afterwards\": true, \"sampler_name\": \"DPM++ 2M\", \"sampler_index\": \"Euler a\","
    " \"script_name\": null, \"script_args\": [], \"send_images\": true, \"save_images\": false,"
    " \"alwayson_scripts\": {}}";

/* Draws, and tells by which sampler and schedule of noise levels. */
static void expect_sampler(const sv_server *server, const char *body, const char *sampler, const char *sigmas)
{
    json_t *json = expect_json(post(server, "/sdapi/v1/txt2img", body), 200),
           *info = json_loads(text_at(json, "info"), 0, NULL);
    const char *text = json_string_value(json_array_get(json_object_get(info, "infotexts"), 0));
    assert_string_equal(text_at(info, "sampler_name"), sampler);
    if (!strstr(text, sigmas)) fail_msg("\"%s\" is not in \"%s\"", sigmas, text);
    json_decref(info);
    json_decref(json);
}

static void the_newer_name_of_a_sampler_counts(void **state)
{
    sv_server *server = start(state);
    expect_sampler(server, webuiapi, "DPM++ 2M", "Steps: 3");
    expect_sampler(server, "{\"steps\": 2, \"sampler_index\": \"Heun\", \"sampler_name\": \"\"}", "Heun", "Steps: 2");
    expect_sampler(server, "{\"steps\": 2, \"sampler_index\": \"none\", \"sampler_name\": \"Euler\"}", "Euler",
                   "Steps: 2");
    expect_refusal(post(server, "/sdapi/v1/txt2img", "{\"sampler_index\": \"none\"}"), 404, "sampler_index is");
    sv_server_free(server);
}

/* In whatever order they come. */
static void the_end_of_a_samplers_name_goes_before_the_scheduler(void **state)
{
    sv_server *server = start(state);
    expect_sampler(server, "{\"steps\": 3, \"sampler_name\": \"DPM++ 2M Karras\", \"scheduler\": \"Exponential\"}",
                   "DPM++ 2M", "Schedule type: Karras");
    expect_sampler(server, "{\"steps\": 3, \"scheduler\": \"Exponential\", \"sampler_name\": \"DPM++ 2M Karras\"}",
                   "DPM++ 2M", "Schedule type: Karras");
    expect_sampler(server, "{\"steps\": 3, \"scheduler\": \"Exponential\", \"sampler_name\": \"DPM++ 2M\"}",
                   "DPM++ 2M", "Schedule type: Exponential");
    sv_server_free(server);
}

/* Of what some samplers alone have, others take any value. */
static void samplers_have_their_own_numbers(void **state)
{
    static const struct {
        const char *sampler, *field, *value;
        bool taken;
    } cases[] = {
        {"DDIM", "eta", "0", true},          {"DDIM", "eta", "1", true},           {"Euler a", "eta", "1", true},
        {"Euler a", "eta", "0.5", false},    {"Euler", "eta", "0.5", true},        {"TCD", "eta", "0.5", true},
        {"Euler", "s_noise", "0", true},     {"DPM++ 2M SDE", "s_noise", "1", true},
        {"DPM++ 2M SDE", "s_noise", "0", false},
    };
    sv_server *server = start(state);
    for (size_t i = 0; i < SV_COUNT_OF(cases); i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"sampler_name\": \"%s\", \"%s\": %s, \"width\": 33}", cases[i].sampler,
                 cases[i].field, cases[i].value);
        expect_refusal(post(server, "/sdapi/v1/txt2img", body), 422,
                       cases[i].taken ? "a multiple of" : "is supported as ");
    }
    sv_server_free(server);
}

/* ---- the table of docs/server.md ---- */

/* "| `name` | of | default | what may be sent |", as it is there. */
static char *row_of(const sv_field *field, const char *of)
{
    char *row = NULL;
    const char *neutral = field->neutral ? field->neutral : "";
    bool all = strcmp(neutral, "*") == 0;
    int length = all || !*neutral ? 0 : (int)strlen(neutral) - 2;
    const char *tick = length ? "`" : "";
    assert_true(asprintf(&row, "\n| `%s` | %s | `%s` | %s%.*s%s |\n", field->name, of, field->original, tick, length,
                         neutral + (length > 0), all ? "anything" : *tick ? tick : "taken") > 0);
    return row;
}

static void expect_rows(const char *text, const sv_interface *interface, int part, const char *of)
{
    for (size_t i = 0; i < interface->fields[part].count; i++) {
        const sv_field *field = &interface->fields[part].item[i];
        char *row = field->original ? row_of(field, of) : NULL;
        if (row && !strstr(text, row)) fail_msg("docs/server.md has no line%s", row);
        free(row);
    }
}

static void the_manual_has_the_table(void **state)
{
    char path[600], *text;
    size_t size, rows = 0;
    (void)state;
    snprintf(path, sizeof path, "%s/docs/server.md", getenv("SPLAM_SOURCE"));
    assert_ok(sp_read_file(path, &text, &size));
    expect_rows(text, &sv_txt2img_interface, 1, "both");
    expect_rows(text, &sv_txt2img_interface, 0, "txt2img");
    expect_rows(text, &sv_img2img_interface, 0, "img2img");
    for (const char *at = text; (at = strstr(at, "` | ")); at++)
        rows += strncmp(at, "` | both | `", 12) == 0 || strncmp(at, "` | txt2img | `", 15) == 0 ||
                strncmp(at, "` | img2img | `", 15) == 0;
    size_t fields = sv_txt2img_interface.fields[0].count + sv_txt2img_interface.fields[1].count +
                    sv_img2img_interface.fields[0].count;
    assert_int_equal(rows, fields - 1); /* deadline is none of A1111's */
    sp_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_as_the_table_says),
        cmocka_unit_test(the_newer_name_of_a_sampler_counts),
        cmocka_unit_test(the_end_of_a_samplers_name_goes_before_the_scheduler),
        cmocka_unit_test(samplers_have_their_own_numbers),
        cmocka_unit_test(the_manual_has_the_table),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
