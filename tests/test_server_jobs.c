/* Jobs of the server: their steps as events, small pictures of them, being cancelled, skipped and interrupted. */
#include "server_support.h"

static void jobs_tell_their_steps(void **state)
{
    sv_server *server = start(state);
    char path[64], events[80], name[64] = "";
    json_decref(submit(server, "{\"prompt\": \"red apple\", \"steps\": 40, \"seed\": 7, \"format\": \"webp\"}", path));
    snprintf(events, sizeof events, "%s/events", path);
    answer a = receive_all(follow(server, path));
    assert_int_equal(a.code, 200);
    assert_non_null(strstr(a.text, "text/event-stream"));
    double progress = 0;
    int previews = 0;
    char *at = a.body;
    for (json_t *event; (event = next_event(&at, name)); json_decref(event)) {
        const json_t *preview = json_object_get(event, "preview");
        assert_true(number_at(event, "progress") >= progress);
        progress = number_at(event, "progress");
        previews += preview != NULL;
        if (preview) expect_sides(preview, 8, 8);
    }
    assert_true(progress == 1 && previews >= 1);
    assert_string_equal(name, "end");
    release(&a);
    json_t *json = expect_json(get(server, path), 200), *pictures = json_object_get(json, "pictures");
    splam_generate_options o = options_for(state, "teacher");
    size_t size;
    o.steps = 40, o.seed = 7;
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
    char running[64], waiting[64];
    json_decref(submit(server, endless, running));
    wait_for(server, "splam_steps_total", 1);
    json_decref(submit(server, endless, waiting));
    json_t *json = expect_json(get(server, waiting), 200);
    assert_string_equal(text_at(json, "state"), "queued");
    assert_true(number_at(json, "waiting") == 1);
    json_decref(json);
    int fd = follow(server, running);
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
    char path[64];
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 300, \"sampler\": \"ddim\"}", path));
    for (int i = 0; i < 4; i++) {
        int fd = follow(server, path);
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
    json_decref(submit(server, "{\"prompt\": \"red apple\", \"eta\": 0.5, \"sampler\": \"heun\"}", path));
    json_t *json = wait_for_end(server, path);
    assert_string_equal(text_at(json, "state"), "failed");
    assert_string_equal(text_at(json, "error"), "eta is for the samplers ddim and tcd, and this is heun");
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

static void interrupting_answers_with_what_there_is(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_steps_total", 2);
    json_t *json = expect_json(get(server, "/sdapi/v1/progress"), 200);
    assert_true(number_at(json, "progress") > 0 && number_at(json, "eta_relative") > 0);
    assert_true(number_at(json_object_get(json, "state"), "sampling_steps") > 1);
    expect_sides(json_object_get(json, "current_image"), 8, 8);
    json_decref(json);
    json = expect_json(get(server, "/sdapi/v1/progress?skip_current_image=true"), 200);
    assert_true(json_is_null(json_object_get(json, "current_image")));
    json_decref(json);
    json_decref(expect_json(post(server, "/sdapi/v1/interrupt", ""), 200));
    json = expect_json(receive_all(fd), 200);
    assert_true(json_array_size(json_object_get(json, "images")) < 64);
    json_decref(json);
    sv_server_free(server);
}

/* Of two rounds the first is left out; of one nothing is left. */
static void skipping_goes_on_with_the_next_round(void **state)
{
    sv_server *server = start(state);
    int fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL,
                           "{\"prompt\": \"red apple\", \"steps\": 200, \"n_iter\": 2, \"seed\": 7,"
                           " \"sampler_name\": \"DDIM\"}");
    wait_for(server, "splam_steps_total", 2);
    json_decref(expect_json(post(server, "/sdapi/v1/skip", ""), 200));
    json_t *json = expect_json(receive_all(fd), 200), *images = json_object_get(json, "images");
    splam_generate_options o = options_for(state, "teacher");
    size_t size;
    o.steps = 200, o.seed = 8, o.sampler = "ddim";
    o.prompt_syntax = SPLAM_PROMPT_WEIGHTED;
    char *file = drawn_file(state, o, "one.png", &size);
    assert_int_equal(json_array_size(images), 1);
    expect_file(json_array_get(images, 0), file, size);
    sp_free(file);
    json_decref(json);
    fd = begin_request(server, "POST", "/sdapi/v1/txt2img", NULL, LONG_JOB);
    wait_for(server, "splam_jobs_running", 1);
    wait_for(server, "splam_steps_total", metric(server, "splam_steps_total") + 1);
    json_decref(expect_json(post(server, "/sdapi/v1/skip", ""), 200));
    json = expect_json(receive_all(fd), 200);
    assert_int_equal(json_array_size(json_object_get(json, "images")), 0);
    json_decref(json);
    json_decref(expect_json(post(server, "/sdapi/v1/skip", ""), 200)); /* of nothing */
    sv_server_free(server);
}

/* ---- OpenAI's stream ---- */

static void streams_have_partial_images(void **state)
{
    sv_server *server = start(state);
    char name[64] = "";
    answer a = receive_all(begin_stream(server, "POST", "/v1/images/generations",
                                        "{\"prompt\": \"red apple\", \"steps\": 40, \"seed\": 7, \"stream\": true,"
                                        " \"partial_images\": 3, \"output_format\": \"jpeg\"}"));
    assert_int_equal(a.code, 200);
    char *at = a.body;
    int partial = 0, completed = 0;
    splam_generate_options o = options_for(state, "teacher");
    size_t size;
    o.steps = 40, o.seed = 7;
    char *file = drawn_file(state, o, "one.jpg", &size);
    for (json_t *event; (event = next_event(&at, name)); json_decref(event)) {
        const json_t *picture = json_object_get(event, "b64_json");
        assert_string_equal(text_at(event, "type"), name);
        assert_string_equal(text_at(event, "output_format"), "jpeg");
        assert_true(number_at(event, "created_at") > 0);
        if (strcmp(name, "image_generation.partial_image") == 0) {
            assert_true(!completed && number_at(event, "partial_image_index") == partial++);
            expect_sides(picture, 8, 8);
            assert_string_equal(text_at(event, "size"), "8x8");
        } else {
            assert_string_equal(name, "image_generation.completed");
            assert_string_equal(text_at(event, "size"), "32x32");
            expect_file(picture, file, size);
            completed++;
        }
    }
    assert_true(completed == 1 && partial >= 1 && partial <= 3); /* fewer where it is faster than it is told */
    sp_free(file);
    release(&a);
    sv_server_free(server);
}

static void streams_tell_failures(void **state)
{
    sv_server *server = start(state);
    char name[64];
    answer a = receive_all(begin_stream(server, "POST", "/v1/images/generations",
                                        "{\"prompt\": \"x\", \"steps\": 3000, \"stream\": true}"));
    char *at = a.body;
    json_t *event = next_event(&at, name);
    assert_string_equal(name, "error");
    assert_non_null(strstr(text_at(json_object_get(event, "error"), "message"), "3000 steps"));
    json_decref(event);
    assert_null(next_event(&at, name));
    release(&a);
    int fd = begin_stream(server, "POST", "/v1/images/generations",
                          "{\"prompt\": \"x\", \"steps\": 900, \"sampler\": \"ddim\", \"stream\": true}");
    wait_for(server, "splam_steps_total", 2);
    close(fd); /* whose job it is */
    wait_for(server, "splam_jobs_total{state=\"cancelled\"}", 1);
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_tell_their_steps),
        cmocka_unit_test(jobs_are_cancelled),
        cmocka_unit_test(followers_may_leave),
        cmocka_unit_test(failures_and_warnings_are_told),
        cmocka_unit_test(interrupting_answers_with_what_there_is),
        cmocka_unit_test(skipping_goes_on_with_the_next_round),
        cmocka_unit_test(streams_have_partial_images),
        cmocka_unit_test(streams_tell_failures),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
