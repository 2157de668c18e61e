/* The map that a model is: f(z, t -> u), what one evaluation at timestep t makes of a latent z_t, taken to where the
 * model was made to lead. With x0 and eps the two estimates of that evaluation:
 *
 *   lcm, splam         c_skip(t) z + c_out(t) x0, the clean latent
 *   tcd                alpha_u x0 + sigma_u eps, u = timestep 0
 *   pcm, progressive   the same, u the highest edge below t: of P phases, or of a grid of N points
 *   dmd                as lcm
 *   all others         x0, the clean latent
 *
 * It is the model's own, whatever sampler it is drawn with, and says the same of a teacher's evaluation, guided or
 * not. */
#ifndef SP_DIFFUSION_MAP_H
#define SP_DIFFUSION_MAP_H
#include "diffusion/sampler.h"

typedef struct {
    double timestep;     /* t, real */
    sp_pair from, to;    /* what z_t is made of, and what f(z_t) is: (1, 0) where it is clean */
    sp_sampler_step row; /* f(z_t) as a combination of z_t and the network's output */
} sp_map;

/* SP_NUMERIC where the output says nothing of the latent: epsilon at alpha = 0. */
sp_status sp_map_at(const sp_scheduler_config *config, double timestep, sp_map *out);
/* Whether the map in so many steps is another than the model's own: students that step with DDIM along P phases take
 * longer or shorter hops when DDIM asks for another number of steps, those of so many phases (distilled_steps). */
bool sp_map_is_otherwise(const sp_scheduler_config *model, const sp_sampler_options *sampler);
/* The table of this one row, for a sampling loop. The map outlives it and owns it. */
sp_sampler sp_map_sampler(sp_map *map);

/* The tick of edge i of `count` equal phases of a path: i/count of the way, as DDIM's trailing timesteps; 0 for i = 0.
 * Ticks of a table are timesteps, whose last is T - 1. */
int sp_phase_edge(const sp_path *path, int i, int count);
/* The highest edge below timestep t: the lower edge of its phase. An edge belongs to the phase below; 0 for t = 0. */
int sp_phase_edge_below(const sp_path *path, double timestep, int count);

#endif
