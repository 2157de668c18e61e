/* The numbers of a distillation step: sub-paths, draws, coefficients. */
#include "diffusion/objective.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/random.h"

#define X(name, text) text,
static const char *const objective_names[] = {SP_OBJECTIVE_LIST(X)};
static const char *const sigma_names[] = {SP_SIGMA_LIST(X)};
static const char *const conditioning_names[] = {SP_GAMMA_CONDITIONING_LIST(X)};
#undef X

static sp_status index_of(const char *what, const char *name, const char *const *names, int count,
                          int *out)
{
    char choices[256] = "";
    for (*out = 0; *out < count; ++*out) {
        if (strcmp(name, names[*out]) == 0) return SP_OK;
        size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s%s", used ? ", " : "", names[*out]);
    }
    return sp_fail(SP_ARGUMENT, "%s \"%s\" is not known, expected one of: %s", what, name, choices);
}

const char *sp_objective_name(sp_objective objective)
{
    return objective_names[objective];
}

const char *sp_sigma_name(sp_sigma_form sigma)
{
    return sigma_names[sigma];
}

const char *sp_gamma_conditioning_name(sp_gamma_conditioning conditioning)
{
    return conditioning_names[conditioning];
}

sp_status sp_objective_of(const char *name, sp_objective *out)
{
    int index;
    SP_TRY(index_of("objective", name, objective_names, SP_OBJECTIVE_COUNT, &index));
    *out = (sp_objective)index;
    return SP_OK;
}

sp_status sp_sigma_of(const char *name, sp_sigma_form *out)
{
    int index;
    SP_TRY(index_of("sigma", name, sigma_names, SP_SIGMA_COUNT, &index));
    *out = (sp_sigma_form)index;
    return SP_OK;
}

sp_status sp_gamma_conditioning_of(const char *name, sp_gamma_conditioning *out)
{
    int index;
    SP_TRY(index_of("gamma conditioning", name, conditioning_names, SP_GAMMA_CONDITIONING_COUNT,
                    &index));
    *out = (sp_gamma_conditioning)index;
    return SP_OK;
}

sp_subpath sp_subpath_at(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                         int index, double gamma)
{
    int k = schedule->timesteps / settings->ddim_timesteps;
    int start = k * (index + 1) - 1;
    int end = start - settings->skip;
    return (sp_subpath){.start = start, .end = end > 0 ? end : 0, .gamma = gamma};
}

void sp_subpath_draw(const sp_objective_settings *settings, uint64_t seed, uint64_t step,
                     uint64_t sample, int64_t *index, double *gamma)
{
    sp_random_key key = {.seed = seed, .stream = SP_STREAM_SUBPATH, .step = step, .sample = sample};
    *index = (int64_t)sp_random_below(key, (uint64_t)settings->ddim_timesteps);
    float uniform[2];
    key.stream = SP_STREAM_GAMMA;
    sp_random_uniform(key, uniform, 2);
    bool one = settings->objective == SP_OBJECTIVE_LCM ||
               (double)uniform[1] < settings->gamma_one_probability;
    *gamma = one ? 1.0 : pow((double)uniform[0], settings->gamma_power);
}

/* The teacher's DDIM steps from s to e, each z' = alpha' clean + sigma' noise with both estimates
 * guided. Guidance is linear, so it may be applied to the network's output: m = m_cond + w (m_cond
 * - m_uncond). */
static void solver_coefficients(const sp_objective_settings *settings,
                                const sp_noise_schedule *schedule, sp_subpath path,
                                sp_coefficients *c)
{
    int from = path.start, steps = settings->solver_steps;
    for (int j = 0; j < steps; j++) {
        int to = path.start - (int)floor((double)(j + 1) * settings->skip / steps + 0.5);
        if (to < path.end || j + 1 == steps) to = path.end;
        sp_estimate estimate =
            sp_estimate_from(schedule->prediction, sp_schedule_alpha(schedule, from),
                             sp_schedule_sigma(schedule, from));
        double alpha = sp_schedule_alpha(schedule, to), sigma = sp_schedule_sigma(schedule, to);
        double z = alpha * estimate.clean_z + sigma * estimate.noise_z;
        double m = alpha * estimate.clean_m + sigma * estimate.noise_m;
        if (to == from) z = 1, m = 0; /* the sub-path ended early, at timestep 0 */
        c->solver_timestep[j] = from;
        c->solver_z[j] = z;
        c->solver_cond[j] = (1 + settings->guidance_w) * m;
        c->solver_uncond[j] = -settings->guidance_w * m;
        from = to;
    }
}

sp_coefficients sp_subpath_coefficients(const sp_objective_settings *settings,
                                        const sp_noise_schedule *schedule, sp_subpath path)
{
    int s = path.start, e = path.end;
    double gamma = path.gamma;
    double alpha_s = sp_schedule_alpha(schedule, s), sigma_s = sp_schedule_sigma(schedule, s);
    double alpha_e = sp_schedule_alpha(schedule, e), sigma_e = sp_schedule_sigma(schedule, e);
    double rho = alpha_s / alpha_e; /* the drift */
    double sigma_g = settings->sigma == SP_SIGMA_LINEAR
                         ? gamma * sigma_s + (1 - gamma) * rho * sigma_e
                         : sqrt(rho * rho * sigma_e * sigma_e + gamma * gamma * (1 - rho * rho));
    sp_coefficients c = {.start_clean = alpha_s, .start_noise = sigma_s};
    solver_coefficients(settings, schedule, path, &c);

    sp_estimate at_end = sp_estimate_from(schedule->prediction, alpha_e, sigma_e);
    c.target_timestep = e;
    c.target_z = sp_boundary_skip(e) + sp_boundary_out(e) * at_end.clean_z;
    c.target_m = sp_boundary_out(e) * at_end.clean_m;

    c.position_start = gamma;
    c.position_end = (1 - gamma) * rho;
    sp_estimate at_position = sp_estimate_from(schedule->prediction, alpha_s, sigma_g);
    c.prediction_z = sp_boundary_skip(s) + sp_boundary_out(s) * at_position.clean_z;
    c.prediction_m = sp_boundary_out(s) * at_position.clean_m;
    c.student_scale = 1;
    c.student_timestep = s;
    if (settings->conditioning == SP_GAMMA_TIME && gamma < 1) {
        c.student_scale = 1 / sqrt(alpha_s * alpha_s + sigma_g * sigma_g);
        c.student_timestep = sp_schedule_timestep_of(schedule, log(alpha_s / sigma_g));
    }
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
    bool guided = sp_objective_is_guided(settings);
#define X(name) SP_TRY(set_one(run, #name, -1, &samples->name, stride, batch));
    SP_COEFFICIENT_LIST(X)
#undef X
    for (int j = 0; j < settings->solver_steps; j++) {
#define X(name)                                                                                    \
    if (guided || strcmp(#name, "solver_uncond") != 0)                                             \
        SP_TRY(set_one(run, #name, j, &samples->name[j], stride, batch));
        SP_SOLVER_COEFFICIENT_LIST(X)
#undef X
    }
    return SP_OK;
}
