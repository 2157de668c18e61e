/* libsplam: version, errors, progress, threads. */
#ifndef SPLAM_BASE_H
#define SPLAM_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPLAM_API __attribute__((visibility("default")))
#else
#define SPLAM_API
#endif

/* The version of these headers; splam_version() is that of the library that runs. */
#define SPLAM_VERSION "0.1.0"
#define SPLAM_VERSION_MAJOR 0
#define SPLAM_VERSION_MINOR 1
#define SPLAM_VERSION_PATCH 0
SPLAM_API const char *splam_version(void); /* such as "0.1.0"; a constant */

/* The MPI library that it was built with, such as "Open MPI 4.1.4", for distilling in several
 * processes; NULL: none. A constant. */
SPLAM_API const char *splam_mpi(void);

/* The sentence about the last failure on this thread: the file, tensor or setting, what was found
 * and what was expected. Never NULL; valid until the next failure on this thread. It may go to a
 * terminal as it is, and so may all texts for people: see splam_visible_text. */
SPLAM_API const char *splam_error_message(void);

/* Copies a text that may come from anywhere to `out` (at most size - 1 bytes of whole characters and
 * a NUL), safe to show on a terminal: control characters, newlines too, and bytes that are no UTF-8
 * become "\x1b", characters that are invisible or change the direction of reading "\u202e". Returns
 * the length. */
SPLAM_API size_t splam_visible_text(const char *text, char *out, size_t size);

/* Files are mapped. One that becomes shorter while it is used (somebody writes it anew) is SPLAM_IO, not the
 * process's end: mapping one sets a handler of SIGBUS (with SA_ONSTACK) if it is not set, which calls what was set
 * before for every fault that is not in the library's mappings. A program that sets its own later has to do
 * likewise: keep what sigaction gave it, and call that for faults it does not know. */

/* What every fallible call returns: X(NAME, text), the text for people, see splam_status_text. */
#define SPLAM_STATUS_LIST(X)                                                                                     \
    X(OK, "ok")                                                                                                  \
    X(ARGUMENT, "wrong argument")     /* the request makes no sense */                                           \
    X(IO, "input/output error")       /* open, read, write or rename failed */                                   \
    X(FORMAT, "malformed file")       /* a file's bytes do not follow its format */                              \
    X(SHAPE, "wrong shape")           /* shapes of tensors disagree */                                           \
    X(UNSUPPORTED, "not supported")   /* well-formed, but this library does not do it */                         \
    X(MEMORY, "out of memory")                                                                                   \
    X(NUMERIC, "not a finite number") /* NaN or infinity where none may be */                                    \
    X(CANCELLED, "interrupted")       /* a callback asked to stop; what can be saved is saved */                 \
    X(INTERNAL, "internal error")     /* a bug in the library */
#define SPLAM_STATUS_CODE(name, text) SPLAM_##name,
typedef enum { SPLAM_STATUS_LIST(SPLAM_STATUS_CODE) SPLAM_STATUS_COUNT } splam_status;
#undef SPLAM_STATUS_CODE
/* The text above, or "unknown status"; a constant. */
SPLAM_API const char *splam_status_text(splam_status status);

/* Given to long calls; any member, and a pointer to the whole, may be NULL. */
typedef struct {
    void *context;
    /* After each unit of work. detail: short text such as "loss 0.0123", may be NULL. */
    void (*report)(void *context, const char *task, int64_t done, int64_t total,
                   const char *detail);
    /* true: stop as soon as nothing is lost. Asked often, between the operators of a network and the pieces of a
     * file, by the thread that called. */
    bool (*cancelled)(void *context);
} splam_callbacks;

/* A progress line on stderr (a bar on a terminal, plain lines elsewhere), and Ctrl-C and SIGTERM as
 * the way to stop: the first asks, a second one kills. The state is the caller's and outlives the
 * callbacks; the handling of signals is the process's. */
typedef struct {
    uint64_t state[32];
} splam_terminal;
SPLAM_API splam_callbacks splam_terminal_callbacks(splam_terminal *terminal);

/* Threads that the library computes with; 0: one per physical core available to the process, as at
 * start. Process-wide. */
SPLAM_API void splam_set_threads(int count);

/* In what activations are stored and products are made. Sums, norms and softmax are fp32 in both. */
typedef enum {
    SPLAM_PRECISION_DEFAULT, /* bf16 where the processor multiplies it natively, else f32 */
    SPLAM_F32,
    SPLAM_BF16
} splam_precision;

/* What a call is to write is claimed before the work begins: missing folders are made, and SPLAM_IO
 * says what cannot be written and why, or that another process is writing there (flock; of a file
 * PATH.lock while the call lasts). Files are written beside and renamed. */

/* Releases memory that the library handed out; NULL is legal. */
SPLAM_API void splam_free(void *pointer);

#ifdef __cplusplus
}
#endif
#endif
