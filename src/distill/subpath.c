/* The numbers of a distillation step: sub-paths, draws, coefficients. */
#include <math.h>
#include <stdio.h>
#include "diffusion/map.h"
#include "distill/objective.h"

/* ---- sub-paths ---- */

static sp_subpath grid_subpath(const sp_objective_settings *settings, const sp_path *path, int index)
{
    int n = settings->solver_steps, fine = n * settings->ddim_timesteps;
    sp_subpath sub = {.gamma = 1, .guidance_scale_w = settings->guidance_scale_w};
    for (int j = 0; j <= n; j++)
        sub.point[j] = sp_phase_edge(path, n * (index + 1) - j, fine);
    sub.start = sub.point[0];
    sub.end = sub.target = sub.point[n];
    return sub;
}

int sp_subpath_count(const sp_objective_settings *settings, const sp_path *path)
{
    return settings->starts == SP_START_GRID ? settings->ddim_timesteps : path->timesteps;
}

sp_subpath sp_subpath_at(const sp_objective_settings *settings, const sp_path *path, int index)
{
    if (settings->objective == SP_OBJECTIVE_PROGRESSIVE) return grid_subpath(settings, path, index);
    int k = path->timesteps / sp_subpath_count(settings, path), n = settings->solver_steps;
    sp_subpath sub = {.start = k * (index + 1) - path->timesteps + sp_path_last(path),
                      .gamma = 1,
                      .guidance_scale_w = settings->guidance_scale_w};
    if (settings->objective == SP_OBJECTIVE_PCM)
        sub.target = sp_phase_edge_below(path, sp_path_timestep(path, sub.start), settings->phases);
    sub.end = sub.start - settings->skip;
    if (sub.end < sub.target) sub.end = sub.target;
    for (int j = 0; j <= n; j++) {
        int point = sub.start - (int)floor((double)j * settings->skip / n + 0.5);
        sub.point[j] = point < sub.end || j == n ? sub.end : point;
    }
    return sub;
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

/* In float32, as diffusers' scripts draw it. */
static double draw_guidance(const sp_guidance_range *range, sp_random_key key)
{
    float uniform, low = (float)(range->low - 1), high = (float)(range->high - 1);
    sp_random_uniform(key, &uniform, 1);
    return (double)((high - low) * uniform + low);
}

static int draw_index(const sp_objective_settings *settings, const sp_path *path, sp_random_key key)
{
    float x;
    if (settings->starts == SP_START_GRID) return (int)sp_random_below(key, (uint64_t)settings->ddim_timesteps);
    sp_random_normal(key, &x, 1);
    return sp_path_logit_normal_tick(path, (double)x) - 1;
}

sp_subpath sp_subpath_draw(const sp_objective_settings *settings, const sp_path *path, uint64_t seed, uint64_t step,
                           uint64_t sample)
{
    sp_random_key key = {.seed = seed, .stream = SP_STREAM_SUBPATH, .step = step, .sample = sample};
    sp_subpath sub = sp_subpath_at(settings, path, draw_index(settings, path, key));
    key.stream = SP_STREAM_GAMMA;
    sub.gamma = sp_gamma_draw(&settings->gamma, key);
    key.stream = SP_STREAM_GUIDANCE;
    if (settings->guidance.high > 0) sub.guidance_scale_w = draw_guidance(&settings->guidance, key);
    key.stream = SP_STREAM_END;
    if (settings->objective == SP_OBJECTIVE_TCD) sub.target = (int)sp_random_below(key, (uint64_t)sub.end + 1);
    return sub;
}

/* ---- weights of losses ---- */

/* Where timesteps are starts, the lowest sub-path may have none. */
static double inverse_length(sp_subpath sub)
{
    return 1.0 / (sub.start > sub.end ? sub.start - sub.end : 1);
}

/* Its mean over starts that are drawn unevenly. */
static double drawn_inverse_length(const sp_objective_settings *settings, const sp_path *path)
{
    double sum = 0;
    for (int i = 0; i < sp_subpath_count(settings, path); i++) {
        sp_subpath sub = sp_subpath_at(settings, path, i);
        sum += sp_path_logit_normal_share(path, sub.start) * inverse_length(sub);
    }
    return sum;
}

double sp_loss_weight_scale(const sp_objective_settings *settings, const sp_path *path)
{
    double sum = 0;
    if (settings->weighting != SP_WEIGHTING_INVERSE_LENGTH) return 1;
    if (settings->starts == SP_START_LOGIT_NORMAL) return 1 / drawn_inverse_length(settings, path);
    for (int i = 0; i < settings->ddim_timesteps; i++)
        sum += inverse_length(sp_subpath_at(settings, path, i));
    return settings->ddim_timesteps / sum;
}

/* `at`: alpha and sigma of the point where the student stands. */
static double loss_weight(const sp_objective_settings *settings, sp_subpath sub, sp_pair at)
{
    switch (settings->weighting) {
    case SP_WEIGHTING_MIN_SNR:
        return fmin(at.alpha * at.alpha / (at.sigma * at.sigma), settings->snr_gamma);
    case SP_WEIGHTING_INVERSE_LENGTH:
        return inverse_length(sub);
    default:
        return 1;
    }
}

/* ---- coefficients ---- */

/* What stands in front of a network's input and output. */
typedef struct {
    double z, m;
} weights;

/* alpha x0 + sigma noise. */
static weights combined(sp_estimate estimate, sp_pair to)
{
    return (weights){to.alpha * estimate.x0_z + to.sigma * estimate.noise_z,
                     to.alpha * estimate.x0_m + to.sigma * estimate.noise_m};
}

static sp_pair pair_at(const sp_path *path, int tick)
{
    return sp_path_at(path, sp_path_timestep(path, tick));
}

static sp_estimate estimate_at(const sp_path *path, int tick)
{
    return sp_estimate_from(path->prediction, pair_at(path, tick));
}

/* f(z, t -> u), or for splam and lcm c_skip(t) scale z + c_out(t) x0, where scale z is a latent of norm 1. */
static weights consistency(const sp_objective_settings *settings, const sp_path *path, sp_pair at, double t, int u,
                           double scale)
{
    sp_estimate estimate = sp_estimate_from(path->prediction, at);
    if (settings->objective == SP_OBJECTIVE_PCM || settings->objective == SP_OBJECTIVE_TCD)
        return combined(estimate, pair_at(path, u));
    sp_boundary b = sp_path_boundary(path, t);
    return (weights){b.skip * scale + b.out * estimate.x0_z, b.out * estimate.x0_m};
}

/* The teacher's DDIM steps from s to e, each z' = alpha' x0 + sigma' noise with both estimates
 * guided. Guidance is linear, so it may be applied to the network's output: m = m_cond + w (m_cond
 * - m_uncond). */
static void solver_coefficients(const sp_objective_settings *settings, const sp_path *path, sp_subpath sub,
                                sp_coefficients *c)
{
    double w = sub.guidance_scale_w;
    for (int j = 0; j < settings->solver_steps; j++) {
        int from = sub.point[j], to = sub.point[j + 1];
        weights step = combined(estimate_at(path, from), pair_at(path, to));
        if (to == from) step = (weights){1, 0}; /* the sub-path ended early */
        c->solver_timestep[j] = sp_path_timestep(path, from);
        c->solver_z[j] = step.z;
        c->solver_cond[j] = (1 + w) * step.m;
        c->solver_uncond[j] = -w * step.m;
    }
}

/* The one step over the whole sub-path that ends where the teacher's steps end. sigma_s is never 0. */
static void progressive_coefficients(const sp_path *path, sp_subpath sub, sp_coefficients *c)
{
    sp_pair s = pair_at(path, sub.start), e = pair_at(path, sub.end);
    double weight = fmax(s.alpha / s.sigma, 1), ratio = e.sigma / s.sigma;
    double moved = e.alpha - ratio * s.alpha; /* above 0: n N points never share a timestep */
    sp_estimate estimate = estimate_at(path, sub.start);
    c->prediction_z = weight * estimate.x0_z;
    c->prediction_m = weight * estimate.x0_m;
    c->target_start = -weight * ratio / moved;
    c->target_end = weight / moved;
}

/* The paper's position on the sub-path; alpha_e is not 0. */
static sp_pair position_at(const sp_objective_settings *settings, sp_pair s, sp_pair e, double gamma,
                           sp_coefficients *c)
{
    double rho = s.alpha / e.alpha, end = rho * e.sigma; /* rho: the drift */
    c->position_start = gamma;
    c->position_end = (1 - gamma) * rho;
    if (gamma == 1) return s;
    if (settings->sigma == SP_SIGMA_LINEAR) return (sp_pair){s.alpha, gamma * s.sigma + (1 - gamma) * end};
    return (sp_pair){s.alpha, sqrt(end * end + gamma * gamma * (1 - rho * rho))};
}

static sp_pair chord_at(sp_pair s, sp_pair e, double gamma, sp_coefficients *c)
{
    c->position_start = gamma;
    c->position_end = 1 - gamma;
    return (sp_pair){gamma * s.alpha + (1 - gamma) * e.alpha, gamma * s.sigma + (1 - gamma) * e.sigma};
}

/* The position on the sub-path, and what the student makes of it. Told by time it is shown a latent of norm 1 at
 * its timestep; the boundary is that of s with the paper's points, of this timestep with the chord's. */
static void position_coefficients(const sp_objective_settings *settings, const sp_path *path, sp_subpath sub,
                                  sp_coefficients *c)
{
    sp_pair s = pair_at(path, sub.start), e = pair_at(path, sub.end);
    bool chord = settings->sigma == SP_SIGMA_CHORD, by_time = chord || settings->conditioning == SP_GAMMA_TIME;
    double start = sp_path_timestep(path, sub.start);
    sp_pair at = chord ? chord_at(s, e, sub.gamma, c) : position_at(settings, s, e, sub.gamma, c);
    c->loss_weight = loss_weight(settings, sub, at);
    c->student_scale = 1;
    c->student_timestep = start;
    if (by_time && sub.gamma < 1) {
        c->student_scale = 1 / sp_path_norm(path, at);
        c->student_timestep = sp_path_timestep_of(path, at);
    }
    weights p = consistency(settings, path, at, chord ? c->student_timestep : start, sub.target,
                            chord ? c->student_scale : 1);
    c->prediction_z = p.z;
    c->prediction_m = p.m;
}

sp_coefficients sp_subpath_coefficients(const sp_objective_settings *settings, const sp_path *path, sp_subpath sub)
{
    sp_pair start = pair_at(path, sub.start);
    sp_coefficients c = {.start_x0 = start.alpha, .start_noise = start.sigma};
    solver_coefficients(settings, path, sub, &c);
    position_coefficients(settings, path, sub, &c);
    if (settings->objective == SP_OBJECTIVE_PROGRESSIVE) {
        progressive_coefficients(path, sub, &c);
        return c;
    }
    c.target_timestep = sp_path_timestep(path, sub.end);
    weights f = consistency(settings, path, pair_at(path, sub.end), c.target_timestep, sub.target, 1);
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
    SP_START_COEFFICIENT_LIST(X)
    SP_COEFFICIENT_LIST(X)
    if (sp_objective_asks_average(settings)) {
        SP_AVERAGE_COEFFICIENT_LIST(X)
    }
    if (settings->weighting != SP_WEIGHTING_NONE) {
        SP_WEIGHT_COEFFICIENT_LIST(X)
    }
#undef X
    return SP_OK;
}

sp_status sp_objective_set_solver(sp_run *run, const sp_objective_settings *settings, const sp_coefficients *samples,
                                  int64_t batch)
{
    const int64_t stride = sizeof *samples;
#define X(name) SP_TRY(set_one(run, #name, -1, &samples->name, stride, batch));
    SP_START_COEFFICIENT_LIST(X)
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
