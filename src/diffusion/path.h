/* The path from noise to a clean latent, and what a network's output says at a point of it: z_t = alpha(t) x0 +
 * sigma(t) noise. The one place that knows a model's schedule, its prediction type, and the conversion between
 * model output and (x0, noise). Everything in double precision.
 *
 *   variance preserving   alpha^2 + sigma^2 = 1, alpha(t)^2 = abar_t from betas (Ho et al. 2020); alpha > 0
 *   zero terminal SNR     the same, with sqrt(abar) moved and stretched so that the last one is 0 and the first is
 *                         kept: sqrt(abar_t) <- (sqrt(abar_t) - sqrt(abar_T)) sqrt(abar_0)/(sqrt(abar_0) -
 *                         sqrt(abar_T)), diffusers' rescale_betas_zero_snr (Lin et al. 2024)
 *   flow                  alpha = 1 - t/T, sigma = t/T, t in [0, T] (Liu et al. 2023); grids are laid evenly in u and
 *                         shifted, t = T shift u/(1 + (shift - 1) u) (Esser et al. 2024)
 *
 * The latter two reach alpha = 0. Whoever computes with a path says what it does with pairs (alpha, sigma), and
 * divides by neither where it may be 0. */
#ifndef SP_DIFFUSION_PATH_H
#define SP_DIFFUSION_PATH_H
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"
#include "options/choices.h"

#define SP_MAX_TIMESTEPS 4000

typedef enum { SP_PATH_VARIANCE_PRESERVING, SP_PATH_ZERO_SNR, SP_PATH_FLOW } sp_path_kind;

/* (kind, diffusers' prediction_type) */
#define SP_PREDICTION_LIST(X) SP_PREDICTION_TYPE_LIST(X) X(FLOW, "flow_prediction")
typedef enum {
#define X(name, text) SP_PREDICTION_##name,
    SP_PREDICTION_LIST(X)
#undef X
        SP_PREDICTION_COUNT
} sp_prediction;
const char *sp_prediction_name(sp_prediction prediction);

typedef struct {
    sp_path_kind kind;
    sp_prediction prediction;
    int timesteps;                  /* T */
    double shift;                   /* flow */
    double abar[SP_MAX_TIMESTEPS]; /* abar_t = prod_{i<=t} (1 - beta_i), t = 0..T-1; flow: unused */
} sp_path;

/* z = alpha x0 + sigma noise. */
typedef struct {
    double alpha, sigma;
} sp_pair;

/* Variance preserving. beta "scaled_linear": linspace(sqrt(start), sqrt(end))^2; "linear": linspace(start, end).
 * SP_UNSUPPORTED for another word, SP_FORMAT for numbers out of range. */
sp_status sp_path_of_betas(const char *beta_schedule, double beta_start, double beta_end, int timesteps,
                           sp_prediction prediction, sp_path *out);
/* Makes zero terminal SNR of it. */
void sp_path_rescale_zero_snr(sp_path *path);
/* shift > 0; predicts the velocity noise - x0. */
void sp_path_of_flow(double shift, int timesteps, sp_path *out);

/* At a real t, clamped to where the path is defined. Between integers a table is continued linearly in
 * log(alpha/sigma), or where that is infinite at one of them in sigma/(alpha + sigma). */
sp_pair sp_path_at(const sp_path *path, double t);
/* The t at which sigma/(alpha + sigma) is that of the pair, clamped likewise: what a latent of these parts, however
 * scaled, is a latent of. One of alpha and sigma may be 0. */
double sp_path_timestep_of(const sp_path *path, sp_pair pair);
/* sigma/alpha, between integers of a table linear in itself, as Euler's grid in diffusers has it. Zero terminal SNR
 * has at its end that of abar = 2^-24, diffusers' number where a sampler divides by alpha; flow is infinite at T. */
double sp_path_ratio(const sp_path *path, double t);

/* Whether alpha is 0 at the end. */
bool sp_path_ends_without_signal(const sp_path *path);

/* Grids are laid in ticks 0..last: of a table its timesteps; of a flow T even parts of u, which a timestep is shifted
 * from. */
int sp_path_last(const sp_path *path);
double sp_path_timestep(const sp_path *path, double tick);

/* The tick, 1..last, that a standard normal number x gives in the training of flow models: last - floor(T u),
 * u = 1/(1 + e^-x), as diffusers' scripts take it with weighting_scheme logit_normal (Esser et al. 2024). */
int sp_path_logit_normal_tick(const sp_path *path, double x);
/* How often, in all, it is that tick. */
double sp_path_logit_normal_share(const sp_path *path, int tick);

/* What diffusion adds on the way up from timestep s to t: z_t = .alpha z_s + .sigma fresh noise. alpha is not 0
 * at s. */
sp_pair sp_path_transition(const sp_path *path, double s, double t);
/* How much larger alpha x0 + sigma noise is than the latent that a network is shown: hypot(alpha, sigma), flow:
 * alpha + sigma. */
double sp_path_norm(const sp_path *path, sp_pair pair);

/* What tells a path apart from others of its kind, as bytes. */
const void *sp_path_bytes(const sp_path *path, size_t *size);

/* With z = alpha x0 + sigma noise, of any norm r, and the network's output m for z/r:
 *   x0 = x0_z z + x0_m m,   noise = noise_z z + noise_m m.
 *   epsilon: x0 = (z - sigma m)/alpha, noise = m
 *   v:       x0 = (alpha/r^2) z - (sigma/r) m, noise = (sigma/r^2) z + (alpha/r) m, r^2 = alpha^2 + sigma^2
 *   sample:  x0 = m, noise = (z - alpha m)/sigma
 *   flow:    x0 = z/r - (sigma/r) m, noise = z/r + (alpha/r) m, r = alpha + sigma
 * At alpha = 0 epsilon says nothing of x0, and sample at sigma = 0, which no table reaches, nothing of the noise: the
 * numbers are not finite. */
typedef struct {
    double x0_z, x0_m, noise_z, noise_m;
} sp_estimate;
sp_estimate sp_estimate_from(sp_prediction prediction, sp_pair pair);
/* The other way: the output of a network that knows is .alpha x0 + .sigma noise at a pair of norm 1: epsilon
 * (0, 1), v (-sigma, alpha), sample (1, 0), flow (-1, 1). */
sp_pair sp_prediction_target(sp_prediction prediction, sp_pair pair);

/* A consistency model's output skip z + out x0: skip = .25/((10t)^2 + .25), out = 10t/sqrt((10t)^2 + .25). On a flow x0
 * = z - t v is z at t = 0 by itself: 0 and 1. */
typedef struct {
    double skip, out;
} sp_boundary;
sp_boundary sp_path_boundary(const sp_path *path, double t);

#endif
