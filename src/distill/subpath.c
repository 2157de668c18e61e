/* The numbers of a distillation step: sub-paths, draws, coefficients. */
#include <math.h>
#include <stdio.h>
#include "distill/objective.h"

/* ---- sub-paths ---- */

/* Point i of `count` equal parts of the schedule, as DDIM's trailing timesteps; 0 for i = 0. */
static int trailing(const sp_noise_schedule *schedule, int i, int count)
{
    return i > 0 ? (int)rint((double)i * schedule->timesteps / count) - 1 : 0;
}

static int lower_edge(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                      int start)
{
    int p = settings->phases - 1;
    while (p > 0 && trailing(schedule, p, settings->phases) >= start)
        p--;
    return trailing(schedule, p, settings->phases);
}

static sp_subpath grid_subpath(const sp_objective_settings *settings,
                               const sp_noise_schedule *schedule, int index)
{
    int n = settings->solver_steps, fine = n * settings->ddim_timesteps;
    sp_subpath path = {.gamma = 1};
    for (int j = 0; j <= n; j++)
        path.point[j] = trailing(schedule, n * (index + 1) - j, fine);
    path.start = path.point[0];
    path.end = path.target = path.point[n];
    return path;
}

sp_subpath sp_subpath_at(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                         int index)
{
    if (settings->objective == SP_OBJECTIVE_PROGRESSIVE)
        return grid_subpath(settings, schedule, index);
    int k = schedule->timesteps / settings->ddim_timesteps, n = settings->solver_steps;
    sp_subpath path = {.start = k * (index + 1) - 1, .gamma = 1};
    if (settings->objective == SP_OBJECTIVE_PCM)
        path.target = lower_edge(settings, schedule, path.start);
    path.end = path.start - settings->skip;
    if (path.end < path.target) path.end = path.target;
    for (int j = 0; j <= n; j++) {
        int point = path.start - (int)floor((double)j * settings->skip / n + 0.5);
        path.point[j] = point < path.end || j == n ? path.end : point;
    }
    return path;
}

double sp_gamma_draw(const sp_gamma_distribution *distribution, sp_random_key key)
{
    float uniform[2];
    sp_random_uniform(key, uniform, 2);
    if ((double)uniform[1] < distribution->one_probability) return 1;
    double x = pow((double)uniform[0], distribution->power);
    int n = distribution->grid;
    return n > 0 ? fmin(floor(n * x) + 1, n) / n : x;
}

sp_subpath sp_subpath_draw(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                           uint64_t seed, uint64_t step, uint64_t sample)
{
    sp_random_key key = {.seed = seed, .stream = SP_STREAM_SUBPATH, .step = step, .sample = sample};
    int index = (int)sp_random_below(key, (uint64_t)settings->ddim_timesteps);
    sp_subpath path = sp_subpath_at(settings, schedule, index);
    key.stream = SP_STREAM_GAMMA;
    path.gamma = sp_gamma_draw(&settings->gamma, key);
    key.stream = SP_STREAM_END;
    if (settings->objective == SP_OBJECTIVE_TCD)
        path.target = (int)sp_random_below(key, (uint64_t)path.end + 1);
    return path;
}

/* ---- coefficients ---- */

/* What stands in front of a network's input and output. */
typedef struct {
    double z, m;
} pair;

/* alpha x0 + sigma eps. */
static pair combined(sp_estimate estimate, double alpha, double sigma)
{
    return (pair){alpha * estimate.clean_z + sigma * estimate.noise_z,
                  alpha * estimate.clean_m + sigma * estimate.noise_m};
}

static sp_estimate estimate_at(const sp_noise_schedule *schedule, int t)
{
    return sp_estimate_from(schedule->prediction, sp_schedule_alpha(schedule, t),
                            sp_schedule_sigma(schedule, t));
}

/* f(z, t -> u), or for splam and lcm c_skip(t) z + c_out(t) x0. */
static pair consistency(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                        sp_estimate estimate, int t, int u)
{
    if (settings->objective == SP_OBJECTIVE_PCM || settings->objective == SP_OBJECTIVE_TCD)
        return combined(estimate, sp_schedule_alpha(schedule, u), sp_schedule_sigma(schedule, u));
    return (pair){sp_boundary_skip(t) + sp_boundary_out(t) * estimate.clean_z,
                  sp_boundary_out(t) * estimate.clean_m};
}

/* The teacher's DDIM steps from s to e, each z' = alpha' clean + sigma' noise with both estimates
 * guided. Guidance is linear, so it may be applied to the network's output: m = m_cond + w (m_cond
 * - m_uncond). */
static void solver_coefficients(const sp_objective_settings *settings,
                                const sp_noise_schedule *schedule, sp_subpath path,
                                sp_coefficients *c)
{
    double w = settings->guidance_w;
    for (int j = 0; j < settings->solver_steps; j++) {
        int from = path.point[j], to = path.point[j + 1];
        pair step = combined(estimate_at(schedule, from), sp_schedule_alpha(schedule, to),
                             sp_schedule_sigma(schedule, to));
        if (to == from) step = (pair){1, 0}; /* the sub-path ended early */
        c->solver_timestep[j] = from;
        c->solver_z[j] = step.z;
        c->solver_cond[j] = (1 + w) * step.m;
        c->solver_uncond[j] = -w * step.m;
    }
}

/* The one step over the whole sub-path that ends where the teacher's steps end. */
static void progressive_coefficients(const sp_noise_schedule *schedule, sp_subpath path,
                                     sp_coefficients *c)
{
    double alpha_s = sp_schedule_alpha(schedule, path.start),
           sigma_s = sp_schedule_sigma(schedule, path.start);
    double alpha_e = sp_schedule_alpha(schedule, path.end),
           sigma_e = sp_schedule_sigma(schedule, path.end);
    double weight = fmax(alpha_s / sigma_s, 1), ratio = sigma_e / sigma_s;
    double moved = alpha_e - ratio * alpha_s; /* above 0: n N points never share a timestep */
    sp_estimate estimate = estimate_at(schedule, path.start);
    c->prediction_z = weight * estimate.clean_z;
    c->prediction_m = weight * estimate.clean_m;
    c->target_start = -weight * ratio / moved;
    c->target_end = weight / moved;
}

/* The position on the sub-path, and what the student makes of it. */
static void position_coefficients(const sp_objective_settings *settings,
                                  const sp_noise_schedule *schedule, sp_subpath path,
                                  sp_coefficients *c)
{
    int s = path.start, e = path.end;
    double gamma = path.gamma;
    double alpha_s = sp_schedule_alpha(schedule, s), sigma_s = sp_schedule_sigma(schedule, s);
    double rho = alpha_s / sp_schedule_alpha(schedule, e); /* the drift */
    double end = rho * sp_schedule_sigma(schedule, e);
    double sigma_g = gamma == 1 ? sigma_s
                     : settings->sigma == SP_SIGMA_LINEAR
                         ? gamma * sigma_s + (1 - gamma) * end
                         : sqrt(end * end + gamma * gamma * (1 - rho * rho));
    pair p = consistency(settings, schedule,
                         sp_estimate_from(schedule->prediction, alpha_s, sigma_g), s, path.target);
    c->position_start = gamma;
    c->position_end = (1 - gamma) * rho;
    c->prediction_z = p.z;
    c->prediction_m = p.m;
    c->student_scale = 1;
    c->student_timestep = s;
    if (settings->conditioning == SP_GAMMA_TIME && gamma < 1) {
        c->student_scale = 1 / sqrt(alpha_s * alpha_s + sigma_g * sigma_g);
        c->student_timestep = sp_schedule_timestep_of(schedule, log(alpha_s / sigma_g));
    }
}

sp_coefficients sp_subpath_coefficients(const sp_objective_settings *settings,
                                        const sp_noise_schedule *schedule, sp_subpath path)
{
    sp_coefficients c = {.start_clean = sp_schedule_alpha(schedule, path.start),
                         .start_noise = sp_schedule_sigma(schedule, path.start)};
    solver_coefficients(settings, schedule, path, &c);
    position_coefficients(settings, schedule, path, &c);
    if (settings->objective == SP_OBJECTIVE_PROGRESSIVE) {
        progressive_coefficients(schedule, path, &c);
        return c;
    }
    pair f =
        consistency(settings, schedule, estimate_at(schedule, path.end), path.end, path.target);
    c.target_timestep = path.end;
    c.target_end = f.z;
    c.target_m = f.m;
    return c;
}

static sp_status set_one(sp_run *run, const char *name, int solver_step, const double *first,
                         int64_t stride, int64_t batch)
{
    char text[64];
    snprintf(text, sizeof text, solver_step < 0 ? "%s" : "%s.%d", name, solver_step);
    sp_tensor values = {0};
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch), &values));
    for (int64_t i = 0; i < batch; i++)
        ((float *)values.data)[i] = (float)*(const double *)((const char *)first + i * stride);
    sp_status status = sp_run_set_input(run, text, &values);
    sp_tensor_free(&values);
    return status;
}

sp_status sp_objective_set_coefficients(sp_run *run, const sp_objective_settings *settings,
                                        const sp_coefficients *samples, int64_t batch)
{
    const int64_t stride = sizeof *samples;
#define X(name) SP_TRY(set_one(run, #name, -1, &samples->name, stride, batch));
    SP_COEFFICIENT_LIST(X)
    if (sp_objective_asks_average(settings)) {
        SP_AVERAGE_COEFFICIENT_LIST(X)
    }
#undef X
    for (int j = 0; j < settings->solver_steps; j++) {
#define X(name) SP_TRY(set_one(run, #name, j, &samples->name[j], stride, batch));
        SP_SOLVER_COEFFICIENT_LIST(X)
        if (sp_objective_is_guided(settings)) {
            SP_GUIDED_COEFFICIENT_LIST(X)
        }
#undef X
    }
    return SP_OK;
}
