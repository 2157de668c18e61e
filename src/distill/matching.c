/* The numbers of distribution matching: turns, timesteps, coefficients. */
#include "distill/matching.h"
#include <math.h>

bool sp_matching_has_discriminator(const sp_objective_settings *settings)
{
    return settings->gan_weight > 0;
}

/* ---- turns and draws ---- */

sp_matching_turn sp_matching_turn_of(const sp_objective_settings *settings, int64_t step)
{
    int64_t each = settings->fake_score_steps, cycle = step / (each + 1), place = step % (each + 1);
    if (place == each) return (sp_matching_turn){.updates = cycle};
    return (sp_matching_turn){.fake_score = true, .updates = cycle * each + place};
}

int sp_matching_timestep(const sp_objective_settings *settings, const sp_path *path, int j)
{
    int n = settings->ddim_timesteps, k = path->timesteps / n;
    return k * (n - j) - path->timesteps + sp_path_last(path);
}

int sp_matching_student_step(const sp_objective_settings *settings, uint64_t seed, uint64_t step)
{
    const sp_random_key key = {.seed = seed, .stream = SP_STREAM_SUBPATH, .step = step};
    return (int)sp_random_below(key, (uint64_t)settings->ddim_timesteps);
}

sp_matching_range sp_matching_range_of(const sp_path *path, bool fake_score)
{
    int last = sp_path_last(path), first = last - path->timesteps + 1; /* a flow's tick 0 has no noise */
    if (fake_score) return (sp_matching_range){first, last};
    return (sp_matching_range){(int)rint(0.02 * path->timesteps), (int)fmin(rint(0.98 * path->timesteps), last)};
}

int sp_matching_draw(sp_matching_range range, sp_random_key key)
{
    return range.low + (int)sp_random_below(key, (uint64_t)(range.high - range.low + 1));
}

/* ---- coefficients ---- */

static sp_pair pair_at(const sp_path *path, int tick)
{
    return sp_path_at(path, sp_path_timestep(path, tick));
}

/* From the student's step j on to the next one. */
static void simulate(const sp_objective_settings *settings, const sp_path *path, int j, sp_matching_coefficients *c)
{
    sp_pair next = pair_at(path, sp_matching_timestep(settings, path, j + 1));
    c->made_z *= next.alpha;
    c->made_m *= next.alpha;
    c->made_noise = next.sigma;
}

sp_matching_coefficients sp_matching_coefficients_of(const sp_objective_settings *settings, const sp_path *path,
                                                     sp_step_part part, int j, int t)
{
    int tau = sp_matching_timestep(settings, path, j);
    sp_estimate made = sp_estimate_from(path->prediction, pair_at(path, tau));
    sp_matching_coefficients c = {
        .student_timestep = sp_path_timestep(path, tau), .made_z = made.x0_z, .made_m = made.x0_m};
    if (part == SP_STEP_AHEAD) {
        simulate(settings, path, j, &c);
        return c;
    }
    sp_pair at = pair_at(path, t), wanted = sp_prediction_target(path->prediction, at);
    sp_estimate score = sp_estimate_from(path->prediction, at);
    double w = settings->guidance_scale_w;
    c.score_timestep = sp_path_timestep(path, t);
    c.noised_x = at.alpha;
    c.noised_noise = at.sigma;
    c.estimate_z = score.x0_z;
    c.estimate_m = score.x0_m;
    c.real_cond = (1 + w) * score.x0_m;
    c.real_uncond = -w * score.x0_m;
    c.wanted_x = wanted.alpha;
    c.wanted_noise = wanted.sigma;
    return c;
}

void sp_matching_add_discriminator(const sp_path *path, int gan_t, int data_t, sp_matching_coefficients *c)
{
    sp_pair gan = pair_at(path, gan_t), data = pair_at(path, data_t);
    c->gan_timestep = sp_path_timestep(path, gan_t);
    c->gan_x = gan.alpha;
    c->gan_sigma = gan.sigma;
    c->data_timestep = sp_path_timestep(path, data_t);
    c->data_x0 = data.alpha;
    c->data_sigma = data.sigma;
}

static sp_status set_one(sp_run *run, const char *name, const double *first, int64_t stride, int64_t batch)
{
    sp_tensor values = {0};
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch), &values));
    for (int64_t i = 0; i < batch; i++)
        ((float *)values.data)[i] = (float)*(const double *)((const char *)first + i * stride);
    sp_status status = sp_run_set_input(run, name, &values);
    sp_tensor_free(&values);
    return status;
}

/* Which of them a graph has is the plan's to say. */
sp_status sp_matching_set_coefficients(sp_run *run, const sp_matching_coefficients *samples, int64_t batch)
{
    const sp_plan *plan = sp_run_plan(run);
#define X(name)                                                                                                        \
    if (sp_plan_input(plan, #name)) SP_TRY(set_one(run, #name, &samples->name, sizeof *samples, batch));
    SP_MATCHING_COEFFICIENT_LIST(X)
#undef X
    return SP_OK;
}
