/* Jobs that are drawn as one batch: whose picture is whose, with which bits, and that one harms no other. */
#include "server_support.h"

/* What holds the drawing thread up, so that what is submitted meanwhile waits together. */
static void hold(const sv_server *server, char path[64])
{
    json_decref(submit(server, "{\"prompt\": \"x\", \"steps\": 900, \"count\": 64, \"sampler\": \"ddim\"}", path));
    wait_for(server, "splam_jobs_running", 1);
}

static void let_go(const sv_server *server, const char *path)
{
    json_decref(expect_json(ask_with(server, "DELETE", path, NULL, NULL), 200));
}

typedef struct {
    const char *prompt, *negative;
    double guidance; /* 0: not said */
    uint64_t seed;
} wish;

static void ask_for(const sv_server *server, const wish *w, int64_t steps, char path[64])
{
    char body[512], guidance[48] = "";
    if (w->guidance > 0) snprintf(guidance, sizeof guidance, ", \"guidance\": %g", w->guidance);
    snprintf(body, sizeof body,
             "{\"prompt\": \"%s\", \"negative\": \"%s\", \"seed\": %d, \"steps\": %d, \"sampler\": \"ddim\"%s}",
             w->prompt, w->negative, (int)w->seed, (int)steps, guidance);
    json_decref(submit(server, body, path));
}

/* The picture of splam_generate, byte for byte. */
static void expect_own(void **state, const sv_server *server, const char *path, const wish *w, int64_t steps)
{
    json_t *json = wait_for_end(server, path), *pictures = json_object_get(json, "pictures");
    if (strcmp(text_at(json, "state"), "done") != 0) fail_msg("%s", json_dumps(json, 0));
    splam_generate_options o = options_for(state, "teacher");
    size_t size;
    o.prompts = &w->prompt;
    o.negative = w->negative;
    o.seed = w->seed;
    o.steps = steps;
    o.sampler = "ddim";
    if (w->guidance > 0) o.guidance = w->guidance;
    char *file = drawn_file(state, o, "one.png", &size);
    assert_int_equal(json_array_size(pictures), 1);
    expect_file(json_object_get(json_array_get(pictures, 0), "b64_json"), file, size);
    sp_free(file);
    json_decref(json);
}

static void batches_have_the_bits_of_each_alone(void **state)
{
    static const wish wishes[] = {{"red apple", "", 0, 7},       {"green apple", "red", 3, 8},
                                  {"red apple", "house", 5, 7},  {"a small house", "house", 0, 1000},
                                  {"office", "", 2, 8},          {"red apple", "", 1, 9}, /* without guidance */
                                  {"apple", "red", 1, 10},       {"woman", "apple", 4, 11}};
    enum { COUNT = sizeof wishes / sizeof *wishes, STEPS = 4 };
    sv_server *server = start(state);
    char holder[64], paths[COUNT][64];
    hold(server, holder);
    for (int i = 0; i < COUNT; i++)
        ask_for(server, &wishes[i], STEPS, paths[i]);
    let_go(server, holder);
    for (int i = 0; i < COUNT; i++)
        expect_own(state, server, paths[i], &wishes[i], STEPS);
    assert_true(metric(server, "splam_jobs_batched_total") == COUNT);
    sv_server_free(server);
}

/* Another number of steps, size or kind, or more than one picture, is a batch of its own. */
static void others_are_drawn_alone(void **state)
{
    static const char *const bodies[] = {
        "{\"prompt\": \"x\", \"steps\": 2}",
        "{\"prompt\": \"x\", \"steps\": 3}",
        "{\"prompt\": \"x\", \"steps\": 2, \"width\": 64}",
        "{\"prompt\": \"x\", \"steps\": 2, \"sampler\": \"euler\"}",
        "{\"prompt\": \"x\", \"steps\": 2, \"rng\": \"torch\"}",
        "{\"prompt\": \"x\", \"steps\": 2, \"count\": 2}",
    };
    enum { COUNT = sizeof bodies / sizeof *bodies };
    sv_server *server = start(state);
    char holder[64], paths[COUNT][64];
    hold(server, holder);
    for (int i = 0; i < COUNT; i++)
        json_decref(submit(server, bodies[i], paths[i]));
    let_go(server, holder);
    for (int i = 0; i < COUNT; i++) {
        json_t *json = wait_for_end(server, paths[i]);
        assert_string_equal(text_at(json, "state"), "done");
        json_decref(json);
    }
    assert_true(metric(server, "splam_jobs_batched_total") == 0);
    sv_server_free(server);
}

/* One that is cancelled on the way ends at the next step and the others get what is theirs; so it is with one whose
 * numbers overflow. */
static void one_harms_no_other(void **state)
{
    static const wish wishes[] = {{"red apple", "", 2, 7}, {"green apple", "", 1000, 8}, {"office", "", 2, 9},
                                  {"house", "", 3, 10}};
    enum { COUNT = sizeof wishes / sizeof *wishes, STEPS = 60, STOPPED = 2 };
    sv_server *server = start(state);
    char holder[64], paths[COUNT][64];
    hold(server, holder);
    for (int i = 0; i < COUNT; i++)
        ask_for(server, &wishes[i], STEPS, paths[i]);
    double before = metric(server, "splam_steps_total");
    let_go(server, holder);
    wait_for(server, "splam_jobs_batched_total", COUNT);
    wait_for(server, "splam_steps_total", before + 2 * COUNT);
    json_decref(expect_json(ask_with(server, "DELETE", paths[STOPPED], NULL, NULL), 200));
    json_t *json = wait_for_end(server, paths[STOPPED]);
    assert_string_equal(text_at(json, "state"), "cancelled");
    json_decref(json);
    json = expect_json(get(server, paths[0]), 200);
    assert_string_equal(text_at(json, "state"), "running"); /* it has not waited for the others */
    json_decref(json);
    for (int i = 0; i < COUNT; i++)
        if (i != STOPPED && i != 1) expect_own(state, server, paths[i], &wishes[i], STEPS);
    json_decref(wait_for_end(server, paths[1]));
    sv_server_free(server);
}

/* A warning is told to whoever asked for what it is about, and each sees its own picture coming. */
static void each_is_told_of_its_own(void **state)
{
    static const wish wishes[] = {{"red apple", "", 2, 7},
                                  {"red apple red apple red apple red apple red apple", "", 2, 8}};
    sv_server *server = start(state);
    char holder[64], paths[2][64], name[64];
    hold(server, holder);
    for (int i = 0; i < 2; i++)
        ask_for(server, &wishes[i], 40, paths[i]);
    int followers[] = {follow(server, paths[0]), follow(server, paths[1])};
    let_go(server, holder);
    for (int i = 0; i < 2; i++) {
        answer a = receive_all(followers[i]);
        int previews = 0;
        char *at = a.body;
        for (json_t *event; (event = next_event(&at, name)); json_decref(event))
            previews += json_object_get(event, "preview") != NULL;
        assert_string_equal(name, "end");
        assert_true(previews >= 1);
        release(&a);
        json_t *json = wait_for_end(server, paths[i]);
        assert_int_equal(json_array_size(json_object_get(json, "warnings")), i);
        json_decref(json);
    }
    assert_true(metric(server, "splam_jobs_batched_total") == 2);
    sv_server_free(server);
}

/* A1111's buttons end what its client asked for, or all that is drawn where that is nothing. */
static void interrupting_ends_a_batch(void **state)
{
    static const wish w = {"red apple", "", 2, 7};
    sv_server *server = start(state);
    char holder[64], paths[4][64];
    hold(server, holder);
    for (int i = 0; i < 4; i++)
        ask_for(server, &w, 900, paths[i]);
    let_go(server, holder);
    wait_for(server, "splam_jobs_batched_total", 4);
    json_t *json = expect_json(get(server, "/sdapi/v1/progress"), 200);
    assert_true(number_at(json_object_get(json, "state"), "sampling_steps") >= 0);
    json_decref(json);
    json_decref(expect_json(post(server, "/sdapi/v1/interrupt", ""), 200));
    for (int i = 0; i < 4; i++) {
        json = wait_for_end(server, paths[i]);
        assert_string_equal(text_at(json, "state"), "cancelled");
        json_decref(json);
    }
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_have_the_bits_of_each_alone), cmocka_unit_test(others_are_drawn_alone),
        cmocka_unit_test(one_harms_no_other),                  cmocka_unit_test(each_is_told_of_its_own),
        cmocka_unit_test(interrupting_ends_a_batch),
    };
    const char *pattern = getenv("SPLAM_TEST_CASES");
    if (pattern) cmocka_set_test_filter(pattern);
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
