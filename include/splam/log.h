/* Messages. */
#ifndef SPLAM_LOG_H
#define SPLAM_LOG_H
#include <splam/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the library says beside its results: one line a message, without a newline, safe to show on a terminal. */
typedef enum { SPLAM_LOG_WARN = 1, SPLAM_LOG_INFO, SPLAM_LOG_DEBUG } splam_log_level;
typedef void splam_log_fn(void *context, splam_log_level level, const char *text);
/* Every message goes to `log` from here on, and the library writes nothing to stderr by itself; NULL: to stderr, as at
 * first. Process-wide. It is called on whatever thread has something to say, on several at once, and must not call the
 * library. Progress goes to the callbacks of a call alone. */
SPLAM_API void splam_set_log(splam_log_fn *log, void *context);

#ifdef __cplusplus
}
#endif
#endif
