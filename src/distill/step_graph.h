/* What the graphs of training steps are made of: inputs, the teacher, a network that is trained or averaged, and the
 * outputs. */
#ifndef SP_DISTILL_STEP_GRAPH_H
#define SP_DISTILL_STEP_GRAPH_H
#include "distill/objective.h"

typedef struct {
    sp_builder *b;
    const sp_objective_settings *settings;
    const sp_step_shape *shape;
    sp_values prompt, guided; /* the conditioning; the latter for both passes of the teacher */
    sp_adapter adapter;       /* of the trained networks, where they are adapters over the teacher */
    sp_weight_set teacher;
} sp_step_graph;

/* Runs `build` on a new graph, which it fills and finishes by sp_step_outputs or names the outputs of. */
sp_status sp_step_graph_make(const sp_objective_settings *settings, const sp_step_shape *shape,
                             sp_status (*build)(sp_step_graph *g), sp_graph **out);

sp_value *sp_step_coefficient(sp_step_graph *g, const char *name); /* the input `name`, [B] f32 */
sp_value *sp_step_latent(sp_step_graph *g, const char *name);      /* the input `name`, [B,C,H,W] f32, as NHWC */
/* The inputs of the conditioning; `negative`: and those of the pass without the prompt. */
void sp_step_conditioning(sp_step_graph *g, bool negative);

/* a[n] x[n] + b[n] y[n]. */
sp_value *sp_step_combine(sp_step_graph *g, sp_value *a, sp_value *x, sp_value *b, sp_value *y);

/* The teacher's outputs with the prompt and, where it is guided, without it, in one batch; else *uncond is NULL. */
void sp_step_teacher(sp_step_graph *g, sp_value *z, sp_value *timestep, sp_value **cond, sp_value **uncond);

/* The output of a network `config` of the weight set `set`, which is one of its own, or adapters over the teacher's.
 * Where the config has a cond_proj it is told what the input `cond` has. options NULL: no gradient is wanted. */
sp_value *sp_step_network(sp_step_graph *g, const char *set, const sp_component_config *config,
                          const sp_block_options *options, sp_value *z, sp_value *timestep, const char *cond);

/* What the middle block of `set`, a network like the teacher, makes of z, whose samples may be the batch's several
 * times over, with its conditioning each time. */
sp_value *sp_step_features(sp_step_graph *g, const char *set, const sp_block_options *options, sp_value *z,
                           sp_value *timestep);

/* Outputs "loss", with trace "prediction" and "target", and the gradients of `set`, and fuses. Within the stage. */
sp_status sp_step_outputs(sp_step_graph *g, sp_value *loss, sp_value *prediction, sp_value *target, const char *set);

#endif
