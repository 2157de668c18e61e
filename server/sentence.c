/* Sentences of what went wrong. */
#include "sentence.h"
#include <stdarg.h>
#include <stdio.h>

splam_status sv_fail(char *error, size_t size, splam_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, size, format, arguments);
    va_end(arguments);
    return status;
}
