/* The plans, weights and runs of a distillation's steps. */
#include "distill/distillation.h"
#include "base/log.h"
#include "base/system.h"
#include "distill/rounds.h"

/* What no plan knows of: generated code, buffers of files; and of each plan beside the first. */
static const size_t unplanned = 32u << 20, unplanned_of_another = 16u << 20;

static bool is_matching(const sp_distillation *d)
{
    return d->options->objective.objective == SP_OBJECTIVE_DMD;
}

bool sp_distillation_keeps_target(const sp_distill_options *o)
{
    return o->target_apart && !sp_average_is_weights(&o->target_average);
}

/* ---- plans ---- */

typedef struct {
    sp_distillation *d;
    sp_step_part part;
} step_part;

static sp_status build_step(void *context, uint64_t recompute, sp_graph **out)
{
    const step_part *step = context;
    sp_distillation *d = step->d;
    const sp_objective_settings now = sp_round_settings(&d->options->objective, d->round);
    d->shape.recompute = recompute;
    d->shape.teacher_weights = d->round_teacher ? d->round_teacher : d->teacher->denoiser->weights;
    if (step->part == SP_STEP_STUDENT) d->recompute = recompute;
    if (is_matching(d)) return sp_matching_graph(&now, &d->shape, step->part, out);
    return step->part == SP_STEP_AHEAD ? sp_objective_teacher_graph(&now, &d->shape, out)
                                       : sp_objective_graph(&now, &d->shape, out);
}

static bool is_limited(const sp_distillation *d)
{
    return d->options->given.memory_limit != SPLAM_UNSET;
}

/* At most `limit` of the device's memory (0: any). */
static sp_status plan_step(sp_distillation *d, sp_step_part part, size_t limit, sp_step_memory *memory)
{
    step_part step = {d, part};
    const sp_step_request request = {
        .build = build_step,
        .context = &step,
        .device = d->teacher->device,
        .precision = d->options->precision,
        .limit = limit,
        .recompute_all = d->options->given.gradient_checkpointing,
    };
    return sp_step_plan(&request, memory, &d->plan[part]);
}

/* What runs ahead is small beside a step that trains, and its run has memory beside that of the other. */
static sp_status plan_ahead(sp_distillation *d, size_t *bytes)
{
    step_part step = {d, SP_STEP_AHEAD};
    sp_graph *graph;
    SP_TRY(build_step(&step, 0, &graph));
    SP_TRY(sp_plan_create(graph, d->teacher->device, d->options->precision, &d->plan[step.part]));
    sp_plan_memory memory = sp_plan_get_memory(d->plan[step.part]);
    *bytes = memory.arena + memory.persistent + memory.boundary;
    return SP_OK;
}

/* Adapters stand over the teacher's weights, which are the student's part's then. */
static sp_status plan_teacher(sp_distillation *d)
{
    SP_TRY(plan_ahead(d, &d->memory.subpaths));
    if (!d->shape.lora) d->memory.subpaths += sp_plan_set_bytes(d->plan[SP_STEP_AHEAD], "teacher");
    return SP_OK;
}

/* Only one of the two has a run at a time, but both keep packed weights. */
static sp_status plan_matching(sp_distillation *d, size_t limit)
{
    SP_TRY(plan_ahead(d, &d->memory.simulation));
    sp_step_memory other = d->memory;
    SP_TRY(plan_step(d, SP_STEP_STUDENT, limit, &d->memory));
    if (!d->plan[SP_STEP_STUDENT]) return SP_OK;
    size_t packed = d->memory.packed;
    SP_TRY(plan_step(d, SP_STEP_FAKE_SCORE, limit > packed ? limit - packed : limit, &other));
    sp_step_memory_join(&d->memory, &other);
    return SP_OK;
}

static bool is_planned(const sp_distillation *d)
{
    return d->plan[SP_STEP_STUDENT] && (!is_matching(d) || d->plan[SP_STEP_FAKE_SCORE]);
}

static sp_status report_memory(const sp_distillation *d, size_t limit)
{
    sp_string table = {0};
    sp_step_memory_append(&d->memory, limit, &table);
    bool failed = table.failed;
    if (!failed) sp_log_info("memory of a step");
    if (!failed) sp_log_lines(sp_string_text(&table));
    sp_string_free(&table);
    if (failed) return SP_MEMORY;
    size_t total = sp_step_memory_total(&d->memory);
    if (is_planned(d) && (!limit || total <= limit)) return SP_OK;
    return sp_fail(
        SP_MEMORY, "%s of %s is too small for a step, which takes %s%s: see the table above",
        is_limited(d) ? "`memory_limit`" : "free memory", sp_bytes_text(limit),
        sp_bytes_text(total), is_planned(d) ? "" : " with all blocks recomputed");
}

size_t sp_distillation_f32_bytes(const sp_weights *weights)
{
    size_t values = 0;
    for (size_t i = 0; i < sp_weights_count(weights); i++)
        values += (size_t)sp_tensor_count(sp_weights_at(weights, i));
    return sizeof(float) * values;
}

sp_status sp_distillation_plan(sp_distillation *d)
{
    const sp_distill_options *o = d->options;
    d->shape.teacher = &d->teacher->denoiser->config;
    d->shape.student = &d->student;
    d->shape.lora = o->lora.rank ? &o->lora : NULL;
    d->shape.trace = o->given.trace != NULL;
    d->shape.accumulate = o->given.gradient_accumulation_steps > 1;
    d->shape.teacher_apart = o->given.sub_paths != NULL;
    int64_t own = sp_resident_memory();
    size_t program = own > 0 ? (size_t)own : 0;
    d->memory.optimizer = o->optimizer;
    d->memory.keeps_target = sp_distillation_keeps_target(o);
    d->memory.data = sp_distill_feed_bytes(&d->feed);
    d->memory.program = unplanned + (program > d->memory.data ? program - d->memory.data : 0);
    if (is_matching(d)) d->memory.program += (SP_STEP_PARTS - 1) * unplanned_of_another;
    if (d->shape.teacher_apart) d->memory.program += unplanned_of_another;
    d->memory.round_teacher = o->objective.rounds > 1 ? sp_distillation_f32_bytes(d->teacher->denoiser->weights) : 0;
    if (d->shape.teacher_apart) SP_TRY(plan_teacher(d));
    size_t limit = is_limited(d) ? (size_t)o->given.memory_limit : sp_device_allowed(d->teacher->device);
    SP_TRY(is_matching(d) ? plan_matching(d, limit) : plan_step(d, SP_STEP_STUDENT, limit, &d->memory));
    return report_memory(d, limit);
}

/* ---- runs ---- */

void sp_distillation_free_runs(sp_distillation *d)
{
    sp_run_destroy(d->run);
    sp_run_destroy(d->ahead);
    d->run = d->ahead = d->feed.ahead = NULL;
    for (int i = 0; i < SP_STEP_PARTS; i++) {
        sp_bound_destroy(d->bound[i]);
        sp_plan_destroy(d->plan[i]);
        d->bound[i] = NULL;
        d->plan[i] = NULL;
    }
}

/* All sets but the student's own in steps that train, which the trainer binds. */
static sp_status bind_step(sp_distillation *d, sp_step_part part)
{
    const sp_objective_settings now = sp_round_settings(&d->options->objective, d->round);
    const sp_training_state *state = &d->state;
    SP_TRY(sp_bound_create(d->plan[part], &d->bound[part]));
    SP_TRY(sp_bind(d->bound[part], "teacher", d->shape.teacher_weights));
    if (part == SP_STEP_AHEAD) return is_matching(d) ? sp_bind(d->bound[part], "online", state->online) : SP_OK;
    if (is_matching(d)) return sp_bind(d->bound[part], SP_FAKE_SCORE, state->beside->online);
    if (!sp_objective_asks_average(&now)) return SP_OK;
    return sp_bind(d->bound[part], "ema",
                   state->target ? state->target : d->options->target_apart ? state->online : state->ema);
}

sp_status sp_distillation_make_runs(sp_distillation *d)
{
    for (int i = 0; i < SP_STEP_PARTS; i++)
        if (d->plan[i]) SP_TRY(bind_step(d, (sp_step_part)i));
    if (d->plan[SP_STEP_AHEAD]) SP_TRY(sp_run_create_of(d->bound[SP_STEP_AHEAD], &d->ahead));
    d->feed.ahead = d->ahead;
    d->part = SP_STEP_STUDENT;
    return sp_run_create_of(d->bound[SP_STEP_STUDENT], &d->run);
}

/* ---- which step comes next ---- */

/* Rank 0 has it from the state or from files, the others from rank 0. */
static sp_status take_round_teacher(sp_distillation *d, const sp_training_state *state, int round)
{
    sp_weights_destroy(d->round_teacher);
    d->round_teacher = NULL;
    SP_TRY(d->options->rank == 0
               ? sp_round_teacher(d->options, d->settings, state, round, &d->round_teacher)
               : sp_weights_copy(state->online, SP_F32, &d->round_teacher));
    return sp_weights_share(d->round_teacher, d->ranks);
}

/* When a step is another round's: its teacher and its run. */
static sp_status enter_round(sp_distillation *d, sp_training_state *state, sp_update *update)
{
    const sp_distill_options *o = d->options;
    step_part step = {d, SP_STEP_STUDENT};
    sp_graph *graph;
    int round = sp_round_of_step(&o->objective, state->step, o->given.max_train_steps);
    if (round == d->round) return SP_OK;
    sp_distillation_free_runs(d);
    SP_TRY(sp_training_state_fetch(state));
    SP_TRY(take_round_teacher(d, state, round));
    d->round = round;
    SP_TRY(build_step(&step, d->recompute, &graph));
    SP_TRY(sp_plan_create(graph, d->teacher->device, o->precision, &d->plan[step.part]));
    SP_TRY(sp_distillation_make_runs(d));
    sp_log_info("round %d of %d: a student of %d steps", round + 1, o->objective.rounds,
                sp_round_settings(&o->objective, round).ddim_timesteps);
    update->run = d->run;
    return SP_OK;
}

/* When a step is the other network's: its run, in place of the one before. */
static sp_status enter_turn(sp_distillation *d, sp_training_state *state, sp_update *update)
{
    const sp_matching_turn turn = sp_matching_turn_of(&d->options->objective, state->step);
    sp_step_part part = turn.fake_score ? SP_STEP_FAKE_SCORE : SP_STEP_STUDENT;
    update->trained = turn.fake_score ? state->beside : state;
    update->updates = turn.updates;
    if (part == d->part) return SP_OK;
    sp_run_destroy(d->run);
    d->run = NULL;
    d->part = part;
    sp_return_freed_memory();
    SP_TRY(sp_run_create_of(d->bound[part], &d->run));
    update->run = d->run;
    return SP_OK;
}

sp_status sp_distillation_enter(void *context, sp_training_state *state, sp_update *update)
{
    sp_distillation *d = context;
    return is_matching(d) ? enter_turn(d, state, update) : enter_round(d, state, update);
}
