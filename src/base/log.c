/* Messages: to whoever asked for them, else on stderr. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/visible.h"

enum { LONGEST_LINE = 4096 };

static atomic_int current_level = SP_LOG_INFO;

void sp_log_set_level(sp_log_level level)
{
    atomic_store(&current_level, (int)level);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    splam_log_fn *log;
    void *context;
} current_sink;

void sp_log_set_sink(splam_log_fn *log, void *context)
{
    pthread_mutex_lock(&lock);
    current_sink.log = log;
    current_sink.context = context;
    pthread_mutex_unlock(&lock);
}

static _Thread_local struct {
    void (*warn)(void *context, const char *text);
    void *context;
} taker;

void sp_log_take_warnings(void (*warn)(void *context, const char *text), void *context)
{
    taker.warn = warn;
    taker.context = context;
}

static void say(sp_log_level level, const char *prefix, const char *format, va_list arguments)
{
    if (atomic_load(&current_level) < (int)level) return;
    char raw[LONGEST_LINE], text[LONGEST_LINE];
    vsnprintf(raw, sizeof raw, format, arguments);
    sp_visible(raw, strlen(raw), text, sizeof text);
    if (level == SP_LOG_WARN && taker.warn) {
        taker.warn(taker.context, text);
        return;
    }
    pthread_mutex_lock(&lock);
    splam_log_fn *log = current_sink.log;
    void *context = current_sink.context;
    pthread_mutex_unlock(&lock);
    if (log)
        log(context, (splam_log_level)level, text);
    else
        fprintf(stderr, "%s%s\n", prefix, text); /* one call, so that threads do not mix their lines */
}

void sp_log_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(SP_LOG_WARN, "warning: ", format, arguments);
    va_end(arguments);
}

void sp_log_info(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(SP_LOG_INFO, "", format, arguments);
    va_end(arguments);
}

void sp_log_debug(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(SP_LOG_DEBUG, "debug: ", format, arguments);
    va_end(arguments);
}

void sp_log_lines(const char *lines)
{
    for (const char *line = lines, *next; *line; line = *next ? next + 1 : next) {
        next = strchrnul(line, '\n');
        sp_log_info("%.*s", next - line < LONGEST_LINE ? (int)(next - line) : LONGEST_LINE, line);
    }
}
