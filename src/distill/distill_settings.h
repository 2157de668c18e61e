/* The flags of a distillation: which can be, and which determine its bits. */
#ifndef SP_DISTILL_DISTILL_SETTINGS_H
#define SP_DISTILL_DISTILL_SETTINGS_H
#include "base/json.h"
#include "diffusion/path.h"
#include "distill/distill.h"

/* SP_ARGUMENT, naming the flag, for options that cannot be together or with this schedule. */
sp_status sp_distill_check(const sp_distill_options *options, const sp_path *path);
/* An object of the flags that determine the run, for splam.json and for resuming: what an objective
 * does not look at is not in it. json_decref, also on failure. */
sp_status sp_distill_settings(const sp_distill_options *options, sp_prediction prediction,
                              json_t **out);

#endif
