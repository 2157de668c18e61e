/* Where a run's time goes, by operator and kernel. The environment variable SPLAM_PROFILE asks for
 * it: "shapes" for a row per shape, anything else for a row per kernel and dtype. */
#ifndef SP_GRAPH_PROFILE_H
#define SP_GRAPH_PROFILE_H
#include "graph/plan.h"

typedef struct sp_profile sp_profile;

/* NULL where the environment does not ask for one, or there is no memory for it. The plan outlives
 * it. */
sp_profile *sp_profile_create(const sp_plan *plan);
/* One execution of the plan's step. */
void sp_profile_add(sp_profile *profile, int step, double seconds);
/* The table on stderr, stage by stage (sp_stage_enter), slowest rows first, with the share of what
 * the device can do at best, which is measured there and then. Nothing if nothing ran. */
void sp_profile_print(const sp_profile *profile);
void sp_profile_forget(sp_profile *profile);  /* all that was added so far */
void sp_profile_destroy(sp_profile *profile); /* NULL is legal */

#endif
