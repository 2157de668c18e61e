/* One evaluation as a map, and the edges of phases. */
#include "diffusion/map.h"
#include <math.h>
#include "diffusion/sampler_parts.h"

int sp_phase_edge(const sp_path *path, int i, int count)
{
    return i > 0 ? (int)rint((double)i * path->timesteps / count) - path->timesteps + sp_path_last(path) : 0;
}

int sp_phase_edge_below(const sp_path *path, double timestep, int count)
{
    int i = count - 1;
    while (i > 0 && sp_path_timestep(path, sp_phase_edge(path, i, count)) >= timestep)
        i--;
    return sp_phase_edge(path, i, count);
}

static sp_pair end_of(const sp_scheduler_config *config, double timestep)
{
    const sp_path *path = &config->path;
    if (config->student == SP_STUDENT_TCD) return sp_path_at(path, 0);
    if (config->student != SP_STUDENT_DDIM) return (sp_pair){1, 0};
    int edge = sp_phase_edge_below(path, timestep, config->distilled_steps);
    return sp_path_at(path, sp_path_timestep(path, edge));
}

sp_status sp_map_at(const sp_scheduler_config *config, double timestep, sp_map *out)
{
    const sp_path *path = &config->path;
    *out = (sp_map){.timestep = timestep, .from = sp_path_at(path, timestep), .to = end_of(config, timestep)};
    const sp_estimate e = sp_estimate_from(path->prediction, out->from);
    const sp_combination clean = {.z = e.x0_z, .m = e.x0_m};
    sp_combination *f = &out->row.next;
    out->row.timestep = timestep;
    out->row.input_scale = 1;
    out->row.clean = clean;
    double x0 = out->to.alpha;
    if (config->student == SP_STUDENT_LCM) {
        sp_boundary boundary = sp_path_boundary(path, timestep);
        f->z = boundary.skip;
        x0 = boundary.out;
    }
    sp_combination_add(f, x0, &clean);
    sp_combination_add(f, out->to.sigma, &(sp_combination){.z = e.noise_z, .m = e.noise_m});
    if (isfinite(f->z) && isfinite(f->m)) return SP_OK;
    return sp_fail(SP_NUMERIC,
                   "%s: timestep %g has no signal, and there the model's prediction_type %s says nothing of the latent",
                   config->where, timestep, sp_prediction_name(path->prediction));
}

bool sp_map_is_otherwise(const sp_scheduler_config *model, const sp_sampler_options *sampler)
{
    return model->student == SP_STUDENT_DDIM && sampler->kind == SP_SAMPLER_DDIM &&
           sampler->steps != model->distilled_steps;
}

sp_sampler sp_map_sampler(sp_map *map)
{
    return (sp_sampler){.count = 1, .step = &map->row};
}
