/* Distillations that the server watches: what grows is read as it grows, what is written there by strangers does no
 * harm, and a server without models draws nothing. */
#include <sys/file.h>
#include <sys/stat.h>
#include "server_support.h"

static const char *run_path; /* the folder that is watched first */

static sv_server *start_watching(void **state, const char *name)
{
    static const char *watched[2];
    sv_settings settings = sv_settings_defaults();
    run_path = watched[0] = keep(state, name);
    watched[1] = keep(state, "nowhere");
    settings.watched = watched;
    settings.watched_count = 2;
    settings.listen = "127.0.0.1:0";
    mkdir(run_path, 0755);
    return start_with(&settings);
}

static const char *in_run(const char *name)
{
    static char path[640];
    snprintf(path, sizeof path, "%s/%s", run_path, name);
    return path;
}

static void append(const char *text)
{
    FILE *file = fopen(in_run("metrics.jsonl"), "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void append_steps(int from, int to, double loss)
{
    for (int i = from; i <= to; i++) {
        char line[256];
        snprintf(line, sizeof line,
                 "{\"step\":%d,\"max_train_steps\":100,\"loss\":%g,\"grad_norm\":1,\"seconds\":0.5,"
                 "\"peak_rss_bytes\":1000000}\n", i, loss / i);
        append(line);
    }
}

/* The run of that number once it is at a step. */
static json_t *wait_for_step(const sv_server *server, int step)
{
    for (int i = 0; i < 500; i++) {
        json_t *json = expect_json(get(server, "/v1/runs/0"), 200);
        if (json_integer_value(json_object_get(json, "step")) == step) return json;
        json_decref(json);
        nap(.02);
    }
    fail_msg("step %d is not seen", step);
    return NULL;
}

static size_t length_of(const json_t *run, const char *series)
{
    return json_array_size(json_object_get(json_object_get(run, "series"), series));
}

static void runs_are_read_as_they_grow(void **state)
{
    sv_server *server = start_watching(state, "growing");
    json_t *json = expect_json(get(server, "/v1/runs"), 200), *list = json_object_get(json, "data");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_at(json_array_get(list, 0), "name"), "growing");
    assert_string_equal(text_at(json_array_get(list, 1), "state"), "absent");
    json_decref(json);
    append_steps(1, 10, 5);
    json = wait_for_step(server, 10);
    assert_string_equal(text_at(json, "state"), "stopped");
    assert_true(number_at(json, "loss") == .5 && number_at(json, "max_train_steps") == 100);
    assert_true(number_at(json, "steps_per_second") == 2 && number_at(json, "peak_rss_bytes") == 1e6);
    assert_true(json_is_null(json_object_get(json, "seconds_left"))); /* nobody goes on */
    assert_int_equal(length_of(json, "step"), 10);
    assert_int_equal(length_of(json, "loss"), 10);
    assert_int_equal(length_of(json, "loss_gan"), 0);
    json_decref(json);
    int folder = open(run_path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(folder, LOCK_EX), 0); /* as a run does */
    append("{\"step\": 11, \"max_train_steps\": 100, \"loss\": 1, \"sec");
    append("onds\": 0.5}\n");
    json = wait_for_step(server, 11);
    json_decref(json);
    for (int i = 0; i < 200; i++) {
        json = expect_json(get(server, "/v1/runs/0"), 200);
        if (strcmp(text_at(json, "state"), "running") == 0) break;
        json_decref(json);
        nap(.02);
    }
    assert_true(number_at(json, "seconds_left") == 44.5);
    json_decref(json);
    close(folder);
    write_text(in_run("new"), "{\"step\": 3, \"loss\": 2, \"seconds\": 1}\n"); /* it goes on from a checkpoint */
    char old[640];
    snprintf(old, sizeof old, "%s", in_run("new"));
    assert_int_equal(rename(old, in_run("metrics.jsonl")), 0);
    json_decref(wait_for_step(server, 3));
    sv_server_free(server);
}

static void expect_series_of(const sv_server *server, size_t most)
{
    json_t *json = expect_json(get(server, "/v1/runs/0"), 200), *steps;
    size_t count = length_of(json, "step");
    assert_in_range(count, most / 3, most);
    assert_int_equal(length_of(json, "loss"), count);
    steps = json_object_get(json_object_get(json, "series"), "step");
    for (size_t i = 1; i < count; i++)
        assert_true(json_integer_value(json_array_get(steps, i)) > json_integer_value(json_array_get(steps, i - 1)));
    json_decref(json);
}

static void long_runs_are_thinned(void **state)
{
    sv_server *server = start_watching(state, "long");
    append_steps(1, 30000, 1);
    json_decref(wait_for_step(server, 30000));
    expect_series_of(server, 1000);
    sv_server_free(server);
}

static void sheets_and_settings(void **state)
{
    static const uint8_t white[3 * 4 * 4];
    const splam_picture picture = {4, 4, white};
    void *file;
    size_t size;
    sv_server *server = start_watching(state, "sheets");
    assert_ok(splam_picture_encode(&picture, "png", SPLAM_UNSET, &file, &size));
    assert_ok(sp_write_file(in_run("validation-20.png"), file, size));
    assert_ok(sp_write_file(in_run("validation-5.png"), file, size));
    write_text(in_run("validation-05.png"), "no sheet");
    write_text(in_run("validation-7.png"), "no PNG");
    assert_int_equal(symlink("validation-5.png", in_run("validation-8.png")), 0);
    mkdir(in_run("checkpoint-20"), 0755);
    write_text(in_run("checkpoint-20/state.json"),
               "{\"settings\": {\"objective\": \"splam\", \"skip\": 100, \"teacher\": \"/home/me/teacher\","
               " \"a\": []}}");
    append_steps(1, 20, 1);
    json_t *json = wait_for_step(server, 20), *sheets = json_object_get(json, "sheets");
    for (int i = 0; i < 200 && json_is_null(json_object_get(json, "settings")); i++) {
        json_decref(json);
        nap(.02);
        json = expect_json(get(server, "/v1/runs/0"), 200);
        sheets = json_object_get(json, "sheets");
    }
    assert_int_equal(json_array_size(sheets), 4);
    assert_int_equal(json_integer_value(json_array_get(sheets, 0)), 5);
    assert_int_equal(json_integer_value(json_array_get(sheets, 3)), 20);
    assert_int_equal(json_array_size(json_object_get(json, "checkpoints")), 1);
    json_t *settings = json_object_get(json, "settings");
    assert_int_equal(json_object_size(settings), 3);
    assert_string_equal(text_at(settings, "teacher"), "teacher"); /* and not where it lies */
    json_decref(json);
    answer a = get(server, "/v1/sheets/0-20");
    assert_int_equal(a.code, 200);
    assert_int_equal(a.length, size);
    assert_memory_equal(a.body, file, size);
    assert_non_null(strstr(a.text, "Content-Type: image/png"));
    release(&a);
    static const char *const none[] = {"0-7", "0-8", "0-05", "0-6", "1-5", "2-5", "0-", "-5", "0-5-5", "0-5.png",
                                       "00-5x", "99999999999999999999-5", "..%2f0-5"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        char path[64];
        snprintf(path, sizeof path, "/v1/sheets/%s", none[i]);
        a = get(server, path);
        if (a.code != 404) fail_msg("%s: %d", none[i], a.code);
        release(&a);
    }
    splam_free(file);
    sv_server_free(server);
}

/* Each line as a stranger writes it is passed over, and the next one read. */
static void hostile_lines_are_passed_over(void **state)
{
    sv_server *server = start_watching(state, "hostile");
    char *longest = malloc(200001);
    memset(longest, 'x', 200000);
    longest[200000] = 0;
    append(longest);
    append("\n\n{}\n[]\n1\nnull\n\xff\xfe\n{\"step\": \"3\"}\n{\"step\": -1, \"seconds\": 1}\n{\"step\": 1e300}\n");
    append("{\"step\": 1, \"loss\": 1e999}\n{\"step\": NaN}\n{\"step\": 2, \"loss\": \"a\", \"seconds\": {}}\n");
    append("{\"step\": 3, \"step\": 4, \"seconds\": 1}\n{\"step\": 9, \"seconds\": -1}\n");
    append("{\"step\": 5, \"loss\": [1], \"seconds\": 0.25, \"max_train_steps\": 0, \"peak_rss_bytes\": null}\n");
    write_text(in_run("splam.json"), "[1, 2");
    json_t *json = wait_for_step(server, 5);
    assert_true(json_is_null(json_object_get(json, "loss")) && json_is_null(json_object_get(json, "max_train_steps")));
    assert_true(json_is_null(json_object_get(json, "settings")));
    assert_true(number_at(json, "steps_per_second") == 4);
    json_decref(json);
    free(longest);
    sv_server_free(server);
}

/* What is no plain file is not opened, and nobody waits for it. */
static void hostile_files_are_not_read(void **state)
{
    sv_server *server = start_watching(state, "strange");
    assert_int_equal(mkfifo(in_run("metrics.jsonl"), 0600), 0);
    assert_int_equal(mkfifo(in_run("validation-1.png"), 0600), 0);
    mkdir(in_run("splam.json"), 0755);
    nap(2.5);
    json_t *json = expect_json(get(server, "/v1/runs/0"), 200);
    assert_true(json_is_null(json_object_get(json, "step")));
    json_decref(json);
    expect_refusal(get(server, "/v1/sheets/0-1"), 404, "no such sheet");
    sv_server_free(server);
}

static void without_models_nothing_is_drawn(void **state)
{
    sv_server *server = start_watching(state, "alone");
    answer a = get(server, "/");
    assert_int_equal(a.code, 200);
    assert_non_null(strstr(a.body, "<title>splam: distillations</title>"));
    assert_non_null(strstr(a.text, "Content-Security-Policy: default-src 'none'; script-src 'nonce-"));
    assert_null(strstr(a.body, "@NONCE@"));
    assert_null(strstr(a.body, "@COMMON@"));
    release(&a);
    json_t *json = expect_json(get(server, "/v1/models"), 200);
    assert_int_equal(json_array_size(json_object_get(json, "data")), 0);
    json_decref(json);
    expect_refusal(post(server, "/v1/jobs", "{\"prompt\": \"x\"}"), 404, "draws nothing");
    expect_refusal(post(server, "/sdapi/v1/txt2img", "{\"prompt\": \"x\"}"), 404, "draws nothing");
    expect_refusal(get(server, "/sdapi/v1/options"), 404, "draws nothing");
    expect_refusal(get(server, "/v1/runs/2"), 404, "no such run");
    expect_refusal(get(server, "/v1/runs/x"), 404, "no such run");
    sv_server_free(server);
    server = start(state); /* and one with models watches nothing unless it is told */
    json = expect_json(get(server, "/v1/runs"), 200);
    assert_int_equal(json_array_size(json_object_get(json, "data")), 0);
    json_decref(json);
    expect_refusal(get(server, "/v1/runs/0"), 404, "--watch");
    sv_server_free(server);
    char error[SV_ERROR];
    sv_settings nothing = sv_settings_defaults();
    nothing.listen = "127.0.0.1:0";
    assert_status(sv_server_start(&nothing, &server, error), SP_ARGUMENT);
    assert_non_null(strstr(error, "needs `model` or `watch`"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_read_as_they_grow),    cmocka_unit_test(long_runs_are_thinned),
        cmocka_unit_test(sheets_and_settings),           cmocka_unit_test(hostile_lines_are_passed_over),
        cmocka_unit_test(hostile_files_are_not_read),    cmocka_unit_test(without_models_nothing_is_drawn),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
