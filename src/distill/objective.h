/* Distillation objectives. One training step is one graph (matching.h has another kind): form z_s, let the
 * teacher solve the sub-path, form the student's input and target, compare. All that differs between objectives,
 * sigma forms, parameterisations and gamma conditionings is the numbers in front of the tensors,
 * which sp_subpath_coefficients works out in double precision, and two questions that change the
 * graph: is the teacher guided, and does the target ask the average network.
 *
 * Symbols are those of the papers: s start, e end of the sub-path, gamma the position on it, rho =
 * alpha_s/alpha_e, u where prediction and target are compared. With x0 and eps the two estimates of
 * one evaluation, f(z, t -> u) = alpha_u x0(z, t) + sigma_u eps(z, t) is a DDIM step from t to u
 * and the identity at u = t.
 *
 *   splam        p = f(z_gamma, s -> clean), target f_average(z_e, e -> clean), both with c_skip and
 *                c_out (Xu et al. 2024)
 *   lcm          splam with gamma = 1 (Luo et al. 2023)
 *   pcm          p = f(z_s, s -> u), target f_average(z_e, e -> u): u is the lower edge of the phase
 *                that s lies in, of P equal ones, rint(p T/P) - 1 for p = 1..P-1, and 0. An edge
 *                belongs to the phase below, and e is never below u. The edges are the timesteps of
 *                DDIM with trailing spacing in P steps (Wang et al. 2024)
 *   tcd          the same with u drawn uniformly from 0..e (Zheng et al. 2024)
 *   progressive  p = x0(z_s, s), target the clean latent with which one DDIM step from z_s to e ends
 *                where n steps of the teacher end:
 *                  x = (z_e - (sigma_e/sigma_s) z_s) / (alpha_e - (sigma_e/sigma_s) alpha_s),
 *                both times sqrt(max(alpha_s^2/sigma_s^2, 1)), so that l2 has the truncated SNR
 *                weight. Round r = 0..R-1 has N = M/n^(r+1) starts rint(i T/N) - 1, i = 1..N, the
 *                last end being 0; the teacher steps over the grid of nN. Its teacher is the student
 *                of round r - 1, without guidance, which the first round distils
 *                (Salimans & Ho 2022)
 *   dmd          trains two networks in turn and has no sub-paths: matching.h
 *
 * Losses of samples may be weighted (l2 as it stands; a huber loss, which grows with |d|, likewise):
 *
 *   min-snr         min(SNR, snr_gamma), SNR = alpha^2/sigma^2 of z_gamma, for splam and lcm. Hang et al. 2023 weigh an
 *                   error of x0 so; diffusers' scripts divide by SNR where the network predicts epsilon and by SNR + 1
 *                   where it predicts v, since an error dm of the output is one of -(sigma/alpha) dm, or of -(sigma/r)
 *                   dm, in x0. Here x0 itself is compared, whatever is predicted, so that the three are one weight.
 *                   pcm and tcd compare latents at u, where an error of x0 arrives times alpha_u - sigma_u alpha_s /
 *                   sigma_s: what undoes that is unbounded as u nears s, and they do without; progressive has its own
 *   inverse-length  1/(s - e) over its mean over the starts, for all but progressive, whose lengths are equal.
 *                   It is splam's too: of what is left of its sub-path, gamma (s - e), the inverse has no mean */
#ifndef SP_DISTILL_OBJECTIVE_H
#define SP_DISTILL_OBJECTIVE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/random.h"
#include "diffusion/path.h"
#include "graph/run.h"
#include "models/guidance.h"
#include "pipeline/conditioning.h"
#include "pipeline/denoiser.h"
#include "checkpoints/lora.h"
#include "ops/ops.h"
#include "options/choices.h"

#define SP_WEIGHTING_ENTRY(name, text) SP_WEIGHTING_##name,
#define SP_OBJECTIVE_ENTRY(name, text) SP_OBJECTIVE_##name,
#define SP_SIGMA_ENTRY(name, text) SP_SIGMA_##name,
#define SP_GAMMA_ENTRY(name, text) SP_GAMMA_##name,
#define SP_START_ENTRY(name, text) SP_START_##name,
typedef enum { SP_OBJECTIVE_LIST(SP_OBJECTIVE_ENTRY) SP_OBJECTIVE_COUNT } sp_objective;
/* Where z_gamma lies on the sub-path, and how much noise it has. quadratic and linear are the paper's point
 * gamma z_s + (1 - gamma) rho z_e, of alpha_s and sigma^2 = rho^2 sigma_e^2 + gamma^2 (1 - rho^2), or the exact
 * gamma sigma_s + (1 - gamma) rho sigma_e. chord has rho = 1: (alpha, sigma) = gamma (alpha_s, sigma_s) +
 * (1 - gamma) (alpha_e, sigma_e), the same points up to their scale, more of them towards e. Where alpha_s = 0 the
 * paper's are all of one direction, and the chord's are not. */
typedef enum { SP_SIGMA_LIST(SP_SIGMA_ENTRY) SP_SIGMA_COUNT } sp_sigma_form;
/* none: the student is not told, and is a network like its teacher. */
typedef enum { SP_GAMMA_CONDITIONING_LIST(SP_GAMMA_ENTRY) SP_GAMMA_CONDITIONING_COUNT } sp_gamma_conditioning;
typedef enum { SP_LOSS_WEIGHTING_LIST(SP_WEIGHTING_ENTRY) SP_WEIGHTING_COUNT } sp_loss_weighting;
/* Where sub-paths start. grid: at each of M points as often; logit-normal: at any tick, as often as a flow model is
 * trained there (sp_path_logit_normal_tick). */
typedef enum { SP_START_LIST(SP_START_ENTRY) SP_START_COUNT } sp_start_kind;
const char *sp_objective_name(sp_objective objective);
const char *sp_sigma_name(sp_sigma_form sigma);
const char *sp_gamma_conditioning_name(sp_gamma_conditioning conditioning);
const char *sp_loss_type_name(sp_loss_kind kind);
const char *sp_loss_weighting_name(sp_loss_weighting weighting);
const char *sp_start_name(sp_start_kind starts);
/* SP_ARGUMENT, naming the choices, for any other text. */
sp_status sp_objective_of(const char *name, sp_objective *out);
sp_status sp_sigma_of(const char *name, sp_sigma_form *out);
sp_status sp_gamma_conditioning_of(const char *name, sp_gamma_conditioning *out);
sp_status sp_loss_type_of(const char *name, sp_loss_kind *out);
sp_status sp_loss_weighting_of(const char *name, sp_loss_weighting *out);
sp_status sp_start_of(const char *name, sp_start_kind *out);

/* gamma is 1 with `one_probability`; else, with x = uniform^power in [0,1), x itself, or with a
 * grid of N values (floor(N x) + 1)/N: one of 1/N, 2/N, ..., 1. A grid of 1 is gamma = 1. */
typedef struct {
    double one_probability;
    double power; /* below 1 moves the draws towards 1 (1: uniform) */
    int grid;     /* N; 0: none */
} sp_gamma_distribution;
double sp_gamma_draw(const sp_gamma_distribution *distribution, sp_random_key key);

enum { SP_MAX_SOLVER_STEPS = 16, SP_MAX_STUDENT_STEPS = 64 };

/* What fixes the mathematics of a run. */
typedef struct {
    sp_objective objective;
    sp_sigma_form sigma;                /* splam */
    sp_gamma_conditioning conditioning; /* splam: embedding or time; the others: none */
    sp_gamma_distribution gamma;        /* the others: a grid of 1 */
    double guidance_scale_w; /* out = cond + w (cond - uncond); 0: one pass, no guidance */
    /* lcm, and splam told gamma by time: w + 1 is drawn from it for each sample, evenly, and w is told to both students
     * by cond_proj (sp_guidance_embedding); guidance_scale_w is the middle's then. high 0: w is the same for all. */
    sp_guidance_range guidance;
    sp_start_kind starts; /* logit-normal: of flow teachers, not progressive and dmd */
    int ddim_timesteps; /* M: starts are s = k(i+1)-1, k = T/M, i = 0..M-1; progressive: above; dmd: the student's
                           steps begin there */
    int skip;           /* K: e = max(s - K, 0); progressive and dmd: 0 */
    int skip_to;        /* K of the last step of a run, and skip that of the first; where they are the same, of all */
    int solver_steps;   /* n DDIM steps inside the sub-path, at s - round(j K/n) */
    int phases;         /* P of pcm; the others: 0 */
    int rounds;         /* R of progressive; the others: 1 */
    int fake_score_steps; /* N of dmd; the others: 0 */
    double gan_weight, gan_fake_score_weight; /* of dmd's discriminator, matching.h; 0: it has none */
    sp_loss_options loss;
    sp_loss_weighting weighting;
    double snr_gamma; /* of min-snr */
} sp_objective_settings;

/* The papers' settings: w = 8, M = 50, K = 20, n = 1, huber 1e-3; splam: quadratic, embedding,
 * gamma uniform; pcm: 4 phases; progressive: 64 steps, halved in 4 rounds, l2; dmd: 4 steps, the fake score 5 a
 * student's. */
sp_objective_settings sp_objective_defaults(sp_objective objective);
/* SP_ARGUMENT, naming the member, for settings that are out of range or that the objective has no use
 * for; SP_UNSUPPORTED for those that need a signal, alpha > 0, on a path that ends without one. */
sp_status sp_objective_check(const sp_objective_settings *settings, const sp_path *path);
/* SP_ARGUMENT: the member says nothing to this objective and is for `used_by`. */
sp_status sp_objective_useless(sp_objective objective, const char *member, const char *used_by);
/* How many steps a student is made for: P, M/n^R, dmd's M, or 0 where any number will do. */
int sp_objective_distilled_steps(const sp_objective_settings *settings);
/* Whether the student is told gamma or its guidance by cond_proj. */
bool sp_objective_has_cond_proj(const sp_objective_settings *settings);
/* False: the target is made without the average. */
bool sp_objective_asks_average(const sp_objective_settings *settings);

/* The round 0..R-1 that training step 0..max_steps-1 belongs to, floor(step R/max_steps), and the
 * first step of a round. */
int sp_round_of_step(const sp_objective_settings *settings, int64_t step, int64_t max_steps);
int64_t sp_round_begin(const sp_objective_settings *settings, int round, int64_t max_steps);
/* The settings of one round: ddim_timesteps is N there, and guidance_scale_w 0 after the first. */
sp_objective_settings sp_round_settings(const sp_objective_settings *settings, int round);
/* Of step i = 0..N-1 of a run of N: those of its round, with K = skip (skip_to/skip)^(i/(N-1)), halves rounded up, for
 * skip and skip_to. Graphs are the same for all K. What follows takes these. */
sp_objective_settings sp_step_settings(const sp_objective_settings *settings, int64_t step, int64_t max_steps);

/* One sample's sub-path. */
typedef struct {
    int start, end;
    int point[SP_MAX_SOLVER_STEPS + 1]; /* the teacher's timesteps: start, ..., end */
    int target;                         /* u */
    double gamma, guidance_scale_w;
} sp_subpath;
/* How many starts there are: M, or logit-normal T. */
int sp_subpath_count(const sp_objective_settings *settings, const sp_path *path);
/* index in 0..count-1. gamma is 1, tcd's u 0 and w the settings', for the caller to set. */
sp_subpath sp_subpath_at(const sp_objective_settings *settings, const sp_path *path,
                         int index);
/* The draw of (seed, step, sample). */
sp_subpath sp_subpath_draw(const sp_objective_settings *settings, const sp_path *path,
                           uint64_t seed, uint64_t step, uint64_t sample);

/* Every number that the step's graph needs for one sample: (name, meaning). The names are the
 * graph's inputs. Both the teacher and the student look at where the sub-path starts: */
#define SP_START_COEFFICIENT_LIST(X)                                                               \
    X(start_x0)       /* z_s = . x0 + */                                                           \
    X(start_noise)    /*       . noise */
#define SP_COEFFICIENT_LIST(X)                                                                     \
    X(target_start)   /* target = . z_s + */                                                       \
    X(target_end)     /*          . z_e + the average's part */                                    \
    X(position_start) /* z_g = gamma z_s + */                                                      \
    X(position_end)   /*       (1 - gamma) rho z_e; chord: rho = 1 */                                \
    X(student_scale)  /* the network sees . z_g: 1, or 1/r when gamma is told by time */           \
    X(student_timestep)                                                                            \
    X(prediction_z) /* p = . z_g + */                                                              \
    X(prediction_m) /*     . m */
/* Where the target asks the average: */
#define SP_AVERAGE_COEFFICIENT_LIST(X)                                                             \
    X(target_timestep) /* at e */                                                                  \
    X(target_m)        /* target += . m_average(z_e, e) */
/* Where losses are weighted: */
#define SP_WEIGHT_COEFFICIENT_LIST(X) X(loss_weight)
/* Once per DDIM step inside the sub-path: z' = solver_z z + solver_cond m_cond, and where the
 * teacher is guided + solver_uncond m_uncond. */
#define SP_SOLVER_COEFFICIENT_LIST(X) X(solver_timestep) X(solver_z) X(solver_cond)
#define SP_GUIDED_COEFFICIENT_LIST(X) X(solver_uncond)

typedef struct {
#define X(name) double name;
    SP_START_COEFFICIENT_LIST(X)
    SP_COEFFICIENT_LIST(X)
    SP_AVERAGE_COEFFICIENT_LIST(X)
    SP_WEIGHT_COEFFICIENT_LIST(X)
#undef X
#define X(name) double name[SP_MAX_SOLVER_STEPS];
    SP_SOLVER_COEFFICIENT_LIST(X)
    SP_GUIDED_COEFFICIENT_LIST(X)
#undef X
} sp_coefficients;
sp_coefficients sp_subpath_coefficients(const sp_objective_settings *settings,
                                        const sp_path *path, sp_subpath sub);

/* What loss_weight has still to be multiplied with: for inverse-length 1 over the mean of 1/(s - e) over all starts, as
 * often as they are drawn. */
double sp_loss_weight_scale(const sp_objective_settings *settings, const sp_path *path);

/* What a step runs: what trains the student; of dmd, in other steps, what trains the fake score; and ahead of the
 * student's part, without gradients, dmd's own steps (simulation), or the teacher's over the sub-path where it is
 * apart. */
typedef enum { SP_STEP_STUDENT, SP_STEP_FAKE_SCORE, SP_STEP_AHEAD, SP_STEP_PARTS } sp_step_part;

/* The student's part. Inputs, all of rate STEP: "x0", "noise" [B,C,H,W] f32; what the networks declare of the
 * conditioning, under its names, and with guidance once more as "negative.NAME", B rows each; one input [B] f32 for
 * every member of sp_coefficients that is in use, by its name ("start_x0", ...; "solver_z.0", ... once per solver
 * step), and for a student with cond_proj "online.timestep_cond", and where the target asks it "ema.timestep_cond"
 * [B,dim]. Weight sets: "teacher" (RUN), "online" (STEP) and, where the target asks it, "ema" (STEP). Outputs: "loss"
 * scalar; "prediction", "target" [B,C,H,W] if `trace`; and "gradient.NAME" for every online parameter.
 *
 * Where `teacher_apart`, z_e is an input, "z_end" [B,C,H,W] f32, and what only the teacher looks at is none: the part
 * ahead has that, the set "teacher" and the output "z_end". The bits are the same. */
typedef struct {
    int64_t batch, channels, height, width;
    const sp_conditioning *conditioning; /* a description; its rows do not matter */
    int64_t same_tokens; /* of its text, sp_block_options */
    const sp_component_config *teacher, *student;
    const sp_weights *teacher_weights; /* for their dtypes; NULL: F32 */
    const sp_lora_settings *lora; /* NULL: whole students. Else they are the teacher's weights, set
                                     "teacher", with the adapters of sets "online" and "ema" */
    bool trace;
    bool teacher_apart;
    bool accumulate;    /* gradients are added to the inputs of their names (sp_output_sum) */
    uint64_t recompute; /* blocks of the online network, see sp_block_options */
} sp_step_shape;
/* Whether the teacher runs without the prompt too; else there are no inputs "negative.NAME". */
bool sp_objective_is_guided(const sp_objective_settings *settings);
sp_status sp_objective_graph(const sp_objective_settings *settings, const sp_step_shape *shape, sp_graph **out);
/* The part ahead, where the teacher is apart. */
sp_status sp_objective_teacher_graph(const sp_objective_settings *settings, const sp_step_shape *shape,
                                     sp_graph **out);
/* Sets the coefficient inputs that the student looks at from `batch` samples' coefficients. */
sp_status sp_objective_set_coefficients(sp_run *run, const sp_objective_settings *settings,
                                        const sp_coefficients *samples, int64_t batch);
/* And those that the teacher looks at. */
sp_status sp_objective_set_solver(sp_run *run, const sp_objective_settings *settings, const sp_coefficients *samples,
                                  int64_t batch);

#endif
