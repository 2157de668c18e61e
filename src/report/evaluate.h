/* Models, one after the other, on the same prompts and noise. */
#ifndef SP_REPORT_EVALUATE_H
#define SP_REPORT_EVALUATE_H
#include "base/progress.h"
#include <splam/eval.h>

/* As splam_eval, of options that are checked; *table is new. */
sp_status sp_evaluate(const splam_eval_options *options, const sp_callbacks *callbacks, char **table);

#endif
