/* Noise schedule and parameterisation. */
#include "diffusion/schedule.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

sp_status sp_schedule_make(const char *beta_schedule, double beta_start, double beta_end,
                           int timesteps, sp_prediction prediction, sp_noise_schedule *out)
{
    bool scaled = strcmp(beta_schedule, "scaled_linear") == 0;
    if (!scaled && strcmp(beta_schedule, "linear") != 0)
        return sp_fail(SP_UNSUPPORTED,
                       "beta_schedule \"%s\" is not supported (scaled_linear or linear)",
                       beta_schedule);
    if (timesteps < 2 || timesteps > SP_MAX_TIMESTEPS)
        return sp_fail(SP_FORMAT, "num_train_timesteps is %d, expected 2 to %d", timesteps,
                       SP_MAX_TIMESTEPS);
    if (!(beta_start > 0 && beta_start < 1 && beta_end > 0 && beta_end < 1))
        return sp_fail(SP_FORMAT, "beta_start %g and beta_end %g must lie between 0 and 1",
                       beta_start, beta_end);
    out->timesteps = timesteps;
    out->prediction = prediction;
    double from = scaled ? sqrt(beta_start) : beta_start, to = scaled ? sqrt(beta_end) : beta_end,
           product = 1;
    for (int t = 0; t < timesteps; t++) {
        double beta = from + (to - from) * t / (timesteps - 1);
        if (scaled) beta *= beta;
        product *= 1 - beta;
        out->alphas_cumprod[t] = product;
    }
    return SP_OK;
}

static double log_ratio_at(const sp_noise_schedule *schedule, int t)
{
    double abar = schedule->alphas_cumprod[t];
    return 0.5 * (log(abar) - log1p(-abar));
}

double sp_schedule_log_ratio(const sp_noise_schedule *schedule, double t)
{
    int last = schedule->timesteps - 1;
    if (t <= 0) return log_ratio_at(schedule, 0);
    if (t >= last) return log_ratio_at(schedule, last);
    int below = (int)t;
    double low = log_ratio_at(schedule, below), high = log_ratio_at(schedule, below + 1);
    return low + (high - low) * (t - below);
}

double sp_schedule_alpha(const sp_noise_schedule *schedule, double t)
{
    if (t == (int)t && t >= 0 && t < schedule->timesteps)
        return sqrt(schedule->alphas_cumprod[(int)t]);
    return 1 / sqrt(1 + exp(-2 * sp_schedule_log_ratio(schedule, t)));
}

double sp_schedule_sigma(const sp_noise_schedule *schedule, double t)
{
    if (t == (int)t && t >= 0 && t < schedule->timesteps)
        return sqrt(1 - schedule->alphas_cumprod[(int)t]);
    return 1 / sqrt(1 + exp(2 * sp_schedule_log_ratio(schedule, t)));
}

double sp_schedule_timestep_of(const sp_noise_schedule *schedule, double log_ratio)
{
    int low = 0, high = schedule->timesteps - 1; /* the ratio falls with t */
    if (log_ratio >= log_ratio_at(schedule, low)) return low;
    if (log_ratio <= log_ratio_at(schedule, high)) return high;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (log_ratio_at(schedule, middle) >= log_ratio)
            low = middle;
        else
            high = middle;
    }
    double above = log_ratio_at(schedule, low), below = log_ratio_at(schedule, high);
    return low + (above - log_ratio) / (above - below);
}

sp_estimate sp_estimate_from(sp_prediction prediction, double alpha, double sigma)
{
    if (prediction == SP_PREDICTION_EPSILON)
        return (sp_estimate){
            .clean_z = 1 / alpha, .clean_m = -sigma / alpha, .noise_z = 0, .noise_m = 1};
    double r2 = alpha * alpha + sigma * sigma, r = sqrt(r2);
    return (sp_estimate){
        .clean_z = alpha / r2, .clean_m = -sigma / r, .noise_z = sigma / r2, .noise_m = alpha / r};
}

double sp_boundary_skip(double t)
{
    return 0.25 / (100 * t * t + 0.25);
}

double sp_boundary_out(double t)
{
    return 10 * t / sqrt(100 * t * t + 0.25);
}
