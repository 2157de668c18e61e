/* ode-error: how far a few steps end from where the whole probability-flow trajectory ends.
 *
 * The reference is the end point of the teacher's guided DDIM chain, 50 steps at 999, 979, ..., 19, the
 * last one to the clean latent, from the same noise and prompt. The error is the mean squared
 * difference per element of latents as the UNet sees them. A student that is sampled in several steps
 * is judged on its deterministic chain (sp_sampler_options.deterministic). */
#ifndef SP_EVAL_ODE_ERROR_H
#define SP_EVAL_ODE_ERROR_H
#include "pipeline/pipeline.h"

enum { SP_ODE_STEPS = 50 };

/* The model's scheduler with the grid of that chain: trailing timesteps, ending at abar = 1. */
sp_scheduler_config sp_ode_scheduler(const sp_scheduler_config *model);

typedef struct {
    const sp_conditioning *conditioning; /* of the prompts */
    const sp_conditioning *negative;     /* of "", one row; may be NULL if w is 0 */
    int64_t height, width;     /* of the latent */
    uint64_t seed;             /* sample i starts from the Philox noise of seed + i */
    double guidance_scale_w;   /* CFG scale - 1 */
    const char *cache;         /* folder where references are kept and looked for; NULL: nowhere */
    const char *task;          /* what progress is reported as; NULL: "denoising" */
} sp_ode_request;

/* *latents is new, [N,C,h,w]; *seconds (may be NULL) what computing them took, when it was done. A
 * cached file, ode-references-KEY.safetensors, is taken only if its key, a hash of the teacher's
 * weights, its schedule, precision, the prompts' conditioning, the seed and w, is the same; a damaged
 * one is computed again. SP_UNSUPPORTED for a model that is itself a student. */
sp_status sp_ode_references(sp_pipeline *teacher, const sp_ode_request *request,
                            const sp_callbacks *callbacks, sp_tensor *latents, double *seconds);

/* Mean squared difference per element; SP_SHAPE if the shapes differ. */
sp_status sp_ode_error(const sp_tensor *latents, const sp_tensor *references, double *out);

#endif
