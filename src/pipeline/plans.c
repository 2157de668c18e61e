/* A list of plans in the order of their last use. */
#include "pipeline/plans.h"
#include <stdio.h>
#include <string.h>
#include "base/memory.h"

struct sp_planned {
    sp_planned *next;
    const char *network;
    char shape[SP_PLAN_SHAPE];
    sp_runner runner; /* its run NULL: planned alone */
};

static void free_one(sp_planned *planned)
{
    sp_runner_free(&planned->runner);
    sp_free(planned);
}

void sp_plans_free(sp_plans *plans)
{
    while (plans->kept) {
        sp_planned *first = plans->kept;
        plans->kept = first->next;
        free_one(first);
    }
}

/* Takes out what is for the network, but for the `spared` last used. */
static void drop(sp_plans *plans, const char *network, int spared)
{
    for (sp_planned **at = &plans->kept; *at;) {
        sp_planned *planned = *at;
        if (strcmp(planned->network, network) != 0 || spared-- > 0) {
            at = &planned->next;
            continue;
        }
        *at = planned->next;
        free_one(planned);
    }
}

void sp_plans_forget(sp_plans *plans, const char *network)
{
    drop(plans, network, 0);
}

/* NULL if it is not there; else it becomes the first. */
static sp_planned *find(sp_plans *plans, const sp_plan_use *use)
{
    for (sp_planned **at = &plans->kept; *at; at = &(*at)->next) {
        sp_planned *planned = *at;
        if (strcmp(planned->network, use->network) != 0 || strcmp(planned->shape, use->shape) != 0) continue;
        *at = planned->next;
        planned->next = plans->kept;
        plans->kept = planned;
        return planned;
    }
    return NULL;
}

/* The memory of others is given back before any is taken. */
static sp_status find_or_plan(sp_plans *plans, const sp_plan_use *use, sp_planned **out)
{
    *out = find(plans, use);
    if (*out) return SP_OK;
    drop(plans, use->network, plans->most - 1);
    sp_planned *planned = sp_alloc_zero(sizeof *planned);
    if (!planned) return SP_MEMORY;
    planned->network = use->network;
    snprintf(planned->shape, sizeof planned->shape, "%s", use->shape);
    sp_builder *b;
    sp_status status = use->build(use->context, &b);
    if (!status) status = sp_runner_plan(b, plans->device, plans->precision, &planned->runner.plan);
    if (status) {
        free_one(planned);
        return status;
    }
    planned->next = plans->kept;
    plans->kept = *out = planned;
    return SP_OK;
}

sp_status sp_plans_memory(sp_plans *plans, const sp_plan_use *use, sp_plan_memory *out)
{
    sp_planned *planned;
    SP_TRY(find_or_plan(plans, use, &planned));
    *out = sp_plan_get_memory(planned->runner.plan);
    return SP_OK;
}

sp_status sp_plans_run(sp_plans *plans, const sp_plan_use *use, sp_run **out)
{
    sp_planned *planned;
    *out = NULL;
    SP_TRY(find_or_plan(plans, use, &planned));
    if (!planned->runner.run) {
        SP_TRY(sp_runner_begin(&planned->runner));
        sp_status status = sp_bind(sp_run_bound(planned->runner.run), use->network, use->weights);
        if (status) {
            sp_plans_forget(plans, use->network);
            return status;
        }
    }
    *out = planned->runner.run;
    return SP_OK;
}

size_t sp_plans_bytes(const sp_plans *plans)
{
    size_t sum = 0;
    for (const sp_planned *planned = plans->kept; planned; planned = planned->next) {
        sp_plan_memory m = sp_plan_get_memory(planned->runner.plan);
        if (planned->runner.run) sum += m.arena + m.persistent + m.boundary;
    }
    return sum;
}
