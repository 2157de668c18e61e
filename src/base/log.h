/* What the program says on stderr: one line a message. What may do harm on a terminal is replaced, see
 * base/visible.h. */
#ifndef SP_BASE_LOG_H
#define SP_BASE_LOG_H
typedef enum { SP_LOG_QUIET, SP_LOG_WARN, SP_LOG_INFO, SP_LOG_DEBUG } sp_log_level;
void sp_log_set_level(sp_log_level level); /* process-wide; INFO at start */
void sp_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sp_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sp_log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sp_log_lines(const char *lines); /* a table: each line by itself, at INFO */
#endif
