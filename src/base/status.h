/* Errors: every fallible function returns sp_status; the sentence for people is set, once, where
 * the fault is found, in a thread-local message that names the file, tensor or flag, what was found
 * and what was expected. */
#ifndef SP_BASE_STATUS_H
#define SP_BASE_STATUS_H

#define SP_STATUS_LIST(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(ARGUMENT, "wrong argument")   /* the caller's or user's request makes no sense */            \
    X(IO, "input/output error")     /* open, read, write, rename failed */                         \
    X(FORMAT, "malformed file")     /* bytes do not follow the format */                           \
    X(SHAPE, "wrong shape")         /* tensor or graph shapes disagree */                          \
    X(UNSUPPORTED, "not supported") /* well-formed, but this program does not do it */             \
    X(MEMORY, "out of memory")                                                                     \
    X(NUMERIC, "not a finite number") /* NaN or infinity where none may be */                      \
    X(CANCELLED, "interrupted")       /* a callback or signal asked to stop */                     \
    X(INTERNAL, "internal error")     /* a bug in splam */

typedef enum {
#define X(name, text) SP_##name,
    SP_STATUS_LIST(X)
#undef X
        SP_STATUS_COUNT
} sp_status;

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
