/* What the library says of an input is nobody's to read. */
#include "base/log.h"
#include "fuzz/fuzz.h"

static void say_nothing(void *context, splam_log_level level, const char *text)
{
    (void)context, (void)level, (void)text;
}

void fuzz_quiet(void)
{
    sp_log_set_sink(say_nothing, NULL);
}
