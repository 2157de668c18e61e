/* The teacher's trajectories, and how far a model's map lies from them.
 *
 * A trajectory is the teacher's guided DDIM chain of 50 steps at 999, 979, ..., 19, the last one to the clean latent,
 * from one sample's noise and prompt; all of its points are kept. Between two neighbours the chain is one DDIM step,
 * z = alpha x0 + sigma eps with one x0 and one eps, which follow from the two points; so the chain has a latent of
 * every (alpha, sigma) on its way, not of its 50 timesteps alone:
 *
 *   z = p z_i + q z_j,   (alpha, sigma) = p (alpha_i, sigma_i) + q (alpha_j, sigma_j)
 *
 * A model is a map f(z, t -> u) by one evaluation (diffusion/map.h). Its trajectory error at t is
 *
 *   error(t) = mean over samples and elements of (f(z_t, t) - z_u)^2,
 *
 * z_t and z_u of the chain, in latents as the UNet sees them. A map that follows the trajectories has 0 everywhere. */
#ifndef SP_PIPELINE_TRAJECTORY_H
#define SP_PIPELINE_TRAJECTORY_H
#include "diffusion/map.h"
#include "pipeline/pipeline.h"

enum { SP_TRAJECTORY_STEPS = 50, SP_TRAJECTORY_POINTS = SP_TRAJECTORY_STEPS + 1 };

/* The model's scheduler with the grid of that chain: trailing timesteps, ending at abar = 1. */
sp_scheduler_config sp_trajectory_scheduler(const sp_scheduler_config *model);

/* ---- the teacher's trajectories ---- */

/* Of N samples. In memory, and in its file, it takes 51 times their latents in f32: of 512 x 512 pixels 3.2 MiB a
 * sample. */
typedef struct {
    sp_tensor points;                     /* [51,N,C,h,w] f32: the noise first, the clean end last */
    double timestep[SP_TRAJECTORY_STEPS]; /* of the points but the end */
    sp_pair pair[SP_TRAJECTORY_POINTS];   /* what they are made of; of the end (1, 0) */
    double seconds;                       /* what the chain took when it was computed */
} sp_trajectory;

typedef struct {
    const sp_conditioning *conditioning; /* of the prompts, N rows */
    const sp_conditioning *negative;     /* of "", one row; may be NULL if w is 0 */
    int64_t height, width;               /* of the latent */
    uint64_t seed;                       /* sample i starts from the Philox noise of seed + i */
    double guidance_scale_w;             /* CFG scale - 1 */
    const char *cache;                   /* folder where trajectories are kept and looked for; NULL: nowhere */
    const char *task;                    /* what progress is reported as; NULL: "denoising" */
} sp_trajectory_request;

/* *out is new (sp_trajectory_free). A cached file, trajectories-KEY.safetensors, is taken only if its key, a hash of
 * the teacher's weights, its schedule, precision, the prompts' conditioning, the seed and w, is the same; a damaged one
 * is computed again. SP_UNSUPPORTED for a model that is itself a student, and for a schedule of timesteps that 50 does
 * not divide; SP_MEMORY, saying how much was needed. */
sp_status sp_trajectory_create(sp_pipeline *teacher, const sp_trajectory_request *request,
                               const sp_callbacks *callbacks, sp_trajectory *out);
void sp_trajectory_free(sp_trajectory *trajectory); /* zeroed is legal */

/* Timesteps and pairs of the points, as of that scheduler; the points stay. Refuses as sp_trajectory_create. */
sp_status sp_trajectory_grid(const sp_scheduler_config *model, sp_trajectory *out);

/* Where the chain ends, [N,C,h,w]: a view that lives as long as the trajectory. */
sp_tensor sp_trajectory_end(const sp_trajectory *trajectory);
/* Writes the chain's latents of a pair to *out, which is [N,C,h,w] f32; before the chain begins and after it ends its
 * first and last step go on. Coefficients are in double precision. */
void sp_trajectory_at(const sp_trajectory *trajectory, sp_pair pair, sp_tensor *out);

/* ---- errors ---- */

/* A map at work: *out new [N,C,h,w] f32, f(z) of z [N,C,h,w]. */
typedef struct {
    const sp_scheduler_config *scheduler; /* of the model that it is, which says where it leads */
    sp_status (*apply)(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks, sp_tensor *out);
    void *context;
} sp_applied_map;

/* error[i] at timestep t[i], for i in 0..count-1, in any order; t real. Reports one unit per timestep as `task` (NULL:
 * "trajectory error"). Takes three times the samples' latents beside the trajectory. SP_UNSUPPORTED at a timestep with
 * more noise than the chain begins with, SP_SHAPE if the map makes other latents, SP_NUMERIC if an error is not finite,
 * SP_CANCELLED. */
sp_status sp_trajectory_error(const sp_trajectory *trajectory, const sp_applied_map *map, const double *t, int count,
                              const char *task, const sp_callbacks *callbacks, double *error);

/* The same of a pipeline's network as it is now (sp_pipeline_set_denoiser: a student in training), whose samples are
 * the trajectory's, in batches as of sp_pipeline_denoise; every call packs and keeps as that one does. The same numbers
 * for any thread count. */
typedef struct {
    const sp_scheduler_config *scheduler; /* of the map; NULL: the model's own */
    double guidance;                      /* CFG scale, 1 of students */
    const sp_conditioning *conditioning;  /* of the N samples */
    const sp_conditioning *negative;      /* as in sp_denoise_request */
    int64_t batch;                        /* at most so many samples at once; 0: by size */
    const char *task;                     /* as above */
} sp_trajectory_error_request;
sp_status sp_pipeline_trajectory_error(sp_pipeline *pipeline, const sp_trajectory *trajectory,
                                       const sp_trajectory_error_request *request, const double *t, int count,
                                       const sp_callbacks *callbacks, double *error);

/* error[i] at timestep[i] of the teacher that made the trajectory, at its guidance, without an evaluation: the x0 of
 * its steps follows from the points. */
void sp_trajectory_own_error(const sp_trajectory *trajectory, double error[SP_TRAJECTORY_STEPS]);

#endif
