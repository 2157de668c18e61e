/* What is in a folder or file, for people. */
#ifndef SP_REPORT_INSPECT_H
#define SP_REPORT_INSPECT_H
#include "base/status.h"
#include <splam/model.h>

/* As splam_inspect, of options that are checked; *text is new. */
sp_status sp_inspect(const splam_inspect_options *options, char **text);

#endif
