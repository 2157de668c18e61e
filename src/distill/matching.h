/* Distribution matching distillation, objective dmd (Yin et al. 2024, "One-step Diffusion with Distribution Matching
 * Distillation", and "Improved Distribution Matching Distillation for Fast Image Synthesis", DMD2). Two networks are
 * trained in turn, both beginning as the teacher: the student G, and the fake score, a diffusion model of what the
 * student makes. One training step is one optimiser step of one of them: of every N + 1 steps N are the fake score's
 * (--fake-score-steps, DMD2's two time-scale rule) and the last is the student's.
 *
 *   timesteps    the student's n are tau_j = k (n - j) - 1, j = 0..n-1, k = T/n: 999, 749, 499, 249
 *   simulation   z is what the student itself meets at tau_j in sampling, made without a gradient: z_0 = noise at
 *                tau_0, and z_{j+1} = alpha x + sigma noise at tau_{j+1}, x = G(z_j, tau_j), the noise fresh each time
 *                (DMD2's backward simulation). j is drawn uniformly once for all samples of a step
 *   x            = x0(z_j, tau_j), the clean estimate of the student's output
 *   t, z_t       a timestep drawn per sample, and z_t = alpha_t x + sigma_t noise, through which no gradient flows
 *
 *   student      t uniform in rint(.02 T) .. rint(.98 T);
 *                x_real = the teacher's x0(z_t, t), guided by w: x0_c + w (x0_c - x0_u); x_fake = the fake score's;
 *                g = (x_fake - x_real) / mean|x - x_real|, the mean over a sample's elements;
 *                loss 1/2 mean (x - (x - g))^2, where x - g is a constant: its gradient with respect to x is g / count
 *   fake score   t uniform in 0 .. T - 1; loss mean (m - m*)^2 of its output m at (z_t, t) and what a network that knew
 *                x and the noise would put out, m* = noise or v
 *
 * On a flow timesteps are ticks, which are shifted (diffusion/path.h): tau_j = k (n - j), so 1, 3/4, 2/4, 1/4 shifted
 * once; t in 1 .. T for the fake score; z = (1 - t) x + t noise, x = z - t m, m* = noise - x.
 *
 * With a discriminator (gan_weight > 0) both losses have a term more, of the logit D that a head gives of the middle
 * block's features of the fake score (models/discriminator.h), of latents noised to a timestep of their own, t' uniform
 * in 0 .. T - 1 and the noise fresh: x' = alpha x + sigma noise, and x0' likewise of a latent x0 of the data
 *
 *   student      + gan_weight mean softplus(-D(x')), through the fake score to x
 *   fake score   + gan_fake_score_weight (mean softplus(D(x')) + mean softplus(-D(x0'))), to all its weights and the
 *                head's, which are in its set and trained whole, over adapters too
 *
 * All of it is conditioned on a caption of the data set; its picture is looked at by the discriminator alone. Where
 * adapters are trained, both networks are adapters over the one teacher. */
#ifndef SP_DISTILL_MATCHING_H
#define SP_DISTILL_MATCHING_H
#include "distill/objective.h"

#define SP_FAKE_SCORE "fake_score" /* its weight set, and its name in metrics and checkpoints */

bool sp_matching_has_discriminator(const sp_objective_settings *settings);

/* Step 0.. of a training: whose it is, and how many that network has had before. */
typedef struct {
    bool fake_score;
    int64_t updates;
} sp_matching_turn;
sp_matching_turn sp_matching_turn_of(const sp_objective_settings *settings, int64_t step);

/* tau_j as a tick of the path, and the one j that all samples of a training step have. */
int sp_matching_timestep(const sp_objective_settings *settings, const sp_path *path, int j);
int sp_matching_student_step(const sp_objective_settings *settings, uint64_t seed, uint64_t step);
/* A timestep t of the range low..high as a tick; the key's draw. */
typedef struct {
    int low, high;
} sp_matching_range;
int sp_matching_draw(sp_matching_range range, sp_random_key key);
/* The range of t; t' has that of the fake score in both. */
sp_matching_range sp_matching_range_of(const sp_path *path, bool fake_score);

/* ---- graphs ---- */

/* Every number that a graph may need for one sample; the names are those of its inputs. */
#define SP_MATCHING_COEFFICIENT_LIST(X)                                                                                \
    X(student_timestep) /* tau_j */                                                                                    \
    X(made_z)           /* x = . z + */                                                                                \
    X(made_m)           /*     . m; simulation: z_{j+1} = . z + . m + */                                               \
    X(made_noise)       /*                                . noise */                                                   \
    X(score_timestep)   /* t */                                                                                        \
    X(noised_x)         /* z_t = . x + */                                                                              \
    X(noised_noise)     /*       . noise */                                                                            \
    X(estimate_z)       /* x_fake = . z_t + */                                                                         \
    X(estimate_m)       /*          . m_fake */                                                                        \
    X(real_cond)        /* x_real = estimate_z z_t + . m_cond + */                                                     \
    X(real_uncond)      /*                           . m_uncond, with guidance */                                      \
    X(wanted_x)         /* m* = . x + */                                                                               \
    X(wanted_noise)     /*      . noise */                                                                             \
    X(gan_timestep)     /* t' of x */                                                                                  \
    X(gan_x)            /* x' = . x + */                                                                               \
    X(gan_sigma)        /*      . gan_noise */                                                                         \
    X(data_timestep)    /* t' of x0 */                                                                                 \
    X(data_x0)          /* x0' = . x0 + */                                                                             \
    X(data_sigma)       /*       . data_noise */

typedef struct {
#define X(name) double name;
    SP_MATCHING_COEFFICIENT_LIST(X)
#undef X
} sp_matching_coefficients;

/* Of a sample at the student's step j with timestep t; simulation (SP_STEP_AHEAD): that on to step j + 1, t is not
 * looked at. Without a discriminator's. */
sp_matching_coefficients sp_matching_coefficients_of(const sp_objective_settings *settings, const sp_path *path,
                                                     sp_step_part part, int j, int t);
/* Those too, of t' of x and of x0. */
void sp_matching_add_discriminator(const sp_path *path, int gan_t, int data_t, sp_matching_coefficients *coefficients);

/* Inputs of rate STEP: "z" and "noise" [B,C,H,W] f32, with a discriminator also "gan_noise" and, of the fake score,
 * "x0" and "data_noise", the conditioning as in sp_objective_graph (negative: of the student alone, and where the
 * teacher is guided), and the coefficients [B]. Weight sets: "online", "fake_score" (both STEP; simulation has the
 * former alone) and "teacher" (RUN; of whole networks the student's graph alone). Outputs: simulation "next", z_{j+1};
 * the others "loss", the gradients of their network, and if shape->trace "prediction" and "target": x and x - g; m and
 * m*. With a discriminator the loss's parts, without their weights: "loss_matching" and "loss_gan", or
 * "loss_denoising", "loss_gan_fake" and "loss_gan_real". */
sp_status sp_matching_graph(const sp_objective_settings *settings, const sp_step_shape *shape, sp_step_part part,
                            sp_graph **out);
/* Adds the discriminator's weights, as PyTorch starts such layers, to those of a fake score. */
sp_status sp_matching_discriminator_start(const sp_objective_settings *settings, const sp_step_shape *shape,
                                          uint64_t seed, sp_weights *fake_score);
/* Sets every coefficient input of a run from `batch` samples'. */
sp_status sp_matching_set_coefficients(sp_run *run, const sp_matching_coefficients *samples, int64_t batch);

#endif
