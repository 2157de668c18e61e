/* The server over loopback: pictures of each interface bit for bit those of splam_generate, jobs and their events, what
 * is refused, clients that leave, are slow or are too many, and the end. */
#include <pthread.h>
#include "server_support.h"
#include "image/image.h"
#include "server/names.h"
#include "server/queue.h"

/* ---- pictures ---- */

/* The file that splam_generate writes. */
static char *drawn_file(void **state, splam_generate_options o, const char *name, size_t *size)
{
    char *bytes;
    o.output = keep(state, name);
    generate(&o);
    assert_ok(sp_read_file(o.output, &bytes, size));
    return bytes;
}

static void expect_file(const json_t *text, const char *expected, size_t expected_size)
{
    size_t size;
    uint8_t *bytes = decode(text, &size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}

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
             "{\"prompt\": \"(red:1.3) apple\", \"batch_size\": 1, \"n_iter\": 2, \"seed\": 7, \"steps\": 3,"
             " \"cfg_scale\": 3, \"sampler_name\": \"DPM++ 2M Karras\", \"width\": 32, \"height\": 32,"
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

/* A picture to start from, 40 x 36. */
static char *start_picture(void **state, const char *path)
{
    sp_image image;
    char *bytes;
    size_t size;
    assert_ok(sp_image_create(40, 36, &image));
    for (int i = 0; i < 40 * 36 * 3; i++)
        image.pixels[i] = (uint8_t)(i * 7);
    assert_ok(sp_image_save_png(&image, keep(state, path), NULL, 0));
    assert_ok(sp_read_file(keep(state, path), &bytes, &size));
    char *text = sv_base64_encode((uint8_t *)bytes, size);
    sp_free(bytes);
    sp_image_free(&image);
    return text;
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

/* ---- lists ---- */

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

/* ---- jobs ---- */

static json_t *submit(const sv_server *server, const char *body, char path[64])
{
    json_t *json = expect_json(post(server, "/v1/jobs", body), 202);
    snprintf(path, 64, "/v1/jobs/%s", text_at(json, "id"));
    return json;
}

static json_t *wait_for_end(const sv_server *server, const char *path)
{
    for (;;) {
        json_t *json = expect_json(get(server, path), 200);
        const char *now = text_at(json, "state");
        if (strcmp(now, "queued") && strcmp(now, "running")) return json;
        json_decref(json);
        nap(.01);
    }
}

static void jobs_tell_their_steps(void **state)
{
    sv_server *server = start(state);
    char path[64], events[80];
    json_decref(submit(server, "{\"prompt\": \"red apple\", \"steps\": 5, \"seed\": 7, \"format\": \"webp\"}", path));
    snprintf(events, sizeof events, "%s/events", path);
    /* HTTP/1.0 has no chunks: events until the connection is closed. */
    int fd = connect_to(server);
    char request[256];
    snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", events);
    send_text(fd, request);
    answer a = receive_all(fd);
    assert_int_equal(a.code, 200);
    assert_non_null(strstr(a.text, "text/event-stream"));
    double progress = 0;
    int count = 0;
    bool ended = false;
    for (char *line = a.body; (line = strstr(line, "data: ")); line++) {
        line[strcspn(line, "\n")] = 0;
        json_t *json = json_loads(line + 6, 0, NULL);
        assert_non_null(json);
        assert_true(number_at(json, "progress") >= progress);
        progress = number_at(json, "progress");
        ended = strcmp(text_at(json, "state"), "done") == 0;
        count++;
        line += strlen(line);
        *line = '\n';
        json_decref(json);
    }
    assert_true(ended && progress == 1 && count >= 1);
    assert_non_null(strstr(a.body, "event: end\n"));
    release(&a);
    json_t *json = expect_json(get(server, path), 200), *pictures = json_object_get(json, "pictures");
    splam_generate_options o = options_for(state, "teacher");
    size_t size;
    o.steps = 5, o.seed = 7;
    char *file = drawn_file(state, o, "one.webp", &size);
    assert_int_equal(json_array_size(pictures), 1);
    expect_file(json_object_get(json_array_get(pictures, 0), "b64_json"), file, size);
    sp_free(file);
    json_decref(json);
    json_decref(expect_json(ask_with(server, "DELETE", path, NULL, NULL), 200));
    expect_refusal(get(server, path), 404, "no such job");
    expect_refusal(get(server, events), 404, "no such job");
    sv_server_free(server);
}

/* Deleting stops: what waits at once, what is drawn at its next step, and who follows it hears of it. */
static void jobs_are_cancelled(void **state)
{
    sv_server *server = start(state);
    static const char endless[] = "{\"prompt\": \"x\", \"steps\": 900, \"count\": 64, \"sampler\": \"ddim\"}";
    char running[64], waiting[64], request[256];
    json_decref(submit(server, endless, running));
    wait_for(server, "splam_steps_total", 1);
    json_decref(submit(server, endless, waiting));
    json_t *json = expect_json(get(server, waiting), 200);
    assert_string_equal(text_at(json, "state"), "queued");
    assert_true(number_at(json, "waiting") == 1);
    json_decref(json);
    int fd = connect_to(server);
    snprintf(request, sizeof request, "GET %s/events HTTP/1.0\r\nHost: localhost\r\n\r\n", running);
    send_text(fd, request);
    json_decref(expect_json(ask_with(server, "DELETE", waiting, NULL, NULL), 200));
    json = wait_for_end(server, waiting);
    assert_string_equal(text_at(json, "state"), "cancelled");
    json_decref(json);
    json = expect_json(get(server, running), 200);
    assert_true(number_at(json, "step") >= 1 && number_at(json, "seconds_left") > 0);
    json_decref(json);
    json_decref(expect_json(ask_with(server, "DELETE", running, NULL, NULL), 200));
    answer a = receive_all(fd);
    assert_non_null(strstr(a.body, "event: end\n"));
    assert_non_null(strstr(a.body, "\"state\":\"cancelled\""));
    release(&a);
    sv_server_free(server);
}

/* Whoever follows a job and leaves, leaves it to itself. */
static void followers_may_leave(void **state)
{
    sv_server *server = start(state);
    char path[64], request[256];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 300, \"sampler\": \"ddim\"}", path));
    snprintf(request, sizeof request, "GET %s/events HTTP/1.0\r\nHost: localhost\r\n\r\n", path);
    for (int i = 0; i < 4; i++) {
        int fd = connect_to(server);
        send_text(fd, request);
        if (i % 2) nap(.05);
        close(fd);
    }
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "done");
    json_decref(json);
    sv_server_free(server);
}

static void failures_and_warnings_are_told(void **state)
{
    sv_server *server = start(state);
    char path[64];
    json_decref(submit(server, "{\"prompt\": \"red apple\", \"eta\": 0.5, \"sampler\": \"ddim\"}", path));
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "failed");
    assert_string_equal(text_at(json, "error"), "eta is for the sampler tcd, and this is ddim");
    json_decref(json);
    expect_refusal(post(server, "/sdapi/v1/txt2img", "{\"sampler_name\": \"DDIM\", \"scheduler\": \"karras\"}"), 422,
                   "sigmas");
    json = expect_json(post(server, "/v1/images/generations",
                            "{\"prompt\": \"red apple red apple red apple red apple red apple\", \"steps\": 1}"),
                       200);
    assert_true(json_array_size(json_object_get(json, "warnings")) == 1); /* more words than the encoder takes */
    json_decref(json);
    sv_server_free(server);
}

/* ---- refusals ---- */

static void requests_are_refused(void **state)
{
    static const struct {
        const char *method, *path, *headers, *body;
        int code;
        const char *words;
    } cases[] = {
        {"GET", "/", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/0/../../x", NULL, NULL, 404, "nothing at this path"},
        {"GET", "/v1/jobs/0123456789abcdef0123456789abcdef", NULL, NULL, 404, "no such job"},
        {"GET", "/v1/images/generations", NULL, NULL, 405, "GET is not"},
        {"PUT", "/v1/jobs", NULL, "{}", 405, "PUT is not"},
        {"POST", "/v1/images/edits", NULL, "{}", 501, "not supported"},
        {"POST", "/v1/jobs", NULL, "", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\"", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "[]", 400, "no object"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"a\", \"prompt\": \"b\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"\xff\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"a\\u0000b\"}", 400, "no JSON"},
        {"POST", "/v1/jobs", NULL, "{}", 400, "a prompt is missing"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": 5}", 400, "prompt is no text"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"output\": \"/etc/passwd\"}", 400, "no field \\\"output\\\""},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"noise\": \"/etc/passwd\"}", 400, "no field \\\"noise\\\""},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"model\": \"../teacher\"}", 404, "the model here is"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": 0}", 400, "steps is 0"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": 2.5}", 400, "whole number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"steps\": \"2\"}", 400, "steps is no number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"seed\": -2}", 400, "seed is no whole number"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"sampler\": \"magic\"}", 400, "one of lcm|"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"guidance\": 1e9}", 400, "a number from 0 to 1000"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 33}", 400, "a multiple of 4"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 16384, \"height\": 16384}", 400, "are the most"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"count\": 65}", 400, "64 are the most"},
        {"POST", "/v1/jobs", NULL, "{\"prompt\": \"x\", \"width\": 1024, \"height\": 1024, \"count\": 17}", 400,
         "pixels are the most"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"size\": \"32\"}", 400, "WIDTHxHEIGHT"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"size\": \"32x32x32\"}", 400, "WIDTHxHEIGHT"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"response_format\": \"url\"}", 400, "b64_json"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"stream\": true}", 400, "stream is not"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"quality\": \"hd\"}", 400, "auto|standard"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"quality\": \"auto|standard\"}", 400,
         "auto|standard"},
        {"POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"magic\": 1}", 400, "no field"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"enable_hr\": true}", 422, "enable_hr is not supported"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"alwayson_scripts\": {\"x\": 1}}", 422, "alwayson_scripts is not"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"save_images\": true}", 422, "save_images is not"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"sampler_name\": \"Magic\"}", 404, "Sampler not found"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"prompt\": \"<lora:x:1>\"}", 422, "extra networks"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"override_settings\": {\"eta_ddim\": 1}}", 422, "eta_ddim is not"},
        {"POST", "/sdapi/v1/txt2img", NULL, "{\"override_settings\": {\"sd_model_checkpoint\": \"x\"}}", 404,
         "the model here"},
        {"POST", "/sdapi/v1/img2img", NULL, "{\"mask\": \"AAAA\"}", 422, "mask is not supported"},
        {"POST", "/v1/jobs", "Content-Type: text/plain\r\n", "{}", 415, "application/json"},
        {"POST", "/v1/jobs", "Content-Type: application/jsonp\r\n", "{}", 415, "application/json"},
        {"POST", "/v1/jobs", "Transfer-Encoding: chunked\r\n", NULL, 411, "length has to be said"},
        {"GET", "/health", "Host: evil.example\r\n", NULL, 403, "evil.example"},
        {"GET", "/health", "Host: evil.example:7860\r\n", NULL, 403, "--host"},
        {"GET", "/health", "Host: localhost.evil.example\r\n", NULL, 403, "--host"},
        {"POST", "/v1/jobs", "Origin: http://evil.example\r\n", "{}", 403, "other sites"},
        {"POST", "/sdapi/v1/interrupt", "Origin: null\r\n", "", 403, "other sites"},
    };
    sv_server *server = start(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = ask_with(server, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
        if (a.code != cases[i].code || !strstr(a.body, cases[i].words))
            fail_msg("case %zu, %s %s %s: code %d, expected %d and \"%s\": %.1000s", i, cases[i].method, cases[i].path,
                     cases[i].body, a.code, cases[i].code, cases[i].words, a.text);
        json_t *json = json_loadb(a.body, a.length, 0, NULL);
        assert_non_null(json);
        json_decref(json);
        release(&a);
    }
    expect_refusal(ask_with(server, "GET", "/health", "Host: localhost:1\r\nOrigin: http://localhost:1\r\n", NULL), 200,
                   "ok");
    assert_true(metric(server, "splam_jobs_total{state=\"done\"}") == 0);
    sv_server_free(server);
}

static char *repeated(const char *head, const char *part, size_t count, const char *tail)
{
    char *text = malloc(strlen(head) + count * strlen(part) + strlen(tail) + 1), *to = stpcpy(text, head);
    for (size_t i = 0; i < count; i++)
        to = stpcpy(to, part);
    strcpy(to, tail);
    return text;
}

static void large_requests_are_refused(void **state)
{
    sv_server *server = start(state);
    char *body = repeated("{\"prompt\": \"", "x", 17000, "\"}");
    expect_refusal(post(server, "/v1/jobs", body), 400, "16384 are the most");
    free(body);
    body = repeated("{\"prompt\": \"", "x", 1 << 20, "\"}");
    expect_refusal(post(server, "/sdapi/v1/txt2img", body), 413, "1048576 are the most");
    free(body);
    body = repeated("[", "[],", 30000, "[]]");
    expect_refusal(post(server, "/v1/jobs", body), 413, "more than 20000 values");
    free(body);
    body = repeated("{\"prompt\": \"[[[,,,\\\"", ",", 16000, "\", \"steps\": 0}"); /* signs in a text are no values */
    expect_refusal(post(server, "/v1/jobs", body), 400, "steps is 0");
    free(body);
    body = repeated("", "[", 15000, "");
    expect_refusal(post(server, "/v1/jobs", body), 400, "no JSON");
    free(body);
    /* Only said, and never sent. */
    int fd = connect_to(server);
    send_text(fd, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  "Content-Length: 99999999999\r\nConnection: close\r\n\r\n");
    expect_refusal(receive_all(fd), 413, "are the most");
    body = repeated("GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", "x", 40000, "\r\nConnection: close\r\n\r\n");
    fd = connect_to(server);
    send_text(fd, body);
    answer a = receive_all(fd);
    assert_true(a.code == 0 || a.code == 431 || a.code == 413);
    release(&a);
    free(body);
    body = repeated("GET /", "x", 40000, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    fd = connect_to(server);
    send_text(fd, body);
    a = receive_all(fd);
    assert_true(a.code == 0 || a.code == 414 || a.code == 431);
    release(&a);
    free(body);
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

static void no_http_at_all(void **state)
{
    static const char *const texts[] = {
        "\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "GET /health HTTP/1.1\r\n\r\n",
        "A B C D E\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", "GET /%00%ff%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    sv_settings settings = settings_for(state);
    settings.request_seconds = 1; /* of what is waited for to the end */
    sv_server *server = start_with(&settings);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = connect_to(server);
        send_text(fd, texts[i]);
        shutdown(fd, SHUT_WR);
        answer a = receive_all(fd);
        assert_true(a.code == 0 || a.code >= 400);
        release(&a);
    }
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

/* ---- keys ---- */

static void keys_are_asked_for(void **state)
{
    sv_settings settings = settings_for(state);
    settings.key_file = keep(state, "keys");
    write_text(settings.key_file, "# ours\nabcdefghijklmnop\n\nqrstuvwxyz012345\r\n");
    sv_server *server = start_with(&settings);
    static const char *const wrong[] = {
        NULL,
        "Authorization: Bearer abcdefghijklmno\r\n",
        "Authorization: Bearer abcdefghijklmnopq\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: abcdefghijklmnop\r\n",
        "Authorization: Bearer # ours\r\n",
        "Authorization: Basic eDp5\r\n",
        "Authorization: Basic !\r\n",
    };
    static const char *const right[] = {
        "Authorization: Bearer abcdefghijklmnop\r\n",
        "Authorization: bearer qrstuvwxyz012345\r\n",
        "Authorization: Basic dXNlcjphYmNkZWZnaGlqa2xtbm9w\r\n", /* user:abcdefghijklmnop */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_refusal(ask_with(server, "GET", "/v1/models", wrong[i], NULL), 401, "key");
        expect_refusal(ask_with(server, "POST", "/v1/jobs", wrong[i], "{\"prompt\": \"x\"}"), 401, "key");
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        json_decref(expect_json(ask_with(server, "GET", "/v1/models", right[i], NULL), 200));
    expect_refusal(ask_with(server, "GET", "/metrics", NULL, NULL), 401, "key");
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

static void expect_no_start(const sv_settings *settings, splam_status status, const char *words)
{
    char error[SV_ERROR] = "";
    sv_server *server;
    assert_status(sv_server_start(settings, &server, error), status);
    assert_null(server);
    if (!strstr(error, words)) fail_msg("\"%s\" is not in \"%s\"", words, error);
}

static void settings_are_refused(void **state)
{
    sv_settings s = settings_for(state);
    static const char *const addresses[] = {"", "7860", "localhost:7860", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                            "127.0.0.1:1x", "[::1]7860", "::1:7860", "[::1", "127.0.0.1:-1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        s.listen = addresses[i];
        expect_no_start(&s, SP_ARGUMENT, "`listen` is");
    }
    s.listen = "0.0.0.0:0";
    expect_no_start(&s, SP_ARGUMENT, "give `api_key_file`, or `no_key`");
    s.listen = "[::]:0";
    expect_no_start(&s, SP_ARGUMENT, "give `api_key_file`, or `no_key`");
    s.listen = "127.0.0.1:0";
    s.key_file = keep(state, "absent");
    expect_no_start(&s, SP_IO, "absent: cannot be opened");
    s.key_file = keep(state, "bad-keys");
    write_text(s.key_file, "# nothing\n");
    expect_no_start(&s, SP_IO, "has no key");
    write_text(s.key_file, "abcdefghijklmnop\nshort\n");
    expect_no_start(&s, SP_IO, "line 2: a key has 16");
    write_text(s.key_file, "abcdefghijkl mnop\n");
    expect_no_start(&s, SP_IO, "line 1: a key is of visible");
    s.no_key = true;
    expect_no_start(&s, SP_ARGUMENT, "exclude each other");
    s = settings_for(state);
    s.model = keep(state, "nothing-here");
    expect_no_start(&s, SP_IO, "nothing-here");
    sv_server *server = start(state);
    s = settings_for(state);
    s.listen = sv_server_address(server);
    expect_no_start(&s, SP_IO, "cannot listen there");
    sv_server_free(server);
    s = settings_for(state);
    s.listen = "0.0.0.0:0", s.no_key = true;
    server = start_with(&s);
    sv_server_free(server);
}

/* ---- clients that are slow, leave, or are too many ---- */

static void slow_clients_are_closed(void **state)
{
    sv_settings settings = settings_for(state);
    settings.request_seconds = .5;
    sv_server *server = start_with(&settings);
    static const char *const parts[] = {
        "GET /hea",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        "",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int fd = connect_to(server);
        send_text(fd, parts[i]);
        bool open = true;
        /* A byte now and then does not keep it open. */
        for (int k = 0; k < 100 && open; k++) {
            nap(.1);
            open = i == 3 ? recv(fd, (char[1]){0}, 1, MSG_DONTWAIT) != 0 : send_text(fd, "x");
        }
        assert_false(open);
        close(fd);
    }
    json_decref(expect_json(get(server, "/health"), 200));
    sv_server_free(server);
}

/* Whoever asks for much and reads nothing is closed, too, and what it asked for is freed. */
static void slow_readers_are_closed(void **state)
{
    sv_settings settings = settings_for(state);
    settings.answer_seconds = .5;
    sv_server *server = start_with(&settings);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL,
                           "{\"steps\": 1, \"width\": 512, \"height\": 512, \"n_iter\": 8}");
    wait_for(server, "splam_jobs_total{state=\"done\"}", 1);
    for (int i = 0; i < 100; i++) {
        nap(.1);
        if (metric(server, "splam_http_requests_total{code=\"200\"}") > 0 && !sv_server_is_busy(server)) break;
    }
    answer a = receive_all(fd);
    const char *said = strstr(a.text, "Content-Length: ");
    assert_true(said && a.length < strtoull(said + 16, NULL, 10));
    release(&a);
    sv_server_free(server);
}

static void leaving_cancels(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_steps_total", 2);
    int second = begin_request(server, "POST", "/v1/images/generations", NULL, "{\"prompt\": \"x\", \"steps\": 1}");
    wait_for(server, "splam_jobs_waiting", 1);
    close(second); /* while it waits */
    wait_for(server, "splam_jobs_total{state=\"cancelled\"}", 1);
    assert_true(metric(server, "splam_jobs_running") == 1);
    close(fd); /* while it is drawn */
    wait_for(server, "splam_jobs_total{state=\"cancelled\"}", 2);
    assert_true(metric(server, "splam_steps_total") < 900);
    json_decref(expect_json(post(server, "/v1/images/generations", "{\"prompt\": \"x\", \"steps\": 1}"), 200));
    sv_server_free(server);
}

static void too_many_are_told_when(void **state)
{
    sv_settings settings = settings_for(state);
    settings.queue = 2;
    sv_server *server = start_with(&settings);
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
        wait_for(server, i ? "splam_jobs_waiting" : "splam_jobs_running", i ? i : 1);
    }
    answer a = post(server, "/v1/images/generations", "{\"prompt\": \"x\"}");
    assert_int_equal(a.code, 429);
    assert_non_null(strstr(a.text, "Retry-After: "));
    assert_non_null(strstr(a.body, "rate_limit_error"));
    release(&a);
    close(fd[2]); /* whose place is free now */
    nap(.05);
    char path[64];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 1}", path));
    close(fd[1]);
    close(fd[0]);
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "done");
    json_decref(json);
    sv_server_free(server);
}

static void interrupting_answers_with_what_there_is(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_steps_total", 2);
    json_t *json = expect_json(get(server, "/sdapi/v1/progress"), 200);
    assert_true(number_at(json, "progress") > 0 && number_at(json, "eta_relative") > 0);
    assert_true(number_at(json_object_get(json, "state"), "sampling_steps") > 1);
    json_decref(json);
    json_decref(expect_json(post(server, "/sdapi/v1/interrupt", ""), 200));
    json = expect_json(receive_all(fd), 200);
    assert_true(json_array_size(json_object_get(json, "images")) < 64);
    json_decref(json);
    sv_server_free(server);
}

/* Connections that stay open take request after request. */
static void connections_are_kept(void **state)
{
    sv_server *server = start(state);
    int fd = connect_to(server);
    for (int i = 0; i < 3; i++) {
        static const char body[] = "{\"prompt\": \"x\", \"steps\": 1}";
        char request[512], got[4096] = "";
        snprintf(request, sizeof request,
                 "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
        assert_true(send_text(fd, request));
        size_t length = 0, whole = 1;
        while (length < whole) {
            ssize_t more = recv(fd, got + length, sizeof got - 1 - length, 0);
            assert_true(more > 0);
            length += (size_t)more;
            got[length] = 0;
            char *end = strstr(got, "\r\n\r\n"), *said = strstr(got, "Content-Length: ");
            if (end && said) whole = (size_t)(end + 4 - got) + strtoull(said + 16, NULL, 10);
            if (whole > sizeof got - 1) { /* the picture is longer than what is looked at */
                while (length < whole) {
                    char rest[4096];
                    more = recv(fd, rest, whole - length < sizeof rest ? whole - length : sizeof rest, 0);
                    assert_true(more > 0);
                    length += (size_t)more;
                }
            }
        }
        assert_int_equal(strncmp(got, "HTTP/1.1 200", 12), 0);
    }
    close(fd);
    sv_server_free(server);
}

/* ---- turns ---- */

static sv_job *add_job(sv_queue *queue, uint64_t client)
{
    sv_request *r = calloc(1, sizeof *r);
    sv_job *job;
    r->options = splam_generate_defaults();
    r->options.count = 1;
    assert_int_equal(sv_queue_add(queue, r, false, client, &job), SV_ADDED);
    return job;
}

/* Who asks for much does not keep others waiting for all of it. */
static void clients_take_turns(void **state)
{
    (void)state;
    enum { JOBS = 8 };
    static const uint64_t clients[JOBS] = {1, 1, 1, 1, 2, 2, 3, 1};
    static const int order[JOBS] = {0, 4, 6, 1, 5, 2, 3, 7};
    sv_queue *queue = sv_queue_create(JOBS);
    sv_job *jobs[JOBS];
    for (int i = 0; i < JOBS; i++)
        jobs[i] = add_job(queue, clients[i]);
    for (int i = 0; i < JOBS; i++) {
        sv_job *taken = sv_queue_take(queue);
        assert_ptr_equal(taken, jobs[order[i]]);
        sv_queue_end(queue, taken, SPLAM_OK, NULL);
        sv_job_release(queue, taken);
    }
    for (int i = 0; i < JOBS; i++)
        sv_job_release(queue, jobs[i]);
    /* More clients than are remembered. */
    for (uint64_t client = 10; client < 200; client++) {
        sv_job *job = add_job(queue, client), *taken = sv_queue_take(queue);
        assert_ptr_equal(taken, job);
        sv_queue_end(queue, taken, SPLAM_OK, NULL);
        sv_job_release(queue, taken);
        sv_job_release(queue, job);
    }
    sv_queue_destroy(queue);
}

static void clients_are_told_apart(void **state)
{
    sv_keys keys;
    char error[256];
    sv_address a, b, c;
    write_text(keep(state, "two-keys"), "abcdefghijklmnop\nqrstuvwxyz012345\n");
    assert_true(sv_keys_read(keep(state, "two-keys"), &keys, error, sizeof error));
    assert_int_equal(sv_keys_find(&keys, "abcdefghijklmnop"), 1);
    assert_int_equal(sv_keys_find(&keys, "qrstuvwxyz012345"), 2);
    assert_int_equal(sv_keys_find(&keys, "qrstuvwxyz01234"), 0);
    sv_keys_free(&keys);
    assert_true(sv_address_read("[2001:db8:0:1::1]:1", &a) && sv_address_read("[2001:db8:0:1::2]:2", &b) &&
                sv_address_read("[2001:db8:0:2::1]:1", &c));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) == sv_address_number((struct sockaddr *)&b.storage));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) != sv_address_number((struct sockaddr *)&c.storage));
    assert_true(sv_address_read("10.0.0.1:1", &a) && sv_address_read("10.0.0.2:1", &b));
    assert_true(sv_address_number((struct sockaddr *)&a.storage) != sv_address_number((struct sockaddr *)&b.storage));
}

/* ---- many at once, and the end ---- */

typedef struct {
    const sv_server *server;
    int seed;
    char *text;
} client;

static void *ask_for_a_picture(void *context)
{
    client *c = context;
    char body[128];
    snprintf(body, sizeof body, "{\"prompt\": \"red apple\", \"steps\": 2, \"seed\": %d}", c->seed);
    answer a = post(c->server, "/v1/images/generations", body);
    json_t *json = a.code == 200 ? json_loadb(a.body, a.length, 0, NULL) : NULL;
    json_t *picture = json_array_get(json_object_get(json, "data"), 0);
    c->text = strdup(json ? json_string_value(json_object_get(picture, "b64_json")) : "");
    json_decref(json);
    release(&a);
    return NULL;
}

static void clients_at_once_get_their_own(void **state)
{
    enum { CLIENTS = 8 };
    sv_server *server = start(state);
    pthread_t thread[CLIENTS];
    client alone[CLIENTS], together[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        alone[i] = together[i] = (client){.server = server, .seed = i};
        ask_for_a_picture(&alone[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask_for_a_picture, &together[i]), 0);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(strlen(alone[i].text) > 100);
        assert_string_equal(alone[i].text, together[i].text);
        free(alone[i].text);
        free(together[i].text);
    }
    sv_server_free(server);
}

static void the_end_finishes_what_is_drawn(void **state)
{
    sv_server *server = start(state);
    char address[64];
    snprintf(address, sizeof address, "%s", sv_server_address(server));
    int drawn = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL,
                              "{\"prompt\": \"x\", \"steps\": 300, \"sampler_name\": \"DDIM\"}");
    wait_for(server, "splam_steps_total", 1);
    int waits = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, "{\"prompt\": \"x\"}");
    wait_for(server, "splam_jobs_waiting", 1);
    sv_server_close(server);
    expect_refusal(receive_all(waits), 503, "the server is stopping");
    assert_int_equal(try_to_connect(address), -1);
    json_t *json = expect_json(receive_all(drawn), 200);
    assert_int_equal(json_array_size(json_object_get(json, "images")), 1);
    json_decref(json);
    for (int i = 0; i < 1000 && sv_server_is_busy(server); i++)
        nap(.01);
    assert_false(sv_server_is_busy(server));
    sv_server_free(server);
}

static void the_end_need_not_wait(void **state)
{
    sv_server *server = start(state);
    char path[64], request[256];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 900, \"count\": 64, \"sampler\": \"ddim\"}", path));
    wait_for(server, "splam_steps_total", 1);
    int follows = connect_to(server);
    snprintf(request, sizeof request, "GET %s/events HTTP/1.0\r\nHost: localhost\r\n\r\n", path);
    send_text(follows, request);
    int idle = connect_to(server), drawn = begin_request(server, "POST", "/v1/images/generations", NULL,
                                                         "{\"prompt\": \"x\"}");
    nap(.1);
    sv_server_free(server);
    answer a = receive_all(follows);
    assert_non_null(strstr(a.body, "\"state\":\"cancelled\""));
    release(&a);
    a = receive_all(drawn);
    assert_int_equal(a.code, 503);
    release(&a);
    close(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openai_pictures_are_those_of_generate),
        cmocka_unit_test(sdapi_pictures_are_those_of_generate),
        cmocka_unit_test(pictures_from_pictures),
        cmocka_unit_test(texts_of_pictures),
        cmocka_unit_test(samplers_have_names),
        cmocka_unit_test(lists_and_state),
        cmocka_unit_test(jobs_tell_their_steps),
        cmocka_unit_test(jobs_are_cancelled),
        cmocka_unit_test(followers_may_leave),
        cmocka_unit_test(failures_and_warnings_are_told),
        cmocka_unit_test(requests_are_refused),
        cmocka_unit_test(large_requests_are_refused),
        cmocka_unit_test(no_http_at_all),
        cmocka_unit_test(keys_are_asked_for),
        cmocka_unit_test(settings_are_refused),
        cmocka_unit_test(slow_clients_are_closed),
        cmocka_unit_test(slow_readers_are_closed),
        cmocka_unit_test(leaving_cancels),
        cmocka_unit_test(too_many_are_told_when),
        cmocka_unit_test(interrupting_answers_with_what_there_is),
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(clients_are_told_apart),
        cmocka_unit_test(clients_at_once_get_their_own),
        cmocka_unit_test(the_end_finishes_what_is_drawn),
        cmocka_unit_test(the_end_need_not_wait),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
