/* The coefficients of every sampler's steps. */
#include "diffusion/sampler.h"
#include <math.h>
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

static const struct {
    const char *name;
    int steps;
} kinds[SP_SAMPLER_COUNT] = {
#define X(name, text, steps) {text, steps},
    SP_SAMPLER_LIST(X)
#undef X
};

const char *sp_sampler_name(sp_sampler_kind kind)
{
    return kinds[kind].name;
}

sp_status sp_sampler_kind_of(const char *name, sp_sampler_kind *out)
{
    for (int i = 0; i < SP_SAMPLER_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            *out = (sp_sampler_kind)i;
            return SP_OK;
        }
    sp_string names = {0};
    for (int i = 0; i < SP_SAMPLER_COUNT; i++)
        sp_string_append_format(&names, "%s%s", i ? ", " : "", kinds[i].name);
    sp_status status = sp_fail(SP_ARGUMENT, "there is no sampler \"%.64s\"; there are %s", name,
                               sp_string_text(&names));
    sp_string_free(&names);
    return status;
}

sp_sampler_kind sp_sampler_for(const sp_scheduler_config *config)
{
    static const sp_sampler_kind of_student[] = {
        [SP_STUDENT_NONE] = SP_SAMPLER_DPMPP_2M,
        [SP_STUDENT_LCM] = SP_SAMPLER_LCM,
        [SP_STUDENT_TCD] = SP_SAMPLER_TCD,
        [SP_STUDENT_DDIM] = SP_SAMPLER_DDIM,
    };
    return of_student[config->student];
}

int sp_sampler_steps_for(const sp_scheduler_config *config, sp_sampler_kind kind)
{
    return config->distilled_steps > 0 && kind == sp_sampler_for(config) ? config->distilled_steps
                                                                         : kinds[kind].steps;
}

/* ---- what the scheduler's file asks for ---- */

static sp_status check_demands(const sp_scheduler_config *config, sp_sampler_kind kind, bool warn)
{
    for (int i = 0; i < config->demands; i++) {
        const sp_scheduler_demand *d = &config->demand[i];
        if (d->heeded_by & 1u << kind)
            return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is %s, which is not supported with the sampler %s",
                           config->where, d->key, d->value, kinds[kind].name);
        if (warn)
            sp_log_warn("%s: \"%s\" is %s, which is nothing to the sampler %s", config->where, d->key,
                        d->value, kinds[kind].name);
    }
    return SP_OK;
}

sp_status sp_sampler_check(const sp_scheduler_config *config, sp_sampler_kind kind)
{
    return check_demands(config, kind, true);
}

/* lcm and tcd take their timesteps from M points, the others from all. */
static bool has_own_grid(sp_sampler_kind kind)
{
    return kind == SP_SAMPLER_LCM || kind == SP_SAMPLER_TCD;
}

/* ---- timesteps ---- */

/* `points` timesteps, highest first, of which the first `count` are used; rounding halves to even,
 * as NumPy does. */
static void spread(const sp_scheduler_config *config, sp_timestep_spacing spacing, int points,
                   int count, bool rounded, sp_sampler_step *step)
{
    int timesteps = config->schedule.timesteps;
    /* NumPy's arange(T, 0, -T/n) adds multiples of the difference of its first two elements. */
    double trailing = ((double)timesteps - (double)timesteps / count) - (double)timesteps;
    double linear = points > 1 ? (double)(timesteps - 1) / (points - 1) : 0;
    for (int i = 0; i < count; i++) {
        int back = points - 1 - i;
        double t = back * linear;
        if (points > 1 && back == points - 1) t = timesteps - 1;
        if (spacing == SP_SPACING_LEADING)
            t = (double)back * (timesteps / points) + config->steps_offset;
        if (spacing == SP_SPACING_TRAILING) t = rint((double)timesteps + i * trailing) - 1;
        step[i].timestep = rounded ? rint(t) : (double)(float)t;
    }
}

/* What is left of `count` when starting from a picture; truncated as diffusers does, so that 50 *
 * .58 is 28. */
static int part_of(int count, const sp_sampler_options *options)
{
    return options->strength > 0 ? (int)(count * options->strength) : count;
}

/* From the lowest `original` of M equidistant training timesteps, k-1, 2k-1, ..., as evenly as can
 * be. */
static void own_timesteps(const sp_scheduler_config *config, const sp_sampler_options *options,
                          int original, sp_sampler_step *step)
{
    int k = config->schedule.timesteps / config->original_steps;
    double stride =
        options->old_grid ? original / options->steps : (double)original / options->steps;
    for (int i = 0; i < options->steps; i++)
        step[i].timestep = (original - (int)floor(i * stride)) * k - 1;
}

static sp_status set_timesteps(const sp_scheduler_config *config, const sp_sampler_options *options,
                               sp_sampler *sampler)
{
    int timesteps = config->schedule.timesteps, n = options->steps;
    sp_sampler_kind kind = options->kind;
    sp_timestep_spacing spacing = config->spacing;
    if (spacing == SP_SPACING_OWN)
        spacing = kind == SP_SAMPLER_DDIM ? SP_SPACING_LEADING : SP_SPACING_LINSPACE;
    if (has_own_grid(kind))
        own_timesteps(config, options,
                      kind == SP_SAMPLER_LCM ? part_of(config->original_steps, options)
                                             : config->original_steps,
                      sampler->step);
    else if (kind == SP_SAMPLER_DPMPP_2M &&
             spacing != SP_SPACING_TRAILING) /* one point more, the lowest, is left out */
        spread(config, spacing, n + 1, n, true, sampler->step);
    else
        spread(config, spacing, n, n, kind != SP_SAMPLER_EULER || spacing != SP_SPACING_LINSPACE,
               sampler->step);
    if (sampler->step[0].timestep > timesteps - 1)
        return sp_fail(SP_ARGUMENT,
                       "%d steps of %s begin at timestep %g, and the model's last is %d", n,
                       kinds[kind].name, sampler->step[0].timestep, timesteps - 1);
    return SP_OK;
}

/* ---- coefficients ---- */

/* What a step makes of the two estimates, before they are expressed in z and m. */
typedef struct {
    double z, clean, noise, previous, fresh;
} combination;

/* alpha, sigma: z = alpha clean + sigma noise at this step. */
static void set_step(sp_sampler_step *step, sp_prediction prediction, double alpha, double sigma,
                     combination c)
{
    sp_estimate e = sp_estimate_from(prediction, alpha, sigma);
    step->z = c.z + c.clean * e.clean_z + c.noise * e.noise_z;
    step->m = c.clean * e.clean_m + c.noise * e.noise_m;
    step->previous = c.previous;
    step->fresh = c.fresh;
    step->clean_z = e.clean_z;
    step->clean_m = e.clean_m;
}

static void lcm_step(const sp_scheduler_config *config, const sp_sampler *sampler, int i,
                     bool deterministic)
{
    const sp_noise_schedule *schedule = &config->schedule;
    sp_sampler_step *step = &sampler->step[i];
    double t = step->timestep, alpha = sp_schedule_alpha(schedule, t),
           sigma = sp_schedule_sigma(schedule, t);
    double next_alpha = 1, next_sigma = 0;
    if (i + 1 < sampler->count) {
        next_alpha = sp_schedule_alpha(schedule, step[1].timestep);
        next_sigma = sp_schedule_sigma(schedule, step[1].timestep);
    }
    combination c = {.fresh = next_sigma};
    double weight = next_alpha; /* of the bounded estimate, skip z + out clean */
    if (deterministic) {
        c.fresh = 0;
        c.z = next_sigma / sigma;
        weight -= next_sigma * alpha / sigma;
    }
    c.z += weight * sp_boundary_skip(t);
    c.clean = weight * sp_boundary_out(t);
    set_step(step, schedule->prediction, alpha, sigma, c);
}

static void ddim_step(const sp_scheduler_config *config, const sp_sampler *sampler, int i)
{
    const sp_noise_schedule *schedule = &config->schedule;
    sp_sampler_step *step = &sampler->step[i];
    /* T/n back whatever the spacing, as diffusers has it, not the next point of the grid. */
    int next = (int)step->timestep - schedule->timesteps / sampler->count;
    double abar = next >= 0              ? schedule->alphas_cumprod[next]
                  : config->alpha_to_one ? 1
                                         : schedule->alphas_cumprod[0];
    combination c = {.clean = sqrt(abar), .noise = sqrt(1 - abar)};
    set_step(step, schedule->prediction, sp_schedule_alpha(schedule, step->timestep),
             sp_schedule_sigma(schedule, step->timestep), c);
}

/* sqrt((1 - abar)/abar), linear between integer timesteps, as Euler's grid has it. */
static double ratio_at(const sp_noise_schedule *schedule, double t)
{
    int below = (int)t;
    double low = sqrt((1 - schedule->alphas_cumprod[below]) / schedule->alphas_cumprod[below]);
    if (below == t || below + 1 >= schedule->timesteps) return low;
    double high =
        sqrt((1 - schedule->alphas_cumprod[below + 1]) / schedule->alphas_cumprod[below + 1]);
    return low + (high - low) * (t - below);
}

/* The ratio after step i: the next point's, or the end's. */
static double next_ratio(const sp_scheduler_config *config, const sp_sampler *sampler, int i)
{
    if (i + 1 < sampler->count) return ratio_at(&config->schedule, sampler->step[i + 1].timestep);
    return config->final_sigma_min ? ratio_at(&config->schedule, 0) : 0;
}

/* With lambda = -log(ratio), h = lambda' - lambda:  z' = (sigma'/sigma) z - alpha' (e^-h - 1) D,
 * D = clean (first order), or clean + (h/2h_last) (clean - previous). */
static void dpm_step(const sp_scheduler_config *config, const sp_sampler *sampler, int i, int first)
{
    const sp_noise_schedule *schedule = &config->schedule;
    sp_sampler_step *step = &sampler->step[i];
    bool last = i + 1 == sampler->count;
    double ratio = ratio_at(schedule, step->timestep), next = next_ratio(config, sampler, i);
    double sigma = sp_schedule_sigma(schedule, step->timestep);
    double next_alpha = 1 / sqrt(1 + next * next), next_sigma = next * next_alpha;
    double gain = next_alpha * (1 - next / ratio);
    combination c = {.z = next_sigma / sigma, .clean = gain};
    bool first_order = i == first || (last && (!config->final_sigma_min || config->euler_at_final ||
                                               (config->lower_order_final && sampler->count < 15)));
    if (!first_order) {
        double h = log(ratio / next), h_last = log(ratio_at(schedule, step[-1].timestep) / ratio);
        double slope = gain * h / (2 * h_last);
        c.clean += slope;
        c.previous = -slope;
    }
    set_step(step, schedule->prediction, sp_schedule_alpha(schedule, step->timestep), sigma, c);
}

/* On z/alpha, whose pair is (1, ratio). */
static void euler_step(const sp_scheduler_config *config, const sp_sampler *sampler, int i)
{
    sp_sampler_step *step = &sampler->step[i];
    double ratio = ratio_at(&config->schedule, step->timestep);
    step->input_scale = 1 / sqrt(1 + ratio * ratio);
    set_step(step, config->schedule.prediction, 1, ratio,
             (combination){.clean = 1, .noise = next_ratio(config, sampler, i)});
}

/* To x_s = alpha_s clean + sigma_s noise, and from there up to t': sqrt(abar_t'/abar_s) x_s +
 * sqrt(1 - abar_t'/abar_s) fresh, but for the last step, which ends at s = t' = 0. */
static void tcd_step(const sp_scheduler_config *config, const sp_sampler *sampler, int i,
                     double eta)
{
    const sp_noise_schedule *schedule = &config->schedule;
    sp_sampler_step *step = &sampler->step[i];
    int next = i + 1 < sampler->count ? (int)step[1].timestep : 0;
    int s = (int)((float)(1 - eta) * (float)next); /* in float, as PyTorch multiplies integers */
    double abar_next = schedule->alphas_cumprod[next], abar_s = schedule->alphas_cumprod[s];
    double kept = sqrt(abar_next / abar_s);
    combination c = {.clean = kept * sqrt(abar_s),
                     .noise = kept * sqrt(1 - abar_s),
                     .fresh = s < next ? sqrt(1 - abar_next / abar_s) : 0};
    set_step(step, schedule->prediction, sp_schedule_alpha(schedule, step->timestep),
             sp_schedule_sigma(schedule, step->timestep), c);
}

/* Steps first..count-1; coefficients depend on the count of all. */
static void set_steps(const sp_scheduler_config *config, const sp_sampler_options *options,
                      int first, sp_sampler *sampler)
{
    for (int i = first; i < sampler->count; i++) {
        sampler->step[i].input_scale = 1;
        switch (sampler->kind) {
        case SP_SAMPLER_LCM:
            lcm_step(config, sampler, i, options->deterministic);
            break;
        case SP_SAMPLER_DDIM:
            ddim_step(config, sampler, i);
            break;
        case SP_SAMPLER_DPMPP_2M:
            dpm_step(config, sampler, i, first);
            break;
        case SP_SAMPLER_TCD:
            tcd_step(config, sampler, i, options->deterministic ? 0 : options->eta);
            break;
        case SP_SAMPLER_EULER:
        case SP_SAMPLER_COUNT:
            euler_step(config, sampler, i);
            break;
        }
    }
}

/* What the first z is made of. Noise alone is taken for a state at the end of the schedule; Euler's
 * state is z/alpha. */
static void set_start(const sp_scheduler_config *config, const sp_sampler_options *options,
                      sp_sampler *sampler)
{
    double t = sampler->step[0].timestep;
    bool image = options->strength > 0;
    sampler->initial_sigma = 1;
    if (sampler->kind == SP_SAMPLER_EULER) {
        double ratio = ratio_at(&config->schedule, t);
        bool leading = config->spacing == SP_SPACING_LEADING && !image;
        sampler->initial_image = image;
        sampler->initial_sigma = leading ? sqrt(ratio * ratio + 1) : ratio;
    } else if (image) {
        sampler->initial_image = sp_schedule_alpha(&config->schedule, t);
        sampler->initial_sigma = sp_schedule_sigma(&config->schedule, t);
    }
}

static sp_status check_steps(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    bool lcm = options->kind == SP_SAMPLER_LCM;
    const char *name = kinds[options->kind].name;
    int most = has_own_grid(options->kind)
                   ? config->original_steps
                   : config->schedule.timesteps - (options->kind == SP_SAMPLER_DPMPP_2M);
    if (!(options->eta >= 0 && options->eta <= 1))
        return sp_fail(SP_ARGUMENT, "an eta of %g is not possible: it lies between 0 and 1",
                       options->eta);
    if (options->steps < 1 || options->steps > most)
        return sp_fail(SP_ARGUMENT,
                       "%d steps of %s are not possible: this model's scheduler allows 1 to %d",
                       options->steps, name, most);
    if (!(options->strength >= 0 && options->strength <= 1))
        return sp_fail(SP_ARGUMENT, "a strength of %g is not possible: it lies between 0 and 1",
                       options->strength);
    if (lcm && part_of(most, options) < options->steps)
        return sp_fail(SP_ARGUMENT,
                       "%d steps of lcm are not possible at strength %g, which leaves %d timesteps",
                       options->steps, options->strength, part_of(most, options));
    if (!lcm && part_of(options->steps, options) < 1)
        return sp_fail(SP_ARGUMENT, "none of %d steps of %s is left at strength %g", options->steps,
                       name, options->strength);
    return SP_OK;
}

sp_status sp_sampler_create(const sp_scheduler_config *config, const sp_sampler_options *options,
                            sp_sampler *out)
{
    memset(out, 0, sizeof *out);
    SP_TRY(check_demands(config, options->kind, false));
    SP_TRY(check_steps(config, options));
    sp_sampler sampler = {.kind = options->kind, .count = options->steps};
    sampler.step = sp_alloc_zero((size_t)options->steps * sizeof *sampler.step);
    if (!sampler.step) return SP_MEMORY;
    sp_status status = set_timesteps(config, options, &sampler);
    if (status) {
        sp_free(sampler.step);
        return status;
    }
    int first =
        options->kind == SP_SAMPLER_LCM ? 0 : sampler.count - part_of(sampler.count, options);
    set_steps(config, options, first, &sampler);
    sampler.count -= first;
    memmove(sampler.step, sampler.step + first, (size_t)sampler.count * sizeof *sampler.step);
    set_start(config, options, &sampler);
    *out = sampler;
    return SP_OK;
}

void sp_sampler_free(sp_sampler *sampler)
{
    sp_free(sampler->step);
    memset(sampler, 0, sizeof *sampler);
}

void sp_sampler_advance(const sp_sampler *sampler, int step, float *z, const float *m,
                        float *previous, const float *fresh, int64_t count)
{
    sp_sampler_step s = sampler->step[step];
    for (int64_t i = 0; i < count; i++) {
        double x = z[i], y = m[i], next = s.z * x + s.m * y;
        if (s.previous != 0) next += s.previous * previous[i];
        if (s.fresh != 0) next += s.fresh * fresh[i];
        previous[i] = (float)(s.clean_z * x + s.clean_m * y);
        z[i] = (float)next;
    }
}
