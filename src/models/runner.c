/* A plan and its run, from a builder. */
#include "models/runner.h"
#include <stdatomic.h>
#include "ops/ops.h"

static atomic_ulong made, planned;

sp_status sp_runner_plan(sp_builder *b, sp_device *device, sp_dtype precision, sp_plan **out)
{
    sp_graph *graph;
    *out = NULL;
    sp_status status = sp_builder_finish(b, &graph);
    sp_builder_destroy(b);
    if (status != SP_OK) return status;
    atomic_fetch_add(&planned, 1);
    status = sp_pass_fuse(graph);
    if (status == SP_OK) status = sp_pass_fuse_inference(graph);
    if (status != SP_OK) {
        sp_graph_destroy(graph);
        return status;
    }
    return sp_plan_create(graph, device, precision, out);
}

sp_status sp_runner_create(sp_builder *b, sp_device *device, sp_dtype precision, sp_runner *out)
{
    *out = (sp_runner){0};
    SP_TRY(sp_runner_plan(b, device, precision, &out->plan));
    sp_status status = sp_runner_begin(out);
    if (status != SP_OK) sp_runner_free(out);
    return status;
}

sp_status sp_runner_begin(sp_runner *runner)
{
    SP_TRY(sp_run_create(runner->plan, &runner->run));
    atomic_fetch_add(&made, 1);
    return SP_OK;
}

unsigned long sp_plans_made(void)
{
    return atomic_load(&planned);
}

unsigned long sp_runners_made(void)
{
    return atomic_load(&made);
}

void sp_runner_free(sp_runner *runner)
{
    sp_run_destroy(runner->run);
    sp_plan_destroy(runner->plan);
    *runner = (sp_runner){0};
}
