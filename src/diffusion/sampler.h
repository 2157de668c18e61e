/* Samplers: from noise to a clean latent in a few evaluations of the network. A sampler is a table of
 * numbers, a row an evaluation: what differs between samplers is the coefficients alone, worked out in
 * double precision when it is made.
 *
 *   lcm          consistency model: clean estimate with boundary, then fresh noise
 *                (Song et al. 2023, Luo et al. 2023)
 *   ddim         to alpha' x0 + sqrt(sigma'^2 - s^2) noise and s of fresh noise, where
 *                s = eta (sigma'/sigma) sqrt(sigma^2 - (alpha/alpha')^2 sigma'^2), with eta 1 DDPM's (Song et al. 2021)
 *   dpm++2m      DPM-Solver++, multistep; of order 2, midpoint, where the scheduler's file says nothing
 *                (Lu et al. 2022)
 *   dpm++2m-sde  the same for the stochastic equation, with fresh noise in every step
 *   unipc        UniPC: every evaluation also corrects the step before it (Zhao et al. 2023)
 *   euler        Euler's method in sigma = sqrt(1 - abar)/sqrt(abar), on the state z/alpha
 *                (Karras et al. 2022)
 *   euler-a      ancestral: Euler's method to below the next sigma, then fresh noise up to it
 *   heun         Heun's method on the same state: two evaluations a step, one in the last
 *   tcd          strategic stochastic sampling: a DDIM step to s = floor((1 - eta) t') below the next
 *                timestep t' (0 after the last), then noise up to t' (Zheng et al. 2024)
 *
 * Timesteps, sigmas and orders are those of diffusers' scheduler of that kind made by from_config. */
#ifndef SP_DIFFUSION_SAMPLER_H
#define SP_DIFFUSION_SAMPLER_H
#include <stdint.h>
#include "diffusion/scheduler_config.h"

const char *sp_sampler_name(sp_sampler_kind kind);
const char *sp_sampler_label(sp_sampler_kind kind); /* what A1111's web interface calls it */
/* Whether it draws more or less, by an eta, and which one it has where nobody says: as in diffusers .3 of tcd, 0 of
 * ddim. */
bool sp_sampler_has_eta(sp_sampler_kind kind);
double sp_sampler_eta_for(sp_sampler_kind kind);
/* SP_ARGUMENT, listing the names there are. */
sp_status sp_sampler_kind_of(const char *name, sp_sampler_kind *out);
/* "normal", "karras", "exponential"; SP_ARGUMENT for another name. */
sp_status sp_sigmas_of(const char *name, sp_sigmas *out);
const char *sp_sigmas_name(sp_sigmas sigmas); /* not of OWN */
/* "leading", "linspace", "trailing"; SP_ARGUMENT for another name. */
sp_status sp_spacing_of(const char *name, sp_timestep_spacing *out);
const char *sp_spacing_name(sp_timestep_spacing spacing); /* not of OWN */
/* What a model is sampled with where nobody says: a student's own, or that of the class that its file names; dpm++2m
 * for DDIM, PNDM and DDPM and where there is none, or dpm++2m-sde if the file asks for that algorithm. */
sp_sampler_kind sp_sampler_for(const sp_scheduler_config *config);
/* The one of that name, or without a name sp_sampler_for's. SP_ARGUMENT, listing the names there are; SP_UNSUPPORTED
 * without a name, naming the file's class if it is none of these samplers. */
sp_status sp_sampler_choose(const sp_scheduler_config *config, const char *name, sp_sampler_kind *out);
/* How many steps when nobody says: the student's own number with its own sampler. */
int sp_sampler_steps_for(const sp_scheduler_config *config, sp_sampler_kind kind);

enum { SP_SAMPLER_KEPT = 3 };
/* Weights of the state z, the network's output m (guided, if it is), what earlier evaluations kept, and
 * fresh unit normal noise. */
typedef struct {
    double z, m, kept[SP_SAMPLER_KEPT], fresh;
} sp_combination;

/* One evaluation, and what becomes of the state and of what is kept, all from their values before. */
typedef struct {
    double timestep;    /* what the network is told; fractional for euler and heun */
    double input_scale; /* the network sees input_scale * z */
    sp_combination next, keep[SP_SAMPLER_KEPT];
    sp_combination clean; /* what the network takes the clean latent to be, x0: of z and m alone */
} sp_sampler_step;

typedef struct {
    sp_sampler_kind kind;
    int count;            /* evaluations */
    int kept;             /* so many arrays of the state's size are kept from one to the next */
    double initial_image; /* the first z is this times a clean latent; 0: from noise alone */
    double initial_sigma; /* and this times unit normal noise */
    sp_sampler_step *step;
} sp_sampler;

typedef struct {
    sp_sampler_kind kind;
    int steps;
    sp_sigmas sigmas;   /* OWN: as the scheduler's file says */
    sp_timestep_spacing spacing; /* likewise */
    double eta;         /* 0..1: 0 adds no noise; 1, with tcd, goes down to timestep 0 and draws anew */
    double strength; /* 0: from noise alone. In (0,1]: from a picture, as diffusers' image-to-image pipelines: the last
                        floor(steps * strength) of the steps (of a flow what is left out is floored); lcm takes all of
                        them from the first floor(M * strength) timesteps of its M */
    bool old_grid;   /* lcm: floor(M/n) grid points apart; 4 steps: 999, 759, 519, 279 */
} sp_sampler_options;

/* The sigmas that are taken: those asked for, else the file's; OWN with a sampler that takes none. */
sp_sigmas sp_sampler_sigmas(const sp_scheduler_config *config, const sp_sampler_options *options);
/* Likewise the spacing, which is the sampler's own where neither says; OWN with a sampler that has timesteps of its
 * own, and of a flow. */
sp_timestep_spacing sp_sampler_spacing(const sp_scheduler_config *config, const sp_sampler_options *options);
/* Before a run: SP_UNSUPPORTED naming a key of the scheduler's file that the sampler would heed and
 * that is not done here, SP_ARGUMENT for sigmas or a spacing with a sampler that has none; one warning for each key
 * that the sampler passes over. */
sp_status sp_sampler_check(const sp_scheduler_config *config, const sp_sampler_options *options);

/* sp_sampler_free in the end. SP_UNSUPPORTED and SP_ARGUMENT as sp_sampler_check; SP_ARGUMENT when
 * `steps` is out of range for the sampler and the model's schedule, or when the strength leaves too
 * few; SP_NUMERIC if the file's settings make coefficients that are not finite, as a last
 * step of higher order to sigma 0. */
sp_status sp_sampler_create(const sp_scheduler_config *config, const sp_sampler_options *options,
                            sp_sampler *out);
void sp_sampler_free(sp_sampler *sampler); /* zeroed is legal */
/* One line in the log: its name, the spacing and sigmas where it has them, and every timestep. */
void sp_sampler_log(const sp_scheduler_config *config, const sp_sampler_options *options, const sp_sampler *sampler);
/* The timesteps that it tells the network, each once, in t, which has room for sampler->count; how many there are. */
int sp_sampler_timesteps(const sp_sampler *sampler, double *t);

/* x0 as evaluation `step` estimates it, of `count` elements of the state that it saw and of its output. */
void sp_sampler_estimate(const sp_sampler *sampler, int step, const float *z, const float *model_output, float *x0,
                         int64_t count);
/* Advances `count` elements of z in place. model_output: the network's. kept: sampler->kept arrays
 * of `count`, one behind the other, the caller's from step to step (their content before step 0 does not
 * matter). fresh: unit normal noise, only looked at if sampler->step[step].next.fresh != 0. */
void sp_sampler_advance(const sp_sampler *sampler, int step, float *z, const float *model_output,
                        float *kept, const float *fresh, int64_t count);

#endif
