/* splam: the command line. Finds the verb, runs it, and makes sure that what it printed arrived. */
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "verbs.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} verbs[] = {
#define X(name, summary) {#name, summary, cli_##name},
    CLI_VERB_LIST(X)
#undef X
};
enum { VERB_COUNT = sizeof verbs / sizeof *verbs };

int cli_fail(int code, const char *format, ...)
{
    char raw[4096], text[4096]; /* a word may be a file's name, which a shell put in */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    splam_visible_text(raw, text, sizeof text);
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr); /* an unfinished progress bar */
    fprintf(stderr, "splam: %s\n", text);
    return code;
}

int cli_finish(splam_status status)
{
    if (status == SPLAM_OK) return CLI_OK;
    int code = status == SPLAM_CANCELLED  ? CLI_INTERRUPTED
               : status == SPLAM_ARGUMENT ? CLI_USAGE
                                          : CLI_FAILURE;
    char message[4096];
    options_translate(splam_error_message(), message, sizeof message);
    return cli_fail(code, "%s", message);
}

int cli_print(splam_status status, char *text)
{
    if (status == SPLAM_OK) fputs(text, stdout);
    splam_free(text);
    return cli_finish(status);
}

int cli_check_stdout(void)
{
    /* A write of no bytes finds what is closed, read-only or always full, and changes nothing. */
    if (write(STDOUT_FILENO, "", 0) == 0) return CLI_OK;
    return cli_fail(CLI_FAILURE, "standard output cannot be written: %s", strerror(errno));
}

static const char environment[] =
    "SPLAM_PROFILE=1 in the environment prints where the time went, by operator and kernel, after\n"
    "each part of a model; SPLAM_PROFILE=shapes by shape too. SPLAM_MAX_ISA=baseline, avx2,\n"
    "avx512 or avx512_bf16 (without AMX) keeps to smaller processors' instructions.\n"
    "SPLAM_CONVOLUTIONS=direct leaves Winograd's transforms out: slower, with rounding errors of 1e-7\n"
    "for up to 5e-6.";

static void print_help(void)
{
    printf("splam %s: few-step generators from Stable-Diffusion-family models\n\n"
           "Usage: splam VERB [options]\n\nVerbs:\n",
           splam_version());
    for (int i = 0; i < VERB_COUNT; i++)
        printf("  %-10s %s\n", verbs[i].name, verbs[i].summary);
    printf(
        "\n  splam VERB --help   everything about a verb, with examples\n"
        "  splam VERB --help=man, --help=flags   the same as a page for man(1), and as a line a flag\n"
        "  splam --version     the version\n\n"
        "%s\n\n"
        "Exit codes: 0; 1 failure; 2 wrong usage; 130 interrupted, after saving.\n",
        environment);
}

static void print_manual(void)
{
    printf(".TH SPLAM 1 \"\" \"splam %s\"\n"
           ".SH NAME\nsplam \\- few\\-step generators from Stable\\-Diffusion\\-family models\n"
           ".SH SYNOPSIS\n.B splam\n.I VERB\n[options]\n.SH VERBS\n",
           splam_version());
    for (int i = 0; i < VERB_COUNT; i++)
        printf(".TP\n.BR splam\\-%s (1)\n%s\n", verbs[i].name, verbs[i].summary);
    printf(".SH ENVIRONMENT\n%s\n.SH EXIT STATUS\n0; 1 failure; 2 wrong usage; 130 interrupted, after saving.\n",
           environment);
}

static void list_verbs(void)
{
    for (int i = 0; i < VERB_COUNT; i++)
        printf("%s\t%s\n", verbs[i].name, verbs[i].summary);
}

static int run_verb(int argc, char **argv)
{
    const char *names[VERB_COUNT];
    for (int i = 0; i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) return verbs[i].run(argc - 1, argv + 1);
        names[i] = verbs[i].name;
    }
    const char *near = options_nearest(argv[1], names, VERB_COUNT);
    if (near)
        return cli_fail(CLI_USAGE, "there is no verb \"%s\"; did you mean %s?", argv[1], near);
    return cli_fail(CLI_USAGE, "there is no verb \"%s\"; see splam --help", argv[1]);
}

/* Where OpenMP was asked to bind threads, it has bound this one to one place before main; a program that is started
 * from here would see that place alone, and have one thread. */
static void unbind(void)
{
    cpu_set_t all;
    int ids[CPU_SETSIZE];
    CPU_ZERO(&all);
    for (int place = 0; place < omp_get_num_places(); place++) {
        int count = omp_get_place_num_procs(place);
        if (count > CPU_SETSIZE) return;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE) CPU_SET(ids[i], &all);
    }
    if (CPU_COUNT(&all)) sched_setaffinity(0, sizeof all, &all);
}

/* OpenMP's threads spin long while they wait for each other. Where another program runs on their
 * cores, what they burn so is taken from the thread that they wait for, and everything takes ten
 * times as long. OpenMP reads how long to spin before main begins, so the program starts itself
 * once more. Whoever has set it is left alone; if it cannot be done, nothing is wrong but slow. */
static void wait_with_little_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    unbind();
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}

/* A file that is opened later must not get the number of a standard stream that is closed: what is
 * printed would go into it. Output to what stands in for it fails, as if it were closed. */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) return;
}

int main(int argc, char **argv)
{
    int code = CLI_OK;
    hold_standard_streams();
    wait_with_little_spinning(argv);
    signal(SIGXFSZ, SIG_IGN); /* a file too large is an error to report, not to die of */
    if (argc < 2)
        return cli_fail(CLI_USAGE, "a verb is missing; see splam --help");
    else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        print_help();
    else if (strcmp(argv[1], "--help=man") == 0)
        print_manual();
    else if (strcmp(argv[1], "--help=flags") == 0)
        list_verbs();
    else if (strcmp(argv[1], "--version") == 0)
        printf("splam %s\n%s%s\n", splam_version(), splam_mpi() ? "with " : "without MPI",
               splam_mpi() ? splam_mpi() : "");
    else
        code = run_verb(argc, argv);
    errno = 0; /* stays so where an earlier write failed */
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK)
        code = cli_fail(CLI_FAILURE, "standard output could not be written%s%s", errno ? ": " : "",
                        errno ? strerror(errno) : "");
    return code;
}
