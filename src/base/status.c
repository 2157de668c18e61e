/* The message of the last failure. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/visible.h"

static _Thread_local char message[2048];

sp_status sp_fail(sp_status status, const char *format, ...)
{
    /* An argument may be the current message itself, so the new one is made beside it. */
    char text[sizeof message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sp_visible(text, strlen(text), message, sizeof message);
    return status;
}

/* Copies as much of `words` as fits, with a NUL; returns its length. */
static size_t append(char *to, size_t size, const char *words)
{
    size_t count = strnlen(words, size - 1);
    memcpy(to, words, count);
    to[count] = '\0';
    return count;
}

sp_status sp_fail_within(sp_status status, const char *format, ...)
{
    char text[sizeof message];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char whole[sizeof message];
    size_t used = length < 0 ? 0 : sp_visible(text, strlen(text), whole, sizeof whole);
    used += append(whole + used, sizeof whole - used, ": ");
    append(whole + used, sizeof whole - used, message);
    memcpy(message, whole, sizeof message);
    return status;
}

const char *sp_error_message(void)
{
    return message;
}

const char *sp_status_text(sp_status status)
{
    static const char *const text[SPLAM_STATUS_COUNT] = {
#define X(name, words) words,
        SPLAM_STATUS_LIST(X)
#undef X
    };
    return (unsigned)status < SPLAM_STATUS_COUNT ? text[status] : "unknown status";
}
