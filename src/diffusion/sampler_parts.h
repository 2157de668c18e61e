/* What the files on samplers share. */
#ifndef SP_DIFFUSION_SAMPLER_PARTS_H
#define SP_DIFFUSION_SAMPLER_PARTS_H
#include "diffusion/sampler.h"

/* A point that a sampler steps from or to. */
typedef struct {
    double timestep;
    sp_pair at;    /* the latent's */
    sp_pair to;    /* the same, of a table made of the ratio: where steps in lambda end */
    sp_pair state; /* the sampler's state: a latent, or with SP_GRID_SCALED one of the path's kind that stays finite */
    double ratio;  /* sigma/alpha, exp(-lambda) of DPM-Solver; infinite where a flow begins */
} sp_grid_point;

/* The steps of a sampler: from point[i] to point[i + 1], of which those from `first` on are taken. */
typedef struct {
    const sp_scheduler_config *config;
    const sp_sampler_options *options;
    sp_sigmas sigmas;
    sp_timestep_spacing spacing; /* sp_sampler_spacing */
    int steps, first;
    sp_grid_point *point; /* steps + 1; the last is the end */
} sp_sampler_grid;

/* How a kind's grid is laid. */
enum {
    SP_GRID_OWN = 1,      /* timesteps from M points instead of all */
    SP_GRID_ONE_MORE = 2, /* but for trailing ones, one point more, the lowest, is left out */
    SP_GRID_SCALED = 4,   /* the state is z/alpha, its pair (1, ratio), or of a flow z; linspace timesteps are not
                             rounded */
    SP_GRID_SIGMAS = 8,   /* takes Karras and exponential sigmas */
    SP_GRID_FINAL = 16,   /* may end at the sigma of timestep 0 */
    SP_GRID_RATIO = 32,   /* computes with sigma/alpha */
};

/* What is left of `count` when starting from a picture; truncated as diffusers does, so that 50 * .58
 * is 28. Of a flow it is what is left out that is truncated, so that of 10 * .58 it is 6. */
int sp_sampler_part_of(const sp_path *path, int count, const sp_sampler_options *options);
/* Fills grid->point. `name` is the sampler's, for messages. SP_ARGUMENT if the first timestep is none of
 * the model's. */
sp_status sp_sampler_make_grid(sp_sampler_grid *grid, unsigned flags, const char *name);

/* Adds `factor` times a combination. */
void sp_combination_add(sp_combination *to, double factor, const sp_combination *what);
/* What a network says of a state z = alpha x0 + sigma noise. */
typedef struct {
    sp_combination x0, noise;
} sp_estimates;
sp_estimates sp_sampler_estimates(const sp_sampler_grid *grid, sp_pair pair);

/* The rows of step i into row[0..], whose number is returned; row->timestep, row->input_scale and
 * row->clean are set for the first. */
int sp_lcm_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_ddim_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_tcd_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_euler_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_euler_a_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_heun_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_dpm_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
int sp_unipc_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row);

#endif
