/* What the demo distils with. Each method stands at its own best settings: the sub-path's length,
 * the draw of gamma and the learning rate were searched for both with the same care, at this number
 * of steps, on the teacher in assets/ (docs/performance.md has the search). */
#ifndef SP_API_DEMO_SETTINGS_H
#define SP_API_DEMO_SETTINGS_H
#include "train/distill.h"

typedef struct {
    const char *name, *title; /* the report's "model", the sheet's rows */
    const char *folder;       /* of the student, in the demo's output */
    const char *unet;         /* the weights that are shown: "unet" or their average, "unet_ema" */
    sp_objective objective;
    int skip, solver_steps;
    sp_sigma_form sigma;         /* splam, as gamma */
    sp_gamma_distribution gamma; /* told by the timestep */
    double learning_rate, ema_decay;
} sp_demo_method;

static const sp_demo_method sp_demo_methods[] = {
    {.name = "lcm",
     .title = "LCM",
     .folder = "lcm",
     .unet = "unet_ema",
     .objective = SP_OBJECTIVE_LCM,
     .skip = 150,
     .solver_steps = 1,
     .learning_rate = 1e-4,
     .ema_decay = 0.95},
    {.name = "splam",
     .title = "SPLAM",
     .folder = "student",
     .unet = "unet_ema",
     .objective = SP_OBJECTIVE_SPLAM,
     .skip = 150,
     .solver_steps = 1,
     .sigma = SP_SIGMA_QUADRATIC,
     .gamma = {.one_probability = 0.5, .power = 1},
     .learning_rate = 1e-4,
     .ema_decay = 0.95},
};
enum { SP_DEMO_METHODS = sizeof sp_demo_methods / sizeof *sp_demo_methods };

/* The same for both. */
enum { SP_DEMO_TRAIN_STEPS = 150, SP_DEMO_BATCH = 32, SP_DEMO_PROMPTS = 128 };
static const double sp_demo_guidance_w = 2;

/* The columns of the sheet: what is easy and what is not, then combinations that are held out. */
static const char *const sp_demo_prompts[] = {
    "red apple",
    "cat face",
    "pizza",
    "rocket",
    "smiling face with sunglasses",
    "woman office worker: medium skin tone",
    "man astronaut: medium-dark skin tone",
    "woman scientist: light skin tone",
    "woman police officer: medium skin tone",
    "santa claus: dark skin tone",
};
enum { SP_DEMO_SHEET_PROMPTS = sizeof sp_demo_prompts / sizeof *sp_demo_prompts };

#endif
