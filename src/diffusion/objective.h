/* Distillation objectives. One training step is one graph: form z_s, let the teacher solve the
 * sub-path, form the student's input and target, compare. All that differs between objectives,
 * sigma forms, parameterisations and gamma conditionings is the numbers in front of the tensors,
 * which sp_subpath_coefficients works out in double precision.
 *
 * Symbols are those of the paper: s start, e end of the sub-path, gamma the position on it, rho =
 * alpha_s/alpha_e. */
#ifndef SP_DIFFUSION_OBJECTIVE_H
#define SP_DIFFUSION_OBJECTIVE_H
#include <stdbool.h>
#include <stdint.h>
#include "diffusion/schedule.h"
#include "graph/plan.h"
#include "models/guidance.h"
#include "models/lora.h"
#include "ops/ops.h"

#define SP_OBJECTIVE_LIST(X) X(OBJECTIVE_SPLAM, "splam") X(OBJECTIVE_LCM, "lcm")
#define SP_SIGMA_LIST(X) X(SIGMA_QUADRATIC, "quadratic") X(SIGMA_LINEAR, "linear")
#define SP_GAMMA_CONDITIONING_LIST(X) X(GAMMA_EMBEDDING, "embedding") X(GAMMA_TIME, "time")
#define X(name, text) SP_##name,
typedef enum { SP_OBJECTIVE_LIST(X) SP_OBJECTIVE_COUNT } sp_objective;
typedef enum { SP_SIGMA_LIST(X) SP_SIGMA_COUNT } sp_sigma_form;
typedef enum { SP_GAMMA_CONDITIONING_LIST(X) SP_GAMMA_CONDITIONING_COUNT } sp_gamma_conditioning;
#undef X
const char *sp_objective_name(sp_objective objective);
const char *sp_sigma_name(sp_sigma_form sigma);
const char *sp_gamma_conditioning_name(sp_gamma_conditioning conditioning);
/* SP_ARGUMENT, naming the choices, for any other text. */
sp_status sp_objective_of(const char *name, sp_objective *out);
sp_status sp_sigma_of(const char *name, sp_sigma_form *out);
sp_status sp_gamma_conditioning_of(const char *name, sp_gamma_conditioning *out);

enum { SP_MAX_SOLVER_STEPS = 16 };

/* What fixes the mathematics of a run. */
typedef struct {
    sp_objective objective;
    sp_sigma_form sigma;
    sp_gamma_conditioning conditioning;
    double gamma_one_probability; /* draws gamma = 1 this often; lcm: always */
    double gamma_power; /* gamma = uniform^power: below 1 moves the draws towards 1 (1: uniform) */
    double guidance_w;  /* out = cond + w (cond - uncond) */
    int ddim_timesteps; /* M: starts are s = k(i+1)-1, k = T/M, i = 0..M-1 */
    int skip;           /* K: e = max(s - K, 0) */
    int solver_steps;   /* n DDIM steps inside the sub-path, at s - round(j K/n) */
    sp_loss_options loss;
} sp_objective_settings;

/* One sample's sub-path. */
typedef struct {
    int start, end;
    double gamma;
} sp_subpath;
/* index in 0..M-1. */
sp_subpath sp_subpath_at(const sp_objective_settings *settings, const sp_noise_schedule *schedule,
                         int index, double gamma);
/* The draw of (seed, step, sample). */
void sp_subpath_draw(const sp_objective_settings *settings, uint64_t seed, uint64_t step,
                     uint64_t sample, int64_t *index, double *gamma);

/* Every number that the step's graph needs for one sample: (name, meaning). The names are the
 * graph's inputs. */
#define SP_COEFFICIENT_LIST(X)                                                                     \
    X(start_clean)     /* z_s = . clean + */                                                       \
    X(start_noise)     /*       . noise */                                                         \
    X(target_timestep) /* the EMA network is asked at e */                                         \
    X(target_z)        /* f = . z_e + */                                                           \
    X(target_m)        /*     . m_ema(z_e, e) */                                                   \
    X(position_start)  /* z_g = gamma z_s + */                                                     \
    X(position_end)    /*       (1 - gamma) rho z_e */                                             \
    X(student_scale)   /* the network sees . z_g: 1, or 1/r when gamma is told by time */          \
    X(student_timestep)                                                                            \
    X(prediction_z) /* p = . z_g + */                                                              \
    X(prediction_m) /*     . m */
/* Once per DDIM step inside the sub-path: z' = solver_z z + solver_cond m_cond + solver_uncond
 * m_uncond. */
#define SP_SOLVER_COEFFICIENT_LIST(X) X(solver_timestep) X(solver_z) X(solver_cond) X(solver_uncond)

typedef struct {
#define X(name) double name;
    SP_COEFFICIENT_LIST(X)
#undef X
#define X(name) double name[SP_MAX_SOLVER_STEPS];
    SP_SOLVER_COEFFICIENT_LIST(X)
#undef X
} sp_coefficients;
sp_coefficients sp_subpath_coefficients(const sp_objective_settings *settings,
                                        const sp_noise_schedule *schedule, sp_subpath path);

/* The step's graph. Inputs, all of rate STEP: "clean", "noise" [B,C,H,W] f32; "context" [B,L,D],
 * "uncond" [B,L,D] f32; one input [B] f32 for every member of sp_coefficients, by its name
 * ("start_clean", ...; "solver_z.0", ... once per solver step,
 * "solver_uncond" and "uncond" only where the step is guided), and for a student with cond_proj
 * "gamma_embedding", "gamma_one_embedding" [B,dim]. Weight sets: "teacher" (RUN), "ema" and
 * "online" (STEP). Outputs: "loss" scalar; "prediction", "target" [B,C,H,W] if `trace`; and
 * "gradient.NAME" for every online parameter. */
typedef struct {
    int64_t batch, channels, height, width, context_length, context_dim;
    const sp_unet_config *teacher, *student;
    const sp_weights *teacher_weights; /* for their dtypes; NULL: F32 */
    const sp_lora_settings *lora; /* NULL: whole students. Else they are the teacher's weights, set
                                     "teacher", with the adapters of sets "online" and "ema" */
    bool trace;
    bool accumulate;    /* gradients are added to the inputs of their names (sp_output_sum) */
    uint64_t recompute; /* blocks of the online network, see sp_unet_options */
} sp_step_shape;
/* Whether the teacher runs without the prompt too; else "uncond" is no input. */
bool sp_objective_is_guided(const sp_objective_settings *settings);
sp_status sp_objective_graph(const sp_objective_settings *settings, const sp_step_shape *shape,
                             sp_graph **out);
/* Sets every coefficient input of a run from `batch` samples' coefficients. */
sp_status sp_objective_set_coefficients(sp_run *run, const sp_objective_settings *settings,
                                        const sp_coefficients *samples, int64_t batch);

#endif
