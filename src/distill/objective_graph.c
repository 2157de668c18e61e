/* One distillation step as a graph. */
#include "distill/objective.h"
#include <stdio.h>
#include "ops/autodiff.h"

typedef struct {
    sp_builder *b;
    const sp_objective_settings *settings;
    const sp_step_shape *shape;
    sp_value *context, *guided_context; /* the latter for both passes of the teacher */
    sp_adapter adapter; /* of the students, where they are adapters over the teacher */
} step_graph;

static sp_value *coefficient(step_graph *g, const char *name)
{
    return sp_input(g->b, name, SP_F32, sp_shape_of(g->shape->batch), SP_RATE_STEP);
}

static sp_value *solver_coefficient(step_graph *g, const char *name, int step)
{
    char text[64];
    snprintf(text, sizeof text, "%s.%d", name, step);
    return coefficient(g, text);
}

static sp_value *picture_input(step_graph *g, const char *name)
{
    const sp_step_shape *s = g->shape;
    return sp_nchw_to_nhwc(g->b, sp_input(g->b, name, SP_F32,
                                          sp_shape_of(s->batch, s->channels, s->height, s->width),
                                          SP_RATE_STEP));
}

static sp_value *context_input(step_graph *g, const char *name)
{
    const sp_step_shape *s = g->shape;
    return sp_input(g->b, name, SP_F32, sp_shape_of(s->batch, s->context_length, s->context_dim),
                    SP_RATE_STEP);
}

static sp_value *combine(step_graph *g, sp_value *a, sp_value *x, sp_value *b, sp_value *y)
{
    sp_value *terms[] = {a, x, b, y};
    return sp_sample_combine(g->b, 2, terms);
}

static sp_value *twice(step_graph *g, sp_value *x)
{
    sp_value *pair[] = {x, x};
    return sp_concat(g->b, 2, pair, 0);
}

/* One DDIM step of the teacher. With guidance both passes, with and without the prompt, are one
 * batch. */
static sp_value *solver_step(step_graph *g, sp_value *z, int step)
{
    sp_builder *b = g->b;
    int64_t batch = g->shape->batch;
    sp_value *timestep = solver_coefficient(g, "solver_timestep", step);
    if (!sp_objective_is_guided(g->settings)) {
        sp_value *m = sp_unet(b, g->shape->teacher, z, timestep, g->context, NULL);
        return combine(g, solver_coefficient(g, "solver_z", step), z,
                       solver_coefficient(g, "solver_cond", step), m);
    }
    sp_value *m =
        sp_unet(b, g->shape->teacher, twice(g, z), twice(g, timestep), g->guided_context, NULL);
    sp_value *terms[] = {
        solver_coefficient(g, "solver_z", step),      z,
        solver_coefficient(g, "solver_cond", step),   sp_slice(b, m, 0, 0, batch),
        solver_coefficient(g, "solver_uncond", step), sp_slice(b, m, 0, batch, batch)};
    return sp_sample_combine(b, 3, terms);
}

/* A student's or EMA network's output; gamma is told by an embedding where the network has
 * cond_proj. options NULL: no gradient is wanted. */
static sp_value *student(step_graph *g, const sp_unet_options *options, sp_value *z,
                         sp_value *timestep, const char *embedding)
{
    const sp_unet_config *config = g->shape->student;
    sp_value *told = NULL;
    if (config->time_cond_dim)
        told = sp_input(g->b, embedding, SP_F32,
                        sp_shape_of(g->shape->batch, config->time_cond_dim), SP_RATE_STEP);
    return sp_unet_with_options(g->b, config, options, z, timestep, g->context, told);
}

static void enter_teacher(step_graph *g)
{
    sp_weights *teacher = (sp_weights *)g->shape->teacher_weights;
    sp_set_enter(g->b, "teacher", SP_RATE_RUN, teacher ? sp_weights_dtype : NULL, teacher);
}

/* A student's weights: a set of its own, or adapters over the teacher's. */
static void enter_student(step_graph *g, const char *set)
{
    if (!g->shape->lora) {
        sp_set_enter(g->b, set, SP_RATE_STEP, NULL, NULL);
        return;
    }
    enter_teacher(g);
    sp_set_enter_over(g->b, set, SP_RATE_STEP, &g->adapter);
}

static void leave_student(step_graph *g)
{
    sp_set_leave(g->b);
    if (g->shape->lora) sp_set_leave(g->b);
}

static sp_value *target_value(step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *terms[6] = {coefficient(g, "target_start"), z_start, coefficient(g, "target_end"),
                          z_end};
    if (!sp_objective_asks_average(g->settings))
        return sp_stop_gradient(g->b, sp_sample_combine(g->b, 2, terms));
    enter_student(g, "ema");
    terms[5] = student(g, NULL, z_end, coefficient(g, "target_timestep"), "gamma_one_embedding");
    leave_student(g);
    terms[4] = coefficient(g, "target_m");
    return sp_stop_gradient(g->b, sp_sample_combine(g->b, 3, terms));
}

static sp_value *prediction_value(step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *z = combine(g, coefficient(g, "position_start"), z_start,
                          coefficient(g, "position_end"), z_end);
    sp_value *scaled[] = {coefficient(g, "student_scale"), z};
    const sp_unet_options options = {.recompute = g->shape->recompute};
    enter_student(g, "online");
    sp_value *m = student(g, &options, sp_sample_combine(g->b, 1, scaled),
                          coefficient(g, "student_timestep"), "gamma_embedding");
    leave_student(g);
    return combine(g, coefficient(g, "prediction_z"), z, coefficient(g, "prediction_m"), m);
}

bool sp_objective_is_guided(const sp_objective_settings *settings)
{
    return settings->guidance_w != 0;
}

static sp_status build(step_graph *g)
{
    sp_builder *b = g->b;
    sp_stage_enter(b, "teacher");
    sp_value *clean = picture_input(g, "clean"), *noise = picture_input(g, "noise");
    g->context = context_input(g, "context");
    if (sp_objective_is_guided(g->settings)) {
        sp_value *both[] = {g->context, context_input(g, "uncond")};
        g->guided_context = sp_concat(b, 2, both, 0);
    }

    sp_value *z_start =
        combine(g, coefficient(g, "start_clean"), clean, coefficient(g, "start_noise"), noise);
    sp_value *z_end = z_start;
    enter_teacher(g);
    for (int j = 0; j < g->settings->solver_steps; j++)
        z_end = solver_step(g, z_end, j);
    sp_set_leave(b);
    sp_stage_leave(b);
    sp_stage_enter(b, "target");
    sp_value *target = target_value(g, z_start, z_end);
    sp_stage_leave(b);
    sp_stage_enter(b, "forward");
    sp_value *prediction = prediction_value(g, z_start, z_end);
    sp_value *loss = sp_loss(b, prediction, target, NULL, g->settings->loss);
    sp_output(b, "loss", loss);
    if (g->shape->trace) {
        sp_output(b, "prediction", sp_nhwc_to_nchw(b, prediction));
        sp_output(b, "target", sp_nhwc_to_nchw(b, target));
    }
    sp_stage_leave(b);
    if (sp_builder_failed(b)) return SP_INTERNAL;
    SP_TRY(sp_pass_fuse(sp_builder_graph(b)));
    SP_TRY(g->shape->accumulate ? sp_output_gradient_sums(b, loss, "online")
                                : sp_output_gradients(b, loss, "online"));
    return sp_pass_fuse_inference(sp_builder_graph(b));
}

sp_status sp_objective_graph(const sp_objective_settings *settings, const sp_step_shape *shape,
                             sp_graph **out)
{
    *out = NULL;
    step_graph g = {.settings = settings, .shape = shape, .adapter = sp_lora_adapter(shape->lora)};
    SP_TRY(sp_builder_create(&g.b));
    sp_status status = build(&g);
    if (!status || sp_builder_failed(g.b)) status = sp_builder_finish(g.b, out);
    sp_builder_destroy(g.b);
    return status;
}
