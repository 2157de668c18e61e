/* Samplers as tables: what is asked for, and the rows put together and applied. */
#include "diffusion/sampler.h"
#include <math.h>
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "diffusion/sampler_parts.h"

static const struct {
    const char *name;
    int steps;
    const char *label;
} kinds[SP_SAMPLER_COUNT] = {
#define X(name, text, steps, label) {text, steps, label},
    SP_SAMPLER_LIST(X)
#undef X
};

enum {
    SCALED = SP_GRID_SCALED | SP_GRID_RATIO,
    MULTISTEP = SP_GRID_ONE_MORE | SP_GRID_SIGMAS | SP_GRID_FINAL | SP_GRID_RATIO
};

static const struct {
    int (*rows)(const sp_sampler_grid *grid, int i, sp_sampler_step *row);
    unsigned grid;
} methods[SP_SAMPLER_COUNT] = {
    [SP_SAMPLER_LCM] = {sp_lcm_rows, SP_GRID_OWN},
    [SP_SAMPLER_TCD] = {sp_tcd_rows, SP_GRID_OWN},
    [SP_SAMPLER_DDIM] = {sp_ddim_rows, 0},
    [SP_SAMPLER_DPMPP_2M] = {sp_dpm_rows, MULTISTEP},
    [SP_SAMPLER_DPMPP_2M_SDE] = {sp_dpm_rows, MULTISTEP},
    [SP_SAMPLER_UNIPC] = {sp_unipc_rows, MULTISTEP},
    [SP_SAMPLER_EULER] = {sp_euler_rows, SCALED | SP_GRID_SIGMAS | SP_GRID_FINAL},
    [SP_SAMPLER_EULER_A] = {sp_euler_a_rows, SCALED},
    [SP_SAMPLER_HEUN] = {sp_heun_rows, SCALED | SP_GRID_SIGMAS},
};

/* ---- names and defaults ---- */

const char *sp_sampler_name(sp_sampler_kind kind)
{
    return kinds[kind].name;
}

const char *sp_sampler_label(sp_sampler_kind kind)
{
    return kinds[kind].label;
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

static const char *const sigmas_names[] = {"normal", "karras", "exponential"};

sp_status sp_sigmas_of(const char *name, sp_sigmas *out)
{
    int index;
    SP_TRY(sp_name_index("sigmas", name, sigmas_names, 3, &index));
    *out = (sp_sigmas)(index + SP_SIGMAS_NORMAL);
    return SP_OK;
}

const char *sp_sigmas_name(sp_sigmas sigmas)
{
    return sigmas_names[sigmas - SP_SIGMAS_NORMAL];
}

static const char *const spacing_names[] = {"leading", "linspace", "trailing"};

sp_status sp_spacing_of(const char *name, sp_timestep_spacing *out)
{
    int index;
    SP_TRY(sp_name_index("spacing", name, spacing_names, 3, &index));
    *out = (sp_timestep_spacing)(index + SP_SPACING_LEADING);
    return SP_OK;
}

const char *sp_spacing_name(sp_timestep_spacing spacing)
{
    return spacing_names[spacing - SP_SPACING_LEADING];
}

/* diffusers' classes have one of their own where the file has none. */
sp_timestep_spacing sp_sampler_spacing(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    if (methods[options->kind].grid & SP_GRID_OWN || config->path.kind == SP_PATH_FLOW) return SP_SPACING_OWN;
    if (options->spacing) return options->spacing;
    if (config->spacing) return config->spacing;
    return options->kind == SP_SAMPLER_DDIM ? SP_SPACING_LEADING : SP_SPACING_LINSPACE;
}

sp_sampler_kind sp_sampler_for(const sp_scheduler_config *config)
{
    return config->sampler;
}

sp_status sp_sampler_choose(const sp_scheduler_config *config, const char *name, sp_sampler_kind *out)
{
    *out = sp_sampler_for(config);
    if (name) return sp_sampler_kind_of(name, out);
    if (!*config->foreign) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the sampler of the class \"%s\" is not supported; give a `sampler`, such as %s",
                   config->where, config->foreign, sp_sampler_name(*out));
}

int sp_sampler_steps_for(const sp_scheduler_config *config, sp_sampler_kind kind)
{
    return config->distilled_steps > 0 && kind == sp_sampler_for(config) ? config->distilled_steps
                                                                         : kinds[kind].steps;
}

bool sp_sampler_has_eta(sp_sampler_kind kind)
{
    return kind == SP_SAMPLER_TCD || kind == SP_SAMPLER_DDIM;
}

double sp_sampler_eta_for(sp_sampler_kind kind)
{
    return kind == SP_SAMPLER_TCD ? 0.3 : 0;
}

/* ---- what is asked for ---- */

static sp_status check_demands(const sp_scheduler_config *config, const sp_sampler_options *options,
                               bool warn)
{
    const char *name = kinds[options->kind].name;
    unsigned bit = 1u << options->kind;
    for (int i = 0; i < config->demands; i++) {
        const sp_scheduler_demand *d = &config->demand[i];
        if (d->done_by & bit || (d->of_sigmas && options->sigmas) || (d->of_spacing && options->spacing)) continue;
        if (d->heeded_by & bit)
            return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is %s, which is not supported with the sampler %s",
                           config->where, d->key, d->value, name);
        if (warn)
            sp_log_warn("%s: \"%s\" is %s, which is nothing to the sampler %s", config->where, d->key,
                        d->value, name);
    }
    if (options->sigmas && !(methods[options->kind].grid & SP_GRID_SIGMAS))
        return sp_fail(SP_ARGUMENT, "the sampler %s has sigmas of its own and takes no others", name);
    if (options->spacing && methods[options->kind].grid & SP_GRID_OWN)
        return sp_fail(SP_ARGUMENT, "the sampler %s has timesteps of its own and takes no spacing", name);
    return SP_OK;
}

sp_status sp_sampler_check(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    return check_demands(config, options, true);
}

/* A flow's sigma/alpha is infinite where it begins. */
static sp_status check_flow(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    const char *name = kinds[options->kind].name;
    if (config->path.kind != SP_PATH_FLOW) return SP_OK;
    if (options->kind == SP_SAMPLER_EULER_A)
        return sp_fail(SP_UNSUPPORTED, "the sampler %s has no form for flow models", name);
    if (sp_sampler_sigmas(config, options) > SP_SIGMAS_NORMAL)
        return sp_fail(SP_UNSUPPORTED, "flow models have sigmas of their own, and %s takes no others with them", name);
    if (options->spacing)
        return sp_fail(SP_UNSUPPORTED, "flow models have timesteps of their own, and %s takes no spacing with them",
                       name);
    return SP_OK;
}

static int most_steps(const sp_scheduler_config *config, sp_sampler_kind kind)
{
    if (methods[kind].grid & SP_GRID_OWN) return config->original_steps;
    return config->path.timesteps - (methods[kind].grid & SP_GRID_ONE_MORE ? 1 : 0);
}

static sp_status check_steps(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    bool lcm = options->kind == SP_SAMPLER_LCM;
    const char *name = kinds[options->kind].name;
    const sp_path *path = &config->path;
    int most = most_steps(config, options->kind);
    if (!(options->eta >= 0 && options->eta <= 1))
        return sp_fail(SP_ARGUMENT, "an eta of %g is not possible: it lies between 0 and 1", options->eta);
    if (options->steps < 1 || options->steps > most)
        return sp_fail(SP_ARGUMENT, "%d steps of %s are not possible: this model's scheduler allows 1 to %d",
                       options->steps, name, most);
    if (!(options->strength >= 0 && options->strength <= 1))
        return sp_fail(SP_ARGUMENT, "a strength of %g is not possible: it lies between 0 and 1", options->strength);
    if (lcm && sp_sampler_part_of(path, most, options) < options->steps)
        return sp_fail(SP_ARGUMENT, "%d steps of lcm are not possible at strength %g, which leaves %d timesteps",
                       options->steps, options->strength, sp_sampler_part_of(path, most, options));
    if (!lcm && sp_sampler_part_of(path, options->steps, options) < 1)
        return sp_fail(SP_ARGUMENT, "none of %d steps of %s is left at strength %g", options->steps, name,
                       options->strength);
    return SP_OK;
}

/* ---- rows ---- */

void sp_combination_add(sp_combination *to, double factor, const sp_combination *what)
{
    to->z += factor * what->z;
    to->m += factor * what->m;
    for (int k = 0; k < SP_SAMPLER_KEPT; k++)
        to->kept[k] += factor * what->kept[k];
    to->fresh += factor * what->fresh;
}

sp_estimates sp_sampler_estimates(const sp_sampler_grid *grid, sp_pair pair)
{
    sp_estimate e = sp_estimate_from(grid->config->path.prediction, pair);
    return (sp_estimates){.x0 = {.z = e.x0_z, .m = e.x0_m}, .noise = {.z = e.noise_z, .m = e.noise_m}};
}

/* What the first z is made of. Noise alone is taken for a state at the end of the schedule. */
static void set_start(const sp_sampler_grid *grid, sp_sampler *sampler)
{
    const sp_grid_point *start = &grid->point[grid->first];
    bool image = grid->options->strength > 0, scaled = methods[sampler->kind].grid & SP_GRID_SCALED;
    sampler->initial_sigma = 1;
    if (!scaled && !image) return;
    sampler->initial_image = image ? start->state.alpha : 0;
    sampler->initial_sigma = start->state.sigma;
    if (scaled && !image && grid->spacing == SP_SPACING_LEADING)
        sampler->initial_sigma = sp_path_norm(&grid->config->path, start->state);
}

static int kept_by(const sp_scheduler_config *config, sp_sampler_kind kind)
{
    if (kind == SP_SAMPLER_HEUN) return 1;
    if (kind == SP_SAMPLER_UNIPC) return config->solver_order;
    return kind == SP_SAMPLER_DPMPP_2M || kind == SP_SAMPLER_DPMPP_2M_SDE ? config->solver_order - 1 : 0;
}

static bool is_finite(const sp_combination *c)
{
    double sum = c->z + c->m + c->fresh;
    for (int k = 0; k < SP_SAMPLER_KEPT; k++)
        sum += c->kept[k];
    return isfinite(sum);
}

/* The first row whose numbers are not finite. */
static sp_status refuse_row(const sp_path *path, const sp_sampler *sampler, int i)
{
    const char *name = kinds[sampler->kind].name;
    double t = sampler->step[i].timestep;
    if (path->prediction == SP_PREDICTION_EPSILON && sp_path_at(path, t).alpha == 0)
        return sp_fail(SP_NUMERIC,
                       "%s cannot be sampled: timestep %g has no signal (\"rescale_betas_zero_snr\"), and there the "
                       "model's prediction_type epsilon says nothing of the latent",
                       name, t);
    return sp_fail(SP_NUMERIC,
                   "%s cannot be sampled with these settings of the model's scheduler: evaluation %d of %d has "
                   "coefficients that are not finite",
                   name, i + 1, sampler->count);
}

static sp_status check_rows(const sp_path *path, const sp_sampler *sampler)
{
    for (int i = 0; i < sampler->count; i++) {
        bool good = is_finite(&sampler->step[i].next);
        for (int k = 0; k < sampler->kept; k++)
            good &= is_finite(&sampler->step[i].keep[k]);
        if (!good) return refuse_row(path, sampler, i);
    }
    return SP_OK;
}

static sp_status make_rows(sp_sampler_grid *grid, sp_sampler *sampler)
{
    const sp_sampler_options *options = grid->options;
    bool scaled = methods[sampler->kind].grid & SP_GRID_SCALED;
    SP_TRY(sp_sampler_make_grid(grid, methods[sampler->kind].grid, kinds[sampler->kind].name));
    for (int i = grid->first; i < grid->steps; i++) {
        sp_sampler_step *row = &sampler->step[sampler->count];
        row->timestep = grid->point[i].timestep;
        row->input_scale = 1;
        row->clean = sp_sampler_estimates(grid, scaled ? grid->point[i].state : grid->point[i].at).x0;
        sampler->count += methods[sampler->kind].rows(grid, i, row);
    }
    sampler->kept = kept_by(grid->config, options->kind);
    set_start(grid, sampler);
    return check_rows(&grid->config->path, sampler);
}

sp_sigmas sp_sampler_sigmas(const sp_scheduler_config *config, const sp_sampler_options *options)
{
    if (!(methods[options->kind].grid & SP_GRID_SIGMAS)) return SP_SIGMAS_OWN;
    return options->sigmas ? options->sigmas : config->sigmas;
}

sp_status sp_sampler_create(const sp_scheduler_config *config, const sp_sampler_options *options,
                            sp_sampler *out)
{
    enum { ROWS = 2 }; /* of a step at most */
    memset(out, 0, sizeof *out);
    SP_TRY(check_demands(config, options, false));
    SP_TRY(check_flow(config, options));
    SP_TRY(check_steps(config, options));
    sp_sampler_grid grid = {.config = config,
                            .options = options,
                            .sigmas = sp_sampler_sigmas(config, options),
                            .spacing = sp_sampler_spacing(config, options),
                            .steps = options->steps};
    if (options->kind != SP_SAMPLER_LCM)
        grid.first = grid.steps - sp_sampler_part_of(&config->path, grid.steps, options);
    sp_sampler sampler = {.kind = options->kind};
    sampler.step = sp_alloc_zero((size_t)options->steps * ROWS * sizeof *sampler.step);
    grid.point = sp_alloc_zero(((size_t)options->steps + 1) * sizeof *grid.point);
    sp_status status = sampler.step && grid.point ? make_rows(&grid, &sampler) : SP_MEMORY;
    sp_free(grid.point);
    if (status)
        sp_sampler_free(&sampler);
    else
        *out = sampler;
    return status;
}

void sp_sampler_free(sp_sampler *sampler)
{
    sp_free(sampler->step);
    memset(sampler, 0, sizeof *sampler);
}

void sp_sampler_log(const sp_scheduler_config *config, const sp_sampler_options *options, const sp_sampler *sampler)
{
    sp_timestep_spacing spacing = sp_sampler_spacing(config, options);
    sp_sigmas sigmas = sp_sampler_sigmas(config, options);
    sp_string text = {0};
    sp_string_append_format(&text, "sampler %s", kinds[sampler->kind].name);
    if (spacing) sp_string_append_format(&text, ", spacing %s", sp_spacing_name(spacing));
    if (sigmas > SP_SIGMAS_NORMAL) sp_string_append_format(&text, ", sigmas %s", sp_sigmas_name(sigmas));
    for (int i = 0; i < sampler->count; i++)
        sp_string_append_format(&text, "%s %g", i ? "," : ", timesteps", sampler->step[i].timestep);
    sp_log_info("%s", sp_string_text(&text));
    sp_string_free(&text);
}

int sp_sampler_timesteps(const sp_sampler *sampler, double *t)
{
    int count = 0;
    for (int i = 0; i < sampler->count; i++) {
        int k = 0;
        while (k < count && t[k] != sampler->step[i].timestep)
            k++;
        if (k == count) t[count++] = sampler->step[i].timestep;
    }
    return count;
}

/* ---- applying ---- */

static double combine(const sp_combination *c, double z, double m, const double *kept, const float *fresh)
{
    double sum = c->z * z + c->m * m;
    for (int k = 0; k < SP_SAMPLER_KEPT; k++)
        if (c->kept[k] != 0) sum += c->kept[k] * kept[k];
    if (c->fresh != 0) sum += c->fresh * *fresh;
    return sum;
}

void sp_sampler_estimate(const sp_sampler *sampler, int step, const float *z, const float *model_output, float *x0,
                         int64_t count)
{
    const sp_combination clean = sampler->step[step].clean;
    for (int64_t i = 0; i < count; i++)
        x0[i] = (float)(clean.z * (double)z[i] + clean.m * (double)model_output[i]);
}

void sp_sampler_advance(const sp_sampler *sampler, int step, float *z, const float *model_output,
                        float *kept, const float *fresh, int64_t count)
{
    const sp_sampler_step s = sampler->step[step];
    for (int64_t i = 0; i < count; i++) {
        double x = z[i], m = model_output[i], before[SP_SAMPLER_KEPT] = {0};
        for (int k = 0; k < sampler->kept; k++)
            before[k] = kept[k * count + i];
        for (int k = 0; k < sampler->kept; k++)
            kept[k * count + i] = (float)combine(&s.keep[k], x, m, before, NULL);
        z[i] = (float)combine(&s.next, x, m, before, fresh + i);
    }
}
