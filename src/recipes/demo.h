/* The whole story in one call: two students of the small teacher, and what they are worth. */
#ifndef SP_RECIPES_DEMO_H
#define SP_RECIPES_DEMO_H
#include "base/progress.h"
#include <splam/eval.h>

/* As splam_demo, of options that are checked; *table is new. */
sp_status sp_demo(const splam_demo_options *options, const sp_callbacks *callbacks, char **table);

#endif
