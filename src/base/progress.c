/* Callbacks, the bar on stderr, time, and the wish to stop. */
#include "base/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/visible.h"

static volatile sig_atomic_t interrupted;

void sp_report(const sp_callbacks *callbacks, const char *task, int64_t done, int64_t total,
               const char *detail)
{
    if (callbacks && callbacks->report)
        callbacks->report(callbacks->context, task, done, total, detail);
}

sp_status sp_check_cancelled(const sp_callbacks *callbacks)
{
    if (callbacks && callbacks->cancelled && callbacks->cancelled(callbacks->context))
        return sp_fail(SP_CANCELLED, "interrupted");
    return SP_OK;
}

#define BAR_WIDTH 24
#define TERMINAL_INTERVAL 0.1 /* seconds between redraws */
#define LINE_INTERVAL 5.0     /* seconds between plain lines */

void sp_progress_init(sp_progress *progress)
{
    *progress = (sp_progress){.terminal = isatty(STDERR_FILENO) == 1};
}

void sp_duration_text(double seconds, char *out, size_t size)
{
    long whole = seconds < 0 ? 0 : seconds > 1e8 ? 100000000 : (long)(seconds + 0.5);
    if (whole < 60)
        snprintf(out, size, "%lds", whole);
    else if (whole < 3600)
        snprintf(out, size, "%ldm%02lds", whole / 60, whole % 60);
    else
        snprintf(out, size, "%ldh%02ldm", whole / 3600, whole % 3600 / 60);
}

/* "1.25/s" or "8.00 s each", whichever is above one. */
static void rate_text(double rate, char *out, size_t size)
{
    if (rate <= 0)
        out[0] = '\0';
    else if (rate >= 1)
        snprintf(out, size, "%.*f/s", rate >= 100 ? 0 : 2, rate);
    else
        snprintf(out, size, "%.2f s each", 1 / rate);
}

static void bar_text(int64_t done, int64_t total, char out[BAR_WIDTH + 1])
{
    int filled = total > 0 ? (int)((double)BAR_WIDTH * (double)done / (double)total) : 0;
    if (filled > BAR_WIDTH) filled = BAR_WIDTH;
    if (filled < 0) filled = 0;
    memset(out, '-', BAR_WIDTH);
    memset(out, '#', (size_t)filled);
    out[BAR_WIDTH] = '\0';
}

void sp_progress_report(void *context, const char *task, int64_t done, int64_t total,
                        const char *detail)
{
    sp_progress *p = context;
    double now = sp_now();
    if (p->started == 0 || strncmp(p->task, task, sizeof p->task - 1) != 0) {
        snprintf(p->task, sizeof p->task, "%s", task); /* as it is, for the comparison above */
        p->started = now;
        p->first = done;
        p->last_shown = p->terminal ? 0 : now;
    }
    bool last = done >= total;
    if (!last && now - p->last_shown < (p->terminal ? TERMINAL_INTERVAL : LINE_INTERVAL)) return;
    p->last_shown = now;

    double elapsed = now - p->started;
    double rate = elapsed > 0 ? (double)(done - p->first) / elapsed : 0;
    char bar[BAR_WIDTH + 1] = "", speed[48] = "", time_text[32] = "";
    rate_text(rate, speed, sizeof speed);
    if (last)
        sp_duration_text(elapsed, time_text, sizeof time_text);
    else if (rate > 0)
        sp_duration_text((double)(total - done) / rate, time_text, sizeof time_text);
    if (p->terminal) bar_text(done, total, bar);
    char raw[512], line[2 * sizeof raw];
    snprintf(raw, sizeof raw, "%s%s%s%s %lld/%lld%s%s%s%s%s%s%s", p->task,
             p->terminal ? " [" : "", bar, p->terminal ? "]" : "", (long long)done,
             (long long)total, speed[0] ? "  " : "", speed, detail && *detail ? "  " : "",
             detail ? detail : "", time_text[0] ? "  " : "", time_text,
             time_text[0] && !last ? " left" : "");
    sp_visible(raw, strlen(raw), line, sizeof line);
    if (p->terminal)
        fprintf(stderr, "\r%s\033[K%s", line, last ? "\n" : "");
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
    if (last) p->started = 0;
}

double sp_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int64_t sp_peak_rss(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return (int64_t)usage.ru_maxrss * 1024;
}

static void on_signal(int number)
{
    if (interrupted) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    interrupted = 1;
}

void sp_install_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool sp_interrupted(void *unused)
{
    (void)unused;
    return interrupted != 0;
}
