/* Timesteps and sigmas: the points that a sampler steps through. */
#include <math.h>
#include "diffusion/sampler_parts.h"

int sp_sampler_part_of(const sp_path *path, int count, const sp_sampler_options *options)
{
    double part = count * options->strength;
    if (options->strength <= 0) return count;
    return path->kind == SP_PATH_FLOW ? count - (int)(count - part) : (int)part;
}

/* ---- timesteps ---- */

/* `points` timesteps, highest first, of which the first `count` are used; rounding halves to even, as
 * NumPy does. */
static void spread(const sp_scheduler_config *config, sp_timestep_spacing spacing, int points, int count,
                   bool rounded, sp_grid_point *point)
{
    int timesteps = config->path.timesteps;
    /* NumPy's arange(T, 0, -T/n) adds multiples of the difference of its first two elements. */
    double trailing = ((double)timesteps - (double)timesteps / count) - (double)timesteps;
    double linear = points > 1 ? (double)(timesteps - 1) / (points - 1) : 0;
    for (int i = 0; i < count; i++) {
        int back = points - 1 - i;
        double t = back * linear;
        if (points > 1 && back == points - 1) t = timesteps - 1;
        if (spacing == SP_SPACING_LEADING) t = (double)back * (timesteps / points) + config->steps_offset;
        if (spacing == SP_SPACING_TRAILING) t = rint((double)timesteps + i * trailing) - 1;
        point[i].timestep = rounded ? rint(t) : (double)(float)t;
    }
}

/* From the lowest `original` of M equidistant training timesteps, k-1, 2k-1, ..., as evenly as can be. */
static void own_timesteps(const sp_sampler_grid *grid, int original)
{
    const sp_sampler_options *options = grid->options;
    int k = grid->config->path.timesteps / grid->config->original_steps;
    double stride = options->old_grid ? original / options->steps : (double)original / options->steps;
    for (int i = 0; i < options->steps; i++)
        grid->point[i].timestep = (original - (int)floor(i * stride)) * k - 1;
}

/* The ticks of diffusers' FlowMatchEulerDiscreteScheduler go evenly from T to the timestep of tick 1, which is
 * shifted so a second time. DDIM, lcm and tcd go along the even parts that students are sampled at, lcm with a strength
 * along those of the way that is left. */
static void flow_timesteps(const sp_sampler_grid *grid, unsigned flags)
{
    const sp_path *path = &grid->config->path;
    const sp_sampler_options *o = grid->options;
    bool even = o->kind == SP_SAMPLER_DDIM || flags & SP_GRID_OWN;
    double first = path->timesteps, last = sp_path_timestep(path, 1);
    double way = o->kind == SP_SAMPLER_LCM && o->strength > 0 ? first * o->strength : first;
    for (int i = 0; i < grid->steps; i++) {
        double part = way * (grid->steps - i) / grid->steps;
        double twice = grid->steps > 1 ? first + (last - first) * i / (grid->steps - 1) : first;
        grid->point[i].timestep = sp_path_timestep(path, even ? part : twice);
    }
}

static void set_timesteps(const sp_sampler_grid *grid, unsigned flags)
{
    const sp_scheduler_config *config = grid->config;
    sp_sampler_kind kind = grid->options->kind;
    sp_timestep_spacing spacing = grid->spacing;
    int more = flags & SP_GRID_ONE_MORE && spacing != SP_SPACING_TRAILING;
    if (config->path.kind == SP_PATH_FLOW)
        flow_timesteps(grid, flags);
    else if (flags & SP_GRID_OWN)
        own_timesteps(grid, kind == SP_SAMPLER_LCM
                                ? sp_sampler_part_of(&config->path, config->original_steps, grid->options)
                                : config->original_steps);
    else
        spread(config, spacing, grid->steps + more, grid->steps,
               !(flags & SP_GRID_SCALED) || spacing != SP_SPACING_LINSPACE, grid->point);
}

/* ---- sigmas ---- */

/* The pair of norm 1. */
static sp_pair at_ratio(double ratio)
{
    double alpha = 1 / sqrt(1 + ratio * ratio);
    return (sp_pair){alpha, ratio * alpha};
}

/* Between two ratios: Karras et al. 2022, equation 5 with rho = 7, or evenly in the logarithm. */
static double sigma_between(sp_sigmas sigmas, double highest, double lowest, double part)
{
    const double rho = 7;
    if (part == 0) return highest;
    if (part == 1) return lowest;
    if (sigmas == SP_SIGMAS_EXPONENTIAL) return exp(log(highest) + part * (log(lowest) - log(highest)));
    double from = pow(highest, 1 / rho), to = pow(lowest, 1 / rho);
    return pow(from + part * (to - from), rho);
}

/* Sigmas first, and for each the timestep that has it. DPM-Solver and UniPC go from one end of the
 * schedule to the other and round: Karras' to the nearest, exponential ones down, but for what is a
 * whole number up to rounding. The others go between the ends of their timesteps, and do not round. */
static void set_sigmas(const sp_sampler_grid *grid, unsigned flags)
{
    const sp_path *path = &grid->config->path;
    bool whole = !(flags & SP_GRID_SCALED);
    double first = whole ? path->timesteps - 1 : grid->point[0].timestep, highest = sp_path_ratio(path, first);
    double lowest = sp_path_ratio(path, whole ? 0 : grid->point[grid->steps - 1].timestep);
    for (int i = 0; i < grid->steps; i++) {
        sp_grid_point *p = &grid->point[i];
        p->ratio = sigma_between(grid->sigmas, highest, lowest, grid->steps > 1 ? (double)i / (grid->steps - 1) : 0);
        p->at = at_ratio(p->ratio);
        double t = i > 0 ? sp_path_timestep_of(path, (sp_pair){1, p->ratio}) : first;
        p->timestep = !whole                              ? (double)(float)t
                      : grid->sigmas == SP_SIGMAS_KARRAS ? rint(t)
                                                          : floor(t + 1e-6);
    }
}

/* Where a sampler computes with sigma/alpha, a latent without signal counts as one with as little as
 * sp_path_ratio says, as in diffusers. */
static void set_pairs(const sp_path *path, unsigned flags, sp_grid_point *p)
{
    p->at = sp_path_at(path, p->timestep);
    p->ratio = sp_path_ratio(path, p->timestep);
    if (p->at.alpha == 0 && flags & SP_GRID_RATIO && isfinite(p->ratio)) p->at = at_ratio(p->ratio);
}

static sp_grid_point end_point(const sp_sampler_grid *grid, unsigned flags)
{
    bool above = flags & SP_GRID_FINAL && grid->config->final_sigma_min;
    double ratio = above ? sp_path_ratio(&grid->config->path, 0) : 0;
    return (sp_grid_point){.at = at_ratio(ratio), .ratio = ratio};
}

sp_status sp_sampler_make_grid(sp_sampler_grid *grid, unsigned flags, const char *name)
{
    const sp_path *path = &grid->config->path;
    set_timesteps(grid, flags);
    if (grid->point[0].timestep > sp_path_last(path))
        return sp_fail(SP_ARGUMENT, "%d steps of %s begin at timestep %g, and the model's last is %d", grid->steps,
                       name, grid->point[0].timestep, sp_path_last(path));
    for (int i = 0; i < grid->steps; i++)
        set_pairs(path, flags, &grid->point[i]);
    if (grid->sigmas > SP_SIGMAS_NORMAL) set_sigmas(grid, flags);
    grid->point[grid->steps] = end_point(grid, flags);
    for (int i = 0; i <= grid->steps; i++) {
        sp_grid_point *p = &grid->point[i];
        bool table = path->kind != SP_PATH_FLOW;
        p->to = table ? at_ratio(p->ratio) : p->at;
        p->state = table && flags & SP_GRID_SCALED ? (sp_pair){1, p->ratio} : p->at;
    }
    return SP_OK;
}
