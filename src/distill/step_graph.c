/* The pieces of training steps' graphs. */
#include "distill/step_graph.h"
#include "ops/autodiff.h"

sp_value *sp_step_coefficient(sp_step_graph *g, const char *name)
{
    return sp_input(g->b, name, SP_F32, sp_shape_of(g->shape->batch), SP_RATE_STEP);
}

sp_value *sp_step_latent(sp_step_graph *g, const char *name)
{
    const sp_step_shape *s = g->shape;
    return sp_nchw_to_nhwc(g->b, sp_input(g->b, name, SP_F32, sp_shape_of(s->batch, s->channels, s->height, s->width),
                                          SP_RATE_STEP));
}

/* Whether the pass without the prompt has it too. */
static bool is_of_picture(const sp_step_graph *g, const char *name)
{
    sp_ports ports = {0};
    const sp_denoiser teacher = sp_denoiser_of(g->shape->teacher);
    teacher.network->inputs(teacher.config, &ports);
    return sp_ports_find(&ports, name)->picture;
}

static sp_values conditioning_inputs(sp_step_graph *g, const char *prefix)
{
    const sp_step_shape *s = g->shape;
    sp_values out = {0};
    const sp_denoiser teacher = sp_denoiser_of(s->teacher);
    sp_conditioning_inputs(g->b, s->conditioning, teacher.network, teacher.config, prefix, s->batch, SP_RATE_STEP,
                           &out);
    return out;
}

void sp_step_conditioning(sp_step_graph *g, bool negative)
{
    g->prompt = conditioning_inputs(g, "");
    if (!negative) return;
    sp_values without = conditioning_inputs(g, "negative.");
    for (int i = 0; i < g->prompt.count; i++) {
        const char *name = g->prompt.item[i].name;
        sp_value *both[] = {g->prompt.item[i].value, is_of_picture(g, name) ? g->prompt.item[i].value
                                                                            : without.item[i].value};
        sp_values_add(&g->guided, name, sp_concat(g->b, 2, both, 0));
    }
}

sp_value *sp_step_combine(sp_step_graph *g, sp_value *a, sp_value *x, sp_value *b, sp_value *y)
{
    sp_value *terms[] = {a, x, b, y};
    return sp_sample_combine(g->b, 2, terms);
}

static sp_value *twice(sp_step_graph *g, sp_value *x)
{
    sp_value *pair[] = {x, x};
    return sp_concat(g->b, 2, pair, 0);
}

static sp_value *teacher_output(sp_step_graph *g, sp_value *z, sp_value *timestep, const sp_values *prompt)
{
    const sp_denoiser teacher = sp_denoiser_of(g->shape->teacher);
    const sp_block_options options = {.unmarked = true, .same_tokens = g->shape->same_tokens};
    const sp_network_use use = {
        .network = teacher.network, .config = teacher.config, .options = &options, .set = &g->teacher};
    sp_values in = *prompt;
    sp_values_add(&in, "sample", z);
    sp_values_add(&in, "timestep", timestep);
    return sp_network_value(g->b, &use, &in);
}

void sp_step_teacher(sp_step_graph *g, sp_value *z, sp_value *timestep, sp_value **cond, sp_value **uncond)
{
    int64_t batch = g->shape->batch;
    *uncond = NULL;
    if (!sp_objective_is_guided(g->settings)) {
        *cond = teacher_output(g, z, timestep, &g->prompt);
        return;
    }
    sp_value *m = teacher_output(g, twice(g, z), twice(g, timestep), &g->guided);
    *cond = sp_slice(g->b, m, 0, 0, batch);
    *uncond = sp_slice(g->b, m, 0, batch, batch);
}

static sp_weight_set trained_set(const sp_step_graph *g, const char *name)
{
    return (sp_weight_set){.name = name,
                           .rate = SP_RATE_STEP,
                           .adapter = g->shape->lora ? &g->adapter : NULL,
                           .below = g->shape->lora ? &g->teacher : NULL};
}

/* Rows of a batch `times` over. */
static sp_values repeated(sp_step_graph *g, const sp_values *values, int64_t times)
{
    sp_values out = *values;
    for (int i = 0; i < out.count; i++)
        for (int64_t k = 1; k < times; k++) {
            sp_value *both[] = {out.item[i].value, values->item[i].value};
            out.item[i].value = sp_concat(g->b, 2, both, 0);
        }
    return out;
}

sp_value *sp_step_features(sp_step_graph *g, const char *set, const sp_block_options *options, sp_value *z,
                           sp_value *timestep)
{
    const sp_weight_set weights = trained_set(g, set);
    const sp_network_use use = {
        .network = &sp_unet_features_network, .config = &g->shape->teacher->unet, .options = options, .set = &weights};
    sp_values in = repeated(g, &g->prompt, sp_dim(z, 0) / g->shape->batch);
    sp_values_add(&in, "sample", z);
    sp_values_add(&in, "timestep", timestep);
    return sp_network_value(g->b, &use, &in);
}

sp_value *sp_step_network(sp_step_graph *g, const char *set, const sp_component_config *config,
                          const sp_block_options *options, sp_value *z, sp_value *timestep, const char *cond)
{
    const sp_weight_set weights = trained_set(g, set);
    const sp_denoiser denoiser = sp_denoiser_of(config);
    sp_block_options own = options ? *options : (sp_block_options){.unmarked = true};
    own.same_tokens = g->shape->same_tokens;
    const sp_network_use use = {
        .network = denoiser.network, .config = denoiser.config, .options = &own, .set = &weights};
    sp_values in = g->prompt;
    sp_values_add(&in, "sample", z);
    sp_values_add(&in, "timestep", timestep);
    if (denoiser.time_cond_dim)
        sp_values_add(&in, "timestep_cond",
                      sp_input(g->b, cond, SP_F32, sp_shape_of(g->shape->batch, denoiser.time_cond_dim),
                               SP_RATE_STEP));
    return sp_network_value(g->b, &use, &in);
}

sp_status sp_step_outputs(sp_step_graph *g, sp_value *loss, sp_value *prediction, sp_value *target, const char *set)
{
    sp_builder *b = g->b;
    sp_output(b, "loss", loss);
    if (g->shape->trace) {
        sp_output(b, "prediction", sp_nhwc_to_nchw(b, prediction));
        sp_output(b, "target", sp_nhwc_to_nchw(b, target));
    }
    sp_stage_leave(b);
    if (sp_builder_failed(b)) return SP_INTERNAL;
    SP_TRY(sp_pass_fuse(sp_builder_graph(b)));
    SP_TRY(g->shape->accumulate ? sp_output_gradient_sums(b, loss, set) : sp_output_gradients(b, loss, set));
    return sp_pass_fuse_inference(sp_builder_graph(b));
}

sp_status sp_step_graph_make(const sp_objective_settings *settings, const sp_step_shape *shape,
                             sp_status (*build)(sp_step_graph *g), sp_graph **out)
{
    *out = NULL;
    sp_step_graph g = {.settings = settings,
                       .shape = shape,
                       .adapter = sp_lora_adapter(shape->lora),
                       .teacher = {.name = "teacher", .rate = SP_RATE_RUN, .weights = shape->teacher_weights}};
    SP_TRY(sp_builder_create(&g.b));
    sp_status status = build(&g);
    if (!status || sp_builder_failed(g.b)) status = sp_builder_finish(g.b, out);
    sp_builder_destroy(g.b);
    return status;
}
