/* What went wrong, for whoever called. */
#ifndef SERVER_SENTENCE_H
#define SERVER_SENTENCE_H
#include <splam/splam.h>
#include <stddef.h>

/* Writes one sentence to `error`, cut to `size` bytes with its end, and returns `status`. */
splam_status sv_fail(char *error, size_t size, splam_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
