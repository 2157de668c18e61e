/* The memory of a training step, counted before it runs. */
#include "train/step_memory.h"
#include <stdlib.h>
#include "base/memory.h"
#include "base/system.h"
#include "models/unet.h"

/* ---- the table ---- */

enum { DEVICE = 1, HOST = 2, BOTH = 3 };

static size_t total_in(const sp_step_memory *m, unsigned place)
{
    size_t total = 0;
#define X(field, words, where) total += !m->apart || (where & place) ? m->field : 0;
    SP_STEP_MEMORY_LIST(X)
#undef X
    return total;
}

size_t sp_step_memory_total(const sp_step_memory *m)
{
    return total_in(m, DEVICE);
}

size_t sp_step_memory_on_host(const sp_step_memory *m)
{
    return total_in(m, HOST);
}

void sp_step_memory_join(sp_step_memory *m, const sp_step_memory *other)
{
    size_t packed = m->packed + other->packed;
    if (other->arena > m->arena) {
        m->arena_bound = other->arena_bound;
        m->recomputed = other->recomputed;
        m->recomputed_share = other->recomputed_share;
    }
#define X(field, words, where) m->field = other->field > m->field ? other->field : m->field;
    SP_STEP_MEMORY_LIST(X)
#undef X
    m->packed = packed;
}

enum {
#define X(field, words, where) row_##field,
    SP_STEP_MEMORY_LIST(X)
#undef X
};

/* A line's words and its columns: the device's, and the host's where that is another. */
static void append_bytes(const sp_step_memory *m, const char *words, size_t device, size_t host, sp_string *out)
{
    sp_string_append_format(out, "  %-28s %10s", words, device || !m->apart ? sp_bytes_text(device) : "");
    if (m->apart) sp_string_append_format(out, " %10s", host ? sp_bytes_text(host) : "");
}

void sp_step_memory_append(const sp_step_memory *m, size_t limit, sp_string *out)
{
    const struct {
        const char *words;
        size_t bytes;
        unsigned where;
    } rows[] = {
#define X(field, words, where) {words, m->field, where},
        SP_STEP_MEMORY_LIST(X)
#undef X
    };
    if (m->apart) sp_string_append_format(out, "  %-28s %10s %10s\n", "", "device", "host");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].bytes) continue;
        append_bytes(m, rows[i].words, !m->apart || (rows[i].where & DEVICE) ? rows[i].bytes : 0,
                     rows[i].where & HOST ? rows[i].bytes : 0, out);
        if (i == row_moments)
            sp_string_append_format(out, "  of %s", sp_optimizer_name(m->optimizer));
        if (i == row_arena && m->arena_bound)
            sp_string_append_format(out,
                                    "  %.3f times what is alive at once; %d of %d blocks "
                                    "recomputed, %.0f %% of their operations",
                                    (double)m->arena / (double)m->arena_bound, m->recomputed,
                                    m->blocks, 100 * m->recomputed_share);
        sp_string_append_format(out, "\n");
    }
    append_bytes(m, "total", sp_step_memory_total(m), sp_step_memory_on_host(m), out);
    if (limit) sp_string_append_format(out, " of %s", sp_bytes_text(limit));
    sp_string_append_format(out, "\n");
}

/* ---- planning ---- */

static void describe(const sp_plan *plan, sp_step_memory *m)
{
    const sp_graph *graph = sp_plan_graph(plan);
    sp_plan_memory memory = sp_plan_get_memory(plan);
    m->apart = !sp_plan_device(plan)->host_visible;
    m->teacher = sp_plan_set_bytes(plan, "teacher");
    m->online = sp_plan_set_bytes(plan, "online");
    m->ema = m->online; /* kept, whether or not the step reads it */
    m->target_average = m->keeps_target ? m->online : 0;
    m->fake_score = sp_plan_set_bytes(plan, "fake_score");
    m->packed = memory.persistent;
    m->arena = memory.arena;
    m->arena_bound = memory.arena_bound;
    m->gradients = sp_plan_output_bytes(plan, "gradient.");
    m->inputs = memory.boundary - m->gradients;
    m->moments = 0;
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER) continue;
        if (strcmp(value->set, "online") == 0 || strcmp(value->set, "fake_score") == 0)
            m->moments += sp_moment_bytes(m->optimizer, sp_shape_count(value->shape));
    }
}

typedef struct {
    const sp_step_request *request;
    sp_step_memory *memory;
    int order[SP_MAX_BLOCKS];
    sp_block_cost cost[SP_MAX_BLOCKS]; /* further blocks count with the last one */
    int count;
} planner;

static sp_status plan_with(planner *p, int recomputed, sp_plan **out)
{
    uint64_t mask = 0;
    double flops = 0, all = 0;
    sp_graph *graph;
    for (int i = 0; i < p->count; i++) {
        all += p->cost[i].flops;
        if (i >= recomputed) continue;
        mask |= (uint64_t)1 << p->order[i];
        flops += p->cost[p->order[i]].flops;
    }
    SP_TRY(p->request->build(p->request->context, mask, &graph));
    SP_TRY(sp_plan_create(graph, p->request->device, p->request->precision, out));
    describe(*out, p->memory);
    p->memory->blocks = p->count;
    p->memory->recomputed = recomputed;
    p->memory->recomputed_share = all > 0 ? flops / all : 0;
    return SP_OK;
}

static bool fits(const planner *p)
{
    return !p->request->limit || sp_step_memory_total(p->memory) <= p->request->limit;
}

static double saving(const sp_block_cost *cost)
{
    return (double)cost->bytes / (cost->flops > 0 ? cost->flops : 1);
}

/* Most bytes per operation first; few enough to be sorted by inserting. */
static sp_status order_blocks(planner *p, const sp_plan *plan)
{
    sp_block_cost *costs;
    int count;
    SP_TRY(sp_plan_block_costs(plan, &costs, &count));
    for (int i = 0; i < count; i++) {
        int k = i < SP_MAX_BLOCKS ? i : SP_MAX_BLOCKS - 1;
        p->cost[k].bytes += costs[i].bytes;
        p->cost[k].flops += costs[i].flops;
    }
    sp_free(costs);
    for (; p->count < count && p->count < SP_MAX_BLOCKS; p->count++) {
        int at = p->count;
        for (; at > 0 && saving(&p->cost[p->order[at - 1]]) < saving(&p->cost[p->count]); at--)
            p->order[at] = p->order[at - 1];
        p->order[at] = p->count;
    }
    return SP_OK;
}

static sp_status replan(planner *p, int recomputed, sp_plan **plan)
{
    sp_plan_destroy(*plan);
    *plan = NULL;
    return plan_with(p, recomputed, plan);
}

/* The fewest blocks that fit, by halving; all of them do. */
static sp_status fewest(planner *p, sp_plan **plan)
{
    int few = 0, enough = p->count;
    while (enough - few > 1) {
        int middle = (few + enough) / 2;
        SP_TRY(replan(p, middle, plan));
        if (fits(p))
            enough = middle;
        else
            few = middle;
    }
    return p->memory->recomputed == enough ? SP_OK : replan(p, enough, plan);
}

static sp_status choose(planner *p, sp_plan **plan)
{
    SP_TRY(plan_with(p, 0, plan));
    SP_TRY(order_blocks(p, *plan));
    p->memory->blocks = p->count;
    if (!p->request->recompute_all && fits(p)) return SP_OK;
    SP_TRY(replan(p, p->count, plan));
    if (!fits(p)) {
        sp_plan_destroy(*plan);
        *plan = NULL;
        return SP_OK;
    }
    return p->request->recompute_all ? SP_OK : fewest(p, plan);
}

sp_status sp_step_plan(const sp_step_request *request, sp_step_memory *memory, sp_plan **plan)
{
    planner p = {.request = request, .memory = memory};
    *plan = NULL;
    sp_status status = choose(&p, plan);
    if (!status) return SP_OK;
    sp_plan_destroy(*plan);
    *plan = NULL;
    return status;
}
