/* The path: alpha(t), sigma(t) and their inverse for every kind, and what a network's output says. */
#include "diffusion/path.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* ---- kinds ---- */

sp_status sp_path_of_betas(const char *beta_schedule, double beta_start, double beta_end, int timesteps,
                           sp_prediction prediction, sp_path *out)
{
    bool scaled = strcmp(beta_schedule, "scaled_linear") == 0;
    if (!scaled && strcmp(beta_schedule, "linear") != 0)
        return sp_fail(SP_UNSUPPORTED, "beta_schedule \"%s\" is not supported (scaled_linear or linear)",
                       beta_schedule);
    if (timesteps < 2 || timesteps > SP_MAX_TIMESTEPS)
        return sp_fail(SP_FORMAT, "num_train_timesteps is %d, expected 2 to %d", timesteps, SP_MAX_TIMESTEPS);
    if (!(beta_start > 0 && beta_start < 1 && beta_end > 0 && beta_end < 1))
        return sp_fail(SP_FORMAT, "beta_start %g and beta_end %g must lie between 0 and 1", beta_start, beta_end);
    out->kind = SP_PATH_VARIANCE_PRESERVING;
    out->timesteps = timesteps;
    out->prediction = prediction;
    out->shift = 1;
    double from = scaled ? sqrt(beta_start) : beta_start, to = scaled ? sqrt(beta_end) : beta_end, product = 1;
    for (int t = 0; t < timesteps; t++) {
        double beta = from + (to - from) * t / (timesteps - 1);
        if (scaled) beta *= beta;
        product *= 1 - beta;
        out->abar[t] = product;
    }
    return SP_OK;
}

void sp_path_rescale_zero_snr(sp_path *path)
{
    double first = sqrt(path->abar[0]), last = sqrt(path->abar[path->timesteps - 1]);
    path->kind = SP_PATH_ZERO_SNR;
    for (int t = 0; t < path->timesteps; t++) {
        double alpha = (sqrt(path->abar[t]) - last) * (first / (first - last));
        path->abar[t] = alpha * alpha;
    }
}

void sp_path_of_flow(double shift, int timesteps, sp_path *out)
{
    memset(out, 0, sizeof *out);
    out->kind = SP_PATH_FLOW;
    out->prediction = SP_PREDICTION_FLOW;
    out->timesteps = timesteps;
    out->shift = shift;
}

const void *sp_path_bytes(const sp_path *path, size_t *size)
{
    bool flow = path->kind == SP_PATH_FLOW;
    *size = flow ? sizeof path->shift : (size_t)path->timesteps * sizeof *path->abar;
    return flow ? &path->shift : path->abar;
}

/* ---- alpha and sigma ---- */

static double log_ratio_at(const sp_path *path, int t)
{
    double abar = path->abar[t];
    return 0.5 * (log(abar) - log1p(-abar));
}

/* sigma/(alpha + sigma) of alpha/sigma = e^x. */
static double share_of(double x)
{
    return 1 / (1 + exp(x));
}

/* log(alpha/sigma) at t, which lies between two timesteps of the table. */
static double log_ratio_between(const sp_path *path, double t)
{
    int below = (int)t;
    double low = log_ratio_at(path, below), high = log_ratio_at(path, below + 1), part = t - below;
    if (isfinite(high)) return low + (high - low) * part;
    double share = share_of(low) + (1 - share_of(low)) * part;
    return log((1 - share) / share);
}

sp_pair sp_path_at(const sp_path *path, double t)
{
    int last = sp_path_last(path);
    t = t > 0 ? t < last ? t : last : 0;
    if (path->kind == SP_PATH_FLOW) return (sp_pair){(path->timesteps - t) / path->timesteps, t / path->timesteps};
    if (t == (int)t) return (sp_pair){sqrt(path->abar[(int)t]), sqrt(1 - path->abar[(int)t])};
    double x = log_ratio_between(path, t);
    return (sp_pair){1 / sqrt(1 + exp(-2 * x)), 1 / sqrt(1 + exp(2 * x))};
}

double sp_path_timestep_of(const sp_path *path, sp_pair pair)
{
    if (path->kind == SP_PATH_FLOW) return path->timesteps * (pair.sigma / (pair.alpha + pair.sigma));
    double x = log(pair.alpha / pair.sigma);
    int low = 0, high = path->timesteps - 1; /* the ratio falls with t */
    if (x >= log_ratio_at(path, low)) return low;
    if (x <= log_ratio_at(path, high)) return high;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (log_ratio_at(path, middle) >= x)
            low = middle;
        else
            high = middle;
    }
    double above = log_ratio_at(path, low), below = log_ratio_at(path, high);
    if (isfinite(below)) return low + (above - x) / (above - below);
    return low + (share_of(x) - share_of(above)) / (1 - share_of(above));
}

static double ratio_at(const sp_path *path, int t)
{
    double abar = path->abar[t] > 0 ? path->abar[t] : 0x1p-24;
    return sqrt((1 - abar) / abar);
}

double sp_path_ratio(const sp_path *path, double t)
{
    if (path->kind == SP_PATH_FLOW) return t / (path->timesteps - t);
    int below = (int)t;
    double low = ratio_at(path, below);
    if (below == t || below + 1 >= path->timesteps) return low;
    return low + (ratio_at(path, below + 1) - low) * (t - below);
}

bool sp_path_ends_without_signal(const sp_path *path)
{
    return sp_path_at(path, sp_path_last(path)).alpha == 0;
}

int sp_path_last(const sp_path *path)
{
    return path->kind == SP_PATH_FLOW ? path->timesteps : path->timesteps - 1;
}

double sp_path_timestep(const sp_path *path, double tick)
{
    if (path->kind != SP_PATH_FLOW) return tick;
    double u = tick / path->timesteps;
    return path->timesteps * (path->shift * u / (1 + (path->shift - 1) * u));
}

int sp_path_logit_normal_tick(const sp_path *path, double x)
{
    int part = (int)(path->timesteps / (1 + exp(-x)));
    return sp_path_last(path) - (part < path->timesteps ? part : path->timesteps - 1);
}

/* Whether a normal number is below the one whose u is part/T. */
static double normal_below(const sp_path *path, int part)
{
    if (part <= 0) return 0;
    if (part >= path->timesteps) return 1;
    return erfc(-log((double)part / (path->timesteps - part)) / sqrt(2)) / 2;
}

double sp_path_logit_normal_share(const sp_path *path, int tick)
{
    int part = sp_path_last(path) - tick;
    return normal_below(path, part + 1) - normal_below(path, part);
}

sp_pair sp_path_transition(const sp_path *path, double s, double t)
{
    if (path->kind != SP_PATH_FLOW) { /* alpha_t/alpha_s, as one root of the quotient of their squares */
        double kept = path->abar[(int)t] / path->abar[(int)s];
        return (sp_pair){sqrt(kept), sqrt(1 - kept)};
    }
    sp_pair from = sp_path_at(path, s), to = sp_path_at(path, t);
    double kept = to.alpha / from.alpha, carried = kept * from.sigma;
    return (sp_pair){kept, sqrt(to.sigma * to.sigma - carried * carried)};
}

double sp_path_norm(const sp_path *path, sp_pair pair)
{
    if (path->kind == SP_PATH_FLOW) return pair.alpha + pair.sigma;
    return sqrt(pair.alpha * pair.alpha + pair.sigma * pair.sigma);
}

/* ---- predictions ---- */

const char *sp_prediction_name(sp_prediction prediction)
{
#define X(name, text) text,
    static const char *const names[] = {SP_PREDICTION_LIST(X)};
#undef X
    return names[prediction];
}

sp_estimate sp_estimate_from(sp_prediction prediction, sp_pair pair)
{
    double alpha = pair.alpha, sigma = pair.sigma;
    if (prediction == SP_PREDICTION_EPSILON)
        return (sp_estimate){.x0_z = 1 / alpha, .x0_m = -sigma / alpha, .noise_z = 0, .noise_m = 1};
    if (prediction == SP_PREDICTION_SAMPLE)
        return (sp_estimate){.x0_z = 0, .x0_m = 1, .noise_z = 1 / sigma, .noise_m = -alpha / sigma};
    double r = alpha + sigma, r2 = alpha * alpha + sigma * sigma;
    if (prediction == SP_PREDICTION_FLOW)
        return (sp_estimate){.x0_z = 1 / r, .x0_m = -sigma / r, .noise_z = 1 / r, .noise_m = alpha / r};
    r = sqrt(r2);
    return (sp_estimate){.x0_z = alpha / r2, .x0_m = -sigma / r, .noise_z = sigma / r2, .noise_m = alpha / r};
}

sp_pair sp_prediction_target(sp_prediction prediction, sp_pair pair)
{
    if (prediction == SP_PREDICTION_EPSILON) return (sp_pair){0, 1};
    if (prediction == SP_PREDICTION_SAMPLE) return (sp_pair){1, 0};
    return prediction == SP_PREDICTION_V ? (sp_pair){-pair.sigma, pair.alpha} : (sp_pair){-1, 1};
}

sp_boundary sp_path_boundary(const sp_path *path, double t)
{
    if (path->kind == SP_PATH_FLOW) return (sp_boundary){0, 1};
    return (sp_boundary){0.25 / (100 * t * t + 0.25), 10 * t / sqrt(100 * t * t + 0.25)};
}
