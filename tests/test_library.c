/* What the public headers declare for every call: version, texts for people, the progress line and the wish to stop,
 * numbers that are not given, defaults. */
#include "support.h"
#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <splam/splam.h>

static void the_version_is_that_of_the_headers(void **state)
{
    (void)state;
    char parts[64];
    snprintf(parts, sizeof parts, "%d.%d.%d", SPLAM_VERSION_MAJOR, SPLAM_VERSION_MINOR, SPLAM_VERSION_PATCH);
    assert_string_equal(splam_version(), SPLAM_VERSION);
    assert_string_equal(splam_version(), parts);
}

/* Built with MPI, the program has MPI's functions in it. */
static void mpi_is_named_where_it_is_linked(void **state)
{
    (void)state;
    const char *name = splam_mpi();
    assert_true((name != NULL) == (dlsym(RTLD_DEFAULT, "MPI_Init") != NULL));
    if (!name) return;
    char shown[256];
    assert_true(strpbrk(name, "0123456789") != NULL);
    assert_int_equal(splam_visible_text(name, shown, sizeof shown), strlen(name));
    assert_string_equal(shown, name); /* one line, as it is */
}

static void texts_are_made_visible(void **state)
{
    (void)state;
    char out[32];
    assert_int_equal(splam_visible_text("a\x1b[1mb\n\xc3\xa9\xff", out, sizeof out), 19);
    assert_string_equal(out, "a\\x1b[1mb\\x0a\xc3\xa9\\xff");
    assert_int_equal(splam_visible_text("ab\xc3\xa9", out, 4), 2); /* no half of a character */
    assert_string_equal(out, "ab");
    assert_int_equal(splam_visible_text("ab\n", out, 5), 2);
    assert_string_equal(out, "ab");
}

static void report_three(void *context)
{
    const splam_callbacks *callbacks = context;
    for (int64_t i = 0; i <= 3; i++)
        callbacks->report(callbacks->context, "counting\a", i, 3, "loss 0.5");
}

/* On a file a line for what lasts and for the end; a signal asks to stop, and a second one ends the program. */
static void a_terminal_reports_and_stops(void **state)
{
    splam_terminal terminal;
    splam_callbacks callbacks = {0};
    int saved = dup(STDERR_FILENO), file = open("/dev/null", O_WRONLY);
    dup2(file, STDERR_FILENO); /* no terminal, wherever the test runs */
    callbacks = splam_terminal_callbacks(&terminal);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    char *text = captured(state, report_three, &callbacks);
    assert_non_null(strstr(text, "counting\\x07 3/3"));
    assert_non_null(strstr(text, "loss 0.5"));
    assert_null(strstr(text, "1/3")); /* within five seconds */
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    sp_free(text);
    assert_false(callbacks.cancelled(callbacks.context));
    raise(SIGTERM);
    assert_true(callbacks.cancelled(callbacks.context));
    pid_t child = fork();
    if (child == 0) {
        raise(SIGINT);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void what_is_not_given_is_known(void **state)
{
    (void)state;
    const splam_generate_options o = splam_generate_defaults();
    assert_false(splam_is_given(o.guidance));
    assert_false(splam_is_given((double)o.steps));
    assert_true(splam_is_given(0) && splam_is_given(-1) && splam_is_given(NAN) && splam_is_given(-INFINITY));
}

static void a_session_has_defaults(void **state)
{
    (void)state;
    splam_session_options o = splam_session_defaults();
    assert_int_equal(o.size, sizeof o);
    assert_int_equal(o.sizes, 4);
    o.sizes = 65;
    assert_int_equal(splam_option_check("session", &o), SPLAM_ARGUMENT);
    assert_message("`sizes` is 65");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_that_of_the_headers),
        cmocka_unit_test(mpi_is_named_where_it_is_linked),
        cmocka_unit_test(texts_are_made_visible),
        cmocka_unit_test_setup_teardown(a_terminal_reports_and_stops, make_test_folder, remove_test_folder),
        cmocka_unit_test(what_is_not_given_is_known),
        cmocka_unit_test(a_session_has_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
