/* splam_inspect: what it shows of a file, a model, a student and a checkpoint, safe for a terminal whatever they
 * hold, and nothing lost or left over when memory ends. */
#include "generate_support.h"

#include "base/json.h"

static splam_status inspect_at(const char *path, char **text)
{
    splam_inspect_options o = splam_inspect_defaults();
    o.path = path;
    return splam_inspect(&o, text);
}

static char *inspect(const char *path)
{
    char *text;
    if (inspect_at(path, &text) != SPLAM_OK) fail_msg("%s", splam_error_message());
    return text;
}

static void assert_shows(const char *path, const char *words)
{
    char *text = inspect(path);
    if (!strstr(text, words)) fail_msg("\"%s\" is not in:\n%s", words, text);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 32 && *c != '\n') fail_msg("a control character in:\n%s", text);
    splam_free(text);
}

/* ---- what files hold is shown, and not obeyed ---- */

static void test_words_of_files(void **state)
{
    const char *json = keep(state, "student/scheduler/scheduler_config.json");
    write_text(json, "{\"_class_name\": \"LCM\\u001b[2J\\nScheduler\\u009b\\u202e\", "
                     "\"original_inference_steps\": 50}");
    assert_shows(keep(state, "student"), "LCM\\x1b[2J\\x0aScheduler\\u009b\\u202e, 1000 timesteps");
    write_text(json, "{\"_class_name\": \"\\u001b[2J\", \"beta_schedule\": \"\\u001b]0;x\\u0007\"}");
    assert_shows(keep(state, "student"), "\\x1b]0;x\\x07");
    write_text(keep(state, "student/splam.json"),
               "{\"objective\": \"splam\", \"gamma-conditioning\": \"time\", \"mine\": [1]}");
    assert_shows(keep(state, "student"), "objective splam, gamma told by time; 4 steps of lcm");
    write_text(keep(state, "student/splam.json"), "{\"objective\": \"\\rsplam\"}");
    char *text;
    assert_status(inspect_at(keep(state, "student"), &text), SP_FORMAT);
    assert_message("splam.json: \"objective\" is \"\\rsplam\", one of splam|lcm|");
    write_text(keep(state, "student/splam.json"), "{\"objective\": \"splam\"}");
    assert_ok(sp_make_folders(keep(state, "checkpoint")));
    write_text(keep(state, "checkpoint/state.json"),
               "{\"step\": 3, \"settings\": {\"se\\u001bed\": 1, \"data\": \"a\\u009b\"}}");
    assert_shows(keep(state, "checkpoint"), "checkpoint after 3 steps\n  se\\x1bed 1\n  data \"a\\u009b\"\n");
}

/* A message may quote what a file holds, or name a file. */
static void test_messages(void **state)
{
    char *text;
    assert_int_equal(inspect_at(keep(state, "a\x1b[31m\nb.ckpt"), &text), SPLAM_IO);
    assert_non_null(strstr(splam_error_message(), "a\\x1b[31m\\x0ab.ckpt: "));
    write_text(keep(state, "a\x1b[31m\nb.ckpt"), "nothing at all");
    assert_shows(keep(state, "a\x1b[31m\nb.ckpt"), "a\\x1b[31m\\x0ab.ckpt");
}

/* ---- memory ---- */

static sp_status attempt(void *path)
{
    char *text;
    sp_status status = inspect_at(path, &text);
    if (!status) splam_free(text);
    return status;
}

static void test_small_things_starve(void **state)
{
    char path[512];
    assert_ok(sp_make_folders(keep(state, "checkpoint")));
    write_text(keep(state, "checkpoint/state.json"),
               "{\"step\": 3, \"settings\": {\"seed\": 1, \"data\": \"emoji:\", \"list\": [1, {}]}}");
    snprintf(path, sizeof path, "%s", keep(state, "checkpoint"));
    assert_in_range(fail_every_allocation(attempt, path), 20, 1000);
    snprintf(path, sizeof path, "%s", golden("checkpoints/tensors.safetensors"));
    assert_in_range(fail_every_allocation(attempt, path), 20, 1000);
}

static sp_status starved(char *path, long count)
{
    long live = sp_alloc_live();
    sp_alloc_fail_after(count);
    sp_status status = attempt(path);
    sp_alloc_fail_after(-1);
    if (sp_alloc_live() != live)
        fail_msg("after %ld allocations: %ld blocks leaked", count, sp_alloc_live() - live);
    return status;
}

/* A model's plans take some ten thousand allocations: a sample of them, spread evenly. */
static void test_model_starves(void **state)
{
    enum { TRIALS = 60 };
    char path[512];
    snprintf(path, sizeof path, "%s", keep(state, "student"));
    long works = 1000;
    while (starved(path, works) == SP_MEMORY)
        works *= 2;
    for (long i = 0, most = works / 2; i < TRIALS; i++) /* half of it was too few */
        assert_status(starved(path, i * most / TRIALS), SP_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_words_of_files, set_up, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_messages, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_small_things_starve, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_model_starves, set_up, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
