#include "splam/splam.h"

#include "base/status.h"

const char *splam_version(void)
{
    return SPLAM_VERSION;
}

const char *splam_error_message(void)
{
    return sp_error_message();
}
