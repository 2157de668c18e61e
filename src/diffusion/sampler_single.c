/* Samplers whose steps look at nothing but the last evaluations of their own: lcm, ddim, tcd, euler,
 * euler-a, heun. */
#include <math.h>
#include "diffusion/sampler_parts.h"

int sp_lcm_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i], *next = p + 1; /* the end: alpha 1, sigma 0 */
    sp_estimates e = sp_sampler_estimates(grid, p->at);
    sp_boundary boundary = sp_path_boundary(&grid->config->path, p->timestep);
    double weight = next->at.alpha; /* of the bounded estimate, skip z + out x0 */
    row->next.fresh = next->at.sigma;
    row->next.z = weight * boundary.skip;
    sp_combination_add(&row->next, weight * boundary.out, &e.x0);
    return 1;
}

/* alpha' x0 + sigma' noise. */
static void set_step(const sp_estimates *e, sp_pair to, sp_sampler_step *row)
{
    sp_combination_add(&row->next, to.alpha, &e->x0);
    sp_combination_add(&row->next, to.sigma, &e->noise);
}

/* T/n back whatever the spacing, as diffusers has it, not the next point of the grid; a flow's is that. */
static sp_pair ddim_end(const sp_sampler_grid *grid, int i)
{
    const sp_path *path = &grid->config->path;
    if (path->kind == SP_PATH_FLOW) return grid->point[i + 1].at;
    int next = (int)grid->point[i].timestep - path->timesteps / grid->steps;
    if (next < 0 && grid->config->alpha_to_one) return (sp_pair){1, 0};
    return sp_path_at(path, next);
}

/* eta = 1: the spread of the latent at `to` where the one at `from` and the clean one are known. */
static double ddim_fresh(const sp_sampler_grid *grid, sp_pair from, sp_pair to)
{
    double down = from.alpha / to.alpha * to.sigma, rest = from.sigma * from.sigma - down * down;
    return rest > 0 ? grid->options->eta * to.sigma / from.sigma * sqrt(rest) : 0;
}

int sp_ddim_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    sp_pair from = grid->point[i].at, to = ddim_end(grid, i);
    double fresh = ddim_fresh(grid, from, to);
    sp_estimates e = sp_sampler_estimates(grid, from);
    if (fresh > 0) to.sigma = sqrt(to.sigma * to.sigma - fresh * fresh);
    set_step(&e, to, row);
    row->next.fresh = fresh;
    return 1;
}

/* To s = (1 - eta) t', rounded down to a timestep of a table, and from there up to t', but for the last step, which
 * ends at s = t' = 0. */
int sp_tcd_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_path *path = &grid->config->path;
    const sp_grid_point *p = &grid->point[i];
    double eta = grid->options->eta, next = i + 1 < grid->steps ? p[1].timestep : 0, s = (1 - eta) * next;
    if (path->kind != SP_PATH_FLOW) s = (int)((float)(1 - eta) * (float)next); /* as PyTorch multiplies integers */
    sp_pair up = sp_path_transition(path, s, next), to = sp_path_at(path, s);
    sp_estimates e = sp_sampler_estimates(grid, p->at);
    set_step(&e, (sp_pair){up.alpha * to.alpha, up.alpha * to.sigma}, row);
    row->next.fresh = s < next ? up.sigma : 0;
    return 1;
}

/* ---- on a scaled state ---- */

/* The network is shown the latent of norm 1. */
static double input_scale(const sp_sampler_grid *grid, const sp_grid_point *p)
{
    return 1 / sp_path_norm(&grid->config->path, p->state);
}

int sp_euler_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i];
    sp_estimates e = sp_sampler_estimates(grid, p->state);
    row->input_scale = input_scale(grid, p);
    set_step(&e, p[1].state, row);
    return 1;
}

/* To sqrt(ratio'^2 - up^2), up = ratio' sqrt(1 - ratio'^2/ratio^2), and fresh noise of size up. */
int sp_euler_a_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i];
    double next = p[1].ratio, part = next / p->ratio;
    sp_estimates e = sp_sampler_estimates(grid, p->state);
    row->input_scale = input_scale(grid, p);
    set_step(&e, (sp_pair){p[1].state.alpha, next * part}, row);
    row->next.fresh = next * sqrt(1 - part * part);
    return 1;
}

/* Half of what Euler's step adds: the change of the pair. */
static void add_half(const sp_estimates *e, const sp_grid_point *p, sp_combination *to)
{
    sp_combination_add(to, (p[1].state.alpha - p->state.alpha) / 2, &e->x0);
    sp_combination_add(to, (p[1].state.sigma - p->state.sigma) / 2, &e->noise);
}

/* Euler's step, keeping what half of it would give; there the other half is taken with what is found at its
 * end. The last step, to sigma 0, is Euler's alone. */
int sp_heun_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i], *next = p + 1;
    sp_estimates e = sp_sampler_estimates(grid, p->state);
    row->input_scale = input_scale(grid, p);
    set_step(&e, next->state, row);
    if (i + 1 == grid->steps) return 1;
    row->keep[0].z = 1;
    add_half(&e, p, &row->keep[0]);
    e = sp_sampler_estimates(grid, next->state);
    row[1] = (sp_sampler_step){
        .timestep = next->timestep, .input_scale = input_scale(grid, next), .next.kept[0] = 1, .clean = e.x0};
    add_half(&e, p, &row[1].next);
    return 2;
}
