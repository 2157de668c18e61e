/* What a data set holds, its sheet, its cache of latents. */
#ifndef SP_REPORT_DATA_SET_H
#define SP_REPORT_DATA_SET_H
#include "base/progress.h"
#include <splam/data.h>

/* As splam_data, of options that are checked; *summary is new. */
sp_status sp_describe_data(const splam_data_options *options, const sp_callbacks *callbacks, char **summary);

#endif
