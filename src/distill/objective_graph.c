/* One distillation step as a graph. */
#include "distill/objective.h"
#include <stdio.h>
#include "ops/autodiff.h"

typedef struct {
    sp_builder *b;
    const sp_objective_settings *settings;
    const sp_step_shape *shape;
    sp_values prompt, guided; /* the conditioning; the latter for both passes of the teacher */
    sp_adapter adapter; /* of the students, where they are adapters over the teacher */
    sp_weight_set teacher;
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

static sp_values conditioning_inputs(step_graph *g, const char *prefix)
{
    const sp_step_shape *s = g->shape;
    sp_values out = {0};
    sp_conditioning_inputs(g->b, s->conditioning, &sp_unet_network, s->teacher, prefix, s->batch, SP_RATE_STEP, &out);
    return out;
}

/* Both halves of the teacher's batch. */
static void join_negative(step_graph *g)
{
    sp_values negative = conditioning_inputs(g, "negative.");
    for (int i = 0; i < g->prompt.count; i++) {
        sp_value *both[] = {g->prompt.item[i].value, negative.item[i].value};
        sp_values_add(&g->guided, g->prompt.item[i].name, sp_concat(g->b, 2, both, 0));
    }
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

static sp_value *teacher_output(step_graph *g, sp_value *z, sp_value *timestep, const sp_values *prompt)
{
    const sp_network_use use = {.network = &sp_unet_network, .config = g->shape->teacher, .set = &g->teacher};
    sp_values in = *prompt;
    sp_values_add(&in, "sample", z);
    sp_values_add(&in, "timestep", timestep);
    return sp_network_value(g->b, &use, &in);
}

/* One DDIM step of the teacher. With guidance both passes, with and without the prompt, are one
 * batch. */
static sp_value *solver_step(step_graph *g, sp_value *z, int step)
{
    sp_builder *b = g->b;
    int64_t batch = g->shape->batch;
    sp_value *timestep = solver_coefficient(g, "solver_timestep", step);
    if (!sp_objective_is_guided(g->settings)) {
        sp_value *m = teacher_output(g, z, timestep, &g->prompt);
        return combine(g, solver_coefficient(g, "solver_z", step), z,
                       solver_coefficient(g, "solver_cond", step), m);
    }
    sp_value *m = teacher_output(g, twice(g, z), twice(g, timestep), &g->guided);
    sp_value *terms[] = {
        solver_coefficient(g, "solver_z", step),      z,
        solver_coefficient(g, "solver_cond", step),   sp_slice(b, m, 0, 0, batch),
        solver_coefficient(g, "solver_uncond", step), sp_slice(b, m, 0, batch, batch)};
    return sp_sample_combine(b, 3, terms);
}

/* The output of a student, "online" or "ema", whose weights are a set of their own, or adapters over the teacher's.
 * Gamma goes to cond_proj by the input `embedding` where the network has it. options NULL: no gradient is wanted. */
static sp_value *student(step_graph *g, const char *set, const sp_unet_options *options, sp_value *z,
                         sp_value *timestep, const char *embedding)
{
    const sp_unet_config *config = g->shape->student;
    const sp_weight_set weights = {.name = set,
                                   .rate = SP_RATE_STEP,
                                   .adapter = g->shape->lora ? &g->adapter : NULL,
                                   .below = g->shape->lora ? &g->teacher : NULL};
    const sp_network_use use = {
        .network = &sp_unet_network, .config = config, .options = options, .set = &weights};
    sp_values in = g->prompt;
    sp_values_add(&in, "sample", z);
    sp_values_add(&in, "timestep", timestep);
    if (config->time_cond_dim)
        sp_values_add(&in, "timestep_cond",
                      sp_input(g->b, embedding, SP_F32, sp_shape_of(g->shape->batch, config->time_cond_dim),
                               SP_RATE_STEP));
    return sp_network_value(g->b, &use, &in);
}

static sp_value *target_value(step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *terms[6] = {coefficient(g, "target_start"), z_start, coefficient(g, "target_end"),
                          z_end};
    if (!sp_objective_asks_average(g->settings))
        return sp_stop_gradient(g->b, sp_sample_combine(g->b, 2, terms));
    terms[5] = student(g, "ema", NULL, z_end, coefficient(g, "target_timestep"), "gamma_one_embedding");
    terms[4] = coefficient(g, "target_m");
    return sp_stop_gradient(g->b, sp_sample_combine(g->b, 3, terms));
}

static sp_value *prediction_value(step_graph *g, sp_value *z_start, sp_value *z_end)
{
    sp_value *z = combine(g, coefficient(g, "position_start"), z_start,
                          coefficient(g, "position_end"), z_end);
    sp_value *scaled[] = {coefficient(g, "student_scale"), z};
    const sp_unet_options options = {.recompute = g->shape->recompute};
    sp_value *m = student(g, "online", &options, sp_sample_combine(g->b, 1, scaled),
                          coefficient(g, "student_timestep"), "gamma_embedding");
    return combine(g, coefficient(g, "prediction_z"), z, coefficient(g, "prediction_m"), m);
}

bool sp_objective_is_guided(const sp_objective_settings *settings)
{
    return settings->guidance_scale_w != 0;
}

static sp_status build(step_graph *g)
{
    sp_builder *b = g->b;
    sp_stage_enter(b, "teacher");
    sp_value *x0 = picture_input(g, "x0"), *noise = picture_input(g, "noise");
    g->prompt = conditioning_inputs(g, "");
    if (sp_objective_is_guided(g->settings)) join_negative(g);

    sp_value *z_start =
        combine(g, coefficient(g, "start_x0"), x0, coefficient(g, "start_noise"), noise);
    sp_value *z_end = z_start;
    for (int j = 0; j < g->settings->solver_steps; j++)
        z_end = solver_step(g, z_end, j);
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
    step_graph g = {.settings = settings,
                    .shape = shape,
                    .adapter = sp_lora_adapter(shape->lora),
                    .teacher = {.name = "teacher", .rate = SP_RATE_RUN, .weights = shape->teacher_weights}};
    SP_TRY(sp_builder_create(&g.b));
    sp_status status = build(&g);
    if (!status || sp_builder_failed(g.b)) status = sp_builder_finish(g.b, out);
    sp_builder_destroy(g.b);
    return status;
}
