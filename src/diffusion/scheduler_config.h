/* scheduler/scheduler_config.json of a diffusers model: the noise schedule it was trained with, and
 * what samplers take from it when diffusers makes them with from_config. */
#ifndef SP_DIFFUSION_SCHEDULER_CONFIG_H
#define SP_DIFFUSION_SCHEDULER_CONFIG_H
#include <stdbool.h>
#include "base/json.h"
#include "diffusion/path.h"
#include "diffusion/sampler_kind.h"
#include "checkpoints/model_folder.h"

/* How timesteps are spread. OWN: the file does not say, so each sampler has its own. */
typedef enum {
    SP_SPACING_OWN,
    SP_SPACING_LEADING,
    SP_SPACING_LINSPACE,
    SP_SPACING_TRAILING
} sp_timestep_spacing;

/* How sigmas are spread. OWN: as somebody else says. */
typedef enum { SP_SIGMAS_OWN, SP_SIGMAS_NORMAL, SP_SIGMAS_KARRAS, SP_SIGMAS_EXPONENTIAL } sp_sigmas;

/* Models made for few steps, in which guidance is distilled: by their scheduler's class
 * LCMScheduler or TCDScheduler; a DDIMScheduler with the key "_distilled_steps", which diffusers
 * passes over, is one that steps with DDIM along its phases or its grid (pcm, progressive). An LCMScheduler may have
 * the key too (dmd). Of flow models FlowMatchLCMScheduler is the former, any FlowMatch class with the key the latter,
 * and "_student": "tcd" in one is what TCDScheduler is. */
typedef enum { SP_STUDENT_NONE, SP_STUDENT_LCM, SP_STUDENT_TCD, SP_STUDENT_DDIM } sp_student_kind;

/* A key that asks for what is not done here, or by some samplers alone. Samplers that would heed it and
 * cannot refuse the file, the others pass it over as diffusers' classes pass over what they do not
 * have. */
typedef struct {
    char key[48], value[48]; /* as in the file, shortened; the value as JSON */
    unsigned heeded_by, done_by; /* SP_SAMPLER_BIT; those that cannot, those that do as it says */
    bool of_sigmas, of_spacing; /* nothing to those who are told other ones */
} sp_scheduler_demand;
enum { SP_MOST_DEMANDS = 24, SP_MOST_ORDERS = 3 };

typedef struct {
    char where[256]; /* the file, for messages; of a longer path the end */
    sp_path path;
    sp_student_kind student;
    sp_sampler_kind sampler; /* what the class samples with, see sp_sampler_choose; a student's own */
    char foreign[48];        /* a class that no sampler here is; "": there is one, or nobody says */
    int distilled_steps; /* how many steps the student was made for; 0: nobody says */
    sp_timestep_spacing spacing;
    int steps_offset;       /* added to leading timesteps */
    bool alpha_to_one;      /* DDIM ends at abar = 1, else at abar[0] */
    int original_steps;     /* M: the grid of lcm and tcd is taken from M equidistant timesteps */
    sp_sigmas sigmas;       /* NORMAL: those of the timesteps */
    bool final_sigma_min;   /* DPM-Solver++, UniPC and Euler end at the sigma of timestep 0, not at 0 */
    int solver_order;       /* of DPM-Solver++ and UniPC, 1 to SP_MOST_ORDERS */
    bool sde;               /* the file asks for DPM-Solver++ of the stochastic equation */
    bool solver_heun;       /* DPM-Solver++ of order 2: Heun's form, not the midpoint's */
    bool solver_bh1;        /* UniPC: B(h) = h, not e^h - 1 */
    bool lower_order_final; /* DPM-Solver++: the last of fewer than 15 steps is first order; UniPC: the last
                               steps are of lower order whatever their number */
    bool euler_at_final;    /* DPM-Solver++: the last step is first order */
    int demands;
    sp_scheduler_demand demand[SP_MOST_DEMANDS];
} sp_scheduler_config;

/* Any scheduler class of diffusers; keys that it does not have take the default of the class
 * converted to, but clip_sample, which latent models never have, is false. SP_IO, SP_FORMAT;
 * SP_UNSUPPORTED naming the key and its value for what would change the noise schedule or the
 * prediction and is not done here (trained_betas, classes of flow models, EDM, ...).
 * What matters to some samplers alone (thresholding, clip_sample, beta sigmas, ...) and what nobody knows is kept in
 * `demand`: an unknown key belongs to the class that the file names, and where it names none to every sampler. Python's
 * bare Infinity is read as null. */
sp_status sp_scheduler_config_load(const char *path, sp_scheduler_config *out);
/* That of a model, by sp_model_folder_scheduler. *json (may be NULL) receives it as it stands there
 * (json_decref). */
sp_status sp_scheduler_config_of(const sp_model_folder *model, json_t **json,
                                 sp_scheduler_config *out);
/* `where` names the file in messages. */
sp_status sp_scheduler_config_read(const json_t *config, const char *where,
                                   sp_scheduler_config *out);

#endif
