/* Samplers: from noise to a clean latent in a few evaluations of the network. A sampler is a table
 * of numbers, one row a step: what differs between samplers is the coefficients alone, worked out
 * in double precision when it is made.
 *
 *   lcm      consistency model: clean estimate with boundary, then fresh noise
 *            (Song et al. 2023, Luo et al. 2023)
 *   ddim     eta = 0 (Song et al. 2021)
 *   dpm++2m  DPM-Solver++(2M), midpoint (Lu et al. 2022)
 *   euler    Euler's method in sigma = sqrt(1 - abar)/sqrt(abar), on the state z/alpha
 *            (Karras et al. 2022)
 *   tcd      strategic stochastic sampling: a DDIM step to s = floor((1 - eta) t') below the next
 *            timestep t' (0 after the last), then noise up to t' (Zheng et al. 2024)
 *
 * Timesteps are those of diffusers' scheduler of that kind made by from_config. */
#ifndef SP_DIFFUSION_SAMPLER_H
#define SP_DIFFUSION_SAMPLER_H
#include <stdint.h>
#include "diffusion/scheduler_config.h"

const char *sp_sampler_name(sp_sampler_kind kind);
static const double sp_default_eta = 0.3; /* of tcd, as in diffusers */
/* SP_ARGUMENT, listing the names there are. */
sp_status sp_sampler_kind_of(const char *name, sp_sampler_kind *out);
/* Before a run: SP_UNSUPPORTED naming a key of the scheduler's file that the sampler would heed and
 * that is not done here; one warning for each that it passes over. */
sp_status sp_sampler_check(const sp_scheduler_config *config, sp_sampler_kind kind);
/* How a student of that kind is meant to be sampled; dpm++2m for any other model. */
sp_sampler_kind sp_sampler_for(const sp_scheduler_config *config);
/* How many steps when nobody says: the student's own number with its own sampler. */
int sp_sampler_steps_for(const sp_scheduler_config *config, sp_sampler_kind kind);

/* One step, from state z and the network's output m (guided, if it is):
 *   next  = z * . + m * . + previous * . + fresh * .
 *   clean = z * . + m * .            the estimate that is `previous` in the next step */
typedef struct {
    double timestep;    /* what the network is told; fractional for euler */
    double input_scale; /* the network sees input_scale * z */
    double z, m, previous, fresh;
    double clean_z, clean_m;
} sp_sampler_step;

typedef struct {
    sp_sampler_kind kind;
    int count;            /* steps that are taken */
    double initial_image; /* the first z is this times a clean latent; 0: from noise alone */
    double initial_sigma; /* and this times unit normal noise */
    sp_sampler_step *step;
} sp_sampler;

typedef struct {
    sp_sampler_kind kind;
    int steps;
    double eta;         /* tcd, 0..1: 0 adds no noise, 1 goes down to timestep 0 and draws anew */
    bool deterministic; /* no fresh noise: lcm keeps eps = (z - alpha clean)/sigma, tcd has eta 0 */
    double strength; /* 0: from noise alone. In (0,1]: from a picture, as diffusers' image-to-image
                        pipelines: the last floor(steps * strength) of the steps; lcm takes all of
                        them from the first floor(M * strength) timesteps of its M */
    bool old_grid;   /* lcm: floor(M/n) grid points apart; 4 steps: 999, 759, 519, 279 */
} sp_sampler_options;

/* sp_sampler_free in the end. SP_UNSUPPORTED as sp_sampler_check; SP_ARGUMENT when `steps` is out of range for the sampler and the
 * model's schedule, or when the strength leaves too few. */
sp_status sp_sampler_create(const sp_scheduler_config *config, const sp_sampler_options *options,
                            sp_sampler *out);
void sp_sampler_free(sp_sampler *sampler); /* zeroed is legal */

/* Advances `count` elements of z in place. m: the network's output. previous: kept by the caller
 * from step to step (its content before step 0 does not matter). fresh: unit normal noise, only
 * looked at if sampler->step[step].fresh != 0. */
void sp_sampler_advance(const sp_sampler *sampler, int step, float *z, const float *m,
                        float *previous, const float *fresh, int64_t count);

#endif
