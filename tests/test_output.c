/* Outputs: trials that leave nothing behind, and claims against other processes. */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "base/output.h"

static void test_output_trial(void **state)
{
    static const char *const names[] = {"a", "deep/b", NULL};
    char **left;
    size_t count;
    assert_ok(sp_check_output_file(in_folder(state, "new/deeper//x")));
    assert_ok(sp_check_output_folder(in_folder(state, "new/deeper/"), names));
    assert_ok(sp_check_output_folder(in_folder(state, "other"), NULL));
    assert_ok(sp_list_folder(*state, &left, &count));
    assert_int_equal(count, 0);
    sp_free(left);
    assert_ok(sp_make_folders(in_folder(state, "there/deep/b")));
    assert_ok(sp_check_output_file(in_folder(state, "there//new/x")));
    assert_true(sp_path_is_folder(in_folder(state, "there")));
    assert_status(sp_check_output_folder(in_folder(state, "there"), names), SP_IO);
    assert_message("there/deep/b: cannot be replaced by a file: it is a folder");
    assert_ok(sp_write_file(in_folder(state, "file"), "x", 1));
    assert_status(sp_check_output_file(in_folder(state, "file/x")), SP_IO);
    assert_message("file");
    assert_ok(sp_check_output_file(in_folder(state, "file"))); /* may be replaced */
    assert_status(sp_check_output_file(in_folder(state, "there/")), SP_IO);
    assert_message("a file's name is missing");
    assert_status(sp_check_output_file("-"), SP_ARGUMENT);
}

/* Another process that claims `path` and says so, waiting until it is killed; its child, a copy that
 * lets go, waits as long if `copies`. Returns when it is said. */
static pid_t claim_elsewhere(const char *path, bool file, bool copies, pid_t *copy)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* if the test ends before it ends this */
        sp_claim claim;
        if (file ? sp_claim_file(path, &claim) : sp_claim_folder(path, NULL, &claim)) _exit(1);
        while (copies && fork() > 0)
            pause();
        if (copies) {
            alarm(60);
            sp_claim_leave(&claim);
        }
        pid_t speaker = getpid();
        if (write(ready[1], &speaker, sizeof speaker) != sizeof speaker) _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    pid_t said;
    assert_int_equal(read(ready[0], &said, sizeof said), sizeof said);
    if (copy) *copy = said;
    close(ready[0]);
    return child;
}

static void end_process(pid_t process)
{
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}

static void test_claim_is_held(void **state)
{
    for (int file = 0; file < 2; file++) {
        const char *path = in_folder(state, file ? "new/x.png" : "new/folder");
        sp_claim claim;
        char said[64];
        pid_t other = claim_elsewhere(path, file, false, NULL);
        sp_status status = file ? sp_claim_file(path, &claim) : sp_claim_folder(path, NULL, &claim);
        assert_status(status, SP_IO);
        snprintf(said, sizeof said, "another run, process %ld, is writing there", (long)other);
        assert_message(path);
        assert_message(said);
        end_process(other); /* whose lock goes with it, whatever it has left */
        assert_ok(file ? sp_claim_file(path, &claim) : sp_claim_folder(path, NULL, &claim));
        sp_claim again;
        status = file ? sp_claim_file(path, &again) : sp_claim_folder(path, NULL, &again);
        assert_status(status, SP_ARGUMENT);
        assert_message("is asked for twice");
        sp_claim_end(&claim);
        sp_claim_end(&claim);
        assert_false(sp_path_exists(in_folder(state, "new/x.png.lock")));
    }
}

/* What was made for a claim goes with it, unless there is something in it. */
static void test_claim_leaves_nothing(void **state)
{
    static const char *const taken[] = {"in", NULL};
    sp_claim claim;
    char **left;
    size_t count;
    assert_ok(sp_claim_folder(in_folder(state, "a/b/"), NULL, &claim));
    assert_true(sp_path_is_folder(in_folder(state, "a/b")));
    sp_claim_end(&claim);
    assert_ok(sp_claim_file(in_folder(state, "c/d"), &claim));
    sp_claim_end(&claim);
    assert_ok(sp_list_folder(*state, &left, &count));
    assert_int_equal(count, 0);
    sp_free(left);
    assert_ok(sp_make_folders(in_folder(state, "kept/in")));
    assert_status(sp_claim_folder(in_folder(state, "kept"), taken, &claim), SP_IO);
    assert_false(claim.held);
    assert_ok(sp_claim_folder(in_folder(state, "e"), NULL, &claim));
    assert_ok(sp_write_file(in_folder(state, "e/result"), "x", 1));
    sp_claim_end(&claim);
    assert_true(sp_path_exists(in_folder(state, "e/result")));
    assert_true(sp_path_exists(in_folder(state, "kept/in")));
}

/* A copy that saves and outlives a killed run does not hold what the run held. */
static void test_claim_left_by_a_copy(void **state)
{
    pid_t copy;
    sp_claim claim;
    const char *path = in_folder(state, "run");
    pid_t other = claim_elsewhere(path, false, true, &copy);
    assert_true(copy > 0 && copy != other);
    assert_status(sp_claim_folder(path, NULL, &claim), SP_IO);
    end_process(other);
    assert_int_equal(kill(copy, 0), 0);
    assert_ok(sp_claim_folder(path, NULL, &claim));
    sp_claim_end(&claim);
    kill(copy, SIGKILL);
}

/* Claims a path that comes and goes, and looks whether it is alone there. */
static void contend(const char *path, const char *mark, bool file)
{
    for (int i = 0; i < 300; i++) {
        sp_claim claim;
        sp_status status = file ? sp_claim_file(path, &claim) : sp_claim_folder(path, NULL, &claim);
        if (status == SP_IO && strstr(sp_error_message(), "another run")) continue;
        if (status) {
            fprintf(stderr, "%s\n", sp_error_message());
            _exit(1);
        }
        int alone = open(mark, O_CREAT | O_EXCL, 0600);
        bool there = sp_path_is_folder(path) || file;
        if (alone < 0 || !there || close(alone) || unlink(mark)) {
            fprintf(stderr, "two hold one path, or it is gone\n");
            _exit(1);
        }
        sp_claim_end(&claim);
    }
    _exit(0);
}

static void test_claims_contended(void **state)
{
    enum { PROCESSES = 4 };
    for (int file = 0; file < 2; file++) {
        const char *path = in_folder(state, file ? "new/file" : "new/folder"),
                   *mark = in_folder(state, "mark");
        pid_t process[PROCESSES];
        for (int i = 0; i < PROCESSES; i++) {
            process[i] = fork();
            if (process[i] == 0) contend(path, mark, file);
        }
        for (int i = 0; i < PROCESSES; i++) {
            int code;
            assert_int_equal(waitpid(process[i], &code, 0), process[i]);
            assert_int_equal(code, 0);
        }
    }
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(test_output_trial),         with_folder(test_claim_is_held),
        with_folder(test_claim_leaves_nothing), with_folder(test_claim_left_by_a_copy),
        with_folder(test_claims_contended),
    };
    return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
