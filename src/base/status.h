/* Errors: every fallible function returns sp_status; the sentence for people is set, once, where
 * the fault is found, in a thread-local message that names the file, tensor or option, what was found
 * and what was expected. */
#ifndef SP_BASE_STATUS_H
#define SP_BASE_STATUS_H

#include <splam/base.h>

/* The public codes; what each means stands there. */
typedef splam_status sp_status;
#define SP_OK SPLAM_OK
#define SP_ARGUMENT SPLAM_ARGUMENT
#define SP_IO SPLAM_IO
#define SP_FORMAT SPLAM_FORMAT
#define SP_SHAPE SPLAM_SHAPE
#define SP_UNSUPPORTED SPLAM_UNSUPPORTED
#define SP_MEMORY SPLAM_MEMORY
#define SP_NUMERIC SPLAM_NUMERIC
#define SP_CANCELLED SPLAM_CANCELLED
#define SP_INTERNAL SPLAM_INTERNAL

/* Sets this thread's message (printf format, one sentence, no newline) and returns `status`. What may do harm
 * on a terminal is replaced, see base/visible.h: texts from files go in as they are. */
sp_status sp_fail(sp_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the current message, for the caller who knows the file or component;
 * returns `status`. */
sp_status sp_fail_within(sp_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The message of this thread's last failure; never NULL; valid until the next failure on this
 * thread. */
const char *sp_error_message(void);
const char *sp_status_text(sp_status status);

/* Returns from the enclosing function if `call` fails. Use only where nothing has to be released. */
#define SP_TRY(call)                                                                               \
    do {                                                                                           \
        sp_status sp_try_status = (call);                                                          \
        if (sp_try_status != SP_OK) return sp_try_status;                                          \
    } while (0)

#endif
