/* The noise schedule and the parameterisation: alpha(t), sigma(t) for real t, and the one place
 * where a network's prediction becomes a clean latent and a noise estimate. Everything in double
 * precision. */
#ifndef SP_DIFFUSION_SCHEDULE_H
#define SP_DIFFUSION_SCHEDULE_H
#include "base/status.h"

#define SP_MAX_TIMESTEPS 4000

typedef enum { SP_PREDICTION_EPSILON, SP_PREDICTION_V } sp_prediction;

/* z_t = alpha(t) clean + sigma(t) noise, alpha^2 + sigma^2 = 1. */
typedef struct {
    int timesteps;                           /* T; timestep t is 0..T-1 */
    double alphas_cumprod[SP_MAX_TIMESTEPS]; /* abar_t = prod_{i<=t} (1 - beta_i) */
    sp_prediction prediction;
} sp_noise_schedule;

/* beta "scaled_linear": linspace(sqrt(start), sqrt(end))^2; "linear": linspace(start, end). */
sp_status sp_schedule_make(const char *beta_schedule, double beta_start, double beta_end,
                           int timesteps, sp_prediction prediction, sp_noise_schedule *out);

/* log(alpha/sigma), linear between integer timesteps; t is clamped to 0..T-1. */
double sp_schedule_log_ratio(const sp_noise_schedule *schedule, double t);
double sp_schedule_alpha(const sp_noise_schedule *schedule, double t);
double sp_schedule_sigma(const sp_noise_schedule *schedule, double t);
/* The real t at which log(alpha/sigma) has this value, clamped to 0..T-1. */
double sp_schedule_timestep_of(const sp_noise_schedule *schedule, double log_ratio);

/* With z = alpha x + sigma n (alpha^2 + sigma^2 = r^2, not always 1) and the network's output m:
 *   clean = clean_z z + clean_m m,   noise = noise_z z + noise_m m.
 *   epsilon: clean = (z - sigma m)/alpha, noise = m.
 *   v:       clean = (alpha/r^2) z - (sigma/r) m, noise = (sigma/r^2) z + (alpha/r) m. */
typedef struct {
    double clean_z, clean_m, noise_z, noise_m;
} sp_estimate;
sp_estimate sp_estimate_from(sp_prediction prediction, double alpha, double sigma);

/* The consistency model's boundary: c_skip(t) = .25/((10t)^2 + .25), c_out(t) = 10t/sqrt((10t)^2 +
 * .25). */
double sp_boundary_skip(double t);
double sp_boundary_out(double t);

#endif
