/* splam eval by several processes under mpirun, and by one that is killed: the same bytes as of one process that is
 * left alone. Each test starts the program itself. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include "distill_support.h"
#include "eval_support.h"
#include "train/distributed.h"

static char *command(void *const *state, const eval_places *p, int ranks, const char *output)
{
    char launcher[96] = "";
    if (ranks > 1)
        snprintf(launcher, sizeof launcher, "mpirun --oversubscribe --bind-to none -n %d ", ranks);
    return sp_format("exec %s%s eval -m %s --data %s --output %s/%s --metrics frechet,is,fid --inception %s "
                     "--steps 1,2 --count %d --resolution %d --sampler euler-a --guidance-scale-w 1 --precision f32 "
                     "-t 1 >%s/log 2>&1",
                     launcher, splam_program(), p->model, p->data, (const char *)*state, output, p->inception, COUNT,
                     SIDE, (const char *)*state);
}

static void print_log(void *const *state)
{
    char *text;
    if (sp_read_file(in_folder(state, "log"), &text, NULL)) return;
    print_message("%s", text);
    sp_free(text);
}

static void must_run(void *const *state, const eval_places *p, int ranks, const char *output)
{
    char *text = command(state, p, ranks, output);
    int code = system(text);
    sp_free(text);
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) return;
    print_log(state);
    fail_msg("%d ranks ended with %d", ranks, code);
}

static void assert_same_reports(void *const *state, const char *a, const char *b)
{
    char path[2][700];
    snprintf(path[0], sizeof path[0], "%s/report.json", in_folder(state, a));
    snprintf(path[1], sizeof path[1], "%s/report.json", in_folder(state, b));
    assert_same_file(path[0], path[1]);
}

static void assert_same_picture(void *const *state, const char *a, const char *b, int index)
{
    char *x = sp_format("%s/%s/pictures/model-euler-a-2/%06d.png", (const char *)*state, a, index);
    char *y = sp_format("%s/%s/pictures/model-euler-a-2/%06d.png", (const char *)*state, b, index);
    assert_same_file(x, y);
    sp_free(x);
    sp_free(y);
}

/* Three batches a row: of two ranks one draws two of them. */
static void test_ranks_equal_one_process(void **state)
{
    eval_places p = make_places(state);
    must_run(state, &p, 1, "alone");
    if (!sp_ranks_library()) skip();
    must_run(state, &p, 2, "two");
    assert_same_reports(state, "alone", "two");
    for (int i = 0; i < COUNT; i++)
        assert_same_picture(state, "alone", "two", i);
}

static bool has_picture(void *const *state, const char *output)
{
    char *path = sp_format("%s/pictures/model-euler-a-1/000000.png", in_folder(state, output));
    bool there = sp_path_exists(path);
    sp_free(path);
    return there;
}

/* Killed when the first picture is there, then gone on with by other ranks. */
static void test_killed_equals_undisturbed(void **state)
{
    eval_places p = make_places(state);
    char *text = command(state, &p, 1, "killed");
    pid_t child = fork();
    if (child == 0) {
        setenv("GOMP_SPINCOUNT", "1000", 1); /* so that the program does not start itself again */
        execl("/bin/sh", "sh", "-c", text, (char *)NULL);
        _exit(127);
    }
    int code;
    const struct timespec moment = {.tv_nsec = 5000000};
    while (!has_picture(state, "killed") && waitpid(child, &code, WNOHANG) == 0)
        nanosleep(&moment, NULL);
    kill(child, SIGKILL);
    waitpid(child, &code, 0);
    sp_free(text);
    must_run(state, &p, sp_ranks_library() ? 2 : 1, "killed");
    assert_same_reports(state, "alone", "killed");
}

int main(void)
{
    allow_mpirun();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_equal_one_process),
        cmocka_unit_test(test_killed_equals_undisturbed),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
