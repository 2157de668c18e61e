/* Plans and runs that are kept for the next time, by what they are for: a network and the shapes of its inputs. What
 * packed weights they have in common is in memory once (graph/bound.h). One thread at a time. */
#ifndef SP_PIPELINE_PLANS_H
#define SP_PIPELINE_PLANS_H
#include "models/runner.h"

/* What a plan is for. Equal networks and shapes, equal plans: weights and settings belong to the cache. */
typedef struct {
    const char *network; /* "unet": a constant, and the name of its weight set */
    const char *shape;   /* "1x64x64 guided": less than SP_PLAN_SHAPE bytes */
    sp_status (*build)(const void *context, sp_builder **out);
    const void *context;
    const sp_weights *weights;
} sp_plan_use;
enum { SP_PLAN_SHAPE = 384 };

typedef struct sp_planned sp_planned;
typedef struct {
    sp_device *device;
    sp_dtype precision;
    int most;       /* plans of one network that are kept side by side, the last used: 1 or more */
    sp_planned *kept; /* the last used first */
} sp_plans;
void sp_plans_free(sp_plans *plans); /* all; it can be used again */

/* The memory that a run takes, from its plan, which is made unless it is there. */
sp_status sp_plans_memory(sp_plans *plans, const sp_plan_use *use, sp_plan_memory *out);
/* A run with its weights bound, made unless it is there: the cache's, until another one of the network is asked for. */
sp_status sp_plans_run(sp_plans *plans, const sp_plan_use *use, sp_run **out);
void sp_plans_forget(sp_plans *plans, const char *network); /* gives back the memory of all for it */
size_t sp_plans_bytes(const sp_plans *plans);               /* that the runs hold, packed weights included in each */

#endif
