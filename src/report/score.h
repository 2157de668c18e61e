/* Scores of sets of pictures as users of pytorch-fid, clean-fid and torch-fidelity know them. */
#ifndef SP_REPORT_SCORE_H
#define SP_REPORT_SCORE_H
#include <splam/eval.h>
#include "base/progress.h"

/* splam_score of options that were taken. */
sp_status sp_score_sets(const splam_score_options *options, const sp_callbacks *callbacks, char **report);

#endif
