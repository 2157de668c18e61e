/* One distillation step over a sub-path as a graph. */
#include <stdio.h>
#include "distill/step_graph.h"

static sp_value *solver_coefficient(sp_step_graph *g, const char *name, int step)
{
    char text[64];
    snprintf(text, sizeof text, "%s.%d", name, step);
    return sp_step_coefficient(g, text);
}

/* One DDIM step of the teacher. */
static sp_value *solver_step(sp_step_graph *g, sp_value *z, int step)
{
    sp_value *cond, *uncond;
    sp_step_teacher(g, z, solver_coefficient(g, "solver_timestep", step), &cond, &uncond);
    if (!sp_objective_is_guided(g->settings))
        return sp_step_combine(g, solver_coefficient(g, "solver_z", step), z,
                               solver_coefficient(g, "solver_cond", step), cond);
    sp_value *terms[] = {solver_coefficient(g, "solver_z", step),      z,
                         solver_coefficient(g, "solver_cond", step),   cond,
                         solver_coefficient(g, "solver_uncond", step), uncond};
    return sp_sample_combine(g->b, 3, terms);
}

static sp_value *target_value(sp_step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *terms[6] = {sp_step_coefficient(g, "target_start"), z_start, sp_step_coefficient(g, "target_end"),
                          z_end};
    if (!sp_objective_asks_average(g->settings))
        return sp_stop_gradient(g->b, sp_sample_combine(g->b, 2, terms));
    terms[5] = sp_step_network(g, "ema", g->shape->student, NULL, z_end, sp_step_coefficient(g, "target_timestep"),
                               "ema.timestep_cond");
    terms[4] = sp_step_coefficient(g, "target_m");
    return sp_stop_gradient(g->b, sp_sample_combine(g->b, 3, terms));
}

static sp_value *prediction_value(sp_step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *z = sp_step_combine(g, sp_step_coefficient(g, "position_start"), z_start,
                                  sp_step_coefficient(g, "position_end"), z_end);
    sp_value *scaled[] = {sp_step_coefficient(g, "student_scale"), z};
    const sp_block_options options = {.recompute = g->shape->recompute};
    sp_value *m = sp_step_network(g, "online", g->shape->student, &options, sp_sample_combine(g->b, 1, scaled),
                                  sp_step_coefficient(g, "student_timestep"), "online.timestep_cond");
    return sp_step_combine(g, sp_step_coefficient(g, "prediction_z"), z, sp_step_coefficient(g, "prediction_m"), m);
}

bool sp_objective_is_guided(const sp_objective_settings *settings)
{
    return settings->guidance_scale_w != 0;
}

static sp_value *start_value(sp_step_graph *g)
{
    sp_value *x0 = sp_step_latent(g, "x0"), *noise = sp_step_latent(g, "noise");
    return sp_step_combine(g, sp_step_coefficient(g, "start_x0"), x0, sp_step_coefficient(g, "start_noise"), noise);
}

/* Where the teacher's steps from z_start end. */
static sp_value *end_value(sp_step_graph *g, sp_value *z_start)
{
    sp_value *z = z_start;
    for (int j = 0; j < g->settings->solver_steps; j++)
        z = solver_step(g, z, j);
    return z;
}

static sp_status build_teacher(sp_step_graph *g)
{
    sp_stage_enter(g->b, "teacher");
    sp_step_conditioning(g, sp_objective_is_guided(g->settings));
    sp_output(g->b, "z_end", sp_nhwc_to_nchw(g->b, end_value(g, start_value(g))));
    sp_stage_leave(g->b);
    if (sp_builder_failed(g->b)) return SP_INTERNAL;
    SP_TRY(sp_pass_fuse(sp_builder_graph(g->b)));
    return sp_pass_fuse_inference(sp_builder_graph(g->b));
}

static sp_status build_student(sp_step_graph *g)
{
    sp_builder *b = g->b;
    bool apart = g->shape->teacher_apart;
    sp_stage_enter(b, "teacher");
    sp_step_conditioning(g, sp_objective_is_guided(g->settings) && !apart);
    sp_value *z_start = start_value(g), *z_end = apart ? sp_step_latent(g, "z_end") : end_value(g, z_start);
    sp_stage_leave(b);
    sp_stage_enter(b, "target");
    sp_value *target = target_value(g, z_start, z_end);
    sp_stage_leave(b);
    sp_stage_enter(b, "forward");
    sp_value *prediction = prediction_value(g, z_start, z_end);
    bool weighted = g->settings->weighting != SP_WEIGHTING_NONE;
    sp_value *loss = sp_loss(b, prediction, target, weighted ? sp_step_coefficient(g, "loss_weight") : NULL,
                             g->settings->loss);
    return sp_step_outputs(g, loss, prediction, target, "online");
}

sp_status sp_objective_graph(const sp_objective_settings *settings, const sp_step_shape *shape, sp_graph **out)
{
    return sp_step_graph_make(settings, shape, build_student, out);
}

sp_status sp_objective_teacher_graph(const sp_objective_settings *settings, const sp_step_shape *shape, sp_graph **out)
{
    return sp_step_graph_make(settings, shape, build_teacher, out);
}
