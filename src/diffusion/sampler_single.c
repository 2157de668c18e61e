/* Samplers whose steps look at nothing but the last evaluations of their own: lcm, ddim, tcd, euler,
 * euler-a, heun. */
#include <math.h>
#include "diffusion/sampler_parts.h"

int sp_lcm_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i], *next = p + 1; /* the end: alpha 1, sigma 0 */
    sp_estimates e = sp_sampler_estimates(grid, p->alpha, p->sigma);
    double weight = next->alpha; /* of the bounded estimate, skip z + out clean */
    if (grid->options->deterministic) {
        row->next.z = next->sigma / p->sigma;
        weight -= next->sigma * p->alpha / p->sigma;
    } else {
        row->next.fresh = next->sigma;
    }
    row->next.z += weight * sp_boundary_skip(p->timestep);
    sp_combination_add(&row->next, weight * sp_boundary_out(p->timestep), &e.clean);
    return 1;
}

int sp_ddim_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_noise_schedule *schedule = &grid->config->schedule;
    const sp_grid_point *p = &grid->point[i];
    /* T/n back whatever the spacing, as diffusers has it, not the next point of the grid. */
    int next = (int)p->timestep - schedule->timesteps / grid->steps;
    double abar = next >= 0                    ? schedule->alphas_cumprod[next]
                  : grid->config->alpha_to_one ? 1
                                               : schedule->alphas_cumprod[0];
    sp_estimates e = sp_sampler_estimates(grid, p->alpha, p->sigma);
    sp_combination_add(&row->next, sqrt(abar), &e.clean);
    sp_combination_add(&row->next, sqrt(1 - abar), &e.noise);
    return 1;
}

/* To x_s = alpha_s clean + sigma_s noise, and from there up to t': sqrt(abar_t'/abar_s) x_s +
 * sqrt(1 - abar_t'/abar_s) fresh, but for the last step, which ends at s = t' = 0. */
int sp_tcd_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_noise_schedule *schedule = &grid->config->schedule;
    const sp_grid_point *p = &grid->point[i];
    double eta = grid->options->deterministic ? 0 : grid->options->eta;
    int next = i + 1 < grid->steps ? (int)p[1].timestep : 0;
    int s = (int)((float)(1 - eta) * (float)next); /* in float, as PyTorch multiplies integers */
    double abar_next = schedule->alphas_cumprod[next], abar_s = schedule->alphas_cumprod[s];
    double kept = sqrt(abar_next / abar_s);
    sp_estimates e = sp_sampler_estimates(grid, p->alpha, p->sigma);
    sp_combination_add(&row->next, kept * sqrt(abar_s), &e.clean);
    sp_combination_add(&row->next, kept * sqrt(1 - abar_s), &e.noise);
    row->next.fresh = s < next ? sqrt(1 - abar_next / abar_s) : 0;
    return 1;
}

/* ---- on the state z/alpha, whose pair is (1, ratio) ---- */

/* What a network sees of the state. */
static double input_scale(const sp_grid_point *p)
{
    return 1 / sqrt(1 + p->ratio * p->ratio);
}

/* clean + ratio' noise, which is Euler's step. */
static void set_euler(const sp_estimates *e, double ratio, sp_sampler_step *row)
{
    sp_combination_add(&row->next, 1, &e->clean);
    sp_combination_add(&row->next, ratio, &e->noise);
}

int sp_euler_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i];
    sp_estimates e = sp_sampler_estimates(grid, 1, p->ratio);
    row->input_scale = input_scale(p);
    set_euler(&e, p[1].ratio, row);
    return 1;
}

/* To sqrt(ratio'^2 - up^2), up = ratio' sqrt(1 - ratio'^2/ratio^2), and fresh noise of size up. */
int sp_euler_a_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i];
    double next = p[1].ratio, part = next / p->ratio;
    double up = grid->options->deterministic ? 0 : next * sqrt(1 - part * part);
    sp_estimates e = sp_sampler_estimates(grid, 1, p->ratio);
    row->input_scale = input_scale(p);
    set_euler(&e, grid->options->deterministic ? next : next * part, row);
    row->next.fresh = up;
    return 1;
}

/* Euler's step, keeping what half of it would give; there the other half is taken with the noise that
 * is found at its end. The last step, to 0, is Euler's alone. */
int sp_heun_rows(const sp_sampler_grid *grid, int i, sp_sampler_step *row)
{
    const sp_grid_point *p = &grid->point[i], *next = p + 1;
    sp_estimates e = sp_sampler_estimates(grid, 1, p->ratio);
    row->input_scale = input_scale(p);
    set_euler(&e, next->ratio, row);
    if (i + 1 == grid->steps) return 1;
    double half = (next->ratio - p->ratio) / 2;
    row->keep[0].z = 1;
    sp_combination_add(&row->keep[0], half, &e.noise);
    e = sp_sampler_estimates(grid, 1, next->ratio);
    row[1] = (sp_sampler_step){.timestep = next->timestep, .input_scale = input_scale(next), .next.kept[0] = 1};
    sp_combination_add(&row[1].next, half, &e.noise);
    return 2;
}
