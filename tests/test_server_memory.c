/* Answers of a server for which an allocation of JSON fails, whichever it is: whole as ever, or 503 with the reason. */
#include <pthread.h>
#include <stdatomic.h>
#include "server_support.h"

/* Jansson's allocations of other threads than the test's own, which reads answers; the one of this number fails. */
static pthread_t own;
static atomic_long made, failing = -1;

static void *make(size_t size)
{
    if (pthread_equal(pthread_self(), own)) return malloc(size);
    return atomic_fetch_add(&made, 1) == failing ? NULL : malloc(size);
}

static int set_up_allocator(void **state)
{
    own = pthread_self();
    json_set_alloc_funcs(make, free);
    return set_up(state);
}

static answer get_with_fault(const sv_server *server, const char *path, long number)
{
    made = 0;
    failing = number;
    answer a = get(server, path);
    failing = -1;
    return a;
}

/* Each allocation of the answer in turn. Of bodies none fails: Jansson 2.14 reads beyond a text of 16 bytes or more for
 * whose growing memory ended. */
static void expect_whole_or_none(const sv_server *server, const char *path)
{
    answer whole = get(server, path);
    int refused = 0;
    for (long number = 0; number == 0 || made >= number; number++) {
        answer a = get_with_fault(server, path, number);
        if (a.code == 503 && strstr(a.body, "out of memory"))
            refused++;
        else if (a.code != whole.code || strcmp(a.body, whole.body))
            fail_msg("%s, allocation %ld: %.1000s\ninstead of %.1000s", path, number, a.text, whole.text);
        release(&a);
    }
    if (!refused) fail_msg("%s is never refused: %.1000s", path, whole.text);
    release(&whole);
}

static void answers_are_whole_or_none(void **state)
{
    static const char *const paths[] = {
        "/v1/models","/sdapi/v1/sd-models", "/sdapi/v1/samplers", "/sdapi/v1/schedulers",
        "/sdapi/v1/loras", "/sdapi/v1/embeddings", "/sdapi/v1/options", "/sdapi/v1/progress", "/v1/runs", "/v1/runs/0",
        "/nothing",
    };
    const char *watched = keep(state, "run");
    sv_settings settings = settings_for(state);
    char job[64];
    assert_ok(sp_make_folders(keep(state, "run/checkpoint-1")));
    assert_ok(sp_make_folders(keep(state, "run/checkpoint-2")));
    write_text(keep(state, "run/splam.json"), "{\"objective\": \"splam\", \"skip\": 20}");
    write_text(keep(state, "run/loras.safetensors"), "");
    settings.lora_folder = watched;
    settings.watched = &watched;
    settings.watched_count = 1;
    sv_server *server = start_with(&settings);
    nap(.2); /* until the run is read */
    json_decref(submit(server, "{\"prompt\": \"red apple, red apple, red apple, red apple\", \"steps\": 1}", job));
    json_decref(wait_for_end(server, job));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        expect_whole_or_none(server, paths[i]);
    expect_whole_or_none(server, job); /* with its picture, what made it, and a warning */
    sv_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_whole_or_none),
    };
    return cmocka_run_group_tests(tests, set_up_allocator, remove_test_folder);
}
