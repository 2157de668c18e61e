/* What the library says beside its results: one line a message, on stderr unless somebody takes them. What may do harm
 * on a terminal is replaced, see base/visible.h. */
#ifndef SP_BASE_LOG_H
#define SP_BASE_LOG_H
#include <splam/log.h>

typedef enum {
    SP_LOG_QUIET,
    SP_LOG_WARN = SPLAM_LOG_WARN,
    SP_LOG_INFO = SPLAM_LOG_INFO,
    SP_LOG_DEBUG = SPLAM_LOG_DEBUG
} sp_log_level;
void sp_log_set_level(sp_log_level level); /* process-wide; INFO at start */
/* splam_set_log: gets the messages of this level or below instead of stderr. */
void sp_log_set_sink(splam_log_fn *log, void *context);
void sp_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sp_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sp_log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* This thread's warnings go to `warn` alone from here on; NULL: to the sink again. */
void sp_log_take_warnings(void (*warn)(void *context, const char *text), void *context);
void sp_log_lines(const char *lines); /* a table: each line by itself, at INFO */
#endif
